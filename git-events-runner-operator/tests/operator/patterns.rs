//! Triggers that watch some files only.

use git_events_runner_core::CommitId;
use git_events_runner_tests::Auth;
use serde_json::{Value, json};

use super::{
    fixture::{Fixture, request},
    manifests::{action, git_repo, schedule_trigger, with},
};

fn trigger(files: &[&str]) -> Value {
    with(schedule_trigger("it", "app", "act"), "sources.watchOn", json!({ "files": files }))
}

async fn commits(f: &Fixture, runs: usize) -> Vec<CommitId> {
    f.wait_for_succeeded(runs).await.iter().map(|job| request(job).commit).collect()
}

/// Waits until some checks have come after what was done before.
async fn some_checks(f: &Fixture) {
    f.server.take_requests(0).unwrap();
    f.server.take_requests(4).unwrap();
}

#[tokio::test]
async fn only_a_commit_that_changes_a_matching_file_runs_the_action() {
    let f = Fixture::new(Auth::None).await;
    let repo = f.repo("app");
    let push = |path: &str, content: &str| repo.push("main", &[(path, content)]).unwrap();
    let first = push("charts/app/values.yaml", "1");
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    f.put(trigger(&["charts/", "!*.md"])).await;
    let operator = f.operator(&[]);
    assert_eq!(commits(&f, 1).await, [first]);
    let status = f.wait_for_status("ScheduleTrigger", "it", "it has a digest", |status| {
        status["checkedSources"]["app"]["fileHash"].as_str().is_some_and(|digest| digest.len() == 64)
    });
    let digest = status.await["checkedSources"]["app"]["fileHash"].clone();

    push("README.md", "1");
    push("charts/README.md", "1");
    some_checks(&f).await;
    let second = push("charts/app/values.yaml", "2");
    assert_eq!(commits(&f, 2).await, [first, second]);

    // Other patterns compare the commits again, and a leader that knows nothing yet does so too.
    f.patch("ScheduleTrigger", "it", json!({ "spec": { "sources": { "watchOn": { "files": ["values.yaml"] } } } })).await;
    push("README.md", "2");
    some_checks(&f).await;
    drop(operator);
    let _operator = f.operator(&[]);
    some_checks(&f).await;
    assert_eq!(f.jobs().await.len(), 2);
    let third = push("values.yaml", "1");
    assert_eq!(commits(&f, 3).await, [first, second, third]);
    let status = f.status("ScheduleTrigger", "it").await;
    assert_ne!(status["checkedSources"]["app"]["fileHash"], digest);

    f.patch("ScheduleTrigger", "it", json!({ "spec": { "sources": { "watchOn": { "files": ["nothing"] } } } })).await;
    let fourth = push("README.md", "3");
    assert_eq!(commits(&f, 4).await[3], fourth, "where no file matches, every commit counts");
}

#[tokio::test]
async fn patterns_that_cannot_be_used_stall_the_trigger_and_the_message_says_which() {
    let f = Fixture::new(Auth::None).await;
    let repo = f.repo("app");
    let tip = repo.push("main", &[("a", "1")]).unwrap();
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    f.put(trigger(&["a", "{b"])).await;
    let _operator = f.operator(&[]);
    f.wait_for_ready("ScheduleTrigger", "it", "False", "InvalidSpec").await;
    let stalled = f.wait_for_status("ScheduleTrigger", "it", "the message", |status| {
        status["conditions"].to_string().contains("spec.sources.watchOn.files: files[1] cannot be read: unclosed alternate group")
    });
    stalled.await;
    f.patch("ScheduleTrigger", "it", json!({ "spec": { "sources": { "watchOn": { "files": ["a", "b"] } } } })).await;
    assert_eq!(commits(&f, 1).await, [tip]);
}
