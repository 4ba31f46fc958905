//! What clients that are slow, greedy or malformed do to the listener: they are dropped or refused, and others are answered meanwhile. And what
//! becomes of those that are half through when it ends.
#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER;
use git_events_runner_tests::{Answer, GitRepo, Program, files, free_port, send, wait_for};
use ring::hmac;
use rustix::process::Signal;
use tempfile::TempDir;

/// A trigger that anybody may fire, and one to which GitHub sends signed bodies.
const MANIFESTS: &str = r"
apiVersion: git-events-runner.rs/v1alpha1
kind: GitRepo
metadata: {name: app}
spec: {repoUri: ../app.git}
---
apiVersion: git-events-runner.rs/v1alpha1
kind: Action
metadata: {name: act}
spec: {actionJob: {command: ['true']}}
---
apiVersion: v1
kind: Secret
metadata: {name: hook}
stringData: {token: the-secret-of-the-hook}
---
apiVersion: git-events-runner.rs/v1alpha1
kind: WebhookTrigger
metadata: {name: open}
spec:
  sources: {names: [app]}
  webhook: {allowUnauthenticated: true}
  action: {kind: Action, name: act}
---
apiVersion: git-events-runner.rs/v1alpha1
kind: WebhookTrigger
metadata: {name: signed}
spec:
  sources: {names: [app]}
  webhook: {authConfig: {type: github, secretRef: {name: hook}, key: token}}
  action: {kind: Action, name: act}
";

const SIGNED: &str = "/default/signed/app";

/// How much longer than it is to take something may take here, where other programs run.
const SLACK: Duration = Duration::from_secs(15);

/// How soon a right request is answered whatever the others do.
const SOON: Duration = Duration::from_secs(9);

/// How many connections are served at a time.
const CONNECTIONS: usize = 400;

/// By what a client that waits for it is asked for the body.
const ASKED_FOR: &[u8; 25] = b"HTTP/1.1 100 Continue\r\n\r\n";

struct Listener {
    folder: TempDir,
    local: Program,
    port: u16,
}

impl Listener {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        GitRepo::create(folder.path(), "app").unwrap().push("main", &[("file", "1")]).unwrap();
        fs::create_dir(folder.path().join("manifests")).unwrap();
        fs::write(folder.path().join("manifests/all.yaml"), MANIFESTS).unwrap();
        let port = free_port().unwrap();
        let (program, args) = (env!("CARGO_BIN_EXE_git-events-runner"), ["--webhooks-port", &port.to_string()]);
        let home = [("HOME", folder.path().as_os_str())];
        let local = Program::local_mode(program, &folder.path().join("manifests"), &args, &home).unwrap();
        local.wait_for_line("webhook: POST").unwrap();
        Self { folder, local, port }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60) + SLACK)).unwrap();
        stream
    }

    /// Sends this, and answers what comes until the connection is closed.
    fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // It may close before all of it is sent.
        let _ = stream.write_all(request);
        read(&mut stream)
    }

    fn status(&self, request: &[u8]) -> Option<u16> {
        status(&self.raw(request))
    }

    /// Has a right request answered, and answers how long that took.
    fn serves(&self) -> Duration {
        let begin = Instant::now();
        let Answer { status, .. } = send(self.port, "POST", "/default/open/app", &[], b"").unwrap();
        assert_eq!(status, 202);
        begin.elapsed()
    }

    fn end(self) {
        assert!(!self.local.output().iter().any(|line| line.contains("panicked")), "{:#?}", self.local.output());
        assert!(self.local.end(Signal::TERM).unwrap().0.success());
    }
}

fn read(stream: &mut TcpStream) -> String {
    let mut answer = vec![];
    if let Err(error) = stream.read_to_end(&mut answer) {
        let is_late = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        assert!(!is_late, "it is still open, and has answered {}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()
}

/// The head of a request with a body of this length.
fn head(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nConnection: close\r\nX-Hub-Signature-256: sha256={:064}\r\nContent-Length: {length}\r\n\r\n", 0)
}

/// The head of a request with this body, which it signs.
fn right_head(body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"the-secret-of-the-hook");
    head(SIGNED, body.len()).replace(&"0".repeat(64), &HEXLOWER.encode(hmac::sign(&key, body.as_bytes()).as_ref()))
}

/// Sends a byte again and again until the connection is closed.
fn trickle(stream: &mut TcpStream) {
    while stream.write_all(b"x").is_ok() {
        thread::sleep(Duration::from_millis(100));
    }
}

/// Asks again and again, and reads no answer, until the connection is closed.
fn never_read(stream: &mut TcpStream) {
    let requests = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    stream.set_write_timeout(Some(Duration::from_secs(60) + SLACK)).unwrap();
    let error = std::iter::repeat_with(|| stream.write_all(requests.as_bytes())).find_map(Result::err).unwrap();
    assert!(!matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "it is still open");
}

#[test]
fn slow_and_silent_clients_are_dropped_and_others_are_answered_meanwhile() {
    let listener = Listener::start();
    // How a client behaves, after how many seconds it is dropped, and what it is told.
    type Client = fn(&mut TcpStream) -> Option<u16>;
    let clients: [(&str, u64, Option<u16>, Client); 6] = [
        ("silent", 10, None, |stream| status(&read(stream))),
        ("slow to send its headers", 10, None, |stream| {
            stream.write_all(b"POST /default/open/app HTTP/1.1\r\nX-Slow: ").unwrap();
            trickle(stream);
            status(&read(stream))
        }),
        ("slow to send its body", 10, Some(408), |stream| {
            stream.write_all(head(SIGNED, 100_000).as_bytes()).unwrap();
            let mut answer = stream.try_clone().unwrap();
            let answer = thread::spawn(move || status(&read(&mut answer)));
            trickle(stream);
            answer.join().unwrap()
        }),
        ("silent after half of its body", 10, Some(408), |stream| {
            stream.write_all(format!("{}{:500}", head(SIGNED, 1000), "").as_bytes()).unwrap();
            status(&read(stream))
        }),
        ("silent after its first request", 10, Some(404), |stream| {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            status(&read(stream))
        }),
        ("not reading", 60, None, |stream| {
            never_read(stream);
            None
        }),
    ];
    thread::scope(|scope| {
        let clients = clients.map(|(name, seconds, expected, client)| {
            let mut stream = listener.connect();
            let dropped = scope.spawn(move || {
                let begin = Instant::now();
                (client(&mut stream), begin.elapsed())
            });
            (name, Duration::from_secs(seconds), expected, dropped)
        });
        while clients.iter().any(|(.., dropped)| !dropped.is_finished()) {
            assert!(listener.serves() < SOON);
            thread::sleep(Duration::from_millis(100));
        }
        for (name, within, expected, dropped) in clients {
            let (answered, after) = dropped.join().unwrap();
            assert_eq!(answered, expected, "{name}");
            assert!(after < within + SLACK, "one that is {name} is dropped after {after:?}");
            println!("one that is {name} was dropped after {after:.1?}");
        }
    });
    listener.end();
}

#[test]
fn what_is_too_large_or_no_http_is_refused() {
    let listener = Listener::start();
    let with_headers =
        |headers: &str| format!("POST /default/open/app HTTP/1.1\r\nConnection: close\r\n{headers}Content-Length: 0\r\n\r\n");
    let chunked = |path: &str| format!("POST {path} HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mebibytes = |count: usize| format!("100000\r\n{}\r\n", "x".repeat(1 << 20)).repeat(count);
    let cases = [
        ("a header of 200 kB", with_headers(&format!("X-Large: {}\r\n", "x".repeat(200_000))), Some(431)),
        ("100 headers", with_headers(&(0..100).map(|n| format!("X-{n}: x\r\n")).collect::<String>()), Some(431)),
        ("a path of 70 kB", format!("POST /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000)), Some(414)),
        ("a body of more than 3 MiB", head(SIGNED, (3 << 20) + 1) + &"x".repeat((3 << 20) + 1), Some(413)),
        ("chunks of more than 3 MiB", chunked(SIGNED) + &mebibytes(4), Some(413)),
        ("chunks of more than 3 MiB that nobody keeps", chunked("/default/open/app") + &mebibytes(4), Some(413)),
        ("no trigger, and chunks without end", chunked("/default/nowhere") + &mebibytes(10), Some(404)),
        ("no chunks", chunked(SIGNED) + "not a number\r\n", Some(400)),
        ("two lengths", with_headers("Content-Length: 5\r\n"), Some(400)),
        ("a length that is none", with_headers("").replace("Length: 0", "Length: -1"), Some(400)),
        ("a header without a name", with_headers(": x\r\n"), Some(400)),
        ("a header with a NUL", with_headers("X-Nul: \0\r\n"), Some(400)),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), None),
        ("a greeting of TLS", "\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03".to_owned() + &"x".repeat(600), Some(400)),
        ("another method", with_headers("").replace("POST", "PUT"), Some(405)),
        ("another type", with_headers("Content-Type: image/png\r\n"), Some(415)),
        ("a trigger in another way", with_headers("").replace("/default/open/app", "/default/%6fpen/app"), Some(404)),
        ("a path above", with_headers("").replace("/default/open/app", "/default/../default/open/app"), Some(404)),
    ];
    for (name, request, expected) in cases {
        assert_eq!(listener.status(request.as_bytes()), expected, "{name}");
        assert!(listener.serves() < SOON, "after {name}");
    }
    listener.end();
}

#[test]
fn bodies_that_come_slowly_keep_no_other_waiting() {
    let listener = Listener::start();
    // More than are answered at a time.
    let slow: Vec<_> = (0..300)
        .map(|_| {
            let mut stream = listener.connect();
            stream.write_all(format!("{}half", head(SIGNED, 8)).as_bytes()).unwrap();
            stream
        })
        .collect();
    let took = listener.serves();
    assert!(took < SOON, "a right one took {took:?}");
    for mut stream in slow {
        assert_eq!(status(&read(&mut stream)), Some(408));
    }
    listener.end();
}

#[test]
fn more_connections_than_are_served_at_a_time_wait_for_those_that_are_dropped() {
    let listener = Listener::start();
    let silent: Vec<_> = (0..CONNECTIONS).map(|_| listener.connect()).collect();
    let took = listener.serves();
    assert!(took < Duration::from_secs(10) + SLACK, "a right one took {took:?}");
    drop(silent);
    listener.end();
}

#[test]
fn large_bodies_that_are_right_take_little_memory_however_much_is_in_them() {
    let listener = Listener::start();
    listener.serves();
    let before = listener.local.rss().unwrap();
    let mut most = before;
    for item in ["{\"a\":{}}", "[]", "0", "\"a\"", "[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]"] {
        let body = format!("{{\"x\":[{}0]}}", format!("{item},").repeat((3 << 20) / (item.len() + 1) - 10));
        let request = right_head(&body) + &body;
        thread::scope(|scope| {
            let answers: Vec<_> = (0..2).map(|_| scope.spawn(|| listener.status(request.as_bytes()))).collect();
            while answers.iter().any(|answer| !answer.is_finished()) {
                most = most.max(listener.local.rss().unwrap());
                thread::sleep(Duration::from_millis(5));
            }
            for answer in answers {
                assert_eq!(answer.join().unwrap(), Some(202), "what is not read counts as a match");
            }
        });
        println!("with many of {item}: {} kB of memory before, {} kB at most", before / 1024, most / 1024);
    }
    assert!(most < before + (128 << 20), "{most} bytes of memory, and {before} before");
    listener.end();
}

#[test]
fn large_bodies_that_come_slowly_do_not_keep_right_ones_out() {
    let listener = Listener::start();
    let body = format!("{{\"x\":\"{}\"}}", "x".repeat(200_000));
    let right = right_head(&body) + &body;
    let slow = format!("{}{}", head(SIGNED, 3 << 20), "x".repeat(200_000));
    thread::scope(|scope| {
        // As many as are kept at a time.
        let slow: Vec<_> = (0..16).map(|_| scope.spawn(|| listener.status(slow.as_bytes()))).collect();
        while slow.iter().any(|answer| !answer.is_finished()) {
            assert_eq!(listener.status(right.as_bytes()), Some(202));
        }
        for answer in slow {
            assert_eq!(answer.join().unwrap(), Some(408));
        }
    });
    listener.end();
}

#[test]
fn large_bodies_of_strangers_take_no_more_memory_than_a_few_of_them() {
    let listener = Listener::start();
    listener.serves();
    let before = listener.local.rss().unwrap();
    let (body, count) = ("x".repeat(3 << 20), 200);
    let (answers, most) = thread::scope(|scope| {
        let answers: Vec<_> = (0..count)
            .map(|_| {
                scope.spawn(|| {
                    let mut stream = listener.connect();
                    stream.write_all(head(SIGNED, body.len()).as_bytes()).unwrap();
                    // All but the end of it, for which it waits.
                    let _ = stream.write_all(&body.as_bytes()[1..]);
                    status(&read(&mut stream))
                })
            })
            .collect();
        let mut most = before;
        while answers.iter().any(|answer| !answer.is_finished()) {
            most = most.max(listener.local.rss().unwrap());
            thread::sleep(Duration::from_millis(20));
        }
        (answers.into_iter().map(|answer| answer.join().unwrap()).collect::<Vec<_>>(), most)
    });
    let were = |code: u16| answers.iter().filter(|answer| **answer == Some(code)).count();
    println!("{count} bodies: {} kB of memory before, {} kB at most; 408: {}, 503: {}", before / 1024, most / 1024, were(408), were(503));
    assert!(were(408) >= 16 && were(503) > 0, "{answers:?}");
    assert!(most < before + (128 << 20), "{most} bytes of memory, and {before} before");
    assert!(listener.serves() < SOON);
    listener.end();
}

#[test]
fn a_request_of_which_half_has_come_when_the_end_is_asked_for_is_recorded_and_answered() {
    let listener = Listener::start();
    let (body, mut stream) = ("{\"at\": \"the end\"}", listener.connect());
    stream.write_all(right_head(body).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n").as_bytes()).unwrap();
    // Its body is asked for as soon as it is in flight.
    let mut asked = [0; ASKED_FOR.len()];
    stream.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, ASKED_FOR);
    let (half, rest) = body.split_at(body.len() / 2);
    stream.write_all(half.as_bytes()).unwrap();

    listener.local.ask_to_end(Signal::TERM).unwrap();
    wait_for("no new connection", || TcpStream::connect(("127.0.0.1", listener.port)).is_err().then_some(())).unwrap();
    stream.write_all(rest.as_bytes()).unwrap();
    let answer = read(&mut stream);
    assert_eq!(status(&answer), Some(202), "{answer}");
    assert!(listener.local.finish().unwrap().0.success());
    let id = answer.split("\"task_id\":\"").nth(1).unwrap().split('"').next().unwrap();
    let state = files(&listener.folder.path().join("manifests/.git-events-runner")).unwrap();
    assert!(state.iter().any(|file| file.contains(id)), "{id} is not in {state:#?}");
}
