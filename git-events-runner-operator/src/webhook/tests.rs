use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use data_encoding::BASE64;
use git_events_runner_core::{InMemoryStore, StateStore as _};
use serde_json::{Value, json};

use super::{
    recorded::{SECRET, SIGNED_AT, SIGNING_TOKEN, recorded},
    *,
};

/// One hook, at /default/hook.
struct One {
    hook: Arc<Hook>,
}

#[async_trait]
impl Hooks for One {
    async fn find(&self, namespace: &str, name: &str) -> Option<Arc<Hook>> {
        (namespace == "default" && name == "hook").then(|| Arc::clone(&self.hook))
    }

    fn accepted(&self, _: &TriggerId) {}
}

/// A listener with one trigger, and what is pending there.
struct Listener {
    id: TriggerId,
    store: InMemoryStore,
    hooks: Arc<One>,
    limits: Arc<RateLimits>,
    /// How often it was asked where a source is.
    asked: Arc<AtomicUsize>,
}

impl Listener {
    /// A trigger on the sources `app`, which is at a place, and `other`, which is elsewhere.
    async fn new(auth_type: &str, place: &str, secret: &str, change: impl FnOnce(&mut Value)) -> Self {
        let mut spec = json!({
            "sources": { "names": ["app", "other"] },
            "action": { "kind": "Action", "name": "build" },
            "webhook": { "multiSource": true, "authConfig": { "type": auth_type, "secretRef": { "name": "hook" }, "key": "token" } },
        });
        change(&mut spec);
        let spec: crd::WebhookTriggerSpec = serde_json::from_value(spec).unwrap();
        let plan = spec.common.plan("default", 1).unwrap();
        let id = TriggerId { kind: "WebhookTrigger".into(), namespace: "default".into(), name: "hook".into(), uid: "1".into() };
        let store = InMemoryStore::default();
        store.add(&id, 1);
        let proof = Proof::of(&spec.webhook, "x-trigger-auth", async |_, _| match secret {
            "" => Err(NoProof::new(git_events_runner_core::Reason::SecretNotFound, "gone")),
            secret => Ok(secret.to_owned()),
        });
        let places = [("app", place), ("other", "https://example.com/team/other")];
        let places = places.map(|(name, place)| (name, RepoUri::parse(place).unwrap()));
        let asked = Arc::<AtomicUsize>::default();
        let place = {
            let asked = Arc::clone(&asked);
            move |source: &ObjectRef| {
                asked.fetch_add(1, Ordering::Relaxed);
                places.iter().find(|(name, _)| *name == source.name).map(|(_, place)| place.clone())
            }
        };
        let hook = Arc::new(Hook::new(&id, &plan, &spec.webhook, proof.await.ok().map(Arc::new), place));
        Self { id, store, hooks: Arc::new(One { hook }), limits: Arc::default(), asked }
    }

    async fn github() -> Self {
        Self::new("github", "https://github.com/team/app", SECRET, |_| {}).await
    }

    async fn send(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> (u16, Value) {
        let routes = routes(Arc::clone(&self.hooks) as Arc<dyn Hooks>, Arc::new(self.store.clone()), Arc::clone(&self.limits), 4);
        let request = warp::test::request().method("POST").path(path).body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let answer = request.reply(&routes).await;
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap())
    }

    async fn send_recorded(&self, name: &str) -> (u16, Value) {
        let (headers, body) = recorded(name);
        self.send("/default/hook", &headers, &body).await
    }

    async fn pending(&self) -> BTreeMap<RequestId, PendingRequest> {
        self.store.load(&self.id).await.unwrap().state.pending
    }
}

#[tokio::test]
async fn a_push_is_pending_for_its_source_and_its_commit_before_it_is_answered() {
    let listener = Listener::github().await;
    let (status, answer) = listener.send_recorded("github-push").await;
    assert_eq!((status, &answer["status"]), (202, &json!("ok")), "{answer}");
    let pending = listener.pending().await;
    let (id, request) = pending.first_key_value().unwrap();
    assert_eq!(answer["task_id"], id.as_str());
    assert_eq!(request.sources, ["app".to_owned()].into());
    assert_eq!(request.commit.unwrap().to_string(), "0d1a26e67d8f5eaf1f6ba5c57fc3c7d91ac0fd1c");
    assert!(!request.always);
}

#[tokio::test]
async fn a_delivery_that_is_pending_is_not_recorded_again() {
    let listener = Listener::new("github", "https://github.com/team/app", SECRET, |spec| {
        spec["sources"]["watchOn"] = json!({ "onChangeOnly": false });
    })
    .await;
    let (_, first) = listener.send_recorded("github-push").await;
    let (status, again) = listener.send_recorded("github-push").await;
    assert_eq!((status, &again["task_id"]), (200, &first["task_id"]), "{again}");
    assert_eq!(listener.pending().await.len(), 1);
    // Another delivery of the same push is another one.
    assert_eq!(listener.send_recorded("github-form").await.0, 202);
    // And so is the same to another path: two hooks of a forge never share one.
    let (headers, body) = recorded("github-push");
    assert_eq!(listener.send("/default/hook/app", &headers, &body).await.0, 202);
    assert_eq!(listener.pending().await.len(), 3);
}

#[tokio::test]
async fn what_is_authentic_and_nothing_to_do_is_answered_and_not_recorded() {
    let listener = Listener::github().await;
    for name in ["github-ping", "github-pull-request", "github-tag", "github-deleted"] {
        let (status, answer) = listener.send_recorded(name).await;
        assert_eq!((status, &answer["status"]), (200, &json!("ok")), "{name}: {answer}");
        assert!(answer["message"].as_str().unwrap().starts_with("nothing to do: "), "{answer}");
        assert!(answer["task_id"].is_null());
    }
    let (headers, body) = recorded("github-push");
    assert_eq!(listener.send("/default/hook/other", &headers, &body).await.0, 200, "that source is another repository");
    assert!(listener.pending().await.is_empty());
    let data_center = Listener::new("bitbucket", "https://bitbucket.example.com/scm/team/app.git", SECRET, |_| {}).await;
    for name in ["tag", "deleted", "pull-request"].map(|name| format!("bitbucket-data-center-{name}")) {
        assert_eq!(data_center.send_recorded(&name).await.0, 200, "{name}");
    }
}

#[tokio::test]
async fn the_webhooks_of_every_forge_are_verified() {
    let gitlab = "https://gitlab.example.com/team/app";
    let bitbucket = "https://bitbucket.org/team/app";
    for (auth_type, place, name, header) in [
        ("github", "https://github.com/team/app", "github-push", "x-hub-signature-256"),
        ("github", "https://github.com/team/app", "github-form", "x-hub-signature-256"),
        ("gitlab", gitlab, "gitlab-push", "x-gitlab-token"),
        ("gitlab", gitlab, "gitlab-system", "x-gitlab-token"),
        ("gitea", "http://127.0.0.1:3000/dev/app", "gitea-push", "x-gitea-signature"),
        ("gitea", "http://127.0.0.1:3000/dev/app", "gitea-test", "x-gitea-signature"),
        ("gitea", "https://forgejo.example.com/team/app", "forgejo-push", "x-gitea-signature"),
        ("gitea", "https://gogs.example.com/team/app", "gogs-push", "x-gogs-signature"),
        ("bitbucket", bitbucket, "bitbucket-push", "x-hub-signature"),
        ("bitbucket", "https://bitbucket.example.com/scm/team/app.git", "bitbucket-data-center-push", "x-hub-signature"),
    ] {
        let listener = Listener::new(auth_type, place, SECRET, |_| {}).await;
        assert_eq!(listener.send_recorded(name).await.0, 202, "{name}");
        let other = Listener::new(auth_type, place, "the-secret-of-another", |_| {}).await;
        let (status, answer) = other.send_recorded(name).await;
        assert_eq!((status, &answer["status"]), (403, &json!("error")), "{name}: {answer}");

        let (headers, body) = recorded(name);
        let status = async |headers: &HeaderMap, body: &[u8]| other_than_pending(&listener, headers, body).await;
        let with = |change: &dyn Fn(&mut HeaderMap)| {
            let mut headers = headers.clone();
            change(&mut headers);
            headers
        };
        let value = headers[header].to_str().unwrap().to_owned();
        let cut = with(&|headers| drop(headers.insert(header, value[..value.len() - 1].parse().unwrap())));
        assert_eq!(status(&cut, &body).await, 403, "{name}");
        // Gitea's has another header with the same signature.
        let none = with(&|headers| {
            headers.remove(header);
            headers.remove("x-gogs-signature");
        });
        assert_eq!(status(&none, &body).await, 401, "{name}");
        if auth_type != "gitlab" {
            assert_eq!(status(&headers, &[&body[..], b" "].concat()).await, 403, "{name}: signed for another body");
            let sha1 = with(&|headers| drop(headers.insert(header, format!("sha1={}", "0".repeat(40)).parse().unwrap())));
            assert_eq!(status(&sha1, &body).await, 403, "{name}: wrong algorithm");
        }
    }
}

/// The status of an answer to what is not to become pending.
async fn other_than_pending(listener: &Listener, headers: &HeaderMap, body: &[u8]) -> u16 {
    let before = listener.pending().await;
    let (status, answer) = listener.send("/default/hook", headers, body).await;
    assert!(!answer.to_string().contains(SECRET), "{answer}");
    assert_eq!(listener.pending().await, before);
    status
}

#[tokio::test]
async fn a_signed_webhook_of_gitlab_that_is_old_is_refused() {
    let gitlab = "https://gitlab.example.com/team/app";
    let listener = Listener::new("gitlab", gitlab, SIGNING_TOKEN, |_| {}).await;
    let (headers, body) = recorded("gitlab-signed");
    let (status, answer) = listener.send("/default/hook", &headers, &body).await;
    assert_eq!(status, 403);
    assert!(answer["message"].as_str().unwrap().contains("more than five minutes ago"), "{answer}");
    let Some(proof) = &listener.hooks.hook.proof else { panic!("there is no proof") };
    assert_eq!(proof.check(&headers, &body, Timestamp::from_second(SIGNED_AT).unwrap()), Ok(()));
    let (headers, body) = recorded("gitlab-push");
    assert_eq!(other_than_pending(&listener, &headers, &body).await, 401, "a token in plain text does not stand in for a signature");
}

#[tokio::test]
async fn a_webhook_that_gitlab_has_signed_now_is_pending_and_its_delivery_is_not_recorded_again() {
    let listener = Listener::new("gitlab", "https://gitlab.example.com/team/app", SIGNING_TOKEN, |_| {}).await;
    let (mut headers, body) = recorded("gitlab-signed");
    let (id, now) = (headers["webhook-id"].to_str().unwrap(), Timestamp::now().as_second().to_string());
    let key = BASE64.decode(SIGNING_TOKEN.trim_start_matches("whsec_").as_bytes()).unwrap();
    let signed = [id.as_bytes(), now.as_bytes(), &body].join(&b'.');
    let signature = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key), &signed);
    headers.insert("webhook-signature", format!("v1,{}", BASE64.encode(signature.as_ref())).parse().unwrap());
    headers.insert("webhook-timestamp", now.parse().unwrap());

    let (status, first) = listener.send("/default/hook", &headers, &body).await;
    assert_eq!(status, 202, "{first}");
    let (status, again) = listener.send("/default/hook", &headers, &body).await;
    assert_eq!((status, &again["task_id"]), (200, &first["task_id"]), "{again}");
    assert_eq!(listener.pending().await.len(), 1);
}

#[tokio::test]
async fn what_a_form_of_gitea_holds_is_signed_and_not_the_form_so_that_it_is_not_taken() {
    let listener = Listener::new("gitea", "http://127.0.0.1:3000/dev/app", SECRET, |_| {}).await;
    let (status, answer) = listener.send_recorded("gitea-form").await;
    assert_eq!(status, 415);
    assert!(answer["message"].as_str().unwrap().contains("application/json"), "{answer}");
}

#[tokio::test]
async fn authentication_comes_before_anything_is_read_and_said() {
    let listener = Listener::github().await;
    let (headers, _) = recorded("github-push");
    assert_eq!(other_than_pending(&listener, &headers, b"no JSON").await, 403);
    let (_, body) = recorded("github-push");
    assert_eq!(listener.send("/default/hook/nowhere", &HeaderMap::new(), &body).await.0, 401);
    assert_eq!(listener.asked.load(Ordering::Relaxed), 0, "nothing is looked up for strangers");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let sign = |body: &[u8]| format!("sha256={}", HEXLOWER.encode(ring::hmac::sign(&key, body).as_ref())).parse().unwrap();
    let signed = HeaderMap::from_iter([(header::HeaderName::from_static("x-hub-signature-256"), sign(b"no JSON"))]);
    let (status, answer) = listener.send("/default/hook", &signed, b"no JSON").await;
    assert_eq!((status, &answer["message"]), (400, &json!("the body is not JSON")));
    assert_eq!(listener.send("/default/hook/nowhere", &signed, b"no JSON").await.0, 404);
    // Nothing is said of what happened, so that it may be anything.
    let signed = HeaderMap::from_iter([(header::HeaderName::from_static("x-hub-signature-256"), sign(b"{}"))]);
    assert_eq!(listener.send("/default/hook", &signed, b"{}").await.0, 202);
    assert_eq!(listener.pending().await.into_values().next().unwrap().sources.len(), 2);
}

#[tokio::test]
async fn another_method_is_told_which_one_it_is() {
    let listener = Listener::github().await;
    let routes = routes(Arc::clone(&listener.hooks) as Arc<dyn Hooks>, Arc::new(listener.store.clone()), Arc::clone(&listener.limits), 4);
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let refused = warp::test::request().method(method).path("/default/hook").reply(&routes).await;
        assert_eq!((refused.status().as_u16(), refused.headers()["allow"].as_bytes()), (405, &b"POST"[..]), "{method}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_anything_else() {
    let listener = Listener::github().await;
    let (headers, _) = recorded("github-push");
    assert_eq!(other_than_pending(&listener, &headers, &vec![b' '; MAX_BODY + 1]).await, 413);
    assert_eq!(other_than_pending(&listener, &headers, &vec![b' '; MAX_BODY]).await, 403);
}

#[tokio::test]
async fn a_type_without_a_payload_takes_any_body() {
    let listener = Listener::new("header", "https://github.com/team/app", SECRET, |_| {}).await;
    let token = HeaderMap::from_iter([(header::HeaderName::from_static("x-trigger-auth"), SECRET.parse().unwrap())]);
    assert_eq!(listener.send("/default/hook", &token, b"no JSON").await.0, 202);
    assert_eq!(listener.pending().await.into_values().next().unwrap().sources.len(), 2);
}

#[tokio::test]
async fn a_trigger_that_cannot_check_who_asks_or_is_suspended_asks_to_come_back() {
    let listener = Listener::new("github", "https://github.com/team/app", "", |_| {}).await;
    let (headers, body) = recorded("github-push");
    assert_eq!(other_than_pending(&listener, &headers, &body).await, 503);
    assert_eq!(listener.send("/default/hook/nowhere", &headers, &body).await.0, 503, "nobody is told which sources there are");
    let listener = Listener::new("github", "https://github.com/team/app", SECRET, |spec| spec["suspend"] = true.into()).await;
    assert_eq!(other_than_pending(&listener, &headers, &body).await, 503);
    assert_eq!(other_than_pending(&listener, &HeaderMap::new(), &body).await, 401);
}

#[tokio::test(start_paused = true)]
async fn more_requests_than_may_come_are_told_when_to_come_back_before_anything_else() {
    let rate = |text: &str| Some(text.parse().unwrap());
    let mut listener = Listener::github().await;
    let (headers, body) = recorded("github-push");
    let status = async |listener: &Listener, path: &str| listener.send(path, &headers, &body).await.0;

    listener.limits = Arc::new(RateLimits::new(None, None, rate("1/60")));
    assert_eq!(status(&listener, "/default/hook/app").await, 202);
    assert_eq!(status(&listener, "/default/hook/app").await, 503);
    assert_eq!(status(&listener, "/default/hook/other").await, 200, "that is another source");
    assert_eq!(status(&listener, "/default/hook").await, 202, "and that names none");
    listener.limits = Arc::new(RateLimits::new(None, rate("1/60"), None));
    assert_eq!(listener.send("/default/hook", &HeaderMap::new(), b"{}").await.0, 401, "it counts as well");
    assert_eq!(status(&listener, "/default/hook/app").await, 503);
    assert_eq!(status(&listener, "/default/else").await, 404);
    listener.limits = Arc::new(RateLimits::new(rate("1/60"), None, None));
    assert_eq!(status(&listener, "/default/else").await, 404);
    let (status, answer) = listener.send("/default/hook", &headers, &body).await;
    assert_eq!((status, &answer["message"]), (503, &json!("there were too many requests: try again later")));

    let routes = routes(Arc::clone(&listener.hooks) as Arc<dyn Hooks>, Arc::new(listener.store.clone()), Arc::clone(&listener.limits), 4);
    let refused = warp::test::request().method("POST").path("/default/hook").reply(&routes).await;
    assert_eq!(refused.headers()["retry-after"], "60");
}
