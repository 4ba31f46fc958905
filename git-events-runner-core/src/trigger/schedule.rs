use std::time::Duration;

use jiff::Timestamp;

use super::{Due, Since, Trigger, sources_that, takes_baseline};
use crate::{Plan, Schedule, TriggerId, TriggerState};

/// Fires by a schedule.
///
/// - Of the firings that were missed, the latest is served, if it is not later than the starting deadline.
/// - A trigger that runs on change also checks once when its evaluator starts, and when it is resumed, as a check may have failed before.
/// - A source that was never checked is checked at once by an interval, and waits for its first instant by a cron pattern. To take a
///   baseline ([`OnFirstCheck::Record`](crate::OnFirstCheck)) none waits.
///
/// ```
/// use git_events_runner_core::*;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let repo = InMemorySource::new(ObjectRef::namespaced("GitRepo", "default", "app"));
/// let report = InMemoryAction::new(ObjectRef::namespaced("Action", "default", "report"));
/// let main = Reference::Branch("main".into());
/// repo.push(&main, &[("README.md", "hello")]);
/// let (store, catalog) = (InMemoryStore::default(), InMemoryCatalog::default());
/// catalog.add_source(repo.clone());
/// catalog.add_action(report.clone());
///
/// let id = TriggerId { kind: "ScheduleTrigger".into(), namespace: "default".into(), name: "nightly".into(), uid: "1".into() };
/// let plan = Plan { on_change_only: false, ..Plan::new(&[repo.id()], Watch::new(main), report.id()) };
/// store.add(&id, plan.generation);
/// let nightly = ScheduleTrigger::new(id, plan, Schedule::cron("@daily", None, None, "1")?);
///
/// let mut memory = engine::Memory::new("2026-01-01T12:00:00Z".parse()?);
/// for now in ["2026-01-01T13:00:00Z", "2026-01-02T00:00:00Z", "2026-01-02T01:00:00Z"] {
///     engine::evaluate(&nightly, &store, &catalog, &mut memory, now.parse()?).await?;
/// }
/// assert_eq!(report.begun().iter().map(|run| run.firing).collect::<Vec<_>>(), [Some("2026-01-02T00:00:00Z".parse()?)]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ScheduleTrigger {
    id: TriggerId,
    plan: Plan,
    schedule: Schedule,
    starting_deadline: Option<Duration>,
}

impl ScheduleTrigger {
    /// A trigger that serves the latest missed firing, however late.
    pub fn new(id: TriggerId, plan: Plan, schedule: Schedule) -> Self {
        Self { id, plan, schedule, starting_deadline: None }
    }

    /// The same trigger, of which no firing starts later than this after its instant.
    #[must_use]
    pub fn with_starting_deadline(mut self, deadline: Duration) -> Self {
        self.starting_deadline = Some(deadline);
        self
    }

    /// When it fires.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    fn is_checked(&self, known: bool, since: Since) -> bool {
        let new_at_once = self.schedule.is_interval() || takes_baseline(&self.plan);
        if known { since.fresh && self.plan.on_change_only } else { new_at_once }
    }
}

impl Trigger for ScheduleTrigger {
    fn id(&self) -> &TriggerId {
        &self.id
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn due(&self, state: &TriggerState, since: Since, now: Timestamp) -> Due {
        let not_before = self.starting_deadline.map(|deadline| now.saturating_sub(deadline).unwrap_or(Timestamp::MIN));
        let latest = self.schedule.latest(since.handled, now);
        Due {
            firing: latest.filter(|firing| not_before.is_none_or(|not_before| *firing >= not_before)),
            // A source that runs on change is checked by the next evaluator as it starts, but not one that it knows nothing of.
            durable: !self.plan.on_change_only
                || !sources_that(&self.plan, state, |known| !known && !self.is_checked(false, since)).is_empty(),
            check: sources_that(&self.plan, state, |known| self.is_checked(known, since)),
            not_before,
            requests: true,
            next: self.schedule.next_after(now),
        }
    }
}
