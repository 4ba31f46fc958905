//! The webhook listener. It knows the domain only through [`Inbox`]: a request is durable before it is answered.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use futures_util::{Stream, StreamExt as _};
use git_events_runner_core::{
    Accepted, FireRequest, Inbox, ObjectRef, PendingRequest, Plan, RequestId, StateError, TriggerId, crd, git::RepoUri,
};
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout, timeout_at},
};
use tracing::{error, info};
use warp::{
    Buf, Filter, Rejection, Reply,
    http::{HeaderMap, Method, StatusCode, header},
    path::Tail,
    reply::Response,
};

mod matching;
mod payload;
mod proof;
mod shared;

pub use proof::{NoProof, Proof};

use crate::rate_limit::RateLimits;
use matching::{Listening, Look};
use payload::Forge;
use proof::Unproven;
use shared::{SharedInbox, Unrecorded};

/// The largest body that is taken, in bytes.
const MAX_BODY: usize = 3 << 20;

/// How much of a body is kept before it counts as a large one, and how many large ones are kept at a time: of strangers, too.
const SMALL_BODY: usize = 64 << 10;
const LARGE_BODIES: usize = 16;

/// How long a client may take to send its body, and how long a large one of that may wait for others.
const BODY_WITHIN: Duration = Duration::from_secs(10);
const ROOM_WITHIN: Duration = Duration::from_secs(5);

/// How slowly a large body may come, in bytes a second, and how much later: it has a place that others may wait for.
const SLOWEST: usize = 64 << 10;
const LATE: Duration = Duration::from_secs(2);

/// What a client that is to try again is told to wait, in seconds.
const RETRY_AFTER: &str = "10";

/// What the listener knows of a WebhookTrigger.
pub struct Hook {
    pub id: TriggerId,
    pub sources: BTreeSet<String>,
    pub multi_source: bool,
    /// Whether each request starts the action, changed or not.
    always: bool,
    suspended: bool,
    /// None: it cannot tell who asks, and takes no requests.
    proof: Option<Arc<Proof>>,
    /// None: it takes any body.
    listening: Option<Listening>,
}

impl Hook {
    /// The hook of a trigger; without a proof that requests must give, a closed one. `place` answers where a source is.
    pub fn new(
        id: &TriggerId,
        plan: &Plan,
        webhook: &crd::Webhook,
        proof: Option<Arc<Proof>>,
        place: impl Fn(&ObjectRef) -> Option<RepoUri> + Send + Sync + 'static,
    ) -> Self {
        Self {
            id: id.clone(),
            sources: plan.sources.iter().map(|source| source.name.clone()).collect(),
            multi_source: webhook.multi_source,
            always: !plan.on_change_only,
            suspended: plan.suspend,
            proof,
            listening: Listening::new(webhook, plan, place),
        }
    }

    /// The hook of a trigger that cannot be read. Whoever asks is to come back when it is corrected.
    pub fn closed(id: TriggerId) -> Self {
        Self { id, sources: BTreeSet::new(), multi_source: false, always: false, suspended: false, proof: None, listening: None }
    }
}

/// Where hooks are looked up, and what is told that a request was accepted.
#[async_trait]
pub trait Hooks: Send + Sync {
    async fn find(&self, namespace: &str, name: &str) -> Option<Arc<Hook>>;
    /// What requests to a trigger have to prove, read anew because one has proved something else. None: what is known is not old.
    async fn renewed(&self, _: &TriggerId) -> Option<Arc<Proof>> {
        None
    }
    fn accepted(&self, id: &TriggerId);
}

/// Why a request is not accepted.
struct Refused(StatusCode, String);

fn refused(code: StatusCode, message: &str) -> Refused {
    Refused(code, message.to_owned())
}

impl From<Unproven> for Refused {
    fn from(unproven: Unproven) -> Self {
        let code = match &unproven {
            Unproven::Missing(_) => StatusCode::UNAUTHORIZED,
            Unproven::Wrong(_) => StatusCode::FORBIDDEN,
        };
        Self(code, unproven.to_string())
    }
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
    let more = match code {
        StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, RETRY_AFTER)),
        StatusCode::METHOD_NOT_ALLOWED => Some((header::ALLOW, "POST")),
        _ => None,
    };
    response.headers_mut().extend(more.map(|(name, value)| (name, header::HeaderValue::from_static(value))));
    response
}

/// Never 429, by which some forges switch a webhook off.
fn too_many(wait: Duration) -> Response {
    let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, "there were too many requests: try again later", None);
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

/// `POST /{namespace}/{trigger}` and `POST /{namespace}/{trigger}/{source}`; everything else that is HTTP/1.1 is refused as JSON, too.
/// So many requests that have come whole are verified and recorded at a time; more wait. Those that come slowly keep nobody waiting.
pub fn routes(
    hooks: Arc<dyn Hooks>,
    inbox: Arc<dyn Inbox>,
    limits: Arc<RateLimits>,
    parallelism: usize,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone {
    let listener = Arc::new(Listener {
        hooks,
        inbox: SharedInbox::new(inbox),
        limits,
        places: Semaphore::new(parallelism),
        large_bodies: Semaphore::new(LARGE_BODIES),
        parsing: Semaphore::new(1),
    });
    warp::method()
        .and(warp::path::tail())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |method: Method, path: Tail, headers: HeaderMap, body| {
            let listener = Arc::clone(&listener);
            async move {
                let received = listener.receive(&method, path.as_str(), &headers, body).await;
                received.unwrap_or_else(|Refused(code, message)| answer(code, &message, None))
            }
        })
        .recover(|rejected: Rejection| async move {
            error!("a request was not understood: {rejected:?}");
            Ok::<_, Infallible>(answer(StatusCode::BAD_REQUEST, "the request cannot be read", None))
        })
        .unify()
}

struct Listener {
    hooks: Arc<dyn Hooks>,
    inbox: Arc<SharedInbox>,
    limits: Arc<RateLimits>,
    /// So many requests are verified and recorded at a time.
    places: Semaphore,
    large_bodies: Semaphore,
    /// One large body is taken apart at a time: that may take ten times as much memory as the body itself.
    parsing: Semaphore,
}

impl Listener {
    async fn receive<B: Buf>(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: impl Stream<Item = Result<B, warp::Error>>,
    ) -> Result<Response, Refused> {
        if let Err(wait) = self.limits.take() {
            return Ok(too_many(wait));
        }
        let (namespace, name, source) = parts(path)?;
        if method != Method::POST {
            return Err(refused(StatusCode::METHOD_NOT_ALLOWED, "a webhook is a POST"));
        }
        if !is_content_type_known(headers) {
            let message = "the content type is neither application/json nor application/x-www-form-urlencoded nor text/plain";
            return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let no_such_trigger = || refused(StatusCode::NOT_FOUND, "there is no such trigger");
        let hook = self.hooks.find(namespace, name).await.ok_or_else(no_such_trigger)?;
        if let Err(wait) = self.limits.take_for(&hook.id, source.filter(|source| hook.sources.contains(*source))) {
            return Ok(too_many(wait));
        }
        let Some(proof) = &hook.proof else {
            // What is wrong with a Secret is nobody's business at the other end.
            return Err(refused(StatusCode::SERVICE_UNAVAILABLE, "the trigger cannot check who asks: see its status, or the log"));
        };
        if hook.listening.as_ref().is_some_and(|listening| !listening.forge.can_sign(headers)) {
            let message = "this forge signs what the form holds and not the form: have it send application/json";
            return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        // A token in a header says nothing of the body: nothing is read of one without it, nor kept but for what it says itself.
        if !proof.is_of_body() {
            self.prove(&hook.id, proof, headers, &[]).await?;
        }
        let keep = hook.listening.is_some() || proof.is_of_body();
        if declared_length(headers) > MAX_BODY {
            return Err(too_large());
        }
        let (body, _large) = read(body, keep, &self.large_bodies).await?;
        let _place = self.places.acquire().await;
        if proof.is_of_body() {
            self.prove(&hook.id, proof, headers, &body).await?;
        }
        let sources = sources(&hook, source)?;
        if hook.suspended {
            return Err(refused(StatusCode::SERVICE_UNAVAILABLE, "the trigger is suspended"));
        }
        let (id, look) = match &hook.listening {
            None => (new_id(), Look { sources, commit: None }),
            Some(listening) => {
                let forge = listening.forge;
                let alone = if body.len() > SMALL_BODY { self.parsing.acquire().await.ok() } else { None };
                let said = forge.read(headers, &body).map_err(|malformed| refused(StatusCode::BAD_REQUEST, &malformed.to_string()))?;
                drop(alone);
                match listening.matching(&said, &sources) {
                    Ok(look) => (forge.delivery(headers).map_or_else(new_id, |delivery| delivery_id(forge, delivery, source)), look),
                    Err(why) => {
                        info!(trigger = %hook.id, "nothing to do: {why}");
                        return Ok(answer(StatusCode::OK, &format!("nothing to do: {why}"), None));
                    }
                }
            }
        };
        drop(body);
        self.record(&hook, id, look).await
    }

    /// Checks whether a request proves itself, by what the Secret holds now if it may have changed.
    async fn prove(&self, id: &TriggerId, proof: &Proof, headers: &HeaderMap, body: &[u8]) -> Result<(), Unproven> {
        match proof.check(headers, body, Timestamp::now()) {
            Err(Unproven::Wrong(why)) => match self.hooks.renewed(id).await {
                Some(renewed) => renewed.check(headers, body, Timestamp::now()),
                None => Err(Unproven::Wrong(why)),
            },
            checked => checked,
        }
    }

    async fn record(&self, hook: &Hook, id: RequestId, look: Look) -> Result<Response, Refused> {
        let Look { sources, commit } = look;
        let request = PendingRequest { sources, received_at: Timestamp::now(), commit, always: hook.always };
        match self.inbox.request(&hook.id, FireRequest { id: id.clone(), request }).await {
            Ok(Accepted::Recorded) => {
                info!(trigger = %hook.id, request = %id, "request accepted");
                self.hooks.accepted(&hook.id);
                Ok(answer(StatusCode::ACCEPTED, "recorded", Some(id.as_str())))
            }
            Ok(Accepted::AlreadyPending) => {
                Ok(answer(StatusCode::OK, "nothing to do: this delivery is pending already", Some(id.as_str())))
            }
            Err(Unrecorded::Full) => Err(refused(StatusCode::SERVICE_UNAVAILABLE, &StateError::Full(hook.id.clone()).to_string())),
            Err(Unrecorded::Failed) => Err(refused(StatusCode::SERVICE_UNAVAILABLE, "the request cannot be recorded now")),
        }
    }
}

/// Namespace, trigger and source, if it names one.
fn parts(path: &str) -> Result<(&str, &str, Option<&str>), Refused> {
    let parts: Vec<_> = path.trim_end_matches('/').split('/').collect();
    match parts[..] {
        [namespace, name] => Ok((namespace, name, None)),
        [namespace, name, source] => Ok((namespace, name, Some(source))),
        _ => {
            let message = "there is nothing here: the path is /{namespace}/{trigger} or /{namespace}/{trigger}/{source}";
            Err(refused(StatusCode::NOT_FOUND, message))
        }
    }
}

/// Which sources a request is for.
fn sources(hook: &Hook, named: Option<&str>) -> Result<BTreeSet<String>, Refused> {
    match named {
        Some(source) if hook.sources.contains(source) => Ok(BTreeSet::from([source.to_owned()])),
        Some(_) => Err(refused(StatusCode::NOT_FOUND, "the trigger has no such source")),
        None if hook.multi_source => Ok(hook.sources.clone()),
        None => {
            let message = "the trigger is not multiSource: name a source, /{namespace}/{trigger}/{source}";
            Err(refused(StatusCode::BAD_REQUEST, message))
        }
    }
}

fn new_id() -> RequestId {
    RequestId::try_from(uuid::Uuid::new_v4().to_string()).expect("a UUID is 36 hexadecimal digits and hyphens")
}

/// The id of the request that a delivery is, so that one that is repeated while it is pending is the same.
fn delivery_id(forge: Forge, delivery: &[u8], source: Option<&str>) -> RequestId {
    let digest = Sha256::new().chain_update(source.unwrap_or_default()).chain_update([0]).chain_update(delivery).finalize();
    let id = format!("{}-{}", forge.name(), HEXLOWER.encode(&digest[..16]));
    RequestId::try_from(id).expect("it is at most 42 letters, digits and hyphens")
}

fn too_large() -> Refused {
    refused(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 3 MiB")
}

/// How long the body is by its own account; 0: it does not say.
fn declared_length(headers: &HeaderMap) -> usize {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or_default()
}

fn is_content_type_known(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(kind.as_str(), "application/json" | "application/x-www-form-urlencoded" | "text/plain")
}

/// Takes the body off the connection, and no more of it than it may have. None of it is kept if nobody wants to see it. A large one comes
/// with its place.
async fn read<B: Buf>(
    body: impl Stream<Item = Result<B, warp::Error>>,
    keep: bool,
    large_bodies: &Semaphore,
) -> Result<(Vec<u8>, Option<SemaphorePermit<'_>>), Refused> {
    let no_room = |_| refused(StatusCode::SERVICE_UNAVAILABLE, "there are too many large bodies: try again later");
    let late = |_| refused(StatusCode::REQUEST_TIMEOUT, "the body takes too long");
    let mut body = std::pin::pin!(body);
    let (mut kept, mut length, mut large) = (vec![], 0_usize, None);
    let mut begin = Instant::now();
    let mut deadline = begin + BODY_WITHIN;
    while let Some(chunk) = timeout_at(deadline, body.next()).await.map_err(late)? {
        let mut chunk = chunk.map_err(|_broken| refused(StatusCode::BAD_REQUEST, "the body ends too early"))?;
        length = length.saturating_add(chunk.remaining());
        if length > MAX_BODY {
            return Err(too_large());
        }
        if keep && length > SMALL_BODY {
            if large.is_none() {
                large = timeout(ROOM_WITHIN, large_bodies.acquire()).await.map_err(no_room)?.ok();
                // The client has not waited for itself.
                begin = Instant::now();
            }
            let slowest = Duration::from_secs_f64((length - SMALL_BODY) as f64 / SLOWEST as f64) + LATE;
            deadline = (begin + slowest.min(BODY_WITHIN)).min(Instant::now() + LATE);
        }
        while keep && chunk.has_remaining() {
            let part = chunk.chunk();
            kept.extend_from_slice(part);
            chunk.advance(part.len());
        }
    }
    Ok((kept, large))
}

#[cfg(test)]
mod fuzzing;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;
