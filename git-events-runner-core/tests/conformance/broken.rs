//! Implementations that break one clause each. A suite that accepts one of them checks nothing.

use std::{panic::AssertUnwindSafe, path::Path, sync::Mutex};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use git_events_runner_core::{testing::*, *};

use crate::harness::*;

/// The clause that a suite found broken.
async fn refusal(suite: impl Future<Output = ()>) -> String {
    let panicked = AssertUnwindSafe(suite).catch_unwind().await.expect_err("the suite accepts an implementation that is broken");
    panicked.downcast_ref::<String>().cloned().unwrap_or_else(|| (*panicked.downcast_ref::<&str>().unwrap()).to_owned())
}

#[derive(Clone, Copy, PartialEq)]
enum StoreBreaks {
    SwallowsAWrite,
    Merges,
    IsStale,
    LosesOnRestart,
    IgnoresUid,
    WritesHalf,
    NeverCollapses,
    HasNoLimit,
    WritesTheFirst,
}

struct BrokenStore {
    store: InMemoryStore,
    breaks: StoreBreaks,
    first: Mutex<Option<Loaded>>,
    known: Mutex<Vec<TriggerId>>,
}

#[async_trait]
impl StateStore for BrokenStore {
    async fn load(&self, id: &TriggerId) -> Result<Loaded, StateError> {
        let known = self.known.lock().unwrap().iter().find(|known| known.name == id.name).cloned();
        let loaded = match known.filter(|_| self.breaks == StoreBreaks::IgnoresUid) {
            Some(known) => self.store.load(&known).await?,
            None => self.store.load(id).await?,
        };
        let first = self.first.lock().unwrap().get_or_insert_with(|| loaded.clone()).clone();
        Ok(if self.breaks == StoreBreaks::IsStale { first } else { loaded })
    }

    async fn record(&self, id: &TriggerId, version: &Version, change: &Change) -> Result<(), StateError> {
        match self.breaks {
            StoreBreaks::SwallowsAWrite => self.store.load(id).await.map(drop),
            StoreBreaks::Merges => {
                let now = self.store.load(id).await?.version;
                self.store.record(id, &now, change).await
            }
            StoreBreaks::WritesHalf => {
                let half = Change { waiting: Default::default(), ..change.clone() };
                self.store.record(id, version, &half).await
            }
            _ => self.store.record(id, version, change).await,
        }
    }
}

#[async_trait]
impl Inbox for BrokenStore {
    async fn request_all(&self, id: &TriggerId, requests: &[FireRequest]) -> Result<Vec<Result<Accepted, PendingFull>>, StateError> {
        let mut asked = requests.to_vec();
        if self.breaks == StoreBreaks::NeverCollapses {
            asked.iter_mut().for_each(|asked| asked.request.always = true);
        }
        if self.breaks == StoreBreaks::WritesTheFirst {
            asked.truncate(1);
        }
        let mut answer = self.store.request_all(id, &asked).await?;
        if self.breaks == StoreBreaks::HasNoLimit {
            answer.iter_mut().for_each(|answer| *answer = Ok(answer.unwrap_or(Accepted::Recorded)));
        }
        Ok(answer)
    }
}

#[async_trait]
impl StoreHarness for BrokenStore {
    fn store(&self) -> &dyn StateStore {
        self
    }

    fn inbox(&self) -> &dyn Inbox {
        self
    }

    async fn add(&self, id: &TriggerId, generation: i64) -> TriggerId {
        self.known.lock().unwrap().push(id.clone());
        self.store.add(id, generation);
        id.clone()
    }

    async fn restart(&mut self) {
        if self.breaks == StoreBreaks::LosesOnRestart {
            self.store = InMemoryStore::default();
            self.known.lock().unwrap().iter().for_each(|id| self.store.add(id, 3));
        }
    }
}

#[tokio::test]
async fn broken_stores_do_not_conform() {
    for (breaks, clause) in [
        (StoreBreaks::SwallowsAWrite, "record writes the whole change"),
        (StoreBreaks::Merges, "record on a version before another change"),
        (StoreBreaks::IsStale, "record writes the whole change"),
        (StoreBreaks::LosesOnRestart, "what record has answered is durable"),
        (StoreBreaks::IgnoresUid, "which is not known"),
        (StoreBreaks::WritesHalf, "record writes the whole change"),
        (StoreBreaks::NeverCollapses, "a request is durable, and touches nothing else"),
        (StoreBreaks::HasNoLimit, "there is no room for one more"),
        (StoreBreaks::WritesTheFirst, "of requests that are added together each is accepted"),
    ] {
        let new =
            || async move { BrokenStore { store: InMemoryStore::default(), breaks, first: Mutex::default(), known: Mutex::default() } };
        let refusal = refusal(testing::state_store(new)).await;
        assert!(refusal.contains(clause), "{refusal}");
    }
}

#[derive(Clone, Copy, PartialEq)]
enum ActionBreaks {
    StartsAtRegister,
    OverwritesWhatIsRegistered,
    ReleasesAnyUid,
    StartsTwice,
    HasNoSlots,
    ListsEverybodys,
    ListsWhatHasEnded,
    StopsNothing,
    WithdrawsWhatRuns,
    BeginsWhatIsWithdrawn,
}

struct BrokenAction {
    inner: InMemory,
    breaks: ActionBreaks,
    twice: Mutex<Vec<String>>,
}

#[async_trait]
impl Action for BrokenAction {
    fn id(&self) -> &ObjectRef {
        self.inner.0.id()
    }

    async fn register(&self, run: &RunRequest) -> Result<Registered, ActionError> {
        let registered = self.inner.0.register(run).await?;
        match &registered {
            Registered::New(run) if self.breaks == ActionBreaks::StartsAtRegister => drop(self.inner.0.release(run).await?),
            Registered::Existing(status) if self.breaks == ActionBreaks::OverwritesWhatIsRegistered => {
                self.inner.0.stop(&status.run).await?;
                return self.inner.0.register(run).await;
            }
            _ => {}
        }
        Ok(registered)
    }

    async fn release(&self, run: &RunRef) -> Result<Released, ActionError> {
        let mut run = run.clone();
        if self.breaks == ActionBreaks::ReleasesAnyUid {
            let same_name = self.inner.0.all().into_iter().find(|status| status.run.name == run.name);
            run = same_name.map_or(run, |status| status.run);
        }
        let released = self.inner.0.release(&run).await?;
        if self.breaks == ActionBreaks::StartsTwice && released == Released::Begun {
            self.twice.lock().unwrap().push(run.name.clone());
        }
        Ok(match released {
            Released::Gone if self.breaks == ActionBreaks::BeginsWhatIsWithdrawn => Released::Begun,
            released => released,
        })
    }

    async fn get(&self, run: &RunRef) -> Result<Option<RunStatus>, ActionError> {
        self.inner.0.get(run).await
    }

    async fn unfinished(&self, of: &TriggerId) -> Result<Vec<RunStatus>, ActionError> {
        let all = self.inner.0.all();
        match self.breaks {
            ActionBreaks::ListsEverybodys => Ok(all.into_iter().filter(|status| !status.phase.has_ended()).collect()),
            ActionBreaks::ListsWhatHasEnded => Ok(all.into_iter().filter(|status| status.request.key.trigger == *of).collect()),
            _ => self.inner.0.unfinished(of).await,
        }
    }

    async fn withdraw(&self, run: &RunRef) -> Result<Withdrawn, ActionError> {
        let withdrawn = self.inner.0.withdraw(run).await?;
        Ok(if self.breaks == ActionBreaks::WithdrawsWhatRuns { Withdrawn::NeverBegins } else { withdrawn })
    }

    async fn stop(&self, run: &RunRef) -> Result<(), ActionError> {
        if self.breaks == ActionBreaks::StopsNothing { Ok(()) } else { self.inner.0.stop(run).await }
    }
}

#[async_trait]
impl ActionHarness for BrokenAction {
    fn action(&self) -> &dyn Action {
        self
    }

    fn request(&self) -> RunRequest {
        request()
    }

    async fn begun(&self, run: &RunRef) -> usize {
        match self.breaks {
            ActionBreaks::StartsTwice => self.twice.lock().unwrap().iter().filter(|name| **name == run.name).count(),
            _ => self.inner.begun(run).await,
        }
    }

    async fn finish(&self, run: &RunRef) {
        self.inner.finish(run).await;
    }

    async fn restart(&mut self) {}

    fn deadline(&self) -> std::time::Duration {
        std::time::Duration::from_millis(20)
    }
}

#[tokio::test]
async fn broken_actions_do_not_conform() {
    for (breaks, clause) in [
        (ActionBreaks::StartsAtRegister, "what is registered is durable, and listed as it was registered"),
        (ActionBreaks::OverwritesWhatIsRegistered, "of one key at most one run is registered"),
        (ActionBreaks::ReleasesAnyUid, "release of a run that is not there"),
        (ActionBreaks::StartsTwice, "a run starts at most once"),
        (ActionBreaks::HasNoSlots, "a third run waits"),
        (ActionBreaks::ListsEverybodys, "all runs of a trigger are listed"),
        (ActionBreaks::ListsWhatHasEnded, "a run that has ended is not listed"),
        (ActionBreaks::StopsNothing, "a run that is stopped is removed"),
        (ActionBreaks::WithdrawsWhatRuns, "withdraw of a run that is not there"),
        (ActionBreaks::BeginsWhatIsWithdrawn, "release of a run that is not there"),
    ] {
        let new = || async move {
            let slots = if breaks == ActionBreaks::HasNoSlots { 3 } else { 2 };
            let inner = InMemory(InMemoryAction::new(request().action).with_slots(slots));
            BrokenAction { inner, breaks, twice: Mutex::default() }
        };
        let refusal = refusal(testing::action(new)).await;
        assert!(refusal.contains(clause), "{refusal}");
    }
}

#[derive(Clone, Copy, PartialEq)]
enum SourceBreaks {
    IsStale,
    ConfusesTagsWithBranches,
    AlwaysDigests,
    DigestsTheCommit,
    ChecksOutTheTip,
    LeavesAFile,
}

struct BrokenSource {
    inner: Repository,
    breaks: SourceBreaks,
    first: Mutex<Option<Observation>>,
}

#[async_trait]
impl Source for BrokenSource {
    fn id(&self) -> &ObjectRef {
        self.inner.source().id()
    }

    async fn observe(&self, watch: &Watch) -> Result<Observation, SourceError> {
        let mut watch = watch.clone();
        match (self.breaks, &watch.reference) {
            (SourceBreaks::ConfusesTagsWithBranches, Reference::Tag(name)) => watch.reference = Reference::Branch(name.clone()),
            (SourceBreaks::AlwaysDigests, _) if watch.files.is_empty() => watch.files = vec!["a".to_owned()],
            _ => {}
        }
        let mut seen = self.inner.source().observe(&watch).await?;
        if let (SourceBreaks::DigestsTheCommit, Some(digest)) = (self.breaks, &mut seen.files) {
            digest.files = digest.files.as_ref().map(|_| seen.commit.to_string());
        }
        let first = self.first.lock().unwrap().get_or_insert_with(|| seen.clone()).clone();
        Ok(if self.breaks == SourceBreaks::IsStale { first } else { seen })
    }
}

#[async_trait]
impl Checkout for BrokenSource {
    async fn checkout(&self, revision: &Revision, into: &Path) -> Result<(), SourceError> {
        let mut revision = revision.clone();
        match self.breaks {
            SourceBreaks::ChecksOutTheTip => {
                revision.commit = self.inner.source().observe(&Watch::new(revision.reference.clone())).await?.commit;
            }
            SourceBreaks::LeavesAFile => std::fs::write(into.join("left"), "").unwrap(),
            _ => {}
        }
        self.inner.checkout().checkout(&revision, into).await
    }
}

#[async_trait]
impl RepositoryHarness for BrokenSource {
    fn source(&self) -> &dyn Source {
        self
    }

    fn checkout(&self) -> &dyn Checkout {
        self
    }

    async fn push(&self, reference: &Reference, files: &[(&str, &str)]) -> CommitId {
        self.inner.push(reference, files).await
    }

    async fn delete(&self, reference: &Reference) {
        self.inner.delete(reference).await;
    }

    fn folder(&self) -> std::path::PathBuf {
        self.inner.folder()
    }
}

#[tokio::test]
async fn broken_sources_do_not_conform() {
    for (breaks, clause) in [
        (SourceBreaks::IsStale, "an answer is never older than the call"),
        (SourceBreaks::ConfusesTagsWithBranches, "called `Result::unwrap_err()` on an `Ok` value"),
        (SourceBreaks::AlwaysDigests, "without patterns there is no digest"),
        (SourceBreaks::DigestsTheCommit, "files that match no pattern do not count"),
        (SourceBreaks::ChecksOutTheTip, "exactly the files of the commit are written"),
        (SourceBreaks::LeavesAFile, "exactly the files of the commit are written"),
    ] {
        let new = || async move { BrokenSource { inner: Repository::new(), breaks, first: Mutex::default() } };
        let refusal = refusal(testing::repository(new)).await;
        assert!(refusal.contains(clause), "{refusal}");
    }
}
