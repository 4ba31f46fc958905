//! Evaluates triggers, follows their runs, and lets those begin that wait.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use git_events_runner_core::{
    Catalog as _, Due, FileStore, Plan, Released, RunPhase, RunRef, Since, Trigger, TriggerId, TriggerState,
    engine::{self, EvaluateError, Memory, Outcome},
    manifests::Manifests,
    process::{RunReport, Runs},
};
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, watch};
use tracing::{debug, error, info, warn};

use super::agenda::Agenda;

/// How many triggers are evaluated at a time: a check is a small request, and one host that hangs must not hold up the others.
const PARALLEL: usize = 256;

/// How often runs that wait are released again although nothing has ended.
const RELEASE_AGAIN: Duration = Duration::from_secs(5);

/// Everything that evaluating takes. Clones share it.
#[derive(Clone)]
pub struct Driver(Arc<Shared>);

struct Shared {
    store: FileStore,
    catalog: Manifests,
    runs: Runs,
    agenda: Agenda,
    parallel: Semaphore,
    /// Told when a run may have its turn now.
    turn: Notify,
    /// The triggers of which runs wait.
    waiting: Mutex<BTreeMap<TriggerId, Arc<dyn Trigger>>>,
    /// The runs of which was told that they wait.
    told: Mutex<BTreeSet<RunRef>>,
    /// The runs that are followed, by name.
    followed: watch::Sender<BTreeMap<String, RunRef>>,
    failures: AtomicUsize,
}

/// A trigger, and what is remembered of it.
pub struct Driven {
    pub trigger: Arc<dyn Trigger>,
    pub memory: Memory,
}

/// A trigger of which nothing fires after an instant.
struct Until {
    trigger: Arc<dyn Trigger>,
    end: Timestamp,
}

impl Trigger for Until {
    fn id(&self) -> &TriggerId {
        self.trigger.id()
    }

    fn plan(&self) -> &Plan {
        self.trigger.plan()
    }

    fn due(&self, state: &TriggerState, since: Since, now: Timestamp) -> Due {
        Due { next: None, ..self.trigger.due(state, since, now.min(self.end)) }
    }
}

impl Driver {
    pub fn new(store: FileStore, catalog: Manifests, runs: Runs, agenda: Agenda) -> Self {
        Self(Arc::new(Shared {
            store,
            catalog,
            runs,
            agenda,
            parallel: Semaphore::new(PARALLEL),
            turn: Notify::new(),
            waiting: Mutex::default(),
            told: Mutex::default(),
            followed: watch::Sender::default(),
            failures: AtomicUsize::default(),
        }))
    }

    /// How many runs have failed, and how many evaluations or sources.
    pub fn failures(&self) -> usize {
        self.0.failures.load(Ordering::Relaxed)
    }

    /// How many runs are followed now.
    pub fn running(&self) -> usize {
        self.0.followed.borrow().len()
    }

    /// Follows the runs that an earlier process has begun.
    pub async fn adopt(&self) -> anyhow::Result<()> {
        for report in self.0.runs.all().await?.into_iter().filter(|report| report.status.phase == RunPhase::Running) {
            info!(run = %report.status.run, "goes on since an earlier start");
            self.follow(report.status.run, &report.status.request.key.trigger, true);
        }
        Ok(())
    }

    /// Evaluates a trigger whenever it is woken.
    pub async fn drive(self, mut driven: Driven, wake: Arc<Notify>) {
        loop {
            wake.notified().await;
            let now = Timestamp::now();
            match self.evaluate(&mut driven, now).await {
                Ok(next) => self.0.agenda.evaluated(driven.trigger.id(), now, next),
                Err(again) => self.0.agenda.postponed(driven.trigger.id(), again),
            }
        }
    }

    /// Lets runs begin whenever one has ended, and now and then, because a supervisor may have died before its run began.
    pub async fn give_turns(self) {
        let mut now_and_then = tokio::time::interval(RELEASE_AGAIN);
        loop {
            tokio::select! { () = self.0.turn.notified() => {}, _ = now_and_then.tick() => {} }
            self.release_waiting().await;
        }
    }

    /// Evaluates triggers until nothing of what was due at an instant is left to do, and no run is unfinished.
    pub async fn evaluate_once(&self, mut triggers: Vec<Driven>, end: Timestamp) {
        for driven in &mut triggers {
            driven.trigger = Arc::new(Until { trigger: Arc::clone(&driven.trigger), end });
        }
        let mut due: Vec<_> = triggers.iter_mut().collect();
        while !due.is_empty() {
            let evaluations = due.into_iter().map(|driven| async {
                while let Ok(Some(next)) = self.evaluate(driven, Timestamp::now()).await
                    && next <= Timestamp::now()
                {}
            });
            futures_util::future::join_all(evaluations).await;
            self.release_waiting().await;
            let mut followed = self.0.followed.subscribe();
            let before = followed.borrow_and_update().len();
            if before > 0 {
                // Some run ends, and with that others may begin, or what was held be due. A supervisor may die before its run begins.
                let ended = followed.wait_for(|followed| followed.len() < before);
                let _ = tokio::time::timeout(RELEASE_AGAIN, ended).await;
                due = triggers.iter_mut().collect();
            } else {
                due = vec![];
            }
        }
    }

    /// Answers when the trigger is due again, or if it cannot be evaluated, when to try again.
    async fn evaluate(&self, driven: &mut Driven, now: Timestamp) -> Result<Option<Timestamp>, Timestamp> {
        let _permit = self.0.parallel.acquire().await;
        self.try_evaluate(driven, now).await.map_err(|error| {
            let again = driven.memory.failed(&error, now);
            self.0.failures.fetch_add(1, Ordering::Relaxed);
            warn!(trigger = %driven.trigger.id(), reason = %error.reason(), "cannot be evaluated, next try at {again:.0}: {error}");
            self.0.turn.notify_one();
            again
        })
    }

    async fn try_evaluate(&self, driven: &mut Driven, now: Timestamp) -> Result<Option<Timestamp>, EvaluateError> {
        let Shared { store, catalog, .. } = &*self.0;
        let Driven { trigger, memory } = driven;
        let evaluation = engine::prepare(&**trigger, store, catalog, memory, now).await?;
        let (id, plan) = (trigger.id(), trigger.plan());
        for (source, outcome) in &evaluation.sources {
            self.report(id, source, outcome);
            if matches!(outcome, Outcome::Started(..) | Outcome::Adopted(..)) {
                self.waiting().insert(id.clone(), Arc::clone(trigger));
                self.0.turn.notify_one();
            }
        }
        let action = catalog.action(id, &plan.action).await?;
        let timeout = catalog.waiting_timeout(&plan.action);
        let settled = engine::settle(&**trigger, store, &*action, memory, timeout, Timestamp::now()).await?;
        for run in &settled.expired {
            self.0.failures.fetch_add(1, Ordering::Relaxed);
            error!(%run, "has waited longer than {timeout:?} for its turn, and is given up");
        }
        for run in &settled.deleted {
            warn!(%run, "was deleted before it began, and is made again");
        }
        let mut waiting = self.waiting();
        if settled.waiting > 0 {
            let is_new = waiting.insert(id.clone(), Arc::clone(trigger)).is_none();
            if is_new {
                // It may wait for nothing: an earlier process has recorded it, and come no further.
                self.0.turn.notify_one();
            }
        } else {
            waiting.remove(id);
        }
        Ok([evaluation.next, settled.next].into_iter().flatten().min())
    }

    fn report(&self, trigger: &TriggerId, source: &str, outcome: &Outcome) {
        match outcome {
            Outcome::Unchanged => debug!(%trigger, source, "nothing new"),
            Outcome::Awaited => debug!(%trigger, source, "the commit that a request speaks of is not there yet"),
            Outcome::Baseline(commit) => info!(%trigger, source, %commit, "first commit, taken as the baseline"),
            Outcome::Held => info!(%trigger, source, "fired, and waits until an earlier run has ended"),
            Outcome::Adopted(run, request) => {
                info!(%trigger, source, %run, commit = %request.commit, "a run is found that was registered before");
            }
            Outcome::Started(run, request, _) => {
                info!(%trigger, source, commit = %request.commit, "fired: run {run} is registered");
            }
            Outcome::Failed(failure) => {
                self.0.failures.fetch_add(1, Ordering::Relaxed);
                warn!(%trigger, source, reason = %failure.reason(), "{failure}");
            }
        }
    }

    async fn release_waiting(&self) {
        let waiting: Vec<_> = self.waiting().values().cloned().collect();
        let triggers: Vec<_> = waiting.iter().map(|trigger| &**trigger).collect();
        let releases = engine::release_waiting(&triggers, &self.0.store, &self.0.catalog).await;
        let mut waiting = BTreeSet::new();
        for (run, request, released) in releases.runs {
            match released {
                Released::Begun | Released::Preparing => self.follow(run, &request.key.trigger, false),
                Released::Waiting => drop(waiting.insert(run)),
                Released::Gone => {}
            }
        }
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        for run in waiting.difference(&told) {
            info!(%run, "waits for its turn");
        }
        *told = waiting;
        for (trigger, error) in releases.failed {
            error!(%trigger, reason = %error.reason(), "a run that waits cannot begin: {error}");
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<TriggerId, Arc<dyn Trigger>>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints the output of a run, and when it has ended, lets the next one begin.
    fn follow(&self, run: RunRef, trigger: &TriggerId, only_new_output: bool) {
        let is_new = self.0.followed.send_if_modified(|followed| followed.insert(run.name.clone(), run.clone()).is_none());
        if !is_new {
            return;
        }
        let (driver, trigger) = (self.clone(), trigger.clone());
        tokio::spawn(async move {
            let mut output = driver.0.runs.output(&run);
            if only_new_output && let Err(error) = output.skip() {
                warn!(%run, "its output cannot be read: {error}");
            }
            match driver.0.runs.follow(&run, output, |line| print(&run, line)).await {
                Ok(report) => driver.ended(&run, report),
                Err(error) => {
                    // It goes on, but nobody looks: look again later.
                    error!(%run, "cannot be followed: {error}");
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
            }
            driver.0.agenda.wake(&trigger);
            driver.0.turn.notify_one();
            driver.0.followed.send_modify(|followed| drop(followed.remove(&run.name)));
        });
    }

    fn ended(&self, run: &RunRef, report: Option<RunReport>) {
        let Some(RunReport { status, ending: Some(ending), output }) = report else {
            warn!(%run, "is gone");
            return;
        };
        let took = ending.started.map(|started| ending.finished.duration_since(started).unsigned_abs().as_secs_f32());
        let took = took.map(|seconds| format!(" after {seconds:.1} s")).unwrap_or_default();
        if status.phase == RunPhase::Succeeded {
            info!(%run, "succeeded{took}");
            return;
        }
        self.0.failures.fetch_add(1, Ordering::Relaxed);
        let why = match (ending.message, ending.code, ending.signal) {
            (Some(message), ..) => message,
            (None, Some(code), _) => format!("exit code {code}"),
            (None, None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None, None) => "it has not said why".to_owned(),
        };
        error!(%run, output = %output.display(), "failed{took}: {why}");
    }
}

/// One line of a run's output. There is nobody to tell when it cannot be printed.
fn print(run: &RunRef, line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{run} | {line}");
}
