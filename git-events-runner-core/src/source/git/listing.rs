//! The files of a commit: its trees become an index, within limits.

use git2::{Index, IndexEntry, IndexTime, ObjectType, Odb, Oid, TreeEntry};

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
    let mut listing = Listing { git, odb, index, limits, cancelled, count: 0, bytes: 0, files: 0 };
    listing.add(tree, &mut vec![], 0)?;
    if listing.files == listing.index.len() { Ok(()) } else { Err(malformed("it has two files of the same name")) }
}

struct Listing<'a> {
    git: &'a git2::Repository,
    odb: Odb<'a>,
    index: &'a mut Index,
    limits: &'a Limits,
    cancelled: &'a Cancelled,
    count: u64,
    bytes: u64,
    files: usize,
}

impl Listing<'_> {
    /// Adds what is in the folder of this path, which ends with `/` if it is not the top.
    fn add(&mut self, tree: Oid, path: &mut Vec<u8>, depth: usize) -> Result<(), Failure> {
        self.cancelled.check()?;
        for entry in self.git.find_tree(tree).map_err(Failure::Broken)?.iter() {
            self.count += 1;
            if self.count > self.limits.file_count {
                return Err(Failure::TooLarge("more files in the commit", self.limits.file_count));
            }
            if entry.name_bytes().is_empty() || entry.name_bytes().contains(&b'/') {
                return Err(malformed("it has a file without a name, or with a `/` in it"));
            }
            let folder = path.len();
            path.extend_from_slice(entry.name_bytes());
            if entry.kind() == Some(ObjectType::Tree) {
                if depth == MAX_DEPTH {
                    return Err(Failure::TooLarge("folders nested deeper", MAX_DEPTH as u64));
                }
                path.push(b'/');
                self.add(entry.id(), path, depth + 1)?;
            } else {
                self.add_file(&entry, path)?;
            }
            path.truncate(folder);
        }
        Ok(())
    }

    fn add_file(&mut self, entry: &TreeEntry<'_>, path: &[u8]) -> Result<(), Failure> {
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
        self.files += 1;
        self.index.add(&entry).map_err(Failure::Broken)
    }
}

fn malformed(what: &str) -> Failure {
    Failure::Broken(git2::Error::from_str(what))
}
