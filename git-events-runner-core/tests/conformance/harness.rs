use async_trait::async_trait;
use git_events_runner_core::{testing::*, *};
use jiff::Timestamp;
use tempfile::TempDir;

#[derive(Default)]
pub struct Store(pub InMemoryStore);

#[async_trait]
impl StoreHarness for Store {
    fn store(&self) -> &dyn StateStore {
        &self.0
    }

    fn inbox(&self) -> &dyn Inbox {
        &self.0
    }

    async fn add(&self, id: &TriggerId, generation: i64) -> TriggerId {
        self.0.add(id, generation);
        id.clone()
    }

    async fn restart(&mut self) {}
}

pub struct Files {
    folder: TempDir,
    store: Option<FileStore>,
}

impl Files {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Some(FileStore::open(folder.path().to_owned()).unwrap());
        Self { folder, store }
    }
}

#[async_trait]
impl StoreHarness for Files {
    fn store(&self) -> &dyn StateStore {
        self.store.as_ref().unwrap()
    }

    fn inbox(&self) -> &dyn Inbox {
        self.store.as_ref().unwrap()
    }

    async fn add(&self, id: &TriggerId, generation: i64) -> TriggerId {
        self.store.as_ref().unwrap().add(id, generation, Timestamp::UNIX_EPOCH).await.unwrap();
        id.clone()
    }

    async fn restart(&mut self) {
        self.store = None;
        self.store = Some(FileStore::open(self.folder.path().to_owned()).unwrap());
    }
}

pub struct InMemory(pub InMemoryAction);

impl InMemory {
    pub fn new() -> Self {
        Self(InMemoryAction::new(deploy()).with_slots(2))
    }
}

pub fn request() -> RunRequest {
    RunRequest {
        requests: ["request".parse().unwrap()].into(),
        ..RunRequest::new(
            RunKey {
                trigger: TriggerId { kind: "ScheduleTrigger".into(), namespace: "default".into(), name: "app".into(), uid: "1".into() },
                source: ObjectRef::namespaced("GitRepo", "default", "app"),
                reference: Reference::Branch("main".into()),
                sequence: 0,
            },
            deploy(),
            CommitId::digest_of("commit"),
            Timestamp::UNIX_EPOCH,
        )
    }
}

#[async_trait]
impl ActionHarness for InMemory {
    fn action(&self) -> &dyn Action {
        &self.0
    }

    fn request(&self) -> RunRequest {
        request()
    }

    async fn begun(&self, run: &RunRef) -> usize {
        self.0.begun().iter().filter(|request| request.key.name() == run.name).count()
    }

    async fn finish(&self, run: &RunRef) {
        self.0.finish(&run.name, RunPhase::Succeeded, Timestamp::UNIX_EPOCH);
    }

    async fn restart(&mut self) {}
}

pub struct Repository {
    source: InMemorySource,
    folders: TempDir,
}

impl Repository {
    pub fn new() -> Self {
        let source = InMemorySource::new(ObjectRef::namespaced("GitRepo", "default", "app"));
        Self { source, folders: tempfile::tempdir().unwrap() }
    }
}

#[async_trait]
impl RepositoryHarness for Repository {
    fn source(&self) -> &dyn Source {
        &self.source
    }

    fn checkout(&self) -> &dyn Checkout {
        &self.source
    }

    async fn push(&self, reference: &Reference, files: &[(&str, &str)]) -> CommitId {
        self.source.push(reference, files)
    }

    async fn delete(&self, reference: &Reference) {
        self.source.delete(reference);
    }

    fn folder(&self) -> std::path::PathBuf {
        tempfile::tempdir_in(&self.folders).unwrap().keep()
    }
}

#[derive(Default)]
pub struct Objects(pub InMemoryCatalog);

#[async_trait]
impl CatalogHarness for Objects {
    fn catalog(&self) -> &dyn Catalog {
        &self.0
    }

    async fn add_source(&self, source: &ObjectRef) {
        let in_memory = InMemorySource::new(source.clone());
        self.0.add_checkout(source, in_memory.clone());
        self.0.add_source(in_memory);
    }

    async fn add_action(&self, action: &ObjectRef) {
        self.0.add_action(InMemoryAction::new(action.clone()));
    }
}

/// A policy that fires each minute, and may get its answer wrong.
pub struct EachMinute {
    pub id: TriggerId,
    pub plan: Plan,
    broken: fn(Due) -> Due,
}

impl EachMinute {
    pub fn new(broken: fn(Due) -> Due) -> Self {
        let RunRequest { key: RunKey { trigger, source, reference, .. }, action, .. } = request();
        Self { id: trigger, plan: Plan::new(&[&source], Watch::new(reference), &action), broken }
    }
}

impl Trigger for EachMinute {
    fn id(&self) -> &TriggerId {
        &self.id
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn due(&self, _: &TriggerState, since: Since, now: Timestamp) -> Due {
        let minute = |instant: Timestamp| instant.as_second() / 60;
        let at = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
        let firing = (minute(now) > minute(since.handled)).then(|| at(minute(now)));
        (self.broken)(Due { firing, requests: true, next: Some(at(minute(now) + 1)), ..Due::default() })
    }
}

fn deploy() -> ObjectRef {
    ObjectRef::namespaced("Action", "default", "deploy")
}
