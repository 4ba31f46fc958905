//! What the API server takes and the operator refuses. What the API server refuses by itself is tested beside the definitions.

use git_events_runner_tests::Auth;
use serde_json::{Value, json};

use super::{
    fixture::{Fixture, condition},
    manifests::{action, git_repo, object, schedule_trigger, with},
};

/// A field of a spec, its value, and what a message about it must name.
type Wrong = (&'static str, Value, &'static str);

fn schedules() -> Vec<Wrong> {
    let cron = |pattern: &str| ("schedule", json!({ "cron": pattern }), "spec.schedule.cron");
    let zone = |zone: &str| ("schedule", json!({ "cron": "0 9 * * *", "timeZone": zone }), "spec.schedule.timeZone");
    let patterns = [
        "60 * * * *",
        "* 24 * * *",
        "* * 32 * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * 0 *",
        "* * * * 8",
        "60 * * * * *",
        "* * * FOO *",
        "* * * * FUNDAY",
        "* * * * MON#6",
        "0 0 31 2 *",
        "0 0 30 FEB *",
        "*/0 * * * *",
        "5-1 * * * *",
        "1,,2 * * * *",
        "- * * * *",
        "@never",
        "0 0 0 1 1 * 1969",
        "TZ=Mars/Olympus 0 9 * * *",
    ];
    let mut cases: Vec<_> = patterns.map(cron).into();
    cases.extend(["Mars/Olympus", "Europe", "Europe/", "+02"].map(zone));
    cases
}

fn repositories() -> Vec<Wrong> {
    let elsewhere = json!({ "name": "git", "namespace": "elsewhere" });
    let uri = |uri: &str| ("repoUri", json!(uri), "repoUri");
    vec![
        ("authConfig", json!({ "type": "token", "secretRef": elsewhere }), "authConfig.secretRef.namespace"),
        ("tlsConfig", json!({ "caCert": { "secretRef": elsewhere } }), "tlsConfig.caCert.secretRef.namespace"),
        ("proxy", json!({ "url": "http://proxy:3128", "secretRef": elsewhere }), "proxy.secretRef.namespace"),
        uri("https://git.example.com:99999/app.git"),
        uri("https://[::1::2]/app.git"),
    ]
}

fn jobs() -> Vec<Wrong> {
    vec![
        ("actionJob.labels", json!({ "team": "-a" }), "metadata.labels"),
        ("actionJob.labels", json!({ "a b": "c" }), "metadata.labels"),
        ("actionJob.labels", json!({ "team": "a".repeat(64) }), "metadata.labels"),
        ("actionJob.annotations", json!({ "a b": "c" }), "metadata.annotations"),
        ("actionJob.annotations", json!({ "big": "x".repeat(300_000) }), "metadata.annotations"),
        ("actionJob.tolerations", json!([{ "operator": "Exists", "value": "a", "key": "b" }]), "spec.tolerations[0].operator"),
        ("actionJob.tolerations", json!([{ "operator": "Equals", "key": "b" }]), "spec.tolerations[0].operator"),
        ("actionJob.tolerations", json!([{ "key": "b", "effect": "NoWay" }]), "spec.tolerations[0].effect"),
        (
            "actionJob.tolerations",
            json!([{ "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 5 }]),
            "spec.tolerations[0].effect",
        ),
        ("actionJob.nodeSelector", json!({ "a b": "c" }), "spec.nodeSelector"),
        ("actionJob.affinity", affinity(json!({ "key": "a", "operator": "Is", "values": ["b"] })), "matchExpressions[0].operator"),
        ("actionJob.affinity", affinity(json!({ "key": "a", "operator": "In" })), "matchExpressions[0].values"),
        ("actionJob.env", json!([{ "name": "a=b" }]), "env["),
        ("actionJob.env", json!([{ "name": "A", "valueFrom": {} }]), "valueFrom"),
        (
            "actionJob.env",
            json!([{ "name": "A", "value": "b", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }]),
            "valueFrom",
        ),
        ("actionJob.env", json!([{ "name": "A", "valueFrom": { "fieldRef": { "fieldPath": "metadata.nowhere" } } }]), "fieldPath"),
        ("actionJob.envFrom", json!([{}]), "envFrom"),
        ("actionJob.envFrom", json!([{ "secretRef": { "name": "A b" } }]), "envFrom[0].secretRef.name"),
        ("actionJob.resources", json!({ "limits": { "cpu": "-1" } }), "resources.limits[cpu]"),
        ("actionJob.resources", json!({ "limits": { "cpu": "1" }, "requests": { "cpu": "2" } }), "resources.requests"),
        ("actionJob.resources", json!({ "limits": { "apples": "1" } }), "resources.limits[apples]"),
        ("actionJob.securityContext", json!({ "runAsUser": -1 }), "securityContext.runAsUser"),
        ("actionJob.securityContext", json!({ "privileged": true, "allowPrivilegeEscalation": false }), "securityContext"),
        ("actionJob.securityContext", json!({ "procMount": "None" }), "securityContext.procMount"),
        ("actionJob.podSecurityContext", json!({ "fsGroup": -1 }), "spec.securityContext.fsGroup"),
        ("actionJob.podSecurityContext", json!({ "sysctls": [{ "name": "A B", "value": "1" }] }), "sysctls[0].name"),
        ("actionJob.podSecurityContext", json!({ "seccompProfile": { "type": "Localhost" } }), "seccompProfile.localhostProfile"),
        (
            "actionJob.podFailurePolicy",
            json!({ "rules": [{ "action": "Despair", "onPodConditions": [] }] }),
            "podFailurePolicy.rules[0].action",
        ),
        (
            "actionJob.podFailurePolicy",
            json!({ "rules": [{ "action": "FailJob", "onExitCodes": { "operator": "In", "values": [0] } }] }),
            "podFailurePolicy.rules[0].onExitCodes.values[0]",
        ),
        (
            "actionJob.podFailurePolicy",
            json!({ "rules": [{ "action": "FailJob", "onExitCodes": { "containerName": "other", "operator": "In", "values": [1] } }] }),
            "podFailurePolicy.rules[0].onExitCodes.containerName",
        ),
        ("actionJob.workdir", json!("/var/run/secrets/kubernetes.io/serviceaccount"), "mountPath"),
    ]
}

fn affinity(expression: Value) -> Value {
    let terms = json!({ "nodeSelectorTerms": [{ "matchExpressions": [expression] }] });
    json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } })
}

#[tokio::test]
async fn what_only_the_operator_can_refuse_is_stalled_and_the_message_names_the_field() {
    let f = Fixture::new(Auth::None).await;
    let cluster_action = |name: &str| object("ClusterAction", &f.unique(name), json!({}));
    let cases = [
        ("schedule", schedules(), schedule_trigger("", "app", "act")),
        ("repo", repositories(), git_repo("", "https://git.example.com/app.git")),
        ("action", jobs(), action("")),
        ("cluster-action", jobs().into_iter().take(3).collect(), cluster_action("")),
    ];
    let mut broken = vec![];
    for (kind, wrongs, sound) in cases {
        for (number, (field, value, names)) in wrongs.into_iter().enumerate() {
            let what = format!("{} {field} = {}", sound["kind"], value.to_string().chars().take(80).collect::<String>());
            let mut object = with(sound.clone(), field, value);
            object["metadata"]["name"] = format!("{}{kind}-{number}", sound["metadata"]["name"].as_str().unwrap()).into();
            f.put(object.clone()).await;
            broken.push((object, names, what));
        }
    }
    let _operator = f.operator(&[]);

    let mut wrong = vec![];
    for (object, names, what) in &broken {
        let [kind, name] = [&object["kind"], &object["metadata"]["name"]].map(|text| text.as_str().unwrap());
        let status = f.wait_for_status(kind, name, "it is stalled", |status| condition(status, "Stalled").is_some()).await;
        match condition(&status, "Stalled") {
            Some(stalled) if stalled["reason"] == "InvalidSpec" && stalled["message"].as_str().unwrap().contains(names) => {}
            _ => wrong.push(format!("{what}: does not name {names}: {}", status["conditions"])),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} broken objects are refused by the operator", broken.len());
}
