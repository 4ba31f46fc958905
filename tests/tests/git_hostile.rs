//! GitSource against servers that are broken or mean harm: one clear error each, in time, and nothing held afterwards.
//!
//! It is one test, because it counts the open files of its process.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use git_events_runner_core::{
    Checkout as _, CommitId, ObjectRef, Reason, Reference, Retry, Revision, Source as _, SourceError, Watch,
    git::{Credentials, GitClient, GitSource, Limits, RepoUri, Repository},
};
use git_events_runner_tests::wait_for;

/// A server that does with each connection what its script says, on threads of its own.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    fn start(script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (script, count) = (Arc::new(script), Arc::clone(&connections));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let script = Arc::clone(&script);
                // An error means that the client has gone, as it should.
                thread::spawn(move || script(&mut Connection(stream)));
            }
        });
        Self { address, connections }
    }

    /// Answers the request for capabilities as a server of version 2, and every other as the script says.
    fn version_2(script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::start(move |client| {
            while let Some(head) = client.request()? {
                if head.starts_with("GET") {
                    let answer = [line(b"version 2\n"), line(b"fetch=shallow\n"), b"0000".to_vec()].concat();
                    client.answer("200 OK", &format!("Content-Length: {}\r\n{ADVERTISEMENT}", answer.len()), &answer)?;
                } else {
                    return script(client);
                }
            }
            Ok(())
        })
    }
}

struct Connection(TcpStream);

impl Connection {
    /// Reads a request, and answers with its head; None when the client has closed.
    fn request(&mut self) -> io::Result<Option<String>> {
        let (mut head, mut byte) = (vec![], [0]);
        while !head.ends_with(b"\r\n\r\n") {
            if self.0.read(&mut byte)? == 0 {
                return Ok(None);
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().unwrap());
        self.0.read_exact(&mut vec![0; length])?;
        Ok(Some(head))
    }

    fn answer(&mut self, status: &str, headers: &str, body: &[u8]) -> io::Result<()> {
        self.0.write_all(format!("HTTP/1.1 {status}\r\n{headers}\r\n").as_bytes())?;
        self.0.write_all(body)
    }

    /// Reads the request and answers it, with the end of the connection as that of the body.
    fn answer_once(&mut self, status: &str, headers: &str, body: &[u8]) -> io::Result<()> {
        self.request()?;
        self.answer(status, &format!("Connection: close\r\n{headers}"), body)
    }

    /// Says nothing until the client closes.
    fn silence(&mut self) -> io::Result<()> {
        io::copy(&mut self.0, &mut io::sink()).map(drop)
    }

    /// Repeats this until the client closes.
    fn endless(&mut self, piece: &[u8]) -> io::Result<()> {
        let many = piece.repeat(1 + 60_000 / piece.len());
        loop {
            self.0.write_all(&many)?;
        }
    }

    /// Sends one byte of this now and then, until the client closes.
    fn trickle(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.set_read_timeout(Some(Duration::from_millis(50)))?;
        for byte in bytes.iter().cycle() {
            self.0.write_all(&[*byte])?;
            if matches!(self.0.read(&mut [0]), Ok(0)) {
                break;
            }
        }
        Ok(())
    }
}

const ADVERTISEMENT: &str = "Content-Type: application/x-git-upload-pack-advertisement\r\n";
const RESULT: &str = "Content-Type: application/x-git-upload-pack-result\r\n";
const REF: &[u8] = b"00401234567812345678123456781234567812345678 refs/heads/other99\n";

fn line(text: &[u8]) -> Vec<u8> {
    [format!("{:04x}", text.len() + 4).as_bytes(), text].concat()
}

fn band(band: u8, data: &[u8]) -> Vec<u8> {
    line(&[&[band], data].concat())
}

fn pack_start() -> Vec<u8> {
    [line(b"packfile\n"), band(1, b"PACK\0\0\0\x02\0\0\0\x09")].concat()
}

/// A server, what is asked of it, and what comes of that.
struct Case {
    what: &'static str,
    server: Server,
    /// A checkout, not a check.
    checkout: bool,
    reason: Reason,
    retry: Retry,
    message: &'static str,
}

fn check(what: &'static str, server: Server, reason: Reason, message: &'static str) -> Case {
    Case { what, server, checkout: false, reason, retry: Retry::Backoff, message }
}

fn checkout(what: &'static str, server: Server, reason: Reason, message: &'static str) -> Case {
    Case { checkout: true, ..check(what, server, reason, message) }
}

fn start(script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> Server {
    Server::start(script)
}

fn checks() -> Vec<Case> {
    let status = |status: &'static str, headers: &'static str| Server::start(move |client| client.answer_once(status, headers, b"canary"));
    let ok = |headers: &'static str, body: &'static [u8]| Server::start(move |client| client.answer_once("200 OK", headers, body));
    let after = |seconds| Retry::After(Duration::from_secs(seconds));
    use Reason::*;
    vec![
        check("silent", start(Connection::silence), Timeout, "took longer than 500ms, while waiting for its answer to the first request"),
        check(
            "a byte now and then",
            start(|c| c.request().and_then(|_| c.trickle(b"HTTP/1.1 200 OK\r\nX: y"))),
            Timeout,
            "took longer than 500ms",
        ),
        check(
            "a body of a byte now and then",
            start(|c| c.answer_once("200 OK", ADVERTISEMENT, b"").and_then(|()| c.trickle(REF))),
            Timeout,
            "took longer than 500ms, while receiving its list of refs",
        ),
        check(
            "headers without end",
            start(|c| c.request().and_then(|_| c.endless(b"HTTP/1.1 200 OK\r\nX: y\r\n"))),
            Unreachable,
            "broke off",
        ),
        check(
            "refs without end",
            start(|c| c.answer_once("200 OK", ADVERTISEMENT, b"").and_then(|()| c.endless(REF))),
            TooLarge,
            "has more bytes of refs than is accepted, which is 1000000",
        ),
        check(
            "a page without end",
            start(|c| c.answer_once("200 OK", "Content-Type: text/html\r\n", b"").and_then(|()| c.endless(b"<br>"))),
            ProtocolError,
            "answers with text/html, not as a Git server",
        ),
        check(
            "noise without end",
            start(|c| c.answer_once("200 OK", ADVERTISEMENT, b"").and_then(|()| c.endless(b"<br>"))),
            ProtocolError,
            "no packets of Git",
        ),
        check("closed at once", start(|c| c.request().map(drop)), Unreachable, "broke off"),
        check("closed before the end of the refs", ok(ADVERTISEMENT, REF), ProtocolError, "its answer is cut off"),
        check("closed within a packet", ok(ADVERTISEMENT, &REF[..20]), ProtocolError, "its answer is cut off"),
        check(
            "closed within the promised length",
            ok("Content-Length: 500\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n", REF),
            Unreachable,
            "broke off",
        ),
        check(
            "half closed after part of the answer",
            start(|c| {
                c.answer_once("200 OK", ADVERTISEMENT, REF)?;
                c.0.shutdown(std::net::Shutdown::Write)?;
                c.silence()
            }),
            ProtocolError,
            "its answer is cut off",
        ),
        check("no http", start(|c| c.request().and_then(|_| c.0.write_all(b"SSH-2.0-x\r\n"))), Unreachable, "broke off"),
        check(
            "redirect without end",
            start(|c| {
                while c.request()?.is_some() {
                    c.answer("302 Found", "Location: /a/info/refs\r\nContent-Length: 0\r\n", b"")?;
                }
                Ok(())
            }),
            ProtocolError,
            "redirects more than 5 times",
        ),
        check(
            "redirect elsewhere",
            status("302 Found", "Location: https://elsewhere.example/canary?canary\r\n"),
            ProtocolError,
            "redirects to https://elsewhere.example, which is not followed",
        ),
        check("redirect to nowhere", status("302 Found", ""), ProtocolError, "redirects to nowhere"),
        check("401", status("401 Unauthorized", "WWW-Authenticate: Basic\r\n"), AuthenticationFailed, "refuses the credentials (401"),
        check("403", status("403 Forbidden", ""), AuthenticationFailed, "refuses the credentials (403"),
        check("404", status("404 Not Found", ""), RepositoryNotFound, "there is no repository at"),
        Case { retry: after(7), ..check("429", status("429 Too Many Requests", "Retry-After: 7\r\n"), RateLimited, "fewer requests") },
        check("500", status("500 Internal Server Error", ""), Unreachable, "is not able to answer now (500"),
        Case { retry: after(9), ..check("503", status("503 Service Unavailable", "Retry-After: 9\r\n"), Unreachable, "(503") },
        check("418", status("418 canary", ""), ProtocolError, "not how a Git server answers"),
        check("a page", ok("Content-Type: text/html; charset=utf-8\r\n", b"<html>"), ProtocolError, "answers with text/html"),
        check("a dumb server", ok("Content-Type: text/plain\r\n", REF), ProtocolError, "(smart http)"),
        check("an error in a packet", ok(ADVERTISEMENT, b"0013ERR no \x1b[31m\n\n\n"), ProtocolError, "reports: no  [31m"),
        check("version 2, then silent", Server::version_2(Connection::silence), Timeout, "while waiting for its answer"),
        check("version 2, then cut off", Server::version_2(|c| c.answer("200 OK", RESULT, REF)), ProtocolError, "cut off"),
        check(
            "version 2, then refs without end",
            Server::version_2(|c| c.answer("200 OK", RESULT, b"").and_then(|()| c.endless(REF))),
            TooLarge,
            "more bytes of refs",
        ),
        check(
            "version 2, then a redirect",
            Server::version_2(|c| c.answer("307 Temporary Redirect", "Location: http://elsewhere.example/\r\n", b"")),
            ProtocolError,
            "redirects to http://elsewhere.example",
        ),
    ]
}

fn checkouts() -> Vec<Case> {
    let fetch =
        |pieces: Vec<Vec<u8>>| Server::version_2(move |c| c.answer("200 OK", &format!("Connection: close\r\n{RESULT}"), &pieces.concat()));
    let endless = |data: &'static [u8]| {
        Server::version_2(move |c| c.answer("200 OK", RESULT, &pack_start()).and_then(|()| c.endless(&band(1, data))))
    };
    use Reason::*;
    vec![
        checkout("silent", Server::start(Connection::silence), Timeout, "took longer than 500ms, while waiting"),
        checkout("version 2, then silent", Server::version_2(Connection::silence), Timeout, "while waiting for its answer"),
        checkout(
            "silent within the pack",
            Server::version_2(|c| c.answer("200 OK", RESULT, &pack_start()).and_then(|()| c.silence())),
            Timeout,
            "took longer than 500ms, while receiving its files",
        ),
        checkout(
            "a byte of the pack now and then",
            Server::version_2(|c| c.answer("200 OK", RESULT, &pack_start()).and_then(|()| c.trickle(&band(2, b"working")))),
            Timeout,
            "took longer than 1s, while receiving its files",
        ),
        checkout("a pack of noise", endless(&[0xff; 1000]), ProtocolError, "cannot be read"),
        checkout(
            "a pack without end",
            // One object of a terabyte, as stored blocks of nothing.
            Server::version_2(|c| {
                c.answer("200 OK", RESULT, &pack_start())?;
                c.0.write_all(&band(1, &[0xb0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0x78, 0x01]))?;
                c.endless(&band(1, &[&[0, 0xe8, 0x03, 0x17, 0xfc], [0; 1000].as_slice()].concat()))
            }),
            TooLarge,
            "has more bytes of files than is accepted, which is 10000000",
        ),
        checkout(
            "progress without end",
            Server::version_2(|c| c.answer("200 OK", RESULT, &pack_start()).and_then(|()| c.endless(&band(2, &[b'x'; 1000])))),
            TooLarge,
            "more bytes of files",
        ),
        checkout(
            "not a pack",
            fetch(vec![line(b"packfile\n"), band(1, b"hello, world"), b"0000".to_vec()]),
            ProtocolError,
            "what is no pack",
        ),
        checkout("a pack without objects", fetch(vec![pack_start(), b"0000".to_vec()]), ProtocolError, "cannot be read"),
        checkout("a pack that is cut off", fetch(vec![pack_start()]), ProtocolError, "its answer is cut off"),
        checkout("an error within the pack", fetch(vec![pack_start(), band(3, b"out of canary\n")]), ProtocolError, "reports: out of …"),
        checkout(
            "an error instead of a pack",
            fetch(vec![line(b"ERR upload-pack: not our ref 1234")]),
            ReferenceNotFound,
            "there is no commit",
        ),
        checkout(
            "billions of objects",
            fetch(vec![line(b"packfile\n"), band(1, b"PACK\0\0\0\x02\xff\xff\xff\xff")]),
            ProtocolError,
            "objects",
        ),
        checkout("a page", Server::version_2(|c| c.answer("200 OK", "Content-Type: text/html\r\n", b"")), ProtocolError, "text/html"),
        checkout("500", Server::version_2(|c| c.answer("500 Oh", "", b"")), Unreachable, "(500"),
    ]
}

/// Where a timeout is expected it comes soon, and where another error is, not before that.
fn repository(address: SocketAddr, expected: Reason) -> Repository {
    let timeout = if expected == Reason::Timeout { Duration::from_millis(500) } else { Duration::from_secs(20) };
    Repository {
        credentials: Credentials::Basic { username: "me".into(), password: "canary".into() },
        timeout,
        checkout_timeout: timeout * 2,
        ..Repository::new(RepoUri::parse(&format!("http://{address}/app")).unwrap())
    }
}

async fn ask(repository: Repository, checkout: bool) -> SourceError {
    let limits = Limits { refs: 1_000_000, pack: 10_000_000, ..Limits::default() };
    let source = GitSource::new(ObjectRef::namespaced("GitRepo", "default", "app"), repository, GitClient::new(limits));
    let main = Reference::Branch("main".to_owned());
    if checkout {
        let into = tempfile::tempdir().unwrap();
        source.checkout(&Revision { reference: main, commit: CommitId::digest_of("") }, into.path()).await.unwrap_err()
    } else {
        source.observe(&Watch::new(main)).await.unwrap_err()
    }
}

fn assert_clear(what: &str, error: &SourceError) {
    let message = error.to_string();
    let mut all = format!("{error} {error:?}");
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        all.push_str(&format!(" {cause} {cause:?}"));
        next = cause.source();
    }
    assert!(!all.contains("canary") && !all.contains("bWU6Y2FuYXJ5"), "{what}: {all}");
    assert!(!message.contains(char::is_control) && !message.contains('?') && message.len() < 300, "{what}: {message}");
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn one_clear_error_each_in_time_and_nothing_held_afterwards() {
    let runtime = runtime();
    let cases: Vec<_> = checks().into_iter().chain(checkouts()).collect();
    let mut wrong = vec![];
    let before = open_files();
    for Case { what, server, checkout, reason, retry, message } in &cases {
        let error = runtime.block_on(ask(repository(server.address, *reason), *checkout));
        if (error.reason(), error.retry()) != (*reason, *retry) || !error.to_string().contains(message) {
            wrong.push(format!("{what}: {error:?}"));
        }
        assert_clear(what, &error);
        assert!(server.connections.load(Ordering::SeqCst) <= 2, "{what}");
        wait_for(&format!("{what}: all tasks ended"), || (runtime.metrics().num_alive_tasks() == 0).then_some(())).unwrap();
        wait_for(&format!("{what}: all files closed"), || (open_files() <= before).then_some(())).unwrap();
    }

    assert!(wrong.is_empty(), "{wrong:#?}");

    // Nobody listens there.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = runtime.block_on(ask(repository(nobody, Reason::Unreachable), false));
    assert_eq!(error.reason(), Reason::Unreachable);
    assert!(error.to_string().contains("no connection to http"), "{error}");
    let unknown = Repository { uri: RepoUri::parse("http://host.invalid/app").unwrap(), ..repository(nobody, Reason::Unreachable) };
    let error = runtime.block_on(ask(unknown, false));
    assert!(matches!(error.reason(), Reason::Unreachable | Reason::Timeout), "{error}");
    assert_clear("an unknown host", &error);

    // Credentials do not follow a redirect, be it only to another port.
    let elsewhere = Server::start(Connection::silence);
    let location = format!("Location: http://{}/app/info/refs\r\n", elsewhere.address);
    let redirecting = Server::start(move |client| client.answer_once("302 Found", &location, b""));
    let error = runtime.block_on(ask(repository(redirecting.address, Reason::ProtocolError), false));
    assert_eq!(error.reason(), Reason::ProtocolError, "{error}");
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);

    // One that is not waited for any longer leaves nothing behind either.
    wait_for("all files closed", || (open_files() <= before + 2).then_some(())).unwrap();
    let before = open_files();
    let busy = Server::version_2(|c| c.answer("200 OK", RESULT, &pack_start()).and_then(|()| c.silence()));
    let server_has = open_files() - before;
    runtime.block_on(async {
        let patient = repository(busy.address, Reason::Unreachable);
        tokio::time::timeout(Duration::from_millis(300), ask(patient, true)).await.expect_err("it is dropped while it waits for the pack");
    });
    wait_for("all tasks ended", || (runtime.metrics().num_alive_tasks() == 0).then_some(())).unwrap();
    wait_for("all files closed", || (open_files() <= before + server_has).then_some(())).unwrap();
}
