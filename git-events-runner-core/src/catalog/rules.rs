//! Who may use what: the same in a cluster and without one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector;

use crate::{ActionError, CatalogError, ObjectRef, Reason, Reference, Retry, Revision, Source, Watch, crd};

/// A namespaced object is there for its own namespace only.
pub fn is_reachable(id: &ObjectRef, namespace: &str) -> bool {
    id.namespace.as_deref().is_none_or(|own| own == namespace)
}

/// What the labels of a namespace must be.
pub fn selector(id: &ObjectRef, allowed: &LabelSelector) -> Result<Selector, CatalogError> {
    let invalid = |error| CatalogError::Invalid { object: id.clone(), message: format!("allowedNamespaces: {error}") };
    allowed.clone().try_into().map_err(invalid)
}

/// What an action checks out instead of the source that fired.
pub struct Override {
    pub source: ObjectRef,
    pub reference: Reference,
}

impl Override {
    /// What an action names, if it does, for a trigger of a namespace.
    pub fn of(namespace: &str, action: &ObjectRef, spec: &crd::ActionSpec) -> Result<Option<Self>, CatalogError> {
        let Some(crd::SourceOverride { kind, name, reference }) = &spec.source_override else { return Ok(None) };
        let invalid = |message: String| CatalogError::Invalid { object: action.clone(), message: format!("sourceOverride: {message}") };
        if action.namespace.is_none() && *kind == crd::SourceKind::GitRepo {
            return Err(invalid("a ClusterAction can only check out a ClusterGitRepo".to_owned()));
        }
        let reference = reference.reference().map_err(|error| invalid(error.to_string()))?;
        Ok(Some(Self { source: kind.named(namespace, name), reference }))
    }

    /// Finds out which commit it is now, at what its source was found to be.
    pub async fn observe(self, source: Result<impl Source, CatalogError>) -> Result<(ObjectRef, Revision), ActionError> {
        let unusable = |reason: Reason, retry: Retry, message: String| match retry {
            Retry::Never => ActionError::Invalid(message),
            _ => ActionError::Unavailable(format!("sourceOverride ({reason}): {message}").into()),
        };
        let source = source.map_err(|error| unusable(error.reason(), error.retry(), error.to_string()))?;
        let seen = source.observe(&Watch::new(self.reference.clone())).await;
        let seen = seen.map_err(|error| unusable(error.reason(), error.retry(), error.to_string()))?;
        Ok((self.source, Revision { reference: self.reference, commit: seen.commit }))
    }
}
