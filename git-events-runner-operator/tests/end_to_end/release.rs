//! The operator, installed once for all tests of this process.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context as _, Result, ensure};
use git_events_runner_tests::{
    Images,
    cluster::{Cluster, Mode},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/git-events-runner");

/// The namespace and the name of the release.
pub const RELEASE: &str = "git-events-runner";

/// A cluster with a node that has our images, and two replicas of the operator that watch all of it.
pub struct Release {
    pub cluster: Cluster,
    pub images: Images,
}

impl Release {
    /// The one that the tests of this process share. The first one to ask installs it.
    pub async fn shared() -> &'static Self {
        // It is not tried again for each test.
        static SHARED: OnceCell<Result<Release>> = OnceCell::const_new();
        SHARED.get_or_init(Self::install).await.as_ref().unwrap()
    }

    async fn install() -> Result<Self> {
        let images = tokio::task::spawn_blocking(|| Images::build(Path::new(env!("CARGO_BIN_EXE_git-events-runner"))));
        let cluster = Cluster::start_bare(Mode::Node).await?;
        let images = images.await??;
        ["git-events-runner", "cloner", "worker"].iter().try_for_each(|name| cluster.import(&images.archive(name)))?;
        // The operator's own Pods keep to the restricted standard.
        let metadata = json!({ "name": RELEASE, "labels": { "pod-security.kubernetes.io/enforce": "restricted" } });
        cluster.server().create("/api/v1/namespaces", json!({ "metadata": metadata }).to_string()).await?;
        let release = Self { cluster, images };
        release.helm(&["install", RELEASE, CHART, "--set=rbac.controller.secretsNamespaces={*}"])?;
        release.kubectl(&["rollout", "status", "deployment", RELEASE, "--timeout=180s"]).with_context(|| release.logs())?;
        Ok(release)
    }

    /// Runs helm in the namespace of the release.
    pub fn helm(&self, args: &[&str]) -> Result<()> {
        let output = self.cluster.server().helm()?.args(["--namespace", RELEASE]).args(args).output()?;
        ensure!(output.status.success(), "helm {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Runs kubectl in the namespace of the release, and answers what it prints.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        let output = self.cluster.kubectl().args(["--namespace", RELEASE]).args(args).output()?;
        ensure!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What the replicas have logged, and what is said of their Pods.
    pub fn logs(&self) -> String {
        let all: [&[&str]; 3] = [
            &["logs", "--selector=app.kubernetes.io/name=git-events-runner", "--tail=100", "--prefix"],
            &["get", "pods", "--output=wide"],
            &["get", "events"],
        ];
        all.map(|args| self.kubectl(args).unwrap_or_else(|error| error.to_string())).join("\n")
    }

    /// Where the replicas listen for webhooks that are ready, and not about to end.
    pub fn replicas(&self) -> Result<Vec<SocketAddr>> {
        let pods: Value = serde_json::from_str(&self.kubectl(&["get", "pods", "--output=json"])?)?;
        let is_ready = |pod: &&Value| {
            let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            pod["metadata"]["deletionTimestamp"].is_null() && conditions.any(|found| found["type"] == "Ready" && found["status"] == "True")
        };
        let ready = pods["items"].as_array().context("no list")?.iter().filter(is_ready);
        ready.map(|pod| Ok(SocketAddr::new(pod["status"]["podIP"].as_str().context("no address")?.parse()?, 8080))).collect()
    }
}
