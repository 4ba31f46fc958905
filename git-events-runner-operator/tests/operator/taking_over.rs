//! Taking over from the published operator: its objects as it leaves them.

use git_events_runner_tests::{Auth, GitRepo};
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    fixture::{Fixture, request, wait_for},
    manifests::{action, git_repo, schedule_trigger, webhook_trigger, with},
    policies::ask,
};

const FINALIZER: &str = "scheduletriggers.git-events-runner.rs";

/// Creates a trigger with the finalizer and a status of the published operator.
async fn left(f: &Fixture, mut trigger: Value, status: Value) {
    trigger["metadata"]["finalizers"] = json!([FINALIZER, "test/other"]);
    f.put(trigger.clone()).await;
    let [kind, name] = [&trigger["kind"], &trigger["metadata"]["name"]].map(|text| text.as_str().unwrap());
    f.api(kind).patch_status(name, &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await.unwrap();
}

fn seen(commit: &str) -> Value {
    let files = "8c7dd922ad47494fc02c388e12c00eac278a5a1c55f64bbb1ad1eaeb0a6ea23d";
    let checked = json!({ "commitHash": commit, "fileHash": files, "changed": "2024-07-01T10:00:00.123456789+00:00" });
    json!({ "state": "Idle", "lastRun": "2024-07-01T10:00:01.123456789+00:00", "checkedSources": { "app": checked } })
}

/// The triggers of which something has run, in that order.
async fn ran(f: &Fixture, times: usize) -> Vec<String> {
    let jobs = f.wait_for_succeeded(times).await;
    jobs.iter().map(|job| request(job).key.trigger.name).collect()
}

fn push(repo: &GitRepo, file: &str, content: &str) -> String {
    repo.push("main", &[(file, content)]).unwrap().to_string()
}

#[tokio::test]
async fn what_the_published_operator_leaves_is_taken_over_without_a_run() {
    let f = Fixture::new(Auth::None).await;
    let repo = f.repo("app");
    let tip = push(&repo, "file", "1");
    repo.tag_annotated("v1", tip.parse().unwrap()).unwrap();
    let tag = repo.git(&["rev-parse", "v1"]).unwrap();
    assert_ne!(tag, tip);
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    left(&f, schedule_trigger("all", "app", "act"), seen(&tip)).await;
    left(&f, with(schedule_trigger("tag", "app", "act"), "sources.watchOn.reference", json!({ "tag": "v1" })), seen(&tag)).await;
    left(&f, webhook_trigger("asked", "app", "act"), seen(&tip)).await;
    left(&f, webhook_trigger("never", "app", "act"), json!({ "state": "Idle", "lastRun": "Never", "checkedSources": {} })).await;
    left(&f, schedule_trigger("goes", "app", "act"), seen(&tip)).await;
    f.patch("ScheduleTrigger", "goes", json!({ "metadata": { "finalizers": [FINALIZER] } })).await;
    f.delete("ScheduleTrigger", "goes").await;
    assert!(f.get("ScheduleTrigger", "goes").await.unwrap().metadata.deletion_timestamp.is_some());

    let operator = f.operator(&[]);
    wait_for("the one that is deleted goes", async || f.get("ScheduleTrigger", "goes").await.is_none().then_some(())).await;
    let mut kinds = vec![("WebhookTrigger", "asked"), ("WebhookTrigger", "never")];
    kinds.extend(["all", "tag"].map(|name| ("ScheduleTrigger", name)));
    for (kind, name) in kinds {
        f.wait_for_ready(kind, name, "True", "Watching").await;
        assert_eq!(f.get(kind, name).await.unwrap().finalizers(), ["test/other"], "{name}");
        f.patch(kind, name, json!({ "metadata": { "finalizers": null } })).await;
    }
    assert!(f.jobs().await.is_empty());
    let never = f.get("WebhookTrigger", "never").await.unwrap().data;
    assert_eq!(never["status"].get("lastRun"), None, "kubectl would show an invalid time");

    let newest = push(&repo, "file", "2");
    assert_eq!(ran(&f, 1).await, ["all"]);
    let of_request = ask(&f, &operator, "asked/app").await;
    assert_eq!(ran(&f, 2).await[1], "asked");
    repo.tag_annotated("v1", newest.parse().unwrap()).unwrap();
    assert_eq!(ran(&f, 3).await[2], "tag");
    let jobs = f.jobs().await;
    for (job, previous) in jobs.iter().zip([&tip, &tip, &tag]) {
        assert_eq!((request(job).commit.to_string(), request(job).previous.unwrap().to_string()), (newest.clone(), previous.clone()));
    }
    assert_eq!(request(&jobs[1]).requests.first().unwrap().to_string(), of_request);
}

#[tokio::test]
async fn a_digest_of_files_by_the_published_operator_is_taken_over_without_a_run() {
    let f = Fixture::new(Auth::None).await;
    let repo = f.repo("app");
    let tip = push(&repo, "file", "1");
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    left(&f, with(schedule_trigger("some", "app", "act"), "sources.watchOn", json!({ "files": ["file"] })), seen(&tip)).await;
    // While no operator is there.
    push(&repo, "other", "1");
    f.server.take_requests(0).unwrap();
    let _operator = f.operator(&["--source-clone-folder", "/nowhere"]);
    f.wait_for_ready("ScheduleTrigger", "some", "True", "Watching").await;
    // Both commits are fetched, and after that there is one request a second.
    f.server.take_requests(10).unwrap();
    assert!(f.jobs().await.is_empty());
    push(&repo, "other", "2");
    let newest = push(&repo, "file", "2");
    assert_eq!(ran(&f, 1).await, ["some"]);
    let job = &f.jobs().await[0];
    assert_eq!((request(job).commit.to_string(), request(job).previous.unwrap().to_string()), (newest, tip));
}
