//! Which files of a repository are watched: patterns in the syntax of `.gitignore`.

use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt as _, path::Path};

use ignore::{
    Match,
    gitignore::{Gitignore, GitignoreBuilder, Glob},
};
use sha2::{Digest as _, Sha256};

use crate::Watch;

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

impl Watch {
    /// Whether one of these paths of files is among what is watched. All are, if there are no patterns, or none that can be used.
    pub fn is_any_watched<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> bool {
        let Some(patterns) = Patterns::new(&self.files).ok().filter(|_| !self.files.is_empty()) else { return true };
        paths.into_iter().any(|path| {
            let folders = path.match_indices('/').map(|(end, _)| &path.as_bytes()[..end]);
            let of_folder = folders.fold(Verdict::default(), |verdict, folder| patterns.judge(folder, true, verdict));
            // What changed may be a submodule, which counts as a folder, and nobody has said so.
            [false, true].iter().any(|is_folder| patterns.judge(path.as_bytes(), *is_folder, of_folder).is_included)
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these paths match; a path that ends with a slash is that of an empty folder, such as one of a submodule.
    fn matching(patterns: &[&str], paths: &[&str]) -> Vec<String> {
        let patterns: Vec<_> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let patterns = Patterns::new(&patterns).unwrap();
        let matches = |path: &&str| {
            let parents = path.trim_end_matches('/').match_indices('/');
            let verdict = parents.fold(Verdict::default(), |verdict, (end, _)| patterns.judge(&path.as_bytes()[..end], true, verdict));
            patterns.judge(path.trim_end_matches('/').as_bytes(), path.ends_with('/'), verdict).is_included
        };
        paths.iter().copied().filter(matches).map(str::to_owned).collect()
    }

    #[test]
    fn patterns_are_those_of_gitignore() {
        let paths = ["a.md", "docs/a.md", "docs/b/c.md", "docs/b/d", "charts/app/values.yaml", "src/docs/x", "vendor/", "#x", "!y", "a b"];
        for (patterns, expected) in [
            (["*.md"].as_slice(), ["a.md", "docs/a.md", "docs/b/c.md"].as_slice()),
            (&["/*.md"], &["a.md"]),
            (&["docs"], &["docs/a.md", "docs/b/c.md", "docs/b/d", "src/docs/x"]),
            (&["/docs/"], &["docs/a.md", "docs/b/c.md", "docs/b/d"]),
            (&["docs/*"], &["docs/a.md", "docs/b/c.md", "docs/b/d"]),
            (&["docs/*.md"], &["docs/a.md"]),
            (&["docs/**/*.md"], &["docs/a.md", "docs/b/c.md"]),
            (&["**/b/**"], &["docs/b/c.md", "docs/b/d"]),
            (&["charts/**/values.yaml", "d"], &["docs/b/d", "charts/app/values.yaml"]),
            (&["vendor/"], &["vendor/"]),
            (&["[a-b].md"], &["a.md", "docs/a.md"]),
            (&["?.md"], &["a.md", "docs/a.md", "docs/b/c.md"]),
            (&[r"\#x", r"\!y", "a b  "], &["#x", "!y", "a b"]),
            (&["/{a.md,docs/b}"], &["a.md", "docs/b/c.md", "docs/b/d"]),
            (&["A.MD"], &[]),
        ] {
            assert_eq!(matching(patterns, &paths), expected, "{patterns:?}");
        }
    }

    #[test]
    fn the_last_one_wins_be_it_for_the_file_or_for_a_folder() {
        let paths = ["a.md", "docs/a.md", "docs/b/c.md", "docs/b/d"];
        for (patterns, expected) in [
            (["*.md", "!docs/"].as_slice(), ["a.md"].as_slice()),
            (&["!docs/", "*.md"], &["a.md", "docs/a.md", "docs/b/c.md"]),
            (&["docs/", "!b/", "c.md"], &["docs/a.md", "docs/b/c.md"]),
            (&["*", "!*.md"], &["docs/b/d"]),
            (&["*", "!docs/b/**", "docs/b/d"], &["a.md", "docs/a.md", "docs/b/d"]),
            (&["!a.md", "a.md", "!a.md"], &[]),
        ] {
            assert_eq!(matching(patterns, &paths), expected, "{patterns:?}");
        }
    }

    #[test]
    fn names_that_are_not_utf_8_or_not_names_at_all_are_judged_too() {
        let patterns = Patterns::new(&["*.md".to_owned(), "a?".to_owned()]).unwrap();
        for (path, expected) in [
            (b"\xff.md".as_slice(), true),
            (b"a\xff", true),
            (b"\xff", false),
            (b"./x.md", true),
            (b"../x.md", true),
            (b".", false),
            (b"..", false),
            (b"", false),
            (b"/", false),
            (b"//x.md", true),
        ] {
            assert_eq!(patterns.judge(path, false, Verdict::default()).is_included, expected, "{path:?}");
        }
    }

    #[test]
    fn paths_that_somebody_names_are_judged_with_their_folders() {
        let watched = |patterns: &[&str], paths: &[&str]| {
            let files = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
            Watch { files, ..Watch::new(crate::Reference::Branch("main".to_owned())) }.is_any_watched(paths.iter().copied())
        };
        assert!(watched(&["/charts/"], &["README.md", "charts/app/values.yaml"]));
        assert!(watched(&["vendor/"], &["libs/vendor"]), "it may be a submodule");
        assert!(watched(&["*.md"], &["docs/a.md"]));
        assert!(!watched(&["/charts/", "!*.md"], &["README.md", "charts/README.md", "src/charts/x"]));
        assert!(!watched(&["*.md"], &[]));
        assert!(watched(&[], &[]) && watched(&[], &["x"]), "all files are watched");
        assert!(watched(&["!x"], &["y"]), "it cannot be used");
    }

    #[test]
    fn every_list_that_passes_the_check_can_be_used() {
        let longest = |pattern: &str| vec![pattern.repeat(1024 / pattern.len()); 32];
        for pattern in ["?", "*", "[a-z]", "[!a-zü]", "{a,b}", "{a,{b,*}}", "**/", "a*", "ü", r"\*", "*?", "[[:alpha:]]", "{,a}"] {
            let list = longest(pattern);
            check(&list).unwrap();
            Patterns::new(&list).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        }
    }
}
