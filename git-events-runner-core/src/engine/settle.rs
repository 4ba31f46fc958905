use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::{
    EvaluateError, Memory,
    record::record,
    release::{Undo, is_named, skip_number},
};
use crate::{
    Action, ActionError, Change, LastRun, MAX_WAITING, RunPhase, RunRef, RunResult, RunStatus, StateStore, Trigger, TriggerId,
    TriggerState, Withdrawn,
};

/// What became of the runs of a trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Runs that are recorded and wait: the trigger is to be given to [`release_waiting`](super::release_waiting) whenever a run ends.
    pub waiting: usize,
    /// Runs that waited too long, and are given up.
    pub expired: Vec<RunRef>,
    /// Runs that somebody deleted before they began; what they were for is to be done again, at once.
    pub deleted: Vec<RunRef>,
    /// When to evaluate and settle again, if nothing happens before: the first of those that wait will have waited too long,
    /// what has expired is to be tried again, or, at once, there is room for more to wait.
    pub next: Option<Timestamp>,
}

/// Brings the state of a trigger up to date with its runs: how they ended, which of them wait no more, which have waited longer than
/// `waiting_timeout`. Removes registered runs that nobody will ever release.
///
/// To be called when a run begins or ends, and at the instant that the last call gave.
///
/// # Guarantees
///
/// - What changes nothing writes nothing; runs are listed only when some may be unfinished.
/// - A run that expires is first withdrawn, then given up in the state, then removed: it is either begun or given up.
///   If it was for a change, its source is looked at again after as long as it has waited.
///
/// # Errors
///
/// As [`evaluate`](super::evaluate()).
pub async fn settle(
    trigger: &dyn Trigger,
    store: &dyn StateStore,
    action: &dyn Action,
    memory: &mut Memory,
    waiting_timeout: Duration,
    now: Timestamp,
) -> Result<Settled, EvaluateError> {
    let id = trigger.id();
    let loaded = store.load(id).await?;
    if !memory.may_have_leftovers && !is_unfinished(&loaded.state) {
        return Ok(Settled { next: memory.next(), ..Settled::default() });
    }
    let state = &loaded.state;
    let runs = unfinished_or_awaited(action, id, state).await?;
    let oldest_waiting = now.saturating_sub(waiting_timeout).unwrap_or(Timestamp::MIN);

    let mut change = Change::default();
    let mut settled = Settled::default();
    for (name, source) in &state.sources {
        let Some(last) = source.last_run.as_ref().filter(|last| !last.result.is_finished()) else { continue };
        let status = runs.iter().find(|status| status.run == last.run);
        let (result, finished) = status.map_or((RunResult::Deleted, None), |status| (status.phase.into(), status.finished));
        if (result, finished) != (last.result, last.finished) {
            let mut source = source.clone();
            source.last_run = Some(LastRun { run: last.run.clone(), result, finished });
            change.sources.insert(name.clone(), source);
        }
    }
    let expire = Undo { result: RunResult::Expired, roll_back: trigger.plan().on_change_only, again: false };
    let redo = Undo { result: RunResult::Deleted, roll_back: trigger.plan().on_change_only, again: true };
    let mut in_order: Vec<_> = state.waiting.iter().collect();
    in_order.sort_by_key(|(_, waiting)| waiting.sequence);
    for (name, waiting) in in_order {
        let run = RunRef { name: name.clone(), uid: waiting.uid.clone() };
        let status = runs.iter().find(|status| status.run == run);
        let mut phase = status.map(|status| status.phase);
        let is_expired = waiting.since <= oldest_waiting;
        if phase == Some(RunPhase::Waiting) && is_expired && action.withdraw(&run).await? == Withdrawn::NeverBegins {
            phase = Some(RunPhase::Deleted);
        }
        match phase {
            Some(RunPhase::Deleted) => {
                let (undo, again_at, list) = if is_expired {
                    (&expire, now.saturating_add(waiting_timeout).unwrap_or(Timestamp::MAX), &mut settled.expired)
                } else {
                    (&redo, now, &mut settled.deleted)
                };
                undo.add(&mut change, state, &run, waiting);
                let may_be_looked_at = !trigger.plan().suspend && trigger.plan().source(&waiting.source).is_some();
                if (undo.roll_back || undo.again) && may_be_looked_at {
                    memory.look_again(&waiting.source, again_at);
                }
                list.push(run);
            }
            Some(RunPhase::Waiting) if !is_expired => {
                let expires = waiting.since.saturating_add(waiting_timeout).unwrap_or(Timestamp::MAX);
                settled.next = Some(settled.next.map_or(expires, |next| next.min(expires)));
                settled.waiting += 1;
            }
            _ => drop(change.not_waiting.insert(name.clone())),
        }
    }
    let leftovers: Vec<_> = runs.iter().filter(|status| is_leftover(state, status, oldest_waiting)).collect();
    for leftover in &leftovers {
        skip_number(&mut change, state, &leftover.request.key);
    }
    if !change.is_empty() {
        record(store, id, &loaded, &change).await?;
    }
    let given_up = settled.expired.iter().chain(&settled.deleted);
    for run in given_up.chain(leftovers.iter().map(|status| &status.run)) {
        action.stop(run).await?;
    }
    // What is registered and not recorded may be at work still; it is looked at again when it is old enough.
    let others = runs.iter().filter(|status| status.phase.has_not_begun() && !is_named(state, &status.run));
    let registered_at = others.map(|status| status.request.registered_at).filter(|at| *at > oldest_waiting).min();
    memory.settled(registered_at.is_some());
    let old_enough = registered_at.map(|at| at.saturating_add(waiting_timeout).unwrap_or(Timestamp::MAX));
    let room_again = (state.waiting.len() >= MAX_WAITING && !change.not_waiting.is_empty()).then_some(now);
    settled.next = [settled.next, old_enough, memory.next(), room_again].into_iter().flatten().min();
    Ok(settled)
}

/// Whether there is a run of which the end, or the beginning, is not in the state.
pub fn is_unfinished(state: &TriggerState) -> bool {
    awaited(state).next().is_some()
}

/// The runs of which the end, or the beginning, is not in the state.
fn awaited(state: &TriggerState) -> impl Iterator<Item = RunRef> {
    let last_runs = state.sources.values().filter_map(|source| source.last_run.as_ref());
    let unfinished = last_runs.filter(|last| !last.result.is_finished()).map(|last| last.run.clone());
    unfinished.chain(state.waiting.iter().map(|(name, waiting)| RunRef { name: name.clone(), uid: waiting.uid.clone() }))
}

async fn unfinished_or_awaited(action: &dyn Action, id: &TriggerId, state: &TriggerState) -> Result<Vec<RunStatus>, ActionError> {
    let mut runs = action.unfinished(id).await?;
    // A run that waits is the last one of its source, too.
    for run in awaited(state).collect::<BTreeSet<_>>() {
        if !runs.iter().any(|status| status.run == run) {
            runs.extend(action.get(&run).await?);
        }
    }
    Ok(runs)
}

/// A registered run that no state names, and that nobody came back for.
fn is_leftover(state: &TriggerState, status: &RunStatus, oldest_waiting: Timestamp) -> bool {
    let key = &status.request.key;
    let outdated = key.sequence < state.next_sequence(&key.source.name) || status.request.registered_at <= oldest_waiting;
    status.phase.has_not_begun() && !is_named(state, &status.run) && outdated
}
