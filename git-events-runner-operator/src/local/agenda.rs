//! When which trigger is to be evaluated next.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use git_events_runner_core::TriggerId;
use jiff::Timestamp;
use tokio::sync::Notify;

/// The triggers in the order in which they are due. Clones share it.
#[derive(Clone, Default)]
pub struct Agenda {
    content: Arc<Mutex<Content>>,
}

#[derive(Default)]
struct Content {
    wake: BTreeMap<TriggerId, Arc<Notify>>,
    in_order: BTreeSet<(Timestamp, TriggerId)>,
    at: BTreeMap<TriggerId, Timestamp>,
    /// Due, and not yet evaluated since.
    in_hand: BTreeMap<TriggerId, Timestamp>,
    /// When it was looked for what is due.
    looked: Option<Timestamp>,
}

impl Agenda {
    /// Adds a trigger, which is due at `at`; what is answered is notified whenever it is.
    pub fn add(&self, id: &TriggerId, at: Timestamp) -> Arc<Notify> {
        let mut content = self.lock();
        let wake = Arc::new(Notify::new());
        content.wake.insert(id.clone(), Arc::clone(&wake));
        content.put(id, Some(at));
        wake
    }

    /// Says that a trigger was evaluated as of an instant, and when it is due again.
    pub fn evaluated(&self, id: &TriggerId, at: Timestamp, next: Option<Timestamp>) {
        let mut content = self.lock();
        if content.in_hand.get(id).is_some_and(|due| *due <= at) {
            content.in_hand.remove(id);
        }
        content.put(id, next);
    }

    /// Says that a trigger could not be evaluated, and when to try again. What was due is not handled.
    pub fn postponed(&self, id: &TriggerId, again: Timestamp) {
        self.lock().put(id, Some(again));
    }

    /// Has a trigger evaluated at once.
    pub fn wake(&self, id: &TriggerId) {
        if let Some(wake) = self.lock().wake.get(id) {
            wake.notify_one();
        }
    }

    /// Has everything evaluated that is due; and if the clock was put back, everything, which then says anew when it is due.
    pub fn wake_due(&self, now: Timestamp) {
        let mut content = self.lock();
        if content.looked.replace(now).is_some_and(|before| now < before) {
            content.wake.values().for_each(|wake| wake.notify_one());
        }
        while let Some((at, id)) = content.in_order.first().filter(|(at, _)| *at <= now).cloned() {
            content.put(&id, None);
            // An attempt may have failed since the first time: that one counts.
            content.in_hand.entry(id.clone()).or_insert(at);
            if let Some(wake) = content.wake.get(&id) {
                wake.notify_one();
            }
        }
    }

    /// True when something is due.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.lock().in_order.first().is_some_and(|(at, _)| *at <= now)
    }

    /// The latest instant before which nothing was due that is not evaluated.
    pub fn handled(&self, now: Timestamp) -> Timestamp {
        let content = self.lock();
        let due = content.in_order.first().map(|(at, _)| *at);
        content.in_hand.values().copied().chain(due).map(|at| at - jiff::SignedDuration::from_nanos(1)).chain([now]).min().unwrap_or(now)
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn put(&mut self, id: &TriggerId, at: Option<Timestamp>) {
        if let Some(before) = self.at.remove(id) {
            self.in_order.remove(&(before, id.clone()));
        }
        if let Some(at) = at {
            self.at.insert(id.clone(), at);
            self.in_order.insert((at, id.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> TriggerId {
        TriggerId { kind: "ScheduleTrigger".into(), namespace: "default".into(), name: name.into(), uid: name.into() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    async fn is_woken(wake: &Notify) -> bool {
        tokio::time::timeout(std::time::Duration::ZERO, wake.notified()).await.is_ok()
    }

    #[tokio::test]
    async fn what_is_due_is_woken_once() {
        let agenda = Agenda::default();
        let (a, b) = (agenda.add(&id("a"), at(1)), agenda.add(&id("b"), at(3)));
        assert!(!agenda.is_due(at(0)) && agenda.is_due(at(1)));
        agenda.wake_due(at(2));
        assert!(is_woken(&a).await && !is_woken(&b).await);
        assert!(!agenda.is_due(at(2)));
        agenda.wake_due(at(2));
        assert!(!is_woken(&a).await);
        agenda.evaluated(&id("a"), at(2), Some(at(2)));
        agenda.wake_due(at(3));
        assert!(is_woken(&a).await && is_woken(&b).await);
    }

    #[test]
    fn what_was_due_and_is_not_evaluated_is_not_handled() {
        let agenda = Agenda::default();
        agenda.add(&id("a"), at(5));
        agenda.add(&id("b"), at(9));
        assert_eq!(agenda.handled(at(4)), at(4));
        assert!(agenda.handled(at(6)) < at(5));
        agenda.wake_due(at(6));
        assert!(agenda.handled(at(7)) < at(5));
        agenda.postponed(&id("a"), at(8));
        assert!(agenda.handled(at(7)) < at(5), "an attempt that failed handles nothing");
        agenda.evaluated(&id("a"), at(4), None);
        assert!(agenda.handled(at(7)) < at(5), "what was evaluated before it was due is not handled");
        agenda.evaluated(&id("a"), at(7), None);
        assert_eq!(agenda.handled(at(7)), at(7));
    }

    #[tokio::test]
    async fn everything_is_woken_when_the_clock_is_put_back() {
        let agenda = Agenda::default();
        let wake = agenda.add(&id("a"), at(7210));
        agenda.wake_due(at(7200));
        assert!(!is_woken(&wake).await);
        agenda.wake_due(at(0));
        assert!(is_woken(&wake).await);
        agenda.evaluated(&id("a"), at(0), Some(at(10)));
        assert!(agenda.is_due(at(10)));
    }

    #[tokio::test]
    async fn a_trigger_is_woken_before_it_is_due() {
        let agenda = Agenda::default();
        let wake = agenda.add(&id("a"), at(100));
        agenda.wake(&id("a"));
        assert!(is_woken(&wake).await);
    }
}
