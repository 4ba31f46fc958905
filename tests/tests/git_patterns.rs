//! Which commits count when files are watched by patterns: on every way to a repository, and as git itself sees files and patterns.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

#[path = "git_patterns/as_git.rs"]
mod as_git;

use std::path::Path;

use git_events_runner_core::{
    CommitId, FilesDigest, ObjectRef, Observation, Reason, Reference, Retry, Source as _, SourceError, Watch,
    git::{Credentials, GitClient, GitSource, Limits, RepoUri, Repository},
};
use git_events_runner_tests::{Auth, GitDaemon, GitRepo, GitServer, Options, SshServer};

fn source(uri: &str, credentials: Credentials, client: &GitClient) -> GitSource {
    let repository = Repository { credentials, ..Repository::new(RepoUri::parse_with_local(uri, Path::new("/")).unwrap()) };
    GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), repository, client.clone())
}

/// A source that nothing is known of yet.
fn fresh(uri: &str) -> GitSource {
    source(uri, Credentials::None, &GitClient::default())
}

fn local(repo: &GitRepo) -> GitSource {
    fresh(repo.bare().to_str().unwrap())
}

fn main() -> Reference {
    Reference::Branch("main".to_owned())
}

fn watch(reference: Reference, patterns: &[&str]) -> Watch {
    Watch { reference, files: patterns.iter().map(|&pattern| pattern.to_owned()).collect() }
}

async fn observe(source: &GitSource, patterns: &[&str]) -> Result<Observation, SourceError> {
    source.observe(&watch(main(), patterns)).await
}

async fn digest(source: &GitSource, patterns: &[&str]) -> FilesDigest {
    observe(source, patterns).await.unwrap().files.unwrap()
}

async fn of_commit(source: &GitSource, commit: CommitId, patterns: &[&str]) -> Result<FilesDigest, SourceError> {
    source.observe(&watch(Reference::Commit(commit), patterns)).await.map(|seen| seen.files.unwrap())
}

/// Lets a server leave out the contents of files.
fn allow_filter(repo: &GitRepo) {
    repo.git(&["-C", repo.bare().to_str().unwrap(), "config", "uploadpack.allowFilter", "true"]).unwrap();
}

/// Files that cannot be compressed, and are larger than what is said of them.
fn fill(repo: &GitRepo) {
    for number in 0..20 {
        let content: String = (0..2000).map(|line| format!("{}\n", CommitId::digest_of(format!("{number} {line}")))).collect();
        repo.write(&format!("data/{number}.txt"), &content).unwrap();
    }
    repo.write("docs/a.md", "1").unwrap();
    repo.write("docs/b/c.md", "1").unwrap();
    repo.make_executable("docs/b/c.md").unwrap();
    repo.link("docs/link", "../data").unwrap();
    repo.commit_and_push("main").unwrap();
}

const PATTERNS: [&str; 3] = ["docs/", "*.txt", "!1*.txt"];

#[tokio::test]
async fn every_way_to_a_repository_leads_to_the_same_digest() {
    let (http, old_http) = (GitServer::start(&Options::default()).unwrap(), Options { old_protocol: true, ..Options::default() });
    let (old_http, daemon) = (GitServer::start(&old_http).unwrap(), GitDaemon::start().unwrap());
    let (ssh, old_ssh) = (SshServer::start(false).unwrap(), SshServer::start(true).unwrap());
    let credentials = |server: &SshServer| Credentials::Ssh {
        private_key: server.key(&["-t", "ed25519"], "").unwrap().private.into(),
        passphrase: None,
        known_hosts: Some(server.known_hosts()),
        insecure_ignore_host_key: false,
    };
    let (key, old_key) = (credentials(&ssh), credentials(&old_ssh));
    for filter in [false, true] {
        let name = if filter { "filter" } else { "plain" };
        let ways = [
            (http.repo(name).unwrap(), http.uri(name), Credentials::None),
            (old_http.repo(name).unwrap(), old_http.uri(name), Credentials::None),
            (ssh.repo(name).unwrap(), ssh.uri(name), key.clone()),
            (old_ssh.repo(name).unwrap(), old_ssh.uri(name), old_key.clone()),
            (daemon.repo(name).unwrap(), daemon.uri(name), Credentials::None),
        ];
        for (repo, uri, credentials) in ways {
            if filter {
                allow_filter(&repo);
            }
            fill(&repo);
            let expected = digest(&local(&repo), &PATTERNS).await;
            assert_eq!(digest(&source(&uri, credentials, &GitClient::default()), &PATTERNS).await, expected, "{uri}");
        }
        let (repo, uri) = (daemon.repo(&format!("old-{name}")).unwrap(), daemon.old_uri(&format!("old-{name}")).unwrap());
        fill(&repo);
        assert_eq!(digest(&fresh(&uri), &PATTERNS).await, digest(&local(&repo), &PATTERNS).await);
    }
}

#[tokio::test]
async fn credentials_are_needed_for_the_files_of_a_commit_too() {
    for (auth, right, wrong) in [
        (
            Auth::Basic("deployer".into(), "s3cret".into()),
            Credentials::Basic { username: "deployer".into(), password: "s3cret".into() },
            Credentials::Basic { username: "deployer".into(), password: "canary".into() },
        ),
        (
            Auth::Token("Bearer s3cret".into()),
            Credentials::Token { token: "Bearer s3cret".into() },
            Credentials::Token { token: "Bearer canary".into() },
        ),
    ] {
        let server = GitServer::start(&Options { auth, ..Options::default() }).unwrap();
        let repo = server.repo("app").unwrap();
        fill(&repo);
        let client = GitClient::default();
        let right = source(&server.uri("app"), right, &client);
        let (commit, expected) = (observe(&right, &PATTERNS).await.unwrap().commit, digest(&local(&repo), &PATTERNS).await);
        assert_eq!(digest(&right, &PATTERNS).await, expected);
        for wrong in [wrong, Credentials::None] {
            // What the right ones have learned helps the wrong ones nothing.
            let error = of_commit(&source(&server.uri("app"), wrong, &client), commit, &PATTERNS).await.unwrap_err();
            assert_eq!(error.reason(), Reason::AuthenticationFailed);
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }
}

#[tokio::test]
async fn contents_stay_where_they_are_if_the_server_can_leave_them_out() {
    for old_protocol in [false, true] {
        let server = GitServer::start(&Options { old_protocol, ..Options::default() }).unwrap();
        let mut sent = vec![];
        for filter in [false, true] {
            let name = format!("app-{filter}");
            let repo = server.repo(&name).unwrap();
            if filter {
                allow_filter(&repo);
            }
            fill(&repo);
            server.take_requests(0).unwrap();
            digest(&fresh(&server.uri(&name)), &PATTERNS).await;
            let requests = server.take_requests(3).unwrap();
            sent.push(requests.iter().map(|request| request.sent).sum::<u64>());
        }
        assert!(sent[0] > 400_000 && sent[1] < 6000, "old protocol {old_protocol}: {sent:?}");
    }
}

#[tokio::test]
async fn a_server_that_leaves_out_something_else_only_sends_contents_too() {
    for old_protocol in [false, true] {
        let server = GitServer::start(&Options { old_protocol, ..Options::default() }).unwrap();
        let repo = server.repo("app").unwrap();
        allow_filter(&repo);
        repo.git(&["-C", repo.bare().to_str().unwrap(), "config", "uploadpackfilter.blob:none.allow", "false"]).unwrap();
        fill(&repo);
        assert_eq!(digest(&fresh(&server.uri("app")), &PATTERNS).await, digest(&local(&repo), &PATTERNS).await);
        // One of the old protocol asks twice for a list of its refs, and one of the new one for the ref first; both are asked again.
        let requests = server.take_requests(5).unwrap();
        assert_eq!(requests.len(), 5, "{requests:?}");
    }
}

#[tokio::test]
async fn a_commit_that_was_seen_before_costs_no_more_than_its_ref() {
    let server = GitServer::start(&Options::default()).unwrap();
    let repo = server.repo("app").unwrap();
    let commit = repo.push("main", &[("a", "1"), ("b", "1")]).unwrap();
    let source = fresh(&server.uri("app"));
    let first = digest(&source, &["a"]).await;
    server.take_requests(3).unwrap();
    assert_eq!(digest(&source, &["a"]).await, first);
    // Other patterns need no other folders.
    let other = digest(&source, &["b"]).await;
    assert_eq!(of_commit(&source, commit, &["a"]).await.unwrap(), first);
    repo.push("other", &[("c", "1")]).unwrap();
    digest(&source, &["a"]).await;
    let requests = server.take_requests(3).unwrap();
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert!(requests.iter().all(|request| request.received < 700 && request.sent < 500), "{requests:?}");
    assert_ne!((&other.patterns, &other.files), (&first.patterns, &first.files));
}

#[tokio::test]
async fn many_triggers_on_a_new_commit_fetch_it_once() {
    let server = GitServer::start(&Options::default()).unwrap();
    let repo = server.repo("app").unwrap();
    repo.push("main", &[("a", "1")]).unwrap();
    let source = fresh(&server.uri("app"));
    observe(&source, &[]).await.unwrap();
    server.take_requests(2).unwrap();
    let patterns: Vec<_> = (0..30).map(|number| format!("a{number}")).collect();
    let looks = patterns.iter().map(|pattern| async { digest(&source, &[pattern]).await });
    let digests = futures_util::future::join_all(looks).await;
    assert!(digests.iter().all(|digest| digest.files.is_none()));
    let requests = server.take_requests(2).unwrap();
    assert!(requests.len() <= 3, "two for the ref, as some came when the first was asked already, and one for the folders: {requests:?}");
}

#[tokio::test]
async fn whatever_changes_a_file_that_matches_is_a_change() {
    let server = GitServer::start(&Options::default()).unwrap();
    let repo = server.repo("app").unwrap();
    allow_filter(&repo);
    repo.push("main", &[("docs/a.md", "1"), ("docs/b/c.md", "1"), ("x", "1"), ("f", "1")]).unwrap();
    let source = fresh(&server.uri("app"));
    let mut last = digest(&source, &["docs/", "!*.png"]).await;
    type Change<'a> = (&'a str, bool, &'a dyn Fn());
    let git = |args: &[&str]| repo.git(args).map(drop).unwrap();
    let write = |path: &str, content: &str| repo.write(path, content).unwrap();
    let changes: &[Change<'_>] = &[
        ("a file beside it", false, &|| write("x", "2")),
        ("an excluded one", false, &|| write("docs/a.png", "1")),
        ("a renamed one beside it", false, &|| git(&["mv", "x", "y"])),
        ("its content", true, &|| write("docs/a.md", "2")),
        ("its mode", true, &|| repo.make_executable("docs/a.md").unwrap()),
        ("its name", true, &|| git(&["mv", "docs/a.md", "docs/b.md"])),
        ("its folder's name", true, &|| git(&["mv", "docs/b", "docs/d"])),
        ("a link instead", true, &|| {
            git(&["rm", "-q", "docs/b.md"]);
            repo.link("docs/b.md", "2").unwrap();
        }),
        ("a folder instead", true, &|| {
            git(&["rm", "-q", "docs/b.md"]);
            write("docs/b.md/c", "1");
        }),
        ("one more", true, &|| write("docs/new", "")),
        ("moved in", true, &|| git(&["mv", "f", "docs/f"])),
        ("moved out", true, &|| git(&["mv", "docs/f", "f"])),
        ("a submodule", true, &|| {
            git(&["update-index", "--add", "--cacheinfo", "160000,1111111111111111111111111111111111111111,docs/lib"]);
            repo.git(&["commit", "--quiet", "--message", "a submodule"]).unwrap();
            repo.git(&["push", "--quiet", "origin", "HEAD:main"]).unwrap();
        }),
    ];
    for (what, is_change, change) in changes {
        change();
        if *what != "a submodule" {
            repo.commit_and_push("main").unwrap();
        }
        let now = digest(&source, &["docs/", "!*.png"]).await;
        assert_eq!(now != last, *is_change, "{what}");
        assert_eq!(now, digest(&local(&repo), &["docs/", "!*.png"]).await, "{what}");
        last = now;
    }
}

#[tokio::test]
async fn commits_that_no_branch_has_any_more_are_compared_as_long_as_the_server_has_them() {
    for old_protocol in [false, true] {
        let server = GitServer::start(&Options { old_protocol, ..Options::default() }).unwrap();
        let repo = server.repo("app").unwrap();
        let first = repo.push("main", &[("a", "1")]).unwrap();
        let second = repo.push("main", &[("a", "2")]).unwrap();
        let source = fresh(&server.uri("app"));
        let (old, new) = (of_commit(&source, first, &["a"]).await.unwrap(), of_commit(&source, second, &["a"]).await.unwrap());
        assert_ne!(old, new);
        repo.force("main", first).unwrap();
        assert_eq!(digest(&source, &["a"]).await, old);
        let forced = of_commit(&fresh(&server.uri("app")), second, &["a"]).await;
        if old_protocol {
            assert_eq!(forced.unwrap_err().reason(), Reason::ReferenceNotFound);
        } else {
            assert_eq!(forced.unwrap(), new);
        }
        let missing = of_commit(&source, CommitId::digest_of("missing"), &["a"]).await.unwrap_err();
        assert_eq!(missing.reason(), Reason::ReferenceNotFound, "{missing}");
    }
}

#[tokio::test]
async fn a_tag_is_compared_as_its_commit_by_either_id() {
    let server = GitServer::start(&Options::default()).unwrap();
    let repo = server.repo("app").unwrap();
    let commit = repo.push("main", &[("a", "1")]).unwrap();
    repo.tag_annotated("v1", commit).unwrap();
    let tag = repo.git(&["rev-parse", "v1"]).unwrap().parse().unwrap();
    assert_ne!(tag, commit);
    for source in [fresh(&server.uri("app")), local(&repo)] {
        let seen = source.observe(&watch(Reference::Tag("v1".to_owned()), &["a"])).await.unwrap();
        assert_eq!((seen.commit, seen.tag), (commit, Some(tag)));
        for id in [commit, tag] {
            assert_eq!(of_commit(&source, id, &["a"]).await.unwrap(), seen.files.clone().unwrap());
        }
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_in_one_clear_message() {
    let server = GitServer::start(&Options::default()).unwrap();
    let repo = server.repo("app").unwrap();
    fill(&repo);
    let limits = Limits::default();
    for (limits, reason, message) in [
        (Limits { file_count: 10, ..limits.clone() }, Reason::TooLarge, "more files in the commit than is accepted, which is 10"),
        (Limits { trees: 500, ..limits.clone() }, Reason::TooLarge, "more bytes of folders in the commit than is accepted, which is 500"),
        (Limits { files: 50_000, ..limits.clone() }, Reason::TooLarge, "more bytes of files than is accepted, which is 50000"),
        (Limits { pack: 50_000, ..limits.clone() }, Reason::TooLarge, "more bytes of files than is accepted, which is 50000"),
        (Limits { all_trees: 500, ..limits.clone() }, Reason::Full, "too many large repositories are compared at this moment"),
    ] {
        let source = source(&server.uri("app"), Credentials::None, &GitClient::new(limits));
        let error = observe(&source, &PATTERNS).await.unwrap_err();
        assert_eq!((error.reason(), error.retry()), (reason, Retry::Backoff), "{error}");
        assert!(error.to_string().contains(message), "{error}");
        observe(&source, &[]).await.unwrap();
    }
}

#[tokio::test]
async fn patterns_that_cannot_be_used_are_said() {
    let server = GitServer::start(&Options::default()).unwrap();
    server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    let error = observe(&fresh(&server.uri("app")), &["{a"]).await.unwrap_err();
    assert_eq!((error.reason(), error.retry()), (Reason::InvalidSpec, Retry::Never));
    assert!(error.to_string().starts_with("`watchOn.files` cannot be used: files[0] cannot be read: "), "{error}");
}
