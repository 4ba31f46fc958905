//! How to test what a trigger does: on the backends in memory, with a clock of the test's own, in milliseconds.

use git_events_runner_core::{engine::*, *};

/// All that a test of a trigger needs. The backends are stricter than reality: what they allow, the real ones do.
struct World {
    repo: InMemorySource,
    deploy: InMemoryAction,
    store: InMemoryStore,
    catalog: InMemoryCatalog,
    trigger: ScheduleTrigger,
    memory: Memory,
}

impl World {
    /// A trigger that deploys each night what has changed.
    fn new(start: jiff::Timestamp) -> Result<Self, ScheduleError> {
        let repo = InMemorySource::new(ObjectRef::namespaced("GitRepo", "default", "app"));
        let deploy = InMemoryAction::new(ObjectRef::namespaced("Action", "default", "deploy"));
        let id = TriggerId { kind: "ScheduleTrigger".into(), namespace: "default".into(), name: "nightly".into(), uid: "1".into() };
        let plan = Plan::new(&[repo.id()], Watch::new(Reference::Branch("main".into())), deploy.id());
        let (store, catalog) = (InMemoryStore::default(), InMemoryCatalog::default());
        store.add(&id, plan.generation);
        catalog.add_source(repo.clone());
        catalog.add_action(deploy.clone());
        let trigger = ScheduleTrigger::new(id, plan, Schedule::cron("0 3 * * *", Some("Europe/Berlin"), None, "1")?);
        Ok(Self { repo, deploy, store, catalog, trigger, memory: Memory::new(start) })
    }

    async fn at(&mut self, now: &str) -> anyhow::Result<()> {
        evaluate(&self.trigger, &self.store, &self.catalog, &mut self.memory, now.parse()?).await?;
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut world = World::new("2026-06-01T12:00:00Z".parse()?)?;
    let first = world.repo.push(&Reference::Branch("main".into()), &[("README.md", "hello")]);
    world.at("2026-06-02T00:59:59Z").await?;
    assert_eq!(world.deploy.begun().len(), 0, "it is one second before three in Berlin");
    world.at("2026-06-02T01:00:00Z").await?;
    assert_eq!(world.deploy.begun()[0].commit, first);
    world.at("2026-06-03T01:00:00Z").await?;
    assert_eq!(world.deploy.begun().len(), 1, "nothing has changed since");
    // A source that fails changes nothing that was seen, and is looked at again soon.
    world.repo.fail_with(Some("the server is down"));
    world.at("2026-06-04T01:00:00Z").await?;
    world.repo.fail_with(None);
    let second = world.repo.push(&Reference::Branch("main".into()), &[("README.md", "hello again")]);
    world.at("2026-06-04T01:00:01Z").await?;
    assert_eq!(world.deploy.begun()[1].commit, second);
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
