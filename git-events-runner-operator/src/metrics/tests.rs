use git_events_runner_core::{Retry, SourceError, engine::Failure};

use super::*;

/// Metrics of which each has counted something.
fn used() -> Metrics {
    let metrics = Metrics::new("runner");
    metrics.checked(&Outcome::Unchanged);
    let refused = SourceError::new(Reason::AuthenticationFailed, Retry::Backoff, "the token is refused");
    metrics.checked(&Outcome::Failed(Failure::Source(refused)));
    metrics.evaluated(Duration::from_millis(7));
    metrics.clone().runs_registered.inc();
    metrics.finished(RunResult::Expired);
    metrics.answered(202, Duration::from_millis(3));
    metrics.triggers("ScheduleTrigger", 3);
    metrics.unfinished(&Unfinished { waiting: 5, running: 2, pending: 7 });
    metrics.failed("WebhookTrigger", Reason::Conflict);
    metrics
}

#[test]
fn metrics_have_the_prefix_their_units_and_constants_as_labels() {
    let metrics = used();
    let leading = metrics.leading();
    let text = metrics.encode().unwrap();
    for line in [
        r#"runner_checks_total{result="Unchanged"} 1"#,
        r#"runner_checks_total{result="AuthenticationFailed"} 1"#,
        r#"runner_evaluation_duration_seconds_bucket{le="0.01"} 1"#,
        "runner_runs_registered_total 1",
        r#"runner_runs_finished_total{result="Expired"} 1"#,
        r#"runner_webhook_requests_total{code="202"} 1"#,
        r#"runner_webhook_duration_seconds_count 1"#,
        r#"runner_triggers{kind="ScheduleTrigger"} 3"#,
        r#"runner_reconcile_errors_total{kind="WebhookTrigger",reason="Conflict"} 1"#,
        "runner_runs_waiting 5",
        "runner_runs_running 2",
        "runner_requests_pending 7",
        "runner_leader 1",
        "runner_config_failures_total 0",
    ] {
        assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
    }
    drop(leading);
    let text = metrics.encode().unwrap();
    assert!(text.contains("runner_leader 0") && text.contains("runner_runs_waiting 0") && !text.contains("runner_triggers{"), "{text}");
}

#[test]
fn the_docs_name_all_metrics() {
    let docs = include_str!("../../../docs/operator.md");
    let table = docs.split("\n## ").find(|section| section.starts_with("Metrics\n")).unwrap();
    let documented: Vec<_> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(['`', '{'])).map(|(name, _)| name).collect();
    let text = used().encode().unwrap();
    let help = text.lines().filter_map(|line| line.strip_prefix("# TYPE runner_"));
    let mut named: Vec<_> = help
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            _ => name.to_owned(),
        })
        .collect();
    named.sort_unstable();
    assert_eq!(documented, named);
}
