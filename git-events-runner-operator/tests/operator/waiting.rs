//! Runs that wait for their turn, and what becomes of them.

use git_events_runner_core::{RunPhase, job};
use git_events_runner_tests::{Auth, GitRepo, Operator};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{
    fixture::{Fixture, request, wait_for},
    manifests::{FOR_EVER, action, action_that, git_repo, runtime_config, schedule_trigger, with},
};

/// One slot, and a Job that has it until somebody ends it.
struct Occupied {
    f: Fixture,
    repo: GitRepo,
    operator: Operator,
    job: Job,
}

async fn occupied() -> Occupied {
    let f = Fixture::new(Auth::None).await;
    let repo = f.repo("app");
    repo.push("main", &[]).unwrap();
    f.put(runtime_config("action: { maxRunningJobs: 1 }")).await;
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action_that("goes-on", FOR_EVER)).await;
    f.put(with(schedule_trigger("occupies", "app", "goes-on"), "schedule.interval", "1h")).await;
    let operator = f.operator(&[]);
    let job = f.wait_for_phases(&[RunPhase::Running]).await.remove(0);
    Occupied { f, repo, operator, job }
}

fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().unwrap().suspend == Some(true)
}

#[tokio::test]
async fn a_job_of_kueue_gets_its_label_at_release_and_takes_no_slot() {
    let Occupied { f, operator: _operator, job: occupying, .. } = occupied().await;
    let mut history = f.history().await;
    let labels = json!({ job::KUEUE_QUEUE: "team-a", "team": "a" });
    f.put(with(action_that("queued", FOR_EVER), "actionJob.labels", labels)).await;
    f.put(schedule_trigger("queued", "app", "queued")).await;

    let jobs = f.wait_for_phases(&[RunPhase::Running, RunPhase::Running]).await;
    assert_eq!((jobs[1].labels()[job::KUEUE_QUEUE].as_str(), is_suspended(&jobs[1])), ("team-a", true));
    let registered = history.next_of(&jobs[1].name_any()).await;
    assert_eq!((registered.labels().get(job::KUEUE_QUEUE), registered.labels()["team"].as_str()), (None, "a"));
    assert_eq!(job::phase(&registered), RunPhase::Waiting);

    // As Kueue lets it begin.
    f.patch("Job", &jobs[1].name_any(), json!({ "spec": { "suspend": false } })).await;
    f.put(action("act")).await;
    f.put(with(schedule_trigger("waits", "app", "act"), "schedule.interval", "1h")).await;
    f.wait_for_phases(&[RunPhase::Running, RunPhase::Running, RunPhase::Waiting]).await;
    f.end(&occupying).await;
    f.wait_for_phases(&[RunPhase::Succeeded, RunPhase::Running, RunPhase::Succeeded]).await;
}

#[tokio::test]
async fn a_run_that_waits_too_long_is_given_up_and_tried_again() {
    let Occupied { f, operator, job: occupying, .. } = occupied().await;
    f.put(with(action("act"), "actionJob.jobWaitingTimeoutSeconds", 2)).await;
    f.put(with(schedule_trigger("it", "app", "act"), "schedule.interval", "1h")).await;

    let first = f.wait_for_phases(&[RunPhase::Running, RunPhase::Waiting]).await.remove(1);
    let status = f.wait_for_ready("ScheduleTrigger", "it", "False", "Expired").await;
    assert_eq!(status["checkedSources"]["app"]["lastJob"]["result"], "Expired");
    assert!(status["checkedSources"]["app"]["commitHash"].is_null(), "the commit counts as new again: {status}");
    assert!(operator.metrics().unwrap().lines().any(|line| line.starts_with("git_events_runner_runs_finished_total{result=\"Expired\"} ")));
    f.wait_for_event("ScheduleTrigger", "it", "RunExpired").await;
    f.wait_for_phases(&[RunPhase::Running]).await;

    let second = f.wait_for_phases(&[RunPhase::Running, RunPhase::Waiting]).await.remove(1);
    assert_eq!(request(&second).commit, request(&first).commit);
    assert_ne!(second.name_any(), first.name_any());
    f.end(&occupying).await;
    f.wait_for_phases(&[RunPhase::Succeeded, RunPhase::Succeeded]).await;
    let status = f.wait_for_ready("ScheduleTrigger", "it", "True", "Watching").await;
    assert_eq!(status["checkedSources"]["app"]["commitHash"], request(&second).commit.to_string());
}

#[tokio::test]
async fn a_job_that_is_deleted_by_hand_before_it_begins_is_made_again() {
    let Occupied { f, operator: _operator, job: occupying, .. } = occupied().await;
    f.put(action("act")).await;
    f.put(with(schedule_trigger("it", "app", "act"), "schedule.interval", "1h")).await;
    let deleted = f.wait_for_phases(&[RunPhase::Running, RunPhase::Waiting]).await.remove(1);
    f.delete("Job", &deleted.name_any()).await;

    let is_another = |jobs: &[Job]| jobs.len() == 2 && jobs[1].uid() != deleted.uid() && job::phase(&jobs[1]) == RunPhase::Waiting;
    let again = f.wait_for_jobs("another Job for the same", is_another).await.remove(1);
    assert_eq!(request(&again).commit, request(&deleted).commit);
    f.end(&occupying).await;
    f.wait_for_phases(&[RunPhase::Succeeded, RunPhase::Succeeded]).await;
    let succeeded = |status: &Value| status["checkedSources"]["app"]["lastJob"]["result"] == "Succeeded";
    f.wait_for_status("ScheduleTrigger", "it", "its end", succeeded).await;
    let told = ["RunRegistered", "RunDeleted", "RunRegistered", "RunReleased", "RunSucceeded"];
    f.wait_for_events("ScheduleTrigger", "it", &told).await;
}

#[tokio::test]
async fn the_runtime_config_is_followed_and_the_last_good_one_stays() {
    let Occupied { f, repo, operator, .. } = occupied().await;
    f.put(action_that("act", FOR_EVER)).await;
    f.put(with(schedule_trigger("it", "app", "act"), "schedule.interval", "1h")).await;
    f.wait_for_phases(&[RunPhase::Running, RunPhase::Waiting]).await;

    let two = "action: { maxRunningJobs: 2, containers: { worker: { image: 'worker:new' }, cloner: { image: 'cloner:new' } } }";
    f.put(runtime_config(two)).await;
    f.wait_for_phases(&[RunPhase::Running, RunPhase::Running]).await;
    let broken = [
        ("action: { maxRunningJobs: 0 }", "action.maxRunningJobs"),
        ("action: { maxJobs: 1 }", "maxJobs"),
        ("action: { workdir: { mountPath: files } }", "action.workdir.mountPath"),
        ("action: { containers: { worker: { image: '' } } }", "action.containers.worker.image"),
        ("action: { defaultServiceAccount: Robot }", "action.defaultServiceAccount"),
        ("trigger: { webhook: { defaultAuthHeader: 'x auth' } }", "trigger.webhook.defaultAuthHeader"),
        ("action: [", "line 1"),
    ];
    let map = format!("ERROR ConfigMap {}/git-events-runner-config: data.runtimeConfig: ", f.namespace);
    for (number, (config, names)) in broken.iter().enumerate() {
        f.put(runtime_config(config)).await;
        let told = || operator.logs().into_iter().filter(|line| line.contains(&map)).nth(number);
        let told = wait_for(config, async || told()).await;
        assert!(told.contains(names), "{config}: {told}");
        let failures = format!("git_events_runner_config_failures_total {}\n", number + 1);
        assert!(operator.metrics().unwrap().contains(&failures), "{config}: {:#?}", operator.logs());
    }

    repo.push("main", &[("file", "2")]).unwrap();
    f.patch("ScheduleTrigger", "it", json!({ "spec": { "schedule": { "interval": "1s" } } })).await;
    let job = f.wait_for_phases(&[RunPhase::Running, RunPhase::Running, RunPhase::Waiting]).await.remove(2);
    let pod = job.spec.unwrap().template.spec.unwrap();
    let images = [&pod.init_containers.unwrap()[0].image, &pod.containers[0].image].map(|image| image.clone().unwrap());
    assert_eq!(images, ["cloner:new", "worker:new"]);
}

#[tokio::test]
async fn nothing_is_done_before_there_is_a_runtime_config_that_can_be_used() {
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[]).unwrap();
    f.put(runtime_config("action: { maxRuningJobs: 4 }")).await;
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    f.put(schedule_trigger("it", "app", "act")).await;
    let operator = f.operator_unready(&[]);

    let told = operator.wait_for_line(&format!("ERROR ConfigMap {}/git-events-runner-config: data.runtimeConfig: ", f.namespace)).unwrap();
    assert!(told.contains("maxRuningJobs"), "{told}");
    let why = async || operator.utility("/ready").ok().filter(|(_, why)| why.contains("maxRuningJobs"));
    assert_eq!(wait_for("why it is not ready", why).await.0, 503);
    let metrics = operator.metrics().unwrap();
    assert!(metrics.contains("git_events_runner_leader 0\n"), "{metrics}");

    f.put(runtime_config("action: { maxRunningJobs: 4 }")).await;
    operator.wait_until_ready().unwrap();
    f.wait_for_succeeded(1).await;
}
