//! The typical flow that the documentation describes, in local mode: a repository behind http with basic auth, a schedule, a webhook.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, Result};
use git_events_runner_tests::{Auth, GitRepo, GitServer, Options, Program, free_port, send, wait_for};
use rustix::process::Signal;
use tempfile::TempDir;

/// The script of the documentation, to the letter.
const DEPLOY: &str = r#"#!/bin/bash

# 1st argument is path to the folder with Helm chart

helm upgrade ${TRIGGER_SOURCE_NAME} ${1} -f configs/values.yaml --install --wait && \
    (echo "Has been successfully deployed"; exit 0) || \
    (echo "Something went wrong"; exit 1)
"#;

/// Stands in for helm: notes where and how it is called, and whether the files are there.
const HELM: &str = r#"#!/bin/sh
test -f "$3/Chart.yaml" && test -f configs/values.yaml || exit 1
echo "$TRIGGER_SOURCE_COMMIT helm $*" >>"$HOME/calls"
"#;

struct Flow {
    folder: TempDir,
    server: GitServer,
    repo: GitRepo,
    port: u16,
}

impl Flow {
    fn prepare() -> Result<Self> {
        let server = GitServer::start(&Options { auth: Auth::Basic("robot".into(), "pass word".into()), ..Options::default() })?;
        let repo = server.repo("cool-project")?;
        repo.write("deploy.sh", DEPLOY)?;
        repo.make_executable("deploy.sh")?;
        repo.write("chart/Chart.yaml", "name: cool\n")?;
        repo.write("configs/values.yaml", "replicas: 1\n")?;
        repo.commit_and_push("main")?;
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("bin"))?;
        let helm = folder.path().join("bin/helm");
        fs::write(&helm, HELM)?;
        fs::set_permissions(&helm, fs::Permissions::from_mode(0o755))?;
        let manifests = folder.path().join("manifests");
        fs::create_dir(&manifests)?;
        let typical = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/overview.yaml"))?;
        let typical = typical.replace("https://git.example.com/the-best-team/cool-project.git", &server.uri("cool-project"));
        fs::write(manifests.join("typical-flow.yaml"), typical.replace("interval: 5m", "interval: 1s"))?;
        fs::write(manifests.join("secrets.yaml"), SECRETS)?;
        Ok(Self { folder, server, repo, port: free_port()? })
    }

    fn start(&self) -> Result<Program> {
        let path = format!("{}:{}", self.folder.path().join("bin").display(), std::env::var("PATH")?);
        let variables = [("PATH", path.as_ref()), ("HOME", self.folder.path().as_os_str())];
        let (manifests, port) = (self.folder.path().join("manifests"), self.port.to_string());
        Program::local_mode(env!("CARGO_BIN_EXE_git-events-runner"), &manifests, &["--webhooks-port", &port], &variables)
    }

    /// What helm was called with so far.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    fn wait_for_calls(&self, count: usize) -> Result<Vec<String>> {
        wait_for(&format!("{count} calls of helm"), || Some(self.calls()).filter(|calls| calls.len() >= count))
    }

    /// Waits until the repository was looked at some more times.
    fn wait_for_checks(&self) -> Result<()> {
        self.server.take_requests(3).map(drop)
    }
}

const SECRETS: &str = "
apiVersion: v1
kind: Secret
metadata:
  name: cool-project-auth
  namespace: default
stringData:
  username: robot
  password: pass word
---
apiVersion: v1
kind: Secret
metadata:
  name: webhook-auth
  namespace: default
stringData:
  token: open sesame
";

fn call_of(commit: impl std::fmt::Display) -> String {
    format!("{commit} helm upgrade cool-project-repo ./chart/ -f configs/values.yaml --install --wait")
}

#[test]
fn the_typical_flow_works_as_documented() -> Result<()> {
    let flow = Flow::prepare()?;
    let local = flow.start()?;

    let first = flow.repo.commit("main")?;
    assert_eq!(flow.wait_for_calls(1)?, [call_of(first)]);
    local.wait_for_line("Has been successfully deployed")?;

    flow.wait_for_checks()?;
    assert_eq!(flow.calls().len(), 1, "without a push nothing runs");

    let second = flow.repo.push("main", &[("configs/values.yaml", "replicas: 2\n")])?;
    assert_eq!(flow.wait_for_calls(2)?[1], call_of(second));

    let post = |path: &str, headers: &[(&str, &str)]| send(flow.port, "POST", path, headers, b"{}");
    let (trigger, source) = ("/default/coll-trigger", "/default/coll-trigger/cool-project-repo");
    for path in [trigger, source] {
        assert_eq!(post(path, &[])?.status, 401);
        assert_eq!(post(path, &[("x-trigger-auth", "open sesam")])?.status, 403);
    }
    let token = ("x-trigger-auth", "open sesame");
    for path in ["/default/no-such-trigger", "/other/coll-trigger", "/default/coll-trigger/no-such-source", "/", "/default/a/b/c"] {
        assert_eq!(post(path, &[token])?.status, 404, "{path}");
    }
    assert_eq!(flow.calls().len(), 2, "what is refused runs nothing");
    for (count, path) in [(3, trigger), (4, source)] {
        let answer = post(path, &[token])?;
        assert_eq!((answer.status, &answer.body["status"]), (202, &"ok".into()));
        assert!(answer.body["task_id"].as_str().is_some_and(|id| !id.is_empty()), "{:?}", answer.body);
        assert_eq!(flow.wait_for_calls(count)?[count - 1], call_of(second), "a webhook runs without a push");
    }

    let (status, output) = local.end(Signal::INT)?;
    assert!(status.success());
    let log = output.join("\n");
    assert!(!log.contains("pass word") && !log.contains("open sesame"), "a secret is in the log:\n{log}");
    flow.wait_for_calls(4).context("nothing more runs").map(|calls| assert_eq!(calls.len(), 4))
}

#[test]
fn the_webhook_listener_says_what_is_wrong_with_a_request() -> Result<()> {
    let flow = Flow::prepare()?;
    let local = flow.start()?;
    local.wait_for_line("webhook: POST")?;
    let (path, token) = ("/default/coll-trigger", ("x-trigger-auth", "open sesame"));
    let json = ("content-type", "application/json");

    let refused = send(flow.port, "GET", path, &[token], b"")?;
    assert_eq!((refused.status, &refused.body["message"]), (405, &"a webhook is a POST".into()));
    assert_eq!(send(flow.port, "POST", path, &[token, ("content-type", "image/png")], b"")?.status, 415);
    let large = vec![b' '; (3 << 20) + 1];
    assert_eq!(send(flow.port, "POST", path, &[token, json], &large)?.status, 413);
    assert_eq!(send(flow.port, "POST", path, &[token, json], &large[1..])?.status, 202);
    local.end(Signal::TERM)?;
    Ok(())
}

#[test]
fn what_was_run_is_not_run_again_after_a_restart() -> Result<()> {
    let flow = Flow::prepare()?;
    let mut local = flow.start()?;
    flow.wait_for_calls(1)?;
    local.kill()?;
    let local = flow.start()?;
    flow.wait_for_checks()?;
    let second = flow.repo.push("main", &[("configs/values.yaml", "replicas: 2\n")])?;
    assert_eq!(flow.wait_for_calls(2)?[1], call_of(second));
    local.end(Signal::TERM)?;
    assert_eq!(flow.calls().len(), 2);
    Ok(())
}
