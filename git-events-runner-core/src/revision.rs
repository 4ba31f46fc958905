//! What is watched, and what was seen there.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// The id of a commit: 20 bytes, written as 40 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId([u8; 20]);

/// A text is not the id of a commit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a commit is 40 hexadecimal digits, not `{0}`")]
pub struct NotACommitId(String);

impl CommitId {
    /// An id from its bytes.
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// An id for any content (its SHA-256, cut to 20 bytes), for sources that are not Git.
    pub fn digest_of(content: impl AsRef<[u8]>) -> Self {
        let mut id = [0; 20];
        id.copy_from_slice(&Sha256::digest(content)[..20]);
        Self(id)
    }
}

impl FromStr for CommitId {
    type Err = NotACommitId;

    fn from_str(text: &str) -> Result<Self, NotACommitId> {
        let not_an_id = || NotACommitId(text.chars().take(64).collect());
        let digits = text.as_bytes();
        if digits.len() != 40 {
            return Err(not_an_id());
        }
        let digit = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or_else(not_an_id);
        let mut id = [0; 20];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(id))
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for CommitId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CommitId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What in a repository is watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reference {
    /// The tip of a branch, by its short name (`main`).
    Branch(String),
    /// A tag, by its short name; an annotated tag counts as the commit it points at.
    Tag(String),
    /// One commit, which never changes.
    Commit(CommitId),
}

impl Reference {
    /// `branch`, `tag` or `commit`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Branch(_) => "branch",
            Self::Tag(_) => "tag",
            Self::Commit(_) => "commit",
        }
    }

    /// The name of the branch or tag, or the commit's id.
    pub fn name(&self) -> String {
        match self {
            Self::Branch(name) | Self::Tag(name) => name.clone(),
            Self::Commit(id) => id.to_string(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

/// A commit, and the reference it was seen at: what a run checks out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Revision {
    /// Where the commit was seen.
    pub reference: Reference,
    /// The commit itself, exactly.
    pub commit: CommitId,
}

/// What a trigger wants to know of a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Watch {
    /// The branch, tag or commit.
    pub reference: Reference,
    /// Patterns in `.gitignore` syntax; empty: every change counts.
    pub files: Vec<String>,
}

impl Watch {
    /// Watches all files.
    pub fn new(reference: Reference) -> Self {
        Self { reference, files: vec![] }
    }
}

/// What a check saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The commit that the reference points at.
    pub commit: CommitId,
    /// The id of an annotated tag's own object, by which a trigger's state may know the same commit.
    pub tag: Option<CommitId>,
    /// The files that match the patterns of the [`Watch`]; None exactly when it has no patterns.
    pub files: Option<FilesDigest>,
}

impl Observation {
    /// Whether the reference points at this commit, be it named by its own id or by that of an annotated tag.
    pub fn is_at(&self, id: CommitId) -> bool {
        self.commit == id || self.tag == Some(id)
    }
}

/// A digest of the files that match the patterns of a [`Watch`]: of their paths, modes and contents.
///
/// Two digests say something about the files only when their `patterns` are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesDigest {
    /// A digest of the patterns and of the way the digest of the files is made.
    pub patterns: String,
    /// The digest of the files; None when no file matches.
    pub files: Option<String>,
}
