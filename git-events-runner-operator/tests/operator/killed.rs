//! A replica that is killed as soon as it has answered with 202 takes no request along.
//!
//! `KILLS` says how often, `SEED` at which moments after that.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use git_events_runner_core::job;
use git_events_runner_tests::{Auth, Operator, Random, number, post_and};
use kube::api::ListParams;
use serde_json::json;

use super::{
    fixture::{Fixture, request, wait_for, wait_within},
    manifests::{action_that, git_repo, webhook_trigger, with},
};

const SOURCES: [&str; 2] = ["a", "b"];

/// How many triggers share the requests.
const TRIGGERS: usize = 10;

/// One of so many kills is of the leader.
const OF_THE_LEADER: usize = 10;

/// How much later than the answer a replica may be killed, in microseconds.
const LATER: usize = 20_000;

/// How long a Job may take, of all that are to be there at the end.
const EACH: Duration = Duration::from_secs(2);

fn leads(operator: &Operator) -> bool {
    operator.metrics().is_ok_and(|metrics| metrics.contains("git_events_runner_leader 1\n"))
}

/// Sends a request, and if it is accepted kills the replica at once, and answers the id.
fn kill_at_202(f: &Fixture, trigger: &str, operator: &mut Operator, random: &mut Random) -> Option<String> {
    let (path, port) = (format!("/{}/{trigger}", &*f.namespace), operator.webhooks_port());
    let later = if random.below(2) == 0 { 0 } else { random.below(LATER) };
    let answer = post_and(port, &path, |status| {
        if status == 202 {
            thread::sleep(Duration::from_micros(later as u64));
            operator.kill()?;
        }
        Ok(())
    });
    let answer = answer.unwrap();
    assert!(matches!(answer.status, 202 | 503), "{answer:?}");
    answer.body["task_id"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn what_was_answered_with_202_is_on_one_run_of_each_source_though_the_replica_is_killed_at_once() {
    let (kills, mut random) = (number("KILLS", 12).unwrap(), Random::new(number("SEED", 1).unwrap()));
    let f = Fixture::new(Auth::None).await;
    for name in SOURCES {
        f.repo(name).push("main", &[]).unwrap();
        f.put(git_repo(name, &f.server.uri(name))).await;
    }
    let act = with(action_that("act", ("test/run-for", "10ms")), "actionJob.ttlSecondsAfterFinished", 86_400);
    f.put(with(act, "actionJob.jobWaitingTimeoutSeconds", 3600)).await;
    let triggers: Vec<_> = (0..TRIGGERS).map(|number| format!("always-{number}")).collect();
    for name in &triggers {
        let trigger = with(webhook_trigger(name, "a", "act"), "sources", json!({ "names": SOURCES, "watchOn": { "onChangeOnly": false } }));
        f.put(with(trigger, "webhook.multiSource", true)).await;
    }
    // One is killed while another one starts.
    let mut replicas: Vec<_> = (0..3).map(|_| f.operator_unready(&[])).collect();
    for operator in &replicas {
        operator.wait_until_ready().unwrap();
    }
    wait_for("a replica that leads", async || replicas.iter().any(leads).then_some(())).await;

    let (began, mut accepted, mut of_the_leader) = (Instant::now(), vec![], 0);
    while accepted.len() < kills {
        let leader = replicas.iter().position(leads);
        let is_leader = accepted.len() % OF_THE_LEADER == OF_THE_LEADER / 2 && leader.is_some();
        // Otherwise it is one that was started a short time ago: none would lead if it did not live for as long as the Lease.
        let newest = replicas.len() - 1;
        let victim = if is_leader { leader.unwrap() } else { newest - usize::from(leader == Some(newest)) };
        let operator = &mut replicas[victim];
        operator.wait_until_ready().unwrap();
        if let Some(id) = kill_at_202(&f, &triggers[accepted.len() % TRIGGERS], operator, &mut random) {
            accepted.push(id);
            of_the_leader += usize::from(is_leader);
            let dead = replicas.remove(victim);
            assert!(!dead.logs().iter().any(|line| line.contains("panicked")), "{:#?}", dead.logs());
            replicas.push(f.operator_unready(&[]));
        }
    }
    println!("{kills} kills after {:.1?}, {of_the_leader} of them of the leader", began.elapsed());

    let count = u32::try_from(kills * SOURCES.len()).unwrap();
    let is_at_rest = async || {
        let jobs = f.jobs().await;
        let statuses = f.api("WebhookTrigger").list(&ListParams::default()).await.unwrap().items;
        let is_idle = statuses.iter().all(|trigger| trigger.data["status"]["pending"].as_object().is_none_or(serde_json::Map::is_empty));
        (is_idle && jobs.iter().all(|found| job::phase(found).is_finished())).then_some(jobs)
    };
    let jobs = wait_within(Duration::from_secs(60) + EACH * count, "all have run", is_at_rest).await;
    let mut runs = BTreeMap::<_, usize>::new();
    for run in jobs.iter().map(request) {
        for id in &run.requests {
            *runs.entry((id.to_string(), run.key.source.name.clone())).or_default() += 1;
        }
    }
    let wrong: Vec<_> = accepted
        .iter()
        .flat_map(|id| SOURCES.map(|source| (id.clone(), source.to_owned())))
        .filter(|of| runs.get(of) != Some(&1))
        .collect();
    assert!(wrong.is_empty(), "not on one run each: {wrong:?}, of {runs:?}");
    println!("{} requests were accepted, and {} Jobs have run; at rest after {:.1?}", accepted.len(), jobs.len(), began.elapsed());
}
