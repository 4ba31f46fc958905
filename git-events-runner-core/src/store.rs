//! Ports to what is remembered of triggers: the evaluator's and the listeners'.

use std::slice;

use async_trait::async_trait;

use crate::{Cause, Change, PendingFull, PendingRequest, Reason, RequestId, Retry, TriggerId, TriggerState};

#[cfg(feature = "file")]
mod file;
#[cfg(feature = "kube")]
mod kube;
mod memory;

#[cfg(feature = "kube")]
pub use self::kube::KubeStore;
#[cfg(feature = "file")]
pub use file::FileStore;
pub use memory::InMemoryStore;

/// Which write of a trigger's state this is; two are equal only when nothing was written in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub String);

/// A trigger's state as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The state.
    pub state: TriggerState,
    /// To be given back when something is recorded that was decided on this state.
    pub version: Version,
    /// The generation of the trigger's specification at that same moment.
    pub generation: i64,
}

/// Keeps what is remembered of triggers. There is one evaluator of a trigger at a time, or two that do not know of each other.
///
/// # Contract
///
/// - `load` answers what was written last, by anybody, and never something older.
/// - `record` writes the whole [`Change`] or nothing of it, and only when nothing was written since `version`: it never merges.
/// - What `record` has answered is durable: it outlives a crash at the next instant.
/// - After any error but [`StateError::Conflict`] the change may have been written all the same.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait StateStore: Send + Sync {
    /// What is remembered of a trigger now.
    ///
    /// # Errors
    ///
    /// [`StateError::NotFound`] when there is no such trigger, or it has another uid.
    async fn load(&self, id: &TriggerId) -> Result<Loaded, StateError>;

    /// What was remembered of a trigger lately, where that costs nothing to know: enough to see that there is nothing to do.
    ///
    /// What others have written in the meantime may be missing. What was recorded by this store is not.
    fn recent(&self, id: &TriggerId) -> Option<Loaded> {
        let _ = id;
        None
    }

    /// Writes a decision that was made on the state of this version.
    ///
    /// # Errors
    ///
    /// [`StateError::Conflict`] when something was written since.
    async fn record(&self, id: &TriggerId, version: &Version, change: &Change) -> Result<(), StateError>;
}

/// Takes requests to fire. Listeners know the domain only through this.
///
/// # Contract
///
/// - Append only: it never changes what [`StateStore::record`] has written, and needs no version.
/// - What it has answered is durable.
/// - Requests that do not always run collapse: those whose sources are all among the new one's are replaced by it, in the same write,
///   and never the other way round. (Whoever evaluates may have looked already for the old one, and removes only what it knew then.)
///   One that speaks of a commit is replaced only by one that speaks of the same.
///   When there is no room, they all become one. [`TriggerState::accept`] does both.
/// - A request that always runs is kept apart from every other.
/// - Requests that are added together are accepted one after the other, and written in one write, or none of them is.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Adds a request to what is pending at a trigger.
    ///
    /// # Errors
    ///
    /// [`StateError::Full`] when [`MAX_PENDING`](crate::MAX_PENDING) are pending; [`StateError::NotFound`].
    async fn request(&self, id: &TriggerId, request: &FireRequest) -> Result<Accepted, StateError> {
        let accepted = self.request_all(id, slice::from_ref(request)).await?.pop();
        accepted.unwrap_or(Err(PendingFull)).map_err(|PendingFull| StateError::Full(id.clone()))
    }

    /// Adds several requests, and answers what became of each: those that there is no room for are left out.
    ///
    /// # Errors
    ///
    /// [`StateError::NotFound`], and what else keeps all of them from being written.
    async fn request_all(&self, id: &TriggerId, requests: &[FireRequest]) -> Result<Vec<Result<Accepted, PendingFull>>, StateError>;
}

/// A request to fire, and its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FireRequest {
    /// Unique over time, but for deliveries of the same event.
    pub id: RequestId,
    /// What is asked for.
    pub request: PendingRequest,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is pending now.
    Recorded,
    /// A request of this id was pending already, and nothing was written.
    AlreadyPending,
}

/// Why a state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is no such trigger, or not this life of it.
    #[error("there is no {0} with that uid")]
    NotFound(TriggerId),
    /// Something was written since the version given.
    #[error("something else was written in between")]
    Conflict,
    /// Too many requests are pending.
    #[error("{0} has as many requests pending as it may have: {max}, or fewer that name very many sources", max = crate::MAX_PENDING)]
    Full(TriggerId),
    /// Something is kept that no store has written: what, and what to do.
    #[error("the state that is kept cannot be used: {0}")]
    Malformed(String),
    /// The store cannot be read or written now.
    #[error("the state cannot be read or written: {0}")]
    Unavailable(#[source] Cause),
}

impl StateError {
    /// Why, as a constant.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotFound(_) => Reason::NotFound,
            Self::Conflict => Reason::Conflict,
            Self::Full(_) => Reason::Full,
            Self::Malformed(_) => Reason::InvalidSpec,
            Self::Unavailable(_) => Reason::Unreachable,
        }
    }

    /// Whether to try again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::NotFound(_) => Retry::Never,
            // Whoever corrects it tells nobody.
            Self::Conflict | Self::Full(_) | Self::Malformed(_) | Self::Unavailable(_) => Retry::Backoff,
        }
    }
}
