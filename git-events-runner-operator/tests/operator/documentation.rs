//! What `docs/operator.md` tells people to type works.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use git_events_runner_tests::{
    Auth,
    cluster::{Cluster, Mode},
};

use super::fixture::Fixture;

const PROGRAM: &str = env!("CARGO_BIN_EXE_git-events-runner");

/// What the page speaks of.
const NIGHTLY: &str = r#"
apiVersion: git-events-runner.rs/v1alpha1
kind: GitRepo
metadata: { name: app }
spec: { repoUri: "URI" }
---
apiVersion: git-events-runner.rs/v1alpha1
kind: Action
metadata: { name: report }
spec: {}
---
apiVersion: git-events-runner.rs/v1alpha1
kind: ScheduleTrigger
metadata: { name: nightly }
spec:
  sources: { names: [app] }
  schedule: { cron: "@daily" }
  action: { kind: Action, name: report }
"#;

/// Programs by the names that the page calls them by, and a kubeconfig whose namespace is that of the test.
fn shell(folder: &Path, cluster: &Cluster, namespace: &str) -> impl Fn(&str) -> Command {
    let kubectl = cluster.kubectl();
    symlink(PROGRAM, folder.join("git-events-runner")).unwrap();
    symlink(kubectl.get_program(), folder.join("kubectl")).unwrap();
    let kubeconfig: PathBuf = folder.join("kubeconfig");
    fs::copy(cluster.kubeconfig(), &kubeconfig).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let shell = move |line: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-euc", line]).env("PATH", &path).env("KUBECONFIG", &kubeconfig);
        shell
    };
    let status = shell(&format!("kubectl config set-context --current --namespace {namespace}")).output().unwrap();
    assert!(status.status.success(), "{status:?}");
    shell
}

#[tokio::test]
async fn every_command_of_the_page_works() {
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[("README.md", "hello")]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let shell = shell(folder.path(), Cluster::shared(Mode::Kwok).await.unwrap(), &f.namespace);
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operator.md")).unwrap();
    let mut operator = None;
    let mut lines = page.lines();
    while lines.any(|line| line == "```sh") {
        for line in lines.by_ref().take_while(|line| *line != "```") {
            if line == "git-events-runner run" {
                operator = Some(f.operator(&[]));
                f.apply(&NIGHTLY.replace("URI", &f.server.uri("app"))).await;
            } else {
                let output = shell(line).output().unwrap();
                assert!(output.status.success(), "`{line}` failed: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
    }
    assert!(operator.is_some(), "the page does not start the operator");
    f.wait_for_succeeded(1).await;
    let handled = |status: &serde_json::Value| status["lastHandledRequest"].is_string();
    f.wait_for_status("ScheduleTrigger", "nightly", "the request by hand was taken", handled).await;
}
