//! The port to what is started.

use async_trait::async_trait;

use crate::{Cause, ObjectRef, Reason, Retry, RunKey, RunRef, RunRequest, RunStatus, TriggerId};

mod environment;
#[cfg(feature = "kube")]
pub mod job;
mod memory;
#[cfg(feature = "process")]
pub mod process;

pub use environment::environment;
pub use memory::InMemoryAction;

/// Something that can be started, in two steps: a run is registered, and only when the state names it, it is released.
///
/// # Contract
///
/// - `register` is durable and idempotent in the [`RunKey`]: of one key there is at most one run at a time. It starts nothing.
/// - `release` starts a registered run, or lets it wait for its turn; a run starts at most once, however often it is released.
/// - `get` and `unfinished` are consistent readings, never a cache, and tell what was registered.
/// - A run does not vanish before it has begun. When somebody else deletes it, it is there as [`RunPhase::Deleted`](crate::RunPhase) until it is
///   stopped. So a run that is gone has begun, or was stopped.
/// - `withdraw` takes from a run that has not begun the chance to: from then on it is there as deleted. It loses against `release`, or wins, and
///   nothing in between.
/// - `stop` ends a run and removes it; one that is gone already is no error. A stopped run may be there for a while.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Action: Send + Sync {
    /// Which action this is.
    fn id(&self) -> &ObjectRef;

    /// In which queue its runs wait for their turn: where one has found no room, a younger one of the same queue is not asked whether it
    /// finds some. Actions that share their slots share a queue, by the same text; by default an action has one of its own.
    fn queue(&self) -> String {
        self.id().to_string()
    }

    /// Makes a run known, durably, without starting it.
    async fn register(&self, run: &RunRequest) -> Result<Registered, ActionError>;

    /// Lets a registered run begin.
    async fn release(&self, run: &RunRef) -> Result<Released, ActionError>;

    /// How far a run is; None when there is no such run any more.
    async fn get(&self, run: &RunRef) -> Result<Option<RunStatus>, ActionError>;

    /// All runs of a trigger that exist and have not ended, of this action or another of its kind: those that wait, those that go on, and
    /// those that were deleted before they began. It should take no longer however many have ended.
    async fn unfinished(&self, of: &TriggerId) -> Result<Vec<RunStatus>, ActionError>;

    /// Keeps a registered run from ever beginning, without removing it.
    async fn withdraw(&self, run: &RunRef) -> Result<Withdrawn, ActionError>;

    /// Ends a run and removes it.
    async fn stop(&self, run: &RunRef) -> Result<(), ActionError>;
}

/// What `register` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// The run is registered as asked.
    New(RunRef),
    /// A run of this key was there already; this is what was registered then.
    Existing(Box<RunStatus>),
    /// A run of this key is there, and on its way out: to be tried again.
    Deleting,
}

/// What `release` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// The run has begun, now or earlier; from now on it is never listed as waiting.
    Begun,
    /// It has its turn and is being prepared. It begins by itself, but if it is still listed as waiting later, it is to be released again.
    Preparing,
    /// It waits for its turn, and is to be released again.
    Waiting,
    /// There is no such run, or it was deleted before it began.
    Gone,
}

/// What `withdraw` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// The run never begins; it is listed as deleted.
    NeverBegins,
    /// The run has begun, or is gone.
    TooLate,
}

/// Why an action cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// Something of another owner has the name of the run.
    #[error("`{name}` is there already and does not belong to {owner}: rename or remove it", name = .0.name(), owner = .0.trigger)]
    NotOurs(Box<RunKey>),
    /// What is asked for cannot be run as it stands.
    #[error("{0}")]
    Invalid(String),
    /// What is asked for is refused for now: a right is missing, a quota is used up, or a policy is against it.
    #[error("{0}")]
    Forbidden(String),
    /// Runs cannot be read or written now.
    #[error("runs cannot be read or written: {0}")]
    Unavailable(#[source] Cause),
}

impl ActionError {
    /// Why, as a constant.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotOurs(_) => Reason::NotOurs,
            Self::Invalid(_) => Reason::InvalidSpec,
            Self::Forbidden(_) => Reason::Forbidden,
            Self::Unavailable(_) => Reason::Unreachable,
        }
    }

    /// Whether to try again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Invalid(_) => Retry::Never,
            Self::NotOurs(_) | Self::Forbidden(_) | Self::Unavailable(_) => Retry::Backoff,
        }
    }
}
