//! Events: what people ask about, beside the objects that it is about.

use std::time::Duration;

use git_events_runner_core::{CommitId, Reason, RunRef, RunRequest, RunResult, TriggerId, crd};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;
use tracing::{debug, warn};

#[cfg(test)]
mod tests;

/// How many Events may wait to be published. More are dropped: nothing waits for them.
const MAX_WAITING: usize = 256;

/// The longest note, in bytes: the API server takes no longer one.
const MAX_NOTE: usize = 1024;

/// How long publishing one may take.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(10);

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The first commit of a source is known, and starts nothing.
    Baseline { source: String, commit: CommitId },
    /// A source has fired, and a run is registered as a Job and waits for its turn.
    Registered { run: RunRef, request: Box<RunRequest> },
    /// A Job has begun.
    Released(RunRef),
    /// A Job has waited too long for its turn.
    Expired(RunRef),
    /// A Job was deleted before it began.
    Deleted(RunRef),
    /// A source has fired, and has to wait: for what, in words.
    Held { source: String, why: String },
    /// A Job is over.
    Finished { run: RunRef, source: String, result: RunResult },
    /// Accepted requests were dropped: which and why, in words.
    RequestsDropped(String),
    /// It does not work, or not with one of its sources; the message says what to do.
    Failing { reason: Reason, message: String },
    /// It works again.
    Recovered(String),
}

impl Happening {
    fn reason(&self) -> String {
        match self {
            Self::Baseline { .. } => "Baseline".to_owned(),
            Self::Registered { .. } => "RunRegistered".to_owned(),
            Self::Released(_) => "RunReleased".to_owned(),
            Self::Expired(_) => "RunExpired".to_owned(),
            Self::Deleted(_) => "RunDeleted".to_owned(),
            Self::Held { .. } => "RunHeld".to_owned(),
            Self::Finished { result, .. } => format!("Run{result:?}"),
            Self::RequestsDropped(_) => "RequestsDropped".to_owned(),
            Self::Failing { reason, .. } => reason.to_string(),
            Self::Recovered(_) => "Recovered".to_owned(),
        }
    }

    /// What was being done.
    fn action(&self) -> &'static str {
        match self {
            Self::Baseline { .. } | Self::Held { .. } | Self::RequestsDropped(_) => "Evaluate",
            Self::Registered { .. } | Self::Released(_) | Self::Expired(_) | Self::Deleted(_) | Self::Finished { .. } => "Run",
            Self::Failing { .. } | Self::Recovered(_) => "Check",
        }
    }

    fn is_warning(&self) -> bool {
        match self {
            Self::Finished { result, .. } => *result != RunResult::Succeeded,
            Self::Expired(_) | Self::Deleted(_) | Self::RequestsDropped(_) | Self::Failing { .. } => true,
            _ => false,
        }
    }

    fn run(&self) -> Option<&RunRef> {
        match self {
            Self::Registered { run, .. } | Self::Finished { run, .. } => Some(run),
            Self::Released(run) | Self::Expired(run) | Self::Deleted(run) => Some(run),
            _ => None,
        }
    }

    fn note(&self) -> String {
        let mut note = match self {
            Self::Baseline { source, commit } => format!("{source} is at {commit}: changes count from there"),
            Self::Registered { run, request } => registered(run, request),
            Self::Released(run) => format!("Job {run} has begun"),
            Self::Held { source, why } => format!("{source} has fired, and waits: {why}"),
            Self::Expired(run) => {
                format!("Job {run} has waited too long for its turn, and is given up: see jobWaitingTimeoutSeconds and maxRunningJobs")
            }
            Self::Deleted(run) => format!("Job {run} was deleted before it began, and is made again"),
            Self::Finished { run, source, result } => format!("Job {run} for {source} is over: {result:?}"),
            Self::RequestsDropped(message) | Self::Failing { message, .. } | Self::Recovered(message) => message.clone(),
        };
        note.truncate(note.floor_char_boundary(MAX_NOTE));
        note
    }
}

fn registered(run: &RunRef, request: &RunRequest) -> String {
    let RunRequest { key, commit, previous, .. } = request;
    let was = match previous {
        Some(previous) if previous == commit => ", as before".to_owned(),
        Some(previous) => format!(", and was at {previous}"),
        None => String::new(),
    };
    format!("{} of {} is at {commit}{was}: Job {run} is registered", key.reference, key.source.name)
}

/// Where happenings are told. Clones share it.
#[derive(Clone)]
pub struct Events(mpsc::Sender<(ObjectReference, Happening)>);

impl Events {
    /// Events by this instance of the operator, and what publishes them.
    pub fn new(client: Client, instance: String) -> (Self, Publisher) {
        let (sender, told) = mpsc::channel(MAX_WAITING);
        let reporter = Reporter { controller: crd::GROUP.to_owned(), instance: Some(instance) };
        (Self(sender), Publisher { client, reporter, told })
    }

    /// Tells of something, without waiting. It is to be told once, not as long as it is so.
    pub fn tell(&self, about: ObjectReference, happening: Happening) {
        if let Err(refused) = self.0.try_send((about, happening)) {
            debug!("an Event is dropped: {refused}");
        }
    }
}

/// Publishes what is told.
pub struct Publisher {
    client: Client,
    reporter: Reporter,
    told: mpsc::Receiver<(ObjectReference, Happening)>,
}

impl Publisher {
    /// Publishes for as long as there is somebody to tell of something. What cannot be published is dropped.
    pub async fn publish(mut self) {
        while let Some((about, happening)) = self.told.recv().await {
            let related = happening.run().map(|run| job(about.namespace.clone(), run));
            let event = Event {
                type_: if happening.is_warning() { EventType::Warning } else { EventType::Normal },
                reason: happening.reason(),
                note: Some(happening.note()),
                action: happening.action().to_owned(),
                secondary: related,
            };
            // One that is used again keeps the note of the first Event of a reason for all others.
            let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
            match tokio::time::timeout(PUBLISHED_WITHIN, recorder.publish(&event, &about)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!("an Event cannot be published: {error}"),
                Err(_elapsed) => warn!("an Event cannot be published: the API server does not answer"),
            }
        }
    }
}

/// A trigger, as the object of an Event.
pub fn trigger(id: &TriggerId) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{}/{}", crd::GROUP, crd::VERSION)),
        kind: Some(id.kind.clone()),
        namespace: Some(id.namespace.clone()),
        name: Some(id.name.clone()),
        uid: Some(id.uid.clone()),
        ..ObjectReference::default()
    }
}

fn job(namespace: Option<String>, run: &RunRef) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        namespace,
        name: Some(run.name.clone()),
        uid: Some(run.uid.clone()),
        ..ObjectReference::default()
    }
}
