use std::collections::BTreeMap;

use async_trait::async_trait;

use super::KubeCatalog;
use crate::{
    ObjectRef, Observation, Reason, Source, SourceError, Watch,
    catalog::values::{Name, Values},
    source::git::GitSource,
};

/// A repository whose Secrets may have been changed since they were read.
pub struct KubeSource {
    pub catalog: KubeCatalog,
    pub namespace: String,
    pub source: GitSource,
    pub secrets: BTreeMap<Name, Values>,
}

impl KubeSource {
    /// The same source with its Secrets as they are now, if they differ.
    async fn renewed(&self) -> Option<GitSource> {
        self.catalog.0.secrets.forget(&self.secrets);
        // What is wrong by now is told at the next check.
        let (source, secrets) = self.catalog.git_source(&self.namespace, self.source.id()).await.ok()?;
        (secrets != self.secrets).then_some(source)
    }
}

#[async_trait]
impl Source for KubeSource {
    fn id(&self) -> &ObjectRef {
        self.source.id()
    }

    async fn observe(&self, watch: &Watch) -> Result<Observation, SourceError> {
        let refused = match self.source.observe(watch).await {
            Err(error) if error.reason() == Reason::AuthenticationFailed && !self.secrets.is_empty() => error,
            seen => return seen,
        };
        match self.renewed().await {
            Some(source) => source.observe(watch).await,
            None => Err(refused),
        }
    }
}
