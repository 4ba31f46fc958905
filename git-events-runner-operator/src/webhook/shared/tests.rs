use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::future::join_all;
use git_events_runner_core::{InMemoryStore, MAX_PENDING, PendingRequest, StateError};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::*;

/// A store each write of which waits to be let through, and can be made to fail.
#[derive(Default)]
struct Slow {
    store: InMemoryStore,
    let_through: Option<Semaphore>,
    batches: Mutex<Vec<usize>>,
    failing: AtomicUsize,
}

#[async_trait]
impl Inbox for Slow {
    async fn request_all(&self, id: &TriggerId, requests: &[FireRequest]) -> Result<Vec<Result<Accepted, PendingFull>>, StateError> {
        self.batches.lock().unwrap().push(requests.len());
        if let Some(let_through) = &self.let_through {
            let_through.acquire().await.unwrap().forget();
        }
        if self.failing.load(Ordering::Relaxed) > 0 {
            return Err(StateError::Conflict);
        }
        self.store.request_all(id, requests).await
    }
}

fn id(name: &str) -> TriggerId {
    TriggerId { kind: "WebhookTrigger".into(), namespace: "default".into(), name: name.into(), uid: "1".into() }
}

fn request(number: usize) -> FireRequest {
    let request = PendingRequest { sources: ["app".into()].into(), received_at: Timestamp::UNIX_EPOCH, commit: None, always: true };
    FireRequest { id: number.to_string().parse().unwrap(), request }
}

fn slow() -> (Arc<Slow>, Arc<SharedInbox>) {
    let slow = Arc::new(Slow { let_through: Some(Semaphore::new(0)), ..Slow::default() });
    slow.store.add(&id("a"), 1);
    slow.store.add(&id("b"), 1);
    (Arc::clone(&slow), SharedInbox::new(Arc::clone(&slow) as Arc<dyn Inbox>))
}

/// Has all tasks go on as far as they can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn send(inbox: &Arc<SharedInbox>, name: &'static str, number: usize) -> tokio::task::JoinHandle<Result<Accepted, Unrecorded>> {
    let inbox = Arc::clone(inbox);
    tokio::spawn(async move { inbox.request(&id(name), request(number)).await })
}

#[tokio::test]
async fn what_comes_during_a_write_is_in_the_next_one_and_triggers_do_not_wait_for_each_other() {
    let (slow, inbox) = slow();
    let first = send(&inbox, "a", 0);
    let other = send(&inbox, "b", 0);
    settle().await;
    let sent: Vec<_> = (1..50).map(|number| send(&inbox, "a", number)).collect();
    settle().await;
    assert_eq!(*slow.batches.lock().unwrap(), [1, 1], "one for each trigger");
    slow.let_through.as_ref().unwrap().add_permits(3);
    assert!(join_all(sent).await.into_iter().all(|answer| answer.unwrap() == Ok(Accepted::Recorded)));
    assert_eq!((first.await.unwrap(), other.await.unwrap()), (Ok(Accepted::Recorded), Ok(Accepted::Recorded)));
    assert_eq!(*slow.batches.lock().unwrap(), [1, 1, 49]);
    assert_eq!(slow.store.state(&id("a")).unwrap().pending.len(), 50);
    settle().await;
    assert!(inbox.waiting().is_empty(), "nothing is kept of triggers that nothing waits for");
}

#[tokio::test]
async fn who_hangs_up_takes_nobody_along() {
    let (slow, inbox) = slow();
    let first = send(&inbox, "a", 0);
    settle().await;
    let second = send(&inbox, "a", 1);
    settle().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    slow.let_through.as_ref().unwrap().add_permits(2);
    assert_eq!(second.await.unwrap(), Ok(Accepted::Recorded));
    assert_eq!(slow.store.state(&id("a")).unwrap().pending.len(), 2, "what was begun is written all the same");
}

#[tokio::test]
async fn those_who_hang_up_make_way_for_others_and_no_more_wait_than_may() {
    let (slow, inbox) = slow();
    let first = send(&inbox, "a", 0);
    settle().await;
    for number in 1..=2 * MAX_WAITING {
        let sent = send(&inbox, "a", number);
        tokio::task::yield_now().await;
        sent.abort();
        tokio::task::yield_now().await;
    }
    assert!(inbox.waiting()[&id("a")].len() <= MAX_WAITING);
    let waiting: Vec<_> = (0..MAX_WAITING).map(|number| send(&inbox, "a", 10_000 + number)).collect();
    settle().await;
    assert_eq!(send(&inbox, "a", 1).await.unwrap(), Err(Unrecorded::Full));
    slow.let_through.as_ref().unwrap().add_permits(2);
    assert_eq!(first.await.unwrap(), Ok(Accepted::Recorded));
    assert!(join_all(waiting).await.into_iter().any(|answer| answer.unwrap() == Ok(Accepted::Recorded)));
}

#[tokio::test]
async fn each_is_told_what_became_of_it() {
    let (slow, inbox) = slow();
    let first = send(&inbox, "a", 0);
    settle().await;
    let again = send(&inbox, "a", 0);
    let others: Vec<_> = (1..MAX_PENDING + 5).map(|number| send(&inbox, "a", number)).collect();
    settle().await;
    slow.let_through.as_ref().unwrap().add_permits(2);
    assert_eq!(first.await.unwrap(), Ok(Accepted::Recorded));
    assert_eq!(again.await.unwrap(), Ok(Accepted::AlreadyPending));
    let others: Vec<_> = join_all(others).await.into_iter().map(Result::unwrap).collect();
    assert!(others[..MAX_PENDING - 1].iter().all(|answer| *answer == Ok(Accepted::Recorded)));
    assert!(others[MAX_PENDING - 1..].iter().all(|answer| *answer == Err(Unrecorded::Full)));

    slow.failing.store(1, Ordering::Relaxed);
    let failed = [send(&inbox, "b", 0), send(&inbox, "b", 1)];
    slow.let_through.as_ref().unwrap().add_permits(2);
    for failed in failed {
        assert_eq!(failed.await.unwrap(), Err(Unrecorded::Failed));
    }
    slow.failing.store(0, Ordering::Relaxed);
    slow.let_through.as_ref().unwrap().add_permits(1);
    assert_eq!(send(&inbox, "b", 0).await.unwrap(), Ok(Accepted::Recorded), "the next one is tried anew");
}
