//! What the utility port tells of the operator.

use std::fs;

use git_events_runner_tests::{Auth, Operator, free_port, wait_for};
use serde_json::json;

use super::{
    fixture::Fixture,
    manifests::{action, git_repo, schedule_trigger},
};

#[tokio::test]
async fn the_metrics_of_a_run_are_there_under_their_prefix() {
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[]).unwrap();
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    f.put(schedule_trigger("it", "app", "act")).await;
    let operator = f.operator(&["--metrics-prefix", "runner"]);
    f.wait_for_succeeded(1).await;
    f.wait_for_status("ScheduleTrigger", "it", "its result", |status| status["lastResult"] == "Succeeded").await;

    assert_eq!(operator.utility("/alive").unwrap(), (200, "alive".to_owned()));
    assert_eq!(operator.utility("/ready").unwrap(), (200, "ready".to_owned()));
    assert_eq!(operator.utility("/nothing").unwrap().0, 404);
    operator.webhook("/nowhere", ("x-unused", "")).unwrap();
    let metrics = operator.metrics().unwrap();
    for expected in [
        "runner_leader 1",
        "runner_runs_registered_total 1",
        "runner_runs_released_total 1",
        "runner_runs_finished_total{result=\"Succeeded\"} 1",
        "runner_checks_total{result=\"Started\"} 1",
        "runner_webhook_requests_total{code=\"404\"} 1",
        "runner_config_failures_total 0",
        "# EOF",
    ] {
        assert!(metrics.lines().any(|line| line == expected), "no {expected} in {metrics}");
    }
    for measured in ["runner_evaluation_duration_seconds_count", "runner_webhook_duration_seconds_count"] {
        assert!(metrics.lines().any(|line| line.starts_with(measured)), "no {measured} in {metrics}");
    }
}

#[test]
fn without_an_api_server_the_operator_lives_and_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let server = format!("http://127.0.0.1:{}", free_port().unwrap());
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{ "name": "it", "cluster": { "server": server } }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
        "users": [{ "name": "it", "user": {} }],
    });
    fs::write(&kubeconfig, config.to_string()).unwrap();
    let operator = Operator::start(env!("CARGO_BIN_EXE_git-events-runner"), &kubeconfig, "default", &[], &[]).unwrap();

    wait_for("it lives", || operator.utility("/alive").ok().filter(|(status, _)| *status == 200)).unwrap();
    operator.wait_for_line("WARN the ConfigMap default/git-events-runner-config cannot be read: ").unwrap();
    assert_eq!(operator.utility("/ready").unwrap(), (503, "not ready".to_owned()));
    let (status, lines) = operator.terminate().unwrap();
    assert!(status.success() && lines.iter().all(|line| line.contains(" WARN the ConfigMap ")), "{status}: {lines:#?}");
}
