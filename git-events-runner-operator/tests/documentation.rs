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

fn pages() -> Result<Vec<(String, String)>> {
    let docs = fs::read_dir(root().join("docs"))?.collect::<Result<Vec<_>, _>>()?.into_iter().map(|entry| entry.path());
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")).chain([root().join("README.md")]);
    pages.map(|path| Ok((path.display().to_string(), fs::read_to_string(&path)?))).collect()
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
