//! Evaluations that find nothing new.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use git_events_runner_core::{
    Action as _, InMemoryAction, InMemoryCatalog, InMemorySource, InMemoryStore, ObjectRef, OnFirstCheck, Plan, Reference, Schedule,
    ScheduleTrigger, Source, Trigger as _, TriggerId, Watch,
    engine::{Memory, evaluate},
    git::{GitClient, GitSource, RepoUri, Repository},
};
use git_events_runner_tests::GitRepo;
use jiff::Timestamp;

use crate::measure::{Whose, milliseconds, repeat};

const TRIGGERS: usize = 10_000;

/// How often all triggers are evaluated.
const ROUNDS: u32 = 9;

const INTERVAL: Duration = Duration::from_secs(60);

/// Triggers, each with a source of its own, all of which have seen what there is.
struct World {
    store: InMemoryStore,
    catalog: InMemoryCatalog,
    triggers: Vec<(ScheduleTrigger, Memory)>,
    now: Timestamp,
}

/// Prints how many evaluations there are in a second.
pub async fn print() -> Result<()> {
    let main = Reference::Branch("main".into());
    println!(
        "Evaluations of {TRIGGERS} triggers, all due, one after the other, {ROUNDS} times each: wall time is the median, CPU time the mean.\n"
    );
    println!("| each with a source | all of them | evaluations in a second | in a second of CPU time | writes to the store |");
    println!("| --- | --- | --- | --- | --- |");
    row("in memory", |id| {
        let source = InMemorySource::new(id);
        source.push(&main, &[("README.md", "hello")]);
        source
    })
    .await?;

    let folder = tempfile::tempdir()?;
    let repo = GitRepo::create(folder.path(), "app")?;
    repo.push("main", &[("README.md", "hello")])?;
    let repository = Repository::new(RepoUri::parse_with_local(&repo.bare().display().to_string(), Path::new("/"))?);
    let client = GitClient::default();
    row("a Git repository on disk", |id| GitSource::new(id, repository.clone(), client.clone())).await
}

async fn row<S: Source + 'static>(title: &str, source: impl Fn(ObjectRef) -> S) -> Result<()> {
    let mut world = World::new(source)?;
    ensure!(world.evaluate_all().await? == TRIGGERS, "a first check records what it has seen");
    let before = world.writes();
    let cost = repeat(
        ROUNDS,
        Whose::Ours,
        || (),
        async |()| {
            ensure!(world.evaluate_all().await? == TRIGGERS, "each trigger looks at its source");
            Ok(())
        },
    )
    .await?;
    let in_a_second = |time: Duration| format!("{:.0}", TRIGGERS as f64 / time.as_secs_f64());
    let (wall, cpu, writes) = (in_a_second(cost.wall), in_a_second(cost.cpu), world.writes() - before);
    println!("| {title} | {} | {wall} | {cpu} | {writes} |", milliseconds(cost.wall));
    Ok(())
}

impl World {
    fn new<S: Source + 'static>(source: impl Fn(ObjectRef) -> S) -> Result<Self> {
        let deploy = InMemoryAction::new(ObjectRef::namespaced("Action", "default", "deploy"));
        let (store, catalog, now) = (InMemoryStore::default(), InMemoryCatalog::default(), "2026-01-01T00:00:00Z".parse()?);
        catalog.add_action(deploy.clone());
        let mut triggers = vec![];
        for number in 0..TRIGGERS {
            let (name, uid) = (format!("app-{number}"), number.to_string());
            let source = source(ObjectRef::namespaced("GitRepo", "default", &name));
            let plan = Plan::new(&[source.id()], Watch::new(Reference::Branch("main".into())), deploy.id());
            let plan = Plan { on_first_check: OnFirstCheck::Record, ..plan };
            catalog.add_source(source);
            let id = TriggerId { kind: "ScheduleTrigger".into(), namespace: "default".into(), name, uid: uid.clone() };
            store.add(&id, plan.generation);
            triggers.push((ScheduleTrigger::new(id, plan, Schedule::interval(INTERVAL, &uid)?), Memory::new(now)));
        }
        Ok(Self { store, catalog, triggers, now })
    }

    /// Evaluates each trigger at an instant at which it fires, and answers how many sources were looked at.
    async fn evaluate_all(&mut self) -> Result<usize> {
        self.now += INTERVAL;
        let mut looked_at = 0;
        for (trigger, memory) in &mut self.triggers {
            looked_at += evaluate(trigger, &self.store, &self.catalog, memory, self.now).await?.sources.len();
        }
        Ok(looked_at)
    }

    fn writes(&self) -> u64 {
        self.triggers.iter().map(|(trigger, _)| self.store.writes(trigger.id())).sum()
    }
}
