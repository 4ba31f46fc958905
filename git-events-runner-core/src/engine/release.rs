use std::collections::BTreeSet;

use super::EvaluateError;
use crate::{
    Action, ActionError, Catalog, Change, ConcurrencyPolicy, Loaded, PendingRequest, Released, RequestId, RunKey, RunPhase, RunRef,
    RunRequest, RunResult, RunStatus, SourceState, StateStore, Trigger, TriggerId, TriggerState, WaitingRun,
};

/// What became of the runs that waited.
#[derive(Debug, Default)]
pub struct Releases {
    /// Each run whose turn came, and whether it has begun now. What waits behind one that has found no room is not among them.
    pub runs: Vec<(RunRef, RunRequest, Released)>,
    /// Triggers of which something could not be released, and why; it is by the next call.
    pub failed: Vec<(TriggerId, EvaluateError)>,
}

/// Lets all runs begin that are recorded and wait for it, oldest first, as far as their policy and the action's slots allow.
///
/// To be called when leadership starts, and whenever a run has ended, with all triggers of which runs wait.
///
/// # Guarantees
///
/// - Only a run whose uid the state of its trigger names is released.
/// - What fails for one trigger does not keep another from its turn.
/// - A run that has found no room is not overtaken in its [queue](Action::queue) when there is some in the meantime.
/// - Runs that have to wait cost nothing but a look at [what was seen](StateStore::recent) of their triggers, however many they are.
pub async fn release_waiting(triggers: &[&dyn Trigger], store: &dyn StateStore, catalog: &dyn Catalog) -> Releases {
    let mut releases = Releases::default();
    let mut waiting = vec![];
    for trigger in triggers {
        let id = trigger.id();
        let known = match store.recent(id) {
            Some(recent) => Ok(recent),
            None => store.load(id).await,
        };
        match known {
            Ok(Loaded { state, .. }) => {
                waiting.extend(state.waiting.into_iter().map(|(name, run)| (run.instant, RunRef { name, uid: run.uid }, *trigger)));
            }
            Err(error) => releases.failed.push((id.clone(), error.into())),
        }
    }
    waiting.sort_unstable_by(|(instant, run, _), (other_instant, other, _)| (instant, run).cmp(&(other_instant, other)));
    let mut full = BTreeSet::new();
    for (_, run, trigger) in waiting {
        match begin_in_order(trigger, &run, store, catalog, &mut full).await {
            Ok(Some((request, released))) => releases.runs.push((run, request, released)),
            Ok(None) => {}
            Err(error) => releases.failed.push((trigger.id().clone(), error)),
        }
    }
    releases
}

/// Lets a run begin if it is recorded and waits, unless its queue is one of those in which an older run has found no room.
async fn begin_in_order(
    trigger: &dyn Trigger,
    run: &RunRef,
    store: &dyn StateStore,
    catalog: &dyn Catalog,
    full: &mut BTreeSet<String>,
) -> Result<Option<(RunRequest, Released)>, EvaluateError> {
    let id = trigger.id();
    let action = catalog.action(id, &trigger.plan().action).await?;
    if full.contains(&action.queue()) || !is_named(&store.load(id).await?.state, run) {
        return Ok(None);
    }
    let Some(RunStatus { request, .. }) = action.get(run).await?.filter(|status| status.phase == RunPhase::Waiting) else {
        return Ok(None);
    };
    let action = catalog.action(id, &request.action).await?;
    if full.contains(&action.queue()) || !is_way_clear(&*action, &request).await? {
        return Ok(Some((request, Released::Waiting)));
    }
    let released = action.release(run).await?;
    if released == Released::Waiting {
        full.insert(action.queue());
    }
    Ok(Some((request, released)))
}

/// Lets a recorded run begin, by the action that it was registered for.
pub async fn begin(catalog: &dyn Catalog, run: &RunRef, request: &RunRequest) -> Result<Released, EvaluateError> {
    let action = catalog.action(&request.key.trigger, &request.action).await?;
    Ok(if is_way_clear(&*action, request).await? { action.release(run).await? } else { Released::Waiting })
}

/// Whether a run waits for no earlier one to end. One that replaces them ends them.
async fn is_way_clear(action: &dyn Action, request: &RunRequest) -> Result<bool, ActionError> {
    if request.concurrency != ConcurrencyPolicy::Replace {
        return Ok(true);
    }
    for earlier in earlier_unfinished(action, request).await? {
        action.stop(&earlier.run).await?;
    }
    Ok(earlier_unfinished(action, request).await?.is_empty())
}

/// The unfinished runs of the same source with a lower number, registered leftovers included.
pub async fn earlier_unfinished(action: &dyn Action, request: &RunRequest) -> Result<Vec<RunStatus>, ActionError> {
    let mut runs = action.unfinished(&request.key.trigger).await?;
    runs.retain(|status| {
        let key = &status.request.key;
        key.source == request.key.source && key.sequence < request.key.sequence && !status.phase.is_finished()
    });
    Ok(runs)
}

/// Whether the state names exactly this run among those that may begin.
pub fn is_named(state: &TriggerState, run: &RunRef) -> bool {
    state.waiting.get(&run.name).is_some_and(|waiting| waiting.uid == run.uid)
}

/// Adds to a change that a recorded run is not to begin any more, and what then is still to do.
pub struct Undo {
    /// What becomes of it.
    pub result: RunResult,
    /// The commit counts as new again.
    pub roll_back: bool,
    /// The requests that it served and that always run are pending again.
    pub again: bool,
}

impl Undo {
    pub fn add(&self, change: &mut Change, state: &TriggerState, run: &RunRef, waiting: &WaitingRun) {
        change.not_waiting.insert(run.name.clone());
        let waiting = change.waiting.remove(&run.name).unwrap_or_else(|| waiting.clone());
        let Some(source) = change.sources.get(&waiting.source).or_else(|| state.sources.get(&waiting.source)) else { return };
        let mut source = source.clone();
        if let Some(last) = source.last_run.as_mut().filter(|last| last.run == *run) {
            last.result = self.result;
        }
        if self.roll_back && source.sequence == waiting.sequence + 1 {
            source = SourceState { commit: waiting.previous, files: None, previous: None, ..source };
        } else if self.roll_back {
            forget_predecessor(change, state, &run.name, &waiting);
        }
        if let Some(id) = waiting.owed_to.filter(|_| self.again) {
            let is_firing = id == RequestId::scheduled();
            // Of firings only the latest counts: one that a later run has served is not served again.
            if !is_firing || source.last_firing <= Some(waiting.instant) {
                let pending = change.pending.remove(&id).or_else(|| state.pending.get(&id).cloned());
                let received_at = waiting.instant;
                let new = PendingRequest { sources: BTreeSet::new(), received_at, commit: None, always: true };
                let mut request = pending.unwrap_or(new);
                request.received_at = request.received_at.max(received_at);
                request.sources.insert(waiting.source.clone());
                change.pending.insert(id, request);
            }
            if is_firing && source.last_firing == Some(waiting.instant) {
                source.last_firing = None;
            }
        }
        change.sources.insert(waiting.source.clone(), source);
    }
}

/// Runs that follow one that is undone must not be rolled back to the commit of a run that never was.
fn forget_predecessor(change: &mut Change, state: &TriggerState, name: &str, undone: &WaitingRun) {
    for (next, run) in state.waiting.iter().filter(|(_, run)| run.follows.as_deref() == Some(name)) {
        let followed = WaitingRun { previous: undone.previous, follows: undone.follows.clone(), ..run.clone() };
        change.waiting.insert(next.clone(), followed);
    }
}

/// Makes void what an evaluator, that may be at it still, would record of a run that is to be removed.
pub fn skip_number(change: &mut Change, state: &TriggerState, key: &RunKey) {
    let name = &key.source.name;
    if key.sequence == state.next_sequence(name) {
        let known = change.sources.get(name).or_else(|| state.sources.get(name)).cloned();
        let source = known.unwrap_or_else(|| SourceState::new(key.reference.clone()));
        change.sources.insert(name.clone(), SourceState { sequence: key.sequence + 1, ..source });
    }
}
