//! The catalog of local mode: sources, actions, Secrets and ConfigMaps as manifests describe them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    ResourceExt as _,
    core::{Selector, SelectorExt as _},
};
use serde::{Deserialize, Serialize};

use crate::{
    Action, ActionError, Catalog, CatalogError, Cause, Checkout, ObjectRef, Reason, Retry, Revision, RunRequest, Source, TriggerId, Watch,
    crd,
    process::{Origin, Origins, ProcessAction, Runs},
    source::git::{GitClient, GitSource, Repository},
};

mod command;
mod repository;
mod values;

use values::Values;

/// A Secret or a ConfigMap, by namespace and name.
type Name = (String, String);

/// What the manifests of a folder describe, ready for use: sources are Git repositories, actions are local processes. Clones share it.
///
/// It takes objects as they are, and says what is wrong with one when that is asked for.
#[derive(Clone)]
pub struct Manifests {
    content: Arc<Content>,
    client: GitClient,
    runs: Runs,
}

/// Objects, as they are read.
#[derive(Default)]
pub struct Content {
    config: crd::RuntimeConfig,
    sources: BTreeMap<ObjectRef, SourceManifest>,
    actions: BTreeMap<ObjectRef, ActionManifest>,
    secrets: BTreeMap<Name, Values>,
    config_maps: BTreeMap<Name, Values>,
}

struct SourceManifest {
    spec: crd::Repository,
    allowed: Option<LabelSelector>,
    /// Where relative paths begin.
    folder: PathBuf,
}

struct ActionManifest {
    job: crd::ActionJob,
    source_override: Option<crd::SourceOverride>,
    allowed: Option<LabelSelector>,
}

impl Content {
    /// Nothing but what is configured for all.
    pub fn new(config: crd::RuntimeConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// What is configured for all.
    pub fn config(&self) -> &crd::RuntimeConfig {
        &self.config
    }

    /// Adds a repository; paths in it begin at `folder`.
    pub fn add_git_repo(&mut self, repo: crd::GitRepo, folder: &Path) {
        let id = ObjectRef::namespaced("GitRepo", &repo.namespace().unwrap_or_default(), &repo.name_any());
        self.sources.insert(id, SourceManifest { spec: repo.spec.repository, allowed: None, folder: folder.to_owned() });
    }

    /// Adds a repository; paths in it begin at `folder`.
    pub fn add_cluster_git_repo(&mut self, repo: crd::ClusterGitRepo, folder: &Path) {
        let id = ObjectRef::cluster("ClusterGitRepo", &repo.name_any());
        let crd::ClusterGitRepoSpec { repository, allowed_namespaces } = repo.spec;
        self.sources.insert(id, SourceManifest { spec: repository, allowed: allowed_namespaces, folder: folder.to_owned() });
    }

    /// Adds an action.
    pub fn add_action(&mut self, action: crd::Action) {
        let id = ObjectRef::namespaced("Action", &action.namespace().unwrap_or_default(), &action.name_any());
        let crd::ActionSpec { action_job, source_override } = action.spec;
        self.actions.insert(id, ActionManifest { job: action_job, source_override, allowed: None });
    }

    /// Adds an action.
    pub fn add_cluster_action(&mut self, action: crd::ClusterAction) {
        let id = ObjectRef::cluster("ClusterAction", &action.name_any());
        let crd::ClusterActionSpec { action_job, source_override, allowed_namespaces } = action.spec;
        self.actions.insert(id, ActionManifest { job: action_job, source_override, allowed: allowed_namespaces });
    }

    /// Adds a Secret.
    pub fn add_secret(&mut self, secret: Secret) {
        self.secrets.insert((secret.namespace().unwrap_or_default(), secret.name_any()), Values::of_secret(secret));
    }

    /// Adds a ConfigMap.
    pub fn add_config_map(&mut self, map: ConfigMap) {
        self.config_maps.insert((map.namespace().unwrap_or_default(), map.name_any()), Values::of_config_map(map));
    }
}

/// What a supervisor checks files out of. It holds the credentials.
#[derive(Serialize, Deserialize)]
struct CheckoutOf {
    source: ObjectRef,
    repository: Repository,
    keep_git_folder: bool,
}

impl Manifests {
    /// A catalog of these objects, the actions of which have their runs among these.
    pub fn new(content: Content, client: GitClient, runs: Runs) -> Self {
        Self { content: Arc::new(content), client, runs }
    }

    /// Makes of what [`Origins`] gave to a supervisor what it checks the files out of.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn connect(checkout: serde_json::Value) -> Result<Arc<dyn Checkout>, Cause> {
        let CheckoutOf { source, repository, keep_git_folder } = serde_json::from_value(checkout)?;
        Ok(Arc::new(GitSource::new(source, repository, GitClient::default()).keep_git_folder(keep_git_folder)))
    }

    /// What is configured for all.
    pub fn config(&self) -> &crd::RuntimeConfig {
        &self.content.config
    }

    /// How long a run of an action may wait for its start.
    pub fn waiting_timeout(&self, action: &ObjectRef) -> Duration {
        let own = self.content.actions.get(action).and_then(|action| action.job.job_waiting_timeout_seconds);
        seconds(own.unwrap_or(self.content.config.action.job_waiting_timeout_seconds))
    }

    /// For how long a finished run of an action is kept.
    pub fn kept_for(&self, action: &ObjectRef) -> Duration {
        let own = self.content.actions.get(action).and_then(|action| action.job.ttl_seconds_after_finished);
        seconds(own.unwrap_or(self.content.config.action.ttl_seconds_after_finished).into())
    }

    /// A value of a Secret, without line ends after it.
    ///
    /// # Errors
    ///
    /// What is missing, as a sentence.
    pub fn secret_value(&self, namespace: &str, secret: &str, key: &str) -> Result<String, String> {
        let value = values::text(&self.content.secrets, "Secret", namespace, secret, key)?;
        Ok(value.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn git_source(&self, namespace: &str, id: &ObjectRef) -> Result<GitSource, CatalogError> {
        Ok(GitSource::new(id.clone(), self.repository(namespace, id)?, self.client.clone()))
    }

    fn repository(&self, namespace: &str, id: &ObjectRef) -> Result<Repository, CatalogError> {
        let found = self.content.sources.get(id).filter(|_| is_reachable(id, namespace));
        let found = found.ok_or_else(|| CatalogError::NotFound(id.clone()))?;
        check_allowed(id, found.allowed.as_ref(), namespace)?;
        self.git_repository(id, found, namespace)
    }

    fn action_manifest(&self, namespace: &str, id: &ObjectRef) -> Result<&ActionManifest, CatalogError> {
        let found = self.content.actions.get(id).filter(|_| is_reachable(id, namespace));
        let found = found.ok_or_else(|| CatalogError::NotFound(id.clone()))?;
        check_allowed(id, found.allowed.as_ref(), namespace)?;
        Ok(found)
    }

    /// What an action checks out instead of the source that fired, if it does.
    async fn overridden(&self, namespace: &str, action: &ActionManifest) -> Result<Option<(ObjectRef, Revision)>, ActionError> {
        let Some(crd::SourceOverride { kind, name, reference }) = &action.source_override else { return Ok(None) };
        let id = kind.named(namespace, name);
        let reference = reference.reference().map_err(|error| ActionError::Invalid(format!("sourceOverride: {error}")))?;
        let unusable = |reason: Reason, retry: Retry, message: String| match retry {
            Retry::Never => ActionError::Invalid(message),
            _ => ActionError::Unavailable(format!("sourceOverride ({reason}): {message}").into()),
        };
        let source = self.git_source(namespace, &id).map_err(|error| unusable(error.reason(), error.retry(), error.to_string()))?;
        let seen = source.observe(&Watch::new(reference.clone())).await;
        let seen = seen.map_err(|error| unusable(error.reason(), error.retry(), error.to_string()))?;
        Ok(Some((id, Revision { reference, commit: seen.commit })))
    }
}

/// A namespaced object is there for its own namespace only.
fn is_reachable(id: &ObjectRef, namespace: &str) -> bool {
    id.namespace.as_deref().is_none_or(|own| own == namespace)
}

/// Namespaces have no labels but their name where there is no cluster.
fn check_allowed(id: &ObjectRef, allowed: Option<&LabelSelector>, namespace: &str) -> Result<(), CatalogError> {
    let Some(allowed) = allowed else { return Ok(()) };
    let invalid = |message: String| CatalogError::Invalid { object: id.clone(), message };
    let selector: Selector = allowed.clone().try_into().map_err(|error| invalid(format!("allowedNamespaces: {error}")))?;
    let labels = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), namespace.to_owned())]);
    if selector.matches(&labels) {
        return Ok(());
    }
    let message = format!(
        "its allowedNamespaces do not select the namespace {namespace}, which has the label kubernetes.io/metadata.name only \
         because there is no cluster"
    );
    Err(invalid(message))
}

fn seconds(number: i64) -> Duration {
    Duration::from_secs(number.try_into().unwrap_or_default())
}

#[async_trait]
impl Catalog for Manifests {
    async fn source(&self, of: &TriggerId, source: &ObjectRef) -> Result<Arc<dyn Source>, CatalogError> {
        Ok(Arc::new(self.git_source(&of.namespace, source)?))
    }

    async fn checkout(&self, of: &TriggerId, source: &ObjectRef) -> Result<Arc<dyn Checkout>, CatalogError> {
        Ok(Arc::new(self.git_source(&of.namespace, source)?))
    }

    async fn action(&self, of: &TriggerId, action: &ObjectRef) -> Result<Arc<dyn Action>, CatalogError> {
        let found = self.action_manifest(&of.namespace, action)?;
        if let Some(crd::SourceOverride { kind, name, reference }) = &found.source_override {
            let invalid = |message: String| CatalogError::Invalid { object: action.clone(), message: format!("sourceOverride: {message}") };
            if action.namespace.is_none() && *kind == crd::SourceKind::GitRepo {
                return Err(invalid("a ClusterAction can only check out a ClusterGitRepo".to_owned()));
            }
            reference.reference().map_err(|error| invalid(error.to_string()))?;
            self.repository(&of.namespace, &kind.named(&of.namespace, name))?;
        }
        let command = self.command_line(&of.namespace, action, &found.job)?;
        Ok(Arc::new(ProcessAction::new(action.clone(), self.runs.clone(), command, Arc::new(self.clone()))))
    }
}

#[async_trait]
impl Origins for Manifests {
    async fn origin(&self, run: &RunRequest) -> Result<Origin, ActionError> {
        let namespace = &run.key.trigger.namespace;
        let invalid = |error: CatalogError| ActionError::Invalid(error.to_string());
        let action = self.action_manifest(namespace, &run.action).map_err(invalid)?;
        let source_uri = self.repository(namespace, &run.key.source).map_err(invalid)?.uri.to_string();
        let overridden = self.overridden(namespace, action).await?;
        let source = overridden.as_ref().map_or(&run.key.source, |(id, _)| id).clone();
        let repository =
            Repository { checkout_timeout: self.deadline(&action.job), ..self.repository(namespace, &source).map_err(invalid)? };
        let checkout = CheckoutOf { source, repository, keep_git_folder: action.job.preserve_git_folder };
        let checkout = serde_json::to_value(checkout).map_err(|error| ActionError::Unavailable(error.into()))?;
        Ok(Origin { checkout, source_uri, overridden })
    }
}
