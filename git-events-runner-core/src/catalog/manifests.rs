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
use kube::{ResourceExt as _, core::SelectorExt as _};
use serde::{Deserialize, Serialize};

use super::{
    repository::Specified,
    rules::{self, Override},
    values::{self, Name, Values},
};
use crate::{
    Action, ActionError, Catalog, CatalogError, Cause, Checkout, ObjectRef, RunRequest, Source, TriggerId, crd,
    process::{Origin, Origins, ProcessAction, Runs},
    source::git::{GitClient, GitSource, RepoUri, Repository},
};

mod command;

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
    spec: crd::ActionSpec,
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
        self.actions.insert(id, ActionManifest { spec: action.spec, allowed: None });
    }

    /// Adds an action.
    pub fn add_cluster_action(&mut self, action: crd::ClusterAction) {
        let id = ObjectRef::cluster("ClusterAction", &action.name_any());
        let crd::ClusterActionSpec { action_job, source_override, allowed_namespaces } = action.spec;
        let spec = crd::ActionSpec { action_job, source_override };
        self.actions.insert(id, ActionManifest { spec, allowed: allowed_namespaces });
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
    depth: u32,
    submodules: bool,
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
        let CheckoutOf { source, repository, keep_git_folder, depth, submodules } = serde_json::from_value(checkout)?;
        let source = GitSource::new(source, repository, GitClient::default());
        Ok(Arc::new(source.keep_git_folder(keep_git_folder).depth(depth).submodules(submodules)))
    }

    /// What is configured for all.
    pub fn config(&self) -> &crd::RuntimeConfig {
        &self.content.config
    }

    /// How long a run of an action may wait for its start.
    pub fn waiting_timeout(&self, action: &ObjectRef) -> Duration {
        let own = self.content.actions.get(action).and_then(|action| action.spec.action_job.job_waiting_timeout_seconds);
        seconds(own.unwrap_or(self.content.config.action.job_waiting_timeout_seconds))
    }

    /// For how long a finished run of an action is kept.
    pub fn kept_for(&self, action: &ObjectRef) -> Duration {
        let own = self.content.actions.get(action).and_then(|action| action.spec.action_job.ttl_seconds_after_finished);
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

    /// Where a source is, if the triggers of a namespace can use it.
    pub fn repo_uri(&self, namespace: &str, source: &ObjectRef) -> Option<RepoUri> {
        self.repository(namespace, source).ok().map(|repository| repository.uri)
    }

    fn git_source(&self, namespace: &str, id: &ObjectRef) -> Result<GitSource, CatalogError> {
        Ok(GitSource::new(id.clone(), self.repository(namespace, id)?, self.client.clone()))
    }

    fn repository(&self, namespace: &str, id: &ObjectRef) -> Result<Repository, CatalogError> {
        let found = self.content.sources.get(id).filter(|_| rules::is_reachable(id, namespace));
        let found = found.ok_or_else(|| CatalogError::NotFound(id.clone()))?;
        check_allowed(id, found.allowed.as_ref(), namespace)?;
        let uri = RepoUri::parse_with_local(&found.spec.repo_uri, &found.folder);
        let mut repository = Specified { id, spec: &found.spec, namespace }.repository(uri, &self.content.secrets)?;
        repository.know_hosts(&self.content.config.ssh.known_hosts);
        Ok(repository)
    }

    fn action_manifest(&self, namespace: &str, id: &ObjectRef) -> Result<&ActionManifest, CatalogError> {
        let found = self.content.actions.get(id).filter(|_| rules::is_reachable(id, namespace));
        let found = found.ok_or_else(|| CatalogError::NotFound(id.clone()))?;
        check_allowed(id, found.allowed.as_ref(), namespace)?;
        Ok(found)
    }
}

/// Namespaces have no labels but their name where there is no cluster.
fn check_allowed(id: &ObjectRef, allowed: Option<&LabelSelector>, namespace: &str) -> Result<(), CatalogError> {
    let Some(allowed) = allowed else { return Ok(()) };
    let labels = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), namespace.to_owned())]);
    if rules::selector(id, allowed)?.matches(&labels) {
        return Ok(());
    }
    let message = format!(
        "its allowedNamespaces do not select the namespace {namespace}, which has the label kubernetes.io/metadata.name only \
         because there is no cluster"
    );
    Err(CatalogError::Invalid { object: id.clone(), message })
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
        if let Some(Override { source, .. }) = Override::of(&of.namespace, action, &found.spec)? {
            self.repository(&of.namespace, &source)?;
        }
        let command = self.command_line(&of.namespace, action, &found.spec.action_job)?;
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
        let overridden = match Override::of(namespace, &run.action, &action.spec).map_err(invalid)? {
            Some(over) => {
                let source = self.git_source(namespace, &over.source);
                Some(over.observe(source).await?)
            }
            None => None,
        };
        let source = overridden.as_ref().map_or(&run.key.source, |(id, _)| id).clone();
        let repository = Repository {
            checkout_timeout: self.deadline(&action.spec.action_job),
            ..self.repository(namespace, &source).map_err(invalid)?
        };
        let crd::CloneOptions { depth, submodules } = action.spec.action_job.clone.clone().unwrap_or_default();
        let depth = depth.try_into().unwrap_or_default();
        let keep_git_folder = action.spec.action_job.preserve_git_folder;
        let checkout = CheckoutOf { source, repository, keep_git_folder, depth, submodules };
        let checkout = serde_json::to_value(checkout).map_err(|error| ActionError::Unavailable(error.into()))?;
        Ok(Origin { checkout, source_uri, overridden })
    }
}
