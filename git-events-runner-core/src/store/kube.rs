use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use async_trait::async_trait;
use jiff::Timestamp;
use kube::{
    Api, Client, Error,
    api::{ApiResource, Patch, PatchParams},
    core::Object,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Accepted, FireRequest, Inbox, Loaded, StateError, StateStore, Version};
use crate::{Cause, Change, TriggerId, TriggerState, crash_point::written, crd, job::FIELD_MANAGER};

/// How often a request is tried to be written beside others.
const ATTEMPTS: usize = 20;

/// How many triggers there can be of which the requests that met others take turns. Triggers share a turn by their hash.
const TURNS: usize = 64;

/// What is read of a trigger, of either kind.
type Stored = Object<crd::TriggerSpec, crd::TriggerStatus>;

/// Keeps the state of triggers in their own status.
///
/// The time in `checkedSources.{name}.changed` is that of the clock here.
pub struct KubeStore {
    client: Client,
    turns: [Mutex<()>; TURNS],
}

impl KubeStore {
    /// The states of all triggers that this client can reach.
    pub fn new(client: Client) -> Self {
        Self { client, turns: [(); TURNS].map(Mutex::new) }
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
    async fn read(&self, id: &TriggerId) -> Result<(Stored, TriggerState), StateError> {
        let stored = self.api(id)?.get(&id.name).await.map_err(|error| failed(id, error))?;
        if stored.metadata.uid.as_ref() != Some(&id.uid) {
            return Err(StateError::NotFound(id.clone()));
        }
        let reference = stored.spec.sources.watch_on.reference.reference();
        let reference = reference.map_err(|error| StateError::Malformed(format!("{id}: spec.sources.watchOn.reference: {error}")))?;
        let state = stored.status.as_ref().map(|status| status.state(&reference)).transpose();
        let state = state.map_err(|error| StateError::Malformed(format!("{id}: {error}: correct or remove it")))?;
        Ok((stored, state.unwrap_or_default()))
    }

    async fn patch(&self, id: &TriggerId, patch: &Value) -> Result<(), StateError> {
        let by = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.api(id)?.patch_status(&id.name, &by, &Patch::Merge(patch)).await.map_err(|error| failed(id, error))?;
        Ok(())
    }

    /// Adds a request to what is pending now. What others add at the same time is kept; if this request replaces others, that is a conflict.
    async fn add(&self, id: &TriggerId, request: &FireRequest) -> Result<Accepted, StateError> {
        let (stored, before) = self.read(id).await?;
        let mut after = before.clone();
        if after.accept(request).map_err(|_full| StateError::Full(id.clone()))? == Accepted::AlreadyPending {
            return Ok(Accepted::AlreadyPending);
        }
        let pending = crd::merge_patch(&json!(before.pending), &json!(after.pending)).unwrap_or_default();
        let is_replacing = before.pending.keys().any(|id| !after.pending.contains_key(id));
        let version = stored.metadata.resource_version.filter(|_| is_replacing);
        let metadata = version.map_or(json!({}), |version| json!({ "resourceVersion": version }));
        match self.patch(id, &json!({ "metadata": metadata, "status": { "pending": pending } })).await {
            Ok(()) => {
                written("request-recorded");
                Ok(Accepted::Recorded)
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
        let (stored, state) = self.read(id).await?;
        let version = Version(stored.metadata.resource_version.unwrap_or_default());
        Ok(Loaded { state, version, generation: stored.metadata.generation.unwrap_or_default() })
    }

    async fn record(&self, id: &TriggerId, version: &Version, change: &Change) -> Result<(), StateError> {
        let (stored, mut state) = self.read(id).await?;
        if stored.metadata.resource_version.as_ref() != Some(&version.0) {
            return Err(StateError::Conflict);
        }
        change.apply(&mut state);
        let before = stored.status.unwrap_or_default();
        let mut after = before.clone();
        after.set_state(&state, Timestamp::now());
        let Some(status) = crd::merge_patch(&json!(before), &json!(after)) else { return Ok(()) };
        self.patch(id, &json!({ "metadata": { "resourceVersion": version.0 }, "status": status })).await?;
        written("state-recorded");
        Ok(())
    }
}

#[async_trait]
impl Inbox for KubeStore {
    async fn request(&self, id: &TriggerId, request: &FireRequest) -> Result<Accepted, StateError> {
        let mut turn = None;
        for _ in 0..ATTEMPTS {
            match self.add(id, request).await {
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
