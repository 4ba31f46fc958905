//! What people do and see by the program itself: `trigger`, `status`, and the page.

use std::process::{Command, Output};

use git_events_runner_core::{RunPhase, crd, job};
use git_events_runner_tests::Auth;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use serde_json::json;

use super::{
    fixture::{Fixture, wait_for},
    manifests::{FOR_EVER, action, action_that, git_repo, schedule_trigger, webhook_trigger, with},
};

/// Runs the program with what the operator may do, as somebody does in its Pod.
fn run(f: &Fixture, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_git-events-runner"));
    command.args(args).args(["--namespace", &f.namespace]).env("KUBECONFIG", &f.account).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Source `app`, and triggers whose Jobs succeed and fail. None fires by itself after the first check.
async fn fixture() -> Fixture {
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[]).unwrap();
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("succeeds")).await;
    f.put(action_that("fails", ("test/outcome", "Failed"))).await;
    f.put(with(schedule_trigger("nightly", "app", "succeeds"), "schedule.interval", "1h")).await;
    f.put(webhook_trigger("hook", "app", "fails")).await;
    f
}

#[tokio::test]
async fn a_trigger_fired_by_hand_runs_and_its_end_is_waited_for() {
    let f = fixture().await;
    let _operator = f.operator(&[]);
    f.wait_for_succeeded(1).await;

    let fired = run(&f, &["trigger", "scheduletrigger/nightly", "--wait", "--timeout", "60s"]);
    assert!(fired.status.success(), "{fired:?}");
    let job = f.wait_for_succeeded(2).await.pop().unwrap();
    let (first, rest) = text(&fired.stdout).split_once('\n').unwrap();
    assert_eq!(first, "scheduletrigger/nightly is fired");
    assert!(rest.ends_with(&format!("app: job/{} has succeeded\n", job.name_any())), "{rest}");

    let failed = run(&f, &["trigger", "wt/hook", "--wait", "--timeout", "60s"]);
    assert_eq!((failed.status.code(), text(&failed.stderr)), (Some(1), ""));
    let failed_job = f.jobs().await.into_iter().find(|job| job.labels()[job::TRIGGER_NAME] == "hook").unwrap();
    assert!(text(&failed.stdout).ends_with(&format!("app: job/{} has failed\n", failed_job.name_any())), "{failed:?}");

    f.wait_for_status("WebhookTrigger", "hook", "its result", |status| status["lastResult"] == "Failed").await;
    f.wait_for_status("ScheduleTrigger", "nightly", "its result", |status| status["lastResult"] == "Succeeded").await;
    let status = run(&f, &["status"]);
    let table: Vec<Vec<&str>> =
        text(&status.stdout).lines().map(|line| line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(table[0], ["NAMESPACE", "TRIGGER", "READY", "REASON", "SOURCE", "COMMIT", "JOB", "RESULT", "FINISHED", "NEXT"]);
    let (job, failed_job) = (job.name_any(), failed_job.name_any());
    for (line, [trigger, job, result]) in
        [(1, ["scheduletrigger/nightly", &job, "Succeeded"]), (2, ["webhooktrigger/hook", &failed_job, "Failed"])]
    {
        let line = &table[line];
        assert_eq!((line[1], line[2], line[3], line[4], line[6], line[7]), (trigger, "True", "Watching", "app", job, result), "{table:?}");
    }
    assert!(table[1][9].starts_with("in ") && table[2][9] == "-", "{table:?}");
}

#[tokio::test]
async fn the_page_shows_the_triggers() {
    let f = fixture().await;
    let operator = f.operator(&[]);
    f.wait_for_succeeded(1).await;
    let job = f.jobs().await.pop().unwrap().name_any();
    let shows = || operator.utility("/").ok().filter(|(code, page)| *code == 200 && page.contains(&job));
    let (_, page) = git_events_runner_tests::wait_for("the page", shows).unwrap();
    assert!(page.contains("<td>scheduletrigger/nightly</td>") && page.contains("<td>webhooktrigger/hook</td>"), "{page}");
}

#[tokio::test]
async fn what_cannot_be_fired_or_waited_for_says_why() {
    let f = fixture().await;
    let refused = |args: &[&str]| {
        let refused = run(&f, args);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        text(&refused.stderr).trim_end().to_owned()
    };
    let namespace = &f.namespace;
    assert_eq!(
        refused(&["trigger", "st/nowhere"]),
        format!("git-events-runner: there is no scheduletrigger/nowhere in the namespace {}", &**namespace)
    );
    f.patch("WebhookTrigger", "hook", json!({ "spec": { "suspend": true } })).await;
    assert!(refused(&["trigger", "wt/hook", "--wait"]).contains("it is suspended"));
    let fired = run(&f, &["trigger", "wt/hook"]);
    assert_eq!(text(&fired.stdout), "webhooktrigger/hook is fired, and runs when it is not suspended any more\n");

    let _operator = f.operator(&[]);
    f.put(action_that("rests", FOR_EVER)).await;
    f.patch("ScheduleTrigger", "nightly", json!({ "spec": { "action": { "name": "rests" } } })).await;
    let told = refused(&["trigger", "st/nightly", "--wait", "--timeout", "2s"]);
    assert_eq!(told, "git-events-runner: scheduletrigger/nightly: its runs have not ended within 2s");
    f.patch("ScheduleTrigger", "nightly", json!({ "spec": { "sources": { "names": ["nothing"] } } })).await;
    f.wait_for_ready("ScheduleTrigger", "nightly", "False", "NotFound").await;

    for (wrong, why) in
        [("nightly", "write it as KIND/NAME"), ("job/nightly", "the kind is scheduletrigger or"), ("st/A", "a name is at most")]
    {
        let refused = run(&f, &["trigger", wrong]);
        assert!(refused.status.code() == Some(2) && text(&refused.stderr).contains(why), "{refused:?}");
    }
}

#[tokio::test]
async fn a_request_by_hand_that_finds_no_room_keeps_nothing_from_going_on() {
    let f = fixture().await;
    f.put(action_that("goes-on", FOR_EVER)).await;
    let busy = with(webhook_trigger("busy", "app", "goes-on"), "sources.watchOn", json!({ "onChangeOnly": false }));
    f.put(with(busy, "concurrencyPolicy", "Forbid")).await;
    let operator = f.operator(&[]);
    let path = format!("/{}/busy/app", f.namespace);
    let code = || operator.webhook(&path, ("x-unused", "")).unwrap().status;
    assert_eq!(code(), 202);
    let is_of_busy = |found: &&Job| found.labels()[job::TRIGGER_NAME] == "busy";
    let running = async || f.jobs().await.iter().filter(is_of_busy).find(|found| job::phase(found) == RunPhase::Running).cloned();
    let first = wait_for("the first Job runs", running).await;
    while code() == 202 {}
    f.patch("WebhookTrigger", "busy", json!({ "metadata": { "annotations": { (crd::REQUESTED_AT): "now" } } })).await;
    wait_for("it is said why that waits", async || {
        operator.logs().iter().any(|line| line.contains("a request by hand waits")).then_some(())
    })
    .await;

    f.end(&first).await;
    wait_for("the next Job runs", running).await;
    f.wait_for_status("WebhookTrigger", "busy", "it is taken", |status| status["lastHandledRequest"] == "now").await;
}
