//! A run: one start of an action, for one commit of one source.

use std::{collections::BTreeSet, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{CommitId, ConcurrencyPolicy, FilesDigest, ObjectRef, Reference, RequestId, Revision, TriggerId};

/// What makes a run the same run, whoever starts it and however often.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunKey {
    /// Whose run it is.
    pub trigger: TriggerId,
    /// Which source fired.
    pub source: ObjectRef,
    /// What was watched there.
    pub reference: Reference,
    /// How many runs of this source came before.
    pub sequence: u64,
}

impl RunKey {
    /// The name of the run: the trigger's, cut to 52 characters, and ten characters of a hash of the whole key.
    /// It is a valid name of a Job, and its Pods' label values, for every valid name of a trigger.
    pub fn name(&self) -> String {
        let mut hash = Sha256::new();
        let (kind, name) = (self.reference.kind(), self.reference.name());
        for part in [&self.trigger.uid, &self.source.kind, &self.source.name, kind, &name] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(self.sequence.to_be_bytes());
        let prefix: String = self.trigger.name.chars().take(52).collect();
        format!("{}-{}", prefix.trim_end_matches(['-', '.']), short_hash(hash))
    }
}

/// Ten characters of a hash, as the end of a name.
pub(crate) fn short_hash(hash: Sha256) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    hash.finalize()[..10].iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

/// Everything that has to be known to run, and that is kept with the run from the moment it is registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRequest {
    /// Which run this is.
    pub key: RunKey,
    /// What to start.
    pub action: ObjectRef,
    /// The commit to check out; its reference is that of `key`.
    pub commit: CommitId,
    /// The commit of the run before; None for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<CommitId>,
    /// The files that matched the trigger's patterns, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesDigest>,
    /// When it fired: the instant of the schedule, or the receipt of the oldest request it serves. Runs wait in this order.
    pub instant: Timestamp,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// The instant of the schedule that this run serves, if it serves one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firing: Option<Timestamp>,
    /// The requests it serves.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub requests: BTreeSet<RequestId>,
    /// The one request ([`RequestId::scheduled`] for the firing) that it runs for even if nothing has changed; None: it runs for a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed_to: Option<RequestId>,
    /// What to do with an unfinished run of the same source.
    pub concurrency: ConcurrencyPolicy,
}

impl RunRequest {
    /// A run that is registered when it fires, for a commit and nothing else: no run before it, no request, and any number at a time.
    pub fn new(key: RunKey, action: ObjectRef, commit: CommitId, instant: Timestamp) -> Self {
        Self {
            key,
            action,
            commit,
            previous: None,
            files: None,
            instant,
            registered_at: instant,
            firing: None,
            requests: BTreeSet::new(),
            owed_to: None,
            concurrency: ConcurrencyPolicy::Allow,
        }
    }

    /// What to check out.
    pub fn revision(&self) -> Revision {
        Revision { reference: self.key.reference.clone(), commit: self.commit }
    }
}

/// A registered run: its name, and which object of that name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunRef {
    /// [`RunKey::name`].
    pub name: String,
    /// Unique over time: a run that is deleted and registered again has another one.
    pub uid: String,
}

impl fmt::Display for RunRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunPhase {
    /// Registered, not yet begun.
    Waiting,
    /// Begun, not yet ended.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended otherwise.
    Failed,
    /// Deleted by somebody before it began: it never begins, and is there only to tell that.
    Deleted,
}

impl RunPhase {
    /// True when nothing more happens to it.
    pub fn is_finished(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }

    /// True when it is sure that it has not begun.
    pub fn has_not_begun(self) -> bool {
        matches!(self, Self::Waiting | Self::Deleted)
    }

    /// True when it has begun, and goes on no more.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// A run that exists, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStatus {
    /// Which run.
    pub run: RunRef,
    /// What was registered.
    pub request: RunRequest,
    /// How far it is.
    pub phase: RunPhase,
    /// When it ended, if it did.
    pub finished: Option<Timestamp>,
}

/// How the last run of a source ended, or how far it is, as kept in the trigger's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunResult {
    /// Registered, not yet begun.
    Waiting,
    /// Begun, not yet ended.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended otherwise.
    Failed,
    /// Waited longer for its start than it may.
    Expired,
    /// It is gone, and how it ended is not known.
    Deleted,
}

impl RunResult {
    /// True when nothing more happens to it.
    pub fn is_finished(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }
}

impl From<RunPhase> for RunResult {
    fn from(phase: RunPhase) -> Self {
        match phase {
            RunPhase::Waiting => Self::Waiting,
            RunPhase::Running => Self::Running,
            RunPhase::Succeeded => Self::Succeeded,
            RunPhase::Failed => Self::Failed,
            RunPhase::Deleted => Self::Deleted,
        }
    }
}
