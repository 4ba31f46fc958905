//! The heart: what happens, in which order, when a trigger is evaluated.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use crate::{
    ActionError, Catalog, CatalogError, CommitId, Loaded, ObjectRef, Plan, Reason, Reference, Released, Retry, RunRef, RunRequest,
    SourceError, SourceState, StateError, StateStore, Trigger, TriggerId, Watch,
};

mod by_hand;
mod decide;
mod memory;
mod record;
mod register;
mod release;
mod settle;

pub use by_hand::{request_by_hand, request_id_by_hand};
use decide::{Decision, Seen};
pub use memory::Memory;
use register::Work;
pub use release::{Releases, release_waiting};
pub use settle::{Settled, settle};

/// How many sources of a trigger are looked at at a time.
const PARALLEL: usize = 16;

/// How soon to look again for a commit that a request speaks of and the source does not show yet.
const AWAIT_COMMIT: Duration = Duration::from_secs(1);

/// What an evaluation did.
#[derive(Debug, Default)]
pub struct Evaluation {
    /// What came of each source that something asked for, by name.
    pub sources: BTreeMap<String, Outcome>,
    /// Runs that are recorded and could not be released, and why. They wait: [`release_waiting`] is to try again.
    pub not_released: Vec<(RunRef, EvaluateError)>,
    /// When to evaluate again, if nothing happens before; an instant that has passed means at once.
    pub next: Option<Timestamp>,
    /// Whether there is anything for [`settle`] to do: a run may be unfinished, or left behind.
    pub to_settle: bool,
}

/// What came of one source.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing to run.
    Unchanged,
    /// Its first commit was recorded, and starts nothing.
    Baseline(CommitId),
    /// A run was registered and recorded, and then released.
    Started(RunRef, Box<RunRequest>, Released),
    /// A run that an earlier evaluation has left behind was recorded instead; there may be more to do.
    Adopted(RunRef, Box<RunRequest>),
    /// It fired, and has to wait: for the end of an unfinished run, or for a place among those that wait.
    Held,
    /// A request speaks of a commit that the source does not show yet.
    Awaited,
    /// It could not be looked at, or its run could not be registered.
    Failed(Failure),
}

/// Why one source could not be served. The others are not affected.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It cannot be looked at.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It, or the action, cannot be found or used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Its run cannot be registered.
    #[error(transparent)]
    Action(#[from] ActionError),
}

impl Failure {
    /// Why, as a constant.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Source(error) => error.reason(),
            Self::Catalog(error) => error.reason(),
            Self::Action(error) => error.reason(),
        }
    }

    /// Whether to try again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Source(error) => error.retry(),
            Self::Catalog(error) => error.retry(),
            Self::Action(error) => error.retry(),
        }
    }
}

/// Why an evaluation came to nothing. What it did before that is found by the next one.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The specification has changed, and the plan is of an older one: evaluate the new one.
    #[error("the trigger has changed in the meantime")]
    OutdatedPlan,
    /// The state cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The action cannot be found, or its runs cannot be listed.
    #[error(transparent)]
    Action(Failure),
}

impl EvaluateError {
    /// Why, as a constant.
    pub fn reason(&self) -> Reason {
        match self {
            Self::OutdatedPlan => Reason::Conflict,
            Self::State(error) => error.reason(),
            Self::Action(error) => error.reason(),
        }
    }

    /// Whether to try again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::OutdatedPlan => Retry::Backoff,
            Self::State(error) => error.retry(),
            Self::Action(error) => error.retry(),
        }
    }
}

impl<E: Into<Failure>> From<E> for EvaluateError {
    fn from(error: E) -> Self {
        Self::Action(error.into())
    }
}

/// Looks at the sources of a trigger that something asks for, and starts its action where there is reason to.
///
/// The steps, in this order, are what makes a crash after any of them harmless:
/// load → what is due → observe → decide → **register** the runs → **record** the decision in one write → **release** the runs.
/// A run that was registered and not recorded is found by the next evaluation, which records exactly what was registered.
/// A run that was recorded and not released is released by [`release_waiting`].
///
/// # Guarantees
///
/// - Of two evaluations at once, one records; the other drops its work, or adopts that of the first.
/// - An evaluation that finds nothing to do writes nothing.
/// - It may be dropped at any point.
///
/// # Errors
///
/// Only what concerns the whole trigger; a source that fails is an [`Outcome`]. Evaluate again later, by [`Memory::failed`].
///
/// ```
/// use git_events_runner_core::*;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let repo = InMemorySource::new(ObjectRef::namespaced("GitRepo", "default", "app"));
/// let deploy = InMemoryAction::new(ObjectRef::namespaced("Action", "default", "deploy"));
/// let main = Reference::Branch("main".into());
/// let tip = repo.push(&main, &[("README.md", "hello")]);
/// let (store, catalog) = (InMemoryStore::default(), InMemoryCatalog::default());
/// catalog.add_source(repo.clone());
/// catalog.add_action(deploy.clone());
///
/// let id = TriggerId { kind: "ScheduleTrigger".into(), namespace: "default".into(), name: "app".into(), uid: "1".into() };
/// let plan = Plan::new(&[repo.id()], Watch::new(main), deploy.id());
/// let every_minute = Schedule::interval(std::time::Duration::from_secs(60), &id.uid)?;
/// store.add(&id, plan.generation);
/// let trigger = ScheduleTrigger::new(id, plan, every_minute);
///
/// let now = "2026-01-01T00:00:00Z".parse()?;
/// engine::evaluate(&trigger, &store, &catalog, &mut engine::Memory::new(now), now).await?;
/// assert_eq!(deploy.begun()[0].commit, tip);
/// # Ok(()) }
/// ```
pub async fn evaluate(
    trigger: &dyn Trigger,
    store: &dyn StateStore,
    catalog: &dyn Catalog,
    memory: &mut Memory,
    now: Timestamp,
) -> Result<Evaluation, EvaluateError> {
    let mut evaluation = prepare(trigger, store, catalog, memory, now).await?;
    for outcome in evaluation.sources.values_mut() {
        if let Outcome::Started(run, request, released) = outcome {
            match release::begin(catalog, run, request).await {
                Ok(done) => *released = done,
                Err(error) => evaluation.not_released.push((run.clone(), error)),
            }
            if *released == Released::Gone {
                evaluation.next = Some(now);
            }
        }
    }
    Ok(evaluation)
}

/// As [`evaluate`], but what it starts waits for [`release_waiting`], for those who let the runs of all triggers begin in one order.
///
/// # Errors
///
/// As [`evaluate`].
pub async fn prepare(
    trigger: &dyn Trigger,
    store: &dyn StateStore,
    catalog: &dyn Catalog,
    memory: &mut Memory,
    now: Timestamp,
) -> Result<Evaluation, EvaluateError> {
    if let Some(nothing) = glance(trigger, store, catalog, memory, now).await {
        return Ok(nothing);
    }
    let (id, plan) = (trigger.id(), trigger.plan());
    let loaded = store.load(id).await?;
    if loaded.generation != plan.generation {
        return Err(EvaluateError::OutdatedPlan);
    }
    let unsettled = memory.may_have_leftovers || settle::is_unfinished(&loaded.state);
    if plan.suspend {
        // When it is resumed, everything is looked at as if by a new evaluator.
        *memory = Memory::new(now);
        return Ok(Evaluation { to_settle: unsettled, ..Evaluation::default() });
    }
    let due = trigger.due(&loaded.state, memory.since, now);
    let causes = decide::causes(plan, &loaded.state, &due, &memory.due_again(now));
    let looked_at = plan.sources.iter().filter(|source| causes.contains_key(&source.name) && !memory.is_blocked(&source.name, now));
    let looking = Instant::now();
    let mut seen = observe(id, plan, catalog, &loaded.state.sources, looked_at.collect()).await;
    // How long a run waits counts from when it is registered.
    let looked = now.saturating_add(Duration::from_secs(looking.elapsed().as_secs())).unwrap_or(Timestamp::MAX);

    let mut work = Work::new(id, plan, &loaded.state, catalog, now);
    for source in &plan.sources {
        let name = &source.name;
        match (causes.get(name), seen.remove(name)) {
            (Some(causes), Some(seen)) => {
                let decided = seen.map(|seen| decide::decide(id, plan, source, &loaded.state, &seen, causes, looked));
                work.carry_out(name, causes, decided, &due).await;
            }
            (Some(causes), None) => work.hold_if_durable(name, causes, &due),
            (None, _) => {}
        }
    }
    let (change, outcomes, again) = work.finish(&due);
    let changed = !change.is_empty();
    if changed {
        record::record(store, id, &loaded, &change).await?;
    }
    memory.evaluated(plan, &outcomes, now);
    let awaited = outcomes.values().any(|outcome| matches!(outcome, Outcome::Awaited));
    let look_again = awaited.then(|| now.saturating_add(AWAIT_COMMIT).unwrap_or(Timestamp::MAX));
    let next = if again { Some(now) } else { [due.next, memory.next(), look_again].into_iter().flatten().min() };
    let to_settle = unsettled || changed || memory.may_have_leftovers;
    Ok(Evaluation { sources: outcomes, not_released: vec![], next, to_settle })
}

/// An evaluation on a state that may be a moment behind, if it comes to nothing. Whatever there is to do is left to one on the state as it is.
///
/// Most evaluations end here, at no cost but that of looking at the sources. It is no loss that others may have written meanwhile: what they
/// ask for comes with that write, and is looked at when it is seen.
async fn glance(
    trigger: &dyn Trigger,
    store: &dyn StateStore,
    catalog: &dyn Catalog,
    memory: &mut Memory,
    now: Timestamp,
) -> Option<Evaluation> {
    let (id, plan) = (trigger.id(), trigger.plan());
    let Loaded { state, generation, .. } = store.recent(id)?;
    let is_quiet = state.pending.is_empty() && !settle::is_unfinished(&state) && !memory.may_have_leftovers;
    let is_of_plan = generation == plan.generation && state.sources.keys().all(|name| plan.source(name).is_some());
    if plan.suspend || !is_quiet || !is_of_plan {
        return None;
    }
    let due = trigger.due(&state, memory.since, now);
    let causes = decide::causes(plan, &state, &due, &memory.due_again(now));
    let looked_at: Vec<_> = plan.sources.iter().filter(|source| causes.contains_key(&source.name)).collect();
    // Such a firing is served or written down in any case, and need not be looked at twice.
    let is_to_be_served = causes.values().any(|causes| causes.firing.is_some()) && (due.durable || !plan.on_change_only);
    if is_to_be_served || looked_at.iter().any(|source| memory.is_blocked(&source.name, now)) {
        return None;
    }
    let seen = observe(id, plan, catalog, &state.sources, looked_at).await;
    let mut outcomes = BTreeMap::new();
    for (name, seen) in seen {
        let (source, causes) = (plan.source(&name)?, causes.get(&name)?);
        let outcome = match seen.map(|seen| decide::decide(id, plan, source, &state, &seen, causes, now)) {
            Ok(Decision::Nothing { .. }) => Outcome::Unchanged,
            Ok(_) => return None,
            Err(failure) => Outcome::Failed(failure),
        };
        outcomes.insert(name, outcome);
    }
    memory.evaluated(plan, &outcomes, now);
    let next = [due.next, memory.next()].into_iter().flatten().min();
    Some(Evaluation { sources: outcomes, not_released: vec![], next, to_settle: memory.may_have_leftovers })
}

/// Looks at several sources at a time. Errors are kept, each with its source.
async fn observe(
    id: &TriggerId,
    plan: &Plan,
    catalog: &dyn Catalog,
    states: &BTreeMap<String, SourceState>,
    sources: Vec<&ObjectRef>,
) -> BTreeMap<String, Result<Seen, Failure>> {
    // Not one lazy iterator: its closures would keep this future from being Send.
    let looks: Vec<_> = sources.into_iter().map(|source| look(id, plan, catalog, states.get(&source.name), source)).collect();
    stream::iter(looks).buffer_unordered(PARALLEL).collect().await
}

async fn look(
    id: &TriggerId,
    plan: &Plan,
    catalog: &dyn Catalog,
    state: Option<&SourceState>,
    source: &ObjectRef,
) -> (String, Result<Seen, Failure>) {
    let look = async {
        let found = catalog.source(id, source).await?;
        let now = found.observe(&plan.watch).await?;
        let last_files = match state.and_then(|state| state.commit) {
            // The digest that is kept says nothing about today's patterns: see what the last commit has by these.
            Some(last) if state.is_some_and(|state| decide::patterns_changed(state, &now)) => {
                let watch = Watch { reference: Reference::Commit(last), files: plan.watch.files.clone() };
                match found.observe(&watch).await {
                    Ok(last) => last.files,
                    // It can never be known, such as after a forced push: rather once too often than not at all.
                    Err(error) if matches!(error.reason(), Reason::ReferenceNotFound | Reason::TooLarge) => None,
                    Err(error) => return Err(error.into()),
                }
            }
            _ => state.and_then(|state| state.files.clone()),
        };
        Ok(Seen { now, last_files })
    };
    (source.name.clone(), look.await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Action;

    /// It compiles: embedders spawn these futures as tasks.
    #[expect(dead_code, reason = "its types are the test")]
    fn the_futures_of_the_engine_are_send(trigger: &dyn Trigger, store: &dyn StateStore, catalog: &dyn Catalog, action: &dyn Action) {
        fn is_send(_: impl Send) {}
        let (mut memory, now) = (Memory::new(Timestamp::UNIX_EPOCH), Timestamp::UNIX_EPOCH);
        is_send(evaluate(trigger, store, catalog, &mut memory, now));
        is_send(prepare(trigger, store, catalog, &mut memory, now));
        is_send(settle(trigger, store, action, &mut memory, Duration::ZERO, now));
        is_send(release_waiting(&[trigger], store, catalog));
        is_send(request_by_hand(trigger, store, "text", now));
    }

    #[expect(dead_code, reason = "its types are the test")]
    fn ports_are_objects_and_errors_cross_threads() {
        fn is_port<T: ?Sized + Send + Sync>() {}
        fn is_error<T: std::error::Error + Send + Sync + 'static>() {}
        is_port::<dyn crate::Checkout>();
        is_port::<dyn crate::Inbox>();
        is_port::<dyn crate::Source>();
        is_error::<EvaluateError>();
        is_error::<Failure>();
        is_error::<crate::ScheduleError>();
    }
}
