//! GitSource keeps the contracts of its ports, over http in both protocols and on disk.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use git_events_runner_core::{
    Checkout, CommitId, ObjectRef, Reference, Source,
    git::{GitClient, GitSource, RepoUri, Repository},
    testing::{RepositoryHarness, repository_without_patterns},
};
use git_events_runner_tests::{GitRepo, GitServer, Options};
use tempfile::TempDir;

struct Harness {
    repo: GitRepo,
    source: GitSource,
    folders: TempDir,
    // Only to be there as long as the source is.
    _server: Option<Arc<GitServer>>,
}

impl Harness {
    /// A repository on a server, or on disk.
    fn new(server: Option<Arc<GitServer>>) -> Self {
        let folders = tempfile::tempdir().unwrap();
        let name = folders.path().file_name().unwrap().to_str().unwrap().replace('.', "");
        let (repo, uri) = match &server {
            Some(server) => (server.repo(&name).unwrap(), server.uri(&name)),
            None => {
                let repo = GitRepo::create(folders.path(), "app").unwrap();
                let path = repo.bare().to_str().unwrap().to_owned();
                (repo, path)
            }
        };
        let uri = RepoUri::parse_with_local(&uri, Path::new("/")).unwrap();
        let source = GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), Repository::new(uri), GitClient::default());
        Self { repo, source, folders, _server: server }
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

#[tokio::test]
async fn a_repository_over_http_conforms() {
    let server = Arc::new(GitServer::start(&Options::default()).unwrap());
    repository_without_patterns(|| async { Harness::new(Some(Arc::clone(&server))) }).await;
}

#[tokio::test]
async fn a_repository_over_http_in_the_old_protocol_conforms() {
    let server = Arc::new(GitServer::start(&Options { old_protocol: true, ..Options::default() }).unwrap());
    repository_without_patterns(|| async { Harness::new(Some(Arc::clone(&server))) }).await;
}

#[tokio::test]
async fn a_repository_on_disk_conforms() {
    repository_without_patterns(|| async { Harness::new(None) }).await;
}
