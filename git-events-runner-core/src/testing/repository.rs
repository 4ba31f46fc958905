use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use futures_util::FutureExt as _;

use crate::{Checkout, CommitId, FilesDigest, Reason, Reference, Revision, Source, Watch};

/// What it takes to shake a source, and what it is checked out of.
#[async_trait]
pub trait RepositoryHarness: Send + Sync {
    /// The source.
    fn source(&self) -> &dyn Source;

    /// What the same repository is checked out of.
    fn checkout(&self) -> &dyn Checkout;

    /// Lets a branch or tag point at a commit that has exactly these files, by path, and answers the commit.
    async fn push(&self, reference: &Reference, files: &[(&str, &str)]) -> CommitId;

    /// Deletes a branch or tag.
    async fn delete(&self, reference: &Reference);

    /// An empty folder, another one each time.
    fn folder(&self) -> PathBuf;
}

/// Checks the contracts of [`Source`] and [`Checkout`].
pub async fn repository<H: RepositoryHarness, F: Future<Output = H> + Send>(new: impl Fn() -> F + Send + Sync) {
    repository_without_patterns(&new).await;
    files_are_digested_exactly_when_there_are_patterns(&new().await).await;
    equal_files_have_equal_digests(&new().await).await;
}

/// Checks what [`repository`] checks, but for watches with patterns: for a source that does not know those.
pub async fn repository_without_patterns<H: RepositoryHarness, F: Future<Output = H> + Send>(new: impl Fn() -> F + Send + Sync) {
    what_is_not_there_is_not_found(&new().await).await;
    the_latest_push_is_seen_at_once(&new().await).await;
    branches_and_tags_are_kept_apart(&new().await).await;
    a_commit_is_seen_as_itself(&new().await).await;
    a_look_can_be_given_up(&new().await).await;
    exactly_the_commit_is_checked_out(&new().await).await;
    what_is_not_there_is_not_checked_out(&new().await).await;
}

async fn what_is_not_there_is_not_found(harness: &impl RepositoryHarness) {
    harness.push(&branch("main"), &[("a", "1")]).await;
    for missing in [branch("other"), branch("mai"), branch("main/x"), Reference::Tag("main".to_owned())] {
        let error = harness.source().observe(&Watch::new(missing.clone())).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ReferenceNotFound, "{missing} is not there: {error}");
        assert!(error.to_string().contains(&missing.name()), "an error says what is missing: {error}");
    }
}

async fn the_latest_push_is_seen_at_once(harness: &impl RepositoryHarness) {
    let contents: &[&[(&str, &str)]] = &[&[("a", "1")], &[("a", "2")], &[("a", "1"), ("b", "1")], &[("b", "1")], &[("a", "2")]];
    for files in contents {
        let pushed = harness.push(&branch("main"), files).await;
        assert_eq!(observe(harness, &branch("main")).await, pushed, "an answer is never older than the call");
        assert_eq!(observe(harness, &branch("main")).await, pushed, "what has not changed is seen unchanged");
    }
    harness.delete(&branch("main")).await;
    let error = harness.source().observe(&Watch::new(branch("main"))).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ReferenceNotFound, "a branch that was deleted is not there: {error}");
    let pushed = harness.push(&branch("main"), &[("c", "1")]).await;
    assert_eq!(observe(harness, &branch("main")).await, pushed, "a branch that is there again is seen");
}

async fn branches_and_tags_are_kept_apart(harness: &impl RepositoryHarness) {
    let references =
        [branch("v1"), Reference::Tag("v1".to_owned()), branch("feature/v1"), branch("v1-next"), Reference::Tag("v1.0".to_owned())];
    let mut pushed = vec![];
    for (reference, content) in references.iter().zip(["1", "2", "3", "4", "5"]) {
        pushed.push(harness.push(reference, &[("a", content)]).await);
    }
    for (reference, pushed) in references.iter().zip(pushed) {
        assert_eq!(observe(harness, reference).await, pushed, "each branch and tag has a commit of its own: {reference}");
    }
}

async fn a_commit_is_seen_as_itself(harness: &impl RepositoryHarness) {
    let old = harness.push(&branch("main"), &[("a", "1")]).await;
    harness.push(&branch("main"), &[("a", "2")]).await;
    assert_eq!(observe(harness, &Reference::Commit(old)).await, old, "a commit observes as itself");
}

async fn a_look_can_be_given_up(harness: &impl RepositoryHarness) {
    harness.push(&branch("main"), &[("a", "1")]).await;
    let watch = Watch::new(branch("main"));
    for _ in 0..20 {
        // Polled once, and dropped.
        let _ = harness.source().observe(&watch).now_or_never();
    }
    let pushed = harness.push(&branch("main"), &[("a", "2")]).await;
    let seen = harness.source().observe(&watch).await.unwrap();
    assert_eq!(seen.commit, pushed, "a look that is given up leaves nothing behind");
}

async fn files_are_digested_exactly_when_there_are_patterns(harness: &impl RepositoryHarness) {
    let commit = harness.push(&branch("main"), &[("a", "1"), ("b/c", "1")]).await;
    assert_eq!(harness.source().observe(&Watch::new(branch("main"))).await.unwrap().files, None, "without patterns there is no digest");
    assert!(digest(harness, &["a"]).await.files.is_some(), "a file that matches has a digest");
    assert!(digest(harness, &["b/c"]).await.files.is_some(), "so has one in a folder");
    assert_eq!(digest(harness, &["x"]).await.files, None, "where no file matches, there is no digest of files");
    let of_commit = Watch { reference: Reference::Commit(commit), files: vec!["a".to_owned()] };
    let of_commit = harness.source().observe(&of_commit).await.unwrap().files;
    assert_eq!(of_commit, Some(digest(harness, &["a"]).await), "a commit has the same files however it is named");
}

async fn equal_files_have_equal_digests(harness: &impl RepositoryHarness) {
    harness.push(&branch("main"), &[("a", "1"), ("b/c", "1"), ("d", "1")]).await;
    let patterns: &[&str] = &["a", "b/c"];
    let first = digest(harness, patterns).await;
    assert_eq!(digest(harness, patterns).await, first, "equal files have equal digests, always");
    harness.push(&branch("main"), &[("a", "1"), ("b/c", "1"), ("d", "2"), ("e", "1")]).await;
    assert_eq!(digest(harness, patterns).await, first, "files that match no pattern do not count");
    let changes: &[&[(&str, &str)]] =
        &[&[("a", "2"), ("b/c", "1")], &[("a", "1"), ("b/c", "2")], &[("a", "1")], &[("b/c", "1")], &[("a", "1"), ("b/c", "")]];
    for files in changes {
        harness.push(&branch("main"), files).await;
        let changed = digest(harness, patterns).await;
        assert_eq!(changed.patterns, first.patterns, "equal patterns have equal digests");
        assert_ne!(changed.files, first.files, "other files have another digest: {files:?}");
    }
    harness.push(&branch("main"), &[("b/c", "1"), ("a", "1")]).await;
    assert_eq!(digest(harness, patterns).await, first, "equal files have equal digests, in whichever commit");
    assert_ne!(digest(harness, &["a"]).await.patterns, first.patterns, "other patterns have another digest");
}

async fn exactly_the_commit_is_checked_out(harness: &impl RepositoryHarness) {
    let old_files: &[(&str, &str)] = &[("a", "1"), ("empty", ""), ("folder/within/b", "line\r\n\n"), ("földer/ü", "ü\u{1F680}")];
    let old = harness.push(&branch("main"), old_files).await;
    let new_files: &[(&str, &str)] = &[("a", "2"), ("c", "1")];
    let new = harness.push(&branch("main"), new_files).await;
    for (commit, reference, files) in [
        (old, branch("main"), old_files),
        (new, branch("main"), new_files),
        (old, Reference::Commit(old), old_files),
        (old, branch("main"), old_files),
    ] {
        let folder = harness.folder();
        harness.checkout().checkout(&Revision { reference, commit }, &folder).await.unwrap();
        let expected = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        assert_eq!(files_below(&folder), expected, "exactly the files of the commit are written, wherever the branch is by now");
    }
}

async fn what_is_not_there_is_not_checked_out(harness: &impl RepositoryHarness) {
    harness.push(&branch("main"), &[("a", "1")]).await;
    let revision = Revision { reference: branch("main"), commit: CommitId::from_bytes([0xab; 20]) };
    let checked_out = harness.checkout().checkout(&revision, &harness.folder()).await;
    assert!(checked_out.is_err(), "a commit that is not there is an error, not the branch's tip");
}

/// The files below a folder but for Git's own, by their paths.
fn files_below(folder: &Path) -> BTreeMap<String, String> {
    fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if path == ".git" {
            } else if entry.file_type().unwrap().is_dir() {
                collect(&entry.path(), &format!("{path}/"), files);
            } else {
                files.insert(path, fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    collect(folder, "", &mut files);
    files
}

async fn observe(harness: &impl RepositoryHarness, reference: &Reference) -> CommitId {
    harness.source().observe(&Watch::new(reference.clone())).await.unwrap().commit
}

async fn digest(harness: &impl RepositoryHarness, patterns: &[&str]) -> FilesDigest {
    harness.source().observe(&watch(patterns)).await.unwrap().files.unwrap()
}

fn watch(patterns: &[&str]) -> Watch {
    Watch { reference: branch("main"), files: patterns.iter().map(|&pattern| pattern.to_owned()).collect() }
}

fn branch(name: &str) -> Reference {
    Reference::Branch(name.to_owned())
}
