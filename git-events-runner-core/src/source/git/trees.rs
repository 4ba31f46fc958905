//! The files of a commit that match patterns, as its trees name them.

use std::borrow::Cow;

use git2::ObjectType;
use sha2::{Digest as _, Sha256};

use super::{refs::object_id, store::Cancelled};
use crate::{
    CommitId,
    patterns::{Patterns, Verdict},
};

/// The longest path, in bytes, which Linux has as well. It bounds how deep folders nest.
const MAX_PATH: usize = 4096;

/// How many tags may stand between a name and its commit.
const MAX_TAGS: usize = 16;

const FOLDER: u32 = 0o040_000;
const SUBMODULE: u32 = 0o160_000;

/// Why the files of a commit are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Cancelled,
    /// There is no such commit.
    NotFound,
    /// What the limit is of, and how high it is.
    TooLarge(&'static str, u64),
    /// What is wrong with what came.
    Broken(String),
    /// Others have all the memory that there is for this.
    Busy,
}

/// Where commits, tags and trees are found.
pub(super) trait Lookup {
    /// The object of this id.
    fn object(&self, id: &CommitId) -> Result<(ObjectType, Cow<'_, [u8]>), Failure>;
}

/// A digest of the files that match: of their paths, modes and ids, in the order of the tree. None if none does.
pub(super) fn digest(
    objects: &dyn Lookup,
    commit: &CommitId,
    patterns: &Patterns,
    max_count: u64,
    cancelled: &Cancelled,
) -> Result<Option<[u8; 32]>, Failure> {
    let tree = root(objects, commit)?;
    let mut walk = Walk { objects, patterns, max_count, cancelled, path: vec![], count: 0, found: None };
    walk.folder(&tree, Verdict::default())?;
    Ok(walk.found.map(|found| found.finalize().into()))
}

/// The tree of a commit, or of the commit that a tag stands for.
fn root(objects: &dyn Lookup, commit: &CommitId) -> Result<CommitId, Failure> {
    let mut id = *commit;
    for _ in 0..=MAX_TAGS {
        let (kind, data) = objects.object(&id)?;
        let named = |field: &[u8]| data.strip_prefix(field).and_then(|rest| object_id(rest.get(..40)?).ok());
        id = match kind {
            ObjectType::Commit => return named(b"tree ").ok_or_else(|| Failure::Broken("a commit without a tree".to_owned())),
            ObjectType::Tag => named(b"object ").ok_or_else(|| Failure::Broken("a tag of nothing".to_owned()))?,
            _ => return Err(Failure::NotFound),
        };
    }
    Err(Failure::TooLarge("more tags of tags", MAX_TAGS as u64))
}

struct Walk<'a> {
    objects: &'a dyn Lookup,
    patterns: &'a Patterns,
    max_count: u64,
    cancelled: &'a Cancelled,
    path: Vec<u8>,
    /// Files and folders; those that are in several places count as often.
    count: u64,
    found: Option<Sha256>,
}

impl Walk<'_> {
    /// Goes through a folder. Paths are limited, and so is how deep this calls itself.
    fn folder(&mut self, tree: &CommitId, verdict: Verdict) -> Result<(), Failure> {
        let found = self.objects.object(tree);
        let (kind, data) = found.map_err(|failure| if failure == Failure::NotFound { missing(tree) } else { failure })?;
        if kind != ObjectType::Tree {
            return Err(Failure::Broken(format!("{tree}, which should be a folder, is a {kind}")));
        }
        let (mut rest, length) = (&*data, self.path.len());
        while !rest.is_empty() {
            self.cancelled.check().map_err(|_| Failure::Cancelled)?;
            let entry;
            (entry, rest) = Entry::parse(rest).ok_or_else(|| Failure::Broken(format!("the folder {tree} is malformed")))?;
            self.count += 1;
            self.path.extend_from_slice(entry.name);
            if self.count > self.max_count {
                return Err(Failure::TooLarge("more files in the commit", self.max_count));
            }
            if self.path.len() > MAX_PATH {
                return Err(Failure::TooLarge("a longer path in the commit", MAX_PATH as u64));
            }
            let verdict = self.patterns.judge(&self.path, matches!(entry.mode, FOLDER | SUBMODULE), verdict);
            if entry.mode == FOLDER {
                self.path.push(b'/');
                self.folder(&entry.id, verdict)?;
            } else if verdict.is_included {
                let found = self.found.get_or_insert_default();
                found.update(&self.path);
                found.update([0]);
                found.update(entry.mode.to_be_bytes());
                found.update(entry.id.as_bytes());
            }
            self.path.truncate(length);
        }
        Ok(())
    }
}

/// What is broken about a repository that lacks this object.
pub(super) fn missing(id: &CommitId) -> Failure {
    Failure::Broken(format!("{id} is missing"))
}

/// A line of a tree.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    mode: u32,
    name: &'a [u8],
    id: CommitId,
}

impl<'a> Entry<'a> {
    /// The first entry: its mode in octal digits, a space, its name, a zero byte, its id. Then what follows it.
    fn parse(tree: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let space = tree.iter().take(8).position(|byte| *byte == b' ')?;
        let mode = tree[..space].iter().try_fold(0, |mode, digit| Some(mode << 3 | char::from(*digit).to_digit(8)?))?;
        let rest = &tree[space + 1..];
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (name, (id, rest)) = (&rest[..end], rest[end + 1..].split_first_chunk::<20>()?);
        let is_name = space > 0 && !name.is_empty() && !name.contains(&b'/');
        is_name.then(|| (Self { mode, name, id: CommitId::from_bytes(*id) }, rest))
    }
}
