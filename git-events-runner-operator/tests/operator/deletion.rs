//! What becomes of Jobs when their trigger is deleted.

use git_events_runner_core::{RunPhase, job};
use git_events_runner_tests::Auth;
use kube::{ResourceExt as _, api::DeleteParams};

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

#[tokio::test]
async fn jobs_go_with_their_trigger_whether_they_have_begun_or_not() {
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
    for trigger in ["waits", "runs"] {
        f.api("WebhookTrigger").delete(trigger, &DeleteParams::default()).await.unwrap();
        wait_for(&format!("the Job of `{trigger}` is gone"), async || {
            f.jobs().await.iter().all(|found| found.labels()[job::TRIGGER_NAME] != trigger).then_some(())
        })
        .await;
    }
}
