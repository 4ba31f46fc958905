//! An action of your own: it posts a message when a repository changes.

use async_trait::async_trait;
use git_events_runner_core::*;

/// Registers runs as `InMemoryAction` does. A real action keeps them where a crash does not reach: as Jobs, files or rows.
struct Post(InMemoryAction, std::sync::Mutex<std::collections::BTreeSet<RunRef>>);

#[async_trait]
impl Action for Post {
    fn id(&self) -> &ObjectRef {
        self.0.id()
    }
    async fn register(&self, run: &RunRequest) -> Result<Registered, ActionError> {
        self.0.register(run).await
    }
    /// The engine may release a run more than once, after a crash for example. It must begin once.
    async fn release(&self, run: &RunRef) -> Result<Released, ActionError> {
        let released = self.0.release(run).await?;
        if released == Released::Begun && self.1.lock().is_ok_and(|mut posted| posted.insert(run.clone())) {
            for RunStatus { request, .. } in self.0.all().into_iter().filter(|status| status.run == *run) {
                println!("{} of {} is now {}", request.key.reference, request.key.source, request.commit);
            }
            self.0.finish(&run.name, RunPhase::Succeeded, jiff::Timestamp::now());
        }
        Ok(released)
    }
    async fn get(&self, run: &RunRef) -> Result<Option<RunStatus>, ActionError> {
        self.0.get(run).await
    }
    async fn unfinished(&self, of: &TriggerId) -> Result<Vec<RunStatus>, ActionError> {
        self.0.unfinished(of).await
    }
    async fn withdraw(&self, run: &RunRef) -> Result<Withdrawn, ActionError> {
        self.0.withdraw(run).await
    }
    async fn stop(&self, run: &RunRef) -> Result<(), ActionError> {
        self.0.stop(run).await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (store, catalog, main) = (InMemoryStore::default(), InMemoryCatalog::default(), Reference::Branch("main".into()));
    let (repo, runs) = (InMemorySource::new(ObjectRef::cluster("GitRepo", "app")), InMemoryAction::new(ObjectRef::cluster("Post", "team")));
    repo.push(&main, &[("README.md", "hello")]);
    let id = TriggerId { kind: "ScheduleTrigger".into(), namespace: "default".into(), name: "app".into(), uid: "app-1".into() };
    let plan = Plan::new(&[repo.id()], Watch::new(main), runs.id());
    store.add(&id, plan.generation);
    catalog.add_source(repo);
    catalog.add_action(Post(runs.clone(), Default::default()));
    let trigger = ScheduleTrigger::new(id, plan, Schedule::cron("@hourly", None, None, "app-1")?);
    let mut memory = engine::Memory::new("2026-01-01T00:30:00Z".parse()?);
    engine::evaluate(&trigger, &store, &catalog, &mut memory, "2026-01-01T01:00:00Z".parse()?).await?;
    assert_eq!(runs.all()[0].phase, RunPhase::Succeeded);
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
