//! How many webhook requests the listener answers beside a route of warp that does nothing, by wrk, as a Markdown table. `make bench` runs it;
//! docs/performance.md explains it. `SECONDS` says how long each is asked, and `CONNECTIONS` from how many; what is recorded also comes from
//! [`MANY_CONNECTIONS`].
#![expect(clippy::unwrap_used, clippy::panic, reason = "what a benchmark cannot set up ends it")]
#![expect(clippy::future_not_send, reason = "it has one thread that waits")]

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, TcpStream},
    process::Command,
};

use git_events_runner_tests::{Auth, Program, free_port, number, send};
use ring::hmac;
use serde_json::json;
use warp::{Filter as _, http::StatusCode};

#[path = "../tests/operator/fixture.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod fixture;
#[path = "../tests/operator/manifests.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod manifests;

use fixture::{Fixture, wait_for};
use manifests::{action, git_repo, secret, webhook_trigger, with};

const SECRET: &str = "the-secret-of-the-hook";

/// The variable by which this program is told to be the bare route, on this port.
const BARE_ROUTE: &str = "BARE_ROUTE";

/// From so many connections requests come together, and share writes.
const MANY_CONNECTIONS: u32 = 256;

/// What a webhook of GitHub is like in size.
const BODY: &[u8] = include_bytes!("../tests/data/webhooks/github-ping.http");

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match std::env::var(BARE_ROUTE) {
        Ok(port) => runtime.block_on(serve_bare_route(port.parse().unwrap())),
        Err(_) => runtime.block_on(print()),
    }
}

/// Takes a body, and answers as much as the listener does for a request that it has recorded.
async fn serve_bare_route(port: u16) {
    let answer = json!({ "status": "ok", "message": "recorded", "task_id": "00000000-0000-0000-0000-000000000000" });
    let route = warp::post().and(warp::path::tail()).and(warp::body::bytes());
    let route = route.map(move |_, _| warp::reply::with_status(warp::reply::json(&answer), StatusCode::ACCEPTED));
    warp::serve(route).run(([127, 0, 0, 1], port)).await;
}

/// What is sent again and again.
struct Request {
    what: &'static str,
    status: u16,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// What wrk says of it; times are in milliseconds.
struct Measured {
    per_second: f64,
    median: f64,
    of_99: f64,
    /// How many of the answers had a status that is none of success.
    refused: u64,
}

async fn print() {
    let (seconds, connections) = (number("SECONDS", 10).unwrap(), number("CONNECTIONS", 64).unwrap());
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[]).unwrap();
    f.put(secret("hooks", &[("token", SECRET)])).await;
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    for (name, auth_type) in [("by-token", "header"), ("by-github", "github")] {
        let auth = json!({ "authConfig": { "type": auth_type, "secretRef": { "name": "hooks" }, "key": "token" } });
        f.put(with(webhook_trigger(name, "app", "act"), "webhook", auth)).await;
    }
    let operator = f.operator(&[]);
    for name in ["by-token", "by-github"] {
        f.wait_for_ready("WebhookTrigger", name, "True", "Watching").await;
    }
    let bare_port = free_port().unwrap();
    let mut bare = Command::new(std::env::current_exe().unwrap());
    bare.env(BARE_ROUTE, bare_port.to_string());
    let _bare = Program::start(bare).unwrap();
    wait_for("the bare route", async || TcpStream::connect((Ipv4Addr::LOCALHOST, bare_port)).ok()).await;

    println!("{seconds} s each; in brackets, how many times as long as the bare route takes from as many connections:\n");
    println!("| request | answer | connections | in a second | of the bare route | median | 99 of 100 |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let bare = Request { what: "to a bare route of warp", status: 202, path: "/".to_owned(), headers: vec![], body: b"{}".to_vec() };
    let requests = requests(&f.namespace);
    for (connections, requests) in [(connections, &requests[..]), (MANY_CONNECTIONS, &requests[requests.len() - 1..])] {
        let of_bare = measure(bare_port, &bare, seconds, connections);
        row(&bare, connections, &of_bare, &of_bare);
        for request in requests {
            row(request, connections, &measure(operator.webhooks_port(), request, seconds, connections), &of_bare);
        }
    }
    operator.terminate().unwrap();
}

fn requests(namespace: &str) -> Vec<Request> {
    let by_token = format!("/{namespace}/by-token/app");
    let token = |token: &str| vec![("X-Trigger-Auth", token.to_owned())];
    let head = BODY.windows(2).position(|two| two == b"\n\n").unwrap() + 2;
    let ping = BODY[head..].to_vec();
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), &ping);
    let signature = format!("sha256={}", data_encoding::HEXLOWER.encode(signature.as_ref()));
    let signed = vec![("X-GitHub-Event", "ping".to_owned()), ("X-Hub-Signature-256", signature)];
    let small = || b"{}".to_vec();
    let (path, nothing) = (by_token.clone(), format!("/{namespace}/nothing/app"));
    vec![
        Request { what: "for a trigger that there is not", status: 404, path: nothing, headers: vec![], body: small() },
        Request { what: "without a token", status: 401, path: by_token.clone(), headers: vec![], body: small() },
        Request { what: "with a wrong token", status: 403, path: by_token, headers: token("wrong"), body: small() },
        Request { what: "a signed ping", status: 200, path: format!("/{namespace}/by-github/app"), headers: signed, body: ping },
        Request { what: "with the right token: recorded in etcd", status: 202, path, headers: token(SECRET), body: small() },
    ]
}

/// Sends it once, to see that it is answered so, and then again and again.
fn measure(port: u16, request: &Request, seconds: u32, connections: u32) -> Measured {
    let json = [("Content-Type", "application/json")];
    let headers: Vec<_> = request.headers.iter().map(|(name, value)| (*name, value.as_str())).chain(json).collect();
    let answer = send(port, "POST", &request.path, &headers, &request.body).unwrap();
    assert_eq!(answer.status, request.status, "{}: {answer:?}", request.what);

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("body"), &request.body).unwrap();
    let mut script = format!("wrk.method = 'POST'\nwrk.body = io.open('{}', 'rb'):read('*a')\n", folder.path().join("body").display());
    headers.iter().for_each(|(name, value)| writeln!(script, "wrk.headers['{name}'] = '{value}'").unwrap());
    fs::write(folder.path().join("script.lua"), script).unwrap();
    let mut wrk = Command::new("wrk");
    wrk.args(["--threads=1", "--timeout=10s", "--latency", &format!("--connections={connections}"), &format!("--duration={seconds}s")]);
    wrk.arg("--script").arg(folder.path().join("script.lua")).arg(format!("http://127.0.0.1:{port}{}", request.path));
    let output = wrk.output().unwrap_or_else(|error| panic!("wrk: {error}: install the package wrk"));
    let said = String::from_utf8(output.stdout).unwrap();
    let after = |label: &str| said.lines().find_map(|line| Some(line.trim().strip_prefix(label)?.trim().to_owned()));
    assert!(output.status.success() && after("Socket errors:").is_none(), "{}: {said}", request.what);
    Measured {
        per_second: after("Requests/sec:").unwrap().parse().unwrap(),
        median: milliseconds(&after("50%").unwrap()),
        of_99: milliseconds(&after("99%").unwrap()),
        refused: after("Non-2xx or 3xx responses:").map_or(0, |number| number.parse().unwrap()),
    }
}

/// What wrk writes as `31.00us`, `1.20ms`, `1.02s` or `1.50m`.
fn milliseconds(time: &str) -> f64 {
    let (number, unit) = time.split_at(time.find(|c: char| c.is_ascii_alphabetic()).unwrap());
    let each = match unit {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        "m" => 60_000.0,
        _ => panic!("{time} is no time"),
    };
    number.parse::<f64>().unwrap() * each
}

fn row(request: &Request, connections: u32, measured: &Measured, bare: &Measured) {
    let Measured { per_second, median, of_99, refused } = measured;
    let percent = per_second / bare.per_second * 100.0;
    let times = format!("{median:.2} ms ({:.1} ×) | {of_99:.2} ms ({:.1} ×)", median / bare.median, of_99 / bare.of_99);
    println!("| {} | {} | {connections} | {per_second:.0} | {percent:.1} % | {times} |", request.what, request.status);
    assert!(request.status >= 400 || *refused == 0, "{}: {refused} were refused", request.what);
}
