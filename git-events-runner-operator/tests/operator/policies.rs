//! When a trigger runs its action, and when it holds it back.

use git_events_runner_core::{RunPhase, crd, job};
use git_events_runner_tests::{Auth, Operator};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{
    fixture::{Fixture, condition, request, wait_for},
    manifests::{FOR_EVER, action, action_that, git_repo, schedule_trigger, webhook_trigger, with},
};

/// Posts a request that is to be accepted, and answers its id. The listener may be a moment behind with what the trigger says.
pub async fn ask(f: &Fixture, operator: &Operator, path: &str) -> String {
    let path = format!("/{}/{path}", f.namespace);
    let accepted = async || operator.webhook(&path, ("x-unused", "")).ok().filter(|answer| answer.status == 202);
    let answer = wait_for(&format!("{path} accepts a request"), accepted).await;
    answer.body["task_id"].as_str().unwrap().to_owned()
}

async fn is_held(f: &Fixture, kind: &str, name: &str) {
    f.wait_for_event(kind, name, "RunHeld").await;
}

fn pending(status: &Value) -> usize {
    status["pending"].as_object().map_or(0, serde_json::Map::len)
}

#[tokio::test]
async fn forbid_holds_changes_until_the_job_has_ended_and_then_runs_the_newest() {
    let f = Fixture::new(Auth::None).await;
    let repo = f.repo("app");
    let first = repo.push("main", &[("file", "1")]).unwrap();
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action_that("act", FOR_EVER)).await;
    f.put(with(schedule_trigger("it", "app", "act"), "concurrencyPolicy", "Forbid")).await;
    let _operator = f.operator(&[]);

    let jobs = f.wait_for_phases(&[RunPhase::Running]).await;
    assert_eq!(request(&jobs[0]).commit, first);
    repo.push("main", &[("file", "2")]).unwrap();
    is_held(&f, "ScheduleTrigger", "it").await;
    let newest = repo.push("main", &[("file", "3")]).unwrap();
    f.end(&jobs[0]).await;
    let jobs = f.wait_for_phases(&[RunPhase::Succeeded, RunPhase::Running]).await;
    assert_eq!((request(&jobs[1]).commit, request(&jobs[1]).previous), (newest, Some(first)));
    f.end(&jobs[1]).await;
    let status = f.wait_for_status("ScheduleTrigger", "it", "it is idle", |status| status["state"] == "Idle").await;
    assert_eq!(pending(&status), 0);
    f.server.take_requests(0).unwrap();
    f.server.take_requests(2).unwrap();
    assert_eq!(f.jobs().await.len(), 2);
}

#[tokio::test]
async fn requests_that_always_run_queue_up_and_a_suspended_trigger_keeps_them() {
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[]).unwrap();
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action_that("act", FOR_EVER)).await;
    let trigger = with(webhook_trigger("it", "app", "act"), "concurrencyPolicy", "Forbid");
    let trigger = with(trigger, "sources.watchOn.onChangeOnly", false);
    f.put(trigger.clone()).await;
    let operator = f.operator(&[]);

    let mut asked = vec![ask(&f, &operator, "it/app").await];
    let jobs = f.wait_for_phases(&[RunPhase::Running]).await;
    for _ in 0..2 {
        asked.push(ask(&f, &operator, "it/app").await);
    }
    is_held(&f, "WebhookTrigger", "it").await;
    assert_eq!(f.jobs().await.len(), 1);

    f.put(with(trigger.clone(), "suspend", true)).await;
    f.wait_for_ready("WebhookTrigger", "it", "True", "Suspended").await;
    let refused =
        async || operator.webhook(&format!("/{}/it/app", f.namespace), ("x-unused", "")).ok().filter(|answer| answer.status == 503);
    let refused = wait_for("requests are refused", refused).await;
    assert!(refused.headers.to_ascii_lowercase().contains("retry-after: ") && refused.body["message"] == "the trigger is suspended");
    f.end(&jobs[0]).await;
    let status = f.wait_for_status("WebhookTrigger", "it", "the end is seen", |status| status["lastResult"] == "Succeeded").await;
    assert_eq!((pending(&status), f.jobs().await.len()), (2, 1));

    f.put(trigger).await;
    for begun in 2..=3 {
        let jobs = f.wait_for_jobs("the next runs", |jobs| jobs.len() == begun && job::phase(&jobs[begun - 1]) == RunPhase::Running).await;
        f.end(&jobs[begun - 1]).await;
    }
    let jobs = f.wait_for_phases(&[RunPhase::Succeeded; 3]).await;
    let served: Vec<_> = jobs.iter().flat_map(|job| request(job).requests).map(|id| id.to_string()).collect();
    assert_eq!(served, asked);
}

#[tokio::test]
async fn replace_ends_the_job_that_runs_and_begins_when_it_is_gone() {
    let f = Fixture::new(Auth::None).await;
    let repo = f.repo("app");
    repo.push("main", &[("file", "1")]).unwrap();
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action_that("act", FOR_EVER)).await;
    f.put(with(schedule_trigger("it", "app", "act"), "concurrencyPolicy", "Replace")).await;
    let _operator = f.operator(&[]);

    let jobs = f.wait_for_phases(&[RunPhase::Running]).await;
    // It is gone only when the test lets it go.
    f.patch("Job", &jobs[0].name_any(), json!({ "metadata": { "finalizers": ["test/hold"] } })).await;
    let second = repo.push("main", &[("file", "2")]).unwrap();
    let is_ending = |jobs: &[k8s_openapi::api::batch::v1::Job]| jobs.len() == 2 && jobs[0].metadata.deletion_timestamp.is_some();
    let jobs = f.wait_for_jobs("the first is to end", is_ending).await;
    f.server.take_requests(0).unwrap();
    f.server.take_requests(2).unwrap();
    let jobs_later = f.wait_for_phases(&[RunPhase::Running, RunPhase::Waiting]).await;
    assert_eq!((jobs_later[1].uid(), request(&jobs_later[1]).commit), (jobs[1].uid(), second));
    f.patch("Job", &jobs[0].name_any(), json!({ "metadata": { "finalizers": null } })).await;
    let jobs_later = f.wait_for_phases(&[RunPhase::Running]).await;
    assert_eq!(jobs_later[0].uid(), jobs[1].uid());
}

#[tokio::test]
async fn a_suspended_schedule_does_not_fire_and_looks_when_it_is_resumed() {
    let f = Fixture::new(Auth::None).await;
    let (repo, clock) = (f.repo("app"), f.repo("clock"));
    clock.push("main", &[]).unwrap();
    let first = repo.push("main", &[("file", "1")]).unwrap();
    for name in ["app", "clock"] {
        f.put(git_repo(name, &f.server.uri(name))).await;
    }
    f.put(action("act")).await;
    let trigger = with(schedule_trigger("it", "app", "act"), "schedule.interval", "1s");
    f.put(trigger.clone()).await;
    f.put(with(schedule_trigger("clock", "clock", "act"), "onFirstCheck", "Record")).await;
    let _operator = f.operator(&[]);
    f.wait_for_succeeded(1).await;

    f.put(with(trigger.clone(), "suspend", true)).await;
    f.wait_for_ready("ScheduleTrigger", "it", "True", "Suspended").await;
    let second = repo.push("main", &[("file", "2")]).unwrap();
    f.server.take_requests(0).unwrap();
    let requests = f.server.take_requests(3).unwrap();
    assert!(requests.iter().all(|request| request.path.starts_with("/clock.git/")), "{requests:?}");
    f.put(with(trigger, "schedule.interval", "1h")).await;
    let jobs = f.wait_for_succeeded(2).await;
    assert_eq!((request(&jobs[0]).commit, request(&jobs[1]).commit), (first, second));
    f.wait_for_ready("ScheduleTrigger", "it", "True", "Watching").await;
}

#[tokio::test]
async fn a_request_by_hand_runs_once_changed_or_not() {
    let f = Fixture::new(Auth::None).await;
    let first = f.repo("app").push("main", &[]).unwrap();
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    f.put(with(schedule_trigger("it", "app", "act"), "schedule.interval", "1h")).await;
    let _operator = f.operator(&[]);
    f.wait_for_succeeded(1).await;

    for (runs, text) in [(2, "now"), (3, "and again, at 12:00")] {
        f.patch("ScheduleTrigger", "it", json!({ "metadata": { "annotations": { crd::REQUESTED_AT: text } } })).await;
        let jobs = f.wait_for_succeeded(runs).await;
        assert_eq!((request(&jobs[runs - 1]).commit, request(&jobs[runs - 1]).previous), (first, Some(first)));
        f.wait_for_status("ScheduleTrigger", "it", "it is handled", |status| status["lastHandledRequest"] == text && pending(status) == 0)
            .await;
    }
    // A change that makes it look again makes it run no more.
    f.patch("ScheduleTrigger", "it", json!({ "spec": { "concurrencyPolicy": "Forbid" } })).await;
    let seen = |status: &Value| condition(status, "Ready").is_some_and(|ready| ready["observedGeneration"] == 2);
    f.wait_for_status("ScheduleTrigger", "it", "the change is seen", seen).await;
    assert_eq!(f.jobs().await.len(), 3);
}

#[tokio::test]
async fn record_takes_a_baseline_when_the_trigger_comes_and_runs_for_what_comes_after() {
    let f = Fixture::new(Auth::None).await;
    let repo = f.repo("app");
    let first = repo.push("main", &[("file", "1")]).unwrap();
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    f.put(with(schedule_trigger("it", "app", "act"), "onFirstCheck", "Record")).await;
    f.put(with(webhook_trigger("asked", "app", "act"), "onFirstCheck", "Record")).await;
    let operator = f.operator(&[]);

    for (kind, name) in [("ScheduleTrigger", "it"), ("WebhookTrigger", "asked")] {
        let is_at = |status: &Value| status["checkedSources"]["app"]["commitHash"] == first.to_string();
        f.wait_for_status(kind, name, "the baseline", is_at).await;
        f.wait_for_ready(kind, name, "True", "Watching").await;
        f.wait_for_events(kind, name, &["Baseline"]).await;
    }
    assert!(f.jobs().await.is_empty());
    let second = repo.push("main", &[("file", "2")]).unwrap();
    let jobs = f.wait_for_succeeded(1).await;
    let of_request = ask(&f, &operator, "asked/app").await;
    let jobs = [jobs, f.wait_for_succeeded(2).await.split_off(1)].concat();
    for job in &jobs {
        assert_eq!((request(job).commit, request(job).previous), (second, Some(first)));
    }
    assert_eq!(request(&jobs[1]).requests.iter().map(ToString::to_string).collect::<Vec<_>>(), [of_request]);
}
