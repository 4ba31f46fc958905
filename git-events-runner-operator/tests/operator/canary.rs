//! Secrets are seen in Secrets only.

use git_events_runner_core::{RunPhase, job};
use git_events_runner_tests::{Auth, Canaries, SshServer};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod, events::v1::Event};
use kube::{Api, Resource, api::ListParams};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    fixture::Fixture,
    manifests::{action, git_repo, object, schedule_trigger, secret, webhook_trigger, with},
};

async fn objects<K>(f: &Fixture) -> String
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let found = Api::<K>::namespaced(f.client.clone(), &f.namespace).list(&ListParams::default()).await.unwrap();
    serde_json::to_string(&found).unwrap()
}

#[tokio::test]
async fn no_secret_is_in_a_log_an_object_or_a_process() {
    let unique = |name: &str| format!("canary-{name}-{}", uuid::Uuid::new_v4().simple());
    let [password, wrong, header, webhook, forged, passphrase, broken] =
        ["password", "wrong", "header", "webhook", "forged", "passphrase", "broken"].map(unique);
    let f = Fixture::new(Auth::Basic("robot".into(), password.clone())).await;
    f.repo("app").push("main", &[("a", "1")]).unwrap();
    let ssh = SshServer::start(false).unwrap();
    ssh.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    let key = ssh.key(&["-t", "ed25519"], &passphrase).unwrap();
    let line = key.private.lines().nth(2).unwrap().to_owned();
    let canaries = Canaries::new(&[
        ("password", &password),
        ("wrong password", &wrong),
        ("header", &header),
        ("token of the webhook", &webhook),
        ("forged token", &forged),
        ("passphrase", &passphrase),
        ("broken key", &broken),
        ("private key", &line),
    ]);
    let processes = canaries.watch_processes();

    f.put(secret("right", &[("username", "robot"), ("password", &password)])).await;
    f.put(secret("wrong", &[("username", "robot"), ("password", &wrong)])).await;
    f.put(secret("header", &[("token", &format!("Bearer {header}"))])).await;
    f.put(secret("key", &[("ssh-privatekey", &key.private), ("passphrase", &passphrase), ("known_hosts", &ssh.known_hosts())])).await;
    f.put(secret("locked", &[("ssh-privatekey", &key.private), ("passphrase", &wrong), ("known_hosts", &header)])).await;
    f.put(secret("broken", &[("ssh-privatekey", &broken), ("appId", &broken), ("installationId", "1")])).await;
    f.put(secret("webhook", &[("token", &webhook)])).await;
    let auth = |kind: &str, secret: &str| json!({ "type": kind, "secretRef": { "name": secret } });
    let (uri, over_ssh) = (f.server.uri("app"), ssh.uri("app"));
    let sources = [
        ("right", &uri, "basic", "Reachable"),
        ("wrong", &uri, "basic", "AuthenticationFailed"),
        ("header", &uri, "token", "AuthenticationFailed"),
        ("key", &over_ssh, "ssh", "Reachable"),
        ("locked", &over_ssh, "ssh", "InvalidSpec"),
        ("broken", &"https://git.example.com/app".to_owned(), "githubApp", "InvalidSpec"),
    ];
    for (name, uri, kind, _) in sources {
        f.put(with(git_repo(name, uri), "authConfig", auth(kind, name))).await;
    }
    // Its Jobs get a copy of the Secret.
    let shared = f.unique("shared");
    let of_cluster =
        json!({ "repoUri": uri, "authConfig": { "type": "basic", "secretRef": { "name": "right", "namespace": &*f.namespace } } });
    f.put(object("ClusterGitRepo", &shared, of_cluster)).await;
    f.put(action("act")).await;
    for (name, ..) in sources {
        f.put(schedule_trigger(name, name, "act")).await;
    }
    f.put(with(schedule_trigger("shared", &shared, "act"), "sources.kind", "ClusterGitRepo")).await;
    let hook = with(
        webhook_trigger("hook", "right", "act"),
        "webhook",
        json!({ "authConfig": { "secretRef": { "name": "webhook" }, "key": "token" } }),
    );
    f.put(hook).await;

    let operator = f.operator(&["--log-level", "trace"]);
    for (name, .., reason) in sources {
        f.wait_for_ready("GitRepo", name, if reason == "Reachable" { "True" } else { "False" }, reason).await;
    }
    let path = format!("/{}/hook/right", &*f.namespace);
    let refused = operator.webhook(&path, ("x-trigger-auth", &forged)).unwrap();
    assert_eq!(refused.status, 403, "{refused:?}");
    let accepted = operator.webhook(&path, ("x-trigger-auth", &webhook)).unwrap();
    assert!([200, 202].contains(&accepted.status), "{accepted:?}");
    // Of the right password, of the key, of the copy of the Secret, and of the webhook.
    f.wait_for_jobs("four Jobs that have succeeded", |jobs| {
        jobs.iter().filter(|found| job::phase(found) == RunPhase::Succeeded).count() >= 3
    })
    .await;

    let mut told = vec![("Pods", objects::<Pod>(&f).await), ("Events", objects::<Event>(&f).await), ("Leases", objects::<Lease>(&f).await)];
    for kind in ["GitRepo", "ClusterGitRepo", "ScheduleTrigger", "WebhookTrigger", "Action", "Job", "ConfigMap"] {
        told.push((kind, serde_json::to_string(&f.api(kind).list(&ListParams::default()).await.unwrap()).unwrap()));
    }
    for (what, text) in &told {
        canaries.assert_not_in(what, text);
    }
    assert!(told[1].1.contains("AuthenticationFailed") && told[0].1.contains("git-credentials"), "what is looked at is there");
    for path in ["/", "/metrics", "/ready"] {
        canaries.assert_not_in(path, &operator.utility(path).unwrap().1);
    }
    let (_, log) = operator.terminate().unwrap();
    assert!(log.iter().filter(|line| line.contains("TRACE")).count() > 100, "it logs all that it can");
    canaries.assert_not_in("the log", &log.join("\n"));
    processes.assert_nothing_seen();
}
