use std::sync::Arc;

use futures_util::future::try_join_all;
use k8s_openapi::{
    api::core::v1::Namespace,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube::{
    Resource, ResourceExt as _,
    core::{DeserializeGuard, SelectorExt as _, object::HasSpec},
    runtime::reflector::{self, Store},
};

use crate::{
    CatalogError, Cause, ObjectRef,
    catalog::rules::{is_reachable, selector},
    crd,
};

/// The objects of a kind, as they were last seen: one store for each namespace that is watched, or one for all.
///
/// One malformed object must not stop the watch of the others, so that each is guarded.
pub type Stores<K> = Vec<Store<DeserializeGuard<K>>>;

/// How much is shown of what is wrong with a malformed object, in characters.
const MAX_SHOWN: usize = 300;

/// What [`KubeCatalog`](super::KubeCatalog) knows of a cluster. Somebody else fills it.
#[derive(Clone)]
pub struct CatalogStores {
    /// All GitRepos.
    pub git_repos: Stores<crd::GitRepo>,
    /// All ClusterGitRepos.
    pub cluster_git_repos: Stores<crd::ClusterGitRepo>,
    /// All Actions.
    pub actions: Stores<crd::Action>,
    /// All ClusterActions.
    pub cluster_actions: Stores<crd::ClusterAction>,
    /// The namespaces in which triggers are, for their labels.
    pub namespaces: Stores<Namespace>,
}

impl CatalogStores {
    pub(super) async fn ready(&self) -> Result<(), Cause> {
        let Self { git_repos, cluster_git_repos, actions, cluster_actions, namespaces } = self;
        ready(git_repos).await?;
        ready(cluster_git_repos).await?;
        ready(actions).await?;
        ready(cluster_actions).await?;
        ready(namespaces).await
    }

    /// Whether what is known of a source or an action is just this version of its specification.
    pub(super) fn knows(&self, id: &ObjectRef, version: &ObjectMeta) -> bool {
        match id.kind.as_str() {
            "GitRepo" => knows(&self.git_repos, id, version),
            "ClusterGitRepo" => knows(&self.cluster_git_repos, id, version),
            "Action" => knows(&self.actions, id, version),
            "ClusterAction" => knows(&self.cluster_actions, id, version),
            _ => false,
        }
    }

    /// A source, for the triggers of a namespace.
    pub(super) fn usable_source(&self, namespace: &str, id: &ObjectRef) -> Result<crd::Repository, CatalogError> {
        if !is_reachable(id, namespace) {
            return Err(CatalogError::NotFound(id.clone()));
        }
        let (spec, allowed) = self.source(id)?;
        self.check_allowed(id, allowed.as_ref(), namespace)?;
        Ok(spec)
    }

    /// A source, and which namespaces may use it.
    pub(super) fn source(&self, id: &ObjectRef) -> Result<(crd::Repository, Option<LabelSelector>), CatalogError> {
        match id.kind.as_str() {
            "GitRepo" => Ok((spec(&self.git_repos, id)?.repository, None)),
            "ClusterGitRepo" => {
                let crd::ClusterGitRepoSpec { repository, allowed_namespaces } = spec(&self.cluster_git_repos, id)?;
                Ok((repository, allowed_namespaces))
            }
            _ => Err(CatalogError::NotFound(id.clone())),
        }
    }

    /// An action, for the triggers of a namespace.
    pub(super) fn usable_action(&self, namespace: &str, id: &ObjectRef) -> Result<crd::ActionSpec, CatalogError> {
        if !is_reachable(id, namespace) {
            return Err(CatalogError::NotFound(id.clone()));
        }
        let (spec, allowed) = self.action(id)?;
        self.check_allowed(id, allowed.as_ref(), namespace)?;
        Ok(spec)
    }

    /// An action, and which namespaces may use it.
    pub(super) fn action(&self, id: &ObjectRef) -> Result<(crd::ActionSpec, Option<LabelSelector>), CatalogError> {
        match id.kind.as_str() {
            "Action" => Ok((spec(&self.actions, id)?, None)),
            "ClusterAction" => {
                let crd::ClusterActionSpec { action_job, source_override, allowed_namespaces } = spec(&self.cluster_actions, id)?;
                Ok((crd::ActionSpec { action_job, source_override }, allowed_namespaces))
            }
            _ => Err(CatalogError::NotFound(id.clone())),
        }
    }

    fn check_allowed(&self, id: &ObjectRef, allowed: Option<&LabelSelector>, namespace: &str) -> Result<(), CatalogError> {
        let Some(allowed) = allowed else { return Ok(()) };
        let selector = selector(id, allowed)?;
        let of_namespace = ObjectRef::cluster("Namespace", namespace);
        let found = find(&self.namespaces, &of_namespace);
        // It is there, since the trigger is: only its watch may be behind.
        let found = found.ok_or_else(|| CatalogError::Unavailable(of_namespace, "its labels are not known yet".into()))?;
        if selector.matches(found.labels()) {
            return Ok(());
        }
        let message = format!(
            "its allowedNamespaces ({selector}) do not select the namespace {namespace}: change them, or the labels of the namespace"
        );
        Err(CatalogError::Invalid { object: id.clone(), message })
    }
}

async fn ready<K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static>(stores: &Stores<K>) -> Result<(), Cause> {
    try_join_all(stores.iter().map(Store::wait_until_ready)).await?;
    Ok(())
}

fn find<K: Resource<DynamicType = ()> + Clone + 'static>(stores: &Stores<K>, id: &ObjectRef) -> Option<Arc<DeserializeGuard<K>>> {
    let name = reflector::ObjectRef::new(&id.name);
    let key = if let Some(namespace) = &id.namespace { name.within(namespace) } else { name };
    stores.iter().find_map(|store| store.get(&key))
}

fn knows<K: Resource<DynamicType = ()> + Clone + 'static>(stores: &Stores<K>, id: &ObjectRef, version: &ObjectMeta) -> bool {
    find(stores, id).is_some_and(|found| (&found.meta().uid, found.meta().generation) == (&version.uid, version.generation))
}

fn spec<K>(stores: &Stores<K>, id: &ObjectRef) -> Result<K::Spec, CatalogError>
where
    K: Resource<DynamicType = ()> + HasSpec<Spec: Clone> + Clone + 'static,
{
    let found = find(stores, id).ok_or_else(|| CatalogError::NotFound(id.clone()))?;
    let object = found.0.as_ref().map_err(|malformed| {
        let why: String = malformed.error.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
        CatalogError::Invalid { object: id.clone(), message: format!("it is malformed: {why}") }
    })?;
    Ok(object.spec().clone())
}
