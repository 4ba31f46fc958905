//! What a Job tells of its run.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};

use super::{REGISTERED, RUN};
use crate::{RunPhase, RunRef, RunRequest, RunStatus};

/// Why a Job is not known as a run of ours.
#[derive(Debug, thiserror::Error)]
pub enum NotARun {
    /// It has no such annotation.
    #[error("it has no annotation {RUN}")]
    NoAnnotation,
    /// Somebody has changed the annotation.
    #[error("its annotation {RUN} cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// How far a Job is. It has begun when our finalizer is off, and never before.
pub fn phase(job: &Job) -> RunPhase {
    if is_registered(job) {
        return if job.metadata.deletion_timestamp.is_some() { RunPhase::Deleted } else { RunPhase::Waiting };
    }
    match ending(job).map(|condition| condition.type_.as_str()) {
        None => RunPhase::Running,
        Some("Complete") => RunPhase::Succeeded,
        Some(_) => RunPhase::Failed,
    }
}

/// What is registered as a Job, and how far it is.
///
/// # Errors
///
/// When its annotation does not say what was registered: it is not ours, or somebody has changed it.
pub fn run_status(job: &Job) -> Result<RunStatus, NotARun> {
    let request = job.metadata.annotations.as_ref().and_then(|annotations| annotations.get(RUN)).ok_or(NotARun::NoAnnotation)?;
    let request: RunRequest = serde_json::from_str(request)?;
    let phase = phase(job);
    let finished = if phase.has_not_begun() { None } else { finished(job) };
    Ok(RunStatus { run: run_ref(job), request, phase, finished })
}

pub fn run_ref(job: &Job) -> RunRef {
    RunRef { name: job.metadata.name.clone().unwrap_or_default(), uid: job.metadata.uid.clone().unwrap_or_default() }
}

fn is_registered(job: &Job) -> bool {
    job.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == REGISTERED)
}

fn ending(job: &Job) -> Option<&JobCondition> {
    let mut conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.find(|condition| condition.status == "True" && ["Complete", "Failed"].contains(&condition.type_.as_str()))
}

fn finished(job: &Job) -> Option<Timestamp> {
    let ended = ending(job)?;
    let completed = job.status.as_ref().and_then(|status| status.completion_time.as_ref());
    completed.or(ended.last_transition_time.as_ref()).map(|time| time.0)
}
