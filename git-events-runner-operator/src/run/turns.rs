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

    /// Releases for as long as it is polled, and tells of each run that has begun.
    pub async fn give(&self, store: &dyn StateStore, catalog: &dyn Catalog, begun: impl AsyncFn(RunRef, RunRequest)) {
        let mut again = tokio::time::interval(AGAIN);
        loop {
            tokio::select! { () = self.changed.notified() => {}, _ = again.tick() => {} }
            let waiting: Vec<_> = self.waiting().values().cloned().collect();
            let triggers: Vec<_> = waiting.iter().map(|trigger| &**trigger).collect();
            let releases = engine::release_waiting(&triggers, store, catalog).await;
            for (run, request, released) in releases.runs {
                if released != Released::Waiting {
                    begun(run, request).await;
                }
            }
            for (trigger, error) in releases.failed {
                warn!(%trigger, reason = %error.reason(), "a run that waits cannot begin: {error}");
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<TriggerId, Arc<dyn Trigger>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
