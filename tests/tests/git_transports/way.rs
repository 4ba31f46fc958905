//! A way to a repository, and that GitSource sees and checks out what git itself does on it.

use std::{any::Any, collections::BTreeMap, fs, path::Path};

use git_events_runner_core::{
    Checkout as _, CommitId, ObjectRef, Reason, Reference, Revision, Source as _, SourceError, Watch,
    git::{Credentials, GitClient, GitSource, RepoUri, Repository, Tls},
};
use git_events_runner_tests::{GitRepo, SshKey};

fn source(way: &Way, uri: &str, credentials: Credentials) -> GitSource {
    let tls = Tls { ca_certificates: way.ca_certificates.clone(), no_verify: false };
    let repository = Repository { credentials, tls, ..Repository::new(RepoUri::parse(uri).unwrap()) };
    GitSource::new(ObjectRef::namespaced("GitRepo", "default", "app"), repository, GitClient::default())
}

async fn observe(source: &GitSource, reference: Reference) -> Result<CommitId, SourceError> {
    source.observe(&Watch::new(reference)).await.map(|seen| seen.commit)
}

pub fn basic(password: &str) -> Credentials {
    Credentials::Basic { username: "deployer".into(), password: password.into() }
}

pub fn token(token: &str) -> Credentials {
    Credentials::Token { token: token.into() }
}

pub fn ssh(key: &SshKey, passphrase: Option<&str>, known_hosts: String) -> Credentials {
    Credentials::Ssh {
        private_key: key.private.as_str().into(),
        passphrase: passphrase.map(Into::into),
        known_hosts: Some(known_hosts),
        insecure_ignore_host_key: false,
    }
}

/// A way to a repository.
pub struct Way {
    pub what: String,
    pub repo: GitRepo,
    pub uri: String,
    /// How git itself is let in.
    pub git: Vec<String>,
    pub ca_certificates: Option<String>,
    pub right: Credentials,
    pub wrong: Vec<(Credentials, Reason, &'static str)>,
    pub _server: Box<dyn Any + Send + Sync>,
}

/// What is wrong with credentials of another kind, over every way but that of ssh.
pub fn of_ssh(key: &SshKey) -> (Credentials, Reason, &'static str) {
    (ssh(key, None, String::new()), Reason::InvalidSpec, "")
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

pub async fn assert_as_git_does(way: &Way) {
    let what = &way.what;
    let first = way.repo.push("main", &[("a", "1"), ("b", "1")]).unwrap();
    way.repo.tag_annotated("annotated", first).unwrap();
    way.repo.tag("light", first).unwrap();
    way.repo.push("feature/größe", &[("a", "3")]).unwrap();
    let second = way.repo.push("main", &[("a", "2")]).unwrap();
    let source = source(way, &way.uri, way.right.clone());
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

pub async fn assert_refused(way: &Way) {
    let what = &way.what;
    let commit = way.repo.commit("HEAD").unwrap();
    for (credentials, reason, message) in &way.wrong {
        let source = source(way, &way.uri, credentials.clone());
        let main = Reference::Branch("main".into());
        for error in [observe(&source, main.clone()).await.unwrap_err(), check_out(&source, main, commit).await.unwrap_err()] {
            let shown = error.to_string();
            assert!(error.reason() == *reason && shown.contains(message), "{what}, {credentials:?}: {:?}: {shown}", error.reason());
            assert!(!format!("{error:?} {shown}").contains("canary"), "{what}: {error:?}");
        }
    }
    let nowhere = source(way, &way.uri.replace("app.git", "nowhere.git"), way.right.clone());
    let error = observe(&nowhere, Reference::Branch("main".into())).await.unwrap_err();
    assert_eq!(error.reason(), Reason::RepositoryNotFound, "{what}: {error}");
    assert!(error.to_string().contains("nowhere.git"), "{error}");
}
