//! Where nothing changes nothing is written, however many triggers there are, and memory stays as it is.
//!
//! `TRIGGERS` says how many there are, `SECONDS` for how long they are watched. It prints what that took.

use std::time::{Duration, Instant};

use git_events_runner_tests::{Auth, Operator, cluster::Write, number};

use super::{
    fixture::{Fixture, WITHIN, wait_within},
    manifests::{action, git_repo, schedule_trigger, with},
};

/// How often each trigger looks, in seconds.
const INTERVAL: usize = 10;

/// How many repositories the triggers share.
const REPOS: usize = 4;

/// In how many rounds of checks the last write that follows from the start must be made.
const WARM_UP: usize = 5;

/// How much more memory there may be than when all had been checked for the first time, in bytes.
const GROWTH: u64 = 16 << 20;

fn checks(operator: &Operator) -> usize {
    let metrics = operator.metrics().unwrap();
    let checks = metrics.lines().filter(|line| line.starts_with("git_events_runner_checks_total{"));
    checks.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

/// Waits until all triggers have been looked at once more.
async fn pass_a_round(operator: &Operator, triggers: usize) {
    let before = checks(operator);
    // Of many triggers already the first look takes its time: each is written then.
    let within = WITHIN + Duration::from_millis(100) * u32::try_from(triggers).unwrap();
    wait_within(within, "a round of checks", async || (checks(operator) >= before + triggers).then_some(())).await;
}

/// What the operator has written so far in its namespace, but for the Lease. What is of the cluster is of other tests.
fn writes(f: &Fixture) -> Vec<Write> {
    let operator = format!("system:serviceaccount:{}:git-events-runner", f.namespace);
    let mut writes = f.cluster.writes().unwrap();
    writes.retain(|write| write.user == operator && write.namespace.as_deref() == Some(&f.namespace) && write.resource != "leases");
    writes
}

#[tokio::test]
async fn where_nothing_changes_nothing_is_written_and_memory_does_not_grow() {
    let (triggers, rounds) = (number("TRIGGERS", 100).unwrap(), number("SECONDS", 2 * INTERVAL).unwrap() / INTERVAL);
    let f = Fixture::new(Auth::None).await;
    for number in 0..REPOS {
        let name = format!("repo-{number}");
        f.repo(&name).push("main", &[]).unwrap();
        f.put(git_repo(&name, &f.server.uri(&name))).await;
    }
    f.put(action("act")).await;
    for number in 0..triggers {
        let trigger = schedule_trigger(&format!("trigger-{number}"), &format!("repo-{}", number % REPOS), "act");
        f.put(with(with(trigger, "schedule.interval", format!("{INTERVAL}s")), "onFirstCheck", "Record")).await;
    }
    let operator = f.operator(&[]);

    pass_a_round(&operator, triggers).await;
    let mut before = vec![];
    for _ in 0..WARM_UP {
        before = writes(&f);
        pass_a_round(&operator, triggers).await;
        if writes(&f) == before {
            break;
        }
    }
    let (begin, looked, cpu, memory) = (Instant::now(), checks(&operator), operator.cpu().unwrap(), operator.rss().unwrap());
    let mut most = memory;
    for _ in 0..rounds {
        pass_a_round(&operator, triggers).await;
        most = most.max(operator.rss().unwrap());
    }
    let (looked, cpu, took) = (checks(&operator) - looked, operator.cpu().unwrap() - cpu, begin.elapsed());
    println!(
        "{triggers} triggers, {looked} checks in {took:.1?}: {cpu:.2?} of CPU, {:.2?} a check; {} kB of memory before, {} kB after, {} kB at most",
        cpu / u32::try_from(looked).unwrap(),
        memory / 1024,
        operator.rss().unwrap() / 1024,
        most / 1024,
    );
    assert_eq!(writes(&f)[before.len()..], [], "checks that find nothing write nothing");
    assert!(most < memory + GROWTH, "{most} bytes of memory, and {memory} when it had warmed up");
}
