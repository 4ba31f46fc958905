//! What the README and the docs tell people to type and to write works.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use git_events_runner_core::validate::{Mode, Reader};
use git_events_runner_tests::{Program, free_port, send, wait_for};
use rustix::process::Signal;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_git-events-runner");

/// What stands before the arguments when the program is run from its source.
const FROM_SOURCE: &str = "cargo run -q -p git-events-runner-operator -- ";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The blocks of a page that are marked as of this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = vec![];
    let mut lines = page.lines();
    while lines.any(|line| line == format!("```{language}")) {
        blocks.push(lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect());
    }
    blocks
}

/// Whose commands are run in a cluster, by another test.
const IN_A_CLUSTER: &str = "operator.md";

/// The README and the pages of the docs but the guides, which another test follows.
fn pages() -> Result<Vec<(String, String)>> {
    let pages = pages_in(&["docs", "docs/webhooks"])?.into_iter().chain([root().join("README.md")]);
    pages.map(|path| Ok((path.display().to_string(), fs::read_to_string(&path)?))).collect()
}

fn pages_in(folders: &[&str]) -> Result<Vec<PathBuf>> {
    let mut pages = vec![];
    for folder in folders {
        for entry in fs::read_dir(root().join(folder))? {
            let path = entry?.path();
            pages.extend(path.extension().is_some_and(|extension| extension == "md").then_some(path));
        }
    }
    Ok(pages)
}

/// A fresh clone of this repository, with its commits on the branch main.
fn fresh_clone() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    git(folder.path(), &["clone", "--quiet", "--no-hardlinks", &root().display().to_string(), "."])?;
    git(folder.path(), &["checkout", "--quiet", "-B", "main"])?;
    Ok(folder)
}

fn git(folder: &Path, args: &[&str]) -> Result<()> {
    let identity = ["-c", "user.name=Tests", "-c", "user.email=tests@example.com", "-c", "safe.directory=*"];
    let output = Command::new("git").current_dir(folder).args(identity).args(args).output().context("git is missing: install git")?;
    ensure!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn every_manifest_of_the_docs_is_valid() -> Result<()> {
    let reader = Reader::new(Mode::Local);
    let mut count = 0;
    for (page, text) in pages()? {
        for block in blocks(&text, "yaml") {
            let reading = reader.read(&page, &block);
            ensure!(reading.mistakes.is_empty(), "{:?} in:\n{block}", reading.mistakes);
            count += reading.documents.len();
        }
    }
    ensure!(count > 0, "no manifest was found");
    Ok(())
}

/// Every page that people may come to.
fn all_pages() -> Result<Vec<PathBuf>> {
    pages_in(&["", "docs", "docs/guides", "docs/webhooks", "charts"])
}

/// What a heading is linked to by.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

#[test]
fn every_link_of_the_docs_leads_somewhere_and_the_index_to_every_page() -> Result<()> {
    let mut linked = vec![];
    for page in all_pages()? {
        let text = fs::read_to_string(&page)?;
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { page.clone() } else { page.parent().context("a folder")?.join(file) };
            ensure!(path.exists(), "{}: there is no {target}", page.display());
            let headings = || fs::read_to_string(&path).unwrap_or_default();
            let is_there = heading.is_empty() || headings().lines().any(|line| line.starts_with('#') && anchor(line) == heading);
            ensure!(is_there, "{}: {target} has no such heading", page.display());
            if page.ends_with("docs/README.md") {
                linked.push(path.canonicalize()?);
            }
        }
    }
    for page in all_pages()?.into_iter().filter(|page| page.parent().is_some_and(|folder| folder.ancestors().any(|f| f.ends_with("docs"))))
    {
        ensure!(page.ends_with("docs/README.md") || linked.contains(&page.canonicalize()?), "docs/README.md has no {}", page.display());
    }
    Ok(())
}

#[test]
fn every_command_of_the_docs_works_in_a_fresh_clone() -> Result<()> {
    let clone = fresh_clone()?;
    let makefile = fs::read_to_string(root().join("Makefile"))?;
    let mut run = 0;
    for (page, text) in pages()?.into_iter().filter(|(page, _)| !page.ends_with(IN_A_CLUSTER)) {
        for line in blocks(&text, "sh").iter().flat_map(|block| block.lines()) {
            if let Some(target) = line.strip_prefix("make ") {
                // That this test runs is the proof for `make test`; the others call what is tested elsewhere.
                ensure!(makefile.contains(&format!("\n{target}:")), "{page}: there is no target {target}");
                continue;
            }
            let args = line.strip_prefix(FROM_SOURCE).or_else(|| line.strip_prefix("git-events-runner "));
            let args = args.with_context(|| format!("{page}: `{line}` is run by no test"))?;
            let output = Command::new(PROGRAM).current_dir(clone.path()).args(args.split(' ')).output()?;
            ensure!(output.status.success(), "{page}: `{line}` failed: {}", String::from_utf8_lossy(&output.stderr));
            run += 1;
        }
    }
    ensure!(run > 0, "no command was found");
    Ok(())
}

#[test]
fn the_tour_of_the_readme_goes_as_it_says() -> Result<()> {
    let clone = fresh_clone()?;
    let quickstart = clone.path().join("examples/quickstart");
    let readme = fs::read_to_string(root().join("README.md"))?;
    fs::write(quickstart.join("on-request.yaml"), blocks(&readme, "yaml").concat())?;
    let port = free_port()?;
    let local = Program::local_mode(PROGRAM, &quickstart, &["--webhooks-port", &port.to_string()], &[])?;
    let hellos = || local.output().iter().filter(|line| line.contains("Hello from this-repository")).count();
    let wait_for_hellos = |count| wait_for(&format!("{count} times hello"), || (hellos() >= count).then_some(()));
    wait_for_hellos(1)?;

    git(clone.path(), &["commit", "--quiet", "--allow-empty", "--message", "Try it"])?;
    wait_for_hellos(2)?;

    let path = "/default/on-request/this-repository";
    ensure!(readme.contains(&format!("curl -X POST http://localhost:8080{path}")), "the README calls another webhook");
    assert_eq!(send(port, "POST", path, &[], b"")?.status, 202);
    wait_for_hellos(3)?;
    local.end(Signal::INT)?;
    Ok(())
}

#[test]
fn the_help_names_every_subcommand_that_people_need() -> Result<()> {
    let output = Command::new(PROGRAM).arg("--help").output()?;
    let help = String::from_utf8(output.stdout)?;
    for command in ["run", "local", "validate", "crds", "config"] {
        ensure!(help.contains(command), "{command} is missing in:\n{help}");
    }
    ensure!(!help.contains("supervise"), "the help shows what is not for people:\n{help}");
    Ok(())
}
