//! One trigger over two sources, everything that may happen to it, and what must hold.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    task::Poll,
    time::Duration,
};

use git_events_runner_core::{engine::Evaluation, *};
use jiff::{Timestamp, ToSpan as _};

use super::turns::{InTurns, Task, Watched, finish, go_on};

/// How long a run may wait for its start.
const WAITING_TIMEOUT: Duration = Duration::from_secs(100);

/// How far apart firings are, in seconds.
const EVERY: i64 = 30;

#[derive(Clone, Debug)]
pub struct Setting {
    pub on_change_only: bool,
    pub concurrency: ConcurrencyPolicy,
    pub on_first_check: OnFirstCheck,
    pub slots: usize,
    /// Whether the trigger has a schedule; one without only takes requests.
    pub fires: bool,
    /// Whether both evaluators crash at the end. New ones look at every source; the old ones have to know by themselves what is left to do.
    pub ends_with_a_crash: bool,
}

#[derive(Clone, Debug)]
pub enum Step {
    Push {
        source: usize,
        content: u8,
    },
    DeleteBranch {
        source: usize,
    },
    Request {
        sources: Vec<usize>,
        always: bool,
        hint: Option<u8>,
    },
    /// Its watch sees what was written.
    See,
    Evaluate {
        evaluator: usize,
    },
    Settle {
        evaluator: usize,
    },
    ReleaseWaiting {
        evaluator: usize,
    },
    GoOn {
        evaluator: usize,
        calls: u8,
    },
    Crash {
        evaluator: usize,
    },
    Wait {
        seconds: u8,
    },
    Finish {
        run: usize,
        well: bool,
    },
    DeleteRun {
        run: usize,
    },
    SourceFails {
        source: usize,
        failing: bool,
    },
    ActionFails {
        failing: bool,
    },
}

/// A trigger that fires each half a minute, and looks at all sources when its evaluator is new.
#[derive(Clone)]
struct TestTrigger {
    id: TriggerId,
    plan: Plan,
    fires: bool,
}

impl Trigger for TestTrigger {
    fn id(&self) -> &TriggerId {
        &self.id
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn due(&self, _state: &TriggerState, since: Since, now: Timestamp) -> Due {
        let latest = Timestamp::from_second(now.as_second() / EVERY * EVERY).unwrap();
        let all = self.plan.sources.iter().map(|source| source.name.clone());
        Due {
            firing: (self.fires && latest > since.handled).then_some(latest),
            durable: !self.plan.on_change_only,
            check: all.filter(|_| since.fresh && self.plan.on_change_only).collect(),
            not_before: None,
            requests: true,
            next: None,
        }
    }
}

enum Done {
    Evaluated(engine::Memory, Timestamp, Result<Evaluation, engine::EvaluateError>),
    Settled(engine::Memory, Option<Timestamp>),
    Other,
}

/// Somebody who evaluates: what it remembers, and what it is at.
struct Evaluator {
    memory: engine::Memory,
    task: Option<Task<Done>>,
    /// Whether it has ended anything: its first evaluation looks at every source, asked or not.
    is_new: bool,
}

impl Evaluator {
    fn new(handled: Timestamp) -> Self {
        Self { memory: engine::Memory::new(handled), task: None, is_new: true }
    }
}

pub struct World {
    trigger: TestTrigger,
    store: Watched,
    sources: Vec<InMemorySource>,
    action: InMemoryAction,
    catalog: InTurns<InMemoryCatalog>,
    now: Timestamp,
    /// Up to where all firings are handled, as the last evaluator has left it on disk.
    handled: Timestamp,
    evaluators: Vec<Evaluator>,
    ends_with_a_crash: bool,
    /// The sources that somebody asked to look at since they were last changed.
    asked: BTreeSet<String>,
    /// The commits that requests speak of and that were not there yet, by source, and when they were asked for.
    hints: Vec<(String, CommitId, Timestamp)>,
    /// The accepted requests that always run, with their sources.
    always: BTreeMap<RequestId, BTreeSet<String>>,
    requests: u64,
    /// Runs that were registered up to here may have expired.
    expired_until: Timestamp,
    /// Runs that were deleted by hand.
    deleted: BTreeSet<RunKey>,
    /// All runs that were ever registered.
    registered: BTreeMap<RunRef, RunRequest>,
    /// Runs of which an evaluation has said that they are started.
    started: Vec<RunRequest>,
}

impl World {
    pub fn new(setting: Setting) -> Self {
        let sources: Vec<_> = ["a", "b"].map(|name| InMemorySource::new(ObjectRef::namespaced("GitRepo", "default", name))).into();
        let action = InMemoryAction::new(ObjectRef::namespaced("Action", "default", "deploy")).with_slots(setting.slots);
        let id = TriggerId { kind: "TestTrigger".into(), namespace: "default".into(), name: "test".into(), uid: "uid".into() };
        let refs: Vec<_> = sources.iter().map(Source::id).collect();
        let plan = Plan {
            on_change_only: setting.on_change_only,
            on_first_check: setting.on_first_check,
            concurrency: setting.concurrency,
            ..Plan::new(&refs, Watch::new(main()), action.id())
        };
        let (store, catalog) = (Watched::new(InMemoryStore::default()), InMemoryCatalog::default());
        store.store.add(&id, plan.generation);
        sources.iter().for_each(|source| catalog.add_source(InTurns(source.clone())));
        catalog.add_action(InTurns(action.clone()));
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        Self {
            trigger: TestTrigger { id, plan, fires: setting.fires },
            store,
            sources,
            action,
            catalog: InTurns(catalog),
            now,
            handled: now,
            evaluators: (0..2).map(|_| Evaluator::new(now)).collect(),
            ends_with_a_crash: setting.ends_with_a_crash,
            asked: BTreeSet::new(),
            hints: vec![],
            always: BTreeMap::new(),
            requests: 0,
            expired_until: Timestamp::MIN,
            deleted: BTreeSet::new(),
            registered: BTreeMap::new(),
            started: vec![],
        }
    }

    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Push { source, content } => {
                let (commit, name) = (push(&self.sources[*source], *content), self.sources[*source].id().name.clone());
                if !self.is_awaited(&name, commit) {
                    self.asked.remove(&name);
                }
            }
            Step::DeleteBranch { source } => {
                self.sources[*source].delete(&main());
                self.asked.remove(&self.sources[*source].id().name);
            }
            Step::Request { sources, always, hint } => self.request(sources, *always, *hint),
            Step::See => self.store.see(&self.trigger.id),
            Step::Evaluate { evaluator } => self.begin(*evaluator, Self::evaluation),
            Step::Settle { evaluator } => self.begin(*evaluator, Self::settling),
            Step::ReleaseWaiting { evaluator } => self.begin(*evaluator, Self::releasing),
            Step::GoOn { evaluator, calls } => (0..*calls).for_each(|_| self.go_on(*evaluator)),
            Step::Crash { evaluator } => self.crash(*evaluator),
            Step::Wait { seconds } => self.now += i64::from(*seconds).seconds(),
            Step::Finish { run, well } => {
                let phase = if *well { RunPhase::Succeeded } else { RunPhase::Failed };
                self.with_run(*run, |world, status| world.action.finish(&status.run.name, phase, world.now));
            }
            Step::DeleteRun { run } => self.with_run(*run, |world, status| {
                world.action.delete(&status.run.name);
                world.deleted.insert(status.request.key);
            }),
            Step::SourceFails { source, failing } => self.sources[*source].fail_with(failing.then_some("broken")),
            Step::ActionFails { failing } => self.action.fail_with(failing.then_some("broken")),
        }
    }

    fn with_run(&mut self, run: usize, act: impl FnOnce(&mut Self, RunStatus)) {
        let all = self.action.all();
        if !all.is_empty() {
            let status = all[run % all.len()].clone();
            act(self, status);
        }
    }

    fn request(&mut self, sources: &[usize], always: bool, hint: Option<u8>) {
        self.requests += 1;
        let always = always || !self.trigger.plan.on_change_only;
        let id: RequestId = format!("request-{}", self.requests).parse().unwrap();
        let sources: BTreeSet<_> = sources.iter().map(|&source| self.sources[source].id().name.clone()).collect();
        let commit = hint.map(|content| push(&InMemorySource::new(self.sources[0].id().clone()), content));
        let request = PendingRequest { sources: sources.clone(), received_at: self.now, commit, always };
        let accepted = at_once(self.store.store.request(&self.trigger.id, &FireRequest { id: id.clone(), request }));
        if accepted.is_ok() {
            self.asked.extend(sources.clone());
            self.hints.extend(commit.iter().flat_map(|commit| sources.iter().map(|name| (name.clone(), *commit, self.now))));
            if always {
                self.always.insert(id, sources);
            }
        }
    }

    /// Whether a request awaits this commit of a source, which is there now. Those that came before it do not wait any more.
    fn is_awaited(&mut self, source: &str, commit: CommitId) -> bool {
        let Some(last) = self.hints.iter().rposition(|(name, hint, _)| (name.as_str(), *hint) == (source, commit)) else { return false };
        let asked_at = self.hints[last].2;
        self.hints.retain(|(name, _, at)| name != source || *at > asked_at);
        self.now < asked_at + 30.seconds()
    }

    fn begin(&mut self, evaluator: usize, task: impl Fn(&mut Self, engine::Memory) -> Task<Done>) {
        if self.evaluators[evaluator].task.is_none() {
            let memory = self.evaluators[evaluator].memory.clone();
            self.evaluators[evaluator].task = Some(task(self, memory));
        }
    }

    fn evaluation(&mut self, mut memory: engine::Memory) -> Task<Done> {
        let (trigger, store, catalog, now) = (self.trigger.clone(), self.store.clone(), self.catalog.clone(), self.now);
        Box::pin(async move {
            let evaluation = engine::evaluate(&trigger, &store, &catalog, &mut memory, now).await;
            Done::Evaluated(memory, now, evaluation)
        })
    }

    fn settling(&mut self, mut memory: engine::Memory) -> Task<Done> {
        let oldest = self.now - WAITING_TIMEOUT;
        self.expired_until = self.expired_until.max(oldest);
        let (trigger, store, action, now) = (self.trigger.clone(), self.store.clone(), InTurns(self.action.clone()), self.now);
        Box::pin(async move {
            let settled = engine::settle(&trigger, &store, &action, &mut memory, WAITING_TIMEOUT, now).await;
            Done::Settled(memory, settled.map_or(Some(now), |settled| settled.next))
        })
    }

    fn releasing(&mut self, _memory: engine::Memory) -> Task<Done> {
        let (trigger, store, catalog) = (self.trigger.clone(), self.store.clone(), self.catalog.clone());
        Box::pin(async move {
            let _again_later = engine::release_waiting(&[&trigger], &store, &catalog).await;
            Done::Other
        })
    }

    fn go_on(&mut self, evaluator: usize) {
        let Some(task) = &mut self.evaluators[evaluator].task else { return };
        let polled = go_on(task);
        self.registered.extend(self.action.all().into_iter().map(|status| (status.run, status.request)));
        if let Poll::Ready(done) = polled {
            self.evaluators[evaluator].task = None;
            self.ended(evaluator, done);
        }
    }

    /// Gives back when the trigger is to be evaluated again.
    fn ended(&mut self, evaluator: usize, done: Done) -> Option<Timestamp> {
        self.evaluators[evaluator].is_new = false;
        let (mut memory, at, evaluation) = match done {
            Done::Evaluated(memory, at, evaluation) => (memory, at, evaluation),
            Done::Settled(memory, next) => {
                self.evaluators[evaluator].memory = memory;
                return next;
            }
            Done::Other => return None,
        };
        let next = match evaluation {
            Ok(evaluation) => {
                self.handled = self.handled.max(at);
                self.started.extend(evaluation.sources.into_values().filter_map(|outcome| match outcome {
                    engine::Outcome::Started(_, request, _) => Some(*request),
                    _ => None,
                }));
                evaluation.next
            }
            Err(error) => Some(memory.failed(&error, at)),
        };
        self.evaluators[evaluator].memory = memory;
        next
    }

    fn crash(&mut self, evaluator: usize) {
        self.evaluators[evaluator] = Evaluator::new(self.handled);
    }

    /// What holds at any moment.
    pub fn check_always(&self) {
        let mut keys = BTreeSet::new();
        for run in self.action.begun() {
            assert!(keys.insert(run.key.clone()), "run {} of {} has begun twice", run.key.sequence, run.key.source);
        }
        let running = self.action.all().iter().filter(|status| status.phase == RunPhase::Running).count();
        assert!(self.action.slots() >= running, "{running} runs at once");
    }

    /// Nothing happens any more, and nothing fails, until there is nothing left to do.
    pub fn come_to_rest(&mut self) {
        self.action.fail_with(None);
        for source in &self.sources {
            source.fail_with(None);
            if at_once(source.observe(&self.trigger.plan.watch)).is_err() {
                source.push(&main(), &[("file", "0")]);
                self.asked.remove(&source.id().name);
            }
        }
        for evaluator in 0..2 {
            if self.ends_with_a_crash {
                self.crash(evaluator);
            }
            while self.evaluators[evaluator].task.is_some() {
                self.go_on(evaluator);
            }
        }
        let mut at_work: Vec<_> = (0..2).filter(|&evaluator| !self.evaluators[evaluator].is_new).collect();
        if at_work.is_empty() {
            at_work.push(0);
        }
        for _ in 0..1000 {
            let again: Vec<_> = at_work.iter().filter_map(|&evaluator| self.evaluate_and_settle(evaluator)).collect();
            finish(self.releasing(engine::Memory::new(self.now)));
            let busy = self.action.all().iter().filter(|status| !status.phase.is_finished()).count();
            for status in self.action.all() {
                self.action.finish(&status.run.name, RunPhase::Succeeded, self.now);
            }
            self.check_always();
            let state = self.state();
            if busy == 0 && again.is_empty() && state.pending.is_empty() && state.waiting.is_empty() {
                return;
            }
            self.now += 1.second();
        }
        panic!("there is always something left to do: {:?}", self.state());
    }

    /// Gives back when there is more to do.
    fn evaluate_and_settle(&mut self, evaluator: usize) -> Option<Timestamp> {
        self.store.see(&self.trigger.id);
        let memory = self.evaluators[evaluator].memory.clone();
        let done = finish(self.evaluation(memory));
        let evaluate_again = self.ended(evaluator, done);
        self.registered.extend(self.action.all().into_iter().map(|status| (status.run, status.request)));
        let memory = self.evaluators[evaluator].memory.clone();
        let done = finish(self.settling(memory));
        evaluate_again.or(self.ended(evaluator, done))
    }

    fn state(&self) -> TriggerState {
        self.store.store.state(&self.trigger.id).unwrap()
    }

    /// What holds when there is nothing left to do.
    pub fn check_at_rest(&self) {
        let state = self.state();
        let begun = self.action.begun();
        for source in &self.sources {
            let name = &source.id().name;
            let mut runs: Vec<_> = begun.iter().filter(|run| run.key.source.name == *name).collect();
            runs.sort_by_key(|run| run.key.sequence);
            if self.trigger.plan.on_change_only {
                self.check_changes(source, &state, &runs);
            }
            let mut firings = BTreeSet::new();
            for firing in runs.iter().filter(|_| !self.trigger.plan.on_change_only).filter_map(|run| run.firing) {
                assert!(firings.insert(firing), "{name} ran twice for the firing of {firing}");
            }
        }
        for run in &self.started {
            let has_begun = begun.iter().any(|other| other.key == run.key);
            let made_again = self.deleted.contains(&run.key);
            let (sequence, source) = (run.key.sequence, &run.key.source);
            assert!(has_begun || made_again || self.is_over(&state, run), "run {sequence} of {source} was started, and has not begun");
        }
        for (id, sources) in &self.always {
            for name in sources {
                let runs = begun.iter().filter(|run| run.key.source.name == *name && run.requests.contains(id)).count();
                let mut on = self.registered.values().filter(|run| run.key.source.name == *name && run.requests.contains(id));
                assert!(runs == 1 || (runs == 0 && on.any(|run| self.is_over(&state, run))), "{id} is on {runs} runs of {name}");
            }
        }
    }

    /// Whether a run may rightly never begin: it was told to give up, or a later one has replaced it.
    fn is_over(&self, state: &TriggerState, run: &RunRequest) -> bool {
        run.registered_at <= self.expired_until || self.is_replaced(state, &run.key)
    }

    /// Replace stops runs of the same source that came before, whether they have begun or not.
    fn is_replaced(&self, state: &TriggerState, key: &RunKey) -> bool {
        let sequence = state.sources.get(&key.source.name).map_or(0, |source| source.sequence);
        self.trigger.plan.concurrency == ConcurrencyPolicy::Replace && key.sequence + 1 < sequence
    }

    fn check_changes(&self, source: &InMemorySource, state: &TriggerState, runs: &[&RunRequest]) {
        let name = &source.id().name;
        for pair in runs.windows(2).filter(|pair| pair[0].key.sequence + 1 == pair[1].key.sequence) {
            let asked_for = pair[1].requests.iter().any(|id| self.always.contains_key(id));
            assert!(asked_for || pair[0].commit != pair[1].commit, "{name} ran twice for {}", pair[0].commit);
        }
        if !self.ends_with_a_crash && !self.asked.contains(name) {
            return;
        }
        let tip = at_once(source.observe(&self.trigger.plan.watch)).unwrap().commit;
        let Some(at_rest) = state.sources.get(name) else {
            assert!(!self.trigger.fires && self.always.is_empty(), "{name} was never looked at");
            return;
        };
        assert_eq!(at_rest.commit, Some(tip), "the last commit acted on of {name} is not its tip");
        let baseline = self.trigger.plan.on_first_check == OnFirstCheck::Record && runs.is_empty();
        assert!(runs.last().is_some_and(|run| run.commit == tip) || baseline, "the last run of {name} is not of its tip");
    }
}

fn push(source: &InMemorySource, content: u8) -> CommitId {
    source.push(&main(), &[("file", &content.to_string())])
}

fn main() -> Reference {
    Reference::Branch("main".into())
}

/// The answer of a backend in memory, which never waits.
fn at_once<T>(call: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(call).unwrap()
}
