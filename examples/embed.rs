//! The engine in a program of your own: a loop that evaluates a trigger, follows its runs, and sleeps until there is more to do.

use std::time::Duration;

use git_events_runner_core::{engine::*, *};
use jiff::Timestamp;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    // What is watched and what is started, in memory here. Feature `git` has GitSource, feature `process` has ProcessAction.
    let main = Reference::Branch("main".into());
    let repo = InMemorySource::new(ObjectRef::namespaced("GitRepo", "default", "app"));
    let deploy = InMemoryAction::new(ObjectRef::namespaced("Action", "default", "deploy"));
    let catalog = InMemoryCatalog::default();
    catalog.add_source(repo.clone());
    catalog.add_action(deploy.clone());

    // What is remembered outlives the program: it is a folder of files, of feature `file`.
    let folder = tempfile::tempdir()?;
    let store = FileStore::open(folder.path().to_owned())?;

    // The trigger: which sources, which action, and when. Its uid tells it from a later one of the same name.
    let id = TriggerId { kind: "ScheduleTrigger".into(), namespace: "default".into(), name: "app".into(), uid: "app-1".into() };
    let plan = Plan::new(&[repo.id()], Watch::new(main.clone()), deploy.id());
    let created = store.add(&id, plan.generation, Timestamp::now()).await?;
    let trigger = ScheduleTrigger::new(id.clone(), plan, Schedule::interval(Duration::from_secs(1), &id.uid)?);

    let mut memory = Memory::new(created);
    for release in ["1.0", "1.1", "1.1"] {
        let tip = repo.push(&main, &[("VERSION", release)]);

        // `evaluate` looks at the sources and starts the action; `settle` learns what became of its runs.
        let evaluation = evaluate(&trigger, &store, &catalog, &mut memory, Timestamp::now()).await?;
        println!("{release} is {tip}: {} runs have begun", deploy.begun().len());
        deploy.all().iter().for_each(|status| deploy.finish(&status.run.name, RunPhase::Succeeded, Timestamp::now()));
        let timeout = Duration::from_secs(300);
        let settled = settle(&trigger, &store, &deploy, &mut memory, timeout, Timestamp::now()).await?;
        // Runs that wait for a slot begin when another has ended.
        release_waiting(&[&trigger], &store, &catalog).await;

        let next = [evaluation.next, settled.next].into_iter().flatten().min();
        let wait = next.map_or(Duration::MAX, |next| next.duration_since(Timestamp::now()).try_into().unwrap_or_default());
        tokio::time::sleep(wait).await;
    }
    // 1.1 was there at two checks, and was deployed at the first of them.
    assert_eq!(deploy.begun().len(), 2);
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
