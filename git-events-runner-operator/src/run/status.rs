//! Writes how objects are into their status, when that is another than what it says.

use std::time::Duration;

use git_events_runner_core::{crd, job::FIELD_MANAGER};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::conditions::{Health, Level};

/// How soon to write a status again that could not be written, and if the API server has refused it.
const SOON: Duration = Duration::from_secs(5);
const LATER: Duration = Duration::from_secs(300);

/// Says how a trigger is. Its status has more than one writer, so this is a merge patch of what is ours alone.
pub async fn of_trigger<K: Resource<DynamicType = ()>>(client: &Client, meta: &ObjectMeta, health: &Health) -> kube::Result<()> {
    let triggers = api::<K>(client, meta);
    let name = meta.name.as_deref().unwrap_or_default();
    let Some(now_there) = triggers.get_opt(name).await?.filter(|found| found.metadata.uid == meta.uid) else { return Ok(()) };
    let status = now_there.data.get("status").cloned().unwrap_or_default();
    let mut said = said(&status, meta, health);
    let state = match health.level {
        Level::Stalled => crd::State::WrongConfig,
        _ => serde_json::from_value::<crd::TriggerStatus>(status.clone()).map(|status| status.usable_state()).unwrap_or_default(),
    };
    said["state"] = json!(state);
    if status["lastRun"] == "Never" {
        // An earlier operator wrote that. People would see an invalid time.
        said["lastRun"] = Value::Null;
    }
    if K::kind(&()) == "WebhookTrigger" {
        said["webhookPath"] = json!(webhook_path(meta, &now_there.data["spec"]));
    }
    if said.as_object().is_some_and(|said| said.iter().all(|(field, value)| status.get(field) == Some(value))) {
        return Ok(());
    }
    write::<K>(client, meta, &said).await
}

/// Where webhooks of a trigger are sent to, whatever else is in its specification.
fn webhook_path(meta: &ObjectMeta, spec: &Value) -> String {
    let path = format!("/{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let sources = spec["sources"]["names"].as_array().map(Vec::as_slice).unwrap_or_default();
    match sources {
        _ if spec["webhook"]["multiSource"] == true => path,
        [Value::String(only)] => format!("{path}/{only}"),
        _ => format!("{path}/{{source}}"),
    }
}

/// Says how a source or an action is. Nobody else writes its status.
pub async fn of_other<K: Resource<DynamicType = ()>>(
    client: &Client,
    meta: &ObjectMeta,
    before: &[Condition],
    health: &Health,
) -> kube::Result<()> {
    write::<K>(client, meta, &said(&json!({ "conditions": before }), meta, health)).await
}

/// When to try again to write a status: later, if there is something about the object for which the API server takes none.
pub fn again(error: &kube::Error) -> Timestamp {
    let is_refused = matches!(error, kube::Error::Api(answer) if answer.is_invalid());
    Timestamp::now() + if is_refused { LATER } else { SOON }
}

/// A merge patch: to an object that is malformed already, an API server applies nothing.
async fn write<K: Resource<DynamicType = ()>>(client: &Client, meta: &ObjectMeta, said: &Value) -> kube::Result<()> {
    // With the uid it is a conflict when the object is another one by now.
    let patch = json!({ "metadata": { "uid": meta.uid }, "status": said });
    let by_us = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let name = meta.name.as_deref().unwrap_or_default();
    match api::<K>(client, meta).patch_status(name, &by_us, &Patch::Merge(patch)).await {
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(()),
        done => done.map(drop),
    }
}

fn said(status: &Value, meta: &ObjectMeta, health: &Health) -> Value {
    let before: Vec<Condition> =
        status.get("conditions").and_then(|before| serde_json::from_value(before.clone()).ok()).unwrap_or_default();
    let conditions = health.conditions(meta.generation, &before, Timestamp::now());
    json!({ "conditions": conditions, "observedGeneration": meta.generation })
}

/// Access to objects whatever is in them.
fn api<K: Resource<DynamicType = ()>>(client: &Client, meta: &ObjectMeta) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<K>(&());
    match &meta.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    }
}
