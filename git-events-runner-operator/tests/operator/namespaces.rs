//! Who may use what of which namespace.

use git_events_runner_tests::{
    Auth,
    cluster::{Cluster, Mode},
};
use serde_json::json;

use super::{
    fixture::{Fixture, condition},
    manifests::{action, git_repo, object, schedule_trigger, with},
};

#[tokio::test]
async fn namespaces_that_are_not_allowed_are_told_and_work_when_their_labels_change() {
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[]).unwrap();
    let allowed = json!({ "matchLabels": { "team": "a" } });
    let (repo, act) = (f.unique("app"), f.unique("act"));
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    f.put(object("ClusterGitRepo", &repo, json!({ "repoUri": f.server.uri("app"), "allowedNamespaces": allowed }))).await;
    f.put(object("ClusterAction", &act, json!({ "allowedNamespaces": allowed }))).await;
    let of_source = with(schedule_trigger("source", &repo, "act"), "sources.kind", "ClusterGitRepo");
    f.put(with(of_source, "schedule.interval", "1h")).await;
    let of_action = with(schedule_trigger("action", "app", &act), "action.kind", "ClusterAction");
    f.put(with(of_action, "schedule.interval", "1h")).await;
    let _operator = f.operator(&[]);

    for (trigger, named) in [("source", &repo), ("action", &act)] {
        let status = f.wait_for_ready("ScheduleTrigger", trigger, "False", "InvalidSpec").await;
        let stalled = condition(&status, "Stalled").unwrap_or_else(|| panic!("not stalled: {status}"));
        let message = stalled["message"].as_str().unwrap();
        assert!(message.contains(named) && message.contains("allowedNamespaces") && message.contains(&*f.namespace), "{message}");
        assert_eq!(status["state"], "WrongConfig");
    }
    assert!(f.jobs().await.is_empty());
    let labels = |team: Option<&str>| json!({ "metadata": { "labels": { "team": team } } });
    f.patch("Namespace", &f.namespace, labels(Some("a"))).await;
    f.wait_for_succeeded(2).await;
    for trigger in ["source", "action"] {
        f.wait_for_ready("ScheduleTrigger", trigger, "True", "Watching").await;
        f.wait_for_status("ScheduleTrigger", trigger, "it is idle", |status| status["state"] == "Idle").await;
    }
    f.patch("Namespace", &f.namespace, labels(None)).await;
    for trigger in ["source", "action"] {
        f.wait_for_ready("ScheduleTrigger", trigger, "False", "InvalidSpec").await;
    }
}

#[tokio::test]
async fn a_cluster_action_with_the_repository_of_a_namespace_is_refused_at_admission() {
    let f = Fixture::new(Auth::None).await;
    let over = json!({ "kind": "GitRepo", "name": "app", "reference": { "branch": "main" } });
    let refused = object("ClusterAction", &f.unique("act"), json!({ "sourceOverride": over })).to_string();
    let server = Cluster::shared(Mode::Kwok).await.unwrap().server();
    let refusal = server.create("/apis/git-events-runner.rs/v1alpha1/clusteractions", refused).await.unwrap_err().to_string();
    for said in ["422", "spec.sourceOverride.kind", "a ClusterAction can only check out a ClusterGitRepo"] {
        assert!(refusal.contains(said), "{refusal}");
    }
}

#[tokio::test]
async fn a_git_repo_reads_no_secret_of_another_namespace() {
    let f = Fixture::new(Auth::None).await;
    let auth = json!({ "type": "basic", "secretRef": { "name": "git", "namespace": "default" } });
    f.put(with(git_repo("app", &f.server.uri("app")), "authConfig", auth)).await;
    f.put(action("act")).await;
    f.put(schedule_trigger("it", "app", "act")).await;
    let _operator = f.operator(&[]);
    for (kind, name) in [("GitRepo", "app"), ("ScheduleTrigger", "it")] {
        let status = f.wait_for_ready(kind, name, "False", "InvalidSpec").await;
        let message = condition(&status, "Stalled").unwrap()["message"].as_str().unwrap();
        assert!(message.contains("authConfig.secretRef.namespace is default"), "{message}");
    }
    assert!(f.jobs().await.is_empty());
}
