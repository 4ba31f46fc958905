//! What objects say of themselves when something is wrong, and when it is right again.

use std::time::{Duration, Instant};

use git_events_runner_tests::{
    Auth,
    cluster::{Cluster, Mode},
    free_port,
};
use k8s_openapi::api::{batch::v1::Job, core::v1::ResourceQuota};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    fixture::{Fixture, condition, wait_for},
    manifests::{action, git_repo, object, schedule_trigger, secret, webhook_trigger, with},
};

fn with_password(repo: Value, secret: &str) -> Value {
    with(repo, "authConfig", json!({ "type": "basic", "secretRef": { "name": secret } }))
}

/// Waits until a condition says that it cannot work, and answers why.
async fn is_wrong(f: &Fixture, kind: &str, name: &str, reason: &str, abnormal: &str) -> String {
    let status = f.wait_for_ready(kind, name, "False", reason).await;
    let ready = condition(&status, "Ready").unwrap();
    let more = condition(&status, abnormal).unwrap_or_else(|| panic!("{kind} {name} is not {abnormal}: {status}"));
    assert_eq!((&more["status"], &more["reason"]), (&json!("True"), &json!(reason)), "{kind} {name}");
    assert_eq!(status["conditions"].as_array().unwrap().len(), 2, "{kind} {name}");
    let generation = f.get(kind, name).await.unwrap().metadata.generation;
    assert_eq!((&status["observedGeneration"], &ready["observedGeneration"]), (&json!(generation), &json!(generation)));
    ready["message"].as_str().unwrap().to_owned()
}

/// Waits until the only condition says that it works.
async fn is_right(f: &Fixture, kind: &str, name: &str, reason: &str) {
    let status = f.wait_for_ready(kind, name, "True", reason).await;
    assert_eq!(status["conditions"].as_array().unwrap().len(), 1, "{kind} {name}");
}

#[tokio::test]
async fn sources_that_fail_say_why_and_recover_when_they_are_repaired() {
    let f = Fixture::new(Auth::Basic("robot".into(), "secret".into())).await;
    let repo = f.repo("app");
    repo.push("main", &[]).unwrap();
    let (uri, closed) = (f.server.uri("app"), free_port().unwrap());
    f.put(secret("right", &[("username", "robot"), ("password", "secret")])).await;
    f.put(secret("wrong", &[("username", "robot"), ("password", "other")])).await;
    f.put(secret("half", &[("username", "robot")])).await;
    f.put(action("act")).await;
    f.put(with_password(git_repo("password", &uri), "wrong")).await;
    f.put(with_password(git_repo("host", &format!("http://127.0.0.1:{closed}/app.git")), "right")).await;
    f.put(with_password(git_repo("gone", &f.server.uri("gone")), "right")).await;
    f.put(with_password(git_repo("key", &uri), "half")).await;
    f.put(with_password(git_repo("branch", &uri), "right")).await;
    for name in ["password", "host", "gone", "key"] {
        f.put(schedule_trigger(name, name, "act")).await;
    }
    f.put(with(schedule_trigger("branch", "branch", "act"), "sources.watchOn.reference", json!({ "branch": "next" }))).await;
    let _operator = f.operator(&["--secrets-cache-time", "0"]);

    for (name, reason, says) in [
        ("password", "AuthenticationFailed", "127.0.0.1"),
        ("host", "Unreachable", "no connection to"),
        ("gone", "RepositoryNotFound", "gone"),
        ("key", "SecretNotFound", "password"),
    ] {
        for kind in ["GitRepo", "ScheduleTrigger"] {
            let message = is_wrong(&f, kind, name, reason, "Reconciling").await;
            assert!(message.contains(says) && !message.contains("other"), "{kind} {name}: {message}");
        }
        f.wait_for_events("ScheduleTrigger", name, &[reason]).await;
    }
    let message = is_wrong(&f, "ScheduleTrigger", "branch", "ReferenceNotFound", "Reconciling").await;
    assert!(message.contains("branch") && message.contains("next"), "{message}");
    is_right(&f, "GitRepo", "branch", "Reachable").await;
    assert!(f.jobs().await.is_empty());

    f.put(secret("wrong", &[("username", "robot"), ("password", "secret")])).await;
    f.put(secret("half", &[("username", "robot"), ("password", "secret")])).await;
    f.put(with_password(git_repo("host", &uri), "right")).await;
    f.repo("gone").push("main", &[]).unwrap();
    repo.push("next", &[]).unwrap();
    f.wait_for_succeeded(5).await;
    for name in ["password", "host", "gone", "key", "branch"] {
        is_right(&f, "GitRepo", name, "Reachable").await;
        is_right(&f, "ScheduleTrigger", name, "Watching").await;
        f.wait_for_event("ScheduleTrigger", name, "Recovered").await;
    }
}

#[tokio::test]
async fn triggers_say_what_is_missing_and_work_when_it_comes() {
    let f = Fixture::new(Auth::Basic("robot".into(), "secret".into())).await;
    f.repo("app").push("main", &[]).unwrap();
    f.put(with_password(git_repo("app", &f.server.uri("app")), "right")).await;
    f.put(secret("right", &[("username", "robot"), ("password", "secret")])).await;
    f.put(with_password(git_repo("secret", &f.server.uri("app")), "later")).await;
    f.put(action("act")).await;
    let over = json!({ "kind": "GitRepo", "name": "later", "reference": { "branch": "main" } });
    f.put(with(action("over"), "sourceOverride", over)).await;
    let triggers = [("repo", "later", "act"), ("action", "app", "later"), ("secret", "secret", "act"), ("over", "app", "over")];
    for (name, source, action) in triggers {
        f.put(with(schedule_trigger(name, source, action), "schedule.interval", "1h")).await;
    }
    let _operator = f.operator(&[]);

    for (name, reason, missing) in [
        ("repo", "NotFound", "GitRepo {}/later"),
        ("action", "NotFound", "Action {}/later"),
        ("secret", "SecretNotFound", "Secret {}/later"),
        ("over", "NotFound", "GitRepo {}/later"),
    ] {
        let message = is_wrong(&f, "ScheduleTrigger", name, reason, "Reconciling").await;
        assert!(message.contains(&missing.replace("{}", &f.namespace)), "{name}: {message}");
        f.wait_for_events("ScheduleTrigger", name, &[reason]).await;
    }
    is_wrong(&f, "GitRepo", "secret", "SecretNotFound", "Reconciling").await;
    is_wrong(&f, "Action", "over", "NotFound", "Reconciling").await;

    f.put(secret("later", &[("username", "robot"), ("password", "secret")])).await;
    f.put(with_password(git_repo("later", &f.server.uri("app")), "right")).await;
    f.put(action("later")).await;
    f.wait_for_succeeded(4).await;
    for name in ["repo", "action", "secret", "over"] {
        is_right(&f, "ScheduleTrigger", name, "Watching").await;
        f.wait_for_event("ScheduleTrigger", name, "Recovered").await;
        let events = f.events("ScheduleTrigger", name).await;
        assert_eq!(events.iter().filter(|reason| *reason == "Recovered").count(), 1, "{name}: {events:?}");
    }
    is_right(&f, "GitRepo", "secret", "Reachable").await;
    is_right(&f, "Action", "over", "Valid").await;
}

#[tokio::test]
async fn a_webhook_that_anybody_could_fire_says_so_and_stays_closed() {
    let f = Fixture::new(Auth::None).await;
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    let open = webhook_trigger("it", "app", "act");
    f.put(with(open.clone(), "webhook.allowUnauthenticated", false)).await;
    let auth = json!({ "secretRef": { "name": "later" }, "key": "token" });
    f.put(with(with(webhook_trigger("token", "app", "act"), "webhook.allowUnauthenticated", false), "webhook.authConfig", auth)).await;
    f.put(with(webhook_trigger("nothing", "app", "act"), "sources.watchOn", json!({ "files": ["!docs/"] }))).await;
    let operator = f.operator(&[]);

    let message = is_wrong(&f, "WebhookTrigger", "nothing", "InvalidSpec", "Stalled").await;
    assert!(message.contains("files"), "{message}");
    let message = is_wrong(&f, "WebhookTrigger", "it", "AuthenticationRequired", "Stalled").await;
    assert!(message.contains("webhook.authConfig") && message.contains("webhook.allowUnauthenticated"), "{message}");
    let message = is_wrong(&f, "WebhookTrigger", "token", "SecretNotFound", "Reconciling").await;
    assert!(message.contains("webhook.authConfig") && message.contains(&format!("{}/later", f.namespace)), "{message}");
    let status = f.status("WebhookTrigger", "it").await;
    assert_eq!((&status["state"], &status["webhookPath"]), (&json!("WrongConfig"), &json!(format!("/{}/it/app", f.namespace))));
    let post = |name: &str, token: &str| operator.webhook(&format!("/{}/{name}/app", f.namespace), ("x-trigger-auth", token)).unwrap();
    for name in ["it", "token", "nothing"] {
        let closed = post(name, "");
        assert!(closed.status == 503 && !closed.body.to_string().contains("later"), "{closed:?}");
    }

    f.put(open).await;
    f.put(secret("later", &[("token", "open sesame")])).await;
    for name in ["it", "token"] {
        is_right(&f, "WebhookTrigger", name, "Watching").await;
        wait_for("a request is accepted", async || (post(name, "open sesame").status == 202).then_some(())).await;
    }
}

#[tokio::test]
async fn kubectl_can_wait_for_all_six_kinds() {
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[]).unwrap();
    let (repo, act) = (f.unique("app"), f.unique("act"));
    let _operator = f.operator(&[]);
    f.put(git_repo("it", &f.server.uri("app"))).await;
    f.put(action("it")).await;
    f.put(schedule_trigger("it", "it", "it")).await;
    f.put(webhook_trigger("it", "it", "it")).await;
    f.put(object("ClusterGitRepo", &repo, json!({ "repoUri": f.server.uri("app") }))).await;
    f.put(object("ClusterAction", &act, json!({}))).await;

    let objects = ["gitrepo/it", "action/it", "scheduletrigger/it", "webhooktrigger/it"].map(str::to_owned);
    let objects = objects.into_iter().chain([format!("clustergitrepo/{repo}"), format!("clusteraction/{act}")]);
    let mut kubectl = Cluster::shared(Mode::Kwok).await.unwrap().kubectl();
    kubectl.args(["--namespace", &f.namespace, "wait", "--for=condition=Ready", "--timeout=30s"]).args(objects);
    let waited = kubectl.output().unwrap();
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
    assert_eq!(f.get("Action", "it").await.unwrap().name_any(), "it");
}

#[tokio::test]
async fn a_host_that_is_not_allowed_is_never_asked() {
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[]).unwrap();
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    f.put(schedule_trigger("it", "app", "act")).await;
    let operator = f.operator(&["--allowed-hosts", "github.com,*.example.com"]);

    let why = is_wrong(&f, "ScheduleTrigger", "it", "InvalidSpec", "Stalled").await;
    assert!(why.contains("repoUri: the operator may ask only github.com, *.example.com, and ") && why.contains("--allowed-hosts"), "{why}");
    is_wrong(&f, "GitRepo", "app", "InvalidSpec", "Stalled").await;
    assert!(f.jobs().await.is_empty() && f.server.take_requests(0).unwrap().is_empty());
    operator.terminate().unwrap();
    let _operator = f.operator(&["--allowed-hosts", "*"]);
    f.wait_for_succeeded(1).await;
    is_right(&f, "GitRepo", "app", "Reachable").await;
}

#[tokio::test]
async fn what_is_new_is_not_said_to_be_missing() {
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[]).unwrap();
    let _operator = f.operator(&[]);
    f.put(git_repo("first", &f.server.uri("app"))).await;
    f.wait_for_ready("GitRepo", "first", "True", "Reachable").await;
    for number in 0..20 {
        let name = format!("new-{number}");
        f.put(git_repo(&name, &f.server.uri("app"))).await;
        f.put(action(&name)).await;
        for (kind, reason) in [("GitRepo", "Reachable"), ("Action", "Valid")] {
            let said = wait_for("a condition", async || condition(&f.status(kind, &name).await, "Ready").cloned()).await;
            assert_eq!(said["reason"], reason, "{kind} {name}: {}", said["message"]);
        }
    }
}

#[tokio::test]
async fn of_what_is_applied_together_nothing_is_said_to_be_missing() {
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[]).unwrap();
    let operator = f.operator(&[]);
    for number in 0.. {
        let name = |what: &str| format!("{what}-{number}");
        let begun = Instant::now();
        f.put(schedule_trigger(&name("it"), &name("app"), &name("act"))).await;
        operator.wait_for_line(&format!("there is no GitRepo {}/{}", &*f.namespace, name("app"))).unwrap();
        f.put(action(&name("act"))).await;
        f.put(git_repo(&name("app"), &f.server.uri("app"))).await;
        is_right(&f, "ScheduleTrigger", &name("it"), "Watching").await;
        if begun.elapsed() < Duration::from_secs(2) {
            let first = wait_for("an Event", async || f.events("ScheduleTrigger", &name("it")).await.into_iter().next()).await;
            assert_eq!(first, "RunRegistered");
            return;
        }
        // The machine is so busy that it was not together.
    }
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_told_as_such_and_what_was_refused_runs_when_there_is_room() {
    let f = Fixture::new(Auth::None).await;
    f.repo("app").push("main", &[]).unwrap();
    let quotas = Api::<ResourceQuota>::namespaced(f.client.clone(), &f.namespace);
    let hard = json!({ "count/jobs.batch": "0" });
    let quota = json!({ "metadata": { "name": "none" }, "spec": { "hard": hard } });
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    // As the controller of quotas would, which does not run.
    let used_up = Patch::Merge(json!({ "status": { "hard": hard, "used": hard } }));
    quotas.patch_status("none", &PatchParams::default(), &used_up).await.unwrap();
    let pod = json!({ "restartPolicy": "Never", "containers": [{ "name": "it", "image": "it" }] });
    let job: Job = serde_json::from_value(json!({ "metadata": { "name": "it" }, "spec": { "template": { "spec": pod } } })).unwrap();
    let (jobs, trial) = (Api::namespaced(f.client.clone(), &f.namespace), PostParams { dry_run: true, ..PostParams::default() });
    wait_for("the quota is in force", async || jobs.create(&trial, &job).await.err().map(drop)).await;
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    f.put(schedule_trigger("it", "app", "act")).await;
    let _operator = f.operator(&[]);
    let status = f.wait_for_ready("ScheduleTrigger", "it", "False", "Forbidden").await;
    let told = condition(&status, "Ready").unwrap()["message"].as_str().unwrap();
    assert!(told.contains("exceeded quota: none"), "{told}");
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    f.wait_for_succeeded(1).await;
    f.wait_for_ready("ScheduleTrigger", "it", "True", "Watching").await;
}
