//! The Git servers that the pages speak of.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use git_events_runner_tests::{Auth, GitRepo, GitServer, Options, SshKey, SshServer};
use rcgen::{CertificateParams, KeyPair};

const REPOSITORY: &str = "the-best-team/cool-project";

/// Each has the one repository.
pub struct Servers {
    /// Open to everybody, with a certificate that the operator trusts.
    open: GitServer,
    repo: GitRepo,
    /// For a user with a password, with a certificate that nobody trusts.
    closed: GitServer,
    /// For who sends a token.
    tokens: GitServer,
    ssh: SshServer,
}

impl Servers {
    /// Starts them, and writes what one has to know of them into a folder.
    pub fn start(folder: &Path) -> Result<Self> {
        let public = Certificate::new()?;
        let internal = Certificate::new()?;
        fs::write(folder.join("authorities.pem"), &public.pem)?;
        fs::write(folder.join("internal-ca.crt"), &internal.pem)?;
        let open = public.server(Auth::None)?;
        let closed = internal.server(Auth::Basic("deploy".to_owned(), "replace-me".to_owned()))?;
        let tokens = public.server(Auth::Token("Bearer replace-me".to_owned()))?;
        let ssh = SshServer::start(false)?;
        let repo = open.repo(REPOSITORY)?;
        let pushed = fill(&repo)?;
        for repo in [closed.repo(REPOSITORY)?, tokens.repo(REPOSITORY)?, ssh.repo(REPOSITORY)?] {
            fill(&repo)?;
        }
        // The page pushes to the first one, which its server does not take.
        fs::write(folder.join("gitconfig"), format!("[url \"{pushed}/\"]\n    insteadOf = {}/\n", open.origin()))?;
        Ok(Self { open, repo, closed, tokens, ssh })
    }

    /// What stands in the pages, and what is meant by it here: as long, so that columns stay columns.
    pub fn meant(&self) -> Vec<(String, String)> {
        let said = [
            ("https://git.example.com", self.open.origin().to_owned()),
            ("https://src.example.com", self.closed.origin().to_owned()),
            ("https://hub.example.com", self.tokens.origin().to_owned()),
            ("git@git.example.com:the-best-team/cool-project.git", self.ssh.uri(REPOSITORY)),
            ("ssh-keyscan git.example.com", format!("ssh-keyscan -p {} 127.0.0.1", self.ssh.port())),
            ("allowedHosts={git.example.com}", "allowedHosts={127.0.0.1}".to_owned()),
            ("only git.example.com,", "only 127.0.0.1,".to_owned()),
            ("git.example.com ssh-", format!("{} ssh-", self.ssh.host())),
        ];
        said.map(|(said, meant)| (said.to_owned(), meant)).into()
    }

    /// What the branch main of the open one points at.
    pub fn commit(&self) -> Result<String> {
        Ok(self.repo.git(&["ls-remote", "origin", "refs/heads/main"])?.split_whitespace().next().context("no main")?.to_owned())
    }

    /// Lets the owner of a key in, once there is one: what people do on a page of their forge.
    pub fn let_in(&self, public: &Path) -> Result<()> {
        let Ok(key) = fs::read_to_string(public) else { return Ok(()) };
        let known = fs::read_to_string(self.ssh.folder().join("authorized_keys"))?;
        if known.contains(key.trim()) {
            return Ok(());
        }
        let key = SshKey { file: public.with_extension(""), private: String::new(), public: key.trim().to_owned() };
        self.ssh.authorize(&key, "git-shell -c \\\"$SSH_ORIGINAL_COMMAND\\\"")
    }
}

/// Commits the script that all pages run, and answers in which folder the repositories of the server are.
fn fill(repo: &GitRepo) -> Result<String> {
    repo.write("deploy.sh", "#!/bin/sh\necho \"Deploying $1 of $TRIGGER_SOURCE_NAME at $TRIGGER_SOURCE_COMMIT\"\n")?;
    repo.make_executable("deploy.sh")?;
    repo.push("main", &[("chart/Chart.yaml", "name: cool-project\n")])?;
    Ok(repo.bare().ancestors().nth(2).context("it is in no folder")?.display().to_string())
}

/// A certificate of this machine, by its own key.
struct Certificate {
    pem: String,
    key: String,
}

impl Certificate {
    fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
        Ok(Self { pem: certificate.pem(), key: key.serialize_pem() })
    }

    fn server(&self, auth: Auth) -> Result<GitServer> {
        GitServer::start(&Options { auth, tls: Some((self.pem.clone(), self.key.clone())), ..Options::default() })
    }
}
