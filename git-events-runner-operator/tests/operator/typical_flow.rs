//! The typical flow that the documentation describes, in a cluster.

use git_events_runner_core::job;
use git_events_runner_tests::Auth;
use kube::ResourceExt as _;
use serde_json::json;

use super::{
    fixture::{Fixture, overview, request},
    manifests::secret,
};

#[tokio::test]
async fn the_typical_flow_works_as_documented() {
    let f = Fixture::new(Auth::Basic("robot".into(), "pass word".into())).await;
    let repo = f.repo("cool-project");
    let first = repo.push("main", &[("deploy.sh", "exit 0")]).unwrap();
    f.put(secret("cool-project-auth", &[("username", "robot"), ("password", "pass word")])).await;
    f.put(secret("webhook-auth", &[("token", "open sesame")])).await;
    f.put(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "git-events-runner-jobs" } })).await;
    f.apply(&overview(&f.server)).await;
    let operator = f.operator(&[]);

    let jobs = f.wait_for_succeeded(1).await;
    assert_eq!((jobs.len(), request(&jobs[0]).commit), (1, first));
    f.wait_for_status("ScheduleTrigger", "cool-trigger", "the run has succeeded", |status| status["lastResult"] == "Succeeded").await;
    f.wait_for_ready("ScheduleTrigger", "cool-trigger", "True", "Watching").await;
    f.wait_for_ready("WebhookTrigger", "coll-trigger", "True", "Watching").await;
    f.wait_for_ready("GitRepo", "cool-project-repo", "True", "Reachable").await;
    f.wait_for_ready("Action", "run-deploy-sh", "True", "Valid").await;

    f.server.take_requests(3).unwrap();
    assert_eq!(f.jobs().await.len(), 1, "without a push nothing runs");
    let second = repo.push("main", &[("deploy.sh", "exit 1")]).unwrap();
    let jobs = f.wait_for_succeeded(2).await;
    assert_eq!((request(&jobs[1]).commit, request(&jobs[1]).previous), (second, Some(first)));

    let answer = operator.webhook("/default/coll-trigger", ("x-trigger-auth", "open sesame")).unwrap();
    assert_eq!(answer.status, 404, "it is in another namespace");
    let path = format!("/{}/coll-trigger", f.namespace);
    assert_eq!(operator.webhook(&path, ("x-trigger-auth", "wrong")).unwrap().status, 403);
    assert_eq!(operator.webhook(&path, ("x-trigger-auth", "open sesame")).unwrap().status, 202);
    let jobs = f.wait_for_succeeded(3).await;
    assert_eq!((request(&jobs[2]).commit, jobs[2].labels()[job::TRIGGER_NAME].as_str()), (second, "coll-trigger"));

    let told = ["RunRegistered", "RunReleased", "RunSucceeded", "RunRegistered", "RunReleased", "RunSucceeded"];
    f.wait_for_events("ScheduleTrigger", "cool-trigger", &told).await;
    operator.terminate().unwrap();
}
