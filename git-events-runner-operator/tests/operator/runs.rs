//! What triggers tell of their runs, and which of their sources run.

use git_events_runner_core::{RunPhase, job};
use git_events_runner_tests::{Auth, Operator};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use serde_json::json;

use super::{
    fixture::{Fixture, condition, request, wait_for},
    manifests::{action, action_that, git_repo, schedule_trigger, webhook_trigger, with},
    policies::ask,
};

#[tokio::test]
async fn results_of_jobs_come_back_into_the_status() {
    let f = Fixture::new(Auth::None).await;
    let first = f.repo("app").push("main", &[]).unwrap();
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("succeeds")).await;
    f.put(action_that("fails", ("test/outcome", "Failed"))).await;
    for name in ["succeeds", "fails"] {
        f.put(with(schedule_trigger(name, "app", name), "schedule.interval", "1h")).await;
    }
    let operator = f.operator(&[]);

    for (name, result) in [("succeeds", "Succeeded"), ("fails", "Failed")] {
        let has_ended = |status: &serde_json::Value| status["lastResult"] == result;
        let status = f.wait_for_status("ScheduleTrigger", name, "the result", has_ended).await;
        let jobs = f.jobs().await;
        let job = jobs.iter().find(|job| job.labels()[job::TRIGGER_NAME] == name).unwrap();
        let checked = &status["checkedSources"]["app"];
        let last = json!({ "name": job.name_any(), "uid": job.uid(), "result": result, "finished": checked["lastJob"]["finished"] });
        assert_eq!((&checked["lastJob"], &checked["commitHash"]), (&last, &json!(first.to_string())));
        let at = |text: &serde_json::Value| text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert!(at(&status["lastRun"]) <= at(&last["finished"]) && status["state"] == "Idle", "{status}");
        f.wait_for_events("ScheduleTrigger", name, &["RunRegistered", "RunReleased", &format!("Run{result}")]).await;
        // A run that fails says nothing of whether the trigger works.
        f.wait_for_ready("ScheduleTrigger", name, "True", "Watching").await;
        let counted = format!("git_events_runner_runs_finished_total{{result=\"{result}\"}} 1\n");
        wait_for("it is counted", async || operator.metrics().unwrap().contains(&counted).then_some(())).await;
    }
}

fn sources(jobs: &[Job]) -> Vec<String> {
    jobs.iter().map(|job| request(job).key.source.name).collect()
}

#[tokio::test]
async fn each_source_of_a_trigger_runs_on_its_own_and_one_that_fails_keeps_no_other() {
    let f = Fixture::new(Auth::None).await;
    let (a, b) = (f.repo("a"), f.repo("b"));
    a.push("main", &[]).unwrap();
    for name in ["a", "b"] {
        f.put(git_repo(name, &f.server.uri(name))).await;
    }
    f.put(action("act")).await;
    f.put(with(schedule_trigger("it", "a", "act"), "sources.names", json!(["a", "b"]))).await;
    let _operator = f.operator(&[]);

    f.wait_for_succeeded(1).await;
    let status = f.wait_for_ready("ScheduleTrigger", "it", "False", "ReferenceNotFound").await;
    assert!(condition(&status, "Ready").unwrap()["message"].as_str().unwrap().starts_with("b: "), "{status}");
    let second = a.push("main", &[("file", "2")]).unwrap();
    let jobs = f.wait_for_succeeded(2).await;
    assert_eq!((sources(&jobs), request(&jobs[1]).commit), (vec!["a".to_owned(), "a".to_owned()], second));
    b.push("main", &[]).unwrap();
    assert_eq!(sources(&f.wait_for_succeeded(3).await), ["a", "a", "b"]);
    f.wait_for_ready("ScheduleTrigger", "it", "True", "Watching").await;
}

#[tokio::test]
async fn a_request_asks_for_all_sources_or_for_one() {
    let f = Fixture::new(Auth::None).await;
    for name in ["a", "b"] {
        f.repo(name).push("main", &[]).unwrap();
        f.put(git_repo(name, &f.server.uri(name))).await;
    }
    f.put(action("act")).await;
    for (name, multi_source) in [("many", true), ("one", false)] {
        let trigger = with(webhook_trigger(name, "a", "act"), "sources.names", json!(["a", "b"]));
        f.put(with(with(trigger, "sources.watchOn.onChangeOnly", false), "webhook.multiSource", multi_source)).await;
    }
    let operator = f.operator(&[]);

    let all = ask(&f, &operator, "many").await;
    let jobs = f.wait_for_succeeded(2).await;
    assert!(jobs.iter().all(|job| request(job).requests.iter().any(|id| id.to_string() == all)));
    let mut both = sources(&jobs);
    both.sort();
    assert_eq!(both, ["a", "b"]);
    let one = ask(&f, &operator, "one/b").await;
    let job = f.wait_for_succeeded(3).await.remove(2);
    assert_eq!((request(&job).key.source.name.as_str(), request(&job).requests.first().unwrap().to_string()), ("b", one));
    let code = |path: &str| operator.webhook(&format!("/{}/{path}", f.namespace), ("x-unused", "")).unwrap().status;
    assert_eq!([code("one"), code("one/c"), code("other/a")], [400, 404, 404]);
}

fn leads(operator: &Operator) -> bool {
    operator.metrics().unwrap().contains("git_events_runner_leader 1\n")
}

#[tokio::test]
async fn a_replica_that_does_not_lead_takes_requests_as_well() {
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[]).unwrap();
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    f.put(webhook_trigger("it", "app", "act")).await;
    let leader = f.operator(&[]);
    wait_for("the first leads", async || leads(&leader).then_some(())).await;
    let other = f.operator(&[]);

    let asked = ask(&f, &other, "it/app").await;
    assert!(!leads(&other));
    let job = f.wait_for_phases(&[RunPhase::Succeeded]).await.remove(0);
    assert_eq!(request(&job).requests.first().unwrap().to_string(), asked);
}
