//! What is counted and measured.

use std::{fmt, sync::Arc, time::Duration};

use git_events_runner_core::{Reason, RunResult, engine::Outcome};
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry, Unit},
};

#[cfg(test)]
mod tests;

/// Names and values of labels. The values are constants: there are few of them, and none is the name of an object.
type Labels<const N: usize> = [(&'static str, String); N];

/// Upper bounds of what is measured, in seconds: checks take from some milliseconds to the timeout of a GitRepo.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0];

/// Handles to all metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    checks: Family<Labels<1>, Counter>,
    evaluation_duration: Histogram,
    /// Runs that were registered and recorded.
    pub runs_registered: Counter,
    /// Runs that have begun.
    pub runs_released: Counter,
    runs_finished: Family<Labels<1>, Counter>,
    webhook_requests: Family<Labels<1>, Counter>,
    webhook_duration: Histogram,
    triggers: Family<Labels<1>, Gauge>,
    runs_waiting: Gauge,
    runs_running: Gauge,
    requests_pending: Gauge,
    leader: Gauge,
    /// Versions of the runtime config that could not be used.
    pub config_failures: Counter,
    reconcile_errors: Family<Labels<2>, Counter>,
    /// Writes of a trigger's state that met another's.
    pub state_conflicts: Counter,
}

impl Metrics {
    /// Metrics whose names begin with this.
    pub fn new(prefix: &str) -> Self {
        let mut all = Registry::with_prefix(prefix);
        Self {
            checks: add(&mut all, "checks", "Sources that a trigger has looked at, by what came of it", Family::default()),
            evaluation_duration: seconds(
                &mut all,
                "evaluation_duration",
                "How long a trigger was evaluated, with the checks of its sources",
            ),
            runs_registered: add(&mut all, "runs_registered", "Runs that were registered", Counter::default()),
            runs_released: add(&mut all, "runs_released", "Runs that have begun", Counter::default()),
            runs_finished: add(&mut all, "runs_finished", "Runs that are over, by their result", Family::default()),
            webhook_requests: add(&mut all, "webhook_requests", "Requests to webhooks, by the code of the answer", Family::default()),
            webhook_duration: seconds(&mut all, "webhook_duration", "How long the answer to a webhook took"),
            triggers: add(&mut all, "triggers", "Triggers that the leader evaluates, by kind", Family::default()),
            runs_waiting: add(&mut all, "runs_waiting", "Runs that are registered and wait for their turn", Gauge::default()),
            runs_running: add(&mut all, "runs_running", "Sources of which the last run has begun and not ended", Gauge::default()),
            requests_pending: add(&mut all, "requests_pending", "Requests that are accepted and not acted on", Gauge::default()),
            leader: add(&mut all, "leader", "1 if this replica is the leader", Gauge::default()),
            config_failures: add(&mut all, "config_failures", "Versions of the runtime config that could not be used", Counter::default()),
            reconcile_errors: add(&mut all, "reconcile_errors", "Reconciliations that failed, by kind and reason", Family::default()),
            state_conflicts: add(&mut all, "state_conflicts", "Writes of a trigger's state that met another's", Counter::default()),
            registry: Arc::new(all),
        }
    }

    /// Counts what came of one source of an evaluation.
    pub fn checked(&self, outcome: &Outcome) {
        let result = match outcome {
            Outcome::Unchanged => "Unchanged".to_owned(),
            Outcome::Baseline(_) => "Baseline".to_owned(),
            Outcome::Started(..) => "Started".to_owned(),
            Outcome::Adopted(..) => "Adopted".to_owned(),
            Outcome::Held => "Held".to_owned(),
            Outcome::Awaited => "Awaited".to_owned(),
            Outcome::Failed(failure) => failure.reason().to_string(),
        };
        self.checks.get_or_create(&[("result", result)]).inc();
    }

    /// Takes the time of an evaluation.
    pub fn evaluated(&self, took: Duration) {
        self.evaluation_duration.observe(took.as_secs_f64());
    }

    /// Counts a run that is over.
    pub fn finished(&self, result: RunResult) {
        self.runs_finished.get_or_create(&[("result", format!("{result:?}"))]).inc();
    }

    /// Counts an answer to a webhook.
    pub fn answered(&self, code: u16, took: Duration) {
        self.webhook_requests.get_or_create(&[("code", code.to_string())]).inc();
        self.webhook_duration.observe(took.as_secs_f64());
    }

    /// Counts the triggers of a kind.
    pub fn triggers(&self, kind: &'static str, number: usize) {
        self.triggers.get_or_create(&[("kind", kind.to_owned())]).set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// Says how much there is that is not over.
    pub fn unfinished(&self, unfinished: &Unfinished) {
        let gauges = [&self.runs_waiting, &self.runs_running, &self.requests_pending];
        for (gauge, number) in gauges.into_iter().zip([unfinished.waiting, unfinished.running, unfinished.pending]) {
            gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    /// Counts a reconciliation that failed.
    pub fn failed(&self, kind: &'static str, reason: Reason) {
        self.reconcile_errors.get_or_create(&[("kind", kind.to_owned()), ("reason", reason.to_string())]).inc();
    }

    /// Shows that this replica leads, until the answer is dropped.
    pub fn leading(&self) -> Leading {
        self.leader.set(1);
        Leading(self.clone())
    }

    /// All metrics, in the text format of OpenMetrics.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut encoded = String::new();
        text::encode(&mut encoded, &self.registry)?;
        Ok(encoded)
    }
}

/// What is not over, of all triggers.
#[derive(Default)]
pub struct Unfinished {
    pub waiting: usize,
    pub running: usize,
    pub pending: usize,
}

/// The leadership of this replica. What only a leader knows is shown as long as it leads.
pub struct Leading(Metrics);

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.leader.set(0);
        self.0.triggers.clear();
        self.0.unfinished(&Unfinished::default());
    }
}

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn seconds(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let metric = Histogram::new(BUCKETS);
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}
