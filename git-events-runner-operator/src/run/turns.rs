//! Lets runs begin that are recorded and wait: one task, so that there is one order among the runs of all triggers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use git_events_runner_core::{Catalog, Released, RunRef, RunRequest, StateStore, Trigger, TriggerId, engine};
use tokio::sync::Notify;
use tracing::warn;

/// How often runs that wait are released again although nothing has ended: a Secret may have come, or the API server be back.
const AGAIN: Duration = Duration::from_secs(5);

/// The triggers of which runs wait.
#[derive(Default)]
pub struct Turns {
    waiting: Mutex<BTreeMap<TriggerId, Arc<dyn Trigger>>>,
    changed: Notify,
}

impl Turns {
    /// Says that runs of a trigger wait, and that it is worth looking at.
    pub fn wait(&self, trigger: &Arc<dyn Trigger>) {
        self.waiting().insert(trigger.id().clone(), Arc::clone(trigger));
        self.changed.notify_one();
    }

    /// Says that no run of a trigger waits.
    pub fn none_waits(&self, id: &TriggerId) {
        self.waiting().remove(id);
    }

    /// Says that a run has ended, so that another one may begin.
    pub fn one_has_ended(&self) {
        self.changed.notify_one();
    }

    /// Forgets triggers that are gone.
    pub fn retain(&self, is_there: impl Fn(&TriggerId) -> bool) {
        self.waiting().retain(|id, _| is_there(id));
    }

    /// Waits until there may be room, or some time has passed, and answers which runs have begun then.
    pub async fn give(&self, store: &dyn StateStore, catalog: &dyn Catalog) -> Vec<(RunRef, RunRequest)> {
        // Both are reasons to look.
        let _ = tokio::time::timeout(AGAIN, self.changed.notified()).await;
        let waiting: Vec<_> = self.waiting().values().cloned().collect();
        let triggers: Vec<_> = waiting.iter().map(|trigger| &**trigger).collect();
        let releases = engine::release_waiting(&triggers, store, catalog).await;
        for (trigger, error) in releases.failed {
            warn!(%trigger, reason = %error.reason(), "a run that waits cannot begin: {error}");
        }
        let begun = releases.runs.into_iter().filter(|(.., released)| *released != Released::Waiting);
        begun.map(|(run, request, _)| (run, request)).collect()
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<TriggerId, Arc<dyn Trigger>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
