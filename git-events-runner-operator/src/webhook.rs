//! The webhook listener. It knows the domain only through [`Inbox`]: a request is durable before it is answered.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _};
use git_events_runner_core::{Accepted, FireRequest, Inbox, PendingRequest, Plan, Reason, RequestId, StateError, TriggerId, crd};
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tracing::{error, info};
use warp::{
    Buf, Filter, Rejection, Reply,
    http::{HeaderMap, Method, StatusCode, header},
    path::Tail,
    reply::Response,
};

/// The largest body that is taken, in bytes.
const MAX_BODY: usize = 3 << 20;

/// How long a client may take to send its body.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// What a client that is to try again is told to wait, in seconds.
const RETRY_AFTER: &str = "10";

/// What the listener knows of a WebhookTrigger.
pub struct Hook {
    pub id: TriggerId,
    pub sources: BTreeSet<String>,
    pub multi_source: bool,
    /// Whether each request starts the action, changed or not.
    pub always: bool,
    /// Why it takes no requests, if it does not.
    pub closed: Option<String>,
    pub proof: Proof,
}

/// How a request proves itself.
pub enum Proof {
    /// It need not.
    None,
    /// By a header that holds the token.
    Header { name: header::HeaderName, token: Token },
}

/// Why a trigger cannot tell who asks.
#[derive(Debug, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct NoProof {
    pub reason: Reason,
    pub message: String,
}

impl Proof {
    /// What a trigger asks for. `secret` answers the value of a key of a Secret of its namespace, or what is missing.
    pub async fn of<F: Future<Output = Result<String, NoProof>>>(
        webhook: &crd::Webhook,
        default_header: &str,
        secret: impl FnOnce(String, String) -> F,
    ) -> Result<Self, NoProof> {
        let Some(crd::WebhookAuth { auth_type, secret_ref, key, header }) = &webhook.auth_config else {
            let message = "set webhook.authConfig, or webhook.allowUnauthenticated if anybody may fire it";
            return if webhook.allow_unauthenticated { Ok(Self::None) } else { Err(NoProof::new(Reason::AuthenticationRequired, message)) };
        };
        if *auth_type != crd::WebhookAuthType::Header {
            return Err(NoProof::new(Reason::InvalidSpec, "webhook.authConfig.type: only header is available yet"));
        }
        let header = header.as_deref().unwrap_or(default_header);
        let name = header::HeaderName::try_from(header).map_err(|_malformed| {
            NoProof::new(Reason::InvalidSpec, format!("webhook.authConfig.header: `{header}` cannot be the name of a header"))
        })?;
        let token = secret(secret_ref.name.clone(), key.clone()).await?;
        if token.is_empty() {
            let message = format!("webhook.authConfig: key `{key}` of the Secret {} is empty", secret_ref.name);
            return Err(NoProof::new(Reason::SecretNotFound, message));
        }
        Ok(Self::Header { name, token: Token::new(token) })
    }
}

impl NoProof {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// A token, as its digest: comparing two takes as long however much of them is equal.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    pub fn new(token: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(token).into())
    }
}

impl Hook {
    /// The hook of a trigger, or of one that cannot tell who asks, a closed one.
    pub fn new(id: &TriggerId, plan: &Plan, webhook: &crd::Webhook, proof: Result<Proof, NoProof>) -> Self {
        // What is wrong with a Secret is nobody's business at the other end.
        let closed = match &proof {
            Err(_) => Some("the trigger cannot check who asks: see its status, or the log".to_owned()),
            Ok(_) => plan.suspend.then(|| "the trigger is suspended".to_owned()),
        };
        Self {
            id: id.clone(),
            sources: plan.sources.iter().map(|source| source.name.clone()).collect(),
            multi_source: webhook.multi_source,
            always: !plan.on_change_only,
            closed,
            proof: proof.unwrap_or(Proof::None),
        }
    }
}

/// Where hooks are looked up, and what is told that a request was accepted.
#[async_trait]
pub trait Hooks: Send + Sync {
    async fn find(&self, namespace: &str, name: &str) -> Option<Arc<Hook>>;
    fn accepted(&self, id: &TriggerId);
}

/// Why a request is not accepted.
struct Refused(StatusCode, String);

fn refused(code: StatusCode, message: &str) -> Refused {
    Refused(code, message.to_owned())
}

#[derive(Serialize)]
struct Answer<'a> {
    status: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<&'a str>,
}

fn answer(code: StatusCode, message: &str, task_id: Option<&str>) -> Response {
    let status = if code.is_success() { "ok" } else { "error" };
    let mut response = warp::reply::with_status(warp::reply::json(&Answer { status, message, task_id }), code).into_response();
    if code == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(RETRY_AFTER));
    }
    response
}

/// `POST /{namespace}/{trigger}` and `POST /{namespace}/{trigger}/{source}`; everything else that is HTTP/1.1 is refused as JSON, too.
/// So many requests are answered at a time; more wait.
pub fn routes(
    hooks: Arc<dyn Hooks>,
    inbox: Arc<dyn Inbox>,
    parallelism: usize,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone {
    let parallel = Arc::new(Semaphore::new(parallelism));
    warp::method()
        .and(warp::path::tail())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |method: Method, path: Tail, headers: HeaderMap, body| {
            let (hooks, inbox, parallel) = (Arc::clone(&hooks), Arc::clone(&inbox), Arc::clone(&parallel));
            async move {
                let _permit = parallel.acquire().await;
                let received = receive(&*hooks, &*inbox, &method, path.as_str(), &headers, body).await;
                received.unwrap_or_else(|Refused(code, message)| answer(code, &message, None))
            }
        })
        .recover(|rejected: Rejection| async move {
            error!("a request was not understood: {rejected:?}");
            Ok::<_, Infallible>(answer(StatusCode::BAD_REQUEST, "the request cannot be read", None))
        })
        .unify()
}

async fn receive<B: Buf>(
    hooks: &dyn Hooks,
    inbox: &dyn Inbox,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: impl Stream<Item = Result<B, warp::Error>>,
) -> Result<Response, Refused> {
    let parts: Vec<_> = path.trim_end_matches('/').split('/').collect();
    let (namespace, name, source) = match parts[..] {
        [namespace, name] => (namespace, name, None),
        [namespace, name, source] => (namespace, name, Some(source)),
        _ => {
            return Err(refused(
                StatusCode::NOT_FOUND,
                "there is nothing here: the path is /{namespace}/{trigger} or /{namespace}/{trigger}/{source}",
            ));
        }
    };
    if method != Method::POST {
        return Err(refused(StatusCode::METHOD_NOT_ALLOWED, "a webhook is a POST"));
    }
    if !is_content_type_known(headers) {
        let message = "the content type is neither application/json nor application/x-www-form-urlencoded nor text/plain";
        return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let no_such_trigger = || refused(StatusCode::NOT_FOUND, "there is no such trigger");
    let hook = hooks.find(namespace, name).await.ok_or_else(no_such_trigger)?;
    discard(body).await?;
    authenticate(&hook.proof, headers)?;
    let sources = match source {
        Some(source) if hook.sources.contains(source) => BTreeSet::from([source.to_owned()]),
        Some(_) => return Err(refused(StatusCode::NOT_FOUND, "the trigger has no such source")),
        None if hook.multi_source => hook.sources.clone(),
        None => {
            return Err(refused(StatusCode::BAD_REQUEST, "the trigger is not multiSource: name a source, /{namespace}/{trigger}/{source}"));
        }
    };
    if let Some(why) = &hook.closed {
        return Err(refused(StatusCode::SERVICE_UNAVAILABLE, why));
    }
    record(hooks, inbox, &hook, sources).await
}

async fn record(hooks: &dyn Hooks, inbox: &dyn Inbox, hook: &Hook, sources: BTreeSet<String>) -> Result<Response, Refused> {
    let id = RequestId::try_from(uuid::Uuid::new_v4().to_string()).expect("a UUID is 36 hexadecimal digits and hyphens");
    let request = PendingRequest { sources, received_at: Timestamp::now(), commit: None, always: hook.always };
    match inbox.request(&hook.id, &FireRequest { id: id.clone(), request }).await {
        Ok(Accepted::Recorded | Accepted::AlreadyPending) => {
            info!(trigger = %hook.id, request = %id, "request accepted");
            hooks.accepted(&hook.id);
            Ok(answer(StatusCode::ACCEPTED, "recorded", Some(id.as_str())))
        }
        Err(full @ StateError::Full(_)) => Err(refused(StatusCode::SERVICE_UNAVAILABLE, &full.to_string())),
        Err(failed) => {
            error!(trigger = %hook.id, "a request cannot be recorded: {failed}");
            Err(refused(StatusCode::SERVICE_UNAVAILABLE, "the request cannot be recorded now"))
        }
    }
}

fn is_content_type_known(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(kind.as_str(), "application/json" | "application/x-www-form-urlencoded" | "text/plain")
}

/// Takes the body off the connection, and no more of it than it may have. A token in a header says nothing of it, so none of it is kept.
async fn discard<B: Buf>(body: impl Stream<Item = Result<B, warp::Error>>) -> Result<(), Refused> {
    let reading = async {
        let mut body = std::pin::pin!(body);
        let mut length = 0_usize;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|_broken| refused(StatusCode::BAD_REQUEST, "the body ends too early"))?;
            length = length.saturating_add(chunk.remaining());
            if length > MAX_BODY {
                return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 3 MiB"));
            }
        }
        Ok(())
    };
    let late = |_| refused(StatusCode::REQUEST_TIMEOUT, "the body takes too long");
    tokio::time::timeout(BODY_WITHIN, reading).await.map_err(late)?
}

fn authenticate(proof: &Proof, headers: &HeaderMap) -> Result<(), Refused> {
    let Proof::Header { name, token } = proof else { return Ok(()) };
    match headers.get(name) {
        Some(given) if Token::new(given) == *token => Ok(()),
        Some(_) => Err(refused(StatusCode::FORBIDDEN, "the token is wrong")),
        None => Err(refused(StatusCode::UNAUTHORIZED, &format!("the header {name} with the token is missing"))),
    }
}
