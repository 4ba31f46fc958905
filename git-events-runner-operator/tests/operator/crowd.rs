//! Many triggers that have something to run at the same time, and few places for their Jobs. `TRIGGERS` says how many.

use std::time::{Duration, Instant};

use git_events_runner_core::{RunPhase, job};
use git_events_runner_tests::{Auth, Operator, number};

use super::{
    fixture::{Fixture, wait_within},
    manifests::{action_that, git_repo, runtime_config, schedule_trigger, with},
};

/// How long each of them may take.
const EACH: Duration = Duration::from_secs(1);

/// How many Jobs have succeeded, as far as the operator has seen.
fn succeeded(operator: &Operator) -> usize {
    let metrics = operator.metrics().unwrap();
    let value = metrics.lines().find_map(|line| line.strip_prefix(r#"git_events_runner_runs_finished_total{result="Succeeded"} "#));
    value.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn a_crowd_of_jobs_that_wait_runs_each_of_them_once() {
    let triggers = number("TRIGGERS", 60).unwrap();
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[]).unwrap();
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(runtime_config("action: { maxRunningJobs: 16, jobWaitingTimeoutSeconds: 3600 }")).await;
    f.put(action_that("act", ("test/run-for", "10ms"))).await;
    for number in 0..triggers {
        f.put(with(schedule_trigger(&format!("trigger-{number}"), "app", "act"), "schedule.interval", "1h")).await;
    }
    let (operator, begun) = (f.operator(&[]), Instant::now());
    let within = EACH * u32::try_from(triggers + 30).unwrap();
    wait_within(within, "all Jobs have succeeded", async || (succeeded(&operator) >= triggers).then_some(())).await;
    println!("{triggers} Jobs, 16 at a time, after {:.1?}, with {:.2?} of CPU", begun.elapsed(), operator.cpu().unwrap());
    let jobs = f.jobs().await;
    assert_eq!(jobs.iter().filter(|found| job::phase(found) == RunPhase::Succeeded).count(), triggers);
    assert_eq!(jobs.len(), triggers, "each trigger has run once");
}
