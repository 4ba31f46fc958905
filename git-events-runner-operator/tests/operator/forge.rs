//! Webhooks that a real Gitea sends and signs by itself.

use std::{collections::BTreeSet, fs};

use git_events_runner_core::CommitId;
use git_events_runner_tests::{Auth, Forge, GitRepo, Operator, send};
use serde_json::{Value, json};

use super::{
    fixture::{Fixture, WITHIN, request, wait_for, wait_within},
    manifests::{action, git_repo, secret, webhook_trigger, with},
    tls::Certificate,
};

const SECRET: &str = "the-secret-of-the-hook";

/// A trigger that takes webhooks of Gitea, signed by the value of a key of the Secret `hooks`.
fn trigger(name: &str, key: &str) -> Value {
    with(
        webhook_trigger(name, "app", "act"),
        "webhook",
        json!({ "authConfig": { "type": "gitea", "secretRef": { "name": "hooks" }, "key": key } }),
    )
}

/// A repository `app` of the forge, as a source of that name, an action, and the Secret `hooks`.
async fn furnish(f: &Fixture, forge: &Forge) -> GitRepo {
    let repo = forge.repo("app").unwrap();
    let (user, password) = forge.login();
    f.put(secret("gitea", &[("username", user), ("password", password)])).await;
    f.put(secret("hooks", &[("right", SECRET), ("other", "the-secret-of-another")])).await;
    let credentials = json!({ "type": "basic", "secretRef": { "name": "gitea" } });
    f.put(with(git_repo("app", &forge.uri("app")), "authConfig", credentials)).await;
    f.put(action("act")).await;
    repo
}

/// Waits until nothing is pending at a trigger.
async fn nothing_is_pending(f: &Fixture, name: &str) {
    f.wait_for_status("WebhookTrigger", name, "nothing is pending", |status| {
        status["pending"].as_object().is_none_or(serde_json::Map::is_empty)
    })
    .await;
}

/// Waits until so many requests were answered with this code, and no more than these.
async fn answered(operator: &Operator, code: u16, times: usize) {
    let name = format!("git_events_runner_webhook_requests_total{{code=\"{code}\"}} ");
    let count = || operator.metrics().unwrap().lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0);
    wait_within(WITHIN * 2, &format!("{times} times {code}"), async || (count() >= times).then_some(())).await;
    assert_eq!(count(), times, "{code} in {:#?}", operator.logs());
}

#[tokio::test]
async fn what_gitea_signs_runs_the_job_at_the_commit_that_was_pushed() {
    let (f, forge) = (Fixture::new(Auth::None).await, Forge::start().unwrap());
    let repo = furnish(&f, &forge).await;
    f.put(trigger("on-push", "right")).await;
    f.put(trigger("of-another", "other")).await;
    let operator = f.operator(&[]);
    for name in ["on-push", "of-another"] {
        f.wait_for_ready("WebhookTrigger", name, "True", "Watching").await;
    }
    let path = |name: &str| format!("/{}/{name}/app", &*f.namespace);
    let hook = forge.webhook("app", operator.webhooks_port(), &path("on-push"), SECRET).unwrap();

    let pushed = repo.push("main", &[("README.md", "2")]).unwrap();
    let jobs = f.wait_for_succeeded(1).await;
    let run = request(&jobs[0]);
    assert_eq!((run.commit, run.requests.len()), (pushed, 1));
    assert!(run.requests.first().unwrap().as_str().starts_with("gitea-"), "{run:?}");
    answered(&operator, 202, 1).await;

    // Another branch, and a tag, are none of the trigger's business.
    let other = repo.push("other", &[("README.md", "3")]).unwrap();
    answered(&operator, 200, 1).await;
    repo.tag("v1", other).unwrap();
    answered(&operator, 200, 2).await;

    // A test is a push of a commit that is known.
    forge.test_webhook("app", hook).unwrap();
    answered(&operator, 202, 2).await;
    nothing_is_pending(&f, "on-push").await;
    // Gitea sends what it sends once more as another delivery.
    forge.redeliver("app", hook).unwrap();
    answered(&operator, 202, 3).await;
    nothing_is_pending(&f, "on-push").await;
    assert_eq!(f.jobs().await.len(), 1);

    // What is signed by another secret is refused, and so is what is signed twice.
    forge.webhook("app", operator.webhooks_port(), &path("of-another"), SECRET).unwrap();
    let pushed = repo.push("main", &[("README.md", "4")]).unwrap();
    answered(&operator, 403, 1).await;
    let jobs = f.wait_for_succeeded(2).await;
    assert_eq!(request(&jobs[1]).commit, pushed);
    let signature = ("X-Gitea-Signature", "0000000000000000000000000000000000000000000000000000000000000000");
    let twice = send(operator.webhooks_port(), "POST", &path("on-push"), &[signature, signature], b"{}").unwrap();
    assert_eq!(twice.status, 403);
    assert!(twice.body["message"].as_str().unwrap().contains("more than once"), "{twice:?}");
    let none = send(operator.webhooks_port(), "POST", &path("on-push"), &[], b"{}").unwrap();
    assert_eq!(none.status, 401);

    assert_eq!(f.jobs().await.len(), 2);
    assert!(f.jobs().await.iter().all(|job| request(job).key.trigger.name == "on-push"));
    let log = operator.logs().join("\n");
    assert!(!log.contains(SECRET) && !log.contains("the-secret-of-another"), "{log}");
}

#[tokio::test]
async fn a_test_and_what_is_delivered_once_more_run_a_trigger_that_always_runs_once_each() {
    let (f, forge) = (Fixture::new(Auth::None).await, Forge::start().unwrap());
    let repo = furnish(&f, &forge).await;
    let pushed = repo.push("main", &[("README.md", "1")]).unwrap();
    f.put(with(trigger("always", "right"), "sources.watchOn", json!({ "onChangeOnly": false }))).await;
    let operator = f.operator(&[]);
    f.wait_for_ready("WebhookTrigger", "always", "True", "Watching").await;
    let hook = forge.webhook("app", operator.webhooks_port(), &format!("/{}/always/app", &*f.namespace), SECRET).unwrap();

    // It knows of what was pushed a moment later.
    wait_for("a test", async || forge.test_webhook("app", hook).ok()).await;
    f.wait_for_succeeded(1).await;
    forge.redeliver("app", hook).unwrap();
    let jobs = f.wait_for_succeeded(2).await;
    answered(&operator, 202, 2).await;
    nothing_is_pending(&f, "always").await;
    let jobs: Vec<_> = jobs.iter().map(request).collect();
    assert!(jobs.iter().all(|run| run.commit == pushed && run.requests.len() == 1), "{jobs:?}");
    assert_ne!(jobs[0].requests, jobs[1].requests);
    assert_eq!(f.jobs().await.len(), 2);
}

#[tokio::test]
async fn a_push_that_two_replicas_are_told_of_by_https_runs_once_and_one_of_them_is_enough() {
    let (f, certificate) = (Fixture::new(Auth::None).await, Certificate::new());
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("ca.crt");
    fs::write(&trusted, &certificate.pem).unwrap();
    let forge = Forge::trusting(&trusted).unwrap();
    let repo = furnish(&f, &forge).await;
    f.put(trigger("on-push", "right")).await;
    f.put(certificate.secret()).await;
    let args = ["--tls-secret-name", "certificate"];
    let replicas = [f.operator(&args), f.operator(&args)];
    f.wait_for_ready("WebhookTrigger", "on-push", "True", "Watching").await;
    for replica in &replicas {
        let url = format!("https://localhost:{}/{}/on-push/app", replica.webhooks_port(), &*f.namespace);
        forge.webhook_to("app", &url, SECRET).unwrap();
    }

    let mut pushed = BTreeSet::<CommitId>::new();
    for number in 1..=3 {
        pushed.insert(repo.push("main", &[("README.md", &number.to_string())]).unwrap());
        f.wait_for_succeeded(number).await;
        for replica in &replicas {
            answered(replica, 202, number).await;
        }
        nothing_is_pending(&f, "on-push").await;
    }
    let [first, second] = replicas;
    let (leader, other) = if first.metrics().unwrap().contains("git_events_runner_leader 1\n") { (first, second) } else { (second, first) };
    drop(leader);
    pushed.insert(repo.push("main", &[("README.md", "4")]).unwrap());
    let jobs = f.wait_for_succeeded(4).await;
    answered(&other, 202, 4).await;
    nothing_is_pending(&f, "on-push").await;
    assert_eq!(jobs.iter().map(|job| request(job).commit).collect::<BTreeSet<_>>(), pushed);
    assert_eq!(f.jobs().await.len(), 4);
}
