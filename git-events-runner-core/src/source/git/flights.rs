//! Checks that are asked for at the same time are one: triggers on the same ref of the same repository share its answer.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};

use super::client::lock;

type Answer<T> = Shared<BoxFuture<'static, T>>;

/// What is in flight, by what tells one check from another.
///
/// Nobody gets an answer to a question that was asked before they came: what they heard of may have happened since. So those who come while a
/// check is in flight share the next one, which begins when that has ended.
pub(super) struct Flights<K, T>(Mutex<HashMap<K, Flight<T>>>);

struct Flight<T> {
    answer: WeakShared<BoxFuture<'static, T>>,
    begun: Arc<AtomicBool>,
}

/// What a check does before it asks: it waits, and then says that from now on nobody can join it.
pub(super) struct Departure<T> {
    earlier: Option<Answer<T>>,
    begun: Arc<AtomicBool>,
}

impl<T: Clone + Send + Sync> Departure<T> {
    /// Waits until no other check of the same is in flight.
    pub(super) async fn is_next(&mut self) {
        if let Some(earlier) = &self.earlier {
            earlier.clone().await;
        }
        self.earlier = None;
    }

    /// Whoever comes now is too late for this one.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
    }
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash + Send, T: Clone + Send + Sync> Flights<K, T> {
    /// The answer of a check that has not begun yet: of one that others wait for already, or else of this one.
    ///
    /// It goes on as long as one of those who share it waits for it.
    pub(super) async fn join<F: Future<Output = T> + Send + 'static>(&self, key: K, check: impl FnOnce(Departure<T>) -> F) -> T {
        let answer = {
            let mut flights = lock(&self.0);
            let latest = flights.get(&key).and_then(|flight| Some((flight.answer.upgrade()?, &flight.begun)));
            match latest {
                Some((answer, begun)) if !begun.load(Ordering::SeqCst) => answer,
                latest => {
                    let begun = Arc::default();
                    let departure = Departure { earlier: latest.map(|(answer, _)| answer), begun: Arc::clone(&begun) };
                    let answer = check(departure).boxed().shared();
                    flights.insert(key.clone(), Flight { answer: answer.downgrade().expect("it has not been polled"), begun });
                    answer
                }
            }
        };
        let _leave = Leave { flights: self, key };
        answer.await
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }
}

/// Forgets a flight that nobody waits for any more, however that came.
struct Leave<'a, K: Eq + Hash, T: Clone> {
    flights: &'a Flights<K, T>,
    key: K,
}

impl<K: Eq + Hash, T: Clone> Drop for Leave<'_, K, T> {
    fn drop(&mut self) {
        let mut flights = lock(&self.flights.0);
        // The answer of the one who leaves was dropped before.
        if flights.get(&self.key).is_some_and(|flight| flight.answer.upgrade().is_none()) {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    /// A server of which each answer is let go by the test.
    #[derive(Default)]
    struct Server {
        asked: AtomicUsize,
        told: AtomicUsize,
        answer: Notify,
    }

    async fn ask(flights: &Flights<&'static str, usize>, server: &Arc<Server>) -> usize {
        let server = Arc::clone(server);
        let check = |mut departure: Departure<usize>| async move {
            departure.is_next().await;
            departure.begin();
            let number = server.asked.fetch_add(1, Ordering::SeqCst) + 1;
            server.answer.notified().await;
            server.told.fetch_add(1, Ordering::SeqCst);
            number
        };
        flights.join("key", check).await
    }

    #[tokio::test]
    async fn those_who_come_during_a_check_share_the_next_one() {
        let (flights, server) = (Flights::default(), Arc::new(Server::default()));
        let mut first = std::pin::pin!(ask(&flights, &server));
        assert!(first.as_mut().now_or_never().is_none());
        let mut late = std::pin::pin!(join_all((0..10).map(|_| ask(&flights, &server))));
        assert!(late.as_mut().now_or_never().is_none());
        assert_eq!(server.asked.load(Ordering::SeqCst), 1, "one at a time");

        server.answer.notify_one();
        assert_eq!(first.await, 1);
        server.answer.notify_one();
        assert_eq!(late.await, [2; 10], "none of them is told what was asked before they came");
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn a_check_goes_on_when_the_one_who_began_it_leaves() {
        let (flights, server) = (Flights::default(), Arc::new(Server::default()));
        let mut first = Box::pin(ask(&flights, &server));
        assert!(first.as_mut().now_or_never().is_none());
        let mut second = Box::pin(ask(&flights, &server));
        let mut third = Box::pin(ask(&flights, &server));
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        drop(first);
        drop(second);
        server.answer.notify_one();
        server.answer.notify_one();
        assert_eq!(third.await, 2);
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_check_that_all_have_left() {
        let (flights, server) = (Flights::default(), Arc::new(Server::default()));
        let mut only = Box::pin(ask(&flights, &server));
        assert!(only.as_mut().now_or_never().is_none());
        drop(only);
        assert!(flights.is_empty());
        server.answer.notify_one();
        assert_eq!(ask(&flights, &server).await, 2, "the one that was left is not waited for");
    }
}
