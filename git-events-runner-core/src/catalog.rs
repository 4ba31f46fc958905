//! The port that turns names into sources and actions.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Action, Cause, Checkout, ObjectRef, Reason, Retry, Source, TriggerId};

#[cfg(feature = "kube")]
mod kube;
#[cfg(feature = "manifests")]
pub mod manifests;
mod memory;
#[cfg(any(feature = "kube", feature = "manifests"))]
mod repository;
#[cfg(any(feature = "kube", feature = "manifests"))]
mod rules;
#[cfg(any(feature = "kube", feature = "manifests"))]
mod values;

#[cfg(feature = "kube")]
pub use self::kube::{AllowedHosts, CatalogStores, KubeCatalog, Stores};
pub use memory::InMemoryCatalog;

/// Finds what a trigger names, with its credentials, as far as the trigger may use it.
///
/// # Contract
///
/// - What it answers is ready for use and holds for one evaluation; a later call sees later specifications.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Catalog: Send + Sync {
    /// The source of this name, for this trigger.
    async fn source(&self, of: &TriggerId, source: &ObjectRef) -> Result<Arc<dyn Source>, CatalogError>;

    /// What to check a source out of.
    async fn checkout(&self, of: &TriggerId, source: &ObjectRef) -> Result<Arc<dyn Checkout>, CatalogError>;

    /// The action of this name, for this trigger.
    async fn action(&self, of: &TriggerId, action: &ObjectRef) -> Result<Arc<dyn Action>, CatalogError>;
}

/// Why something cannot be found or used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// There is no such object.
    #[error("there is no {0}")]
    NotFound(ObjectRef),
    /// The object is there and cannot be used as it stands.
    #[error("{object}: {message}")]
    Invalid {
        /// Which object.
        object: ObjectRef,
        /// What is wrong with it, and what to do.
        message: String,
    },
    /// A Secret that it names, or a key in it, is not there.
    #[error("{object}: {message}")]
    SecretNotFound {
        /// Which object names the Secret.
        object: ObjectRef,
        /// Which Secret or key, and where it is looked for.
        message: String,
    },
    /// It cannot be read now.
    #[error("{0} cannot be read: {1}")]
    Unavailable(ObjectRef, #[source] Cause),
}

impl CatalogError {
    /// Why, as a constant.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotFound(_) => Reason::NotFound,
            Self::Invalid { .. } => Reason::InvalidSpec,
            Self::SecretNotFound { .. } => Reason::SecretNotFound,
            Self::Unavailable(..) => Reason::Unreachable,
        }
    }

    /// Whether to try again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Invalid { .. } => Retry::Never,
            Self::NotFound(_) | Self::SecretNotFound { .. } | Self::Unavailable(..) => Retry::Backoff,
        }
    }
}
