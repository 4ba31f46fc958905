//! Reconciles GitRepos and ClusterGitRepos: says whether they can be reached.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use git_events_runner_core::{KubeCatalog, ObjectRef, Reason, Reference, Retry, Source, SourceError, Watch, crd};
use jiff::Timestamp;
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tracing::warn;

use super::{
    conditions::{Health, Level, Word},
    controller::{Guarded, Objects},
    status,
};

/// The shortest and the longest time from one look to the next at what cannot be reached.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);

/// How soon to look again when the catalog is behind the watch here, or ahead of it.
pub const BEHIND: Duration = Duration::from_millis(100);

/// A kind of sources.
pub trait SourceKind: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static {
    fn name(&self) -> ObjectRef;
    fn status(&self) -> Option<&crd::SourceStatus>;
}

impl SourceKind for crd::GitRepo {
    fn name(&self) -> ObjectRef {
        ObjectRef::namespaced("GitRepo", &self.namespace().unwrap_or_default(), &self.name_any())
    }

    fn status(&self) -> Option<&crd::SourceStatus> {
        self.status.as_ref()
    }
}

impl SourceKind for crd::ClusterGitRepo {
    fn name(&self) -> ObjectRef {
        ObjectRef::cluster("ClusterGitRepo", &self.name_any())
    }

    fn status(&self) -> Option<&crd::SourceStatus> {
        self.status.as_ref()
    }
}

/// Has sources looked at again that triggers see otherwise than before.
#[derive(Clone)]
pub struct Recheck {
    pub git_repos: Objects<crd::GitRepo>,
    pub cluster_git_repos: Objects<crd::ClusterGitRepo>,
    /// Those that are to be looked at although they are said to be well.
    pub doubted: Arc<Mutex<BTreeSet<ObjectRef>>>,
}

impl Recheck {
    fn doubted(&self) -> MutexGuard<'_, BTreeSet<ObjectRef>> {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All sources that there are.
    pub fn all(&self) -> BTreeSet<ObjectRef> {
        let repos = self.git_repos.all();
        let cluster_repos = self.cluster_git_repos.all();
        let repos = repos.iter().filter_map(|repo| Some(repo.0.as_ref().ok()?.name()));
        repos.chain(cluster_repos.iter().filter_map(|repo| Some(repo.0.as_ref().ok()?.name()))).collect()
    }

    pub fn recheck(&self, source: &ObjectRef) {
        self.doubted().insert(source.clone());
        match source.kind.as_str() {
            "GitRepo" => self.git_repos.reconcile_if_not_busy(source.namespace.as_deref(), &source.name),
            "ClusterGitRepo" => self.cluster_git_repos.reconcile_if_not_busy(None, &source.name),
            _ => {}
        }
    }
}

/// What reconciling sources takes.
pub struct Sources {
    pub client: Client,
    pub catalog: KubeCatalog,
    pub recheck: Recheck,
    /// How often each has failed since it could last be reached.
    pub failures: Mutex<BTreeMap<ObjectRef, u32>>,
}

/// Everything of a source that makes it worth looking at when it is another.
pub fn relevant<K: SourceKind>(object: &Guarded<K>) -> impl std::hash::Hash + use<K> {
    (object.uid(), object.meta().generation)
}

/// Looks whether a source can be reached, says so, and answers when to look again.
pub async fn reconcile<K: SourceKind>(object: Arc<Guarded<K>>, sources: Arc<Sources>) -> Option<Timestamp> {
    let meta = object.meta();
    let (health, before, next) = match &object.0 {
        Ok(source) => {
            let id = source.name();
            if !sources.catalog.knows(&id, meta) {
                return Some(Timestamp::now() + BEHIND);
            }
            let said = source.status().and_then(|status| Health::said_by(&status.conditions, meta.generation));
            let is_doubted = sources.recheck.doubted().remove(&id);
            if !is_doubted && said.is_some_and(|said| said.level == Level::Ready) {
                return None;
            }
            let (health, retry) = sources.look(&id).await;
            let next = sources.next(&id, retry);
            (health, source.status().map(|status| status.conditions.clone()).unwrap_or_default(), next)
        }
        Err(malformed) => (Health::new(Level::Stalled, Reason::InvalidSpec, malformed.to_string()), vec![], None),
    };
    if Health::said_by(&before, meta.generation).as_ref() == Some(&health) {
        return next;
    }
    if let Err(error) = status::of_other::<K>(&sources.client, meta, &before, &health).await {
        warn!(source = meta.name, "its status cannot be written: {error}");
        return Some(status::again(&error));
    }
    next
}

impl Sources {
    /// How a source is, and when to look again if it is not well.
    async fn look(&self, id: &ObjectRef) -> (Health, Option<Retry>) {
        let failed = |reason: Reason, retry: Retry, message: String| {
            let level = if retry == Retry::Never { Level::Stalled } else { Level::Retrying };
            (Health::new(level, reason, message), Some(retry))
        };
        match self.catalog.source_for_all(id).await {
            Err(error) => failed(error.reason(), error.retry(), error.to_string()),
            Ok(None) => {
                (Health::ready(Word::Valid, "its Secret is that of each trigger's namespace: triggers say whether it can be reached"), None)
            }
            Ok(Some(source)) => match reach(&*source).await {
                Ok(()) => (Health::ready(Word::Reachable, "the repository can be reached"), None),
                Err(error) => failed(error.reason(), error.retry(), error.to_string()),
            },
        }
    }

    fn next(&self, id: &ObjectRef, retry: Option<Retry>) -> Option<Timestamp> {
        let mut failures = self.failures();
        let Some(retry) = retry else {
            failures.remove(id);
            return None;
        };
        let times = failures.entry(id.clone()).or_default();
        let backoff = SHORTEST.saturating_mul(1 << (*times).min(8)).min(LONGEST);
        *times += 1;
        Some(Timestamp::now() + retry.wait(backoff).min(LONGEST))
    }

    /// Forgets sources that are gone.
    pub fn retain(&self, is_there: impl Fn(&ObjectRef) -> bool) {
        self.failures().retain(|id, _| is_there(id));
        self.recheck.doubted().retain(is_there);
    }

    fn failures(&self) -> MutexGuard<'_, BTreeMap<ObjectRef, u32>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whichever branch there is or not: an answer about one tells that the repository is there, and may be read.
async fn reach(source: &dyn Source) -> Result<(), SourceError> {
    match source.observe(&Watch::new(Reference::Branch("main".to_owned()))).await {
        Err(error) if error.reason() != Reason::ReferenceNotFound => Err(error),
        _ => Ok(()),
    }
}
