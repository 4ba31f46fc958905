//! The backends of the ports on a real cluster.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

#[path = "kube_backends/jobs.rs"]
mod jobs;
#[path = "kube_backends/run.rs"]
mod run;
#[path = "kube_backends/store.rs"]
mod store;

use std::time::{Duration, Instant};

use git_events_runner_core::{TriggerId, crd};
use git_events_runner_tests::cluster::{Cluster, Mode};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, PostParams},
};
use serde_json::{Value, json};

/// How long what the controllers do may take.
const WITHIN: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

async fn cluster() -> &'static Cluster {
    Cluster::shared(Mode::ControlPlane).await.unwrap()
}

fn triggers(client: &Client, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let kind = match kind {
        "ScheduleTrigger" => ApiResource::erase::<crd::ScheduleTrigger>(&()),
        _ => ApiResource::erase::<crd::WebhookTrigger>(&()),
    };
    Api::namespaced_with(client.clone(), namespace, &kind)
}

fn trigger_id(trigger: &DynamicObject) -> TriggerId {
    let metadata = trigger.metadata.clone();
    TriggerId {
        kind: trigger.types.clone().unwrap().kind,
        namespace: metadata.namespace.unwrap(),
        name: metadata.name.unwrap(),
        uid: metadata.uid.unwrap(),
    }
}

/// Creates a trigger, or answers the one that is there.
async fn create_trigger(client: &Client, kind: &str, namespace: &str, name: &str) -> DynamicObject {
    let mut spec = json!({ "sources": { "names": ["app"] }, "action": { "kind": "Action", "name": "deploy" } });
    match kind {
        "ScheduleTrigger" => spec["schedule"] = json!({ "interval": "1day" }),
        _ => spec["webhook"] = json!({ "allowUnauthenticated": true }),
    }
    let api = triggers(client, kind, namespace);
    let object: Value = json!({ "apiVersion": "git-events-runner.rs/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    match api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await {
        Err(kube::Error::Api(answer)) if answer.is_already_exists() => api.get(name).await.unwrap(),
        created => created.unwrap(),
    }
}

/// Waits until something is there; in the end it fails, saying what was waited for.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WITHIN;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {WITHIN:?}");
        tokio::time::sleep(LOOK).await;
    }
}
