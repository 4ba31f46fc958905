//! Which files of a repository are watched: patterns in the syntax of `.gitignore`.

use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt as _, path::Path};

use ignore::{
    Match,
    gitignore::{Gitignore, GitignoreBuilder, Glob},
};
use sha2::{Digest as _, Sha256};

/// The most bytes that all patterns of a list have together: each file of a repository is compared with all of them.
const MAX_BYTES: usize = 32 * 1024;

/// A list of patterns cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPatterns(String);

/// A list of patterns: one that includes or excludes a file, or one of its folders, wins over those before it.
///
/// It differs from Git's own in two ways. A file can be included again although its folder is excluded; and so that this is the same in both
/// directions, a folder's pattern wins over an earlier one that names the file. And `{a,b}` stands for either.
pub struct Patterns {
    rules: Gitignore,
    count: usize,
}

/// What the patterns say of a file or folder: the number of the one that decides, from 1, and whether it includes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    rule: usize,
    pub is_included: bool,
}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patterns").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Patterns {
    /// Reads a list.
    pub fn new(patterns: &[String]) -> Result<Self, InvalidPatterns> {
        let rules = read(patterns)?.build().map_err(|error| InvalidPatterns(format!("they are too much together: {}", why(error))))?;
        Ok(Self { rules, count: patterns.len() })
    }

    /// What they say of a path, whose folder has been judged before.
    pub fn judge(&self, path: &[u8], is_folder: bool, of_folder: Verdict) -> Verdict {
        // No pattern comes after the last one.
        if of_folder.rule == self.count {
            return of_folder;
        }
        let (glob, is_included) = match self.rules.matched(Path::new(OsStr::from_bytes(path)), is_folder) {
            Match::None => return of_folder,
            Match::Ignore(glob) => (glob, true),
            Match::Whitelist(glob) => (glob, false),
        };
        let rule = number(glob);
        if rule < of_folder.rule { of_folder } else { Verdict { rule, is_included } }
    }
}

/// Sees that a list can be used, at less cost than reading it for use.
#[cfg(feature = "crd")]
pub fn check(patterns: &[String]) -> Result<(), InvalidPatterns> {
    if patterns.is_empty() { Ok(()) } else { read(patterns).map(drop) }
}

/// A digest of the patterns, as they are written.
#[cfg(feature = "git")]
pub fn digest(patterns: &[String]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for pattern in patterns {
        hash.update((pattern.len() as u64).to_be_bytes());
        hash.update(pattern);
    }
    hash.finalize().into()
}

fn read(patterns: &[String]) -> Result<GitignoreBuilder, InvalidPatterns> {
    let bytes: usize = patterns.iter().map(String::len).sum();
    if bytes > MAX_BYTES {
        return Err(InvalidPatterns(format!("they have {bytes} bytes together, where {MAX_BYTES} are accepted")));
    }
    let mut builder = GitignoreBuilder::new("");
    for (index, pattern) in patterns.iter().enumerate() {
        let invalid = |why: &str| InvalidPatterns(format!("files[{index}] {why}"));
        if let Some(mistake) = mistake(pattern) {
            return Err(invalid(mistake));
        }
        // Which of two comes later is known by where they come from: that is their number.
        let added = builder.add_line(Some((index + 1).to_string().into()), pattern);
        added.map_err(|error| invalid(&format!("cannot be read: {}", why(error))))?;
    }
    if patterns.iter().all(|pattern| pattern.starts_with('!')) {
        return Err(InvalidPatterns("they only exclude, so that no file matches: begin with one that includes, such as `*`".to_owned()));
    }
    Ok(builder)
}

/// What in a file of Git would be skipped, and is a mistake here.
fn mistake(pattern: &str) -> Option<&'static str> {
    let rest = pattern.strip_prefix('!').unwrap_or(pattern);
    if pattern.contains(['\n', '\r']) {
        Some("has a line end: write one pattern an item")
    } else if pattern.starts_with('#') {
        Some("begins with #, as comments do: write \\# for a name that does so")
    } else if rest.trim_end_matches(' ').trim_start_matches('/').is_empty() {
        Some("is empty: write `*` for all files")
    } else {
        None
    }
}

fn number(glob: &Glob) -> usize {
    glob.from().and_then(|from| from.to_str()?.parse().ok()).unwrap_or_default()
}

fn why(error: ignore::Error) -> String {
    match error {
        ignore::Error::Glob { err, .. } => err,
        other => other.to_string(),
    }
}
