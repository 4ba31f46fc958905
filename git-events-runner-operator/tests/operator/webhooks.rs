//! How many webhook requests are taken, and what is looked at without any.

use git_events_runner_tests::Auth;
use serde_json::json;

use super::{
    fixture::{Fixture, request},
    manifests::{action, git_repo, webhook_trigger, with},
};

#[tokio::test]
async fn so_many_requests_are_taken_of_a_source_of_a_trigger_and_of_all_as_the_flags_say() {
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[]).unwrap();
    f.put(action("act")).await;
    for name in ["a", "b"] {
        f.put(git_repo(name, &f.server.uri("app"))).await;
    }
    for name in ["first", "second"] {
        f.put(with(webhook_trigger(name, "a", "act"), "sources.names", json!(["a", "b"]))).await;
    }
    let operator = f.operator(&["--hooks-rrl-source", "2/3600", "--hooks-rrl-trigger", "3/3600", "--hooks-rrl-global", "8/3600"]);
    for name in ["first", "second"] {
        f.wait_for_ready("WebhookTrigger", name, "True", "Watching").await;
    }
    let send = |path: &str| operator.webhook(&format!("/{}/{path}", &*f.namespace), ("x-unused", "")).unwrap();
    let is_taken = |path: &str| {
        let answer = send(path);
        assert_eq!(answer.status, 202, "{path}: {answer:?}");
    };
    // There is room for the next one after this time at most.
    let is_too_many = |path: &str, seconds: u64| {
        let answer = send(path);
        assert_eq!((answer.status, &answer.body["message"]), (503, &json!("there were too many requests: try again later")), "{path}");
        let headers = answer.headers.to_lowercase();
        let wait: u64 = headers.split("retry-after: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
        assert!((seconds / 2..=seconds).contains(&wait), "{path}: {wait}");
    };
    is_taken("first/a");
    is_taken("first/a");
    is_too_many("first/a", 1800);
    // Another source of the trigger is none of that, until the trigger has had as many as it may.
    is_taken("first/b");
    is_too_many("first/b", 1200);
    // And so is another trigger, until all together have.
    is_taken("second/a");
    is_taken("second/a");
    is_taken("second/b");
    is_too_many("nowhere", 450);
}

#[tokio::test]
async fn with_a_recheck_interval_a_push_that_no_webhook_tells_of_runs_once_the_source_was_looked_at() {
    let f = Fixture::new(Auth::None).await;
    let repo = f.repo("app");
    let first = repo.push("main", &[("file", "1")]).unwrap();
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    f.put(with(webhook_trigger("hook", "app", "act"), "webhook.recheckInterval", "1s")).await;
    let operator = f.operator(&[]);
    f.wait_for_ready("WebhookTrigger", "hook", "True", "Watching").await;
    let answer = operator.webhook(&format!("/{}/hook/app", &*f.namespace), ("x-unused", "")).unwrap();
    assert_eq!(answer.status, 202);
    let run = request(&f.wait_for_succeeded(1).await[0]);
    assert_eq!((run.commit, run.requests.len()), (first, 1), "nothing but the request has it looked at for the first time");

    let pushed = repo.push("main", &[("file", "2")]).unwrap();
    let run = request(&f.wait_for_succeeded(2).await[1]);
    assert_eq!((run.commit, run.requests.len()), (pushed, 0));
}
