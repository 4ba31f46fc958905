use std::time::Duration;

use jiff::Timestamp;

use super::{
    EvaluateError,
    record::record,
    release::{Undo, is_named},
};
use crate::{Action, Change, LastRun, Loaded, RunPhase, RunRef, RunResult, RunStatus, StateStore, Trigger};

/// What became of the runs of a trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Runs that are unfinished.
    pub unfinished: usize,
    /// Runs that waited too long, and are given up.
    pub expired: Vec<RunRef>,
    /// When the first of those that wait will have waited too long.
    pub next: Option<Timestamp>,
}

/// Brings the state of a trigger up to date with its runs: how they ended, which of them wait no more, which have waited longer than
/// `waiting_timeout`. Removes registered runs that nobody will ever release.
///
/// To be called when a run begins or ends, and at the instant that the last call gave.
///
/// # Guarantees
///
/// - What changes nothing writes nothing.
/// - A run that expires is first given up in the state, and then stopped: it can never begin after that.
///
/// # Errors
///
/// As [`evaluate`](super::evaluate()).
pub async fn settle(
    trigger: &dyn Trigger,
    store: &dyn StateStore,
    action: &dyn Action,
    waiting_timeout: Duration,
    now: Timestamp,
) -> Result<Settled, EvaluateError> {
    let id = trigger.id();
    let loaded = store.load(id).await?;
    let runs = action.runs(id).await?;
    let oldest_waiting = now.saturating_sub(waiting_timeout).unwrap_or(Timestamp::MIN);
    let Loaded { state, .. } = &loaded;

    let mut change = Change::default();
    let mut settled = Settled { unfinished: runs.iter().filter(|status| !status.phase.is_finished()).count(), ..Settled::default() };
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
    let mut in_order: Vec<_> = state.waiting.iter().collect();
    in_order.sort_by_key(|(_, waiting)| waiting.sequence);
    for (name, waiting) in in_order {
        let run = RunRef { name: name.clone(), uid: waiting.uid.clone() };
        let status = runs.iter().find(|status| status.run == run);
        if status.is_none_or(|status| status.phase != RunPhase::Waiting) {
            change.not_waiting.insert(name.clone());
        } else if waiting.since <= oldest_waiting {
            expire.add(&mut change, state, &run, waiting);
            settled.expired.push(run);
        } else {
            let expires = waiting.since.saturating_add(waiting_timeout).unwrap_or(Timestamp::MAX);
            settled.next = Some(settled.next.map_or(expires, |next| next.min(expires)));
        }
    }
    if !change.is_empty() {
        record(store, id, &loaded, &change).await?;
    }
    for run in &settled.expired {
        action.stop(run).await?;
    }
    for leftover in runs.iter().filter(|status| is_leftover(&loaded, status, oldest_waiting)) {
        action.stop(&leftover.run).await?;
    }
    Ok(settled)
}

/// A registered run that no state names and that no evaluation can record any more.
fn is_leftover(loaded: &Loaded, status: &RunStatus, oldest_waiting: Timestamp) -> bool {
    let key = &status.request.key;
    let recorded = loaded.state.sources.get(&key.source.name).map_or(0, |source| source.sequence);
    let outdated = key.sequence < recorded || status.request.registered_at <= oldest_waiting;
    status.phase == RunPhase::Waiting && !is_named(&loaded.state, &status.run) && outdated
}
