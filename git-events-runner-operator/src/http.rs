//! The accept loop beneath every HTTP port: warp's own sets no timeouts and cannot be given TLS.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use hyper::{
    Request,
    body::{Body, Incoming},
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::HttpService,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use tracing::{debug, warn};
use warp::{Filter, Reply, reply::Response};

/// How long a client may take to send its headers; it also ends connections that are kept and not used.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// How much of a request's head is read, in bytes, and how many headers it may have.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 64;

/// How many connections are served at a time; more wait to be accepted. Both ports together leave some of the 1,024 files that a process may
/// often have open.
const MAX_CONNECTIONS: usize = 400;

/// After this time the answer to a request says that it is the last one of its connection. So replicas share connections that are kept.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// After this time a connection is cut. By then only those are left whose client does not read the answers, or hardly.
const CUT_AFTER: Duration = Duration::from_secs(60);

/// How long requests in flight may take after the end was asked for.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// How long a client may take to agree on how to encrypt.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// Serves until `stop` turns true, then finishes what is in flight. With a configuration of TLS, connections are encrypted by the one of the
/// moment that they come.
pub async fn serve<F>(listener: TcpListener, tls: Option<watch::Receiver<Arc<ServerConfig>>>, routes: F, mut stop: watch::Receiver<bool>)
where
    F: Filter + Clone + Send + Sync + 'static,
    F::Extract: Reply,
    F::Error: Into<warp::Rejection>,
    F: Filter<Error = std::convert::Infallible>,
{
    let service = warp::service(routes);
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let in_flight = GracefulShutdown::new();
    loop {
        let accept = async {
            let permit = Arc::clone(&connections).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accept => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files, mostly: it passes when connections end.
                warn!("no connection can be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (began, watcher) = (Instant::now(), in_flight.watcher());
        let service = ServiceExt::<Request<Incoming>>::map_response(service.clone(), move |mut answer: Response| {
            if began.elapsed() > KEPT_FOR {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            answer
        });
        let service = TowerToHyperService::new(service);
        let tls = tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.borrow())));
        tokio::spawn(async move {
            let served = match tls {
                None => cut(watcher.watch(connection(stream, service))).await,
                Some(tls) => match timeout(HANDSHAKE_WITHIN, tls.accept(stream)).await {
                    Ok(Ok(stream)) => cut(watcher.watch(connection(stream, service))).await,
                    Ok(Err(error)) => Err(error.into()),
                    Err(late) => Err(late.into()),
                },
            };
            if let Err(error) = served {
                debug!("a connection ended: {error}");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_WITHIN, in_flight.shutdown()).await.is_err() {
        warn!("requests in flight took longer than {DRAIN_WITHIN:?} to finish, and were given up");
    }
}

async fn cut(served: impl Future<Output = hyper::Result<()>>) -> anyhow::Result<()> {
    Ok(timeout(CUT_AFTER, served).await.context("it is cut")??)
}

fn connection<I, S>(stream: I, service: S) -> http1::Connection<TokioIo<I>, S>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: HttpService<Incoming>,
    S::ResBody: 'static,
    <S::ResBody as Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
}

/// Binds the first of these addresses that can be; `flags` choose another.
pub async fn bind(addresses: &[SocketAddr], purpose: &str, flags: &str) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(addresses).await;
    let address = addresses.last().map(ToString::to_string).unwrap_or_default();
    bound.with_context(|| format!("{address} cannot be listened on for {purpose}: choose another {flags}"))
}

/// A port on all addresses of this machine: those of IPv6, which takes those of IPv4 along, or of IPv4 where there is no IPv6.
pub fn everywhere(port: u16) -> [SocketAddr; 2] {
    [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
}
