//! GitSource against nginx with git-http-backend, and against repositories on disk.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::{fs, path::Path, time::Duration};

use git_events_runner_core::{
    Checkout as _, CommitId, ObjectRef, Reason, Reference, Retry, Revision, Source as _, SourceError, Watch,
    git::{Credentials, GitClient, GitSource, Limits, RepoUri, Repository},
};
use git_events_runner_tests::{Auth, GitRepo, GitServer, Options};
use tempfile::TempDir;

fn repository(uri: &str) -> Repository {
    Repository::new(RepoUri::parse_with_local(uri, Path::new("/")).unwrap())
}

fn source_of(repository: Repository) -> GitSource {
    GitSource::new(ObjectRef::namespaced("GitRepo", "default", "app"), repository, GitClient::default())
}

fn source(uri: &str) -> GitSource {
    source_of(repository(uri))
}

fn branch(name: &str) -> Reference {
    Reference::Branch(name.to_owned())
}

fn tag(name: &str) -> Reference {
    Reference::Tag(name.to_owned())
}

async fn observe(source: &GitSource, reference: Reference) -> Result<CommitId, SourceError> {
    source.observe(&Watch::new(reference)).await.map(|seen| {
        assert_eq!(seen.files, None);
        seen.commit
    })
}

async fn check_out(source: &GitSource, commit: CommitId) -> Result<TempDir, SourceError> {
    let into = tempfile::tempdir().unwrap();
    source.checkout(&Revision { reference: branch("main"), commit }, into.path()).await.map(|()| into)
}

fn files(folder: &Path) -> Vec<String> {
    git_events_runner_tests::files(folder).unwrap().into_iter().collect()
}

/// Both protocols, in every test that talks to a server.
const PROTOCOLS: [bool; 2] = [false, true];

fn server(old_protocol: bool) -> GitServer {
    GitServer::start(&Options { old_protocol, ..Options::default() }).unwrap()
}

#[tokio::test]
async fn a_branch_a_tag_and_a_commit_are_observed() {
    for old_protocol in PROTOCOLS {
        let server = server(old_protocol);
        let repo = server.repo("app").unwrap();
        let first = repo.push("main", &[("a", "1")]).unwrap();
        repo.tag("light", first).unwrap();
        repo.tag_annotated("annotated", first).unwrap();
        repo.git(&["tag", "--annotate", "--message", "a tag of a tag", "twice", "annotated"]).unwrap();
        repo.git(&["push", "--quiet", "origin", "refs/tags/twice"]).unwrap();
        let second = repo.push("main", &[("a", "2")]).unwrap();

        let source = source(&server.uri("app"));
        for _ in 0..2 {
            assert_eq!(observe(&source, branch("main")).await.unwrap(), second);
            for name in ["light", "annotated", "twice"] {
                assert_eq!(observe(&source, tag(name)).await.unwrap(), first, "{name}");
            }
        }
        for source in [&source, &self::source(repo.bare().to_str().unwrap())] {
            for (name, annotated) in [("light", false), ("annotated", true), ("twice", true)] {
                let object = repo.git(&["rev-parse", &format!("refs/tags/{name}")]).unwrap().parse().unwrap();
                let seen = source.observe(&Watch::new(tag(name))).await.unwrap();
                assert_eq!((seen.commit, seen.tag), (first, annotated.then_some(object)), "the tag's own object is known: {name}");
            }
        }
        assert_eq!(observe(&source, Reference::Commit(first)).await.unwrap(), first);
        repo.force("main", first).unwrap();
        assert_eq!(observe(&source, branch("main")).await.unwrap(), first, "after a force-push");
    }
}

#[tokio::test]
async fn a_branch_is_told_from_one_whose_name_begins_with_its_own() {
    for old_protocol in PROTOCOLS {
        let server = server(old_protocol);
        let repo = server.repo("app").unwrap();
        let longer = repo.push("main-2", &[("a", "1")]).unwrap();
        repo.tag("main", longer).unwrap();
        let source = source(&server.uri("app"));
        let error = observe(&source, branch("main")).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ReferenceNotFound);
        assert_eq!(error.to_string(), format!("there is no branch main in {}", server.uri("app")));

        let main = repo.push("main", &[("a", "2")]).unwrap();
        assert_eq!(observe(&source, branch("main")).await.unwrap(), main);
        assert_eq!(observe(&source, branch("main-2")).await.unwrap(), longer);
        assert_eq!(observe(&source, tag("main")).await.unwrap(), longer);
    }
}

#[tokio::test]
async fn what_is_not_there_or_not_there_any_more_is_not_found() {
    for old_protocol in PROTOCOLS {
        let server = server(old_protocol);
        let repo = server.repo("app").unwrap();
        let source = source(&server.uri("app"));
        let reason = async |reference| observe(&source, reference).await.unwrap_err().reason();
        assert_eq!(reason(branch("main")).await, Reason::ReferenceNotFound, "an empty repository");

        let kept = repo.push("kept", &[("a", "1")]).unwrap();
        let gone = repo.push("gone", &[("a", "2")]).unwrap();
        assert_eq!(observe(&source, branch("gone")).await.unwrap(), gone);
        repo.delete("refs/heads/gone").unwrap();
        assert_eq!(reason(branch("gone")).await, Reason::ReferenceNotFound);
        assert_eq!(observe(&source, branch("kept")).await.unwrap(), kept);

        let missing = "1234567812345678123456781234567812345678".parse().unwrap();
        let error = check_out(&source, missing).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ReferenceNotFound, "{error}");
        assert_eq!(error.to_string(), format!("there is no commit {missing} in {}", server.uri("app")));

        let nowhere = observe(&self::source(&server.uri("nowhere")), branch("main")).await.unwrap_err();
        assert_eq!(nowhere.reason(), Reason::RepositoryNotFound, "{nowhere}");
    }
}

#[tokio::test]
async fn names_may_have_slashes_and_letters_of_any_language() {
    for old_protocol in PROTOCOLS {
        let server = server(old_protocol);
        let repo = server.repo("größe & co").unwrap();
        let name = "feature/größe-日本/#1";
        let commit = repo.push(name, &[("ä/ö", "ü")]).unwrap();
        let source = source(&server.uri("größe & co"));
        assert_eq!(observe(&source, branch(name)).await.unwrap(), commit);
        let into = check_out(&source, commit).await.unwrap();
        assert_eq!(fs::read_to_string(into.path().join("ä/ö")).unwrap(), "ü");
    }
}

#[tokio::test]
async fn what_cannot_be_a_name_is_refused_before_anything_is_sent() {
    let source = source("http://127.0.0.1:1/app");
    for name in ["", "a b", "a\n0000", "a..b", "-", "a.lock", "/", "a^{}", &"a".repeat(2000)] {
        let error = observe(&source, branch(name)).await.unwrap_err();
        if name == "-" {
            assert_eq!(error.reason(), Reason::Unreachable, "git itself allows this one in a full name");
        } else {
            assert_eq!((error.reason(), error.retry()), (Reason::InvalidSpec, Retry::Never), "{name}");
            assert!(!error.to_string().contains('\n'));
        }
    }
}

#[tokio::test]
async fn the_right_credentials_are_let_in_and_wrong_ones_are_told_apart_from_none() {
    let basic = |password: &str| Credentials::Basic { username: "deployer".into(), password: password.into() };
    let token = |token: &str| Credentials::Token { token: token.into() };
    let cases = [
        (Auth::Basic("deployer".into(), "pass word".into()), basic("pass word\n"), basic("canary")),
        (Auth::Token("Bearer s3cret".into()), token("Bearer s3cret\n"), token("Bearer canary")),
    ];
    for (auth, right, wrong) in cases {
        for old_protocol in PROTOCOLS {
            let server = GitServer::start(&Options { auth: auth.clone(), old_protocol, ..Options::default() }).unwrap();
            let commit = server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
            let with =
                |credentials: &Credentials| source_of(Repository { credentials: credentials.clone(), ..repository(&server.uri("app")) });

            assert_eq!(observe(&with(&right), branch("main")).await.unwrap(), commit);
            assert_eq!(files(check_out(&with(&right), commit).await.unwrap().path()), ["a 644 1"]);

            for source in [with(&wrong), with(&Credentials::None)] {
                let errors = [observe(&source, branch("main")).await.unwrap_err(), check_out(&source, commit).await.unwrap_err()];
                for error in errors {
                    assert_eq!(error.reason(), Reason::AuthenticationFailed);
                    assert!(!format!("{error:?} {error}").contains("canary"));
                }
            }
            let none = observe(&with(&Credentials::None), branch("main")).await.unwrap_err().to_string();
            assert!(none.contains("none are configured"), "{none}");
            let wrong = observe(&with(&wrong), branch("main")).await.unwrap_err().to_string();
            assert!(wrong.contains("refuses the credentials"), "{wrong}");
        }
    }
}

/// A repository with what a checkout can get wrong. Its last file name comes before `.gitattributes`, which it obeys.
fn awkward(repo: &GitRepo) -> CommitId {
    let attributes = "*.crlf text eol=crlf\n*.lf text eol=lf\n*.bin -text\n*.id ident\n*.sub export-subst\n";
    repo.write(".gitattributes", attributes).unwrap();
    repo.write("sub/.gitattributes", "*.txt text eol=crlf\n").unwrap();
    for path in ["!first.crlf", "a.crlf", "a.lf", "a.bin", "sub/!first.txt", "sub/a.txt", "plain.txt"] {
        repo.write(path, "one\ntwo\n").unwrap();
    }
    repo.write("mixed", "one\r\ntwo\nthree\r\n").unwrap();
    repo.write("a.id", "$Id$\n").unwrap();
    repo.write("a.sub", "$Format:%H$\n").unwrap();
    repo.write("empty", "").unwrap();
    repo.write("with space/and \"quotes\"/and\ttab", "x").unwrap();
    repo.write("a*b?[c]", "a pattern").unwrap();
    repo.write("aXb", "not the pattern").unwrap();
    repo.write("deep/er/and/deeper/still", "y").unwrap();
    repo.write("run.sh", "#!/bin/sh\necho hello\n").unwrap();
    repo.make_executable("run.sh").unwrap();
    repo.link("link", "run.sh").unwrap();
    repo.link("deep/up", "../with space").unwrap();
    repo.link("nowhere", "/nonexistent/ä").unwrap();
    for number in 0..600 {
        repo.write(&format!("many/{number}"), &format!("{number}\n")).unwrap();
    }
    repo.git(&["update-index", "--add", "--cacheinfo", "160000,1234567812345678123456781234567812345678,submodule"]).unwrap();
    repo.commit_and_push("main").unwrap()
}

#[tokio::test]
async fn a_checkout_has_exactly_the_files_that_git_itself_writes() {
    for old_protocol in PROTOCOLS {
        let server = server(old_protocol);
        let repo = server.repo("app").unwrap();
        repo.push("main", &[("removed", "gone in the next commit")]).unwrap();
        fs::remove_file(repo.work().join("removed")).unwrap();
        fs::create_dir(repo.work().join("submodule")).unwrap();
        let commit = awkward(&repo);
        repo.push("main", &[("later", "not to be seen")]).unwrap();

        let cloned = tempfile::tempdir().unwrap();
        let target = cloned.path().join("clone");
        repo.git(&["clone", "--quiet", &server.uri("app"), target.to_str().unwrap()]).unwrap();
        let clone_git = |args: &[&str]| repo.git(&[&["-C", target.to_str().unwrap()], args].concat()).unwrap();
        clone_git(&["-c", "advice.detachedHead=false", "checkout", "--quiet", &commit.to_string()]);
        let expected = files(&target);
        let obeys = |file: &String| file.starts_with("!first.crlf ") && file.ends_with(" one\\r\\ntwo\\r\\n");
        assert!(expected.iter().any(obeys), "git obeys the attributes");

        let mut uris = vec![server.uri("app")];
        if !old_protocol {
            uris.extend([repo.bare(), repo.work()].map(|path| path.to_str().unwrap().to_owned()));
        }
        for uri in uris {
            let into = check_out(&source(&uri), commit).await.unwrap();
            assert_eq!(files(into.path()), expected, "{uri}");
            assert!(!into.path().join(".git").exists());
        }
    }
}

#[tokio::test]
async fn a_commit_that_no_ref_shows_any_more_is_checked_out_where_the_server_can() {
    let server = server(false);
    let repo = server.repo("app").unwrap();
    let first = repo.push("main", &[("a", "1")]).unwrap();
    let second = repo.push("main", &[("a", "2")]).unwrap();
    repo.force("main", first).unwrap();
    assert_eq!(files(check_out(&source(&server.uri("app")), second).await.unwrap().path()), ["a 644 2"]);
    assert_eq!(files(check_out(&source(&server.uri("app")), first).await.unwrap().path()), ["a 644 1"]);
}

#[tokio::test]
async fn the_old_protocol_gives_a_commit_of_the_past_and_one_that_only_an_annotated_tag_shows() {
    let server = server(true);
    let repo = server.repo("app").unwrap();
    let first = repo.push("main", &[("a", "1")]).unwrap();
    let tagged = repo.push("main", &[("a", "2")]).unwrap();
    repo.tag_annotated("v1", tagged).unwrap();
    repo.push("main", &[("a", "3")]).unwrap();
    let source = source(&server.uri("app"));
    for (reference, commit, content) in [(branch("main"), first, "a 644 1"), (tag("v1"), tagged, "a 644 2"), (tag("v1"), first, "a 644 1")]
    {
        let into = tempfile::tempdir().unwrap();
        source.checkout(&Revision { reference, commit }, into.path()).await.unwrap();
        assert_eq!(files(into.path()), [content]);
    }
    repo.force("main", first).unwrap();
    let gone = repo.commit("HEAD").unwrap();
    assert_eq!(check_out(&source, gone).await.unwrap_err().reason(), Reason::ReferenceNotFound, "no history has it any more");
}

#[tokio::test]
async fn the_folder_git_is_kept_on_request_as_that_of_a_shallow_clone() {
    let server = server(false);
    let repo = server.repo("app").unwrap();
    repo.push("main", &[("a", "1")]).unwrap();
    let commit = repo.push("main", &[("a", "2"), ("b", "1")]).unwrap();
    for (uri, history) in [(server.uri("app"), "1"), (repo.bare().to_str().unwrap().to_owned(), "2")] {
        let into = check_out(&source(&uri).keep_git_folder(true), commit).await.unwrap();
        let git = |args: &[&str]| repo.git(&[&["-C", into.path().to_str().unwrap()], args].concat()).unwrap();
        assert_eq!(git(&["rev-parse", "HEAD"]), commit.to_string());
        assert_eq!(git(&["status", "--porcelain"]), "");
        assert_eq!(git(&["rev-list", "--count", "HEAD"]), history);
        assert_eq!(git(&["remote", "get-url", "origin"]), uri);
        git(&["fsck", "--strict"]);
    }
}

#[tokio::test]
async fn repositories_on_disk_are_observed_and_left_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let repo = GitRepo::create(folder.path(), "with space").unwrap();
    let bare = repo.bare().to_str().unwrap().to_owned();
    assert_eq!(observe(&source(&bare), branch("main")).await.unwrap_err().reason(), Reason::ReferenceNotFound);

    let first = repo.push("main", &[("a", "1")]).unwrap();
    repo.tag_annotated("v1", first).unwrap();
    let second = repo.push("main", &[("a", "2")]).unwrap();
    repo.git(&["worktree", "add", "--quiet", "-b", "other", "../linked", &first.to_string()]).unwrap();
    let linked = folder.path().join("linked");
    // Not committed: neither seen nor touched.
    repo.write("a", "changed").unwrap();
    repo.write("staged", "1").unwrap();
    repo.git(&["add", "staged"]).unwrap();
    let status = repo.git(&["status", "--porcelain", "--branch"]).unwrap();

    let file_uri = format!("file://{}", bare.replace(' ', "%20"));
    let work = repo.work().to_str().unwrap();
    for uri in [&bare, &file_uri, work, &format!("{work}/.git"), linked.to_str().unwrap()] {
        let source = source(uri);
        assert_eq!(observe(&source, branch("main")).await.unwrap(), second, "{uri}");
        assert_eq!(observe(&source, tag("v1")).await.unwrap(), first, "{uri}");
        assert_eq!(files(check_out(&source, first).await.unwrap().path()), ["a 644 1"], "{uri}");
        assert_eq!(files(check_out(&source, second).await.unwrap().path()), ["a 644 2"], "{uri}");
        assert_eq!(observe(&source, branch("none")).await.unwrap_err().reason(), Reason::ReferenceNotFound);
        let missing = "1234567812345678123456781234567812345678".parse().unwrap();
        assert_eq!(check_out(&source, missing).await.unwrap_err().reason(), Reason::ReferenceNotFound);
    }
    assert_eq!(repo.git(&["status", "--porcelain", "--branch"]).unwrap(), status);
    assert_eq!(repo.commit("HEAD").unwrap(), second);
}

#[tokio::test]
async fn only_the_top_folder_of_a_repository_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let repo = GitRepo::create(folder.path(), "app").unwrap();
    repo.push("main", &[("sub/a", "1")]).unwrap();
    for path in [repo.work().join("sub"), folder.path().join("nothing")] {
        let error = observe(&source(path.to_str().unwrap()), branch("main")).await.unwrap_err();
        assert_eq!(error.reason(), Reason::RepositoryNotFound);
        assert_eq!(error.to_string(), format!("there is no repository at {}: name its top folder", path.display()));
    }
    let inner = GitRepo::create(&repo.work().join("sub"), "inner").unwrap();
    let commit = inner.push("main", &[("b", "1")]).unwrap();
    assert_eq!(observe(&source(inner.work().to_str().unwrap()), branch("main")).await.unwrap(), commit);
}

#[tokio::test]
async fn more_than_is_accepted_is_too_large() {
    let server = server(false);
    let repo = server.repo("app").unwrap();
    let noise: String = (0..20_000_u32).map(|number| format!("{}\n", number.wrapping_mul(2_654_435_761))).collect();
    let commit = repo.push("main", &[("a", &noise), ("b", "1"), ("c", "1")]).unwrap();
    let cases = [
        (Limits { pack: 10_000, ..Limits::default() }, "more bytes of files"),
        (Limits { files: 10_000, ..Limits::default() }, "more bytes of files"),
        (Limits { file: 10_000, ..Limits::default() }, "a larger file"),
        (Limits { file_count: 2, ..Limits::default() }, "more files in the commit"),
    ];
    for (limits, what) in cases {
        let source = GitSource::new(ObjectRef::cluster("GitRepo", "app"), repository(&server.uri("app")), GitClient::new(limits));
        let error = check_out(&source, commit).await.unwrap_err();
        assert_eq!(error.reason(), Reason::TooLarge);
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[tokio::test]
async fn a_few_kilobytes_that_stand_for_billions_of_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let repo = GitRepo::create(folder.path(), "bomb").unwrap();
    repo.push("main", &[("a", "1")]).unwrap();
    let mut tree = repo.git(&["rev-parse", "HEAD^{tree}"]).unwrap();
    for _ in 0..10 {
        let level: String = (0..10).map(|name| format!("040000 tree {tree}\t{name}\n")).collect();
        tree = repo.git_with_input(&["mktree"], &level).unwrap();
    }
    let commit = repo.git(&["commit-tree", "-m", "bomb", &tree]).unwrap().parse().unwrap();
    let error = check_out(&source(repo.work().to_str().unwrap()), commit).await.unwrap_err();
    assert_eq!(error.reason(), Reason::TooLarge, "{error}");
}

#[tokio::test]
async fn a_tree_that_would_write_outside_of_the_checkout_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let repo = GitRepo::create(folder.path(), "evil").unwrap();
    repo.push("main", &[("a", "1")]).unwrap();
    let blob = repo.git(&["rev-parse", "HEAD:a"]).unwrap();
    for path in [".git", "..", ".GIT", "a/../../x"] {
        let mut tree = format!("100644 {path}\0").into_bytes();
        tree.extend((0..20).map(|at| u8::from_str_radix(&blob[at * 2..at * 2 + 2], 16).unwrap()));
        fs::write(repo.work().join("tree"), tree).unwrap();
        let tree = repo.git(&["hash-object", "-t", "tree", "--literally", "-w", "tree"]).unwrap();
        let commit = repo.git(&["commit-tree", "-m", "evil", &tree]).unwrap().parse().unwrap();
        let error = check_out(&source(repo.work().to_str().unwrap()), commit).await.unwrap_err();
        assert!(matches!(error.reason(), Reason::Unreachable | Reason::ProtocolError), "{path}: {error}");
    }
    assert!(!folder.path().join("x").exists());
}

#[tokio::test]
async fn a_redirect_within_the_server_is_followed_and_remembered() {
    for old_protocol in PROTOCOLS {
        let server = server(old_protocol);
        let commit = server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
        let source = source(&format!("{}/moved/app.git", server.origin()));
        assert_eq!(observe(&source, branch("main")).await.unwrap(), commit);
        assert_eq!(observe(&source, branch("main")).await.unwrap(), commit);
        assert_eq!(files(check_out(&source, commit).await.unwrap().path()), ["a 644 1"]);
    }
}

#[tokio::test]
async fn a_first_check_is_two_requests_and_a_later_one_is_one() {
    let server = server(false);
    let commit = server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    let source = source(&server.uri("app"));
    let mut counts = vec![];
    for count in [2, 1, 1] {
        assert_eq!(observe(&source, branch("main")).await.unwrap(), commit);
        let requests = server.take_requests(count).unwrap();
        counts.push(requests.iter().map(|request| request.method.clone()).collect::<Vec<_>>());
    }
    assert_eq!(counts, [vec!["GET", "POST"], vec!["POST"], vec!["POST"]]);
}

#[tokio::test]
async fn a_check_in_the_old_protocol_is_one_request_each_time() {
    let server = server(true);
    let commit = server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    let source = source(&server.uri("app"));
    for _ in 0..2 {
        assert_eq!(observe(&source, branch("main")).await.unwrap(), commit);
        let methods: Vec<_> = server.take_requests(1).unwrap().into_iter().map(|request| request.method).collect();
        assert_eq!(methods, ["GET"]);
    }
}

#[tokio::test]
async fn a_server_that_falls_back_to_an_older_protocol_is_noticed() {
    let (new, old) = (server(false), server(true));
    let first = new.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    let second = old.repo("app").unwrap().push("main", &[("a", "2")]).unwrap();
    // The same address, behind which another server answers from one moment to the next.
    let front = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = front.local_addr().unwrap();
    let target = std::sync::Arc::new(std::sync::Mutex::new(new.origin().to_owned()));
    let behind = std::sync::Arc::clone(&target);
    std::thread::spawn(move || {
        for client in front.incoming().map_while(Result::ok) {
            let origin = behind.lock().unwrap().clone();
            let server = std::net::TcpStream::connect(origin.trim_start_matches("http://")).unwrap();
            let (mut client_in, mut server_out) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut client_in, &mut server_out));
            let (mut server_in, mut client_out) = (server, client);
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut server_in, &mut client_out);
                client_out.shutdown(std::net::Shutdown::Both)
            });
        }
    });
    let source = source(&format!("http://{address}/app.git"));
    assert_eq!(observe(&source, branch("main")).await.unwrap(), first);
    *target.lock().unwrap() = old.origin().to_owned();
    // Ends the connection that is kept to the new one.
    drop(new);
    let mut seen = observe(&source, branch("main")).await;
    for _ in 0..5 {
        // There may be more than one of these.
        if seen.as_ref().is_err_and(|error| error.reason() == Reason::Unreachable) {
            seen = observe(&source, branch("main")).await;
        }
    }
    assert_eq!(seen.unwrap(), second);
}

#[tokio::test]
async fn a_repository_passes_to_another_process_whole() {
    let server = GitServer::start(&Options { auth: Auth::Basic("me".into(), "secret".into()), ..Options::default() }).unwrap();
    let commit = server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    let credentials = Credentials::Basic { username: "me".into(), password: "secret".into() };
    let sent = Repository { credentials, timeout: Duration::from_secs(5), ..repository(&server.uri("app")) };
    let received: Repository = serde_json::from_str(&serde_json::to_string(&sent).unwrap()).unwrap();
    assert_eq!(received.timeout, sent.timeout);
    assert_eq!(files(check_out(&source_of(received), commit).await.unwrap().path()), ["a 644 1"]);
}

#[tokio::test]
async fn a_check_costs_the_same_in_a_repository_with_20_000_refs() {
    let server = server(false);
    let mut costs = vec![];
    for (name, refs) in [("small", 0), ("large", 20_000)] {
        let repo = server.repo(name).unwrap();
        let commit = repo.push("main", &[("a", "1")]).unwrap();
        let updates: String = (0..refs).map(|number| format!("create refs/heads/topic/{number} {commit}\n")).collect();
        fs::write(repo.work().join("updates"), updates).unwrap();
        repo.git(&["-c", "alias.fill=!git --git-dir=\"$1\" update-ref --stdin <updates; :", "fill", repo.bare().to_str().unwrap()])
            .unwrap();
        let source = source(&server.uri(name));
        for what in ["first", "later"] {
            let count = if what == "first" { 2 } else { 1 };
            assert_eq!(observe(&source, branch("main")).await.unwrap(), commit);
            let requests = server.take_requests(count).unwrap();
            let bytes: u64 = requests.iter().map(|request| request.sent + request.received).sum();
            println!("{name}, {what} check: {} requests, {bytes} bytes", requests.len());
            costs.push(bytes);
        }
        for args in [["ls-remote", "--quiet"].as_slice(), &["ls-remote", "--quiet", "--heads"]] {
            repo.git(&[args, &[&server.uri(name), "main"]].concat()).unwrap();
            let requests = server.take_requests(2).unwrap();
            let bytes: u64 = requests.iter().map(|request| request.sent + request.received).sum();
            println!("{name}, git {}: {} requests, {bytes} bytes", args.join(" "), requests.len());
        }
    }
    let [small_first, small_later, large_first, large_later] = costs[..] else { panic!() };
    assert!(large_first < small_first + 20 && large_later < small_later + 20 && large_later < 1500, "{costs:?}");
}
