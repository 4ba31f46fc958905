//! Over https: what http servers do, behind TLS, and what only TLS makes possible.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
};

use git_events_runner_core::{
    Reason,
    git::{RepoUri, Repository, Tls},
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{copy, copy_bidirectional, split},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Asked, Case, http,
    server::{Connection, REF, Server, pack_start},
};

/// How a connection ends when the server has ended its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// As TLS demands it.
    Said,
    /// Without a word, as somebody on the way could end it.
    Cut,
}

pub fn cases() -> Vec<Case> {
    let behind = http::cases().into_iter().map(|case| {
        let port = front(case.port, End::Said).port();
        let what = case.what.replace("http:", "https:");
        Case { what, port, repository: at(port, case.repository.clone()), ..case }
    });
    behind.chain(cut()).chain(no_tls()).collect()
}

fn at(port: u16, repository: Repository) -> Repository {
    let uri = RepoUri::parse(&format!("https://127.0.0.1:{port}/app")).unwrap();
    Repository { uri, tls: Tls { no_verify: true, ..Tls::default() }, ..repository }
}

fn cut() -> Vec<Case> {
    let check = |what: &str, server: Server| {
        let port = front(server.address.port(), End::Cut).port();
        let repository = at(port, http::repository(&server));
        Case::at(&format!("https: {what}"), repository, port, server, Reason::Unreachable, "broke off: peer closed connection without")
    };
    vec![
        check("cut at once", Server::start(|c| c.request().map(drop))),
        check("cut within the refs", Server::start(|c| c.answer_once("200 OK", http::ADVERTISEMENT, REF))),
        check("cut within the pack", http::server_of_version_2(|c| c.answer("200 OK", http::RESULT, &pack_start()))).of(Asked::Checkout),
    ]
}

fn no_tls() -> Vec<Case> {
    let check = |what: &str, script: fn(&mut Connection) -> io::Result<()>, reason, message| {
        let server = Server::start(script);
        Case::check(&format!("https: {what}"), at(server.address.port(), http::repository(&server)), server, reason, message)
    };
    use Reason::*;
    vec![
        check("silent before TLS", Connection::silence, Timeout, "took longer than 500ms"),
        check("a byte of TLS now and then", |c| c.trickle(&[22, 3, 3, 64, 0]), Timeout, "took longer than 500ms"),
        check("noise before TLS", |c| c.endless(b"noise"), Unreachable, "it does not speak TLS there"),
        check("closed before TLS", |_| Ok(()), Unreachable, "no connection to"),
        check("half closed before TLS", |c| c.half_close(&[22, 3, 3]), Unreachable, "no connection to"),
    ]
}

/// Speaks TLS in front of a server at this port, for as long as the tests run.
fn front(port: u16, end: End) -> SocketAddr {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = RUNTIME.get_or_init(build);
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let (address, acceptor) = (listener.local_addr().unwrap(), acceptor());
    runtime.spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, acceptor.clone(), port, end));
        }
    });
    address
}

fn acceptor() -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let certificate: CertificateDer<'static> = CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap().into();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions().unwrap();
    TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap()))
}

async fn pass(client: TcpStream, acceptor: TlsAcceptor, port: u16, end: End) -> io::Result<()> {
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    if end == End::Said {
        return copy_bidirectional(&mut client, &mut server).await.map(drop);
    }
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (split(client), server.split());
    tokio::select! {
        copied = copy(&mut from_client, &mut to_server) => copied,
        copied = copy(&mut from_server, &mut to_client) => copied,
    }
    .map(drop)
}
