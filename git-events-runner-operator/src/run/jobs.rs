//! Watches the Jobs that we have made, for those that end or vanish.

use futures_util::{Stream, StreamExt as _, stream};
use git_events_runner_core::{RunRef, RunRequest, RunResult, Scope, job};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Client, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tracing::warn;

/// What has become of a Job.
pub enum Seen {
    /// It has ended, and nobody has told of it yet.
    Ended(Box<Job>, Run, RunResult),
    /// It is to be deleted, and has not begun: our finalizer keeps it.
    Withdrawn(Box<Job>, Run),
    /// It was deleted.
    Gone(Run),
    /// All Jobs were listed anew: some may have vanished while nobody looked.
    Listed,
}

/// Which run a Job is.
pub type Run = (RunRef, RunRequest);

/// All that happens to our Jobs and matters.
pub fn watch(client: &Client, scope: &Scope) -> impl Stream<Item = Seen> + Send {
    let ours = watcher::Config::default().labels(&format!("{}={}", job::MANAGED_BY, job::FIELD_MANAGER));
    let watches = scope.apis::<Job>(client).into_iter().map(|api| watcher(api, ours.clone()).default_backoff().boxed());
    stream::select_all(watches).filter_map(async |event| match event {
        Ok(event) => seen(event),
        Err(error) => {
            warn!("the watch of Jobs was interrupted, and goes on: {error}");
            None
        }
    })
}

fn seen(event: Event<Job>) -> Option<Seen> {
    match event {
        Event::Init => None,
        Event::InitDone => Some(Seen::Listed),
        Event::Delete(job) => run(&job).map(Seen::Gone),
        Event::Apply(job) | Event::InitApply(job) => {
            let phase = job::phase(&job);
            let run = run(&job)?;
            if phase.has_not_begun() {
                job.metadata.deletion_timestamp.is_some().then(|| Seen::Withdrawn(Box::new(job), run))
            } else {
                let is_told = !job.labels().contains_key(job::SLOT);
                (phase.is_finished() && !is_told).then(|| Seen::Ended(Box::new(job), run, phase.into()))
            }
        }
    }
}

fn run(job: &Job) -> Option<Run> {
    match job::run_status(job) {
        Ok(status) => Some((status.run, status.request)),
        Err(error) => {
            warn!(job = job.name_any(), namespace = job.namespace(), "has our label, and is no run of ours: {error}");
            None
        }
    }
}
