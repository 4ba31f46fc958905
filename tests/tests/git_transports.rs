//! Every way to a repository, with every credential, right and wrong: what GitSource sees and checks out is what git itself does.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::{collections::BTreeMap, fs, path::Path};

use git_events_runner_core::{
    Checkout as _, CommitId, ObjectRef, Reason, Reference, Revision, Source as _, SourceError, Watch,
    git::{Credentials, GitClient, GitSource, RepoUri, Repository},
};
use git_events_runner_tests::{Auth, GitDaemon, GitRepo, GitServer, Options, SshKey, SshServer};

fn source(uri: &str, credentials: Credentials) -> GitSource {
    let repository = Repository { credentials, ..Repository::new(RepoUri::parse(uri).unwrap()) };
    GitSource::new(ObjectRef::namespaced("GitRepo", "default", "app"), repository, GitClient::default())
}

async fn observe(source: &GitSource, reference: Reference) -> Result<CommitId, SourceError> {
    source.observe(&Watch::new(reference)).await.map(|seen| seen.commit)
}

fn basic(password: &str) -> Credentials {
    Credentials::Basic { username: "deployer".into(), password: password.into() }
}

fn token(token: &str) -> Credentials {
    Credentials::Token { token: token.into() }
}

fn ssh(key: &SshKey, passphrase: Option<&str>, known_hosts: String) -> Credentials {
    Credentials::Ssh {
        private_key: key.private.as_str().into(),
        passphrase: passphrase.map(Into::into),
        known_hosts: Some(known_hosts),
        insecure_ignore_host_key: false,
    }
}

/// A way to a repository.
struct Way {
    what: String,
    repo: GitRepo,
    uri: String,
    /// How git itself is let in.
    git: Vec<String>,
    right: Credentials,
    wrong: Vec<(Credentials, Reason, &'static str)>,
    _server: Box<dyn std::any::Any + Send + Sync>,
}

/// What is wrong with credentials of another kind, over every way but that of ssh.
fn of_ssh(key: &SshKey) -> (Credentials, Reason, &'static str) {
    (ssh(key, None, String::new()), Reason::InvalidSpec, "")
}

fn over_http(auth: Auth, old_protocol: bool, key: &SshKey) -> Way {
    use Reason::AuthenticationFailed;
    let server = GitServer::start(&Options { auth: auth.clone(), old_protocol, ..Options::default() }).unwrap();
    let none = (Credentials::None, AuthenticationFailed, "none are configured");
    let (git, right, wrong) = match &auth {
        Auth::None => (String::new(), Credentials::None, vec![]),
        Auth::Basic(..) => {
            let git = "http.extraHeader=Authorization: Basic ZGVwbG95ZXI6cGFzcw==".to_owned();
            let wrong =
                vec![none, (basic("canary"), AuthenticationFailed, "refuses the credentials"), (token("canary"), AuthenticationFailed, "")];
            (git, basic("pass"), wrong)
        }
        Auth::Token(text) => {
            let wrong =
                vec![none, (token("canary"), AuthenticationFailed, "refuses the credentials"), (basic("canary"), AuthenticationFailed, "")];
            (format!("http.extraHeader=Authorization: {text}"), token(text), wrong)
        }
    };
    Way {
        what: format!("http, {auth:?}"),
        repo: server.repo("app").unwrap(),
        uri: server.uri("app"),
        git: if git.is_empty() { vec![] } else { vec!["-c".to_owned(), git] },
        right,
        wrong: wrong.into_iter().chain([of_ssh(key)]).collect(),
        _server: Box::new(server),
    }
}

fn over_tcp(old_protocol: bool, key: &SshKey) -> Way {
    let server = GitDaemon::start().unwrap();
    let none_taken = "takes no credentials";
    Way {
        what: "git://".to_owned(),
        repo: server.repo("app").unwrap(),
        uri: if old_protocol { server.old_uri("app").unwrap() } else { server.uri("app") },
        git: vec![],
        right: Credentials::None,
        wrong: vec![(basic("canary"), Reason::InvalidSpec, none_taken), (token("canary"), Reason::InvalidSpec, none_taken), of_ssh(key)],
        _server: Box::new(server),
    }
}

fn over_ssh(old_protocol: bool, stranger: &SshKey) -> Way {
    let server = SshServer::start(old_protocol).unwrap();
    let (key, protected) = (server.key(&["-t", "ed25519"], "").unwrap(), server.key(&["-t", "ecdsa"], "a canary").unwrap());
    let known = || server.known_hosts();
    let (no_key, of_key) = ("needs a key: set `authConfig` of type ssh", "the private key for ssh://");
    let wrong = vec![
        (Credentials::None, Reason::InvalidSpec, no_key),
        (basic("canary"), Reason::InvalidSpec, no_key),
        (token("canary"), Reason::InvalidSpec, no_key),
        (ssh(stranger, None, known()), Reason::AuthenticationFailed, "refuses the key ssh-ed25519 SHA256:"),
        (ssh(&protected, None, known()), Reason::InvalidSpec, "is protected by a passphrase"),
        (ssh(&protected, Some("canary"), known()), Reason::InvalidSpec, "does not open with the passphrase"),
        (ssh(&SshKey { private: key.public.clone(), ..key.clone() }, None, known()), Reason::InvalidSpec, of_key),
        (ssh(&SshKey { private: "canary".into(), ..key.clone() }, None, known()), Reason::InvalidSpec, of_key),
        (ssh(&key, None, String::new()), Reason::HostKeyMismatch, "is not known"),
    ];
    Way {
        what: "ssh".to_owned(),
        repo: server.repo("app").unwrap(),
        uri: server.uri("app"),
        git: vec!["-c".to_owned(), format!("core.sshCommand={}", server.ssh_command(&key).unwrap())],
        right: ssh(&protected, Some("a canary\n"), known()),
        wrong,
        _server: Box::new(server),
    }
}

fn ways(old_protocol: bool, stranger: &SshKey) -> Vec<Way> {
    let auths = [Auth::None, Auth::Basic("deployer".into(), "pass".into()), Auth::Token("Bearer s3cret".into())];
    let mut ways: Vec<_> = auths.into_iter().map(|auth| over_http(auth, old_protocol, stranger)).collect();
    ways.extend([over_tcp(old_protocol, stranger), over_ssh(old_protocol, stranger)]);
    ways
}

/// All refs as git itself sees them, by name; an annotated tag as the commit that it stands for.
fn ls_remote(way: &Way) -> BTreeMap<String, CommitId> {
    let mut args: Vec<_> = way.git.iter().map(String::as_str).collect();
    args.extend(["ls-remote", "--quiet", &way.uri]);
    let shown = way.repo.git(&args).unwrap();
    let refs = shown.lines().filter_map(|line| line.split_once('\t'));
    // What an annotated tag stands for comes right after the tag itself.
    refs.map(|(id, name)| (name.trim_end_matches("^{}").to_owned(), id.parse().unwrap())).collect()
}

/// The files of a folder, by path, without those of git.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.file_name() != ".git");
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())).collect()
}

/// The files of a commit as git itself clones them.
fn cloned(way: &Way, commit: CommitId) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("clone").to_str().unwrap().to_owned();
    let mut args: Vec<_> = way.git.iter().map(String::as_str).collect();
    args.extend(["clone", "--quiet", "--no-checkout", &way.uri, &target]);
    way.repo.git(&args).unwrap();
    way.repo.git(&["-C", &target, "checkout", "--quiet", "--detach", &commit.to_string()]).unwrap();
    files(Path::new(&target))
}

async fn check_out(source: &GitSource, reference: Reference, commit: CommitId) -> Result<BTreeMap<String, String>, SourceError> {
    let into = tempfile::tempdir().unwrap();
    source.checkout(&Revision { reference, commit }, into.path()).await.map(|()| files(into.path()))
}

async fn assert_as_git_does(way: &Way) {
    let what = &way.what;
    let first = way.repo.push("main", &[("a", "1"), ("b", "1")]).unwrap();
    way.repo.tag_annotated("annotated", first).unwrap();
    way.repo.tag("light", first).unwrap();
    way.repo.push("feature/größe", &[("a", "3")]).unwrap();
    let second = way.repo.push("main", &[("a", "2")]).unwrap();
    let source = source(&way.uri, way.right.clone());
    let seen = ls_remote(way);
    assert_eq!((seen["refs/heads/main"], seen["refs/tags/annotated"]), (second, first));
    let references = [
        ("refs/heads/main", Reference::Branch("main".into())),
        ("refs/heads/feature/größe", Reference::Branch("feature/größe".into())),
        ("refs/tags/light", Reference::Tag("light".into())),
        ("refs/tags/annotated", Reference::Tag("annotated".into())),
    ];
    for (name, reference) in references {
        let commit = observe(&source, reference.clone()).await.unwrap();
        assert_eq!(commit, seen[name], "{what}: {name}");
        assert_eq!(check_out(&source, reference, commit).await.unwrap(), cloned(way, commit), "{what}: {name}");
    }
    // One that the branch has moved on from.
    for reference in [Reference::Branch("main".into()), Reference::Commit(first)] {
        assert_eq!(check_out(&source, reference, first).await.unwrap(), cloned(way, first), "{what}");
    }
    for missing in [Reference::Branch("light".into()), Reference::Tag("main".into()), Reference::Branch("mai".into())] {
        let error = observe(&source, missing.clone()).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ReferenceNotFound, "{what}: {missing}: {error}");
    }
    let missing = "1234567812345678123456781234567812345678".parse().unwrap();
    let error = check_out(&source, Reference::Commit(missing), missing).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ReferenceNotFound, "{what}: {error}");
}

async fn assert_refused(way: &Way) {
    let what = &way.what;
    let commit = way.repo.commit("HEAD").unwrap();
    for (credentials, reason, message) in &way.wrong {
        let source = source(&way.uri, credentials.clone());
        let main = Reference::Branch("main".into());
        for error in [observe(&source, main.clone()).await.unwrap_err(), check_out(&source, main, commit).await.unwrap_err()] {
            let shown = error.to_string();
            assert!(error.reason() == *reason && shown.contains(message), "{what}, {credentials:?}: {:?}: {shown}", error.reason());
            assert!(!format!("{error:?} {shown}").contains("canary"), "{what}: {error:?}");
        }
    }
    let nowhere = source(&way.uri.replace("app.git", "nowhere.git"), way.right.clone());
    let error = observe(&nowhere, Reference::Branch("main".into())).await.unwrap_err();
    assert_eq!(error.reason(), Reason::RepositoryNotFound, "{what}: {error}");
    assert!(error.to_string().contains("nowhere.git"), "{error}");
}

async fn every_way(old_protocol: bool) {
    let folder = tempfile::tempdir().unwrap();
    let stranger = SshKey::create(folder.path(), &["-t", "ed25519"], "").unwrap();
    for way in ways(old_protocol, &stranger) {
        assert_as_git_does(&way).await;
        assert_refused(&way).await;
    }
}

#[tokio::test]
async fn every_way_with_every_credential_in_version_2() {
    every_way(false).await;
}

#[tokio::test]
async fn every_way_with_every_credential_in_version_0() {
    every_way(true).await;
}
