//! GitSource keeps the contracts of its ports, over http, ssh and git:// in both protocols and on disk.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use git_events_runner_core::{
    Checkout, CommitId, ObjectRef, Reference, Source,
    git::{Credentials, GitClient, GitSource, RepoUri, Repository},
    testing::{RepositoryHarness, repository},
};
use git_events_runner_tests::{GitDaemon, GitRepo, GitServer, Options, SshServer};
use tempfile::TempDir;

struct Harness {
    repo: GitRepo,
    source: GitSource,
    folders: TempDir,
}

impl Harness {
    /// A new repository, which `create` makes in a folder or on a server under a name of its own.
    fn new(create: impl FnOnce(&Path, &str) -> (GitRepo, String, Credentials)) -> Self {
        let folders = tempfile::tempdir().unwrap();
        let name = folders.path().file_name().unwrap().to_str().unwrap().replace('.', "");
        let (repo, uri, credentials) = create(folders.path(), &name);
        let uri = RepoUri::parse_with_local(&uri, Path::new("/")).unwrap();
        let repository = Repository { credentials, ..Repository::new(uri) };
        let source = GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), repository, GitClient::default());
        Self { repo, source, folders }
    }

    fn full_name(reference: &Reference) -> String {
        let folder = if matches!(reference, Reference::Tag(_)) { "tags" } else { "heads" };
        format!("refs/{folder}/{}", reference.name())
    }
}

#[async_trait]
impl RepositoryHarness for Harness {
    fn source(&self) -> &dyn Source {
        &self.source
    }

    fn checkout(&self) -> &dyn Checkout {
        &self.source
    }

    async fn push(&self, reference: &Reference, files: &[(&str, &str)]) -> CommitId {
        self.repo.git(&["rm", "-rf", "--quiet", "--ignore-unmatch", "."]).unwrap();
        for (path, content) in files {
            self.repo.write(path, content).unwrap();
        }
        let commit = self.repo.commit_and_push("elsewhere").unwrap();
        match reference {
            // By an annotated one: it counts as the commit.
            Reference::Tag(name) => self.repo.tag_annotated(name, commit).unwrap(),
            _ => self.repo.force(&reference.name(), commit).unwrap(),
        }
        commit
    }

    async fn delete(&self, reference: &Reference) {
        self.repo.delete(&Self::full_name(reference)).unwrap();
    }

    fn folder(&self) -> PathBuf {
        let count = fs::read_dir(self.folders.path()).unwrap().count();
        let folder = self.folders.path().join(format!("checkout-{count}"));
        fs::create_dir(&folder).unwrap();
        folder
    }
}

async fn over_http(old_protocol: bool) {
    let server = GitServer::start(&Options { old_protocol, ..Options::default() }).unwrap();
    let create = |name: &str| (server.repo(name).unwrap(), server.uri(name), Credentials::None);
    repository(|| async { Harness::new(|_, name| create(name)) }).await;
}

async fn over_ssh(old_protocol: bool) {
    let server = SshServer::start(old_protocol).unwrap();
    let credentials = Credentials::Ssh {
        private_key: server.key(&["-t", "ed25519"], "").unwrap().private.into(),
        passphrase: None,
        known_hosts: Some(server.known_hosts()),
        insecure_ignore_host_key: false,
    };
    let create = |name: &str| (server.repo(name).unwrap(), server.uri(name), credentials.clone());
    repository(|| async { Harness::new(|_, name| create(name)) }).await;
}

async fn over_tcp(old_protocol: bool) {
    let server = GitDaemon::start().unwrap();
    let uri = |name: &str| if old_protocol { server.old_uri(name).unwrap() } else { server.uri(name) };
    let create = |name: &str| (server.repo(name).unwrap(), uri(name), Credentials::None);
    repository(|| async { Harness::new(|_, name| create(name)) }).await;
}

#[tokio::test]
async fn a_repository_over_http_conforms() {
    over_http(false).await;
}

#[tokio::test]
async fn a_repository_over_http_in_the_old_protocol_conforms() {
    over_http(true).await;
}

#[tokio::test]
async fn a_repository_over_ssh_conforms() {
    over_ssh(false).await;
}

#[tokio::test]
async fn a_repository_over_ssh_in_the_old_protocol_conforms() {
    over_ssh(true).await;
}

#[tokio::test]
async fn a_repository_over_tcp_conforms() {
    over_tcp(false).await;
}

#[tokio::test]
async fn a_repository_over_tcp_in_the_old_protocol_conforms() {
    over_tcp(true).await;
}

#[tokio::test]
async fn a_repository_on_disk_conforms() {
    let create = |folder: &Path| {
        let repo = GitRepo::create(folder, "app").unwrap();
        let path = repo.bare().to_str().unwrap().to_owned();
        (repo, path, Credentials::None)
    };
    repository(|| async { Harness::new(|folder, _| create(folder)) }).await;
}
