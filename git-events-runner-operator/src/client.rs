//! The client of the API server.

use std::time::Duration;

use anyhow::Context as _;
use kube::{Client, Config, client::ClientBuilder};
use tower::timeout::TimeoutLayer;
use warp::http::{HeaderValue, header::USER_AGENT};

/// How long a connection may be silent in the middle of an answer: longer than the API server lets a watch last.
const SILENT: Duration = Duration::from_secs(330);

/// How this program calls itself.
const AGENT: &str = concat!("git-events-runner/", env!("CARGO_PKG_VERSION"));

/// A client by KUBECONFIG or the kubeconfig of the user, or else by the ServiceAccount of the Pod.
pub async fn connect(answer_within: Duration) -> anyhow::Result<Client> {
    let config = Config::infer().await.context("there is neither a kubeconfig nor a ServiceAccount: set KUBECONFIG, or run it in a Pod")?;
    with_config(config, answer_within)
}

/// A client by which every request is answered, or given up, within this time, tries and all. Of a watch, that is the begin of its answer.
pub fn with_config(mut config: Config, answer_within: Duration) -> anyhow::Result<Client> {
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    config.connect_timeout = Some(answer_within);
    config.read_timeout = Some(SILENT);
    // Otherwise the time that a connection was idle counts.
    config.reset_reader_on_write = true;
    let builder = ClientBuilder::try_from(config).context("the API server cannot be talked to")?;
    Ok(builder.with_layer(&TimeoutLayer::new(answer_within)).build())
}

/// The namespace of this process: POD_NAMESPACE, or that of its credentials.
pub fn own_namespace(client: &Client) -> String {
    std::env::var("POD_NAMESPACE").unwrap_or_else(|_| client.default_namespace().to_owned())
}

/// What tells this process from all others, as long as there are any: POD_NAME or the name of the host, and a random part.
pub fn own_identity() -> String {
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{}_{}", std::env::var("POD_NAME").unwrap_or_else(|_| host()), uuid::Uuid::new_v4())
}

#[cfg(test)]
mod tests {
    use tokio::{net::TcpListener, time::Instant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_not_answered_is_given_up() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", silent.local_addr().unwrap());
        let (within, begin) = (Duration::from_secs(4), Instant::now());
        let client = with_config(Config::new(address.parse().unwrap()), within).unwrap();
        client.apiserver_version().await.unwrap_err();
        assert!(begin.elapsed() >= within && begin.elapsed() < within * 2, "{:?}", begin.elapsed());
    }
}
