//! The same of private repositories of a real Gitea.

use data_encoding::BASE64;
use git_events_runner_core::{Reason, git::Credentials};
use git_events_runner_tests::{Forge, SshKey};

use super::way::{Way, assert_as_git_does, assert_refused, of_ssh, ssh, token};

fn over_http(forge: &Forge, name: &str, right: Credentials, stranger: &SshKey) -> Way {
    use Reason::AuthenticationFailed;
    let ((user, password), refuses) = (forge.login(), "refuses the credentials (401");
    let authorization = BASE64.encode(format!("{user}:{password}").as_bytes());
    let basic = |user: &str, password: &str| Credentials::Basic { username: user.into(), password: password.into() };
    let wrong = vec![
        (Credentials::None, AuthenticationFailed, "none are configured"),
        (basic(user, "canary"), AuthenticationFailed, refuses),
        (basic("canary", password), AuthenticationFailed, refuses),
        (token("token canary"), AuthenticationFailed, refuses),
        (token(&format!("canary {}", forge.token())), AuthenticationFailed, refuses),
        of_ssh(stranger),
    ];
    Way {
        what: format!("Gitea over http, {name}"),
        repo: forge.repo(&format!("{name}-app")).unwrap(),
        uri: forge.uri(&format!("{name}-app")),
        git: vec!["-c".to_owned(), format!("http.extraHeader=Authorization: Basic {authorization}")],
        ca_certificates: None,
        right,
        wrong,
        _server: Box::new(()),
    }
}

fn over_ssh(forge: &Forge, name: &str, key: &SshKey, passphrase: Option<&str>, stranger: &SshKey) -> Way {
    use Reason::{AuthenticationFailed, HostKeyMismatch, InvalidSpec};
    let known = || forge.known_hosts();
    let plain = forge.key(&["-t", "ed25519"], "").unwrap();
    Way {
        what: format!("Gitea over ssh, {name}"),
        repo: forge.repo(&format!("{name}-app")).unwrap(),
        uri: forge.ssh_uri(&format!("{name}-app")),
        git: vec!["-c".to_owned(), format!("core.sshCommand={}", forge.ssh_command(&plain).unwrap())],
        ca_certificates: None,
        right: ssh(key, passphrase, known()),
        wrong: vec![
            (ssh(stranger, None, known()), AuthenticationFailed, "refuses the key ssh-ed25519 SHA256:"),
            (ssh(key, passphrase, String::new()), HostKeyMismatch, "is not known"),
            (Credentials::None, InvalidSpec, "needs a key"),
        ],
        _server: Box::new(()),
    }
}

#[tokio::test]
async fn private_repositories_of_gitea_with_every_credential() {
    let forge = Forge::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stranger = SshKey::create(folder.path(), &["-t", "ed25519"], "").unwrap();
    let (user, password) = forge.login();
    let with_password = |password: &str| Credentials::Basic { username: user.into(), password: password.into() };
    let mut ways = vec![
        over_http(&forge, "password", with_password(password), &stranger),
        over_http(&forge, "token-as-password", with_password(forge.token()), &stranger),
        over_http(&forge, "token", token(&format!("token {}", forge.token())), &stranger),
        over_http(&forge, "bearer", token(&format!("Bearer {}", forge.token())), &stranger),
    ];
    for (kind, passphrase) in [("ed25519", None), ("ecdsa", Some("a canary")), ("rsa", None), ("ed25519", Some("a canary"))] {
        let key = forge.key(&["-t", kind], passphrase.unwrap_or_default()).unwrap();
        ways.push(over_ssh(&forge, &format!("{kind}-{}", passphrase.is_some()), &key, passphrase, &stranger));
    }
    for way in &ways {
        assert_as_git_does(way).await;
        assert_refused(way).await;
    }
}
