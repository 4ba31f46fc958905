//! GitSource against servers that are broken or mean harm, on every way to one: one clear error each, in time, and nothing held afterwards.
//!
//! The tests come one after the other, because they count what their process holds. `HOSTILE_SERVERS` says how many servers the memory is
//! watched over.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

#[path = "git_hostile/held.rs"]
mod held;
#[path = "git_hostile/http.rs"]
mod http;
#[path = "git_hostile/proxy.rs"]
mod proxy;
#[path = "git_hostile/server.rs"]
mod server;
#[path = "git_hostile/ssh.rs"]
mod ssh;
#[path = "git_hostile/tcp.rs"]
mod tcp;
#[path = "git_hostile/tls.rs"]
mod tls;

use std::{
    any::Any,
    net::TcpListener,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use git_events_runner_core::{
    Checkout as _, CommitId, ObjectRef, Reason, Reference, Retry, Revision, Source as _, SourceError, Watch,
    git::{GitClient, GitSource, Limits, RepoUri, Repository},
};
use tokio::runtime::Runtime;

use held::{Held, memory};
use server::{Connection, Server};

/// How much later than its deadline an error may come.
const LATE: Duration = Duration::from_secs(1);

/// How often one that is late is asked, in all: a machine that stalls may be what is late, but not each time.
const TRIES: usize = 3;

/// How long an error may take that does not wait for a deadline.
const SOON: Duration = Duration::from_secs(15);

/// How much more memory may be taken in the end than after all servers were asked once: by threads that keep some of what they had.
const MEMORY: u64 = 24 << 20;

/// How many servers the memory is watched over, where nothing else is said.
const SERVERS: usize = 200;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What is asked of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Check,
    /// A check of files by patterns, of a commit that is known already.
    Files,
    Checkout,
}

/// A server, what is asked of it, and what comes of that.
struct Case {
    what: String,
    repository: Repository,
    /// The port to which nothing is connected afterwards.
    port: u16,
    server: Box<dyn Any + Send + Sync>,
    asked: Asked,
    reason: Reason,
    retry: Retry,
    message: &'static str,
}

impl Case {
    fn check(what: &str, repository: Repository, server: Server, reason: Reason, message: &'static str) -> Self {
        Self::at(what, repository, server.address.port(), server, reason, message)
    }

    /// Where a timeout is expected it comes soon, and where another error is, not before that.
    fn at(what: &str, repository: Repository, port: u16, server: impl Any + Send + Sync, reason: Reason, message: &'static str) -> Self {
        let (what, server) = (what.to_owned(), Box::new(server));
        let timeout = if reason == Reason::Timeout { Duration::from_millis(500) } else { Duration::from_secs(20) };
        Self { what, repository, port, server, asked: Asked::Check, reason, retry: Retry::Backoff, message }.within(timeout)
    }

    fn within(mut self, timeout: Duration) -> Self {
        self.repository = Repository { timeout, checkout_timeout: timeout * 2, ..self.repository };
        self
    }

    fn of(mut self, asked: Asked) -> Self {
        self.asked = asked;
        self
    }

    async fn ask(&self) -> SourceError {
        ask(self.repository.clone(), self.asked).await
    }

    fn is_right(&self, error: &SourceError) -> bool {
        assert_clear(&self.what, error);
        (error.reason(), error.retry()) == (self.reason, self.retry) && error.to_string().contains(self.message)
    }

    /// Whether an error comes too late.
    fn is_late(&self, took: Duration) -> bool {
        let limit = if self.asked == Asked::Checkout { self.repository.checkout_timeout } else { self.repository.timeout };
        took > if self.reason == Reason::Timeout { limit + LATE } else { SOON }
    }
}

fn cases() -> Vec<Case> {
    [http::cases(), tls::cases(), tcp::cases(), ssh::cases(), proxy::cases()].into_iter().flatten().collect()
}

async fn ask(repository: Repository, asked: Asked) -> SourceError {
    let limits = Limits { refs: 1_000_000, pack: 10_000_000, ..Limits::default() };
    let source = GitSource::new(ObjectRef::namespaced("GitRepo", "default", "app"), repository, GitClient::new(limits));
    let main = Reference::Branch("main".to_owned());
    let commit = CommitId::digest_of("");
    match asked {
        Asked::Check => source.observe(&Watch::new(main)).await.unwrap_err(),
        Asked::Files => {
            let watch = Watch { reference: Reference::Commit(commit), files: vec!["*".to_owned()] };
            source.observe(&watch).await.unwrap_err()
        }
        Asked::Checkout => {
            let into = tempfile::tempdir().unwrap();
            source.checkout(&Revision { reference: main, commit }, into.path()).await.unwrap_err()
        }
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

/// Its threads for blocking work end as soon as they have nothing to do.
fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).thread_keep_alive(Duration::from_millis(1)).enable_all().build().unwrap()
}

#[test]
fn one_clear_error_each_in_time_and_nothing_held_afterwards() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (cases, runtime) = (cases(), runtime());
    let (before, mut wrong, mut latest) = (Held::now(), vec![], Duration::ZERO);
    for case in &cases {
        let (mut tries, mut took);
        tries = 0;
        loop {
            let begin = Instant::now();
            let error = runtime.block_on(case.ask());
            (tries, took) = (tries + 1, begin.elapsed());
            let is_late = case.is_late(took);
            if is_late && tries < TRIES {
                continue;
            }
            if is_late || !case.is_right(&error) {
                wrong.push(format!("{}: after {took:?}: {error:?}", case.what));
            }
            break;
        }
        if case.reason == Reason::Timeout && case.asked != Asked::Checkout {
            latest = latest.max(took.saturating_sub(case.repository.timeout));
        }
        if let Some(server) = case.server.downcast_ref::<Server>() {
            // Twice at most; and one that redirects without end, again for each redirect that is followed.
            assert!(server.accepted() <= 6 * tries, "{}: asked {} times", case.what, server.accepted());
        }
        before.wait_for_no_more(&case.what, &runtime, &[case.port]);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("{} servers; the latest error came {latest:?} after its deadline", cases.len());
}

#[test]
fn memory_does_not_grow_with_the_number_of_servers() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (cases, runtime) = (cases(), runtime());
    let ports: Vec<_> = cases.iter().map(|case| case.port).collect();
    let servers = std::env::var("HOSTILE_SERVERS").map_or(SERVERS, |number| number.parse().unwrap());
    let (before, mut after_each) = (Held::now(), vec![]);
    while after_each.len() < 2 || after_each.len() * cases.len() < servers {
        runtime.block_on(join_all(cases.iter().map(Case::ask)));
        before.wait_for_no_more("all servers at once", &runtime, &ports);
        after_each.push(memory());
    }
    let (first, last) = (after_each[0], after_each[after_each.len() - 1]);
    let in_megabytes: Vec<_> = after_each.iter().map(|bytes| bytes >> 20).collect();
    println!("memory in MB each time that {} servers were asked: {in_megabytes:?}", cases.len());
    assert!(last <= first + MEMORY, "it grows: {in_megabytes:?} MB");
}

#[test]
fn one_that_is_not_waited_for_any_longer_leaves_nothing_behind() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = runtime();
    let cases = cases().into_iter().filter(|case| case.reason == Reason::Timeout);
    let cases: Vec<_> = cases.map(|case| case.within(Duration::from_secs(60))).collect();
    let before = Held::now();
    for case in &cases {
        let waited = runtime.block_on(async { tokio::time::timeout(Duration::from_millis(200), case.ask()).await });
        waited.expect_err("it is dropped while it waits");
        before.wait_for_no_more(&case.what, &runtime, &[case.port]);
    }
}

#[test]
fn nobody_and_an_unknown_host_are_told_apart_from_silence() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = runtime();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for scheme in ["http", "https", "git", "ssh"] {
        for (host, reasons, message) in [
            (nobody.to_string(), [Reason::Unreachable; 2], "no connection to"),
            ("host.invalid".to_owned(), [Reason::Unreachable, Reason::Timeout], ""),
        ] {
            let mut repository = Repository::new(RepoUri::parse(&format!("{scheme}://{host}/app")).unwrap());
            if scheme == "ssh" {
                let folder = tempfile::tempdir().unwrap();
                let key = git_events_runner_tests::SshKey::create(folder.path(), &["-t", "ed25519"], "").unwrap();
                repository = ssh::repository(&format!("{scheme}://{host}/app"), &key);
            }
            let repository = Repository { timeout: Duration::from_secs(5), ..repository };
            let error = runtime.block_on(ask(repository, Asked::Check));
            assert!(reasons.contains(&error.reason()) && error.to_string().contains(message), "{scheme}: {error}");
            assert_clear(&host, &error);
        }
    }
}

#[test]
fn credentials_do_not_follow_a_redirect_be_it_only_to_another_port() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = runtime();
    let elsewhere = Server::start(Connection::silence);
    let location = format!("Location: http://{}/app/info/refs\r\n", elsewhere.address);
    let redirecting = Server::start(move |client| client.answer_once("302 Found", &location, b""));
    let error = runtime.block_on(ask(http::repository(&redirecting), Asked::Check));
    assert_eq!(error.reason(), Reason::ProtocolError, "{error}");
    assert_eq!(elsewhere.accepted(), 0);
}
