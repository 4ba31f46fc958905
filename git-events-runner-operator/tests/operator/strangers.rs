//! What those who have no secret can bring about: nothing at the API server.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use git_events_runner_tests::{Auth, Operator, cluster::Write, send};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::{
    fixture::{Fixture, wait_for},
    manifests::{action, git_repo, secret, webhook_trigger, with},
};

/// How long a Secret would be asked for again and again.
const AWAY: Duration = Duration::from_secs(4);

const REQUESTS: usize = 300;

/// Sends a request that proves nothing, and answers its code.
fn code(port: u16, path: &str) -> u16 {
    send(port, "POST", path, &[("Content-Type", "application/json")], b"{}").unwrap().status
}

/// Sends many of them at once.
async fn crowd(operator: &Operator, path: &str) -> Vec<u16> {
    let port = operator.webhooks_port();
    let sent = (0..REQUESTS).map(|_| {
        let path = path.to_owned();
        spawn_blocking(move || code(port, &path))
    });
    join_all(sent).await.into_iter().map(Result::unwrap).collect()
}

/// An operator with a trigger whose requests have to have this token, and the path of that.
async fn guarded(f: &Fixture, token: &str, args: &[&str]) -> (Operator, String) {
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    f.put(secret("hook", &[("token", token)])).await;
    let auth = json!({ "authConfig": { "secretRef": { "name": "hook" }, "key": "token" } });
    f.put(with(webhook_trigger("hook", "app", "act"), "webhook", auth)).await;
    let operator = f.operator(args);
    f.wait_for_ready("WebhookTrigger", "hook", "True", "Watching").await;
    (operator, format!("/{}/hook/app", &*f.namespace))
}

#[tokio::test]
async fn strangers_do_not_have_the_api_server_asked_for_a_secret_as_often_as_they_like() {
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[]).unwrap();
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    let auth = json!({ "authConfig": { "type": "github", "secretRef": { "name": "later" }, "key": "token" } });
    f.put(with(webhook_trigger("hook", "app", "act"), "webhook", auth)).await;
    let operator = f.operator(&["--secrets-cache-time", "0"]);
    f.wait_for_ready("WebhookTrigger", "hook", "False", "SecretNotFound").await;
    let path = format!("/{}/hook/app", &*f.namespace);
    let user = format!("system:serviceaccount:{}:git-events-runner", &*f.namespace);
    let reads = || f.cluster.reads_of_secret(&user, &f.namespace, "later").unwrap();
    let is_of_hook = |write: &&Write| write.user == user && write.resource == "webhooktriggers";
    let writes = || f.cluster.writes().unwrap().iter().filter(is_of_hook).count();

    for (there, answer) in [(false, 503), (true, 401)] {
        if there {
            f.put(secret("later", &[("token", "the-secret-of-the-hook")])).await;
            f.wait_for_ready("WebhookTrigger", "hook", "True", "Watching").await;
            wait_for("the Secret is known", async || (code(operator.webhooks_port(), &path) == answer).then_some(())).await;
        }
        let before = reads();
        let is_read = async || {
            code(operator.webhooks_port(), &path);
            (reads() > before).then_some(())
        };
        wait_for("the log of the API server tells of each", is_read).await;
        let (begin, read, written) = (Instant::now(), reads(), writes());
        assert_eq!(crowd(&operator, &path).await, [answer; REQUESTS]);
        let seconds = usize::try_from(begin.elapsed().as_secs()).unwrap() + 1;
        let read = reads() - read;
        // One each second, and those of the controller, which looks for it ever more rarely.
        assert!(read <= 2 * seconds + 1, "{REQUESTS} requests within {seconds} s have had it read {read} times");
        if there {
            assert_eq!(writes(), written);
        }
    }
}

#[tokio::test]
async fn while_the_api_server_is_away_strangers_are_refused_as_before_and_others_are_to_come_back() {
    let f = Fixture::alone(Auth::None).await;
    let (operator, path) = guarded(&f, "the-secret-of-the-hook", &["--secrets-cache-time", "0"]).await;
    let code = |token: &str| operator.webhook(&path, ("x-trigger-auth", token)).unwrap().status;
    assert_eq!(code("another"), 403);
    f.cluster.stop_api_server().unwrap();
    let begin = Instant::now();
    while begin.elapsed() < AWAY {
        assert_eq!(code("another"), 403);
    }
    assert_eq!(code("the-secret-of-the-hook"), 503);
    f.cluster.start_api_server().await.unwrap();
    wait_for("requests are accepted", async || (code("the-secret-of-the-hook") == 202).then_some(())).await;
}

#[tokio::test]
async fn a_new_secret_counts_at_once_and_strangers_do_not_have_it_read_again_and_again() {
    let f = Fixture::new(Auth::None).await;
    let (operator, path) = guarded(&f, "the-old-secret-of-the-hook", &["--secrets-cache-time", "3600"]).await;
    let code = |token: &str| operator.webhook(&path, ("x-trigger-auth", token)).unwrap().status;
    assert_eq!(code("the-old-secret-of-the-hook"), 202);
    f.patch("Secret", "hook", json!({ "stringData": { "token": "the-new-secret-of-the-hook" } })).await;
    assert_eq!(code("the-new-secret-of-the-hook"), 202);
    assert_eq!(code("the-old-secret-of-the-hook"), 403);

    let user = format!("system:serviceaccount:{}:git-events-runner", &*f.namespace);
    let reads = || f.cluster.reads_of_secret(&user, &f.namespace, "hook").unwrap();
    let (begin, read) = (Instant::now(), reads());
    for _ in 0..REQUESTS {
        assert_eq!(code("another"), 403);
    }
    let (seconds, read) = (begin.elapsed().as_secs() as usize, reads() - read);
    assert!(read <= 1 + seconds / 10, "{REQUESTS} requests within {seconds} s have had it read {read} times");
}
