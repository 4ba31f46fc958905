//! Where the guides are followed: a folder, a shell, and what stands for the servers that they name.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use git_events_runner_tests::cluster::Cluster;
use tempfile::TempDir;

use super::{release::Release, servers::Servers};

/// How long a block may take, for `timeout`.
const WITHIN: &str = "120";

/// The version of the chart that the release is upgraded to.
const NEXT_VERSION: &str = "0.2.0";

/// A chart like that of the published operator: what its operator is made of has the names of ours. The definitions of the kinds are not part of it.
const PUBLISHED: [(&str, &str); 2] = [
    ("Chart.yaml", "{ apiVersion: v2, name: git-events-runner, version: 0.0.1 }\n"),
    (
        "templates/operator.yaml",
        r#"
apiVersion: v1
kind: ServiceAccount
metadata: { name: git-events-runner }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: git-events-runner }
spec:
  replicas: 1
  selector: { matchLabels: &labels { app.kubernetes.io/name: git-events-runner, app.kubernetes.io/instance: git-events-runner } }
  template:
    metadata: { labels: *labels }
    spec:
      serviceAccountName: git-events-runner
      containers: [{ name: operator, image: "registry.example.com/published:0.0.1", args: [run], ports: [{ name: webhook, containerPort: 8080 }] }]
---
apiVersion: v1
kind: Service
metadata: { name: git-events-runner }
spec:
  selector: { app.kubernetes.io/name: git-events-runner, app.kubernetes.io/instance: git-events-runner }
  ports: [{ name: webhook, port: 8080, targetPort: webhook }]
"#,
    ),
];

/// Objects as the published operator leaves them, with its finalizer and its status.
const LEFT: &str = r#"
apiVersion: git-events-runner.rs/v1alpha1
kind: GitRepo
metadata: { name: app }
spec: { repoUri: "https://git.example.com/the-best-team/cool-project.git" }
---
apiVersion: git-events-runner.rs/v1alpha1
kind: Action
metadata: { name: run }
spec: { actionJob: { args: [./deploy.sh] } }
---
apiVersion: git-events-runner.rs/v1alpha1
kind: ScheduleTrigger
metadata: { name: left, finalizers: [scheduletriggers.git-events-runner.rs] }
spec:
  sources: { kind: GitRepo, names: [app] }
  schedule: { interval: 10s }
  action: { kind: Action, name: run }
status:
  state: Idle
  lastRun: "2024-07-01T10:00:01.123456789+00:00"
  checkedSources:
    app: { commitHash: COMMIT, changed: "2024-07-01T10:00:00.123456789+00:00" }
---
apiVersion: git-events-runner.rs/v1alpha1
kind: WebhookTrigger
metadata: { name: open }
spec:
  sources: { kind: GitRepo, names: [app] }
  webhook: { multiSource: false }
  action: { kind: Action, name: run }
status: { state: Idle, lastRun: Never, checkedSources: {} }
"#;

pub struct Place<'a> {
    folder: TempDir,
    release: Release<'a>,
    servers: Servers,
}

impl<'a> Place<'a> {
    /// A folder like a clone of this repository, with the programs that the pages call.
    pub fn new(cluster: &'a Cluster) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        symlink(root.join("charts"), folder.path().join("charts"))?;
        let bin = folder.path().join("bin");
        fs::create_dir(&bin)?;
        let programs = [cluster.kubectl().get_program().to_owned(), cluster.server().helm()?.get_program().to_owned()];
        for program in programs.iter().map(Path::new).chain([Path::new(env!("CARGO_BIN_EXE_git-events-runner"))]) {
            symlink(program, bin.join(program.file_name().context("a program")?))?;
        }
        fs::copy(cluster.kubeconfig(), folder.path().join("kubeconfig"))?;

        let servers = Servers::start(folder.path())?;
        let release = Release::new(cluster, folder.path().join("authorities.pem"));
        Ok(Self { folder, release, servers })
    }

    /// Saves a block as a file.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.folder.path().join(name), self.here(text))?)
    }

    /// Makes the clone one of the next version.
    pub fn take_next_version(&self) -> Result<()> {
        let charts = self.folder.path().join("charts");
        let here = charts.canonicalize()?;
        fs::remove_file(&charts)?;
        let copied = Command::new("cp").arg("-r").args([&here, &charts]).status()?;
        ensure!(copied.success(), "{} cannot be copied", here.display());
        let chart = charts.join("git-events-runner/Chart.yaml");
        let (text, version) = (fs::read_to_string(&chart)?, env!("CARGO_PKG_VERSION"));
        ensure!(version != NEXT_VERSION && text.contains(version), "the chart is not of the version {version}");
        Ok(fs::write(chart, text.replace(version, NEXT_VERSION))?)
    }

    /// Leaves what the published operator would leave: the release, and definitions of the kinds that differ from ours and that no release owns.
    pub fn leave_published(&self) -> Result<()> {
        fs::create_dir_all(self.folder.path().join("published/templates"))?;
        for (name, text) in PUBLISHED {
            self.write(&format!("published/{name}"), text)?;
        }
        self.write("left.yaml", &LEFT.replace("COMMIT", &self.servers.commit()?))?;
        let leave = "helm install git-events-runner published --namespace git-events-runner --create-namespace
git-events-runner crds | sed 's/name: Age/name: Since/' | kubectl apply -f -
kubectl wait --for=condition=Established customresourcedefinitions --all --timeout=1m
until kubectl apply -f left.yaml; do sleep 0.2; done
kubectl replace --subresource=status -f left.yaml";
        let (is_well, printed) = self.shell(leave)?;
        ensure!(is_well, "{printed}");
        Ok(())
    }

    /// Has a shell run a block, and the operator be what the release is by then. Answers whether the block has ended well, and what it has printed.
    pub async fn run(&mut self, text: &str) -> Result<(bool, String)> {
        let done = self.shell(text)?;
        if text.contains("helm ") {
            self.release.follow().await?;
        }
        Ok(done)
    }

    fn shell(&self, text: &str) -> Result<(bool, String)> {
        let folder = self.folder.path();
        let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH")?);
        let mut shell = Command::new("timeout");
        shell.args([WITHIN, "sh", "-euc", &format!("exec 2>&1\n{}", self.here(text))]);
        shell.current_dir(folder).stdin(Stdio::null()).env("PATH", path).env("HOME", folder);
        shell.env("KUBECONFIG", folder.join("kubeconfig")).env("GIT_CONFIG_GLOBAL", folder.join("gitconfig"));
        for who in ["AUTHOR", "COMMITTER"] {
            shell.env(format!("GIT_{who}_NAME"), "You").env(format!("GIT_{who}_EMAIL"), "you@example.com");
            shell.env(format!("GIT_{who}_DATE"), "2026-01-01T00:00:00Z");
        }
        let done = shell.output().context("timeout is missing: install coreutils")?;
        ensure!(done.status.code() != Some(124), "has not ended within {WITHIN} seconds");
        let printed = self.there(&String::from_utf8_lossy(&done.stdout));
        self.servers.let_in(&folder.join("deploy-key.pub"))?;
        Ok((done.status.success(), printed))
    }

    /// A text of a page with what is meant here.
    fn here(&self, text: &str) -> String {
        self.all_meant().iter().fold(text.to_owned(), |text, (said, meant)| text.replace(said, meant))
    }

    /// What was printed here, as a page says it.
    fn there(&self, text: &str) -> String {
        self.all_meant().iter().fold(text.to_owned(), |text, (said, meant)| text.replace(meant, said))
    }

    fn all_meant(&self) -> Vec<(String, String)> {
        let hooks = self.release.webhooks_port().map(|port| ("https://hooks.example.com".to_owned(), format!("http://127.0.0.1:{port}")));
        self.servers.meant().into_iter().chain(hooks).collect()
    }
}
