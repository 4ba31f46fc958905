//! What is shaken: repositories, and triggers of all kinds that watch them.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use git_events_runner_core::CommitId;
use git_events_runner_tests::{Auth, GitRepo, GitServer, Operator, Options, cluster::Cluster};
use kube::Client;
use serde_json::{Value, json};

const VERSION: &str = "git-events-runner.rs/v1alpha1";

const REPOS: usize = 16;
const TRIGGERS: usize = 25;

/// What a trigger does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A ScheduleTrigger; it runs on change.
    Schedule,
    /// A WebhookTrigger that runs on change.
    Change,
    /// A WebhookTrigger that runs for each request.
    Always,
}

/// A trigger, and the numbers of its repositories.
pub struct Trigger {
    pub kind: Kind,
    pub name: String,
    pub sources: Vec<usize>,
}

pub struct World {
    pub cluster: &'static Cluster,
    pub namespace: String,
    pub client: Client,
    pub repos: Vec<GitRepo>,
    pub triggers: Vec<Trigger>,
    /// Where the replicas listen for requests.
    pub ports: Mutex<Vec<u16>>,
    /// Requests to triggers that always run that were answered with 202: the name of the trigger, and the id.
    pub accepted: Mutex<Vec<(String, String)>>,
    account: PathBuf,
    server: GitServer,
}

impl World {
    /// In a namespace of a cluster of our own.
    pub async fn new(cluster: &'static Cluster, namespace: &str) -> Arc<Self> {
        let account = cluster.operator_account(namespace).await.unwrap();
        let server = GitServer::start(&Options { auth: Auth::Basic("robot".into(), "secret".into()), ..Options::default() }).unwrap();
        let repos: Vec<_> = (0..REPOS).map(|number| server.repo(&repo_name(number)).unwrap()).collect();
        for repo in &repos {
            repo.push("main", &[("file", "0")]).unwrap();
        }
        let triggers = (0..TRIGGERS).map(trigger).collect();
        let (client, ports, accepted) = (cluster.client().await.unwrap(), Mutex::default(), Mutex::default());
        let world = Self { cluster, namespace: namespace.to_owned(), client, repos, triggers, ports, accepted, account, server };
        world.furnish().await;
        Arc::new(world)
    }

    async fn furnish(&self) {
        let config = "action: {maxRunningJobs: 40}";
        self.create_plain("configmaps", "git-events-runner-config", "data", json!({ "runtimeConfig": config })).await;
        self.create_plain("secrets", "git", "stringData", json!({ "username": "robot", "password": "secret" })).await;
        // All Jobs stay, and none waits too long.
        let job = json!({ "ttlSecondsAfterFinished": 86_400, "jobWaitingTimeoutSeconds": 3600, "annotations": { "test/run-for": "10ms" } });
        self.create("Action", "note", json!({ "actionJob": job })).await;
        for name in (0..REPOS).map(repo_name) {
            let spec = |secret: Value| json!({ "repoUri": self.server.uri(&name), "authConfig": { "type": "basic", "secretRef": secret } });
            self.create("GitRepo", &name, spec(json!({ "name": "git" }))).await;
            self.create("ClusterGitRepo", &name, spec(json!({ "name": "git", "namespace": self.namespace }))).await;
        }
        for (number, trigger) in self.triggers.iter().enumerate() {
            let mut spec = json!({
                "sources": {
                    "kind": if number % 2 == 0 { "GitRepo" } else { "ClusterGitRepo" },
                    "names": trigger.sources.iter().map(|source| repo_name(*source)).collect::<Vec<_>>(),
                    "watchOn": { "onChangeOnly": trigger.kind != Kind::Always },
                },
                "action": { "kind": "Action", "name": "note" },
                "concurrencyPolicy": if number % 4 == 2 { "Forbid" } else { "Allow" },
            });
            match trigger.kind {
                Kind::Schedule => spec["schedule"] = json!({ "interval": if number % 10 == 0 { "1s" } else { "2s" } }),
                Kind::Change | Kind::Always => spec["webhook"] = json!({ "multiSource": true, "allowUnauthenticated": true }),
            }
            let kind = if trigger.kind == Kind::Schedule { "ScheduleTrigger" } else { "WebhookTrigger" };
            self.create(kind, &trigger.name, spec).await;
        }
    }

    async fn create_plain(&self, plural: &str, name: &str, field: &str, content: Value) {
        let collection = format!("/api/v1/namespaces/{}/{plural}", self.namespace);
        let object = json!({ "metadata": { "name": name }, field: content });
        self.cluster.server().create(&collection, object.to_string()).await.unwrap();
    }

    async fn create(&self, kind: &str, name: &str, spec: Value) {
        let object = json!({ "apiVersion": VERSION, "kind": kind, "metadata": { "name": name }, "spec": spec });
        let within = if kind.starts_with("Cluster") { String::new() } else { format!("/namespaces/{}", self.namespace) };
        let collection = format!("/apis/{VERSION}{within}/{}s", kind.to_lowercase());
        self.cluster.server().create(&collection, object.to_string()).await.unwrap();
    }

    /// Starts a replica that does this at its fail points.
    pub fn start(&self, fail_points: &str) -> Operator {
        let lease = ["--leader-lease-duration", "4", "--leader-lease-grace", "1", "--watch-namespaces", &self.namespace];
        let program = env!("CARGO_BIN_EXE_git-events-runner");
        Operator::start(program, &self.account, &self.namespace, &lease, &[("FAILPOINTS", fail_points.as_ref())]).unwrap()
    }

    /// What the branch points at, which may be older than what it pointed at before.
    pub fn tip(&self, repo: usize) -> CommitId {
        let bare = self.repos[repo].bare().display().to_string();
        self.repos[repo].git(&["--git-dir", &bare, "rev-parse", "main"]).unwrap().parse().unwrap()
    }

    /// The triggers of a kind.
    pub fn triggers(&self, kind: Kind) -> Vec<&Trigger> {
        self.triggers.iter().filter(|trigger| trigger.kind == kind).collect()
    }
}

pub fn repo_name(number: usize) -> String {
    format!("repo-{number}")
}

/// Most have a repository of their own, the others share one with an earlier trigger, and some have a second one.
fn trigger(number: usize) -> Trigger {
    let kind = [Kind::Schedule, Kind::Change, Kind::Schedule, Kind::Change, Kind::Always][number % 5];
    let second = number.is_multiple_of(3).then_some((number + 5) % REPOS);
    Trigger { kind, name: format!("{kind:?}-{number}").to_lowercase(), sources: [number % REPOS].into_iter().chain(second).collect() }
}

/// Waits before another look.
pub async fn wait_a_little() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
