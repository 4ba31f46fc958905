//! The files of a commit: its trees become an index, within limits.

use git2::{Index, IndexEntry, IndexTime, ObjectType, Odb, Oid, Tree, TreeEntry};

use super::{
    Limits,
    store::{Cancelled, Failure},
};

/// How deep folders may nest: a path cannot be longer than 4096 bytes.
const MAX_DEPTH: usize = 2048;

/// Fills an empty index with the files of a tree, whose few kilobytes may stand for billions of files. Names that Git refuses, such as
/// `.git`, are refused.
pub(super) fn list(git: &git2::Repository, tree: Oid, index: &mut Index, limits: &Limits, cancelled: &Cancelled) -> Result<(), Failure> {
    let odb = git.odb().map_err(Failure::Broken)?;
    // They are looked at before any of them takes memory.
    let mut listing = Listing { git, odb, index: None, limits, cancelled, count: 0, bytes: 0 };
    listing.walk(tree)?;
    (listing.index, listing.count) = (Some((index, 0)), 0);
    listing.walk(tree)?;
    match listing.index {
        Some((index, added)) if added != index.len() => Err(malformed("it has two files of the same name")),
        _ => Ok(()),
    }
}

struct Listing<'a> {
    git: &'a git2::Repository,
    odb: Odb<'a>,
    /// What is filled, and how many files were added so far; None as long as the files are only measured.
    index: Option<(&'a mut Index, usize)>,
    limits: &'a Limits,
    cancelled: &'a Cancelled,
    count: u64,
    bytes: u64,
}

impl<'a> Listing<'a> {
    /// Goes through all folders, in the order of an index.
    fn walk(&mut self, top: Oid) -> Result<(), Failure> {
        let mut path = vec![];
        // The folders that are open: each with its next entry, and the length of its path.
        let mut open = vec![(self.folder(top)?, 0, 0)];
        while let Some((folder, next, length)) = open.last_mut() {
            path.truncate(*length);
            let Some(entry) = folder.get(*next).map(|entry| entry.to_owned()) else {
                open.pop();
                continue;
            };
            *next += 1;
            self.count(&entry)?;
            path.extend_from_slice(entry.name_bytes());
            if entry.kind() != Some(ObjectType::Tree) {
                self.add(&entry, &path)?;
            } else if open.len() > MAX_DEPTH {
                return Err(Failure::TooLarge("folders nested deeper", MAX_DEPTH as u64));
            } else {
                path.push(b'/');
                open.push((self.folder(entry.id())?, 0, path.len()));
            }
        }
        Ok(())
    }

    fn folder(&self, tree: Oid) -> Result<Tree<'a>, Failure> {
        self.cancelled.check()?;
        self.git.find_tree(tree).map_err(Failure::Broken)
    }

    fn count(&mut self, entry: &TreeEntry<'_>) -> Result<(), Failure> {
        self.count += 1;
        if self.count > self.limits.file_count {
            return Err(Failure::TooLarge("more files in the commit", self.limits.file_count));
        }
        if entry.name_bytes().is_empty() || entry.name_bytes().contains(&b'/') {
            return Err(malformed("it has a file without a name, or with a `/` in it"));
        }
        Ok(())
    }

    fn add(&mut self, entry: &TreeEntry<'_>, path: &[u8]) -> Result<(), Failure> {
        let Some((index, added)) = &mut self.index else { return self.measure(entry) };
        let unknown = IndexTime::new(0, 0);
        let entry = IndexEntry {
            ctime: unknown,
            mtime: unknown,
            dev: 0,
            ino: 0,
            // Of the modes that old versions of Git wrote, the one that it stands for.
            mode: entry.filemode().cast_unsigned(),
            uid: 0,
            gid: 0,
            file_size: 0,
            id: entry.id(),
            flags: 0,
            flags_extended: 0,
            path: path.to_vec(),
        };
        *added += 1;
        index.add(&entry).map_err(Failure::Broken)
    }

    fn measure(&mut self, entry: &TreeEntry<'_>) -> Result<(), Failure> {
        if entry.kind() == Some(ObjectType::Blob) {
            let size = self.odb.read_header(entry.id()).map_err(Failure::Broken)?.0 as u64;
            if size > self.limits.file {
                return Err(Failure::TooLarge("a larger file", self.limits.file));
            }
            self.bytes = self.bytes.saturating_add(size);
        }
        if self.bytes > self.limits.files {
            return Err(Failure::TooLarge("more bytes of files", self.limits.files));
        }
        Ok(())
    }
}

fn malformed(what: &str) -> Failure {
    Failure::Broken(git2::Error::from_str(what))
}
