//! Where the guides are followed: a folder, a shell, and what stands for the servers that they name.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use git_events_runner_tests::{Auth, GitServer, Options, cluster::Cluster};
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::release::Release;

/// How long a block may take, for `timeout`.
const WITHIN: &str = "120";

/// The script of the overview.
const DEPLOY_SH: &str = "#!/bin/sh\necho \"Deploying $1 of $TRIGGER_SOURCE_NAME\"\n";

pub struct Place<'a> {
    folder: TempDir,
    release: Release<'a>,
    /// What stands in the pages, and what is meant here.
    meant: Vec<(String, String)>,
    // They run for as long as this is there.
    _servers: Vec<GitServer>,
}

impl<'a> Place<'a> {
    /// A folder like a clone of this repository, with the programs that the pages call.
    pub fn new(cluster: &'a Cluster) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        symlink(root.join("charts"), folder.path().join("charts"))?;
        let bin = folder.path().join("bin");
        fs::create_dir(&bin)?;
        let programs = [cluster.kubectl().get_program().to_owned(), cluster.server().helm()?.get_program().to_owned()];
        for program in programs.iter().map(Path::new).chain([Path::new(env!("CARGO_BIN_EXE_git-events-runner"))]) {
            symlink(program, bin.join(program.file_name().context("a program")?))?;
        }
        fs::copy(cluster.kubeconfig(), folder.path().join("kubeconfig"))?;

        let (key, certificate) = certificate()?;
        fs::write(folder.path().join("authorities.pem"), &certificate)?;
        let server = GitServer::start(&Options { auth: Auth::None, tls: Some((certificate, key)), ..Options::default() })?;
        let repo = server.repo("the-best-team/cool-project")?;
        repo.write("deploy.sh", DEPLOY_SH)?;
        repo.make_executable("deploy.sh")?;
        repo.push("main", &[("chart/Chart.yaml", "name: cool-project\n")])?;
        let repos = repo.bare().ancestors().nth(2).context("no folder")?.display().to_string();
        fs::write(folder.path().join("gitconfig"), format!("[url \"{repos}/\"]\n    insteadOf = {}/\n", server.origin()))?;
        let meant = vec![("https://git.example.com".to_owned(), server.origin().to_owned())];
        let release = Release::new(cluster, folder.path().join("authorities.pem"));
        Ok(Self { folder, release, meant, _servers: vec![server] })
    }

    /// Saves a block as a file.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.folder.path().join(name), self.here(text))?)
    }

    /// Has a shell run a block. Answers whether it has ended well, and what it has printed.
    pub async fn run(&mut self, text: &str) -> Result<(bool, String)> {
        let folder = self.folder.path();
        let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH")?);
        let mut shell = Command::new("timeout");
        shell.args([WITHIN, "sh", "-euc", &format!("exec 2>&1\n{}", self.here(text))]);
        shell.current_dir(folder).stdin(Stdio::null()).env("PATH", path).env("HOME", folder);
        shell.env("KUBECONFIG", folder.join("kubeconfig")).env("GIT_CONFIG_GLOBAL", folder.join("gitconfig"));
        for who in ["AUTHOR", "COMMITTER"] {
            shell.env(format!("GIT_{who}_NAME"), "You").env(format!("GIT_{who}_EMAIL"), "you@example.com");
            shell.env(format!("GIT_{who}_DATE"), "2026-01-01T00:00:00Z");
        }
        let done = shell.output().context("timeout is missing: install coreutils")?;
        ensure!(done.status.code() != Some(124), "has not ended within {WITHIN} seconds");
        let printed = self.there(&String::from_utf8_lossy(&done.stdout));
        if text.contains("helm ") {
            self.release.follow().await?;
        }
        Ok((done.status.success(), printed))
    }

    /// A text of a page with what is meant here.
    fn here(&self, text: &str) -> String {
        self.all_meant().iter().fold(text.to_owned(), |text, (said, meant)| text.replace(said, meant))
    }

    /// What was printed here, as a page says it.
    fn there(&self, text: &str) -> String {
        self.all_meant().iter().fold(text.to_owned(), |text, (said, meant)| text.replace(meant, said))
    }

    fn all_meant(&self) -> Vec<(String, String)> {
        let hooks = self.release.webhooks_port().map(|port| ("https://hooks.example.com".to_owned(), format!("http://127.0.0.1:{port}")));
        self.meant.iter().cloned().chain(hooks).collect()
    }
}

/// A key, and a certificate of this machine by that key.
fn certificate() -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
    Ok((key.serialize_pem(), certificate.pem()))
}
