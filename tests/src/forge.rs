use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    GitRepo, SshKey, free_port,
    http::exchange,
    server_process::{ServerProcess, program},
    wait_for,
};

/// Who owns all repositories of a [`Forge`].
const USER: &str = "dev";
const PASSWORD: &str = "devdevdev1";

/// A real Gitea, on ports and in a folder of its own, where one user has private repositories. It ends when this is dropped.
pub struct Forge {
    folder: TempDir,
    port: u16,
    ssh_port: u16,
    host_key: SshKey,
    token: String,
    _gitea: ServerProcess,
}

impl Forge {
    /// Starts one, and waits until it answers. The first time on a machine it is built, which takes some five minutes.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same, of one that trusts these certificates alone when it sends webhooks.
    pub fn trusting(certificates: &Path) -> Result<Self> {
        Self::start_with(&[("SSL_CERT_FILE", certificates), ("SSL_CERT_DIR", Path::new("/nonexistent"))])
    }

    fn start_with(variables: &[(&str, &Path)]) -> Result<Self> {
        let built = build()?;
        let folder = tempfile::Builder::new().prefix("forge").tempdir()?;
        let root = folder.path();
        let host_key = SshKey::create(root, &["-t", "ed25519"], "")?;
        // Between the choice of a port and its use somebody else may take it.
        for _ in 0..5 {
            let (port, ssh_port) = (free_port()?, free_port()?);
            fs::write(root.join("app.ini"), configuration(&built, root, port, ssh_port, &host_key)?)?;
            let mut gitea = {
                let mut command = command(&built, root, &["web"]);
                command.envs(variables.iter().copied());
                ServerProcess::start(command, &root.join("gitea.log"))?
            };
            let started = wait_for("Gitea", || match gitea.is_running() {
                true => exchange(port, "GET", "/api/v1/version", &[], b"").ok().filter(|(status, ..)| *status == 200).map(|_| true),
                false => Some(false),
            });
            if started.with_context(|| log(root))? {
                let made = command(&built, root, &["admin", "user", "create", "--username", USER, "--password", PASSWORD])
                    .args(["--email", "dev@forge.test", "--admin", "--must-change-password=false"])
                    .stdin(Stdio::null())
                    .output()?;
                ensure!(made.status.success(), "gitea admin user create: {}", String::from_utf8_lossy(&made.stderr));
                let mut forge = Self { folder, port, ssh_port, host_key, token: String::new(), _gitea: gitea };
                let token = forge.post(&format!("/api/v1/users/{USER}/tokens"), &json!({ "name": "tests", "scopes": ["all"] }))?;
                token["sha1"].as_str().context("Gitea makes no token")?.clone_into(&mut forge.token);
                return Ok(forge);
            }
        }
        bail!("Gitea does not start: {}", log(root))
    }

    /// User and password.
    pub fn login(&self) -> (&'static str, &'static str) {
        (USER, PASSWORD)
    }

    /// A token of the user, for everything.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Makes a private repository, which is pushed to over http.
    pub fn repo(&self, name: &str) -> Result<GitRepo> {
        self.post("/api/v1/user/repos", &json!({ "name": name, "private": true, "default_branch": "main" }))?;
        let repo = GitRepo::create(&self.folder.path().join("clones"), name)?;
        let url = format!("http://{USER}:{PASSWORD}@127.0.0.1:{}/{USER}/{name}.git", self.port);
        repo.git(&["remote", "set-url", "origin", &url])?;
        Ok(repo)
    }

    /// Where a repository is reached over http.
    pub fn uri(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{USER}/{name}.git", self.port)
    }

    /// Where a repository is reached over ssh.
    pub fn ssh_uri(&self, name: &str) -> String {
        format!("ssh://git@127.0.0.1:{}/{USER}/{name}.git", self.ssh_port)
    }

    /// Makes a key of the user.
    pub fn key(&self, args: &[&str], passphrase: &str) -> Result<SshKey> {
        let key = SshKey::create(self.folder.path(), args, passphrase)?;
        self.post("/api/v1/user/keys", &json!({ "title": key.file.display().to_string(), "key": key.public }))?;
        Ok(key)
    }

    /// Its host key, as `known_hosts`.
    pub fn known_hosts(&self) -> String {
        format!("[127.0.0.1]:{} {}\n", self.ssh_port, self.host_key.public)
    }

    /// The command by which git itself reaches it with a key.
    pub fn ssh_command(&self, key: &SshKey) -> Result<String> {
        key.ssh_command(&self.known_hosts())
    }

    /// Has it send a signed webhook to a port of this machine for everything that is pushed to a repository, and answers which one that is.
    pub fn webhook(&self, name: &str, port: u16, path: &str, secret: &str) -> Result<u64> {
        self.webhook_to(name, &format!("http://127.0.0.1:{port}{path}"), secret)
    }

    /// The same to any URL.
    pub fn webhook_to(&self, name: &str, url: &str, secret: &str) -> Result<u64> {
        let config = json!({ "url": url, "content_type": "json", "secret": secret });
        let hook = json!({ "type": "gitea", "active": true, "events": ["push"], "config": config });
        self.post(&format!("/api/v1/repos/{USER}/{name}/hooks"), &hook)?["id"].as_u64().context("Gitea makes no webhook")
    }

    /// Has it send a test by a webhook.
    pub fn test_webhook(&self, name: &str, hook: u64) -> Result<()> {
        self.post(&format!("/api/v1/repos/{USER}/{name}/hooks/{hook}/tests"), &json!({})).map(drop)
    }

    /// Has it send the latest delivery of a webhook once more, as the button on its page does.
    pub fn redeliver(&self, name: &str, hook: u64) -> Result<()> {
        let form = format!("user_name={USER}&password={PASSWORD}");
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let (status, head, _) = exchange(self.port, "POST", "/user/login", &headers, form.as_bytes())?;
        ensure!(status == 303, "Gitea answers {status} to a login: {head}");
        let cookies = head.lines().filter_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")));
        // A login begins another session: the last cookie of a name counts.
        let cookies: BTreeMap<_, _> = cookies.filter_map(|(_, cookie)| cookie.split(';').next()?.split_once('=')).collect();
        let session = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        let page = format!("/{USER}/{name}/settings/hooks/{hook}");
        let (_, head, html) = exchange(self.port, "GET", &page, &[("Cookie", &session)], b"")?;
        let html = if head.contains("chunked") { joined(&html)? } else { html };
        let delivery = html.split("/replay/").nth(1).and_then(|rest| rest.split('"').next());
        let path = format!("{page}/replay/{}", delivery.with_context(|| format!("no delivery on the page: {head}"))?);
        let (status, ..) = exchange(self.port, "POST", &path, &[("Cookie", &session)], b"")?;
        ensure!(status == 303, "Gitea answers {status} to {path}");
        Ok(())
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let authorization = data_encoding::BASE64.encode(format!("{USER}:{PASSWORD}").as_bytes());
        let headers = [("Content-Type", "application/json"), ("Authorization", &format!("Basic {authorization}"))];
        let (status, head, answer) = exchange(self.port, "POST", path, &headers, body.to_string().as_bytes())?;
        let answer = if head.contains("chunked") { joined(&answer)? } else { answer };
        ensure!(matches!(status, 201 | 204), "Gitea answers {status} to {path}: {answer}");
        Ok(if status == 204 { Value::Null } else { serde_json::from_str(&answer)? })
    }
}

/// What is sent in chunks, each after its length.
fn joined(mut chunks: &str) -> Result<String> {
    let mut whole = String::new();
    while let Some((length, rest)) = chunks.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16)?;
        whole.push_str(rest.get(..length).context("a chunk is cut off")?);
        chunks = rest[length..].trim_start_matches("\r\n");
    }
    Ok(whole)
}

/// Builds it if it has not been built on this machine yet, and answers with the folder of it.
fn build() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("forge/build");
    let built = Command::new(script).stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot run tests/forge/build")?;
    ensure!(built.status.success(), "tests/forge/build fails");
    Ok(String::from_utf8(built.stdout)?.trim().into())
}

fn command(built: &Path, root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(built.join("gitea"));
    command.args(args).arg("-c").arg(root.join("app.ini"));
    // It writes a configuration of its own for git.
    command.env("HOME", root).env("GIT_CONFIG_NOSYSTEM", "1").env_remove("GIT_CONFIG_GLOBAL");
    // In a container for tests there may be nobody else.
    command.env("GITEA_I_AM_BEING_UNSAFE_RUNNING_AS_ROOT", "true");
    command
}

fn log(root: &Path) -> String {
    fs::read_to_string(root.join("gitea.log")).unwrap_or_default()
}

fn configuration(built: &Path, root: &Path, port: u16, ssh_port: u16, host_key: &SshKey) -> Result<String> {
    let who = program("id", "coreutils")?.arg("-un").output()?;
    let (user, address) = (String::from_utf8(who.stdout)?, Ipv4Addr::LOCALHOST);
    let (built, root, host_key) = (built.display(), root.display(), host_key.file.display());
    Ok(format!(
        "RUN_MODE = prod
RUN_USER = {user}
WORK_PATH = {root}/data
[server]
HTTP_ADDR = {address}
HTTP_PORT = {port}
ROOT_URL = http://{address}:{port}/
STATIC_ROOT_PATH = {built}
OFFLINE_MODE = true
START_SSH_SERVER = true
SSH_DOMAIN = {address}
SSH_LISTEN_HOST = {address}
SSH_LISTEN_PORT = {ssh_port}
SSH_PORT = {ssh_port}
SSH_SERVER_HOST_KEYS = {host_key}
BUILTIN_SSH_SERVER_USER = git
[database]
DB_TYPE = sqlite3
PATH = {root}/gitea.db
SQLITE_TIMEOUT = 60000
[security]
INSTALL_LOCK = true
SECRET_KEY = of-the-tests
PASSWORD_HASH_ALGO = pbkdf2$1$50
[repository]
ROOT = {root}/repositories
[webhook]
ALLOWED_HOST_LIST = loopback
DELIVER_TIMEOUT = 60
[log]
LEVEL = Warn
"
    ))
}
