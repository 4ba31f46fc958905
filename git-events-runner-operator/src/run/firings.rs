//! Up to when all firings of schedules are evaluated: what the next leader takes over from this one.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use git_events_runner_core::TriggerId;
use jiff::{SignedDuration, Timestamp};

/// The first instant of each trigger that is not evaluated.
#[derive(Default)]
pub struct Firings(Mutex<Content>);

#[derive(Default)]
struct Content {
    are_all_known: bool,
    /// None: nothing is left to evaluate.
    unhandled: BTreeMap<TriggerId, Option<Timestamp>>,
}

impl Firings {
    /// Forgets everything: a new leader begins.
    pub fn clear(&self) {
        *self.lock() = Content::default();
    }

    /// Says that a trigger is there, and up to when it was handled.
    pub fn add(&self, id: &TriggerId, handled: Timestamp) {
        self.lock().unhandled.entry(id.clone()).or_insert(Some(handled));
    }

    /// Says that all triggers that there are were added.
    pub fn all_are_added(&self) {
        self.lock().are_all_known = true;
    }

    /// Says that a trigger was evaluated, and when it is to be evaluated again.
    pub fn evaluated(&self, id: &TriggerId, next: Option<Timestamp>) {
        self.lock().unhandled.insert(id.clone(), next);
    }

    /// Forgets triggers that are gone.
    pub fn retain(&self, is_there: impl Fn(&TriggerId) -> bool) {
        self.lock().unhandled.retain(|id, _| is_there(id));
    }

    /// The latest instant up to which nothing is left to evaluate; None as long as that is not known.
    pub fn handled(&self, now: Timestamp) -> Option<Timestamp> {
        let content = self.lock();
        let first = content.unhandled.values().flatten().min().map(|first| *first - SignedDuration::from_nanos(1));
        content.are_all_known.then(|| first.map_or(now, |first| first.min(now)))
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn handled(firings: &Firings, second: i64) -> Timestamp {
        firings.handled(at(second)).unwrap()
    }

    #[test]
    fn nothing_is_handled_before_all_triggers_are_known() {
        let firings = Firings::default();
        firings.add(&id("a"), at(5));
        assert_eq!(firings.handled(at(9)), None);
        firings.all_are_added();
        assert!(handled(&firings, 9) < at(5), "`a` is not evaluated");
        firings.evaluated(&id("a"), Some(at(20)));
        assert_eq!(handled(&firings, 9), at(9));
        firings.clear();
        assert_eq!(firings.handled(at(9)), None);
    }

    #[test]
    fn what_was_due_and_is_not_evaluated_is_not_handled() {
        let firings = Firings::default();
        firings.all_are_added();
        firings.evaluated(&id("a"), Some(at(10)));
        firings.evaluated(&id("b"), Some(at(12)));
        assert!(handled(&firings, 15) < at(10));
        firings.evaluated(&id("a"), None);
        assert!(handled(&firings, 15) >= at(11) && handled(&firings, 15) < at(12));
        for known in ["a", "b"] {
            firings.add(&id(known), at(1));
        }
        assert!(handled(&firings, 15) >= at(11), "what is known is not added again");
        firings.retain(|id| id.name != "b");
        assert_eq!(handled(&firings, 15), at(15));
    }
}
