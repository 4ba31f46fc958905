//! A trigger of your own: it fires by another trigger's schedule, but only in working hours.

use std::time::Duration;

use git_events_runner_core::*;
use jiff::{Timestamp, civil::Weekday, tz::TimeZone};

/// Fires from Monday to Friday, from nine to five UTC. What the schedule fires at other times is not made up for.
struct WorkingHours(ScheduleTrigger);

impl Trigger for WorkingHours {
    fn id(&self) -> &TriggerId {
        self.0.id()
    }

    fn plan(&self) -> &Plan {
        self.0.plan()
    }

    /// A pure function of its arguments: no clock, no memory. What was seen and what has run is the store's business.
    fn due(&self, state: &TriggerState, since: Since, now: Timestamp) -> Due {
        let due = self.0.due(state, since, now);
        let there = now.to_zoned(TimeZone::UTC);
        if (9..17).contains(&there.hour()) && !matches!(there.weekday(), Weekday::Saturday | Weekday::Sunday) {
            return due;
        }
        // Look at nothing now, and ask again when the schedule would fire next. Requests stay pending until then.
        Due { next: due.next, ..Due::default() }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (store, catalog, main) = (InMemoryStore::default(), InMemoryCatalog::default(), Reference::Branch("main".into()));
    let repo = InMemorySource::new(ObjectRef::namespaced("GitRepo", "default", "app"));
    let deploy = InMemoryAction::new(ObjectRef::namespaced("Action", "default", "deploy"));
    let id = TriggerId { kind: "WorkingHours".into(), namespace: "default".into(), name: "app".into(), uid: "app-1".into() };
    let plan = Plan::new(&[repo.id()], Watch::new(main.clone()), deploy.id());
    store.add(&id, plan.generation);
    catalog.add_source(repo.clone());
    catalog.add_action(deploy.clone());
    let every_half_hour = Schedule::interval(Duration::from_secs(1800), &id.uid)?;
    let trigger = WorkingHours(ScheduleTrigger::new(id, plan, every_half_hour));

    let mut memory = engine::Memory::new("2026-01-02T16:00:00Z".parse()?);
    for now in ["2026-01-02T16:30:00Z", "2026-01-02T18:00:00Z", "2026-01-03T12:00:00Z", "2026-01-05T09:30:00Z"] {
        repo.push(&main, &[("pushed", now)]);
        engine::evaluate(&trigger, &store, &catalog, &mut memory, now.parse()?).await?;
        println!("{now}: {} runs have begun", deploy.begun().len());
    }
    // On Friday afternoon and on Monday morning; what was pushed at the weekend runs as part of the latter.
    assert_eq!(deploy.begun().len(), 2);
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
