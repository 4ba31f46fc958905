//! Ports to what is watched and checked out.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;

use crate::{Cause, ObjectRef, Observation, Reason, Reference, Retry, Revision, Watch};

mod attempts;
#[cfg(feature = "git")]
pub mod git;
mod memory;

pub use attempts::Attempts;
pub use memory::InMemorySource;

/// Something that can be looked at for changes.
///
/// # Contract
///
/// - `observe` says what is there now: an answer is never older than the call.
/// - It ends by itself, in bounded time, and may be dropped at any moment without leaving anything behind.
/// - A [`Reference::Commit`] observes as itself.
/// - `files` of the answer is Some exactly when the watch has patterns; equal patterns over equal files give equal digests, always.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Source: Send + Sync {
    /// Which source this is.
    fn id(&self) -> &ObjectRef;

    /// What the reference points at now.
    async fn observe(&self, watch: &Watch) -> Result<Observation, SourceError>;
}

/// Something that a commit can be checked out of.
///
/// # Contract
///
/// - It writes exactly the tree of `revision.commit`, whatever the reference points at by now.
/// - `into` is an empty folder; after an error, what it holds is undefined.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Checkout: Send + Sync {
    /// Writes the files of a commit into an empty folder.
    async fn checkout(&self, revision: &Revision, into: &Path) -> Result<(), SourceError>;
}

/// Why a source cannot be looked at or checked out. No message holds a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    reason: Reason,
    retry: Retry,
    message: String,
    #[source]
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl SourceError {
    /// An error with what, where and what to do in one lower-case line, which holds no secret.
    pub fn new(reason: Reason, retry: Retry, message: impl Into<String>) -> Self {
        Self { reason, retry, message: message.into(), cause: None }
    }

    /// Keeps the error that this one comes from, for logs.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        self.cause = Some(Arc::from(cause.into()));
        self
    }

    /// There is no such branch, tag or commit.
    pub fn reference_not_found(reference: &Reference, place: &str) -> Self {
        Self::new(Reason::ReferenceNotFound, Retry::Backoff, format!("there is no {reference} in {place}"))
    }

    /// The error that this one comes from itself: `source` has it in an Arc, which hides its type.
    #[cfg(feature = "git")]
    pub(crate) fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }

    /// Why, as a constant.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether to try again.
    pub fn retry(&self) -> Retry {
        self.retry
    }
}
