//! Random patterns over random files, beside what git says of each.

use std::{collections::BTreeSet, fs};

use git_events_runner_core::CommitId;
use git_events_runner_tests::{GitRepo, Random};

use super::{local, of_commit};

const NAMES: [&str; 12] = ["a", "b", "ab", "a.md", "b.md", "docs", "x y", "ü", "[a]", "-", ".a", "A"];

/// What patterns are made of. Braces are not among them: there `{a,b}` is either of both, and in Git it is itself.
const PARTS: [&str; 22] = [
    "a", "b", "ab", "a.md", "docs", "*", "?", "*.md", "**", "[ab]", "[!a]*", "[a-z]?", ".*", "x\\ y", "\\[a]", "ü", "A", "b*", "*b", "-",
    "a*b", "???",
];

const ROUNDS: usize = 25;

fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.below(from.len())]
}

fn path(random: &mut Random) -> String {
    let depth = 1 + random.below(4);
    (0..depth).map(|_| pick(random, &NAMES)).collect::<Vec<_>>().join("/")
}

fn pattern(random: &mut Random) -> String {
    let depth = 1 + [0, 0, 0, 1, 1, 2][random.below(6)];
    let parts: Vec<_> = (0..depth).map(|_| pick(random, &PARTS)).collect();
    let [exclude, anchored, folder] = [3, 4, 4].map(|one_in| random.below(one_in) == 0);
    format!("{}{}{}{}", if exclude { "!" } else { "" }, if anchored { "/" } else { "" }, parts.join("/"), if folder { "/" } else { "" })
}

/// The files that match one pattern, or are in a folder that does, as git says.
fn matched(repo: &GitRepo, pattern: &str, files: &[&str]) -> BTreeSet<String> {
    let excludes = repo.work().join(".git/excludes");
    // One always matches, as git fails where none does.
    fs::write(&excludes, format!("{pattern}\n/always\n")).unwrap();
    let setting = format!("core.excludesFile={}", excludes.display());
    let input: String = files.iter().chain(&["always"]).map(|file| format!("{file}\0")).collect();
    let found = repo.git_with_input(&["-c", &setting, "check-ignore", "--no-index", "-z", "--stdin"], &input).unwrap();
    found.split('\0').filter(|file| !file.is_empty() && *file != "always").map(str::to_owned).collect()
}

/// A commit that has only these lines of `git ls-tree`.
fn commit_of(repo: &GitRepo, lines: &[&str]) -> CommitId {
    repo.git(&["read-tree", "--empty"]).unwrap();
    let lines: String = lines.iter().map(|line| format!("{line}\0")).collect();
    repo.git_with_input(&["update-index", "-z", "--index-info"], &lines).unwrap();
    let tree = repo.git(&["write-tree"]).unwrap();
    let commit = repo.git(&["commit-tree", "-m", "only these", &tree]).unwrap();
    repo.git(&["push", "--quiet", "--force", "origin", &format!("{commit}:refs/heads/expected")]).unwrap();
    commit.parse().unwrap()
}

#[tokio::test]
async fn files_match_as_git_says_of_each_pattern_and_the_last_one_that_does_wins() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new(5);
    let (mut some, mut none, mut excluded) = (0, 0, 0);
    for round in 0..ROUNDS {
        let repo = GitRepo::create(folder.path(), &format!("app-{round}")).unwrap();
        for number in 0..30 {
            // Where a folder is a file already, or the other way round, there is one file less.
            let _ = repo.write(&path(&mut random), &number.to_string());
        }
        let commit = repo.commit_and_push("main").unwrap();
        let listing = repo.git(&["ls-tree", "-r", "-z", "HEAD"]).unwrap();
        let lines: Vec<_> = listing.split('\0').filter(|line| !line.is_empty()).collect();
        let files: Vec<_> = lines.iter().map(|line| line.split_once('\t').unwrap().1).collect();
        for _ in 0..4 {
            let mut patterns: Vec<_> = (0..1 + random.below(5)).map(|_| pattern(&mut random)).collect();
            if patterns.iter().all(|pattern| pattern.starts_with('!')) {
                patterns.push("a*".to_owned());
            }
            let mut expected = BTreeSet::new();
            for pattern in &patterns {
                let matched = matched(&repo, pattern.trim_start_matches('!'), &files);
                if pattern.starts_with('!') {
                    excluded += expected.len();
                    expected.retain(|file| !matched.contains(file));
                    excluded -= expected.len();
                } else {
                    expected.extend(matched);
                }
            }
            let expected: Vec<_> = lines.iter().copied().filter(|line| expected.contains(line.split_once('\t').unwrap().1)).collect();
            let only_these = commit_of(&repo, &expected);
            let patterns: Vec<_> = patterns.iter().map(String::as_str).collect();
            let source = local(&repo);
            let found = of_commit(&source, commit, &patterns).await.unwrap().files;
            assert_eq!(found, of_commit(&source, only_these, &["*"]).await.unwrap().files, "{patterns:?} of {files:?}: {expected:?}");
            *(if expected.is_empty() { &mut none } else { &mut some }) += 1;
        }
    }
    assert!(some > ROUNDS && none > 0 && excluded > ROUNDS, "with files: {some}, without: {none}, excluded files: {excluded}");
}
