//! A source that is not Git: a version file. Whatever can say "this is what there is now" can be watched.

use std::path::PathBuf;

use async_trait::async_trait;
use git_events_runner_core::*;
use jiff::Timestamp;

/// A file, for example on a network share, whose content is the version of something.
struct VersionFile(ObjectRef, PathBuf);

#[async_trait]
impl Source for VersionFile {
    fn id(&self) -> &ObjectRef {
        &self.0
    }

    /// The engine compares commits and nothing else, so a digest of the content serves as one.
    async fn observe(&self, _: &Watch) -> Result<Observation, SourceError> {
        let content = std::fs::read(&self.1).map_err(|error| {
            // Reason is for machines, the message for people; Retry says whether trying again is of use.
            let message = format!("{} cannot be read: {error}", self.1.display());
            SourceError::new(Reason::Unreachable, Retry::Backoff, message).caused_by(error)
        })?;
        Ok(Observation { commit: CommitId::digest_of(content), tag: None, files: None })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (store, catalog) = (InMemoryStore::default(), InMemoryCatalog::default());
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("VERSION");
    let version = VersionFile(ObjectRef::namespaced("VersionFile", "default", "app"), path.clone());
    let deploy = InMemoryAction::new(ObjectRef::namespaced("Action", "default", "deploy"));

    let id = TriggerId { kind: "WebhookTrigger".into(), namespace: "default".into(), name: "app".into(), uid: "app-1".into() };
    let plan = Plan::new(&[version.id()], Watch::new(Reference::Branch("a file has none".into())), deploy.id());
    store.add(&id, plan.generation);
    catalog.add_source(version);
    catalog.add_action(deploy.clone());
    let trigger = WebhookTrigger::new(id.clone(), plan);

    let mut memory = engine::Memory::new(Timestamp::now());
    for (number, content) in ["1.0", "1.0", "1.1"].into_iter().enumerate() {
        std::fs::write(&path, content)?;
        let request = PendingRequest { sources: ["app".into()].into(), received_at: Timestamp::now(), commit: None, always: false };
        store.request(&id, &FireRequest { id: format!("request-{number}").parse()?, request }).await?;
        engine::evaluate(&trigger, &store, &catalog, &mut memory, Timestamp::now()).await?;
        println!("{content}: {} runs have begun", deploy.begun().len());
    }
    assert_eq!(deploy.begun().iter().map(|run| run.commit).collect::<Vec<_>>(), ["1.0", "1.1"].map(CommitId::digest_of));
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
