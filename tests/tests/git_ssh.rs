//! Keys, host keys and paths of ssh, against OpenSSH's own server and keys of its own `ssh-keygen`.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::time::{Duration, Instant};

use git_events_runner_core::{
    CommitId, ObjectRef, Reason, Reference, Source as _, SourceError, Watch,
    git::{Credentials, GitClient, GitSource, RepoUri, Repository, Secret},
};
use git_events_runner_tests::{GitRepo, SshKey, SshServer, hashed};

/// What a check shows to the server, and expects of it.
#[derive(Clone)]
struct Login {
    private_key: String,
    passphrase: Option<String>,
    known_hosts: Option<String>,
    insecure: bool,
}

impl Login {
    fn new(server: &SshServer, key: &SshKey) -> Self {
        Self { private_key: key.private.clone(), passphrase: None, known_hosts: Some(server.known_hosts()), insecure: false }
    }

    fn repository(&self, uri: &str) -> Repository {
        let credentials = Credentials::Ssh {
            private_key: self.private_key.as_str().into(),
            passphrase: self.passphrase.as_deref().map(Secret::from),
            known_hosts: self.known_hosts.clone(),
            insecure_ignore_host_key: self.insecure,
        };
        Repository { credentials, ..Repository::new(RepoUri::parse(uri).unwrap()) }
    }

    async fn observe(&self, uri: &str) -> Result<CommitId, SourceError> {
        observe(self.repository(uri)).await
    }
}

async fn observe(repository: Repository) -> Result<CommitId, SourceError> {
    let source = GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), repository, GitClient::default());
    source.observe(&Watch::new(Reference::Branch("main".to_owned()))).await.map(|seen| seen.commit)
}

/// A server with a repository of one commit, and a key that is let in.
fn set_up() -> (SshServer, GitRepo, CommitId, SshKey) {
    let server = SshServer::start(false).unwrap();
    let repo = server.repo("app").unwrap();
    let commit = repo.push("main", &[("a", "1")]).unwrap();
    let key = server.key(&["-t", "ed25519"], "").unwrap();
    (server, repo, commit, key)
}

#[tokio::test]
async fn keys_of_every_kind_and_form_are_let_in() {
    let (server, _repo, commit, _) = set_up();
    let kinds: [&[&str]; 5] = [
        &["-t", "ed25519"],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "ecdsa", "-b", "521"],
        &["-t", "rsa", "-b", "2048"],
    ];
    for kind in kinds {
        for form in ["RFC4716", "PKCS8", "PEM"] {
            for passphrase in ["", "correct horse"] {
                let key = server.key(&[kind, &["-m", form]].concat(), passphrase).unwrap();
                let login = Login { passphrase: Some(passphrase.to_owned()), ..Login::new(&server, &key) };
                let seen = login.observe(&server.uri("app")).await;
                if kind.contains(&"ecdsa") && form == "PEM" && !passphrase.is_empty() {
                    let error = seen.unwrap_err().to_string();
                    assert!(error.contains("rewrite it with `ssh-keygen -p -f FILE`"), "{error}");
                } else {
                    assert_eq!(seen.unwrap(), commit, "{kind:?} {form} {passphrase}");
                }
            }
        }
    }
    let log = server.log().unwrap();
    assert!(log.contains("Accepted publickey") && log.contains("Disconnected from user"), "the client takes leave: {log}");
}

#[tokio::test]
async fn host_keys_are_known_by_all_forms_of_known_hosts() {
    let (server, _repo, commit, key) = set_up();
    let [ed25519, ecdsa, rsa] = server.host_keys.each_ref().map(|key| key.public.as_str());
    let (host, authority, other) = (server.host(), &server.authority.public, &key.public);
    let right = [
        format!("{host} {ed25519}"),
        format!("{host} {ecdsa} a comment"),
        // The server offers the others as well, and first.
        format!("{host} {rsa}"),
        format!("# a comment\n\n{host} {ecdsa}\r\nexample.com {ed25519}\n"),
        hashed(&format!("{host} {rsa}")).unwrap(),
        format!("[127.0.0.?]:* {rsa}"),
        format!("*,!192.0.2.1 {ecdsa}"),
        format!("127.0.0.1 {ecdsa}"),
        format!("localhost,{host} {ed25519}"),
        format!("@cert-authority {host} {authority}"),
        format!("@cert-authority * {authority}\n{host} {rsa}"),
        format!("@revoked * {ecdsa}\n{host} {rsa}"),
    ];
    for known_hosts in right {
        let login = Login { known_hosts: Some(known_hosts.clone()), ..Login::new(&server, &key) };
        assert_eq!(login.observe(&server.uri("app")).await.map_err(|error| error.to_string()), Ok(commit), "{known_hosts}");
    }
    let wrong = [
        (String::new(), "is not known"),
        (format!("[127.0.0.1]:1 {ed25519}"), "is not known"),
        (format!("*,!{host},!127.0.0.1 {ed25519}"), "is not known"),
        (hashed(&format!("localhost {ed25519}")).unwrap(), "is not known"),
        (format!("# {host} {ed25519}"), "is not known"),
        (format!("{host}\n{host} ssh-ed25519 ???"), "of which line 1, line 2 cannot be read, the line: "),
        (format!("{host} {other}"), "somebody may answer in its place"),
        (format!("@revoked * {ed25519}\n{host} {ed25519}"), "is revoked"),
        (format!("@cert-authority {host} {other}"), "is signed by an authority that is not known"),
        (format!("@cert-authority {host} {authority}\n@revoked * {authority}"), "is revoked"),
    ];
    for (known_hosts, message) in wrong {
        let login = Login { known_hosts: Some(known_hosts.clone()), ..Login::new(&server, &key) };
        let error = login.observe(&server.uri("app")).await.unwrap_err();
        assert_eq!(error.reason(), Reason::HostKeyMismatch, "{known_hosts}: {error}");
        assert!(error.to_string().contains(message), "{known_hosts}: {error}");
    }
    let log = server.log().unwrap();
    assert_eq!(log.matches("Accepted publickey").count(), 12, "nobody else has shown their key: {log}");
}

#[tokio::test]
async fn what_is_said_of_an_unknown_host_is_what_makes_it_known() {
    let (server, _repo, commit, key) = set_up();
    let unknown = Login { known_hosts: None, ..Login::new(&server, &key) };
    let error = unknown.observe(&server.uri("app")).await.unwrap_err().to_string();
    assert!(error.contains(&server.host_keys[0].fingerprint().unwrap()), "{error}");
    let (_, line) = error.split_once("the line: ").unwrap();
    let known = Login { known_hosts: Some(line.to_owned()), ..unknown.clone() };
    assert_eq!(known.observe(&server.uri("app")).await.unwrap(), commit);

    let ignored = Login { insecure: true, ..unknown };
    assert_eq!(ignored.observe(&server.uri("app")).await.unwrap(), commit, "on request any host is taken");
}

#[tokio::test]
async fn a_changed_host_key_is_shown_by_both_fingerprints() {
    let (server, _repo, _, key) = set_up();
    let login = Login { known_hosts: Some(format!("{} {}", server.host(), key.public)), ..Login::new(&server, &key) };
    let error = login.observe(&server.uri("app")).await.unwrap_err().to_string();
    for key in [&server.host_keys[0], &key] {
        assert!(error.contains(&key.fingerprint().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn who_is_refused_is_told_with_which_key_and_as_whom() {
    let (server, _repo, _, key) = set_up();
    let stranger = SshKey::create(tempfile::tempdir().unwrap().keep().as_path(), &["-t", "rsa", "-b", "2048"], "").unwrap();
    let error = Login::new(&server, &stranger).observe(&server.uri("app")).await.unwrap_err();
    assert_eq!(error.reason(), Reason::AuthenticationFailed);
    assert!(error.to_string().contains(&format!("refuses the key ssh-rsa {}", stranger.fingerprint().unwrap())), "{error}");

    let error = Login::new(&server, &key).observe(&server.uri_as("nobody-of-that-name", "app")).await.unwrap_err();
    assert_eq!(error.reason(), Reason::AuthenticationFailed);
    assert!(error.to_string().contains("for the user nobody-of-that-name"), "{error}");
}

#[tokio::test]
async fn what_the_servers_command_says_is_the_error() {
    let (server, _repo, commit, key) = set_up();
    let says = |command: &str| {
        let key = SshKey::create(key.file.parent().unwrap(), &["-t", "ed25519"], "").unwrap();
        server.authorize(&key, command).unwrap();
        Login::new(&server, &key)
    };
    for (command, reason, message) in [
        ("echo 'ERROR: Repository not found.' >&2; exit 1", Reason::RepositoryNotFound, "(it reports: ERROR: Repository not found.)"),
        ("echo 'Forgejo: Cannot find repository: a/b' >&2; exit 1", Reason::RepositoryNotFound, "check `repoUri`"),
        ("echo 'remote: Unauthorized' >&2; exit 1", Reason::AuthenticationFailed, "check what they may read"),
        ("echo out of order >&2; exit 3", Reason::ProtocolError, "reports: out of order"),
        ("exec >&-; sleep 0; echo late >&2", Reason::ProtocolError, "reports: late"),
        ("no-such-command", Reason::ProtocolError, "not found"),
        ("true", Reason::Unreachable, "cut off"),
        ("echo This account is not available", Reason::ProtocolError, "no packets of Git"),
    ] {
        let error = says(command).observe(&server.uri("app")).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{command}: {error}");
        assert!(error.to_string().contains(message), "{command}: {error}");
    }
    let chatty = says("echo hello >&2; git-upload-pack $(echo $SSH_ORIGINAL_COMMAND | cut -d\\' -f2)");
    assert_eq!(chatty.observe(&server.uri("app")).await.unwrap(), commit, "what it says beside its answer does not matter");
}

#[tokio::test]
async fn paths_with_quotes_and_spaces_are_one_path() {
    let (server, _, _, key) = set_up();
    for (name, written) in [("it's a repo", "it's%20a%20repo"), ("größe !$(true)`;", "gr%C3%B6%C3%9Fe%20!$(true)%60;")] {
        let commit = server.repo(name).unwrap().push("main", &[("a", name)]).unwrap();
        assert_eq!(Login::new(&server, &key).observe(&server.uri(written)).await.unwrap(), commit, "{name}");
    }
}

#[tokio::test]
async fn a_repository_passes_to_another_process_with_its_key_and_never_shows_it() {
    let (server, _repo, commit, _) = set_up();
    let key = server.key(&["-t", "ed25519"], "canary").unwrap();
    let login = Login { passphrase: Some("canary".to_owned()), ..Login::new(&server, &key) };
    let sent = Repository { timeout: Duration::from_secs(20), ..login.repository(&server.uri("app")) };
    let shown = format!("{sent:?}");
    assert!(!shown.contains("canary") && !shown.contains("PRIVATE KEY"), "{shown}");
    let received: Repository = serde_json::from_str(&serde_json::to_string(&sent).unwrap()).unwrap();
    assert_eq!(observe(received).await.unwrap(), commit);
}

#[tokio::test]
async fn many_checks_at_once_share_nothing_and_leave_nothing() {
    let (server, _repo, commit, key) = set_up();
    let source = GitSource::new(
        ObjectRef::cluster("ClusterGitRepo", "app"),
        Login::new(&server, &key).repository(&server.uri("app")),
        GitClient::default(),
    );
    let main = Watch::new(Reference::Branch("main".to_owned()));
    let checks = (0..20).map(|_| source.observe(&main));
    for seen in futures_util::future::join_all(checks).await {
        assert_eq!(seen.unwrap().commit, commit);
    }
    let metrics = tokio::runtime::Handle::current().metrics();
    let begin = Instant::now();
    while metrics.num_alive_tasks() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(30), "{} tasks are left", metrics.num_alive_tasks());
        tokio::task::yield_now().await;
    }
}
