//! Checks that are asked for at the same time share one request, and a host that does not answer is left alone and found again.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use git_events_runner_core::{
    CommitId, ObjectRef, Reason, Reference, Retry, Source as _, SourceError, Watch,
    git::{Credentials, GitClient, GitSource, Proxy, RepoUri, Repository},
};
use git_events_runner_tests::{Auth, GitServer, LoggedRequest, Options};

fn repository(uri: &str) -> Repository {
    Repository { timeout: Duration::from_secs(20), ..Repository::new(RepoUri::parse(uri).unwrap()) }
}

fn source(client: &GitClient, repository: Repository) -> GitSource {
    GitSource::new(ObjectRef::namespaced("GitRepo", "default", "app"), repository, client.clone())
}

async fn observe(source: &GitSource, branch: &str) -> Result<CommitId, SourceError> {
    source.observe(&Watch::new(Reference::Branch(branch.to_owned()))).await.map(|seen| seen.commit)
}

/// How many of these requests ask for a ref: each check has one.
fn checks(requests: &[LoggedRequest]) -> usize {
    requests.iter().filter(|request| request.method == "POST").count()
}

#[tokio::test]
async fn fifty_checks_of_the_same_ref_at_once_are_two() {
    let server = GitServer::start(&Options::default()).unwrap();
    let tip = server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    let client = GitClient::default();
    // Each trigger has a source of its own.
    let sources: Vec<_> = (0..50).map(|_| source(&client, repository(&server.uri("app")))).collect();
    for seen in join_all(sources.iter().map(|source| observe(source, "main"))).await {
        assert_eq!(seen.unwrap(), tip);
    }
    // The first one also asks how the server talks. Those who come while it is in flight share the next one.
    let requests = server.take_requests(3).unwrap();
    assert_eq!((checks(&requests), requests.len()), (2, 3), "{requests:?}");

    // Nothing is kept of them: the next check asks again.
    assert_eq!(observe(&sources[0], "main").await.unwrap(), tip);
    assert_eq!(checks(&server.take_requests(1).unwrap()), 1);
}

#[tokio::test]
async fn a_push_between_two_checks_that_overlap_is_seen_by_the_later_one() {
    let server = GitServer::start(&Options::default()).unwrap();
    let repo = server.repo("app").unwrap();
    repo.push("main", &[("a", "0")]).unwrap();
    let (client, uri) = (GitClient::default(), server.uri("app"));
    for round in 1..=10 {
        let source = source(&client, repository(&uri));
        let earlier = tokio::spawn({
            let source = source.clone();
            async move { observe(&source, "main").await }
        });
        tokio::task::yield_now().await;
        let tip = repo.push("main", &[("a", &round.to_string())]).unwrap();
        assert_eq!(observe(&source, "main").await.unwrap(), tip, "what was pushed before it was asked");
        earlier.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn other_refs_and_other_credentials_are_checks_of_their_own() {
    let server = GitServer::start(&Options { auth: Auth::Basic("me".into(), "right".into()), ..Options::default() }).unwrap();
    let repo = server.repo("app").unwrap();
    let tips = ["main", "next"].map(|branch| repo.push(branch, &[("a", branch)]).unwrap());
    let client = GitClient::default();
    let with = |password: &str| {
        let credentials = Credentials::Basic { username: "me".into(), password: password.into() };
        source(&client, Repository { credentials, ..repository(&server.uri("app")) })
    };
    let (right, wrong) = (with("right"), with("wrong"));
    let ask = |number: usize| {
        let (right, wrong) = (&right, &wrong);
        async move {
            match number % 3 {
                0 => assert_eq!(observe(right, "main").await.unwrap(), tips[0]),
                1 => assert_eq!(observe(right, "next").await.unwrap(), tips[1]),
                _ => assert_eq!(observe(wrong, "main").await.unwrap_err().reason(), Reason::AuthenticationFailed),
            }
        }
    };
    join_all((0..60).map(ask)).await;
    let requests = server.take_requests(8).unwrap();
    let refused = requests.iter().filter(|request| request.status == 401).count();
    // Right ones for each of the two refs; of the wrong ones, each check ends with its first request.
    assert_eq!((checks(&requests), refused), (4, 2), "{requests:?}");
}

/// A proxy that passes everything on, but sends who asks for `app` to another repository of the same server.
fn misleading_proxy(server: &GitServer) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, behind) = (listener.local_addr().unwrap(), server.origin().replace("http://", ""));
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: {}/info/refs?service=git-upload-pack\r\n", server.uri("fork"));
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let head = head(&mut client).unwrap();
            if head.contains("/app.git/info/refs") {
                client.write_all(format!("{redirect}Content-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
            } else {
                let behind = behind.clone();
                thread::spawn(move || pass_on(client, &behind, head.as_bytes()));
            }
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn what_was_learnt_by_one_way_serves_no_other() {
    let server = GitServer::start(&Options::default()).unwrap();
    let [tip, fork] = ["app", "fork"].map(|name| server.repo(name).unwrap().push("main", &[("a", name)]).unwrap());
    let (client, direct) = (GitClient::default(), repository(&server.uri("app")));
    let proxy = Some(Proxy { url: misleading_proxy(&server), credentials: None });
    let misled = source(&client, Repository { proxy, ..direct.clone() });
    for _ in 0..2 {
        assert_eq!(observe(&misled, "main").await.unwrap(), fork, "whose proxy it is believes it");
        assert_eq!(observe(&source(&client, direct.clone()), "main").await.unwrap(), tip);
    }
}

#[tokio::test]
async fn a_place_that_was_redirected_to_and_is_closed_is_forgotten() {
    let server = GitServer::start(&Options::default()).unwrap();
    let tip = server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    for answer in ["401 Unauthorized", "200 OK\r\nContent-Type: application/x-git-upload-pack-result"] {
        let closed = Arc::new(AtomicBool::new(false));
        let source = source(&GitClient::default(), repository(&moving_server(&server, answer, Arc::clone(&closed))));
        assert_eq!(observe(&source, "main").await.unwrap(), tip);
        closed.store(true, Ordering::SeqCst);
        assert_eq!(observe(&source, "main").await.unwrap(), tip, "{answer}");
    }
}

/// A server that redirects to `/old`, and, once that is closed, answers so there and serves the repository where it was asked for.
fn moving_server(server: &GitServer, answer: &'static str, closed: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, behind) = (listener.local_addr().unwrap(), server.origin().replace("http://", ""));
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let head = head(&mut client).unwrap();
            let answer = match (head.contains(" /old/"), closed.load(Ordering::SeqCst)) {
                (true, true) => answer,
                (false, false) => "302 Found\r\nLocation: /old/app.git/info/refs?service=git-upload-pack",
                _ => {
                    let (behind, head) = (behind.clone(), head.replace(" /old/", " /").replacen("\r\n", "\r\nConnection: close\r\n", 1));
                    thread::spawn(move || pass_on(client, &behind, head.as_bytes()));
                    continue;
                }
            };
            client.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        }
    });
    format!("http://{address}/app.git")
}

fn head(client: &mut TcpStream) -> io::Result<String> {
    let (mut head, mut byte) = (vec![], [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Something in front of a server that can be switched off: then it closes each connection, or keeps it and says nothing.
struct Switch {
    address: SocketAddr,
    is_on: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
enum Off {
    Closes,
    IsSilent,
}

impl Switch {
    fn start(server: &GitServer, off: Off) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (is_on, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (on, count, behind) = (Arc::clone(&is_on), Arc::clone(&accepted), server.origin().replace("http://", ""));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let (on, behind) = (on.load(Ordering::SeqCst), behind.clone());
                thread::spawn(move || match (on, off) {
                    (true, _) => pass_on(client, &behind, b""),
                    (false, Off::IsSilent) => io::copy(&mut &client, &mut io::sink()).map(drop),
                    (false, Off::Closes) => Ok(()),
                });
            }
        });
        Self { address, is_on, accepted }
    }

    fn turn_on(&self) {
        self.is_on.store(true, Ordering::SeqCst);
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// A repository behind it, whatever its number: the path tells it from others, and nothing else does.
    fn repository(&self, number: usize) -> Repository {
        repository(&format!("http://{}/moved{}/app.git", self.address, "/moved".repeat(number)))
    }
}

fn pass_on(client: TcpStream, behind: &str, read_already: &[u8]) -> io::Result<()> {
    let mut server = TcpStream::connect(behind)?;
    server.write_all(read_already)?;
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || io::copy(&mut &from, &mut &to).and_then(|_| to.shutdown(std::net::Shutdown::Write)));
    io::copy(&mut &server, &mut &client)?;
    client.shutdown(std::net::Shutdown::Both)
}

#[tokio::test]
async fn a_host_that_hangs_holds_up_no_other() {
    let server = GitServer::start(&Options::default()).unwrap();
    let tip = server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    let (hangs, client) = (Switch::start(&server, Off::IsSilent), GitClient::default());
    // More than are asked of one host at a time.
    let waiting: Vec<_> =
        (0..100).map(|number| source(&client, Repository { timeout: Duration::from_secs(60), ..hangs.repository(number) })).collect();
    let waiting = tokio::spawn(async move { join_all(waiting.iter().map(|source| observe(source, "main"))).await });
    while hangs.accepted() < 32 {
        tokio::task::yield_now().await;
    }
    let begin = Instant::now();
    for _ in 0..20 {
        assert_eq!(observe(&source(&client, repository(&server.uri("app"))), "main").await.unwrap(), tip);
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!(hangs.accepted(), 32, "no more than these are asked of one host");
    assert!(!waiting.is_finished());
    waiting.abort();
}

fn is_left_out(seen: &Result<CommitId, SourceError>) -> bool {
    seen.as_ref().is_err_and(|error| error.to_string().contains("has not answered lately"))
}

#[tokio::test]
async fn a_host_of_which_many_repositories_fail_is_left_alone_and_comes_back() {
    let server = GitServer::start(&Options::default()).unwrap();
    let tip = server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    for off in [Off::Closes, Off::IsSilent] {
        let (host, client) = (Switch::start(&server, off), GitClient::default());
        let source = |number| source(&client, Repository { timeout: Duration::from_millis(300), ..host.repository(number) });
        // One that fails often is its own trouble.
        for number in [0, 0, 0, 0, 0, 0, 1, 2, 3, 4] {
            let error = observe(&source(number), "main").await.unwrap_err();
            assert!(error.retry() == Retry::Backoff, "each of these is asked: {error}");
        }
        let asked = host.accepted();
        let error = observe(&source(5), "main").await.unwrap_err();
        assert!(error.reason() == Reason::Unreachable && error.to_string().contains("has not answered lately"), "{error}");
        let Retry::After(wait) = error.retry() else { panic!("{error:?}") };
        assert!(wait <= Duration::from_secs(1) && host.accepted() == asked, "{wait:?}");

        // Of all that want to know, one looks.
        let sources: Vec<_> = (0..20).map(source).collect();
        let (begin, mut left_out, mut looked) = (Instant::now(), sources.len(), Instant::now());
        while left_out == sources.len() {
            looked = Instant::now();
            assert!(begin.elapsed() < wait + Duration::from_secs(20), "nobody looks again");
            let seen = join_all(sources.iter().map(|source| observe(source, "main"))).await;
            left_out = seen.iter().filter(|seen| is_left_out(seen)).count();
        }
        // A connection that is closed at once may have been an old one, so it may try another.
        assert!(left_out == 19 && host.accepted() - asked <= 2, "{left_out}, {}", host.accepted() - asked);
        let Retry::After(wait) = observe(&source(0), "main").await.unwrap_err().retry() else { panic!() };
        let (longer, since) = (Duration::from_secs(2), looked.elapsed());
        assert!(wait <= longer && longer <= wait + since, "it is left alone for longer: {wait:?} after {since:?}");

        host.turn_on();
        let begin = Instant::now();
        let source = |number| GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), host.repository(number), client.clone());
        while is_left_out(&observe(&source(0), "main").await) {
            assert!(begin.elapsed() < wait + Duration::from_secs(20), "it is not found again");
        }
        for number in 0..20 {
            let seen = observe(&source(number), "main").await;
            if number < 5 {
                assert_eq!(seen.unwrap(), tip);
            } else {
                assert_eq!(seen.unwrap_err().reason(), Reason::ProtocolError, "more redirects than are followed are an answer, too");
            }
        }
    }
}
