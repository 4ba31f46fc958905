//! What `env` and `envFrom` of an action become.

use git_events_runner_core::*;
use serde_json::{Value, json};

use super::folder::{Folder, act, config_map, manifest, repo, request, secret};

/// A folder with an action that prints its environment.
fn folder(job: Value) -> (Folder, RunRequest) {
    let folder = Folder::with([
        manifest(&repo("app"), json!({ "repoUri": "app.git" })),
        secret("default", "keys", json!({ "PASSWORD": "of secret", "SHARED": "secret" })),
        config_map("default", "settings", json!({ "COLOR": "blue", "SHARED": "map" })),
        secret("other", "elsewhere", json!({ "PASSWORD": "canary" })),
    ]);
    let mut job = job;
    job["command"] = json!(["env"]);
    folder.add(manifest(&act(), json!({ "actionJob": job })));
    let (_, commit) = folder.repo("app", "file");
    (folder, request(repo("app"), act(), commit))
}

async fn variables(job: Value) -> Vec<String> {
    let (folder, request) = folder(job);
    let (report, lines) = folder.run(&request).await;
    assert_eq!(report.status.phase, RunPhase::Succeeded);
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn values_come_from_secrets_and_config_maps_by_key() {
    let variables = variables(json!({ "env": [
        { "name": "PLAIN", "value": "as it is" },
        { "name": "EMPTY" },
        { "name": "OF_SECRET", "valueFrom": { "secretKeyRef": { "name": "keys", "key": "PASSWORD" } } },
        { "name": "OF_MAP", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "COLOR" } } },
        { "name": "NO_MAP", "valueFrom": { "configMapKeyRef": { "name": "nowhere", "key": "COLOR", "optional": true } } },
        { "name": "NO_KEY", "valueFrom": { "secretKeyRef": { "name": "keys", "key": "OTHER", "optional": true } } },
    ] }))
    .await;
    for expected in ["PLAIN=as it is", "EMPTY=", "OF_SECRET=of secret", "OF_MAP=blue"] {
        assert!(variables.contains(&expected.to_owned()), "no {expected} in {variables:?}");
    }
    assert!(!variables.iter().any(|line| line.starts_with("NO_")), "{variables:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_secrets_and_config_maps_come_in_order_and_single_values_win() {
    let variables = variables(json!({
        "envFrom": [
            { "secretRef": { "name": "keys" } },
            { "configMapRef": { "name": "settings" } },
            { "prefix": "MY_", "secretRef": { "name": "keys" } },
            { "configMapRef": { "name": "nowhere", "optional": true } },
        ],
        "env": [{ "name": "COLOR", "value": "red" }],
    }))
    .await;
    for expected in ["PASSWORD=of secret", "SHARED=map", "MY_PASSWORD=of secret", "MY_SHARED=secret", "COLOR=red"] {
        assert!(variables.contains(&expected.to_owned()), "no {expected} in {variables:?}");
    }
}

#[tokio::test]
async fn what_is_missing_is_said_with_its_field_and_without_values() {
    let of_secret = |name: &str, key: &str| json!({ "name": "A", "valueFrom": { "secretKeyRef": { "name": name, "key": key } } });
    let of_map = json!({ "name": "A", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "SIZE" } } });
    let of_pod = json!({ "name": "A", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } });
    let cases = [
        (json!({ "env": [of_secret("nowhere", "KEY")] }), "actionJob.env[0]: there is no Secret default/nowhere"),
        (json!({ "env": [of_secret("elsewhere", "PASSWORD")] }), "actionJob.env[0]: there is no Secret default/elsewhere"),
        (
            json!({ "env": [{ "name": "B" }, of_secret("keys", "KEY")] }),
            "actionJob.env[1]: the Secret default/keys has no key `KEY`, only: PASSWORD, SHARED",
        ),
        (json!({ "env": [of_map] }), "actionJob.env[0]: the ConfigMap default/settings has no key `SIZE`, only: COLOR, SHARED"),
        (json!({ "env": [of_pod] }), "actionJob.env[0]: only secretKeyRef and configMapKeyRef have a meaning without a cluster"),
        (json!({ "envFrom": [{ "secretRef": { "name": "nowhere" } }] }), "actionJob.envFrom[0]: there is no Secret default/nowhere"),
        (json!({ "envFrom": [{ "configMapRef": { "name": "no" } }] }), "actionJob.envFrom[0]: there is no ConfigMap default/no"),
        (json!({ "envFrom": [{ "prefix": "A" }] }), "actionJob.envFrom[0]: names neither a Secret nor a ConfigMap"),
    ];
    for (job, expected) in cases {
        let (folder, _) = folder(job);
        let error = folder.refused_action("default", &act()).await;
        assert!(matches!(error, CatalogError::Invalid { .. }));
        assert_eq!(error.to_string(), format!("Action default/act: {expected}"));
    }
}
