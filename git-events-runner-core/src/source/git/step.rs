use std::{fmt, sync::Arc};

use crate::CommitId;

/// What a checkout tells of itself on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A commit is asked for.
    Fetch {
        /// Which submodule it is of, by its path; None for the repository itself.
        submodule: Option<String>,
        /// Where the repository is.
        uri: String,
        /// The commit.
        commit: CommitId,
    },
    /// Some of it has come.
    Received {
        /// How much, in all.
        bytes: u64,
    },
    /// It has come, and its files are being written.
    Write,
    /// Its files are written.
    Written {
        /// How many.
        files: u64,
        /// How much.
        bytes: u64,
        /// How many of them only point to content that Git LFS keeps elsewhere. They are left as they are.
        lfs_pointers: u64,
    },
}

/// Who is told; nobody, by default.
#[derive(Clone, Default)]
pub(super) struct Listener(pub(super) Option<Arc<dyn Fn(Step) + Send + Sync>>);

impl Listener {
    pub(super) fn tell(&self, step: Step) {
        if let Some(listener) = &self.0 {
            listener(step);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
