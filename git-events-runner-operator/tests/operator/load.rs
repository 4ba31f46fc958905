//! Many requests at once, nearly all of them wrong, malformed, oversized or slow: those that are right run, and memory stays as it is.
//!
//! `REQUESTS` says how many there are, `RIGHT` how many of them are right, and `CONNECTIONS` from how many connections at a time they come;
//! `SEED` in which order.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER;
use git_events_runner_core::{RunRequest, job};
use git_events_runner_tests::{Auth, Operator, Random, number};
use kube::api::ListParams;
use ring::hmac;
use serde_json::{Value, json};

use super::{
    fixture::{Fixture, request, wait_for, wait_within},
    manifests::{action_that, git_repo, runtime_config, secret, webhook_trigger, with},
};

const SECRET: &str = "the-secret-of-the-hooks";
const SOURCES: [&str; 2] = ["a", "b"];

/// How many triggers share the requests: half of them take a token, half of them what GitHub signs.
const TRIGGERS: usize = 20;

/// When a request that is right and was to come again does so.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How long a Job may take, of all that are to be there at the end.
const EACH: Duration = Duration::from_secs(2);

/// How much more memory there may be in the second half than in the first: by then the replica that is left leads.
const GROWTH: u64 = 48 << 20;

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Right,
    Unproven,
    WrongProof,
    NoTrigger,
    NoSource,
    NoPost,
    OtherType,
    NoJson,
    TooLarge,
    TooLargeInChunks,
    LargeAndWrong,
    TooManyHeaders,
    Garbage,
    HalfOfIt,
    SlowHead,
    SlowBody,
}

impl Kind {
    /// As often as each comes of a hundred that are not right.
    const WRONG: [(Self, usize); 15] = [
        (Self::Unproven, 20),
        (Self::WrongProof, 20),
        (Self::NoTrigger, 12),
        (Self::NoSource, 8),
        (Self::NoPost, 8),
        (Self::OtherType, 7),
        (Self::NoJson, 8),
        (Self::TooLarge, 2),
        (Self::TooLargeInChunks, 1),
        (Self::LargeAndWrong, 2),
        (Self::TooManyHeaders, 3),
        (Self::Garbage, 3),
        (Self::HalfOfIt, 4),
        (Self::SlowHead, 1),
        (Self::SlowBody, 1),
    ];

    fn wrong(random: &mut Random) -> Self {
        let mut place = random.below(Self::WRONG.iter().map(|(_, often)| often).sum());
        for (kind, often) in Self::WRONG {
            match place.checked_sub(often) {
                Some(rest) => place = rest,
                None => return kind,
            }
        }
        Self::Unproven
    }

    /// What it may be answered with; 0: nothing.
    fn answers(self) -> &'static [u16] {
        match self {
            Self::Right => &[202, 503],
            Self::Unproven => &[401],
            Self::WrongProof => &[403],
            Self::NoTrigger | Self::NoSource => &[404],
            Self::NoPost => &[405],
            Self::OtherType => &[415],
            Self::NoJson => &[400],
            Self::TooLarge => &[413],
            // Of many large ones at a time only a few are read.
            Self::TooLargeInChunks => &[413, 408, 503],
            Self::LargeAndWrong => &[403, 408, 503],
            Self::TooManyHeaders => &[431],
            Self::Garbage => &[400],
            Self::HalfOfIt => &[0, 400],
            Self::SlowHead => &[0],
            Self::SlowBody => &[408],
        }
    }
}

/// Two replicas, and what they have answered.
struct Storm<'a> {
    namespace: &'a str,
    ports: [u16; 2],
    is_dead: AtomicBool,
    victim: Mutex<Operator>,
    survivor: &'a Operator,
    sent: AtomicUsize,
    answered: Mutex<BTreeMap<(Kind, u16), usize>>,
    /// Triggers and ids of the requests that were answered with 202.
    accepted: Mutex<Vec<(String, String)>>,
}

impl Storm<'_> {
    /// A request of a kind to a trigger: what is sent at once, and whether nothing follows that it waits for.
    fn bytes(&self, kind: Kind, trigger: usize) -> Vec<u8> {
        let signed = |body: &str| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
            format!("X-Hub-Signature-256: sha256={}\r\n", HEXLOWER.encode(hmac::sign(&key, body.as_bytes()).as_ref()))
        };
        let is_token = trigger.is_multiple_of(2);
        let proof = |body: &str| if is_token { format!("X-Trigger-Auth: {SECRET}\r\n") } else { signed(body) };
        let (wrong, github) = (proof("something else").replace(SECRET, "another"), trigger | 1);
        let path = |number: usize| format!("/{}/hook-{number}", self.namespace);
        let post = |path: &str, headers: &str, body: &str| {
            format!("POST {path} HTTP/1.1\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
        };
        let own = path(trigger);
        let large = |length: usize| "x".repeat(length);
        let text = match kind {
            Kind::Right => post(&own, &proof("{}"), "{}"),
            Kind::Unproven => post(&own, "", "{}"),
            Kind::WrongProof => post(&own, &wrong, "{}"),
            Kind::NoTrigger => post("/default/nowhere/app", &proof("{}"), "{}"),
            Kind::NoSource => post(&format!("{own}/c"), &proof("{}"), "{}"),
            Kind::NoPost => post(&own, &proof("{}"), "{}").replacen("POST", "PUT", 1),
            Kind::OtherType => post(&own, &format!("{}Content-Type: text/html\r\n", proof("{}")), "{}"),
            Kind::NoJson => post(&path(github), &signed("{"), "{"),
            Kind::TooLarge => post(&path(github), &signed(""), &large((3 << 20) + 1)),
            Kind::TooLargeInChunks => {
                let chunks = format!("100000\r\n{}\r\n", large(1 << 20)).repeat(4);
                format!("POST {} HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}", path(github))
            }
            Kind::LargeAndWrong => post(&path(github), &signed(""), &large(2 << 20)),
            Kind::TooManyHeaders => post(&own, &"X-Header: 1\r\n".repeat(100), ""),
            Kind::Garbage => "\0\x01\x02 GET\r\n\r\n".to_owned(),
            Kind::HalfOfIt => post(&own, &wrong, "{}")[..40].to_owned(),
            Kind::SlowHead => format!("POST {own} HTTP/1.1\r\nX-Slow: "),
            Kind::SlowBody => post(&path(github), &signed(""), &large(100)).trim_end_matches('x').to_owned(),
        };
        text.into_bytes()
    }

    /// Sends it, and answers with status and body; None: it has not come through.
    fn exchange(&self, kind: Kind, trigger: usize, port: u16) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
        // It may refuse before all of it is sent.
        let _ = stream.write_all(&self.bytes(kind, trigger));
        if kind == Kind::HalfOfIt {
            stream.shutdown(Shutdown::Write).ok()?;
        }
        let mut answer = vec![];
        let ended = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        if answer.is_empty() {
            ended.is_ok().then_some(())?;
            return Some((0, answer));
        }
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }

    /// Sends one request; one that is right again and again until it is accepted.
    fn send(&self, kind: Kind, random: &mut Random) {
        loop {
            let (trigger, place) = (random.below(TRIGGERS), random.below(2));
            // Looked at before: it may die meanwhile.
            let may_be_gone = place == 0;
            let Some((status, body)) = self.exchange(kind, trigger, self.ports[place]) else {
                assert!(may_be_gone && self.is_dead.load(Ordering::SeqCst), "{kind:?} is not answered");
                if kind == Kind::Right {
                    continue;
                }
                return;
            };
            if status == 0 && may_be_gone && self.is_dead.load(Ordering::SeqCst) && kind != Kind::Right {
                return;
            }
            *self.answered.lock().unwrap().entry((kind, status)).or_default() += 1;
            if kind == Kind::Right && status != 202 {
                assert!(status == 503 || self.is_dead.load(Ordering::SeqCst), "{status}: {body}");
                // Sooner than it is asked to.
                thread::sleep(AGAIN_AFTER);
                continue;
            }
            assert!(kind.answers().contains(&status), "{kind:?} is answered with {status}: {body}");
            if kind == Kind::Right {
                // What it has answered is whole, or it has died of the kill in between.
                let Ok(answer) = serde_json::from_str::<Value>(&body) else { continue };
                let id = answer["task_id"].as_str().unwrap().to_owned();
                self.accepted.lock().unwrap().push((format!("hook-{trigger}"), id));
            }
            return;
        }
    }

    /// Sends all of them, and kills a replica midway. Answers the memory that the other one had at most in the first half and in the second.
    fn rage(&self, requests: usize, right: usize, connections: usize, random: &mut Random) -> (u64, u64) {
        let (over, begin) = (AtomicBool::new(false), Instant::now());
        thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let (mut most, mut told) = ([0, 0], 0);
                while !over.load(Ordering::SeqCst) {
                    let (sent, rss) = (self.sent.load(Ordering::SeqCst), self.survivor.rss().unwrap());
                    let half = usize::from(sent > requests / 2);
                    most[half] = rss.max(most[half]);
                    if sent * 10 / requests > told {
                        told = sent * 10 / requests;
                        println!("{sent} requests after {:.1?}: {} kB of memory", begin.elapsed(), rss / 1024);
                    }
                    thread::sleep(Duration::from_millis(20));
                }
                most
            });
            let workers: Vec<_> = (0..connections)
                .map(|_| {
                    let mut random = random.fork();
                    scope.spawn(move || {
                        loop {
                            let number = self.sent.fetch_add(1, Ordering::SeqCst);
                            if number >= requests {
                                return;
                            }
                            if number == requests / 2 {
                                self.is_dead.store(true, Ordering::SeqCst);
                                self.victim.lock().unwrap().kill().unwrap();
                            }
                            // So many of all, evenly.
                            let is_right = number * right / requests != (number + 1) * right / requests;
                            let kind = if is_right { Kind::Right } else { Kind::wrong(&mut random) };
                            self.send(kind, &mut random);
                        }
                    })
                })
                .collect();
            let failed = workers.into_iter().filter_map(|worker| worker.join().err()).count();
            over.store(true, Ordering::SeqCst);
            let [first, second] = watching.join().unwrap();
            assert_eq!(failed, 0, "connections have failed: see above");
            println!("{requests} requests from {connections} connections after {:.1?}", begin.elapsed());
            (first, second)
        })
    }
}

async fn furnish(f: &Fixture) {
    f.put(runtime_config("action: { maxRunningJobs: 40 }")).await;
    f.put(secret("hooks", &[("token", SECRET)])).await;
    for name in SOURCES {
        f.repo(name).push("main", &[]).unwrap();
        f.put(git_repo(name, &f.server.uri(name))).await;
    }
    let act = with(action_that("act", ("test/run-for", "10ms")), "actionJob.ttlSecondsAfterFinished", 86_400);
    f.put(with(act, "actionJob.jobWaitingTimeoutSeconds", 3600)).await;
    for number in 0..TRIGGERS {
        let auth_type = if number % 2 == 0 { "header" } else { "github" };
        let auth = json!({ "type": auth_type, "secretRef": { "name": "hooks" }, "key": "token" });
        let sources = json!({ "names": SOURCES, "watchOn": { "onChangeOnly": false } });
        let trigger = with(webhook_trigger(&format!("hook-{number}"), "a", "act"), "sources", sources);
        f.put(with(trigger, "webhook", json!({ "multiSource": true, "authConfig": auth }))).await;
    }
}

fn leads(operator: &Operator) -> bool {
    operator.metrics().is_ok_and(|metrics| metrics.contains("git_events_runner_leader 1\n"))
}

/// Waits until nothing is left to do, and answers the runs.
async fn come_to_rest(f: &Fixture, right: usize) -> Vec<RunRequest> {
    let is_at_rest = async || {
        let triggers = f.api("WebhookTrigger").list(&ListParams::default()).await.unwrap().items;
        let has_none = |status: &Value, field: &str| status[field].as_object().is_none_or(serde_json::Map::is_empty);
        if !triggers.iter().all(|trigger| has_none(&trigger.data["status"], "pending") && has_none(&trigger.data["status"], "waiting")) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            return None;
        }
        let jobs = f.jobs().await;
        jobs.iter().all(|found| job::phase(found).is_finished()).then(|| jobs.iter().map(request).collect())
    };
    let within = Duration::from_secs(60) + EACH * u32::try_from(right * SOURCES.len()).unwrap();
    wait_within(within, "all have run", is_at_rest).await
}

#[tokio::test]
async fn among_many_wrong_malformed_oversized_and_slow_requests_those_that_are_right_run_once() {
    let (requests, right) = (number("REQUESTS", 3000).unwrap(), number("RIGHT", 60).unwrap());
    let connections = number("CONNECTIONS", 50).unwrap();
    let mut random = Random::new(number("SEED", 1).unwrap());
    let f = Fixture::new(Auth::None).await;
    furnish(&f).await;
    // With a short lease each request to the API server, which has much to do, would have to be answered very soon.
    let lease = ["--leader-lease-duration", "15", "--leader-lease-grace", "5"];
    let victim = f.operator_with(&lease);
    wait_for("the first leads", async || leads(&victim).then_some(())).await;
    let survivor = f.operator_with(&lease);
    for number in 0..TRIGGERS {
        f.wait_for_ready("WebhookTrigger", &format!("hook-{number}"), "True", "Watching").await;
    }
    let begin = Instant::now();
    let storm = Storm {
        namespace: &f.namespace,
        ports: [victim.webhooks_port(), survivor.webhooks_port()],
        is_dead: AtomicBool::new(false),
        victim: Mutex::new(victim),
        survivor: &survivor,
        sent: AtomicUsize::new(0),
        answered: Mutex::default(),
        accepted: Mutex::default(),
    };
    let (first, second) = storm.rage(requests, right, connections, &mut random);
    println!("answers: {:?}", storm.answered.lock().unwrap());
    println!("{} kB of memory at most in the first half, {} kB in the second", first / 1024, second / 1024);

    let runs = come_to_rest(&f, right).await;
    let mut times = BTreeMap::<_, usize>::new();
    for run in &runs {
        for id in &run.requests {
            *times.entry((run.key.trigger.name.clone(), id.to_string(), run.key.source.name.clone())).or_default() += 1;
        }
    }
    let accepted = storm.accepted.lock().unwrap();
    let each = accepted.iter().flat_map(|(trigger, id)| SOURCES.map(|source| (trigger.clone(), id.clone(), source.to_owned())));
    let wrong: Vec<_> = each.filter(|of| times.get(of) != Some(&1)).collect();
    assert!(wrong.is_empty(), "not on one run each: {wrong:?}, of {times:?}");
    assert!(times.values().all(|times| *times == 1), "on two runs: {times:?}");
    assert_eq!(accepted.len(), right);
    println!(
        "{right} were accepted, and {} Jobs have run; at rest after {:.1?}, with {} kB of memory",
        runs.len(),
        begin.elapsed(),
        survivor.rss().unwrap() / 1024
    );
    for logs in [survivor.logs(), storm.victim.lock().unwrap().logs()] {
        assert!(!logs.iter().any(|line| line.contains("panicked")), "{logs:#?}");
    }
    assert!(second < first + GROWTH, "{second} bytes of memory, and {first} in the first half");
}
