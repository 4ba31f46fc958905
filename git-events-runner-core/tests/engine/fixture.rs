//! One trigger over the sources `a` and, where a test adds it, `b`, and somebody who evaluates it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use git_events_runner_core::{
    engine::{EvaluateError, Evaluation, Memory, Outcome, Settled, evaluate, release_waiting, settle},
    *,
};
use jiff::{Timestamp, ToSpan as _};

/// How long a run may wait for its start.
pub const WAITING_TIMEOUT: Duration = Duration::from_secs(300);

pub struct Fixture {
    pub plan: Plan,
    pub id: TriggerId,
    pub store: InMemoryStore,
    pub a: InMemorySource,
    pub b: InMemorySource,
    pub action: InMemoryAction,
    pub catalog: InMemoryCatalog,
    pub memory: Memory,
    pub now: Timestamp,
}

/// A trigger to which the test says what is due.
pub struct Told(pub TriggerId, pub Plan, pub Due);

impl Trigger for Told {
    fn id(&self) -> &TriggerId {
        &self.0
    }

    fn plan(&self) -> &Plan {
        &self.1
    }

    fn due(&self, _: &TriggerState, _: Since, _: Timestamp) -> Due {
        self.2.clone()
    }
}

impl Fixture {
    /// Watches `a` for changes, with any number of slots; the test says what is different.
    pub fn new(adapt: impl FnOnce(&mut Plan)) -> Self {
        Self::with_slots(usize::MAX, adapt)
    }

    pub fn with_slots(slots: usize, adapt: impl FnOnce(&mut Plan)) -> Self {
        let [a, b] = ["a", "b"].map(|name| InMemorySource::new(source(name)));
        let action = InMemoryAction::new(ObjectRef::namespaced("Action", "default", "deploy")).with_slots(slots);
        let id = TriggerId { kind: "TestTrigger".into(), namespace: "default".into(), name: "test".into(), uid: "uid".into() };
        let mut plan = Plan::new(&[a.id()], Watch::new(main()), action.id());
        adapt(&mut plan);
        let (store, catalog) = (InMemoryStore::default(), InMemoryCatalog::default());
        store.add(&id, plan.generation);
        catalog.add_source(a.clone());
        catalog.add_source(b.clone());
        catalog.add_action(action.clone());
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        Self { plan, id, store, a, b, action, catalog, memory: Memory::new(now), now }
    }

    pub fn trigger(&self, firing: Option<Timestamp>) -> Told {
        let durable = !self.plan.on_change_only;
        Told(self.id.clone(), self.plan.clone(), Due { firing, durable, requests: true, ..Due::default() })
    }

    pub fn wait(&mut self, seconds: i64) {
        self.now += seconds.seconds();
    }

    /// A minute passes, and the schedule fires.
    pub fn fire(&mut self) -> Evaluation {
        self.wait(60);
        self.try_evaluate(Some(self.now)).unwrap()
    }

    /// Evaluates for what is pending, or is to be looked at again.
    pub fn evaluate(&mut self) -> Evaluation {
        self.try_evaluate(None).unwrap()
    }

    /// Evaluates for as long as there is more to do at once.
    pub fn evaluate_all(&mut self) {
        for _ in 0..100 {
            if self.evaluate().next.is_none_or(|next| next > self.now) {
                return;
            }
        }
        panic!("there is always more to do at once: {:?}", self.state());
    }

    /// Evaluates and settles for as long as there is more to do at once, as a driver does.
    pub fn drive(&mut self) {
        for _ in 0..100 {
            let next = [self.evaluate().next, self.settle().next].into_iter().flatten().min();
            if next.is_none_or(|next| next > self.now) {
                return;
            }
        }
        panic!("there is always more to do at once: {:?}", self.state());
    }

    pub fn try_evaluate(&mut self, firing: Option<Timestamp>) -> Result<Evaluation, EvaluateError> {
        let store = self.store.clone();
        self.evaluate_with(&store, firing)
    }

    pub fn evaluate_with(&mut self, store: &dyn StateStore, firing: Option<Timestamp>) -> Result<Evaluation, EvaluateError> {
        at_once(evaluate(&self.trigger(firing), store, &self.catalog, &mut self.memory, self.now))
    }

    pub fn settle(&mut self) -> Settled {
        let (trigger, store, action) = (self.trigger(None), self.store.clone(), self.action.clone());
        at_once(settle(&trigger, &store, &action, &mut self.memory, WAITING_TIMEOUT, self.now)).unwrap()
    }

    pub fn release_waiting(&self) {
        let releases = at_once(release_waiting(&[&self.trigger(None)], &self.store, &self.catalog));
        assert!(releases.failed.is_empty(), "{releases:?}");
    }

    /// Somebody else takes over, who knows only up to where firings are handled.
    pub fn crash(&mut self) {
        self.memory = Memory::new(self.now);
    }

    /// A listener takes a request.
    pub fn request(&self, id: &str, sources: &[&str], always: bool) {
        self.request_with(id, sources, always, None);
    }

    pub fn request_with(&self, id: &str, sources: &[&str], always: bool, commit: Option<CommitId>) {
        let sources = sources.iter().map(|&name| name.to_owned()).collect();
        let request = PendingRequest { sources, received_at: self.now, commit, always };
        at_once(self.store.request(&self.id, &FireRequest { id: request_id(id), request })).unwrap();
    }

    /// Ends everything that runs, well, and lets the state know.
    pub fn finish_all(&mut self) {
        for status in self.action.all() {
            self.action.finish(&status.run.name, RunPhase::Succeeded, self.now);
        }
        self.settle();
    }

    pub fn state(&self) -> TriggerState {
        self.store.state(&self.id).unwrap()
    }

    pub fn pending(&self) -> Vec<String> {
        self.state().pending.keys().map(ToString::to_string).collect()
    }

    pub fn writes(&self) -> u64 {
        self.store.writes(&self.id)
    }

    /// The commits of the runs that have begun, in that order.
    pub fn begun(&self) -> Vec<CommitId> {
        self.action.begun().iter().map(|run| run.commit).collect()
    }

    /// What the runs that have begun were registered as: source and number.
    pub fn begun_keys(&self) -> Vec<(String, u64)> {
        self.action.begun().into_iter().map(|run| (run.key.source.name, run.key.sequence)).collect()
    }

    /// The runs that exist, with their phases, by number.
    pub fn phases(&self) -> Vec<(u64, RunPhase)> {
        let mut phases: Vec<_> = self.action.all().iter().map(|status| (status.request.key.sequence, status.phase)).collect();
        phases.sort_unstable_by_key(|(sequence, _)| *sequence);
        phases
    }
}

/// A source at which something happens while it is looked at: between load and record.
pub struct Meanwhile(pub InMemorySource, pub Arc<dyn Fn() + Send + Sync>);

#[async_trait]
impl Source for Meanwhile {
    fn id(&self) -> &ObjectRef {
        self.0.id()
    }

    async fn observe(&self, watch: &Watch) -> Result<Observation, SourceError> {
        let seen = self.0.observe(watch).await;
        self.1();
        seen
    }
}

/// The answer of a backend in memory, which never waits.
pub fn at_once<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().unwrap()
}

pub fn main() -> Reference {
    Reference::Branch("main".into())
}

pub fn source(name: &str) -> ObjectRef {
    ObjectRef::namespaced("GitRepo", "default", name)
}

pub fn request_id(id: &str) -> RequestId {
    id.parse().unwrap()
}

/// Lets `main` point at a commit with this text.
pub fn push(source: &InMemorySource, text: &str) -> CommitId {
    source.push(&main(), &[("file", text)])
}

pub fn is_unchanged(evaluation: &Evaluation, source: &str) -> bool {
    matches!(evaluation.sources[source], Outcome::Unchanged)
}

pub fn is_held(evaluation: &Evaluation, source: &str) -> bool {
    matches!(evaluation.sources[source], Outcome::Held)
}

pub fn is_started(evaluation: &Evaluation, source: &str) -> bool {
    matches!(evaluation.sources[source], Outcome::Started(..))
}
