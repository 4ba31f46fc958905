use git_events_runner_core::{Retry, SourceError, engine::Failure};

use super::*;

#[test]
fn metrics_have_the_prefix_their_units_and_constants_as_labels() {
    let metrics = Metrics::new("runner");
    metrics.checked(&Outcome::Unchanged);
    let refused = SourceError::new(Reason::AuthenticationFailed, Retry::Backoff, "the token is refused");
    metrics.checked(&Outcome::Failed(Failure::Source(refused)));
    metrics.evaluated(Duration::from_millis(7));
    metrics.clone().runs_registered.inc();
    metrics.finished(RunResult::Expired);
    metrics.answered(202, Duration::from_millis(3));
    metrics.triggers("ScheduleTrigger", 3);
    metrics.failed("WebhookTrigger", Reason::Conflict);
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
        "runner_leader 1",
        "runner_config_failures_total 0",
    ] {
        assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
    }
    drop(leading);
    assert!(metrics.encode().unwrap().contains("runner_leader 0"));
}
