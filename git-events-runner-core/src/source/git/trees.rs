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
        let (kind, data) = found.map_err(|failure| match failure {
            Failure::NotFound => Failure::Broken(format!("the folder {tree} is missing")),
            other => other,
        })?;
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

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Instant};

    use super::*;

    #[derive(Default)]
    struct Known(HashMap<CommitId, (ObjectType, Vec<u8>)>);

    impl Lookup for Known {
        fn object(&self, id: &CommitId) -> Result<(ObjectType, Cow<'_, [u8]>), Failure> {
            self.0.get(id).map(|(kind, data)| (*kind, Cow::Borrowed(data.as_slice()))).ok_or(Failure::NotFound)
        }
    }

    impl Known {
        fn add(&mut self, kind: ObjectType, data: Vec<u8>) -> CommitId {
            let id = CommitId::digest_of(&data);
            self.0.insert(id, (kind, data));
            id
        }

        fn tree(&mut self, entries: &[(&str, &[u8], CommitId)]) -> CommitId {
            self.add(ObjectType::Tree, tree(entries))
        }

        fn commit(&mut self, tree: CommitId) -> CommitId {
            self.add(ObjectType::Commit, format!("tree {tree}\nauthor x\n\na commit\n").into_bytes())
        }

        fn digest(&self, commit: CommitId, patterns: &[&str]) -> Result<Option<[u8; 32]>, Failure> {
            let patterns: Vec<_> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
            digest(self, &commit, &Patterns::new(&patterns).unwrap(), 1000, &Cancelled::default())
        }
    }

    fn tree(entries: &[(&str, &[u8], CommitId)]) -> Vec<u8> {
        let lines = entries.iter().map(|(mode, name, id)| [mode.as_bytes(), b" ", name, b"\0", id.as_bytes()].concat());
        lines.collect::<Vec<_>>().concat()
    }

    fn blob(content: &str) -> CommitId {
        CommitId::digest_of(content)
    }

    /// The digest of a commit with these files in a folder and one beside it.
    fn of_folder(entries: &[(&str, &[u8], CommitId)], patterns: &[&str]) -> Option<[u8; 32]> {
        let mut known = Known::default();
        let folder = known.tree(entries);
        let root = known.tree(&[("40000", b"a", folder), ("100644", b"z", blob("z"))]);
        let commit = known.commit(root);
        known.digest(commit, patterns).unwrap()
    }

    #[test]
    fn paths_modes_and_ids_count_and_nothing_else() {
        let file = ("100644", b"x".as_slice(), blob("1"));
        let of = |entry: (&str, &[u8], CommitId)| of_folder(&[entry], &["a/"]);
        let first = of(file).unwrap();
        let others = [
            ("100755", b"x".as_slice(), blob("1")),
            ("120000", b"x", blob("1")),
            ("160000", b"x", blob("1")),
            ("100644", b"y", blob("1")),
            ("100644", b"\xff", blob("1")),
            ("100644", b"x", blob("2")),
        ];
        let mut digests: Vec<_> = others.map(|entry| of(entry).unwrap()).into();
        digests.push(first);
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), 7);
        assert_eq!(of_folder(&[("100644", b"w", blob("w")), file], &["a/x"]), Some(first));
        assert_eq!(of_folder(&[file], &["x"]), Some(first));
        assert_eq!(of_folder(&[file], &["y"]), None);
        assert_eq!(of_folder(&[], &["a"]), None, "a folder by itself is no file");
    }

    #[test]
    fn a_submodule_counts_as_a_folder_with_its_commit() {
        let submodule = ("160000", b"lib".as_slice(), blob("1"));
        assert!(of_folder(&[submodule], &["lib/"]).is_some());
        assert!(of_folder(&[("100644", b"lib", blob("1"))], &["lib/"]).is_none());
        assert_ne!(of_folder(&[submodule], &["lib/"]), of_folder(&[("160000", b"lib", blob("2"))], &["lib/"]));
    }

    #[test]
    fn a_tag_stands_for_its_commit() {
        let mut known = Known::default();
        let root = known.tree(&[("100644", b"x", blob("1"))]);
        let commit = known.commit(root);
        let expected = known.digest(commit, &["x"]).unwrap();
        assert!(expected.is_some());
        let mut tag = commit;
        for count in 0..=MAX_TAGS {
            assert_eq!(known.digest(tag, &["x"]).unwrap(), expected, "{count} tags");
            tag = known.add(ObjectType::Tag, format!("object {tag}\ntype commit\n").into_bytes());
        }
        assert_eq!(known.digest(tag, &["x"]), Err(Failure::TooLarge("more tags of tags", 16)));
        assert_eq!(known.digest(blob("unknown"), &["x"]), Err(Failure::NotFound));
        assert_eq!(known.digest(root, &["x"]), Err(Failure::NotFound), "a tree is no commit");
    }

    #[test]
    fn a_few_folders_that_stand_for_billions_of_files_are_too_large() {
        let mut known = Known::default();
        let mut folder = known.tree(&[("100644", b"x", blob("1"))]);
        for _ in 0..30 {
            folder = known.tree(&[("40000", b"a", folder), ("40000", b"b", folder), ("40000", b"c", folder)]);
        }
        let commit = known.commit(folder);
        let begun = Instant::now();
        for pattern in ["x", "y", "a/", "/b"] {
            assert_eq!(known.digest(commit, &[pattern]), Err(Failure::TooLarge("more files in the commit", 1000)));
        }
        assert!(begun.elapsed().as_secs() < 5);
    }

    #[test]
    fn a_folder_within_itself_ends_where_paths_are_too_long() {
        let mut known = Known::default();
        let id = blob("itself");
        known.0.insert(id, (ObjectType::Tree, tree(&[("40000", &[b'a'; 10], id)])));
        let commit = known.commit(id);
        assert_eq!(known.digest(commit, &["x"]), Err(Failure::TooLarge("a longer path in the commit", 4096)));
    }

    #[test]
    fn what_is_broken_is_said() {
        let good = tree(&[("100644", b"x", blob("1"))]);
        let mut trees =
            vec![b"".to_vec(), b"x".to_vec(), b"100644 x".to_vec(), b" x\0".to_vec(), b"10z644 x\0".to_vec(), b"100644 \0".to_vec()];
        trees = trees.into_iter().map(|head| [head.as_slice(), &[b'a'; 20]].concat()).collect();
        trees.push(tree(&[("100644", b"a/b", blob("1"))]));
        trees.push(tree(&[("100644", b"", blob("1"))]));
        trees.push(tree(&[("000000000100644", b"x", blob("1"))]));
        trees.push(good[..good.len() - 1].to_vec());
        trees.push([good.as_slice(), b"1"].concat());
        for tree in trees {
            let mut known = Known::default();
            let root = known.add(ObjectType::Tree, tree.clone());
            let commit = known.commit(root);
            let found = known.digest(commit, &["*"]);
            assert!(matches!(&found, Err(Failure::Broken(why)) if why.ends_with("is malformed")), "{tree:?}: {found:?}");
        }
        let mut known = Known::default();
        let commit = known.commit(blob("missing"));
        assert!(matches!(known.digest(commit, &["*"]), Err(Failure::Broken(why)) if why.ends_with("is missing")));
        let commit = known.commit(commit);
        assert!(matches!(known.digest(commit, &["*"]), Err(Failure::Broken(why)) if why.ends_with("is a commit")));
        let commit = known.add(ObjectType::Commit, b"tree 1234\n".to_vec());
        assert_eq!(known.digest(commit, &["*"]), Err(Failure::Broken("a commit without a tree".to_owned())));
    }

    #[test]
    fn a_comparison_that_nobody_waits_for_ends() {
        let mut known = Known::default();
        let root = known.tree(&[("100644", b"x", blob("1"))]);
        let commit = known.commit(root);
        let patterns = Patterns::new(&["x".to_owned()]).unwrap();
        assert_eq!(digest(&known, &commit, &patterns, 1000, &Cancelled::yes()), Err(Failure::Cancelled));
    }
}
