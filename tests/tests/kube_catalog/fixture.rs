//! A catalog that watches a cluster.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use git_events_runner_core::{crd, git::GitClient, job::Jobs, *};
use git_events_runner_tests::cluster::{Cluster, Mode};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

/// For how long Secrets are kept where the test ends before that.
pub const HOUR: Duration = Duration::from_secs(3600);

/// The host keys that the runtime config has.
pub const KNOWN_HOSTS: &str = "git.example.com ssh-ed25519 AAAA";

/// How long the API server may take to tell of a change.
const WITHIN: Duration = Duration::from_secs(30);

pub struct Fixture {
    pub catalog: KubeCatalog,
    client: Client,
    changes: Mutex<Changes>,
    watches: JoinHandle<()>,
}

/// What the catalog has told of, and nobody has waited for yet.
struct Changes {
    receiver: mpsc::UnboundedReceiver<ObjectRef>,
    received: Vec<ObjectRef>,
}

pub async fn cluster() -> &'static Cluster {
    Cluster::shared(Mode::ControlPlane).await.unwrap()
}

impl Fixture {
    /// Watches this part of the shared cluster.
    pub async fn of(scope: Scope, secrets_kept_for: Duration) -> Self {
        let client = cluster().await.client().await.unwrap();
        Self::with(client.clone(), client, scope, secrets_kept_for).await
    }

    /// Watches and writes with one client, and reads Secrets with another.
    pub async fn with(client: Client, reader: Client, scope: Scope, secrets_kept_for: Duration) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (stores, watches) = CatalogStores::watch(&client, &scope, move |id| drop(sender.send(id)));
        let ssh = crd::SshHostsConfig { known_hosts: KNOWN_HOSTS.to_owned() };
        let config = watch::Sender::new(Arc::new(crd::RuntimeConfig { ssh, ..Default::default() })).subscribe();
        let jobs = Jobs::new(client.clone(), scope, config);
        let catalog = KubeCatalog::new(reader, stores, jobs, GitClient::default(), AllowedHosts::default(), secrets_kept_for);
        let watches = tokio::spawn(watches);
        timeout(WITHIN, catalog.ready()).await.expect("the catalog is filled").unwrap();
        Self { catalog, client, changes: Mutex::new(Changes { receiver, received: vec![] }), watches }
    }

    /// Waits until the catalog has told of a change.
    pub async fn told(&self, id: &ObjectRef) {
        let mut changes = self.changes.lock().await;
        while !changes.received.contains(id) {
            let next = timeout(WITHIN, changes.receiver.recv()).await.map_err(|_late| format!("{id} is not told of")).unwrap();
            changes.received.push(next.expect("the watches go on"));
        }
        changes.received.retain(|told| told != id);
    }

    /// Forgets what the catalog has told of, so that what is told next is of what is written next.
    async fn forget_changes(&self) {
        let mut changes = self.changes.lock().await;
        while changes.receiver.try_recv().is_ok() {}
        changes.received.clear();
    }

    /// Writes a specification, and waits until the catalog knows it.
    pub async fn apply(&self, id: &ObjectRef, spec: Value) {
        self.forget_changes().await;
        self.write(id, &spec).await.unwrap();
        self.told(id).await;
    }

    /// The same, for what the API server refuses until it knows of another definition.
    pub async fn apply_as_soon_as_accepted(&self, id: &ObjectRef, spec: Value) {
        self.forget_changes().await;
        let deadline = Instant::now() + WITHIN;
        while let Err(error) = self.write(id, &spec).await {
            assert!(Instant::now() < deadline, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.told(id).await;
    }

    async fn write(&self, id: &ObjectRef, spec: &Value) -> kube::Result<DynamicObject> {
        let resource = match id.kind.as_str() {
            "GitRepo" => ApiResource::erase::<crd::GitRepo>(&()),
            "ClusterGitRepo" => ApiResource::erase::<crd::ClusterGitRepo>(&()),
            "Action" => ApiResource::erase::<crd::Action>(&()),
            _ => ApiResource::erase::<crd::ClusterAction>(&()),
        };
        let api: Api<DynamicObject> = match &id.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let object = json!({ "apiVersion": resource.api_version, "kind": id.kind, "metadata": { "name": id.name }, "spec": spec });
        api.patch(&id.name, &by_test(), &Patch::Apply(object)).await
    }

    /// Writes a Secret, of which nobody is told.
    pub async fn write_secret(&self, namespace: &str, name: &str, values: Value) {
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": values });
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        api.patch(name, &by_test(), &Patch::Apply(secret)).await.unwrap();
    }

    /// Labels a namespace, and waits until the catalog knows it.
    pub async fn label(&self, namespace: &str, label: &str, value: &str) {
        self.forget_changes().await;
        let patch = Patch::Merge(json!({ "metadata": { "labels": { label: value } } }));
        Api::<Namespace>::all(self.client.clone()).patch(namespace, &PatchParams::default(), &patch).await.unwrap();
        self.told(&ObjectRef::cluster("Namespace", namespace)).await;
    }

    /// What a check of the branch main sees, for a trigger of a namespace.
    pub async fn observe(&self, namespace: &str, source: &ObjectRef) -> Result<CommitId, SourceError> {
        let source = self.catalog.source(&trigger(namespace), source).await.map_err(|error| error.to_string()).unwrap();
        source.observe(&Watch::new(Reference::Branch("main".into()))).await.map(|seen| seen.commit)
    }

    /// Why a trigger of this namespace cannot use a source.
    pub async fn refused_source(&self, namespace: &str, source: &ObjectRef) -> CatalogError {
        self.catalog.source(&trigger(namespace), source).await.err().expect("the source is refused")
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.watches.abort();
    }
}

fn by_test() -> PatchParams {
    PatchParams::apply("test").force()
}

pub fn trigger(namespace: &str) -> TriggerId {
    TriggerId { kind: "ScheduleTrigger".into(), namespace: namespace.into(), name: "app".into(), uid: "1".into() }
}

pub fn git_repo(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::namespaced("GitRepo", namespace, name)
}

pub fn action(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::namespaced("Action", namespace, name)
}
