//! A folder with repositories and runs, and manifests for them.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use git_events_runner_core::{
    manifests::{Content, Manifests},
    process::{RunReport, Runs, Supervisor},
    *,
};
use git_events_runner_tests::GitRepo;
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

pub struct Folder {
    pub folder: TempDir,
    pub runs: Runs,
    manifests: Mutex<Vec<Value>>,
}

impl Folder {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runs = open(folder.path());
        Self { folder, runs, manifests: Mutex::default() }
    }

    pub fn with(manifests: impl IntoIterator<Item = Value>) -> Self {
        let folder = Self::new();
        manifests.into_iter().for_each(|manifest| folder.add(manifest));
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn add(&self, manifest: Value) {
        self.manifests.lock().unwrap().push(manifest);
    }

    /// Makes a repository beside the runs, with one file on the branch main.
    pub fn repo(&self, name: &str, file: &str) -> (GitRepo, CommitId) {
        let repo = GitRepo::create(self.folder.path(), name).unwrap();
        let commit = repo.push("main", &[(file, name)]).unwrap();
        (repo, commit)
    }

    /// The catalog of what is there now. It takes the manifests as they are, not through the validator.
    pub fn read(&self) -> Manifests {
        let mut content = Content::new(crd::RuntimeConfig::default());
        let folder = self.folder.path();
        for manifest in self.manifests.lock().unwrap().iter().cloned() {
            match manifest["kind"].as_str().unwrap() {
                "GitRepo" => content.add_git_repo(serde_json::from_value(manifest).unwrap(), folder),
                "ClusterGitRepo" => content.add_cluster_git_repo(serde_json::from_value(manifest).unwrap(), folder),
                "Action" => content.add_action(serde_json::from_value(manifest).unwrap()),
                "ClusterAction" => content.add_cluster_action(serde_json::from_value(manifest).unwrap()),
                "Secret" => content.add_secret(serde_json::from_value(manifest).unwrap()),
                "ConfigMap" => content.add_config_map(serde_json::from_value(manifest).unwrap()),
                other => panic!("there is no kind {other}"),
            }
        }
        Manifests::new(content, git::GitClient::default(), self.runs.clone())
    }

    /// Why a trigger of this namespace cannot use a source.
    pub async fn refused_source(&self, namespace: &str, source: &ObjectRef) -> CatalogError {
        self.read().source(&trigger(namespace), source).await.err().expect("the source is refused")
    }

    /// Why a trigger of this namespace cannot use an action.
    pub async fn refused_action(&self, namespace: &str, action: &ObjectRef) -> CatalogError {
        self.read().action(&trigger(namespace), action).await.err().expect("the action is refused")
    }

    /// Runs an action to its end, and answers with the lines of its output.
    pub async fn run(&self, request: &RunRequest) -> (RunReport, Vec<String>) {
        let action = self.read().action(&request.key.trigger, &request.action).await.map_err(|error| error.to_string()).unwrap();
        let Registered::New(run) = action.register(request).await.unwrap() else { panic!("the run is there already") };
        let released = action.release(&run).await.unwrap();
        assert!(matches!(released, Released::Begun | Released::Preparing), "{released:?}");
        let mut lines = vec![];
        let follow = self.runs.follow(&run, self.runs.output(&run), |line| lines.push(line.to_owned()));
        let report = tokio::time::timeout(Duration::from_secs(60), follow).await.expect("the run ends").unwrap();
        (report.expect("the run is there"), lines)
    }
}

pub fn open(folder: &Path) -> Runs {
    let supervisor = Supervisor { program: env!("CARGO_BIN_EXE_git-events-runner").into(), args: vec!["supervise".into()] };
    Runs::open(&folder.join("runs"), supervisor, Timestamp::now).unwrap()
}

pub fn trigger(namespace: &str) -> TriggerId {
    TriggerId { kind: "ScheduleTrigger".into(), namespace: namespace.into(), name: "app".into(), uid: "1".into() }
}

pub fn repo(name: &str) -> ObjectRef {
    ObjectRef::namespaced("GitRepo", "default", name)
}

pub fn act() -> ObjectRef {
    ObjectRef::namespaced("Action", "default", "act")
}

pub fn shared(kind: &str) -> ObjectRef {
    ObjectRef::cluster(kind, "shared")
}

/// A run of an action for the branch main of a source, for a trigger of the namespace `default`.
pub fn request(source: ObjectRef, action: ObjectRef, commit: CommitId) -> RunRequest {
    RunRequest::new(
        RunKey { trigger: trigger("default"), source, reference: Reference::Branch("main".into()), sequence: 0 },
        action,
        commit,
        Timestamp::UNIX_EPOCH,
    )
}

/// The manifest of one of our objects.
pub fn manifest(id: &ObjectRef, spec: Value) -> Value {
    let metadata = json!({ "name": id.name, "namespace": id.namespace });
    json!({ "apiVersion": "git-events-runner.rs/v1alpha1", "kind": id.kind, "metadata": metadata, "spec": spec })
}

/// The manifest of a Secret.
pub fn secret(namespace: &str, name: &str, values: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": namespace }, "stringData": values })
}

/// The manifest of a ConfigMap.
pub fn config_map(namespace: &str, name: &str, values: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": namespace }, "data": values })
}
