//! How long it takes from a webhook request to its Job on a real API server, as a Markdown table. `make bench` runs it; docs/performance.md
//! explains it. `REQUESTS` says how many there are of each.
#![expect(clippy::unwrap_used, reason = "what a benchmark cannot set up ends it")]
#![expect(clippy::future_not_send, reason = "it has one thread that waits")]

use std::time::{Duration, Instant};

use git_events_runner_core::{RequestId, RunPhase, job};
use git_events_runner_tests::{Auth, Operator, number};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, ResourceExt as _,
    api::{PostParams, WatchEvent},
};
use serde_json::json;

#[path = "../tests/operator/fixture.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod fixture;
#[path = "../tests/operator/manifests.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod manifests;

use fixture::{Fixture, History, wait_for};
use manifests::{action, git_repo, webhook_trigger, with};

fn main() {
    tokio::runtime::Runtime::new().unwrap().block_on(print());
}

async fn print() {
    let requests = number("REQUESTS", 200).unwrap();
    let f = Fixture::new(Auth::None).await;
    let created = by_hand(&f, requests).await;
    let Latencies { answered, registered, begun } = by_webhook(&f, requests).await;
    let handed_over = by_the_next_leader(&f, requests.div_ceil(10)).await;

    println!("{requests} of each, and a tenth of it of the last, each when the one before has ended:\n");
    println!("| from | to | median | 99 of 100 | of a Job by hand |");
    println!("| --- | --- | --- | --- | --- |");
    let median = of_100(&created, 50);
    for (from, to, times) in [
        ("a Job is sent", "it is seen in a watch", &created),
        ("a webhook request is sent", "it is answered with 202", &answered),
        ("a webhook request is sent", "its Job is seen in a watch: it is registered", &registered),
        ("a webhook request is sent", "its Job is seen to begin", &begun),
        ("the leader is asked to end, and a request is sent", "its Job is seen to begin, by the next leader", &handed_over),
    ] {
        let milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        let ratio = of_100(times, 50).as_secs_f64() / median.as_secs_f64();
        println!("| {from} | {to} | {} | {} | {ratio:.1} × |", milliseconds(of_100(times, 50)), milliseconds(of_100(times, 99)));
    }
}

/// The time within which so many of a hundred were.
fn of_100(times: &[Duration], part: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[(times.len() * part).div_ceil(100) - 1]
}

/// How long Jobs take from here to a watch that are created with nothing in between: what the API server itself needs.
async fn by_hand(f: &Fixture, number: usize) -> Vec<Duration> {
    let jobs = Api::<Job>::namespaced(f.client.clone(), &f.namespace);
    let mut history = f.history().await;
    let mut times = vec![];
    for number in 0..number {
        let container = json!({ "name": "nothing", "image": "nothing" });
        let spec = json!({ "suspend": true, "template": { "spec": { "restartPolicy": "Never", "containers": [container] } } });
        let job = json!({ "metadata": { "name": format!("by-hand-{number}") }, "spec": spec });
        let begin = Instant::now();
        jobs.create(&PostParams::default(), &serde_json::from_value(job).unwrap()).await.unwrap();
        loop {
            if let WatchEvent::Added(job) = history.next().await
                && job.name_any() == format!("by-hand-{number}")
            {
                times.push(begin.elapsed());
                break;
            }
        }
    }
    times
}

struct Latencies {
    answered: Vec<Duration>,
    registered: Vec<Duration>,
    begun: Vec<Duration>,
}

async fn by_webhook(f: &Fixture, number: usize) -> Latencies {
    f.repo("app").push("main", &[]).unwrap();
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    f.put(with(webhook_trigger("hook", "app", "act"), "sources.watchOn", json!({ "onChangeOnly": false }))).await;
    let operator = f.operator(&[]);
    f.wait_for_ready("WebhookTrigger", "hook", "True", "Watching").await;
    let mut latencies = Latencies { answered: vec![], registered: vec![], begun: vec![] };
    for _ in 0..number {
        // A watch lasts for some minutes only.
        let mut history = f.history().await;
        let begin = Instant::now();
        let id = request(f, &operator);
        latencies.answered.push(begin.elapsed());
        while next_of(&mut history, &id).await == RunPhase::Waiting {
            if latencies.registered.len() == latencies.begun.len() {
                latencies.registered.push(begin.elapsed());
            }
        }
        latencies.begun.push(begin.elapsed());
        has_ended(&mut history, &id).await;
    }
    operator.terminate().unwrap();
    latencies
}

/// How long it takes from when the leader is asked to end until another replica lets the Job of a request begin that came then.
async fn by_the_next_leader(f: &Fixture, number: usize) -> Vec<Duration> {
    let mut leader = f.operator(&[]);
    let mut times = vec![];
    for _ in 0..number {
        leads(&leader).await;
        let next = f.operator(&[]);
        let mut history = f.history().await;
        let begin = Instant::now();
        let ending = tokio::task::spawn_blocking(|| leader.terminate().unwrap());
        let id = request(f, &next);
        while next_of(&mut history, &id).await == RunPhase::Waiting {}
        times.push(begin.elapsed());
        has_ended(&mut history, &id).await;
        ending.await.unwrap();
        leader = next;
    }
    leader.terminate().unwrap();
    times
}

async fn leads(operator: &Operator) {
    let leads = || operator.metrics().ok().filter(|metrics| metrics.contains("git_events_runner_leader 1\n")).map(drop);
    wait_for("a replica that leads", async || leads()).await;
}

/// Sends a request, and answers its id.
fn request(f: &Fixture, to: &Operator) -> RequestId {
    let answer = to.webhook(&format!("/{}/hook/app", &*f.namespace), ("x-unused", "")).unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.body["task_id"].as_str().unwrap().parse().unwrap()
}

/// Waits until the Job of a request has ended: its Pod comes and goes on the same processors.
async fn has_ended(history: &mut History, id: &RequestId) {
    while !next_of(history, id).await.is_finished() {}
}

/// How far the Job of a request is at the next change of it.
async fn next_of(history: &mut History, id: &RequestId) -> RunPhase {
    loop {
        if let WatchEvent::Added(job) | WatchEvent::Modified(job) = history.next().await
            && job::run_status(&job).is_ok_and(|run| run.request.requests.contains(id))
        {
            return job::phase(&job);
        }
    }
}
