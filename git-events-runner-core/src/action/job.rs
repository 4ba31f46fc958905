//! Runs as Jobs of a cluster.
//!
//! A Job is created suspended and with a finalizer of ours, so that it neither begins nor vanishes before the state names it. One write
//! takes both away: a Job has begun when the finalizer is off.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, Client, Error, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
};
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

use crate::{
    Action, ActionError, CommitId, ObjectRef, Reference, Registered, Released, RunKey, RunPhase, RunRef, RunRequest, RunStatus, Scope,
    TriggerId, Withdrawn, crash_point::written, crd,
};

mod build;
mod cloner;
mod names;
mod origin;
mod secret;
mod status;
mod worker;

#[cfg(test)]
mod tests;

pub use names::*;
pub use origin::*;
pub use status::{NotARun, phase, run_status};

use build::Blueprint;

/// How often a Job is written again because something else was written in between.
const ATTEMPTS: usize = 20;

/// The Jobs of a cluster that are ours. Clones share it.
#[derive(Clone)]
pub struct Jobs {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    scope: Scope,
    config: watch::Receiver<Arc<crd::RuntimeConfig>>,
    /// Held while it is found out whether there is room, and until the room is taken.
    turn: Mutex<()>,
}

impl Jobs {
    /// The Jobs of this part of a cluster, made and counted by the config of the moment.
    pub fn new(client: Client, scope: Scope, config: watch::Receiver<Arc<crd::RuntimeConfig>>) -> Self {
        Self { shared: Arc::new(Shared { client, scope, config, turn: Mutex::new(()) }) }
    }

    /// Takes a Job that has ended from those that are looked at for what has not.
    ///
    /// # Errors
    ///
    /// [`ActionError::Unavailable`]: the Job is still looked at, which does no harm.
    pub async fn free_slot(&self, job: &Job) -> Result<(), ActionError> {
        let patch = json!({ "metadata": { "labels": { SLOT: null } } });
        let api = self.api(&job.namespace().unwrap_or_default());
        is_written(api.patch(&job.name_any(), &by_us(), &Patch::Merge(patch)).await)?;
        Ok(())
    }

    /// Lets a Job vanish that was deleted before it began, and that is nobody's any more. One that has changed since it was read stays.
    ///
    /// # Errors
    ///
    /// [`ActionError::Unavailable`]: the Job is there still.
    pub async fn let_go(&self, job: &Job) -> Result<(), ActionError> {
        self.take_finalizer_off(job, json!({}), json!({})).await.map(drop)
    }

    /// Takes our finalizer off. False: the Job is another one by now, and to be looked at again.
    async fn take_finalizer_off(&self, job: &Job, mut metadata: Value, spec: Value) -> Result<bool, ActionError> {
        metadata["resourceVersion"] = json!(job.metadata.resource_version);
        metadata["finalizers"] = job.finalizers().iter().filter(|finalizer| *finalizer != REGISTERED).cloned().collect();
        let patch = json!({ "metadata": metadata, "spec": spec });
        let api = self.api(&job.namespace().unwrap_or_default());
        is_written(api.patch(&job.name_any(), &by_us(), &Patch::Merge(patch)).await)
    }

    fn api(&self, namespace: &str) -> Api<Job> {
        Api::namespaced(self.shared.client.clone(), namespace)
    }

    pub(crate) fn config(&self) -> Arc<crd::RuntimeConfig> {
        Arc::clone(&self.shared.config.borrow())
    }

    /// Whether one more Job may begin. What runs is counted each time, by a list that is no cache's.
    async fn has_room(&self) -> Result<bool, ActionError> {
        let taken = ListParams::default().labels(&format!("{MANAGED_BY}={FIELD_MANAGER},{SLOT}={SLOT_TAKEN}"));
        let mut running = 0;
        for api in self.shared.scope.apis::<Job>(&self.shared.client) {
            let jobs = api.list(&taken).await.map_err(failed)?;
            running += jobs.items.iter().filter(|job| phase(job) == RunPhase::Running).count();
        }
        Ok(running < self.config().action.max_running_jobs as usize)
    }
}

/// An action of which each run is a Job.
pub struct JobAction {
    id: ObjectRef,
    namespace: String,
    job: crd::ActionJob,
    jobs: Jobs,
    origins: Arc<dyn JobOrigins>,
}

/// Whether a run may begin now.
enum Turn {
    Now(Box<Job>),
    Not(Released),
}

impl JobAction {
    /// An action for the triggers of a namespace, where its Jobs are.
    pub fn new(id: ObjectRef, namespace: &str, job: crd::ActionJob, jobs: Jobs, origins: Arc<dyn JobOrigins>) -> Self {
        Self { id, namespace: namespace.to_owned(), job, jobs, origins }
    }

    /// Has the API server look at a Job of this action, without making it.
    ///
    /// # Errors
    ///
    /// [`ActionError::Invalid`] with what it thinks is wrong.
    pub async fn try_out(&self) -> Result<(), ActionError> {
        let trigger =
            TriggerId { kind: "ScheduleTrigger".into(), namespace: self.namespace.clone(), name: "trial".into(), uid: "trial".into() };
        let key = RunKey {
            trigger,
            source: ObjectRef::namespaced("GitRepo", &self.namespace, "trial"),
            reference: Reference::Branch("main".into()),
            sequence: 0,
        };
        let run = RunRequest::new(key, self.id.clone(), CommitId::from_bytes([0; 20]), Timestamp::UNIX_EPOCH);
        self.create(&run, &JobOrigin::of_uri("https://git.example.com/trial"), true).await.map(drop).map_err(refused)
    }

    async fn create(&self, run: &RunRequest, origin: &JobOrigin, dry_run: bool) -> Result<Job, Error> {
        let job = Blueprint { run, action: &self.job, config: &self.jobs.config().action, origin }.job();
        let how = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), dry_run };
        self.api().create(&how, &job).await
    }

    fn api(&self) -> Api<Job> {
        self.jobs.api(&self.namespace)
    }

    async fn find(&self, run: &RunRef) -> Result<Option<Job>, ActionError> {
        let job = self.api().get_opt(&run.name).await.map_err(failed)?;
        Ok(job.filter(|job| job.metadata.uid.as_ref() == Some(&run.uid)))
    }

    /// What has the name of a run that was to be registered.
    async fn existing(&self, run: &RunRequest) -> Result<Registered, ActionError> {
        let Some(job) = self.api().get_opt(&run.key.name()).await.map_err(failed)? else { return Ok(Registered::Deleting) };
        let status = run_status(&job).ok().filter(|status| status.request.key == run.key);
        let status = status.ok_or_else(|| ActionError::NotOurs(Box::new(run.key.clone())))?;
        let is_going = job.metadata.deletion_timestamp.is_some() && !status.phase.has_not_begun();
        Ok(if is_going { Registered::Deleting } else { Registered::Existing(Box::new(status)) })
    }

    async fn turn(&self, run: &RunRef) -> Result<Turn, ActionError> {
        let Some(job) = self.find(run).await? else { return Ok(Turn::Not(Released::Gone)) };
        match phase(&job) {
            RunPhase::Waiting => {}
            RunPhase::Deleted => return Ok(Turn::Not(Released::Gone)),
            RunPhase::Running | RunPhase::Succeeded | RunPhase::Failed => return Ok(Turn::Not(Released::Begun)),
        }
        let needs_room = is_suspended(&job) && self.kueue().is_none();
        let may_begin = !needs_room || self.jobs.has_room().await?;
        Ok(if may_begin { Turn::Now(Box::new(job)) } else { Turn::Not(Released::Waiting) })
    }

    /// The queue of Kueue by which Jobs begin, if there is one.
    fn kueue(&self) -> Option<&String> {
        self.job.labels.get(KUEUE_QUEUE)
    }

    /// Makes the Secret that a Job mounts, with credentials for the repository that the Job was made for, and no other.
    async fn create_secret(&self, job: &Job) -> Result<(), ActionError> {
        let invalid = |why: &str| ActionError::Invalid(format!("{}: {why}", job.name_any()));
        let request = run_status(job).map_err(|error| invalid(&error.to_string()))?.request;
        let uri = cloner::repo_uri(job).ok_or_else(|| invalid("it names no repository"))?;
        secret::create(&self.jobs.shared.client, job, self.origins.credentials(&request, &uri).await?).await
    }

    /// Lets a Job begin, in one write. One that somebody has let begin by hand takes its place as well.
    async fn begin(&self, job: &Job) -> Result<bool, ActionError> {
        let queue = self.kueue().filter(|_| is_suspended(job));
        let labels = queue.map_or_else(|| json!({ SLOT: SLOT_TAKEN }), |queue| json!({ KUEUE_QUEUE: queue, SLOT: SLOT_OF_KUEUE }));
        self.jobs.take_finalizer_off(job, json!({ "labels": labels }), json!({ "suspend": queue.is_some() })).await
    }

    /// Deletes a Job that has not begun, if it is still as it was read. Our finalizer keeps it listed. False: as above.
    async fn delete_registered(&self, job: &Job) -> Result<bool, ActionError> {
        let as_read = Preconditions { uid: job.uid(), resource_version: job.resource_version() };
        // It has no Pod to wait for.
        let how = DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
        is_written(self.api().delete(&job.name_any(), &how.preconditions(as_read)).await)
    }

    /// Deletes a Job that has begun: it is gone when its Pods are. False: it is gone already.
    async fn delete_begun(&self, job: &Job) -> Result<bool, ActionError> {
        let this_one = Preconditions { uid: job.uid(), resource_version: None };
        is_written(self.api().delete(&job.name_any(), &DeleteParams::foreground().preconditions(this_one)).await)
    }
}

#[async_trait]
impl Action for JobAction {
    fn id(&self) -> &ObjectRef {
        &self.id
    }

    fn queue(&self) -> String {
        // Those of Kueue never wait here.
        if self.kueue().is_some() { self.id.to_string() } else { "Jobs".to_owned() }
    }

    async fn register(&self, run: &RunRequest) -> Result<Registered, ActionError> {
        let origin = self.origins.origin(run).await?;
        match self.create(run, &origin, false).await {
            Ok(job) => {
                written("job-registered");
                Ok(Registered::New(status::run_ref(&job)))
            }
            Err(Error::Api(answer)) if answer.is_already_exists() => self.existing(run).await,
            Err(error) => Err(refused(error)),
        }
    }

    async fn release(&self, run: &RunRef) -> Result<Released, ActionError> {
        let mut prepared = false;
        let mut lock = self.jobs.shared.turn.lock().await;
        for _ in 0..ATTEMPTS {
            let job = match self.turn(run).await? {
                Turn::Now(job) => job,
                Turn::Not(released) => return Ok(released),
            };
            if !prepared && cloner::has_own_secret(&job) {
                // Not under the lock: credentials may have to be fetched, which takes time.
                drop(lock);
                self.create_secret(&job).await?;
                prepared = true;
                lock = self.jobs.shared.turn.lock().await;
            } else if self.begin(&job).await? {
                written("job-released");
                return Ok(Released::Begun);
            }
        }
        drop(lock);
        Err(contended(run))
    }

    async fn get(&self, run: &RunRef) -> Result<Option<RunStatus>, ActionError> {
        Ok(self.find(run).await?.as_ref().and_then(readable))
    }

    async fn unfinished(&self, of: &TriggerId) -> Result<Vec<RunStatus>, ActionError> {
        let unfinished = ListParams::default().labels(&format!("{TRIGGER_UID}={},{SLOT}", label_value(&of.uid)));
        let jobs = self.jobs.api(&of.namespace).list(&unfinished).await.map_err(failed)?;
        let mut runs: Vec<_> = jobs.iter().filter_map(readable).collect();
        runs.retain(|status| status.request.key.trigger == *of && !status.phase.has_ended());
        Ok(runs)
    }

    async fn withdraw(&self, run: &RunRef) -> Result<Withdrawn, ActionError> {
        for _ in 0..ATTEMPTS {
            let Some(job) = self.find(run).await? else { return Ok(Withdrawn::TooLate) };
            match phase(&job) {
                RunPhase::Deleted => return Ok(Withdrawn::NeverBegins),
                RunPhase::Running | RunPhase::Succeeded | RunPhase::Failed => return Ok(Withdrawn::TooLate),
                RunPhase::Waiting if !is_suspended(&job) => {
                    // Somebody has let it begin by hand.
                    self.begin(&job).await?;
                }
                RunPhase::Waiting if self.delete_registered(&job).await? => return Ok(Withdrawn::NeverBegins),
                RunPhase::Waiting => {}
            }
        }
        Err(contended(run))
    }

    async fn stop(&self, run: &RunRef) -> Result<(), ActionError> {
        for _ in 0..ATTEMPTS {
            let Some(job) = self.find(run).await? else { return Ok(()) };
            let is_over = match phase(&job) {
                RunPhase::Waiting => {
                    self.delete_registered(&job).await?;
                    false
                }
                RunPhase::Deleted => self.jobs.take_finalizer_off(&job, json!({}), json!({})).await?,
                RunPhase::Running | RunPhase::Succeeded | RunPhase::Failed => self.delete_begun(&job).await?,
            };
            if is_over {
                return Ok(());
            }
        }
        Err(contended(run))
    }
}

/// The run that a Job is, if it is one.
fn readable(job: &Job) -> Option<RunStatus> {
    run_status(job).inspect_err(|error| tracing::warn!(job = job.name_any(), namespace = job.namespace(), %error, "not a run")).ok()
}

fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true))
}

fn by_us() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// Whether a write was made that is made only to an object as it was read. Otherwise it is another one by now, or gone.
fn is_written<T>(answer: Result<T, Error>) -> Result<bool, ActionError> {
    match answer {
        Ok(_) => Ok(true),
        Err(Error::Api(answer)) if answer.is_conflict() || answer.is_not_found() => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Why a Job was not created.
fn refused(error: Error) -> ActionError {
    match error {
        Error::Api(answer) if [400, 422].contains(&answer.code) => ActionError::Invalid(answer.message),
        error => failed(error),
    }
}

fn failed(error: Error) -> ActionError {
    match error {
        Error::Api(answer) if answer.is_forbidden() => ActionError::Forbidden(answer.message),
        error => ActionError::Unavailable(error.into()),
    }
}

fn contended(run: &RunRef) -> ActionError {
    ActionError::Unavailable(format!("the Job {run} is written by too many at once").into())
}
