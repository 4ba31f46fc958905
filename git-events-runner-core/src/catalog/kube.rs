//! The catalog of a cluster: what the API server has told of sources and actions, with Secrets read when they are needed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ::kube::Client;
use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    repository::Specified,
    rules::Override,
    values::{self, Name, Values},
};
use crate::{
    Action, Catalog, CatalogError, Cause, Checkout, ObjectRef, Source, TriggerId, crd,
    engine::Failure,
    job::{JobAction, Jobs},
    source::git::{GitClient, GitSource, RepoUri},
};

mod allowed_hosts;
mod origin;
mod secrets;
mod source;
mod stores;
mod watch;

pub use allowed_hosts::AllowedHosts;
pub use stores::{CatalogStores, Stores};

use secrets::Secrets;
use source::KubeSource;

/// What the API server has told of sources and actions, ready for use: sources are Git repositories, actions are Jobs. Clones share it.
///
/// It answers from what is watched, so it may be a moment behind. Secrets are not watched: each is read by its name when a source needs it,
/// kept for a short time, and read again when a server refuses what was kept.
///
/// A trigger uses what is of its own namespace, and what belongs to no namespace as far as `allowedNamespaces` select the trigger's.
///
/// It needs a tokio runtime, the clock of which tells how old a Secret is.
///
/// ```no_run
/// # use std::{sync::Arc, time::Duration};
/// # use git_events_runner_core::{git::GitClient, job::Jobs, *};
/// # async fn example(client: kube::Client) -> Result<(), Cause> {
/// let (stores, watches) = CatalogStores::watch(&client, &Scope::All, |id| println!("{id} has changed"));
/// tokio::spawn(watches);
/// let config = tokio::sync::watch::Sender::new(Arc::new(crd::RuntimeConfig::default()));
/// let jobs = Jobs::new(client.clone(), Scope::All, config.subscribe());
/// let catalog = KubeCatalog::new(client, stores, jobs, GitClient::default(), AllowedHosts::default(), Duration::from_secs(60));
/// catalog.ready().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct KubeCatalog(Arc<Shared>);

struct Shared {
    stores: CatalogStores,
    jobs: Jobs,
    git: GitClient,
    hosts: AllowedHosts,
    secrets: Secrets,
}

impl KubeCatalog {
    /// A catalog of what somebody watches, as far as it is on these hosts. `client` reads Secrets, and each is kept for `secrets_kept_for`.
    ///
    /// [`CatalogStores::watch`] watches for those who do not watch these kinds themselves.
    pub fn new(client: Client, stores: CatalogStores, jobs: Jobs, git: GitClient, hosts: AllowedHosts, secrets_kept_for: Duration) -> Self {
        Self(Arc::new(Shared { stores, jobs, git, hosts, secrets: Secrets::new(client, secrets_kept_for) }))
    }

    /// Waits until all that is watched has been seen once. Before that, what is there may be told as not found.
    ///
    /// # Errors
    ///
    /// Somebody has ended a watch before that.
    pub async fn ready(&self) -> Result<(), Cause> {
        self.0.stores.ready().await
    }

    /// Whether what it answers with is just this version of the specification of a source or an action. Somebody else's watch may be ahead.
    pub fn knows(&self, id: &ObjectRef, version: &ObjectMeta) -> bool {
        self.0.stores.knows(id, version)
    }

    /// How long a run of an action may wait for its start.
    pub fn waiting_timeout(&self, action: &ObjectRef) -> Duration {
        let own = self.0.stores.action(action).ok().and_then(|(spec, _)| spec.action_job.job_waiting_timeout_seconds);
        let seconds = own.unwrap_or(self.0.jobs.config().action.job_waiting_timeout_seconds);
        Duration::from_secs(seconds.try_into().unwrap_or_default())
    }

    /// The Jobs of a trigger as runs of an action, which need not be there any more: to follow them, and to end them.
    pub fn jobs(&self, of: &TriggerId, action: &ObjectRef) -> JobAction {
        self.job_action(action, &of.namespace, crd::ActionSpec::default())
    }

    /// A value of a Secret that a trigger names for its own use, without line ends after it.
    ///
    /// # Errors
    ///
    /// [`CatalogError::SecretNotFound`], and where it was looked for.
    pub async fn secret_value(&self, of: &TriggerId, secret: &str, key: &str) -> Result<String, CatalogError> {
        let object = ObjectRef::namespaced(&of.kind, &of.namespace, &of.name);
        let name = (of.namespace.clone(), secret.to_owned());
        let values = self.0.secrets.one(&object, &name).await?;
        let secrets = BTreeMap::from([(name, values)]);
        match values::text(&secrets, "Secret", &of.namespace, secret, key) {
            Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(message) => Err(CatalogError::SecretNotFound { object, message }),
        }
    }

    /// Has a Secret read again when it is asked for next, because what it held has refused somebody.
    pub fn forget_secret(&self, namespace: &str, secret: &str) {
        self.0.secrets.forget_one(&(namespace.to_owned(), secret.to_owned()));
    }

    /// Where a source is, if the triggers of a namespace may use it. It reads no Secret.
    pub fn repo_uri(&self, namespace: &str, source: &ObjectRef) -> Option<RepoUri> {
        RepoUri::parse(&self.usable_source(namespace, source).ok()?.repo_uri).ok()
    }

    /// A source for nobody in particular, to see whether it can be reached. None: that depends on the namespace of who asks, where its
    /// Secret is.
    ///
    /// # Errors
    ///
    /// As of [`Catalog::source`].
    pub async fn source_for_all(&self, id: &ObjectRef) -> Result<Option<Arc<dyn Source>>, CatalogError> {
        let spec = self.source_spec(id)?;
        let depends = id.namespace.is_none() && spec.secrets().iter().any(|(_, secret)| secret.namespace.is_none());
        if depends {
            return Ok(None);
        }
        let namespace = id.namespace.as_deref().unwrap_or_default();
        Ok(Some(Arc::new(self.specified(namespace, id, &spec).await?.0)))
    }

    /// Has the API server look at a Job of an action, as it would be made in a namespace, without making it.
    ///
    /// # Errors
    ///
    /// Why no Job can be made of it.
    pub async fn try_action(&self, id: &ObjectRef, namespace: &str) -> Result<(), Failure> {
        let (spec, _) = self.0.stores.action(id)?;
        if let Some(Override { source, .. }) = Override::of(namespace, id, &spec)? {
            self.source_spec(&source)?;
        }
        Ok(self.job_action(id, namespace, spec).try_out().await?)
    }

    fn job_action(&self, id: &ObjectRef, namespace: &str, spec: crd::ActionSpec) -> JobAction {
        JobAction::new(id.clone(), namespace, spec.action_job, self.0.jobs.clone(), Arc::new(self.clone()))
    }

    /// A source, for the triggers of a namespace.
    fn usable_source(&self, namespace: &str, id: &ObjectRef) -> Result<crd::Repository, CatalogError> {
        let spec = self.0.stores.usable_source(namespace, id)?;
        self.0.hosts.check(id, &spec)?;
        Ok(spec)
    }

    /// A source, whoever may use it.
    fn source_spec(&self, id: &ObjectRef) -> Result<crd::Repository, CatalogError> {
        let (spec, _) = self.0.stores.source(id)?;
        self.0.hosts.check(id, &spec)?;
        Ok(spec)
    }

    /// A source as it is now, and the Secrets that it uses.
    async fn git_source(&self, namespace: &str, id: &ObjectRef) -> Result<(GitSource, BTreeMap<Name, Values>), CatalogError> {
        let spec = self.usable_source(namespace, id)?;
        self.specified(namespace, id, &spec).await
    }

    async fn specified(
        &self,
        namespace: &str,
        id: &ObjectRef,
        spec: &crd::Repository,
    ) -> Result<(GitSource, BTreeMap<Name, Values>), CatalogError> {
        let specified = Specified { id, spec, namespace };
        let secrets = self.0.secrets.read(&specified).await?;
        let mut repository = specified.repository(RepoUri::parse(&spec.repo_uri), &secrets)?;
        repository.know_hosts(&self.0.jobs.config().ssh.known_hosts);
        Ok((GitSource::new(id.clone(), repository, self.0.git.clone()), secrets))
    }

    async fn kube_source(&self, namespace: &str, id: &ObjectRef) -> Result<KubeSource, CatalogError> {
        let (source, secrets) = self.git_source(namespace, id).await?;
        Ok(KubeSource { catalog: self.clone(), namespace: namespace.to_owned(), source, secrets })
    }
}

#[async_trait]
impl Catalog for KubeCatalog {
    async fn source(&self, of: &TriggerId, source: &ObjectRef) -> Result<Arc<dyn Source>, CatalogError> {
        Ok(Arc::new(self.kube_source(&of.namespace, source).await?))
    }

    async fn checkout(&self, of: &TriggerId, source: &ObjectRef) -> Result<Arc<dyn Checkout>, CatalogError> {
        Ok(Arc::new(self.git_source(&of.namespace, source).await?.0))
    }

    async fn action(&self, of: &TriggerId, action: &ObjectRef) -> Result<Arc<dyn Action>, CatalogError> {
        let spec = self.0.stores.usable_action(&of.namespace, action)?;
        if let Some(Override { source, .. }) = Override::of(&of.namespace, action, &spec)? {
            let spec = self.usable_source(&of.namespace, &source)?;
            Specified { id: &source, spec: &spec, namespace: &of.namespace }.secret_keys()?;
        }
        Ok(Arc::new(self.job_action(action, &of.namespace, spec)))
    }
}
