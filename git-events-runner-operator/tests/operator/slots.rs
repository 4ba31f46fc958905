//! Of many changes at once, as many run at a time as may, and all of them in the order in which they came.

use std::collections::BTreeSet;

use git_events_runner_core::{RunPhase, RunRequest, job};
use git_events_runner_tests::{Auth, Operator};
use k8s_openapi::api::{batch::v1::Job, coordination::v1::Lease};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, WatchEvent},
};
use serde_json::Value;

use super::{
    fixture::{Fixture, History, request, wait_for},
    manifests::{FOR_EVER, action_that, git_repo, runtime_config, schedule_trigger, with},
};

const CHANGES: usize = 60;
const SLOTS: usize = 4;

fn has_begun(job: &Job) -> bool {
    !job.finalizers().iter().any(|finalizer| finalizer == job::REGISTERED)
}

fn has_ended(job: &Job) -> bool {
    let mut conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.status == "True" && ["Complete", "Failed"].contains(&condition.type_.as_str()))
}

/// The Jobs at each moment: no change of them is missed.
struct Moments {
    history: History,
    running: BTreeSet<String>,
    /// How many ran at a time, at most.
    most: usize,
    /// Those that were seen to begin, in that order.
    begun: Vec<RunRequest>,
    ended: BTreeSet<String>,
}

impl Moments {
    /// From now on, with those that run.
    async fn new(f: &Fixture, running: &[Job]) -> Self {
        let running: BTreeSet<_> = running.iter().map(|job| job.name_any()).collect();
        Self { history: f.history().await, most: running.len(), running, begun: vec![], ended: BTreeSet::new() }
    }

    /// Waits for the next change, and looks.
    async fn next(&mut self) {
        match self.history.next().await {
            WatchEvent::Added(job) | WatchEvent::Modified(job) => self.look(&job),
            WatchEvent::Deleted(job) => drop(self.running.remove(&job.name_any())),
            other => panic!("{other:?}"),
        }
    }

    fn look(&mut self, job: &Job) {
        let name = job.name_any();
        if !has_begun(job) {
            return;
        }
        if has_ended(job) {
            self.running.remove(&name);
            self.ended.insert(name);
        } else if self.running.insert(name) {
            self.begun.push(request(job));
            self.most = self.most.max(self.running.len());
        }
    }
}

/// Which replica leads.
async fn leader(f: &Fixture, replicas: &[Operator]) -> usize {
    let leases = Api::<Lease>::namespaced(f.client.clone(), &f.namespace);
    let leads = async || {
        let lease = leases.get_opt("git-events-runner-leader-lock").await.unwrap()?;
        let holder = lease.spec?.holder_identity?;
        replicas.iter().position(|replica| holder.starts_with(replica.identity()))
    };
    wait_for("a leader", leads).await
}

/// A trigger that looks for changes not too often: there are many.
fn trigger(name: &str, source: &str, action: &str) -> Value {
    with(schedule_trigger(name, source, action), "schedule.interval", "5s")
}

/// Waits until the status of each of the triggers that are to see a change is so.
async fn wait_for_all(f: &Fixture, what: &str, is_so: impl Fn(&Value) -> bool) {
    let all = async || {
        let mut triggers = f.api("ScheduleTrigger").list(&ListParams::default()).await.unwrap().items;
        triggers.retain(|trigger| trigger.name_any().starts_with("change-") && is_so(&trigger.data["status"]));
        (triggers.len() == CHANGES).then_some(())
    };
    wait_for(&format!("{CHANGES} triggers: {what}"), all).await;
}

#[tokio::test]
async fn never_more_run_than_may_and_the_oldest_begin_first_though_the_leader_is_killed() {
    let f = Fixture::new(Auth::None).await;
    let app = f.repo("app");
    app.push("main", &[("file", "1")]).unwrap();
    f.repo("other").push("main", &[("file", "1")]).unwrap();
    f.put(runtime_config(&format!("action: {{maxRunningJobs: {SLOTS}}}"))).await;
    for object in [git_repo("app", &f.server.uri("app")), git_repo("other", &f.server.uri("other"))] {
        f.put(object).await;
    }
    f.put(action_that("act", ("test/run-for", "200ms"))).await;
    f.put(action_that("block", FOR_EVER)).await;
    for number in 0..SLOTS {
        f.put(trigger(&format!("block-{number}"), "other", "block")).await;
    }
    for number in 0..CHANGES {
        f.put(with(trigger(&format!("change-{number}"), "app", "act"), "onFirstCheck", "Record")).await;
    }
    let mut replicas = [f.operator(&[]), f.operator(&[])];

    // All of them wait before the first one may begin: so there is one order that is right, whoever leads.
    let blocking = f.wait_for_phases(&[RunPhase::Running; SLOTS]).await;
    wait_for_all(&f, "the first commit is known", |status| status["checkedSources"]["app"]["commitHash"].is_string()).await;
    app.push("main", &[("file", "2")]).unwrap();
    wait_for_all(&f, "a run waits", |status| status["waiting"].as_object().is_some_and(|waiting| waiting.len() == 1)).await;
    let mut moments = Moments::new(&f, &blocking).await;
    for job in blocking {
        f.delete("Job", &job.name_any()).await;
    }

    let mut killed = None;
    while moments.ended.len() < CHANGES {
        moments.next().await;
        if killed.is_none() && moments.begun.len() >= CHANGES / 3 {
            let leads = leader(&f, &replicas).await;
            replicas[leads].kill().unwrap();
            killed = Some(leads);
        }
    }
    assert_eq!(moments.most, SLOTS, "so many may run at a time");
    let begun: Vec<_> = moments.begun.iter().map(|run| (run.instant, run.key.name())).collect();
    assert!(begun.is_sorted(), "the oldest begin first: {begun:#?}");
    let triggers: BTreeSet<_> = moments.begun.iter().map(|run| &run.key.trigger.name).collect();
    assert_eq!((triggers.len(), begun.len()), (CHANGES, CHANGES), "each change runs once");
    assert_ne!(leader(&f, &replicas).await, killed.unwrap());
}
