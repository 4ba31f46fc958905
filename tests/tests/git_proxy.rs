//! GitSource through a proxy.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::net::{Ipv4Addr, TcpListener};

use git_events_runner_core::{
    Checkout as _, CommitId, ObjectRef, Reason, Reference, Retry, Revision, Source as _, SourceError, Watch,
    git::{Credentials, GitClient, GitSource, Proxy, RepoUri, Repository},
};
use git_events_runner_tests::{GitServer, Options, ProxyServer, SshKey};
use rcgen::{CertificateParams, KeyPair};

const CREDENTIALS: (&str, &str) = ("robot", "canary-of-the-proxy");
/// tinyproxy takes no `%`.
const WITH_PERCENT: (&str, &str) = ("robot%41", "canary%42:of@the/proxy");

async fn observe(server: &GitServer, url: String, credentials: Option<(&str, &str)>) -> Result<(), SourceError> {
    let credentials = credentials.map(|(user, password)| (user.into(), password.into()));
    let mut repository = Repository::new(RepoUri::parse(&server.uri("app")).unwrap());
    repository.proxy = Some(Proxy { url, credentials });
    repository.tls.no_verify = true;
    let source = GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), repository, GitClient::default());
    source.observe(&Watch::new(Reference::Branch("main".to_owned()))).await.map(drop)
}

fn servers() -> [GitServer; 2] {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    let options = [Options::default(), Options { tls: Some((certificate, key.serialize_pem())), ..Options::default() }];
    options.map(|options| {
        let server = GitServer::start(&options).unwrap();
        server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
        server
    })
}

/// The host and port that a proxy logs.
fn port(server: &GitServer) -> &str {
    server.origin().rsplit(':').next().unwrap()
}

#[tokio::test]
async fn http_and_https_go_through_an_http_proxy() {
    let proxy = ProxyServer::http(None).unwrap();
    for server in servers() {
        observe(&server, format!("http://{}", proxy.authority()), None).await.unwrap();
        let log = proxy.log().unwrap();
        assert!(log.contains(port(&server)), "the proxy was not asked for {}: {log}", server.origin());
    }
}

#[tokio::test]
async fn http_and_https_go_through_a_socks_proxy() {
    let proxy = ProxyServer::socks5(None).unwrap();
    for server in servers() {
        observe(&server, format!("socks5://{}", proxy.authority()), None).await.unwrap();
        let log = proxy.log().unwrap();
        assert!(log.contains(port(&server)), "the proxy was not asked for {}: {log}", server.origin());
    }
}

#[tokio::test]
async fn a_proxy_is_opened_by_its_credentials_which_nobody_else_sees() {
    let (http, socks) = (ProxyServer::http(Some(CREDENTIALS)).unwrap(), ProxyServer::socks5(Some(WITH_PERCENT)).unwrap());
    let proxies = [(format!("http://{}", http.authority()), CREDENTIALS), (format!("socks5://{}", socks.authority()), WITH_PERCENT)];
    for server in servers() {
        for (url, right) in &proxies {
            observe(&server, url.clone(), Some(*right)).await.unwrap();
            for wrong in [None, Some(("robot", "canary-that-is-wrong"))] {
                let error = observe(&server, url.clone(), wrong).await.unwrap_err();
                let shown = format!("{error} {error:?}");
                assert!(error.to_string().contains("proxy") && !shown.contains("canary"), "{shown}");
            }
        }
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let server = &servers()[0];
    let gone = ProxyServer::http(None).unwrap().authority();
    let error = observe(server, format!("http://{gone}"), None).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unreachable);
    assert!(error.to_string().contains(&format!("through the proxy http://{gone}")), "{error}");
}

#[tokio::test]
async fn what_no_proxy_can_pass_on_does_not_go_around_it() {
    for uri in ["ssh://git@127.0.0.1/app", "git://127.0.0.1/app"] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut repository = Repository::new(RepoUri::parse(&uri.replace("127.0.0.1", &address)).unwrap());
        repository.proxy = Some(Proxy { url: "http://proxy.example".to_owned(), credentials: None });
        if uri.starts_with("ssh") {
            let key = SshKey::create(tempfile::tempdir().unwrap().path(), &["-t", "ed25519"], "").unwrap();
            repository.credentials = Credentials::Ssh {
                private_key: key.private.as_str().into(),
                passphrase: None,
                known_hosts: None,
                insecure_ignore_host_key: true,
            };
        }
        let source = GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), repository, GitClient::default());
        let revision = Revision { reference: Reference::Branch("main".to_owned()), commit: CommitId::digest_of("") };
        let folder = tempfile::tempdir().unwrap();
        for error in [
            source.observe(&Watch::new(revision.reference.clone())).await.unwrap_err(),
            source.checkout(&revision, folder.path()).await.unwrap_err(),
        ] {
            assert_eq!((error.reason(), error.retry()), (Reason::InvalidSpec, Retry::Never), "{error}");
            assert!(error.to_string().contains("a proxy is for http and https only"), "{error}");
        }
        assert!(listener.accept().is_err(), "nothing has come there");
    }
}
