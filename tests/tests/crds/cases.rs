//! Manifests as a sound object and one change of it.

use serde_json::{Value, json};

/// A change of a sound object: the field (as a JSON pointer) and its new value; null removes it.
pub struct Case {
    pub object: Value,
    /// The field that a refusal must name; empty: it is accepted.
    pub field: &'static str,
    pub what: String,
}

fn case(mut object: Value, pointer: &str, value: Value, field: &'static str) -> Case {
    let what = format!("{} {pointer} = {}", object["kind"], value.to_string().chars().take(100).collect::<String>());
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let mut target = &mut object;
    for part in parent.split('/').skip(1) {
        target = if target.is_array() { &mut target[part.parse::<usize>().unwrap()] } else { &mut target[part] };
    }
    match (target, value) {
        (Value::Array(items), value) => items[name.parse::<usize>().unwrap()] = value,
        (Value::Object(fields), Value::Null) => drop(fields.remove(name)),
        (target, value) => target[name] = value,
    }
    Case { object, field, what }
}

fn object(kind: &str, spec: Value) -> Value {
    let metadata = if kind.starts_with("Cluster") { json!({ "name": "it" }) } else { json!({ "name": "it", "namespace": "default" }) };
    json!({ "apiVersion": "git-events-runner.rs/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec })
}

fn repo(kind: &str) -> Value {
    object(
        kind,
        json!({
            "repoUri": "https://git.example.com/a/b.git", "tlsConfig": { "caCert": { "secretRef": { "name": "ca" } } },
            "authConfig": { "type": "basic", "secretRef": { "name": "auth" }, "keys": {} }, "sshConfig": {},
            "proxy": { "url": "socks5://proxy:1080", "secretRef": { "name": "proxy" } },
        }),
    )
}

fn plain(uri: &str) -> Value {
    object("GitRepo", json!({ "repoUri": uri }))
}

fn schedule() -> Value {
    let sources = json!({ "kind": "GitRepo", "names": ["a", "b"], "watchOn": { "reference": { "branch": "main" } } });
    object(
        "ScheduleTrigger",
        json!({ "sources": sources, "action": { "kind": "Action", "name": "act" }, "schedule": { "interval": "5m" } }),
    )
}

fn webhook() -> Value {
    let auth = json!({ "type": "header", "secretRef": { "name": "auth" }, "key": "token" });
    let sources = json!({ "names": ["a"] });
    object(
        "WebhookTrigger",
        json!({ "sources": sources, "action": { "kind": "Action", "name": "act" }, "webhook": { "authConfig": auth } }),
    )
}

fn action(kind: &str) -> Value {
    let source = json!({ "kind": "ClusterGitRepo", "name": "a", "reference": { "branch": "main" } });
    object(kind, json!({ "actionJob": { "clone": {} }, "sourceOverride": source }))
}

/// What must be refused, with the field that the refusal must name.
pub fn broken() -> Vec<Case> {
    let mut cases = sources();
    cases.extend(triggers());
    cases.extend(schedules());
    cases.extend(webhooks());
    cases.extend(actions());
    cases.extend(anything());
    cases
}

fn sources() -> Vec<Case> {
    let uri = |uri: &str| case(plain("https://git.example.com/a"), "/spec/repoUri", json!(uri), "spec.repoUri");
    let mut cases: Vec<_> = [
        "",
        "file:///srv/a.git",
        "/srv/a.git",
        "./a",
        "ext::sh -c id",
        "-oProxyCommand=id",
        "ssh://-oProxyCommand=id/a",
        "git@-host:a",
        "git@host:-a",
        "ftp://git.example.com/a",
        "HTTPS://git.example.com/a",
        "https://",
        "https://git.example.com/a b",
        "https://git.example.com/a\nb",
        "https://user:secret@git.example.com/a",
        "https://user@git.example.com/a",
        "ssh://git:secret@git.example.com/a",
        "git://user@git.example.com/a",
        "https://git.example.com:port/a",
        "https://git.example.com/a?b=c",
        "https://git.example.com/a#b",
    ]
    .map(uri)
    .into();
    for kind in ["GitRepo", "ClusterGitRepo"] {
        cases.extend([
            case(repo(kind), "/spec/repoUri", json!(null), "spec.repoUri"),
            case(repo(kind), "/spec/repoUri", json!(7), "spec.repoUri"),
            case(repo(kind), "/spec/repoUri", json!(format!("https://git.example.com/{}", "a".repeat(2048))), "spec.repoUri"),
            case(repo(kind), "/spec/authConfig/type", json!("ssh"), "spec.authConfig.type"),
            case(repo(kind), "/spec/authConfig/type", json!("kerberos"), "spec.authConfig.type"),
            case(repo(kind), "/spec/authConfig/type", json!(null), "spec.authConfig.type"),
            case(repo(kind), "/spec/authConfig/secretRef", json!(null), "spec.authConfig.secretRef"),
            case(repo(kind), "/spec/authConfig/secretRef/name", json!(null), "spec.authConfig.secretRef.name"),
            case(repo(kind), "/spec/authConfig/secretRef/name", json!("Not_A_Name"), "spec.authConfig.secretRef.name"),
            case(repo(kind), "/spec/authConfig/secretRef/namespace", json!("a.b"), "spec.authConfig.secretRef.namespace"),
            case(repo(kind), "/spec/authConfig/keys/privateKey", json!("a/b"), "spec.authConfig.keys.privateKey"),
            case(repo(kind), "/spec/authConfig/keys/passwort", json!("a"), "spec.authConfig.keys.passwort"),
            case(repo(kind), "/spec/tlsConfig/noVerifySsl", json!("yes"), "spec.tlsConfig.noVerifySsl"),
            case(repo(kind), "/spec/tlsConfig/caCert/secretRef", json!(null), "spec.tlsConfig.caCert.secretRef"),
            case(repo(kind), "/spec/tlsConfig/caCert/key", json!(""), "spec.tlsConfig.caCert.key"),
            case(repo(kind), "/spec/timeout", json!("soon"), "spec.timeout"),
            case(repo(kind), "/spec/timeout", json!("0s"), "spec.timeout"),
            case(repo(kind), "/spec/timeout", json!(60), "spec.timeout"),
            case(repo(kind), "/spec/proxy/url", json!("proxy:1080"), "spec.proxy.url"),
            case(repo(kind), "/spec/proxy/url", json!("http://user:secret@proxy:1080"), "spec.proxy.url"),
            case(repo(kind), "/spec/sshConfig/insecureIgnoreHostKey", json!(1), "spec.sshConfig.insecureIgnoreHostKey"),
        ]);
    }
    let selector = |selector: Value, field| case(repo("ClusterGitRepo"), "/spec/allowedNamespaces", selector, field);
    cases.extend([
        case(repo("GitRepo"), "/spec/allowedNamespaces", json!({}), "spec.allowedNamespaces"),
        case(plain("git@git.example.com:a"), "/spec/authConfig", repo("GitRepo")["spec"]["authConfig"].clone(), "spec.authConfig.type"),
        case(
            plain("git://git.example.com/a"),
            "/spec/authConfig",
            json!({ "type": "ssh", "secretRef": { "name": "a" } }),
            "spec.authConfig.type",
        ),
        case(plain("git@git.example.com:a"), "/spec/tlsConfig", json!({ "noVerifySsl": true }), "spec.tlsConfig"),
        case(plain("http://git.example.com/a"), "/spec/tlsConfig", json!({ "caCert": { "secretRef": { "name": "a" } } }), "spec.tlsConfig"),
        selector(json!({ "matchLabels": { "a": "not a value" } }), "spec.allowedNamespaces.matchLabels.a"),
        selector(json!({ "matchExpressions": [{ "key": "a", "operator": "Is" }] }), "spec.allowedNamespaces.matchExpressions[0].operator"),
        selector(json!({ "matchExpressions": [{ "key": "a", "operator": "In" }] }), "spec.allowedNamespaces.matchExpressions[0].values"),
        selector(
            json!({ "matchExpressions": [{ "key": "a", "operator": "Exists", "values": ["b"] }] }),
            "spec.allowedNamespaces.matchExpressions[0].values",
        ),
    ]);
    cases
}

fn triggers() -> Vec<Case> {
    let names: Vec<_> = (0..257).map(|n| format!("s{n}")).collect();
    let reference = |reference: Value, field| case(schedule(), "/spec/sources/watchOn/reference", reference, field);
    let mut cases = vec![
        case(schedule(), "/spec/sources", json!(null), "spec.sources"),
        case(schedule(), "/spec/sources/kind", json!("Repository"), "spec.sources.kind"),
        case(schedule(), "/spec/sources/names", json!(null), "spec.sources.names"),
        case(schedule(), "/spec/sources/names", json!([]), "spec.sources.names"),
        case(schedule(), "/spec/sources/names", json!(names), "spec.sources.names"),
        case(schedule(), "/spec/sources/names", json!("a"), "spec.sources.names"),
        case(schedule(), "/spec/sources/names/1", json!("a"), "spec.sources.names[1]"),
        case(schedule(), "/spec/sources/names/1", json!("B"), "spec.sources.names[1]"),
        case(schedule(), "/spec/sources/watchOn/onChangeOnly", json!("no"), "spec.sources.watchOn.onChangeOnly"),
        case(schedule(), "/spec/sources/watchOn/files", json!("*.md"), "spec.sources.watchOn.files"),
        case(schedule(), "/spec/sources/watchOn/files", json!([""]), "spec.sources.watchOn.files[0]"),
        case(schedule(), "/spec/sources/watchOn/file", json!("a.md"), "spec.sources.watchOn.file"),
        reference(json!({}), "spec.sources.watchOn.reference"),
        reference(json!({ "branch": "main", "tag": "v1" }), "spec.sources.watchOn.reference"),
        reference(json!({ "commit": "92abcd3" }), "spec.sources.watchOn.reference.commit"),
        case(schedule(), "/spec/action", json!(null), "spec.action"),
        case(schedule(), "/spec/action/kind", json!(null), "spec.action.kind"),
        case(schedule(), "/spec/action/kind", json!("Job"), "spec.action.kind"),
        case(schedule(), "/spec/action/name", json!(""), "spec.action.name"),
        case(schedule(), "/spec/suspend", json!("false"), "spec.suspend"),
        case(schedule(), "/spec/concurrencyPolicy", json!("Queue"), "spec.concurrencyPolicy"),
        case(schedule(), "/spec/onFirstCheck", json!("Skip"), "spec.onFirstCheck"),
        case(schedule(), "/spec/webhook", json!({}), "spec.webhook"),
    ];
    let names = ["", "-a", "/a", "a/", "a//b", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[b", "a\\b", "a.lock", "a@{b", "@"];
    cases.extend(names.map(|name| reference(json!({ "branch": name }), "spec.sources.watchOn.reference.branch")));
    cases.push(reference(json!({ "tag": "refs heads" }), "spec.sources.watchOn.reference.tag"));
    cases
}

fn schedules() -> Vec<Case> {
    let when = |schedule_: Value, field| case(schedule(), "/spec/schedule", schedule_, field);
    let mut cases = vec![
        when(json!(null), "spec.schedule"),
        when(json!({}), "spec.schedule"),
        when(json!({ "interval": "5m", "cron": "* * * * *" }), "spec.schedule"),
        when(json!({ "interval": "5m", "timeZone": "Europe/Kyiv" }), "spec.schedule.timeZone"),
        when(json!({ "cron": "TZ=Europe/Kyiv * * * * *", "timeZone": "Europe/Kyiv" }), "spec.schedule.timeZone"),
        when(json!({ "cron": "* * * * *", "timeZone": "Europe Kyiv" }), "spec.schedule.timeZone"),
        when(json!({ "interval": "5m", "jitter": "1m" }), "spec.schedule.jitter"),
        when(json!({ "cron": "* * * * *", "jitter": "-1m" }), "spec.schedule.jitter"),
        when(json!({ "cron": "* * * * *", "startingDeadlineSeconds": -1 }), "spec.schedule.startingDeadlineSeconds"),
    ];
    let intervals = ["", "5", "m", "5 minutes ago", "0s", "999ms", "1ms 1us", "-5m", "5m;", "5q", "0h 0m"];
    cases.extend(intervals.map(|interval| when(json!({ "interval": interval }), "spec.schedule.interval")));
    let patterns = ["", "* * * *", "* * * * * * * *", "every day", "@", "* * * * $(id)", "TZ= * * * * *"];
    cases.extend(patterns.map(|cron| when(json!({ "cron": cron }), "spec.schedule.cron")));
    cases
}

fn webhooks() -> Vec<Case> {
    let forge = |pointer, value, field| {
        let mut github = webhook();
        github["spec"]["webhook"]["authConfig"]["type"] = "github".into();
        case(github, pointer, value, field)
    };
    vec![
        case(webhook(), "/spec/webhook", json!(null), "spec.webhook"),
        case(webhook(), "/spec/webhook/multiSource", json!("true"), "spec.webhook.multiSource"),
        case(webhook(), "/spec/webhook/authConfig/type", json!("svn"), "spec.webhook.authConfig.type"),
        case(webhook(), "/spec/webhook/authConfig/key", json!(null), "spec.webhook.authConfig.key"),
        case(webhook(), "/spec/webhook/authConfig/key", json!("a b"), "spec.webhook.authConfig.key"),
        case(webhook(), "/spec/webhook/authConfig/secretRef", json!(null), "spec.webhook.authConfig.secretRef"),
        case(webhook(), "/spec/webhook/authConfig/secretRef/namespace", json!("other"), "spec.webhook.authConfig.secretRef.namespace"),
        case(webhook(), "/spec/webhook/authConfig/header", json!("x token:"), "spec.webhook.authConfig.header"),
        case(webhook(), "/spec/webhook/recheckInterval", json!("never"), "spec.webhook.recheckInterval"),
        case(webhook(), "/spec/webhook/events", json!(["push"]), "spec.webhook.events"),
        case(webhook(), "/spec/schedule", json!({ "interval": "1m" }), "spec.schedule"),
        forge("/spec/webhook/authConfig/header", json!("x-hub"), "spec.webhook.authConfig.header"),
        forge("/spec/webhook/events", json!([]), "spec.webhook.events"),
        forge("/spec/webhook/events", json!(["push", "push"]), "spec.webhook.events[1]"),
    ]
}

fn actions() -> Vec<Case> {
    let mut cases = vec![
        case(action("ClusterAction"), "/spec/sourceOverride/kind", json!("GitRepo"), "spec.sourceOverride.kind"),
        case(action("Action"), "/spec/allowedNamespaces", json!({}), "spec.allowedNamespaces"),
    ];
    for kind in ["Action", "ClusterAction"] {
        let job = |name: &str, value, field| case(action(kind), &format!("/spec/actionJob/{name}"), value, field);
        cases.extend([
            case(action(kind), "/spec", json!(null), "spec"),
            case(action(kind), "/spec/sourceOverride/name", json!(null), "spec.sourceOverride.name"),
            case(action(kind), "/spec/sourceOverride/kind", json!(null), "spec.sourceOverride.kind"),
            case(action(kind), "/spec/sourceOverride/reference", json!(null), "spec.sourceOverride.reference"),
            case(action(kind), "/spec/sourceOverride/reference", json!({}), "spec.sourceOverride.reference"),
            job("actionImage", json!("-it"), "spec.actionJob.actionImage"),
            job("clonerImage", json!("a b"), "spec.actionJob.clonerImage"),
            job("command", json!("run.sh"), "spec.actionJob.command"),
            job("args", json!([1]), "spec.actionJob.args[0]"),
            job("serviceAccount", json!("A"), "spec.actionJob.serviceAccount"),
            job("workdir", json!("work"), "spec.actionJob.workdir"),
            job("labels", json!({ "a": 1 }), "spec.actionJob.labels.a"),
            job("ttlSecondsAfterFinished", json!(-1), "spec.actionJob.ttlSecondsAfterFinished"),
            job("ttlSecondsAfterFinished", json!(1u64 << 40), "spec.actionJob.ttlSecondsAfterFinished"),
            job("active_deadline_seconds", json!(1), "spec.actionJob.active_deadline_seconds"),
            job("activeDeadlineSeconds", json!(0), "spec.actionJob.activeDeadlineSeconds"),
            job("jobWaitingTimeoutSeconds", json!("5m"), "spec.actionJob.jobWaitingTimeoutSeconds"),
            job("enableClonerDebug", json!(null), ""),
            job("env", json!([{ "value": "a" }]), "spec.actionJob.env[0].name"),
            job("envFrom", json!([{ "secretRef": { "names": "a" } }]), "spec.actionJob.envFrom[0].secretRef.names"),
            job("resources", json!({ "limit": {} }), "spec.actionJob.resources.limit"),
            job("tolerations", json!({}), "spec.actionJob.tolerations"),
            job("affinity", json!({ "nodeAffinities": {} }), "spec.actionJob.affinity.nodeAffinities"),
            job("backoffLimit", json!(-1), "spec.actionJob.backoffLimit"),
            job("podFailurePolicy", json!({}), "spec.actionJob.podFailurePolicy.rules"),
            job("clone", json!({ "depth": -1 }), "spec.actionJob.clone.depth"),
        ]);
    }
    cases.retain(|case| !case.field.is_empty());
    cases
}

fn anything() -> Vec<Case> {
    vec![
        case(plain("https://git.example.com/a"), "/metadata/name", json!("Upper"), "metadata.name"),
        case(plain("https://git.example.com/a"), "/metadata/labels", json!({ "a b": "c" }), "metadata.labels"),
        case(plain("https://git.example.com/a"), "/metadata/labels", json!({ "a": "-" }), "metadata.labels"),
        case(plain("https://git.example.com/a"), "/metadata/annotations", json!({ "a b": "c" }), "metadata.annotations"),
        case(plain("https://git.example.com/a"), "/metadata/label", json!({}), "metadata.label"),
        case(plain("https://git.example.com/a"), "/spec", json!("https://git.example.com/a"), "spec"),
        case(plain("https://git.example.com/a"), "/specs", json!({}), "specs"),
    ]
}

/// What must be accepted although it is near to what is not.
pub fn sound() -> Vec<Case> {
    let uris = [
        "http://h",
        "https://git.example.com:8443/a/b.git",
        "ssh://git@h:2222/a",
        "ssh://h/a",
        "git://h/a",
        "a_b@h:~/a",
        "https://[::1]:3000/a",
    ];
    let mut cases: Vec<_> = uris.map(|uri| case(plain("https://h"), "/spec/repoUri", json!(uri), "")).into();
    let intervals = ["1s", "10s", "5m", "5h30m25s", "1h 30m", "1day", "2 weeks", "1000ms", "1s 500ms", "90 min", " 1h"];
    cases.extend(intervals.map(|interval| case(schedule(), "/spec/schedule", json!({ "interval": interval }), "")));
    let patterns = [
        "* * * * *",
        "0 30 9-17 * * MON-FRI",
        "0 0 12 1 JAN ? 2030-2099",
        "0 12 L * *",
        "0 12 15W * *",
        "0 12 * * MON#2",
        "10/5 * * * *",
        "@hourly",
        "@yearly",
        "TZ=America/Argentina/Buenos_Aires 0 9 * * *",
    ];
    cases.extend(patterns.map(|cron| case(schedule(), "/spec/schedule", json!({ "cron": cron }), "")));
    let branches = ["main", "feature/a-b_c.d", "release-1.0", "ветка", "a@b", "it's", "$(id)"];
    cases.extend(branches.map(|branch| case(schedule(), "/spec/sources/watchOn/reference", json!({ "branch": branch }), "")));
    cases.extend([
        case(schedule(), "/spec/sources/watchOn", json!({}), ""),
        case(schedule(), "/spec/sources/watchOn", json!(null), ""),
        case(schedule(), "/spec/sources/watchOn/reference", json!({ "commit": "92ABCD3FC4082ed5e53f12b383e14580b83dcff3" }), ""),
        case(webhook(), "/spec/webhook", json!({}), ""),
        case(webhook(), "/spec/webhook/recheckInterval", json!("1h"), ""),
        case(action("Action"), "/spec/sourceOverride/kind", json!("GitRepo"), ""),
        case(repo("ClusterGitRepo"), "/spec/authConfig/secretRef/namespace", json!("other"), ""),
        case(repo("ClusterGitRepo"), "/spec/allowedNamespaces", json!({}), ""),
        case(action("ClusterAction"), "/spec/actionJob/resources", json!({ "limits": { "cpu": 1, "memory": "1Gi" } }), ""),
    ]);
    cases
}
