use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use git_events_runner_core::{
    testing::{ActionHarness, CatalogHarness, RepositoryHarness},
    *,
};
use git_events_runner_tests::GitRepo;
use serde_json::json;

use super::folder::{Folder, act, manifest, open, repo, request, trigger};

/// The catalog of a folder, which is read again for each question.
struct Reread(Folder);

#[async_trait]
impl Catalog for Reread {
    async fn source(&self, of: &TriggerId, source: &ObjectRef) -> Result<Arc<dyn Source>, CatalogError> {
        self.0.read().source(of, source).await
    }

    async fn checkout(&self, of: &TriggerId, source: &ObjectRef) -> Result<Arc<dyn Checkout>, CatalogError> {
        self.0.read().checkout(of, source).await
    }

    async fn action(&self, of: &TriggerId, action: &ObjectRef) -> Result<Arc<dyn Action>, CatalogError> {
        self.0.read().action(of, action).await
    }
}

#[async_trait]
impl CatalogHarness for Reread {
    fn catalog(&self) -> &dyn Catalog {
        self
    }

    async fn add_source(&self, source: &ObjectRef) {
        self.0.add(manifest(source, json!({ "repoUri": "app.git" })));
    }

    async fn add_action(&self, action: &ObjectRef) {
        self.0.add(manifest(action, json!({ "actionJob": { "command": ["true"] } })));
    }
}

#[tokio::test]
async fn manifests_conform_as_a_catalog() {
    testing::catalog(|| async { Reread(Folder::new()) }).await;
}

struct Repository {
    folder: Folder,
    repo: GitRepo,
    source: Arc<dyn Source>,
    checkout: Arc<dyn Checkout>,
}

impl Repository {
    async fn new() -> Self {
        let folder = Folder::with([manifest(&repo("app"), json!({ "repoUri": "app.git" }))]);
        let (bare, _) = folder.repo("app", "file");
        bare.delete("refs/heads/main").unwrap();
        let (catalog, of) = (folder.read(), trigger("default"));
        let source = catalog.source(&of, &repo("app")).await.map_err(|error| error.to_string()).unwrap();
        let checkout = catalog.checkout(&of, &repo("app")).await.map_err(|error| error.to_string()).unwrap();
        Self { folder, repo: bare, source, checkout }
    }
}

#[async_trait]
impl RepositoryHarness for Repository {
    fn source(&self) -> &dyn Source {
        &*self.source
    }

    fn checkout(&self) -> &dyn Checkout {
        &*self.checkout
    }

    async fn push(&self, reference: &Reference, files: &[(&str, &str)]) -> CommitId {
        self.repo.git(&["rm", "-rf", "--quiet", "--ignore-unmatch", "."]).unwrap();
        files.iter().for_each(|(path, content)| self.repo.write(path, content).unwrap());
        let commit = self.repo.commit_and_push("elsewhere").unwrap();
        match reference {
            Reference::Tag(name) => self.repo.tag(name, commit).unwrap(),
            _ => self.repo.force(&reference.name(), commit).unwrap(),
        }
        commit
    }

    async fn delete(&self, reference: &Reference) {
        let folder = if matches!(reference, Reference::Tag(_)) { "tags" } else { "heads" };
        self.repo.delete(&format!("refs/{folder}/{}", reference.name())).unwrap();
    }

    fn folder(&self) -> PathBuf {
        tempfile::tempdir_in(self.folder.folder.path()).unwrap().keep()
    }
}

#[tokio::test]
async fn the_repositories_of_manifests_conform() {
    testing::repository_without_patterns(Repository::new).await;
}

struct Runs {
    folder: Folder,
    action: Arc<dyn Action>,
    commit: CommitId,
}

impl Runs {
    async fn new() -> Self {
        let mut folder = Folder::new();
        folder.runs = folder.runs.clone().with_max_running(2);
        let (_, commit) = folder.repo("app", "file");
        folder.add(manifest(&repo("app"), json!({ "repoUri": "app.git" })));
        // The name of a run is that of the folder above its files. With the folder of the test, a run ends.
        let script = r#"run=$(basename "$(dirname "$PWD")"); echo begun >> "$FILES/begun-$run"
            while [ -e "$FILES" ] && [ ! -e "$FILES/finish-$run" ]; do sleep 0.02; done"#;
        let env = json!([{ "name": "FILES", "value": folder.folder.path() }]);
        folder.add(manifest(&act(), json!({ "actionJob": { "command": ["sh", "-c"], "args": [script], "env": env } })));
        let action = Self::action_of(&folder).await;
        Self { folder, action, commit }
    }

    async fn action_of(folder: &Folder) -> Arc<dyn Action> {
        folder.read().action(&trigger("default"), &act()).await.map_err(|error| error.to_string()).unwrap()
    }
}

#[async_trait]
impl ActionHarness for Runs {
    fn action(&self) -> &dyn Action {
        &*self.action
    }

    fn request(&self) -> RunRequest {
        request(repo("app"), act(), self.commit)
    }

    async fn begun(&self, run: &RunRef) -> usize {
        std::fs::read_to_string(self.folder.path(&format!("begun-{}", run.name))).unwrap_or_default().lines().count()
    }

    async fn finish(&self, run: &RunRef) {
        std::fs::write(self.folder.path(&format!("finish-{}", run.name)), "").unwrap();
    }

    async fn restart(&mut self) {
        self.folder.runs = open(self.folder.folder.path()).with_max_running(2);
        self.action = Self::action_of(&self.folder).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_actions_of_manifests_conform() {
    testing::action(Runs::new).await;
}
