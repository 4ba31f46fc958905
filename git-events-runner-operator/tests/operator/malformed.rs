//! Objects that were made when their kind was defined otherwise.

use git_events_runner_core::crd;
use git_events_runner_tests::Auth;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    fixture::{Fixture, condition, request, wait_for},
    manifests::{action, git_repo, object, schedule_trigger, webhook_trigger},
    policies::ask,
};

/// Whether the API server takes this as an object of its kind.
async fn takes(f: &Fixture, object: &Value) -> bool {
    let params = PatchParams { dry_run: true, ..PatchParams::apply("tester").force() };
    let kind = object["kind"].as_str().unwrap();
    f.api(kind).patch("trial", &params, &Patch::Apply(with_name(object, "trial"))).await.is_ok()
}

fn with_name(object: &Value, name: &str) -> Value {
    let mut object = object.clone();
    object["metadata"]["name"] = name.into();
    object
}

/// Defines all kinds, with what specs and states are left open or not.
async fn define(f: &Fixture, is_open: bool, malformed: &[Value]) {
    let definitions = Api::<CustomResourceDefinition>::all(f.client.clone());
    for mut definition in crd::all() {
        let version = &mut definition.spec.versions[0];
        if is_open {
            let schema = version.schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
            let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
            for part in ["spec", "status"] {
                schema.properties.as_mut().unwrap().insert(part.to_owned(), serde_json::from_value(open.clone()).unwrap());
            }
        }
        let versions = json!({ "spec": { "versions": definition.spec.versions } });
        definitions.patch(&definition.name_any(), &PatchParams::default(), &Patch::Merge(versions)).await.unwrap();
    }
    for object in malformed {
        wait_for("the definition is in force", async || (takes(f, object).await == is_open).then_some(())).await;
    }
}

#[tokio::test]
async fn malformed_objects_keep_no_other_from_working_and_say_what_is_wrong() {
    let f = Fixture::alone(Auth::None).await;
    let first = f.repo("app").push("main", &[]).unwrap();
    let malformed = [
        object("GitRepo", "malformed", json!({ "repoUri": 5 })),
        object("ClusterGitRepo", "malformed", json!({ "repoUri": ["https://git.example.com/app"] })),
        object("Action", "malformed", json!({ "actionJob": "run" })),
        object("ClusterAction", "malformed", json!({ "actionJob": { "args": "run" } })),
        object("ScheduleTrigger", "malformed", json!({ "sources": "all" })),
        object("WebhookTrigger", "malformed", json!({ "sources": { "names": ["app"] }, "webhook": true })),
    ];
    define(&f, true, &malformed).await;
    for object in &malformed {
        f.put(object.clone()).await;
    }
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    let states = [
        ("no-status", json!({ "checkedSources": [] }), "Expected a map"),
        (
            "no-commit",
            json!({ "checkedSources": { "app": { "commitHash": "main", "sequence": 1 } } }),
            "status.checkedSources.app.commitHash",
        ),
    ];
    for (name, status, _) in &states {
        f.put(schedule_trigger(name, "app", "act")).await;
        f.api("ScheduleTrigger").patch_status(name, &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await.unwrap();
    }
    define(&f, false, &malformed).await;
    f.put(schedule_trigger("it", "app", "act")).await;
    f.put(schedule_trigger("names-malformed", "malformed", "act")).await;
    f.put(webhook_trigger("asked", "app", "act")).await;
    let operator = f.operator(&[]);

    ask(&f, &operator, "asked/app").await;
    let answer = operator.webhook(&format!("/{}/malformed/app", &*f.namespace), ("x-unused", "")).unwrap();
    assert_eq!(answer.status, 503, "it is there, and is to be asked again when it is corrected: {answer:?}");
    let jobs = f.wait_for_succeeded(2).await;
    assert!(jobs.iter().all(|job| request(job).commit == first));
    for object in &malformed {
        let kind = object["kind"].as_str().unwrap();
        let line = operator.wait_for_line(&format!("object.ref={kind}.v1alpha1.git-events-runner.rs/malformed")).unwrap();
        assert!(line.contains("it is malformed: "), "{line}");
    }
    // Of the others the API server takes no status: their rules cannot be evaluated.
    for kind in ["Action", "ClusterAction", "ScheduleTrigger"] {
        let status = f.wait_for_ready(kind, "malformed", "False", "InvalidSpec").await;
        assert!(condition(&status, "Stalled").is_some(), "{kind}: {status}");
    }
    for (name, _, says) in states {
        let status = f.wait_for_ready("ScheduleTrigger", name, "False", "InvalidSpec").await;
        let message = condition(&status, "Stalled").unwrap()["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
    }
    f.wait_for_ready("ScheduleTrigger", "names-malformed", "False", "InvalidSpec").await;
    for (kind, name, reason) in [("ScheduleTrigger", "it", "Watching"), ("GitRepo", "app", "Reachable"), ("Action", "act", "Valid")] {
        f.wait_for_ready(kind, name, "True", reason).await;
    }
}
