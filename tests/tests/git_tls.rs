//! GitSource over https: which certificates it accepts, and what it says of the others.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::{fs, process::Command};

use git_events_runner_core::{
    ObjectRef, Reason, Reference, Source as _, SourceError, Watch,
    git::{GitClient, GitSource, RepoUri, Repository, Tls},
};
use git_events_runner_tests::{GitServer, Options, Program, free_port};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// A certificate authority of this name, and its certificate as PEM.
fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::new(vec![]).unwrap());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

/// A server with a certificate of this authority, or one that it signed itself.
fn server(names: &[&str], by: Option<&Issuer<'_, KeyPair>>, adapt: impl Fn(&mut CertificateParams)) -> (GitServer, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    adapt(&mut params);
    let certificate = by.map_or_else(|| params.self_signed(&key), |issuer| params.signed_by(&key, issuer)).unwrap().pem();
    let tls = Some((certificate.clone(), key.serialize_pem()));
    (GitServer::start(&Options { tls, ..Options::default() }).unwrap(), certificate)
}

async fn observe(client: &GitClient, server: &GitServer, ca: Option<&str>) -> Result<(), SourceError> {
    let tls = Tls { ca_certificates: ca.map(str::to_owned), no_verify: false };
    let repository = Repository { tls, ..Repository::new(RepoUri::parse(&server.uri("app")).unwrap()) };
    let source = GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), repository, client.clone());
    source.observe(&Watch::new(Reference::Branch("main".to_owned()))).await.map(drop)
}

#[tokio::test]
async fn a_certificate_of_the_given_authority_is_accepted_and_of_no_other() {
    let ((issuer, ca), (_, other_ca)) = (authority("ours"), authority("theirs"));
    let (server, _) = server(&["127.0.0.1"], Some(&issuer), |_| {});
    server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    let client = GitClient::default();
    for (ca, accepted) in
        [(None, false), (Some(&ca), true), (Some(&other_ca), false), (Some(&format!("{other_ca}\n{ca}")), true), (None, false)]
    {
        let seen = observe(&client, &server, ca.map(String::as_str)).await;
        if accepted {
            seen.unwrap();
        } else {
            let error = seen.unwrap_err();
            assert_eq!(error.reason(), Reason::CertificateInvalid, "trust does not pass from one repository to another");
            assert!(error.to_string().contains("signed by nobody who is trusted here"), "{error}");
        }
    }
}

#[tokio::test]
async fn every_other_certificate_is_refused_with_its_own_reason() {
    let (issuer, ca) = authority("ours");
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let future = |params: &mut CertificateParams| params.not_before = date_time_ymd(4000, 1, 1);
    let is_ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let cases = [
        (server(&["git.example.com"], Some(&issuer), |_| {}), "made for another host name"),
        (server(&["127.0.0.1"], Some(&issuer), expired), "has expired"),
        (server(&["127.0.0.1"], Some(&issuer), future), "not valid yet"),
        (server(&["127.0.0.1"], None, is_ca), "CA:TRUE"),
    ];
    for ((server, certificate), message) in cases {
        // Trusting the server's own certificate helps none of these.
        let error = observe(&GitClient::default(), &server, Some(&format!("{ca}{certificate}"))).await.unwrap_err();
        assert_eq!(error.reason(), Reason::CertificateInvalid, "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[tokio::test]
async fn any_certificate_is_accepted_where_none_is_to_be_verified_and_nowhere_else() {
    let (server, _) = server(&["git.example.com"], None, |params| params.not_after = date_time_ymd(2020, 1, 1));
    server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    let client = GitClient::default();
    let repository = Repository::new(RepoUri::parse(&server.uri("app")).unwrap());
    let unverified = Repository { tls: Tls { no_verify: true, ..Tls::default() }, ..repository.clone() };
    for (repository, accepted) in [(&repository, false), (&unverified, true), (&repository, false)] {
        let source = GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), repository.clone(), client.clone());
        let seen = source.observe(&Watch::new(Reference::Branch("main".to_owned()))).await;
        assert_eq!(seen.is_ok(), accepted, "connections are not shared between those who verify and those who do not: {seen:?}");
    }
}

#[tokio::test]
async fn a_bundle_without_certificates_is_an_error_of_the_specification() {
    let server = GitServer::start(&Options::default()).unwrap();
    for bundle in ["", "canary", "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n"] {
        let error = observe(&GitClient::default(), &server, Some(bundle)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidSpec);
        assert!(error.to_string().starts_with("`tlsConfig.caCert` cannot be used") && !error.to_string().contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn a_port_that_does_not_speak_tls_is_told_as_such() {
    let server = GitServer::start(&Options::default()).unwrap();
    let uri = server.uri("app").replace("http://", "https://");
    let source =
        GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), Repository::new(RepoUri::parse(&uri).unwrap()), GitClient::default());
    let error = source.observe(&Watch::new(Reference::Branch("main".to_owned()))).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unreachable);
    assert!(error.to_string().contains("it does not speak TLS there: check the port, or use http://"), "{error}");
}

/// A certificate for a server that openssl makes and signs by its own key, and this key; without any extension it is one of version 1.
fn made_by_openssl(arguments: &[&str]) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let [config, key, certificate] = ["config", "key", "certificate"].map(|name| folder.path().join(name));
    fs::write(&config, "[req]\ndistinguished_name = name\n[name]\n").unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "2"]).args(arguments);
    openssl.arg("-config").arg(&config).arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    let made = openssl.output().expect("openssl is not installed: apt-get install openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (fs::read_to_string(certificate).unwrap(), fs::read_to_string(key).unwrap())
}

const GOOD: [&str; 4] = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=IP:127.0.0.1"];

async fn observe_made(made: &(String, String), tls_settings: &'static str) -> Result<(), SourceError> {
    let server = GitServer::start(&Options { tls: Some(made.clone()), tls_settings, ..Options::default() }).unwrap();
    server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    observe(&GitClient::default(), &server, Some(&made.0)).await
}

#[tokio::test]
async fn certificates_as_they_were_made_once_are_refused_in_a_sentence_that_helps() {
    observe_made(&made_by_openssl(&GOOD), "").await.unwrap();
    for (arguments, message) in [
        (["-addext", "basicConstraints=critical,CA:FALSE"].as_slice(), "it has no subjectAltName, and the host in its CN does not count"),
        (&[], "it is of X.509 version 1"),
        (&[GOOD.as_slice(), &["-sha1"]].concat(), "it is signed in a way that is not safe any longer, such as SHA-1"),
    ] {
        let error = observe_made(&made_by_openssl(arguments), "").await.unwrap_err();
        assert_eq!(error.reason(), Reason::CertificateInvalid, "{error}");
        assert!(error.to_string().contains(message) && error.to_string().len() < 300, "{error}");
    }
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_or_speaks_old_tls_only_is_refused_for_good() {
    let made = made_by_openssl(&GOOD);
    let error = observe_made(&made, "ssl_protocols TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;").await.unwrap_err();
    assert_eq!(error.reason(), Reason::ProtocolError, "{error}");
    assert!(error.to_string().contains("it speaks no TLS newer than 1.1: let it speak 1.2 or 1.3"), "{error}");

    // nginx says so in a page.
    let error = observe_made(&made, "ssl_verify_client on; ssl_client_certificate tls.crt;").await.unwrap_err();
    assert_eq!(error.reason(), Reason::ProtocolError, "{error}");
    assert!(error.to_string().contains("(it says: 400 No required SSL certificate was sent)"), "{error}");

    // Others break off.
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = ["certificate", "key"].map(|name| folder.path().join(name));
    fs::write(&certificate, &made.0).unwrap();
    fs::write(&key, &made.1).unwrap();
    for (version, reason, message) in [
        ("-tls1_3", Reason::AuthenticationFailed, "it asks for a certificate of the client, which cannot be set here"),
        ("-tls1_2", Reason::ProtocolError, "it may ask for a certificate of the client, which cannot be set here"),
    ] {
        let port = free_port().unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["s_server", "-Verify", "1", "-verify_return_error", "-www", version, "-accept", &format!("127.0.0.1:{port}")]);
        let server = Program::start({
            openssl.arg("-cert").arg(&certificate).arg("-key").arg(&key);
            openssl
        });
        let server = server.unwrap();
        server.wait_for_line("ACCEPT").unwrap();
        let uri = RepoUri::parse(&format!("https://127.0.0.1:{port}/app")).unwrap();
        let tls = Tls { ca_certificates: Some(made.0.clone()), no_verify: false };
        let source =
            GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), Repository { tls, ..Repository::new(uri) }, GitClient::default());
        let error = source.observe(&Watch::new(Reference::Branch("main".to_owned()))).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}
