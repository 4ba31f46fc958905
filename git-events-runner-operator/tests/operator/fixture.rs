use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::BoxStream};
use git_events_runner_core::{RunPhase, RunRequest, job};
use git_events_runner_tests::{
    Auth, GitRepo, GitServer, Operator, Options,
    cluster::{Cluster, Mode, Namespace},
};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod, events::v1::Event};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};

/// How long what the operator is to do may take.
pub const WITHIN: Duration = Duration::from_secs(60);

/// A namespace of a cluster, a git server, and what an operator may do there. Operators watch this namespace only.
pub struct Fixture {
    pub cluster: &'static Cluster,
    pub namespace: Namespace<'static>,
    pub client: Client,
    pub server: GitServer,
    /// The kubeconfig of the operator.
    pub account: PathBuf,
}

impl Fixture {
    pub async fn new(auth: Auth) -> Self {
        Self::within(Cluster::shared(Mode::Kwok).await.unwrap(), auth).await
    }

    /// The same in a cluster of its own, for what would disturb others. It ends with the process.
    pub async fn alone(auth: Auth) -> Self {
        Self::within(Box::leak(Box::new(Cluster::start(Mode::Kwok).await.unwrap())), auth).await
    }

    async fn within(cluster: &'static Cluster, auth: Auth) -> Self {
        let namespace = cluster.namespace().await.unwrap();
        let account = cluster.operator_account(&namespace).await.unwrap();
        let server = GitServer::start(&Options { auth, ..Options::default() }).unwrap();
        Self { cluster, namespace, client: cluster.client().await.unwrap(), server, account }
    }

    /// Starts a replica, and waits until it is ready.
    pub fn operator(&self, args: &[&str]) -> Operator {
        let operator = self.operator_unready(args);
        operator.wait_until_ready().unwrap();
        operator
    }

    /// Starts a replica.
    pub fn operator_unready(&self, args: &[&str]) -> Operator {
        self.start(&[&["--leader-lease-duration", "12", "--leader-lease-grace", "6"], args].concat())
    }

    /// The same with these arguments alone, and waits until it is ready.
    pub fn operator_with(&self, args: &[&str]) -> Operator {
        let operator = self.start(args);
        operator.wait_until_ready().unwrap();
        operator
    }

    fn start(&self, args: &[&str]) -> Operator {
        let program = env!("CARGO_BIN_EXE_git-events-runner");
        let args = [args, &["--watch-namespaces", &self.namespace]].concat();
        Operator::start(program, &self.account, &self.namespace, &args, &[]).unwrap()
    }

    pub fn repo(&self, name: &str) -> GitRepo {
        self.server.repo(name).unwrap()
    }

    /// Applies manifests, each to this namespace, as `kubectl apply` would.
    pub async fn apply(&self, manifests: &str) {
        for manifest in serde_saphyr::from_multiple::<Value>(manifests).unwrap() {
            self.put(manifest).await;
        }
    }

    /// Applies an object, to this namespace if its kind is of one.
    pub async fn put(&self, object: Value) {
        self.put_into(&self.namespace, object).await;
    }

    /// The same with another namespace.
    pub async fn put_into(&self, namespace: &str, object: Value) {
        let mut object: DynamicObject = serde_json::from_value(object).unwrap();
        let kind = object.types.clone().unwrap().kind;
        object.metadata.namespace = (!is_of_cluster(&kind)).then(|| namespace.to_owned());
        let params = PatchParams::apply("tester").force();
        self.api_of(namespace, &kind).patch(&object.name_any(), &params, &Patch::Apply(&object)).await.unwrap();
    }

    /// Changes a part of an object, as `kubectl patch --type=merge` would.
    pub async fn patch(&self, kind: &str, name: &str, patch: Value) {
        self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn delete(&self, kind: &str, name: &str) {
        self.api(kind).delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub async fn get(&self, kind: &str, name: &str) -> Option<DynamicObject> {
        self.api(kind).get_opt(name).await.unwrap()
    }

    /// A name that no other test has, for objects that are of no namespace.
    pub fn unique(&self, name: &str) -> String {
        format!("{}-{name}", self.namespace)
    }

    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        self.api_of(&self.namespace, kind)
    }

    fn api_of(&self, namespace: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = match kind {
            "Secret" | "ConfigMap" | "ServiceAccount" | "Namespace" => ("", "v1"),
            "Job" => ("batch", "v1"),
            _ => ("git-events-runner.rs", "v1alpha1"),
        };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        if is_of_cluster(kind) {
            return Api::all_with(self.client.clone(), &resource);
        }
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    pub async fn status(&self, kind: &str, name: &str) -> Value {
        self.api(kind).get(name).await.unwrap().data.get("status").cloned().unwrap_or_default()
    }

    /// Waits until a status is as it should be, and answers it.
    pub async fn wait_for_status(&self, kind: &str, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("{kind} {name}: {what}"), async || Some(self.status(kind, name).await).filter(|status| is_so(status))).await
    }

    /// Waits until the condition Ready has this status and reason.
    pub async fn wait_for_ready(&self, kind: &str, name: &str, ready: &str, reason: &str) -> Value {
        self.wait_for_status(kind, name, &format!("Ready is {ready}, {reason}"), |status| {
            condition(status, "Ready").is_some_and(|found| found["status"] == ready && found["reason"] == reason)
        })
        .await
    }

    /// Our Jobs, in the order in which they were registered.
    pub async fn jobs(&self) -> Vec<Job> {
        let ours = ListParams::default().labels(&format!("{}={}", job::MANAGED_BY, job::FIELD_MANAGER));
        let mut jobs = Api::<Job>::namespaced(self.client.clone(), &self.namespace).list(&ours).await.unwrap().items;
        jobs.sort_by_cached_key(|found| job::run_status(found).map(|status| status.request.registered_at).unwrap_or_default());
        jobs
    }

    /// Waits until our Jobs are as they should be, and answers them.
    pub async fn wait_for_jobs(&self, what: &str, are_so: impl Fn(&[Job]) -> bool) -> Vec<Job> {
        wait_for(what, async || Some(self.jobs().await).filter(|jobs| are_so(jobs))).await
    }

    /// Waits until our Jobs are in these phases, in the order in which they were registered, and answers them.
    pub async fn wait_for_phases(&self, phases: &[RunPhase]) -> Vec<Job> {
        self.wait_for_jobs(&format!("Jobs that are {phases:?}"), |jobs| jobs.iter().map(job::phase).eq(phases.iter().copied())).await
    }

    /// All that happens to our Jobs from now on.
    pub async fn history(&self) -> History {
        let jobs = Api::<Job>::namespaced(self.client.clone(), &self.namespace);
        let now = jobs.list_metadata(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
        let changes = jobs.watch(&WatchParams::default().disable_bookmarks(), &now).await.unwrap();
        History(changes.map(|change| change.unwrap()).boxed())
    }

    /// Has the Pod of a Job that runs [`for ever`](super::manifests::FOR_EVER) end well.
    pub async fn end(&self, job: &Job) {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={}", job.name_any()));
        let is_running = |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
        let running = async || pods.list(&of_job).await.unwrap().items.into_iter().find(is_running);
        let pod = wait_for(&format!("a Pod of {} that runs", job.name_any()), running).await;
        let succeeded = json!({ "status": { "phase": "Succeeded" } });
        pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(succeeded)).await.unwrap();
    }

    /// Waits until there are so many Jobs that have ended well.
    pub async fn wait_for_succeeded(&self, number: usize) -> Vec<Job> {
        let succeeded = |jobs: &Vec<Job>| jobs.iter().filter(|found| job::phase(found) == RunPhase::Succeeded).count() >= number;
        wait_for(&format!("{number} Jobs that have succeeded"), async || Some(self.jobs().await).filter(succeeded)).await
    }

    /// Waits until these are the Events about an object, by their reasons.
    pub async fn wait_for_events(&self, kind: &str, name: &str, reasons: &[&str]) {
        wait_for(&format!("{kind} {name}: the Events {reasons:?}"), async || (self.events(kind, name).await == reasons).then_some(()))
            .await;
    }

    /// Waits until there is an Event about an object that has this reason.
    pub async fn wait_for_event(&self, kind: &str, name: &str, reason: &str) {
        let is_there = async || self.events(kind, name).await.iter().any(|told| told == reason).then_some(());
        wait_for(&format!("{kind} {name}: the Event {reason}"), is_there).await;
    }

    /// The reasons of the Events about an object, in the order in which they were told.
    pub async fn events(&self, kind: &str, name: &str) -> Vec<String> {
        let mut events = Api::<Event>::namespaced(self.client.clone(), &self.namespace).list(&ListParams::default()).await.unwrap().items;
        events.retain(|event| {
            let regarding = event.regarding.as_ref();
            regarding.is_some_and(|about| about.kind.as_deref() == Some(kind) && about.name.as_deref() == Some(name))
        });
        events.sort_by_key(|event| event.event_time.clone().map(|time| time.0));
        events.into_iter().filter_map(|event| event.reason).collect()
    }
}

/// What happens to Jobs, one after the other.
pub struct History(BoxStream<'static, WatchEvent<Job>>);

impl History {
    pub async fn next(&mut self) -> WatchEvent<Job> {
        tokio::time::timeout(WITHIN, self.0.next()).await.expect("something happens to a Job").expect("the watch goes on")
    }

    /// The next version of a Job.
    pub async fn next_of(&mut self, name: &str) -> Job {
        loop {
            match self.next().await {
                WatchEvent::Added(job) | WatchEvent::Modified(job) | WatchEvent::Deleted(job) if job.name_any() == name => return job,
                _ => {}
            }
        }
    }
}

fn is_of_cluster(kind: &str) -> bool {
    kind.starts_with("Cluster") || kind == "Namespace"
}

/// The run that a Job is.
pub fn request(of: &Job) -> RunRequest {
    job::run_status(of).unwrap().request
}

/// A condition of a status.
pub fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Waits until something is there.
pub async fn wait_for<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    wait_within(WITHIN, what, look).await
}

/// The same with another time within which it must be there.
pub async fn wait_within<T>(within: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The manifests of the documentation, with the repository of this server, and a short interval.
pub fn overview(server: &GitServer) -> String {
    let manifests = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/overview.yaml")).unwrap();
    let manifests = manifests.replace("https://git.example.com/the-best-team/cool-project.git", &server.uri("cool-project"));
    manifests.replace("interval: 5m", "interval: 1s")
}
