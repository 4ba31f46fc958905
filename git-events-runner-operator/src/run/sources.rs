//! Reconciles GitRepos and ClusterGitRepos: says whether they can be reached.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use git_events_runner_core::{KubeCatalog, ObjectRef, Reason, Reference, Retry, Watch, crd};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tracing::warn;

use super::{
    conditions::{Health, Level},
    controller::Guarded,
    status,
};

/// The shortest and the longest time between two looks at what cannot be reached.
const BACKOFF: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(300)];

/// A kind of sources.
pub trait SourceKind: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static {
    fn status(&self) -> Option<&crd::SourceStatus>;
    /// Whether its credentials are the same for all triggers, so that it can be looked at for none.
    fn is_the_same_for_all(&self) -> bool;
}
