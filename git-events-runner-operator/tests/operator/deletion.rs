//! What becomes of Jobs when their trigger is deleted.

use git_events_runner_core::{RunPhase, job};
use git_events_runner_tests::{Auth, Operator};
use kube::ResourceExt as _;

use super::fixture::{Fixture, wait_for};

const MANIFESTS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: git-events-runner-config }
data: { runtimeConfig: "action: { maxRunningJobs: 1 }" }
---
apiVersion: git-events-runner.rs/v1alpha1
kind: GitRepo
metadata: { name: app }
spec: { repoUri: "URI" }
---
apiVersion: git-events-runner.rs/v1alpha1
kind: Action
metadata: { name: goes-on }
spec: { actionJob: { annotations: { "test/run-for": 1h } } }
---
apiVersion: git-events-runner.rs/v1alpha1
kind: WebhookTrigger
metadata: { name: runs }
spec:
  sources: { names: [app], watchOn: { onChangeOnly: false } }
  action: { kind: Action, name: goes-on }
  webhook: { multiSource: true, allowUnauthenticated: true }
---
apiVersion: git-events-runner.rs/v1alpha1
kind: WebhookTrigger
metadata: { name: waits }
spec:
  sources: { names: [app], watchOn: { onChangeOnly: false } }
  action: { kind: Action, name: goes-on }
  webhook: { multiSource: true, allowUnauthenticated: true }
"#;

/// A Job that runs, of the trigger `runs`, and one that waits for its turn, of `waits`.
async fn fixture() -> (Fixture, Operator) {
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[("README.md", "hello")]).unwrap();
    f.apply(&MANIFESTS.replace("URI", &f.server.uri("app"))).await;
    let operator = f.operator(&[]);
    for (trigger, phase) in [("runs", RunPhase::Running), ("waits", RunPhase::Waiting)] {
        assert_eq!(operator.webhook(&format!("/{}/{trigger}", f.namespace), ("x-any", "")).unwrap().status, 202);
        wait_for(&format!("the Job of `{trigger}` is {phase:?}"), async || {
            f.jobs().await.into_iter().find(|found| found.labels()[job::TRIGGER_NAME] == trigger && job::phase(found) == phase)
        })
        .await;
    }
    (f, operator)
}

async fn delete_and_wait(f: &Fixture, trigger: &str) {
    f.delete("WebhookTrigger", trigger).await;
    wait_until_gone(f, trigger).await;
}

async fn wait_until_gone(f: &Fixture, trigger: &str) {
    wait_for(&format!("the Job of `{trigger}` is gone"), async || {
        f.jobs().await.iter().all(|found| found.labels()[job::TRIGGER_NAME] != trigger).then_some(())
    })
    .await;
}

#[tokio::test]
async fn jobs_go_with_their_trigger_whether_they_have_begun_or_not() {
    let (f, _operator) = fixture().await;
    delete_and_wait(&f, "waits").await;
    delete_and_wait(&f, "runs").await;
}

/// As docs/guides/upgrade.md says.
#[tokio::test]
async fn without_an_operator_a_job_that_waits_stays_until_its_finalizer_is_taken_off() {
    let (f, operator) = fixture().await;
    operator.terminate().unwrap();
    f.delete("WebhookTrigger", "waits").await;
    delete_and_wait(&f, "runs").await;
    let waiting = wait_for("the Job of `waits` is to go", async || {
        f.jobs().await.into_iter().find(|found| found.metadata.deletion_timestamp.is_some())
    })
    .await;
    let name = waiting.name_any();
    let patch = ["patch", "job", &name, "--type", "merge", "--patch", r#"{"metadata": {"finalizers": null}}"#];
    let output = f.cluster.kubectl().args(["--namespace", &f.namespace]).args(patch).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    wait_until_gone(&f, "waits").await;
}

#[tokio::test]
async fn jobs_whose_action_is_gone_are_followed_all_the_same() {
    let (f, _operator) = fixture().await;
    let jobs = f.jobs().await;
    let of = |trigger: &str| jobs.iter().find(|found| found.labels()[job::TRIGGER_NAME] == trigger).unwrap();
    f.delete("Action", "goes-on").await;
    f.delete("Job", &of("waits").name_any()).await;
    wait_until_gone(&f, "waits").await;
    f.end(of("runs")).await;
    f.wait_for_status("WebhookTrigger", "runs", "its end", |status| status["lastResult"] == "Succeeded").await;
}
