//! What a new commit costs where files are watched by patterns, beside a clone by git.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use git_events_runner_core::{
    ObjectRef, Reference, Source as _, Watch,
    git::{GitClient, GitSource, RepoUri, Repository},
};
use git_events_runner_tests::{GitRepo, GitServer, Options};

use crate::{
    git::{Check, measure},
    measure::Whose,
};

/// How often each is repeated.
const TIMES: u32 = 9;

/// How many files the repository has, a hundred in each folder.
const FILES: usize = 50_000;

/// Prints what a new commit costs.
pub async fn print() -> Result<()> {
    println!("A new commit over http, {FILES} files in it, each {TIMES} times: wall time is the median, CPU time the mean.\n");
    println!(
        "| server | what | requests | sent | received | wall time | CPU time | bytes of the clone | wall time of it | CPU time of it |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let server = GitServer::start(&Options::default())?;
    for (name, title, filter) in [("filters", "can leave contents out", true), ("plain", "cannot", false)] {
        let repo = server.repo(name)?;
        let bare = repo.bare().to_str().context("a path that is not UTF-8")?.to_owned();
        repo.git(&["-C", &bare, "config", "uploadpack.allowFilter", if filter { "true" } else { "false" }])?;
        fill(&repo)?;
        let uri = server.uri(name);
        let (ours, unchanged) = check(&server, &repo, &bare, &uri).await?;
        let (folder, mut count) = (tempfile::tempdir()?, 0);
        let mut options = vec!["clone", "--quiet", "--bare", "--depth", "1"];
        options.extend(filter.then_some("--filter=blob:none"));
        let into = || {
            count += 1;
            folder.path().join(count.to_string()).display().to_string()
        };
        let clone = async |into: String| repo.git(&[options.as_slice(), &[&uri, &into]].concat()).map(drop);
        let clone = measure((&server, TIMES), Whose::Children, into, clone).await?;
        let by_git = format!("`git {} URL`", options.join(" ").replace(" --quiet", ""));
        for (what, check) in [("new commit", &ours), ("same commit", &unchanged), (by_git.as_str(), &clone)] {
            println!("| {title} | {what} | {} |", check.columns(&clone));
        }
    }
    Ok(())
}

/// Checks that find another commit each time, and checks that do not.
async fn check(server: &GitServer, repo: &GitRepo, bare: &str, uri: &str) -> Result<(Check, Check)> {
    let repository = Repository::new(RepoUri::parse_with_local(uri, Path::new("/"))?);
    let source = GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), repository, GitClient::default());
    let watch = Watch { reference: Reference::Branch("main".into()), files: vec!["folder7/".into(), "!*.md".into()] };
    let first = source.observe(&watch).await?;
    let tree = repo.git(&["rev-parse", "main^{tree}"])?;
    let mut count = 0;
    // Another commit with the same files: all of them are compared.
    let mut commit = || {
        count += 1;
        let commit = repo.git(&["commit-tree", "-m", &count.to_string(), &tree])?;
        repo.git(&["push", "--quiet", "--force", "origin", &format!("{commit}:refs/heads/main")])?;
        anyhow::Ok(repo.git(&["-C", bare, "rev-parse", "main"])? == commit)
    };
    let look = async |is_new: Result<bool>| {
        ensure!(is_new?, "there is no new commit");
        let seen = source.observe(&watch).await?;
        ensure!(seen.commit != first.commit && seen.files == first.files, "the check has seen other files");
        Ok(())
    };
    let new = measure((server, TIMES), Whose::Ours, &mut commit, look).await?;
    let same = measure((server, TIMES), Whose::Ours, || Ok(true), look).await?;
    Ok((new, same))
}

/// Commits all files at once.
fn fill(repo: &GitRepo) -> Result<()> {
    let mut input = String::from("commit refs/heads/main\ncommitter Tester <tester@example.com> 1767225600 +0000\ndata 1\nx\n");
    for number in 0..FILES {
        let content = format!("{:0>64}\n", number * 7919);
        input.push_str(&format!("M 644 inline folder{}/file{number}.txt\ndata {}\n{content}\n", number / 100, content.len()));
    }
    repo.git_with_input(&["fast-import", "--quiet"], &input)?;
    repo.git(&["push", "--quiet", "origin", "main"]).map(drop)
}
