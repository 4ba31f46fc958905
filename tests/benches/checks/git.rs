//! Checks over http, beside `git ls-remote`.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use git_events_runner_core::{
    CommitId, ObjectRef, Reference, Source as _, Watch,
    git::{GitClient, GitSource, RepoUri, Repository},
};
use git_events_runner_tests::{GitRepo, GitServer, LoggedRequest, Options};

use crate::measure::{Cost, Whose, milliseconds, repeat};

/// How often each check is repeated.
const TIMES: u32 = 100;

/// How many refs the large repository has: half of them branches, half of them tags.
pub const MANY_REFS: usize = 20_000;

/// What one check takes.
pub struct Check {
    cost: Cost,
    requests: f64,
    sent: f64,
    received: f64,
}

/// Prints what a check costs.
pub async fn print() -> Result<()> {
    let server = GitServer::start(&Options::default())?;
    println!("Checks of a branch over http, each {TIMES} times: wall time is the median, CPU time the mean.\n");
    println!(
        "| repository | check | requests | sent | received | wall time | CPU time | bytes of `ls-remote` | wall time of it | CPU time of it |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (name, refs) in [("small", 1), ("large", MANY_REFS)] {
        let repo = server.repo(name)?;
        let tip = repo.push("main", &[("README.md", "hello")])?;
        add_refs(&repo, tip, refs - 1)?;
        let uri = server.uri(name);
        let repository = Repository::new(RepoUri::parse_with_local(&uri, Path::new("/"))?);
        let source = |client| GitSource::new(ObjectRef::cluster("ClusterGitRepo", name), repository.clone(), client);
        let first =
            measure((&server, TIMES), Whose::Ours, || source(GitClient::default()), async |source| look(&source, tip).await).await?;
        let kept = source(GitClient::default());
        look(&kept, tip).await?;
        let later = measure((&server, TIMES), Whose::Ours, || &kept, async |source| look(source, tip).await).await?;
        let libgit2 = measure((&server, TIMES), Whose::Ours, || (), async |()| list_by_libgit2(&uri, tip)).await?;
        let git = measure((&server, TIMES), Whose::Children, || &repo, async |repo| ls_remote(repo, &uri, tip)).await?;
        let title = if refs == 1 { "1 ref".to_owned() } else { format!("{refs} refs") };
        for (kind, check) in
            [("first", &first), ("later", &later), ("libgit2, each time", &libgit2), ("`git ls-remote --heads URL main`", &git)]
        {
            println!("| {title} | {kind} | {} |", check.columns(&git));
        }
    }
    Ok(())
}

impl Check {
    /// Beside what git takes.
    pub fn columns(&self, git: &Self) -> String {
        let percent = |part: f64, whole: f64| format!("{:.1} %", 100.0 * part / whole);
        let Self { cost, requests, sent, received } = self;
        [
            format!("{requests:.1}"),
            format!("{sent:.0} B"),
            format!("{received:.0} B"),
            milliseconds(cost.wall),
            milliseconds(cost.cpu),
            percent(sent + received, git.sent + git.received),
            percent(cost.wall.as_secs_f64(), git.cost.wall.as_secs_f64()),
            percent(cost.cpu.as_secs_f64(), git.cost.cpu.as_secs_f64()),
        ]
        .join(" | ")
    }
}

/// Measures what is done so many times.
pub async fn measure<T>(
    (server, times): (&GitServer, u32),
    whose: Whose,
    prepare: impl FnMut() -> T,
    run: impl AsyncFnMut(T) -> Result<()>,
) -> Result<Check> {
    requests_so_far(server)?;
    let cost = repeat(times, whose, prepare, run).await?;
    let requests = requests_so_far(server)?;
    // With the one that is not timed.
    let each = |total: u64| total as f64 / f64::from(times + 1);
    let sum = |bytes: fn(&LoggedRequest) -> u64| each(requests.iter().map(bytes).sum());
    Ok(Check { cost, requests: each(requests.len() as u64), sent: sum(|request| request.received), received: sum(|request| request.sent) })
}

/// All requests since the last call. It sends one of its own, because the log says nothing of those that are still to come.
fn requests_so_far(server: &GitServer) -> Result<Vec<LoggedRequest>> {
    const MARK: &str = "/end-of-log";
    let host = server.origin().strip_prefix("http://").context("the server talks https")?;
    let mut stream = TcpStream::connect(host)?;
    stream.write_all(format!("GET {MARK} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    stream.read_to_end(&mut vec![])?;
    let mut requests = vec![];
    while requests.last().is_none_or(|last: &LoggedRequest| last.path != MARK) {
        requests.extend(server.take_requests(1)?);
    }
    requests.pop();
    Ok(requests)
}

async fn look(source: &GitSource, tip: CommitId) -> Result<()> {
    let seen = source.observe(&Watch::new(Reference::Branch("main".into()))).await?;
    ensure!(seen.commit == tip, "the check has seen another commit");
    Ok(())
}

/// libgit2 gets all refs, as it does not speak version 2.
fn list_by_libgit2(uri: &str, tip: CommitId) -> Result<()> {
    let mut remote = git2::Remote::create_detached(uri)?;
    let connection = remote.connect_auth(git2::Direction::Fetch, None, None)?;
    let seen = connection.list()?.iter().find(|head| head.name() == "refs/heads/main").map(|head| head.oid().to_string());
    ensure!(seen == Some(tip.to_string()), "libgit2 has seen another commit: {seen:?}");
    Ok(())
}

fn ls_remote(repo: &GitRepo, uri: &str, tip: CommitId) -> Result<()> {
    let seen = repo.git(&["ls-remote", "--heads", uri, "main"])?;
    ensure!(seen.starts_with(&tip.to_string()), "git has seen another commit: {seen}");
    Ok(())
}

/// Adds refs as a host keeps them: packed.
pub fn add_refs(repo: &GitRepo, tip: CommitId, count: usize) -> Result<()> {
    let bare = repo.bare().display().to_string();
    let kind = |number: usize| if number.is_multiple_of(2) { "tags" } else { "heads" };
    let lines: String = (0..count).map(|number| format!("create refs/{}/topic/{number} {tip}\n", kind(number))).collect();
    repo.git_with_input(&["--git-dir", &bare, "update-ref", "--stdin"], &lines)?;
    repo.git(&["--git-dir", &bare, "pack-refs", "--all"]).map(drop)
}
