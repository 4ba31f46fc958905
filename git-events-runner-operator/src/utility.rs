//! The utility port: `/alive`, `/ready`, `/metrics`, and a page of all triggers.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use warp::{
    Filter, Reply,
    http::{HeaderValue, Method, StatusCode, header},
    path::FullPath,
    reply::Response,
};

use crate::{metrics::Metrics, overview::page::Page};

#[cfg(test)]
mod tests;

/// How often a pulse beats, and how long it may be missing.
const BEAT: Duration = Duration::from_secs(1);
const MISSING: Duration = Duration::from_secs(30);

/// Whether webhooks are taken.
pub enum Ready {
    /// With what is answered meanwhile.
    No(String),
    Yes,
}

impl Default for Ready {
    fn default() -> Self {
        Self::No("not ready".to_owned())
    }
}

/// Shows that a task goes on.
#[derive(Clone)]
pub struct Pulse(Arc<Mutex<Instant>>);

impl Pulse {
    /// A pulse that has beaten just now.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// Beats for ever. It is to be polled by the task that it shows.
    pub async fn beat(&self) -> Infallible {
        loop {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            tokio::time::sleep(BEAT).await;
        }
    }

    fn is_missing(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > MISSING
    }
}

/// Answers `/alive` while there is a pulse, `/ready` when it is so, `/metrics`, and the page at `/`.
pub fn routes(
    pulse: Pulse,
    ready: watch::Receiver<Ready>,
    metrics: Metrics,
    page: Page,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone {
    let answer = move |method: Method, path: FullPath| {
        let (pulse, ready, metrics, page) = (pulse.clone(), ready.clone(), metrics.clone(), page.clone());
        async move {
            let asks = method == Method::GET || method == Method::HEAD;
            match path.as_str() {
                "/" | "/alive" | "/ready" | "/metrics" if !asks => {
                    let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here");
                    refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
                    refused
                }
                "/" => page
                    .html()
                    .await
                    .map_or_else(|why| text(StatusCode::SERVICE_UNAVAILABLE, why), |page| warp::reply::html(page).into_response()),
                "/alive" if pulse.is_missing() => text(StatusCode::SERVICE_UNAVAILABLE, "stuck"),
                "/alive" => text(StatusCode::OK, "alive"),
                "/ready" => match &*ready.borrow() {
                    Ready::Yes => text(StatusCode::OK, "ready"),
                    Ready::No(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
                },
                "/metrics" => measured(&metrics),
                _ => text(StatusCode::NOT_FOUND, "there is nothing here: the paths are /, /alive, /ready and /metrics"),
            }
        }
    };
    warp::method().and(warp::path::full()).then(answer)
}

fn measured(metrics: &Metrics) -> Response {
    let Ok(encoded) = metrics.encode() else { return text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written") };
    let mut response = encoded.into_response();
    let open_metrics = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, open_metrics);
    response
}

fn text(code: StatusCode, message: impl Into<String>) -> Response {
    warp::reply::with_status(message.into(), code).into_response()
}
