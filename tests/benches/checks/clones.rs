//! Checkouts over http, beside `git clone --depth 1` and libgit2's own.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use git_events_runner_core::{
    Checkout as _, CommitId, ObjectRef, Reference, Revision,
    git::{GitClient, GitSource, RepoUri, Repository},
};
use git_events_runner_tests::{GitRepo, GitServer, Options};

use crate::{
    git::{Check, MANY_REFS, add_refs, measure},
    measure::Whose,
};

/// How many files the largest repository has, of a kilobyte each.
const MANY_FILES: usize = 50_000;

/// How often a repository is checked out; what takes long, not so often.
const TIMES: u32 = 10;
const TIMES_OF_MANY_FILES: u32 = 3;

/// Prints what a checkout costs.
pub async fn print() -> Result<()> {
    let server = GitServer::start(&Options::default())?;
    println!(
        "Checkouts of a branch over http, into an empty folder, {TIMES} times each, and {TIMES_OF_MANY_FILES} times with many files: wall time is \
         the median, CPU time the mean.\n"
    );
    println!("| repository | by | requests | sent | received | wall time | CPU time | bytes of `git` | wall time of it | CPU time of it |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (name, refs, files) in [("small", 1, 1), ("refs", MANY_REFS, 1), ("files", 1, MANY_FILES)] {
        let repo = server.repo(name)?;
        let tip = push(&repo, files)?;
        add_refs(&repo, tip, refs - 1)?;
        let (uri, times) = (server.uri(name), if files > 1 { TIMES_OF_MANY_FILES } else { TIMES });
        // They are removed when all is measured: that takes time as well.
        let (parent, mut number) = (tempfile::tempdir()?, 0);
        let mut folder = || {
            number += 1;
            parent.path().join(number.to_string())
        };
        let repository = Repository::new(RepoUri::parse_with_local(&uri, Path::new("/"))?);
        // Of a process that knows nothing of the server yet, as the cloner is.
        let source = || GitSource::new(ObjectRef::cluster("ClusterGitRepo", name), repository.clone(), GitClient::default());
        let ours =
            measure((&server, times), Whose::Ours, &mut folder, async |folder| check_out(&source(), tip, folder, files).await).await?;
        let git = measure((&server, times), Whose::Children, &mut folder, async |folder| clone(&repo, &uri, folder, files)).await?;
        let libgit2 = measure((&server, times), Whose::Ours, &mut folder, async |folder| clone_by_libgit2(&uri, folder, files)).await?;
        let title = format!("{refs} ref{}, {files} file{}", if refs > 1 { "s" } else { "" }, if files > 1 { "s" } else { "" });
        for (by, cost) in [("git-events-runner", &ours), ("`git clone --depth 1`", &git), ("libgit2, depth 1", &libgit2)] {
            println!("| {title} | {by} | {} |", Check::columns(cost, &git));
        }
    }
    Ok(())
}

/// Files of a kilobyte each, a hundred in a folder, in one commit.
fn push(repo: &GitRepo, files: usize) -> Result<CommitId> {
    let mut import = String::from("commit refs/heads/main\ncommitter Tester <tester@example.com> 1767225600 +0000\ndata 8\na change\n");
    for number in 0..files {
        // None is like another, so that they are not sent as changes to each other.
        let content: String = (0..32).map(|line| format!("{:031x}\n", (number * 32 + line).wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        import.push_str(&format!("M 100644 inline folder-{}/file-{number}\ndata {}\n{content}\n", number / 100, content.len()));
    }
    repo.git_with_input(&["fast-import", "--quiet"], &import)?;
    repo.git(&["push", "--quiet", "origin", "refs/heads/main"])?;
    repo.commit("refs/heads/main")
}

fn ensure_whole(folder: &Path, files: usize) -> Result<()> {
    let last = folder.join(format!("folder-{0}/file-{1}", (files - 1) / 100, files - 1));
    ensure!(std::fs::metadata(&last)?.len() == 1024, "{} is another", last.display());
    Ok(())
}

async fn check_out(source: &GitSource, tip: CommitId, into: PathBuf, files: usize) -> Result<()> {
    std::fs::create_dir(&into)?;
    source.checkout(&Revision { reference: Reference::Branch("main".into()), commit: tip }, &into).await?;
    ensure_whole(&into, files)
}

fn clone(repo: &GitRepo, uri: &str, into: PathBuf, files: usize) -> Result<()> {
    repo.git(&["clone", "--quiet", "--depth", "1", uri, &into.display().to_string()])?;
    ensure_whole(&into, files)
}

/// With as little as it can be told to fetch.
fn clone_by_libgit2(uri: &str, into: PathBuf, files: usize) -> Result<()> {
    let mut fetch = git2::FetchOptions::new();
    fetch.depth(1).download_tags(git2::AutotagOption::None);
    let mut builder = git2::build::RepoBuilder::new();
    builder.branch("main").fetch_options(fetch);
    builder.remote_create(|repo, name, url| repo.remote_with_fetch(name, url, "+refs/heads/main:refs/remotes/origin/main"));
    builder.clone(uri, &into)?;
    ensure_whole(&into, files)
}
