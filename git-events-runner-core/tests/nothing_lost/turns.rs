//! Ports that give way before and after each call, so that a test decides who goes on and where a crash falls.

#![expect(clippy::unwrap_used, reason = "this is a test")]

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use git_events_runner_core::*;

pub type Task<T> = Pin<Box<dyn Future<Output = T>>>;

/// Lets a task make one more call.
pub fn go_on<T>(task: &mut Task<T>) -> Poll<T> {
    task.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Lets a task end.
pub fn finish<T>(mut task: Task<T>) -> T {
    loop {
        if let Poll::Ready(done) = go_on(&mut task) {
            return done;
        }
    }
}

async fn give_way() {
    let mut given = false;
    poll_fn(|context| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn in_turns<T>(call: impl Future<Output = T>) -> T {
    give_way().await;
    let answer = call.await;
    give_way().await;
    answer
}

/// A port of which every call takes turns.
#[derive(Clone)]
pub struct InTurns<T>(pub T);

/// A store that is watched: what listeners add is seen late, what evaluators record at once.
#[derive(Clone)]
pub struct Watched {
    pub store: InMemoryStore,
    seen: Arc<Mutex<Option<Loaded>>>,
    /// The version of what was recorded last.
    recorded: Arc<AtomicU64>,
}

impl Watched {
    pub fn new(store: InMemoryStore) -> Self {
        Self { store, seen: Arc::default(), recorded: Arc::default() }
    }

    /// The watch sees all that was written.
    pub fn see(&self, id: &TriggerId) {
        *self.seen.lock().unwrap() = self.store.recent(id);
    }
}

#[async_trait]
impl StateStore for Watched {
    async fn load(&self, id: &TriggerId) -> Result<Loaded, StateError> {
        in_turns(self.store.load(id)).await
    }

    fn recent(&self, _: &TriggerId) -> Option<Loaded> {
        let seen = self.seen.lock().unwrap().clone()?;
        let version: u64 = seen.version.0.parse().unwrap();
        (version >= self.recorded.load(Ordering::SeqCst)).then_some(seen)
    }

    async fn record(&self, id: &TriggerId, version: &Version, change: &Change) -> Result<(), StateError> {
        let record = async {
            self.store.record(id, version, change).await?;
            self.recorded.store(self.store.writes(id), Ordering::SeqCst);
            Ok(())
        };
        in_turns(record).await
    }
}

#[async_trait]
impl Source for InTurns<InMemorySource> {
    fn id(&self) -> &ObjectRef {
        self.0.id()
    }

    async fn observe(&self, watch: &Watch) -> Result<Observation, SourceError> {
        in_turns(self.0.observe(watch)).await
    }
}

#[async_trait]
impl Action for InTurns<InMemoryAction> {
    fn id(&self) -> &ObjectRef {
        self.0.id()
    }

    async fn register(&self, run: &RunRequest) -> Result<Registered, ActionError> {
        in_turns(self.0.register(run)).await
    }

    async fn release(&self, run: &RunRef) -> Result<Released, ActionError> {
        in_turns(self.0.release(run)).await
    }

    async fn get(&self, run: &RunRef) -> Result<Option<RunStatus>, ActionError> {
        in_turns(self.0.get(run)).await
    }

    async fn unfinished(&self, of: &TriggerId) -> Result<Vec<RunStatus>, ActionError> {
        in_turns(self.0.unfinished(of)).await
    }

    async fn withdraw(&self, run: &RunRef) -> Result<Withdrawn, ActionError> {
        in_turns(self.0.withdraw(run)).await
    }

    async fn stop(&self, run: &RunRef) -> Result<(), ActionError> {
        in_turns(self.0.stop(run)).await
    }
}

#[async_trait]
impl Catalog for InTurns<InMemoryCatalog> {
    async fn source(&self, of: &TriggerId, source: &ObjectRef) -> Result<Arc<dyn Source>, CatalogError> {
        in_turns(self.0.source(of, source)).await
    }

    async fn checkout(&self, of: &TriggerId, source: &ObjectRef) -> Result<Arc<dyn Checkout>, CatalogError> {
        in_turns(self.0.checkout(of, source)).await
    }

    async fn action(&self, of: &TriggerId, action: &ObjectRef) -> Result<Arc<dyn Action>, CatalogError> {
        in_turns(self.0.action(of, action)).await
    }
}
