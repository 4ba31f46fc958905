//! Webhooks by https.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use git_events_runner_tests::{Auth, Operator};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    fixture::{Fixture, request, wait_for},
    manifests::{action, git_repo, secret, webhook_trigger, with},
};

/// A certificate, and it with its key as PEM.
pub struct Certificate {
    der: CertificateDer<'static>,
    pub pem: String,
    key: String,
}

impl Certificate {
    pub fn new() -> Self {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self { der: cert.der().clone(), pem: cert.pem(), key: signing_key.serialize_pem() }
    }

    pub fn secret(&self) -> serde_json::Value {
        secret("certificate", &[("tls.crt", &self.pem), ("tls.key", &self.key)])
    }

    /// Connects to the operator as somebody who trusts this certificate alone; None if that is not what is shown.
    async fn connect(&self, operator: &Operator) -> Option<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions().unwrap();
        let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
        let stream = TcpStream::connect(("127.0.0.1", operator.webhooks_port())).await.ok()?;
        connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.ok()
    }

    /// Posts to the operator over such a connection.
    async fn post(&self, operator: &Operator, path: &str) -> Option<String> {
        let mut stream = self.connect(operator).await?;
        let request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        Some(answer)
    }

    async fn wait_until_shown(&self, operator: &Operator, path: &str) -> String {
        wait_for("an answer with this certificate", async || self.post(operator, path).await).await
    }
}

async fn fixture() -> (Fixture, String) {
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[]).unwrap();
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    f.put(with(webhook_trigger("hook", "app", "act"), "sources.watchOn", json!({ "onChangeOnly": false }))).await;
    let path = format!("/{}/hook/app", &*f.namespace);
    (f, path)
}

#[tokio::test]
async fn webhooks_are_served_with_the_certificate_of_a_secret_and_with_the_one_that_comes_after_it() {
    let (f, path) = fixture().await;
    let (first, second) = (Certificate::new(), Certificate::new());
    f.put(first.secret()).await;
    let operator = f.operator(&["--tls-secret-name", "certificate"]);
    let answer = first.wait_until_shown(&operator, &path).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    f.wait_for_succeeded(1).await;
    operator.webhook(&path, ("x-unused", "")).expect_err("it is not served by http");

    f.put(secret("certificate", &[("tls.crt", &first.pem), ("tls.key", "no key")])).await;
    operator.wait_for_line("the certificate for webhooks cannot be used, and is looked at again: the key is no PEM").unwrap();
    assert!(first.post(&operator, &path).await.is_some(), "the last good one stays in use");
    f.put(second.secret()).await;
    second.wait_until_shown(&operator, &path).await;
    assert!(first.post(&operator, &path).await.is_none());
}

#[tokio::test]
async fn who_begins_to_agree_on_how_to_encrypt_and_goes_no_further_is_dropped() {
    let (f, path) = fixture().await;
    let certificate = Certificate::new();
    f.put(certificate.secret()).await;
    let operator = f.operator(&["--tls-secret-name", "certificate"]);
    let begin = Instant::now();
    // Nothing, the start of a greeting, and what is none.
    let clients = [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"POST / HTTP/1.1\r\n\r\n"].map(async |sent| {
        let mut stream = TcpStream::connect(("127.0.0.1", operator.webhooks_port())).await.unwrap();
        stream.write_all(sent).await.unwrap();
        // It is closed, or reset; what comes before that is the alert.
        let _ = stream.read_to_end(&mut vec![]).await;
        begin.elapsed()
    });
    assert!(certificate.post(&operator, &path).await.is_some(), "others are answered meanwhile");
    for after in join_all(clients).await {
        assert!(after < Duration::from_secs(20), "it is dropped after {after:?}");
    }
}

#[tokio::test]
async fn a_certificate_in_files_is_read_again_when_it_changes() {
    let (f, path) = fixture().await;
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let write = |pair: &Certificate| {
        let replace = |path: &Path, text: &str| {
            fs::write(path.with_extension("new"), text).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        };
        replace(&certificate, &pair.pem);
        replace(&key, &pair.key);
    };
    let (first, second) = (Certificate::new(), Certificate::new());
    write(&first);
    let operator = f.operator(&["--tls-cert-path", certificate.to_str().unwrap(), "--tls-key-path", key.to_str().unwrap()]);
    first.wait_until_shown(&operator, &path).await;
    write(&second);
    second.wait_until_shown(&operator, &path).await;
}

#[tokio::test]
async fn a_request_of_which_half_has_come_when_the_end_is_asked_for_is_answered_and_runs() {
    let (f, path) = fixture().await;
    let certificate = Certificate::new();
    f.put(certificate.secret()).await;
    let args = ["--tls-secret-name", "certificate"];
    let operator = f.operator(&args);
    let mut stream = wait_for("a connection", async || certificate.connect(&operator).await).await;
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // Its body is asked for as soon as it is in flight.
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{").await.unwrap();

    operator.ask_to_end().unwrap();
    let refused = async || TcpStream::connect(("127.0.0.1", operator.webhooks_port())).await.is_err().then_some(());
    wait_for("no new connection", refused).await;
    stream.write_all(b"}").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert!(operator.finish().unwrap().0.success());
    let _next = f.operator(&args);
    let run = request(&f.wait_for_succeeded(1).await[0]);
    assert!(run.requests.iter().all(|id| answer.contains(id.as_str())) && run.requests.len() == 1, "{run:?} for {answer}");
}
