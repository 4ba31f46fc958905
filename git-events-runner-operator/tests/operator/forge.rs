//! Webhooks that a real Gitea sends and signs by itself.

use git_events_runner_tests::{Auth, Forge, Operator, send};
use serde_json::{Value, json};

use super::{
    fixture::{Fixture, WITHIN, request, wait_within},
    manifests::{action, git_repo, secret, webhook_trigger, with},
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

/// Waits until so many requests were answered with this code, and no more than these.
async fn answered(operator: &Operator, code: u16, times: usize) {
    let name = format!("git_events_runner_webhook_requests_total{{code=\"{code}\"}} ");
    let count = || operator.metrics().unwrap().lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0);
    wait_within(WITHIN * 2, &format!("{times} times {code}"), async || (count() >= times).then_some(())).await;
    assert_eq!(count(), times, "{code} in {:#?}", operator.logs());
}

#[tokio::test]
async fn what_gitea_signs_runs_the_job_at_the_commit_that_was_pushed() {
    let f = Fixture::new(Auth::None).await;
    let forge = Forge::start().unwrap();
    let repo = forge.repo("app").unwrap();
    let (user, password) = forge.login();
    f.put(secret("gitea", &[("username", user), ("password", password)])).await;
    f.put(secret("hooks", &[("right", SECRET), ("other", "the-secret-of-another")])).await;
    let credentials = json!({ "type": "basic", "secretRef": { "name": "gitea" } });
    f.put(with(git_repo("app", &forge.uri("app")), "authConfig", credentials)).await;
    f.put(action("act")).await;
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
    f.wait_for_status("WebhookTrigger", "on-push", "nothing is pending", |status| {
        status["pending"].as_object().is_none_or(serde_json::Map::is_empty)
    })
    .await;

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
