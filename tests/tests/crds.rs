//! The definitions at a real API server, and the same manifests at the offline validator.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::{fs, path::Path, sync::LazyLock};

use git_events_runner_core::{
    MAX_PENDING, MAX_WAITING, ObjectRef, Reference, TriggerState, crd,
    validate::{Mode, Reader},
};
use git_events_runner_tests::cluster::ApiServer;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::OnceCell};

#[path = "crds/cases.rs"]
mod cases;

/// One for all tests: connections of the client belong to it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// One for all tests, with all kinds established.
static SERVER: OnceCell<ApiServer> = OnceCell::const_new();

async fn server() -> &'static ApiServer {
    let start = async {
        let server = ApiServer::start().await.unwrap();
        server.install_crds().await.unwrap();
        for namespace in ["team-a", "git-events-runner"] {
            let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
            server.send(Method::POST, "/api/v1/namespaces", "application/json", namespace.to_string()).await.unwrap();
        }
        server
    };
    SERVER.get_or_init(|| start).await
}

fn collection(id: &ObjectRef) -> String {
    let plural = format!("{}s", id.kind.to_lowercase());
    let api = if ["Secret", "ConfigMap"].contains(&id.kind.as_str()) { "/api/v1" } else { "/apis/git-events-runner.rs/v1alpha1" };
    id.namespace.as_ref().map_or(format!("{api}/{plural}"), |namespace| format!("{api}/namespaces/{namespace}/{plural}"))
}

/// Creates an object as `kubectl create --dry-run=server --validate=strict` would. Ok: accepted; otherwise the reason.
async fn dry_run(id: &ObjectRef, manifest: &str) -> Result<(), String> {
    let path = format!("{}?dryRun=All&fieldValidation=Strict", collection(id));
    let (status, answer) = server().await.send(Method::POST, &path, "application/yaml", manifest.to_owned()).await.unwrap();
    if status == StatusCode::CREATED { Ok(()) } else { Err(answer["message"].as_str().unwrap_or("?").to_owned()) }
}

fn id(object: &Value) -> ObjectRef {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (kind, metadata) = (text(&object["kind"]).unwrap(), &object["metadata"]);
    ObjectRef { kind, namespace: text(&metadata["namespace"]), name: text(&metadata["name"]).unwrap() }
}

/// The YAML files of the examples, and those beside the tests.
fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [root.join("data"), root.join("../examples/manifests")];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|file| file.extension().is_some_and(|extension| extension == "yaml")).collect();
    files.sort();
    files.iter().map(|file| (file.display().to_string(), fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn the_api_server_and_the_validator_accept_the_examples() {
    RUNTIME.block_on(async {
        let (reader, mut accepted, mut wrong) = (Reader::new(Mode::Cluster), 0, vec![]);
        for (file, text) in files() {
            let reading = reader.read(&file, &text);
            wrong.extend(reading.mistakes.iter().map(ToString::to_string));
            let documents: Vec<_> = text.split("\n---\n").collect();
            assert_eq!(documents.len(), reading.documents.len(), "{file}");
            for (document, manifest) in reading.documents.iter().zip(documents) {
                match dry_run(&document.id, manifest).await {
                    Ok(()) => accepted += 1,
                    Err(message) => wrong.push(format!("{file}: {}: refused by the API server: {message}", document.id)),
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        println!("{accepted} manifests of examples are accepted");
    });
}

#[test]
fn the_api_server_and_the_validator_accept_what_is_near_to_wrong() {
    RUNTIME.block_on(async {
        let (reader, mut wrong, cases) = (Reader::new(Mode::Cluster), vec![], cases::sound());
        for case in &cases {
            let (manifest, what) = (case.object.to_string(), &case.what);
            wrong.extend(reader.read("case", &manifest).mistakes.iter().map(|mistake| format!("{what}: refused offline: {mistake}")));
            if let Err(message) = dry_run(&id(&case.object), &manifest).await {
                wrong.push(format!("{what}: refused by the API server: {message}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        println!("{} sound manifests are accepted", cases.len());
    });
}

#[test]
fn the_api_server_and_the_validator_refuse_the_same_and_name_the_field() {
    RUNTIME.block_on(async {
        let (reader, mut wrong, cases) = (Reader::new(Mode::Cluster), vec![], cases::broken());
        for case in &cases {
            let (manifest, what, field) = (case.object.to_string(), &case.what, case.field);
            let mistakes = reader.read("case", &manifest).mistakes;
            if !mistakes.iter().any(|mistake| mistake.field == field) {
                wrong.push(format!("{what}: offline does not name {field}: {mistakes:?}"));
            }
            match dry_run(&id(&case.object), &manifest).await {
                Err(message) if message.contains(field) => {}
                Err(message) => wrong.push(format!("{what}: the API server does not name {field}: {message}")),
                Ok(()) => wrong.push(format!("{what}: accepted by the API server")),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        println!("{} broken manifests are refused", cases.len());
    });
}

#[test]
fn a_status_keeps_all_that_the_engine_remembers() {
    let state: TriggerState = serde_json::from_value(json!({
        "sources": {
            "all": {
                "reference": { "tag": "v1" }, "commit": "92abcd3fc4082ed5e53f12b383e14580b83dcff3",
                "files": { "patterns": "p", "files": "f" }, "previous": "1111111111111111111111111111111111111111", "sequence": 7,
                "lastFiring": "2026-01-01T00:00:00Z",
                "lastRun": { "name": "it-1", "uid": "u1", "result": "Failed", "finished": "2026-01-01T00:01:00Z" },
            },
            "none": { "reference": { "commit": "92abcd3fc4082ed5e53f12b383e14580b83dcff3" }, "files": { "patterns": "p", "files": null }, "sequence": 0 },
        },
        "pending": {
            "one": { "sources": ["all", "none"], "receivedAt": "2026-01-01T00:00:00.5Z", "always": true },
            "two": { "sources": ["all"], "receivedAt": "2026-01-01T00:00:01Z", "commit": "92abcd3fc4082ed5e53f12b383e14580b83dcff3", "always": false },
        },
        "waiting": {
            "it-2": {
                "uid": "u2", "source": "all", "sequence": 6, "instant": "2026-01-01T00:00:00Z", "since": "2026-01-01T00:00:01Z",
                "previous": "1111111111111111111111111111111111111111", "firing": "2026-01-01T00:00:00Z", "requests": ["one"],
            },
        },
        "lastRun": "2026-01-01T00:00:00Z",
        "lastHandledRequest": "by hand, at last",
    }))
    .unwrap();
    RUNTIME.block_on(async {
        let server = server().await;
        let triggers = "/apis/git-events-runner.rs/v1alpha1/namespaces/default/scheduletriggers";
        let trigger = json!({
            "apiVersion": "git-events-runner.rs/v1alpha1", "kind": "ScheduleTrigger", "metadata": { "name": "kept" },
            "spec": { "sources": { "names": ["all", "none"] }, "schedule": { "interval": "1m" }, "action": { "kind": "Action", "name": "a" } },
        });
        let (status, _) = server.send(Method::POST, triggers, "application/json", trigger.to_string()).await.unwrap();
        assert_eq!(status, StatusCode::CREATED);

        let mut written = crd::TriggerStatus::default();
        written.set_state(&state, "2026-01-01T00:02:00Z".parse().unwrap());
        let path = format!("{triggers}/kept/status?fieldValidation=Strict");
        let patch = json!({ "status": written }).to_string();
        let (status, answer) = server.send(Method::PATCH, &path, "application/merge-patch+json", patch).await.unwrap();
        assert_eq!(status, StatusCode::OK, "{answer}");
        let read: crd::ScheduleTrigger = serde_json::from_value(answer).unwrap();
        assert_eq!(read.status.as_ref(), Some(&written));
        assert_eq!(read.status.unwrap().state(&Reference::Branch("main".into())), Ok(state));

        let request = json!({ "sources": ["all"], "receivedAt": "2026-01-01T00:00:00Z", "always": true });
        let many: serde_json::Map<_, _> = (0..MAX_PENDING + MAX_WAITING).map(|n| (format!("r{n}"), request.clone())).collect();
        let patch = json!({ "status": { "pending": many } }).to_string();
        let (status, answer) = server.send(Method::PATCH, &path, "application/merge-patch+json", patch).await.unwrap();
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
        assert!(answer["message"].as_str().unwrap().contains("status.pending"), "{answer}");
    });
}

#[test]
fn kubectl_explains_every_field_and_prints_the_columns() {
    RUNTIME.block_on(async {
        let server = server().await;
        server.wait_until_described().await.unwrap();
        let kubectl = |args: &[&str]| {
            let output = server.kubectl().args(args).output().unwrap();
            assert!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        for (field, text) in [
            ("gitrepo.spec.authConfig.keys.knownHosts", "Default: known_hosts"),
            ("st.spec.sources.watchOn.reference.tag", "annotated tag"),
            ("wt.spec.webhook.recheckInterval", "Default: never"),
            ("wt.status.pending.receivedAt", "When the request came"),
            ("cact.spec.actionJob.clone.depth", "Default: 1"),
        ] {
            let explained = kubectl(&["explain", field]);
            let words: Vec<_> = explained.split_whitespace().collect();
            assert!(words.join(" ").contains(text), "{field}: {explained}");
        }
        let trigger = r#"{"apiVersion": "git-events-runner.rs/v1alpha1", "kind": "ScheduleTrigger", "metadata": {"name": "listed"},
            "spec": {"sources": {"names": ["a"]}, "schedule": {"cron": "@hourly"}, "action": {"kind": "Action", "name": "a"}}}"#;
        let path = "/apis/git-events-runner.rs/v1alpha1/namespaces/default/scheduletriggers";
        server.send(Method::POST, path, "application/json", trigger.to_owned()).await.unwrap();
        let listed = kubectl(&["get", "st", "listed", "-o", "wide"]);
        let headers: Vec<_> = listed.lines().next().unwrap().split("  ").map(str::trim).filter(|header| !header.is_empty()).collect();
        assert_eq!(headers, ["NAME", "STATE", "READY", "SCHEDULE", "LAST RUN", "LAST RESULT", "AGE", "REASON", "MESSAGE"], "{listed}");
        assert!(listed.contains("@hourly"), "{listed}");
    });
}
