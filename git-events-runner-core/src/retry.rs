//! What the errors of every port have in common: why, for machines, and whether to try again.

use std::{fmt, time::Duration};

use serde::Serialize;

/// When to try again after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not before something is changed by hand.
    Never,
    /// Later, and later still if it fails again.
    Backoff,
    /// Not earlier than this from now: the other side said so.
    After(Duration),
}

impl Retry {
    /// How long to wait where one's own back-off is this: that, or longer if the other side asked for it.
    pub fn wait(self, backoff: Duration) -> Duration {
        if let Self::After(asked) = self { asked.max(backoff) } else { backoff }
    }
}

macro_rules! reasons {
    ($(#[doc = $doc:literal] $name:ident,)*) => {
        /// Why something failed or waits, as a constant: one set, shared by conditions, Events and the labels of metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[non_exhaustive]
        pub enum Reason {
            $(#[doc = $doc] $name,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

reasons! {
    /// The specification leaves open how those who ask prove who they are.
    AuthenticationRequired,
    /// The other side refused the credentials, or asked for some where none are configured.
    AuthenticationFailed,
    /// The server's certificate is not trusted, or not valid for its name or time.
    CertificateInvalid,
    /// Somebody else has written in between.
    Conflict,
    /// There is no room left on the disk.
    DiskFull,
    /// What is asked for is refused: a right is missing, a quota is used up, or a policy is against it.
    Forbidden,
    /// There is no room for one more.
    Full,
    /// The key of the SSH host is not the known one, or not known at all.
    HostKeyMismatch,
    /// Something is missing or wrong in a specification.
    InvalidSpec,
    /// The other side answered, but not as its protocol says.
    ProtocolError,
    /// The other side sends more than is accepted.
    TooLarge,
    /// The other side asked for fewer requests.
    RateLimited,
    /// There is no such object.
    NotFound,
    /// A file or folder cannot be written.
    NotWritable,
    /// An object of that name is there, and it belongs to somebody else.
    NotOurs,
    /// There is no such branch, tag or commit.
    ReferenceNotFound,
    /// There is no such repository, or it is hidden from these credentials.
    RepositoryNotFound,
    /// A Secret or a key in it is missing.
    SecretNotFound,
    /// It took too long.
    Timeout,
    /// The other side cannot be reached, or is not able to answer now.
    Unreachable,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An underlying error of whatever library an implementation uses.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;
