//! GitSource as a GitHub App, against nginx that opens to tokens only which were given for the App's own signature.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::time::Duration;

use futures_util::future::join_all;
use git_events_runner_core::{
    Checkout as _, CommitId, ObjectRef, Reason, Reference, Retry, Revision, Source as _, SourceError, Watch,
    git::{Credentials, GitClient, GitSource, RepoUri, Repository, Tls},
};
use git_events_runner_tests::{APP, AppBehaviour, AppServer, Auth, GitServer, INSTALLATION, Options, SshKey};
use jiff::SignedDuration;
use rcgen::{CertificateParams, KeyPair};

/// A host with a repository that only an App may read.
struct Host {
    api: AppServer,
    git: GitServer,
    certificate: String,
    key: String,
    tip: CommitId,
}

/// A new RSA key, in one form or the other.
fn rsa(form: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    SshKey::create(folder.path(), &["-t", "rsa", "-b", "2048", "-m", form], "").unwrap().private
}

impl Host {
    fn start(form: &str) -> Self {
        let (key, tls_key) = (rsa(form), KeyPair::generate().unwrap());
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&tls_key).unwrap().pem();
        let api = AppServer::start(&key, "ghs_canary").unwrap();
        let tls = Some((certificate.clone(), tls_key.serialize_pem()));
        let git = GitServer::start(&Options { auth: Auth::App(api.address()), tls, ..Options::default() }).unwrap();
        let repo = git.repo("app").unwrap();
        let tip = repo.push("main", &[("a", "1")]).unwrap();
        for number in 0..10 {
            repo.force(&format!("topic-{number}"), tip).unwrap();
        }
        Self { api, git, certificate, key, tip }
    }

    fn repository(&self, app: &str, installation: &str, key: &str) -> Repository {
        let credentials =
            Credentials::GithubApp { app_id: app.to_owned(), installation_id: installation.to_owned(), private_key: key.into() };
        let tls = Tls { ca_certificates: Some(self.certificate.clone()), no_verify: false };
        Repository { credentials, tls, ..Repository::new(RepoUri::parse(&self.git.uri("app")).unwrap()) }
    }

    fn source(&self, client: &GitClient) -> GitSource {
        source(client, self.repository(APP, INSTALLATION, &self.key))
    }
}

fn source(client: &GitClient, repository: Repository) -> GitSource {
    GitSource::new(ObjectRef::namespaced("GitRepo", "default", "app"), repository, client.clone())
}

async fn observe(source: &GitSource, branch: &str) -> Result<CommitId, SourceError> {
    let seen = source.observe(&Watch::new(Reference::Branch(branch.to_owned()))).await;
    if let Err(error) = &seen {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("canary") && !shown.contains("PRIVATE KEY") && error.to_string().len() < 400, "{shown}");
    }
    seen.map(|seen| seen.commit)
}

#[tokio::test]
async fn an_app_checks_and_checks_out_with_one_token_by_keys_of_both_forms() {
    for form in ["PEM", "PKCS8"] {
        let (host, client) = (Host::start(form), GitClient::default());
        let source = host.source(&client);
        assert_eq!(observe(&source, "main").await.unwrap(), host.tip, "{form}");
        let into = tempfile::tempdir().unwrap();
        source.checkout(&Revision { reference: Reference::Branch("main".into()), commit: host.tip }, into.path()).await.unwrap();
        assert_eq!(std::fs::read_to_string(into.path().join("a")).unwrap(), "1");
        let seen = source.observe(&Watch { files: vec!["a".to_owned()], ..Watch::new(Reference::Branch("main".into())) }).await.unwrap();
        assert!(seen.files.is_some());
        assert_eq!(host.api.take_asked(), 1, "{form}");
    }
}

#[tokio::test]
async fn many_who_need_a_token_at_once_share_one() {
    let (host, client) = (Host::start("PEM"), GitClient::default());
    let sources: Vec<_> = (0..50).map(|_| host.source(&client)).collect();
    let seen = join_all(sources.iter().enumerate().map(async |(number, source)| observe(source, &format!("topic-{}", number % 10)).await));
    for seen in seen.await {
        assert_eq!(seen.unwrap(), host.tip);
    }
    assert_eq!(host.api.take_asked(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_some_minutes_before_it_expires_by_the_clock_of_who_gave_it() {
    let (host, client) = (Host::start("PEM"), GitClient::default());
    let source = host.source(&client);
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    // What counts is how long it lasts; that the clocks differ is no reason to ask for each check, or to show one that has expired.
    for (lifetime, ahead, asked) in [(4, 0, 3), (4, 4, 3), (60, 0, 1), (4, -4, 0)] {
        host.api.behave(AppBehaviour { lifetime: minutes(lifetime), ahead: SignedDuration::from_mins(ahead), ..AppBehaviour::default() });
        for _ in 0..3 {
            assert_eq!(observe(&source, "main").await.unwrap(), host.tip);
        }
        assert_eq!(host.api.take_asked(), asked, "{lifetime} minutes, {ahead} ahead");
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_not_shown_again() {
    let (host, client) = (Host::start("PEM"), GitClient::default());
    let source = host.source(&client);
    assert_eq!(observe(&source, "main").await.unwrap(), host.tip);
    host.api.revoke_all();
    assert_eq!(observe(&source, "main").await.unwrap_err().reason(), Reason::AuthenticationFailed);
    assert_eq!(observe(&source, "main").await.unwrap(), host.tip);
    assert_eq!(host.api.take_asked(), 2);
}

#[tokio::test]
async fn every_refusal_has_its_own_message_and_nobody_asks_again_at_once() {
    let (host, other_key) = (Host::start("PEM"), rsa("PEM"));
    let usual = AppBehaviour::default;
    let refusal = |status, headers, body| AppBehaviour { refusal: Some((status, headers, body)), ..usual() };
    let ahead = |minutes| AppBehaviour { ahead: SignedDuration::from_mins(minutes), ..usual() };
    let lacking = "{\"message\": \"The permissions requested are not granted to this installation.\"}";
    let suspended = "{\"message\": \"This installation has been suspended\"}";
    let (app, installation, key) = (APP, INSTALLATION, host.key.as_str());
    use Reason::*;
    for (app, installation, key, behaviour, reason, message) in [
        (app, installation, other_key.as_str(), usual(), AuthenticationFailed, "check appId and the private key in the Secret (A JSON web"),
        ("13", installation, key, usual(), AuthenticationFailed, "check appId and the private key in the Secret (Integration not found)"),
        (app, "35", key, usual(), AuthenticationFailed, "there is no installation 35 of it: check installationId in the Secret"),
        (app, installation, key, ahead(60), AuthenticationFailed, "the clocks there and here are 3"),
        (app, installation, key, ahead(-60), AuthenticationFailed, "the clocks there and here are 3"),
        (
            app,
            installation,
            key,
            refusal(403, "", suspended),
            AuthenticationFailed,
            "installation 34 is suspended: let its owner unsuspend it",
        ),
        (app, installation, key, refusal(403, "", "{}"), AuthenticationFailed, "it is forbidden"),
        (
            app,
            installation,
            key,
            refusal(422, "", lacking),
            AuthenticationFailed,
            "installation 34 does not let it read contents: give the App the permission Contents: read-only, and let the installation's owner \
             accept that (The permissions requested",
        ),
        (app, installation, key, refusal(403, "Retry-After: 90\r\n", "{}"), RateLimited, "asks for fewer requests"),
        (app, installation, key, refusal(429, "Retry-After: 90\r\n", "{}"), RateLimited, "asks for fewer requests"),
        (app, installation, key, refusal(502, "", "<html>"), Unreachable, "is not able to answer now (502"),
        (app, installation, key, refusal(201, "", "{\"token\": 1}"), ProtocolError, "its answer has none"),
        (app, installation, key, refusal(201, "", "canary"), ProtocolError, "its answer has none"),
        (app, installation, key, refusal(302, "Location: https://example.com/canary\r\n", ""), ProtocolError, "answers 302"),
    ] {
        host.api.behave(behaviour);
        let (client, shown) = (GitClient::default(), format!("{app} {installation} {reason:?} {message}"));
        let source = source(&client, host.repository(app, installation, key));
        let error = observe(&source, "main").await.unwrap_err();
        assert!(error.reason() == reason && error.to_string().contains(message), "{shown}: {error:?}");
        for branch in ["main", "topic-1", "topic-2"] {
            let again = observe(&source, branch).await.unwrap_err();
            let Retry::After(wait) = again.retry() else { panic!("{again:?}") };
            let longest = if reason == RateLimited { 90 } else { 5 };
            assert!(wait <= Duration::from_secs(longest) && again.to_string() == error.to_string(), "{shown}: {again:?}");
        }
        assert_eq!(host.api.take_asked(), 1, "{shown}");
    }
}

#[tokio::test]
async fn without_encryption_nothing_is_sent() {
    let (host, client) = (Host::start("PEM"), GitClient::default());
    let uri = RepoUri::parse(&host.git.uri("app").replace("https://", "http://")).unwrap();
    let error = observe(&source(&client, Repository { uri, ..host.repository(APP, INSTALLATION, &host.key) }), "main").await.unwrap_err();
    assert_eq!((error.reason(), error.retry()), (Reason::InvalidSpec, Retry::Never));
    assert!(error.to_string().contains("use https://"), "{error}");
    assert_eq!(host.api.take_asked(), 0);

    let ssh = RepoUri::parse("git@github.com:a/b.git").unwrap();
    let error =
        observe(&source(&client, Repository { uri: ssh, ..host.repository(APP, INSTALLATION, &host.key) }), "main").await.unwrap_err();
    assert!(error.reason() == Reason::InvalidSpec && error.to_string().contains("needs a key"), "{error}");
}

#[tokio::test]
async fn an_api_that_is_not_trusted_or_not_there_gets_no_signature() {
    let (host, client) = (Host::start("PEM"), GitClient::default());
    let usual = host.repository(APP, INSTALLATION, &host.key);
    let error = observe(&source(&client, Repository { tls: Tls::default(), ..usual.clone() }), "main").await.unwrap_err();
    assert_eq!(error.reason(), Reason::CertificateInvalid, "{error}");
    let gone = git_events_runner_tests::free_port().unwrap();
    let uri = RepoUri::parse(&format!("https://127.0.0.1:{gone}/a/b")).unwrap();
    let error = observe(&source(&client, Repository { uri, ..usual }), "main").await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unreachable, "{error}");
    assert!(error.to_string().contains("/api/v3/app/installations/34/access_tokens"), "{error}");
    assert_eq!(host.api.take_asked(), 0);
}
