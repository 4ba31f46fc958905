use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Client, Error,
    api::{ApiResource, Patch, PatchParams},
    core::Object,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Accepted, FireRequest, Inbox, Loaded, StateError, StateStore, Version};
use crate::{Cause, Change, MAX_PENDING, PendingFull, TriggerId, crash_point::written, crd, job::FIELD_MANAGER};

/// How often a request is tried to be written beside others.
const ATTEMPTS: usize = 20;

/// How many triggers there can be of which the requests that met others take turns. Triggers share a turn by their hash.
const TURNS: usize = 64;

/// The version of what was recorded perhaps: nothing that a watch sees is new enough.
const UNKNOWN: u64 = u64::MAX;

/// What is read of a trigger, of either kind.
type Stored = Object<crd::TriggerSpec, crd::TriggerStatus>;

/// Keeps the state of triggers in their own status.
///
/// The time in `checkedSources.{name}.changed` is that of the clock here.
pub struct KubeStore {
    client: Client,
    turns: [Mutex<()>; TURNS],
    watched: Option<Watched>,
    /// The resourceVersion of what was recorded and is not seen by the watch yet, or [`UNKNOWN`].
    unseen: std::sync::Mutex<HashMap<TriggerId, u64>>,
}

/// What a watch has seen of a trigger.
type Watched = Box<dyn Fn(&TriggerId) -> Option<Loaded> + Send + Sync>;

impl KubeStore {
    /// The states of all triggers that this client can reach.
    pub fn new(client: Client) -> Self {
        Self { client, turns: [(); TURNS].map(Mutex::new), watched: None, unseen: std::sync::Mutex::default() }
    }

    /// Answers from what somebody watches where a state may be a moment behind, so that an evaluation that finds nothing asks the API server
    /// for nothing. `watched` is the latest that was seen of a trigger, made by [`loaded`](Self::loaded).
    #[must_use]
    pub fn with_watch(mut self, watched: impl Fn(&TriggerId) -> Option<Loaded> + Send + Sync + 'static) -> Self {
        self.watched = Some(Box::new(watched));
        self
    }

    /// What an object says of the trigger that it is. None: it is another one by now, or its status cannot be read.
    pub fn loaded(id: &TriggerId, meta: &ObjectMeta, spec: &crd::TriggerSpec, status: Option<&crd::TriggerStatus>) -> Option<Loaded> {
        loaded(id, meta, spec, status).ok()
    }

    /// Forgets triggers that are gone.
    pub fn retain(&self, is_there: impl Fn(&TriggerId) -> bool) {
        self.unseen().retain(|id, _| is_there(id));
    }

    fn api(&self, id: &TriggerId) -> Result<Api<Stored>, StateError> {
        let kind = match id.kind.as_str() {
            "ScheduleTrigger" => ApiResource::erase::<crd::ScheduleTrigger>(&()),
            "WebhookTrigger" => ApiResource::erase::<crd::WebhookTrigger>(&()),
            _ => return Err(StateError::NotFound(id.clone())),
        };
        Ok(Api::namespaced_with(self.client.clone(), &id.namespace, &kind))
    }

    /// What was written last: without a resourceVersion, the API server does not answer from a cache that may be older.
    async fn read(&self, id: &TriggerId) -> Result<(Stored, Loaded), StateError> {
        let stored = self.api(id)?.get(&id.name).await.map_err(|error| failed(id, error))?;
        let loaded = loaded(id, &stored.metadata, &stored.spec, stored.status.as_ref())?;
        Ok((stored, loaded))
    }

    async fn patch(&self, id: &TriggerId, patch: &Value) -> Result<Stored, StateError> {
        let by = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.api(id)?.patch_status(&id.name, &by, &Patch::Merge(patch)).await.map_err(|error| failed(id, error))
    }

    fn unseen(&self) -> MutexGuard<'_, HashMap<TriggerId, u64>> {
        self.unseen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds requests to what is pending now. What others add at the same time is kept; if one of these replaces others, or there is little room,
    /// that is a conflict.
    async fn add(&self, id: &TriggerId, requests: &[FireRequest]) -> Result<Vec<Result<Accepted, PendingFull>>, StateError> {
        let (_, Loaded { state: before, version, .. }) = self.read(id).await?;
        let mut after = before.clone();
        let accepted: Vec<_> = requests.iter().map(|request| after.accept(request)).collect();
        if !accepted.contains(&Ok(Accepted::Recorded)) {
            return Ok(accepted);
        }
        let pending = crd::merge_patch(&json!(before.pending), &json!(after.pending)).unwrap_or_default();
        let is_replacing = before.pending.keys().any(|id| !after.pending.contains_key(id));
        // Others who add at the same time do not know of these.
        let may_be_too_many = after.pending.len() > MAX_PENDING / 2;
        let metadata = if is_replacing || may_be_too_many { json!({ "resourceVersion": version.0 }) } else { json!({}) };
        match self.patch(id, &json!({ "metadata": metadata, "status": { "pending": pending } })).await {
            Ok(_) => {
                written("request-recorded");
                Ok(accepted)
            }
            // There was room, and somebody else was faster: another look tells whether there is still some.
            Err(StateError::Full(_)) => Err(StateError::Conflict),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl StateStore for KubeStore {
    async fn load(&self, id: &TriggerId) -> Result<Loaded, StateError> {
        let (_, loaded) = self.read(id).await?;
        if let Some(unknown) = self.unseen().get_mut(id).filter(|version| **version == UNKNOWN) {
            *unknown = resource_version(&loaded.version).unwrap_or(UNKNOWN);
        }
        Ok(loaded)
    }

    fn recent(&self, id: &TriggerId) -> Option<Loaded> {
        let watched = self.watched.as_ref()?(id)?;
        let mut unseen = self.unseen();
        if let Some(recorded) = unseen.get(id) {
            if resource_version(&watched.version)? < *recorded {
                return None;
            }
            unseen.remove(id);
        }
        Some(watched)
    }

    async fn record(&self, id: &TriggerId, version: &Version, change: &Change) -> Result<(), StateError> {
        let (stored, Loaded { mut state, version: current, .. }) = self.read(id).await?;
        if current != *version {
            return Err(StateError::Conflict);
        }
        change.apply(&mut state);
        let before = stored.status.unwrap_or_default();
        let mut after = before.clone();
        after.set_state(&state, Timestamp::now());
        let Some(status) = crd::merge_patch(&json!(before), &json!(after)) else { return Ok(()) };
        let patch = json!({ "metadata": { "resourceVersion": version.0 }, "status": status });
        if self.watched.is_some() {
            // Also if there is no answer.
            self.unseen().insert(id.clone(), UNKNOWN);
        }
        let recorded = self.patch(id, &patch).await?;
        written("state-recorded");
        if let (Some(_), Some(version)) = (&self.watched, resource_version(&version_of(&recorded.metadata))) {
            self.unseen().insert(id.clone(), version);
        }
        Ok(())
    }
}

#[async_trait]
impl Inbox for KubeStore {
    async fn request_all(&self, id: &TriggerId, requests: &[FireRequest]) -> Result<Vec<Result<Accepted, PendingFull>>, StateError> {
        let mut turn = None;
        for _ in 0..ATTEMPTS {
            match self.add(id, requests).await {
                // Of many requests to one trigger at once, all but one would meet each other again and again.
                Err(StateError::Conflict) if turn.is_none() => {
                    let mut hash = DefaultHasher::new();
                    id.hash(&mut hash);
                    turn = Some(self.turns[hash.finish() as usize % TURNS].lock().await);
                }
                Err(StateError::Conflict) => {}
                done => return done,
            }
        }
        Err(unavailable(format!("{id} is written by too many at once")))
    }
}

fn loaded(id: &TriggerId, meta: &ObjectMeta, spec: &crd::TriggerSpec, status: Option<&crd::TriggerStatus>) -> Result<Loaded, StateError> {
    if meta.uid.as_ref() != Some(&id.uid) {
        return Err(StateError::NotFound(id.clone()));
    }
    let reference = spec.sources.watch_on.reference.reference();
    let reference = reference.map_err(|error| StateError::Malformed(format!("{id}: spec.sources.watchOn.reference: {error}")))?;
    let state = status.map(|status| status.state(&reference)).transpose();
    let state = state.map_err(|error| StateError::Malformed(format!("{id}: {error}: correct or remove it")))?;
    Ok(Loaded { state: state.unwrap_or_default(), version: version_of(meta), generation: meta.generation.unwrap_or_default() })
}

fn version_of(meta: &ObjectMeta) -> Version {
    Version(meta.resource_version.clone().unwrap_or_default())
}

/// Versions of one object are numbers that grow: Kubernetes promises that since 1.35, and has always made them so.
fn resource_version(Version(text): &Version) -> Option<u64> {
    text.parse().ok()
}

fn unavailable(cause: impl Into<Cause>) -> StateError {
    StateError::Unavailable(cause.into())
}

fn failed(id: &TriggerId, error: Error) -> StateError {
    match &error {
        Error::Api(status) if status.is_not_found() => StateError::NotFound(id.clone()),
        Error::Api(status) if status.is_conflict() => StateError::Conflict,
        Error::Api(status) if is_too_much(status) => StateError::Full(id.clone()),
        _ => unavailable(error),
    }
}

fn is_too_much(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.is_invalid() && causes.into_iter().any(|cause| cause.field == "status.pending" && cause.reason == "FieldValueTooMany")
}
