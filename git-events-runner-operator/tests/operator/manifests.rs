//! Manifests that differ from one test to the next by a field or two.

use serde_json::{Value, json};

/// The annotation of an action whose Jobs run until somebody ends them.
pub const FOR_EVER: (&str, &str) = ("test/run-for", "24h");

/// An object of one of our kinds.
pub fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "git-events-runner.rs/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// The same object with another value of a field of its spec.
pub fn with(mut object: Value, field: &str, value: impl Into<Value>) -> Value {
    let target = field.split('.').fold(&mut object["spec"], |within, part| &mut within[part]);
    *target = value.into();
    object
}

pub fn git_repo(name: &str, uri: &str) -> Value {
    object("GitRepo", name, json!({ "repoUri": uri }))
}

/// A ScheduleTrigger that looks for changes of a GitRepo each second.
pub fn schedule_trigger(name: &str, source: &str, action: &str) -> Value {
    let spec =
        json!({ "sources": { "names": [source] }, "schedule": { "interval": "1s" }, "action": { "kind": "Action", "name": action } });
    object("ScheduleTrigger", name, spec)
}

/// A WebhookTrigger that looks for changes of a GitRepo when anybody asks.
pub fn webhook_trigger(name: &str, source: &str, action: &str) -> Value {
    let webhook = json!({ "allowUnauthenticated": true });
    let spec = json!({ "sources": { "names": [source] }, "webhook": webhook, "action": { "kind": "Action", "name": action } });
    object("WebhookTrigger", name, spec)
}

/// An Action of which each Job runs for a second, and succeeds.
pub fn action(name: &str) -> Value {
    object("Action", name, json!({ "actionJob": {} }))
}

/// An Action with an annotation, by which the simulated node runs its Jobs otherwise.
pub fn action_that(name: &str, (annotation, value): (&str, &str)) -> Value {
    object("Action", name, json!({ "actionJob": { "annotations": { annotation: value } } }))
}

pub fn secret(name: &str, values: &[(&str, &str)]) -> Value {
    let values: serde_json::Map<_, _> = values.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": values })
}

/// The ConfigMap with the runtime config.
pub fn runtime_config(text: &str) -> Value {
    let metadata = json!({ "name": "git-events-runner-config" });
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "runtimeConfig": text } })
}
