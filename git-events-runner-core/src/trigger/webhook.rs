use std::time::Duration;

use jiff::Timestamp;

use super::{Due, Since, Trigger, sources_that, takes_baseline};
use crate::{Plan, Schedule, ScheduleError, TriggerId, TriggerState};

/// Fires when it is asked to.
///
/// - One that runs on change also checks once when its evaluator starts, and when it is resumed: nobody sends again what came meanwhile.
/// - With a recheck it also looks for changes that nobody has told of. It runs the action only if something has changed.
/// - Neither of them concerns a source that was never checked: it waits for its first request. Only to take a baseline
///   ([`OnFirstCheck::Record`](crate::OnFirstCheck)) it is checked at once.
///
/// ```
/// use git_events_runner_core::*;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let repo = InMemorySource::new(ObjectRef::namespaced("GitRepo", "default", "app"));
/// let deploy = InMemoryAction::new(ObjectRef::namespaced("Action", "default", "deploy"));
/// let main = Reference::Branch("main".into());
/// repo.push(&main, &[("README.md", "hello")]);
/// let (store, catalog) = (InMemoryStore::default(), InMemoryCatalog::default());
/// catalog.add_source(repo.clone());
/// catalog.add_action(deploy.clone());
///
/// let id = TriggerId { kind: "WebhookTrigger".into(), namespace: "default".into(), name: "app".into(), uid: "1".into() };
/// let plan = Plan::new(&[repo.id()], Watch::new(main), deploy.id());
/// store.add(&id, plan.generation);
/// let trigger = WebhookTrigger::new(id.clone(), plan);
///
/// let now = "2026-01-01T00:00:00Z".parse()?;
/// let request = PendingRequest { sources: ["app".to_owned()].into(), received_at: now, commit: None, always: false };
/// store.request(&id, &FireRequest { id: "delivery-1".parse()?, request }).await?;
/// engine::evaluate(&trigger, &store, &catalog, &mut engine::Memory::new(now), now).await?;
/// assert_eq!(deploy.begun()[0].requests, ["delivery-1".parse()?].into());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct WebhookTrigger {
    id: TriggerId,
    plan: Plan,
    recheck: Option<Schedule>,
}

impl WebhookTrigger {
    /// A trigger that looks at its sources for requests only.
    pub fn new(id: TriggerId, plan: Plan) -> Self {
        Self { id, plan, recheck: None }
    }

    /// The same trigger, which also looks for changes each time so much time has passed.
    ///
    /// # Errors
    ///
    /// [`ScheduleError::IntervalTooShort`] below one second.
    pub fn with_recheck(mut self, every: Duration) -> Result<Self, ScheduleError> {
        self.recheck = Some(Schedule::interval(every, &self.id.uid)?);
        Ok(self)
    }
}

impl Trigger for WebhookTrigger {
    fn id(&self) -> &TriggerId {
        &self.id
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn due(&self, state: &TriggerState, since: Since, now: Timestamp) -> Due {
        let recheck = self.recheck.as_ref().is_some_and(|recheck| recheck.latest(since.handled, now).is_some());
        let look = recheck || since.fresh && self.plan.on_change_only;
        Due {
            check: sources_that(&self.plan, state, |known| if known { look } else { takes_baseline(&self.plan) }),
            requests: true,
            next: self.recheck.as_ref().and_then(|recheck| recheck.next_after(now)),
            ..Due::default()
        }
    }
}
