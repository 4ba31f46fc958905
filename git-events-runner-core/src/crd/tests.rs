use std::time;

use serde_json::{Value, json};

use super::*;
use crate::{ConcurrencyPolicy, ObjectRef, OnFirstCheck, Reference, TriggerState, Watch};

fn schedule_trigger(spec: Value) -> ScheduleTrigger {
    let metadata = json!({ "name": "t", "namespace": "team", "uid": "u", "generation": 3 });
    let trigger = json!({ "apiVersion": "git-events-runner.rs/v1alpha1", "kind": "ScheduleTrigger", "metadata": metadata, "spec": spec });
    serde_json::from_value(trigger).unwrap()
}

#[test]
fn a_trigger_is_a_plan_with_the_documented_defaults() {
    let trigger = schedule_trigger(json!({
        "sources": { "names": ["a", "b"] }, "schedule": { "interval": "5m" }, "action": { "kind": "Action", "name": "act" },
    }));
    let plan = trigger.plan().unwrap();
    assert_eq!(plan.generation, 3);
    assert_eq!(plan.sources, ["a", "b"].map(|name| ObjectRef::namespaced("GitRepo", "team", name)));
    assert_eq!(plan.watch, Watch::new(Reference::Branch("main".into())));
    assert_eq!((plan.on_change_only, plan.on_first_check, plan.suspend), (true, OnFirstCheck::Run, false));
    assert_eq!(plan.concurrency, ConcurrencyPolicy::Allow);
    assert_eq!(plan.action, ObjectRef::namespaced("Action", "team", "act"));
    assert_eq!(trigger.id().to_string(), "ScheduleTrigger team/t");
}

#[test]
fn a_trigger_is_a_plan_with_all_that_is_given() {
    let commit = "92abcd3fc4082ed5e53f12b383e14580b83dcff3";
    let plan = schedule_trigger(json!({
        "sources": {
            "kind": "ClusterGitRepo", "names": ["a"],
            "watchOn": { "onChangeOnly": false, "reference": { "commit": commit }, "files": ["*.md"] },
        },
        "schedule": { "cron": "@hourly" }, "action": { "kind": "ClusterAction", "name": "act" },
        "suspend": true, "concurrencyPolicy": "Replace", "onFirstCheck": "Record",
    }))
    .plan()
    .unwrap();
    assert_eq!(plan.sources, [ObjectRef::cluster("ClusterGitRepo", "a")]);
    assert_eq!(plan.watch, Watch { reference: Reference::Commit(commit.parse().unwrap()), files: vec!["*.md".into()] });
    assert_eq!((plan.on_change_only, plan.on_first_check, plan.suspend), (false, OnFirstCheck::Record, true));
    assert_eq!(plan.concurrency, ConcurrencyPolicy::Replace);
    assert_eq!(plan.action, ObjectRef::cluster("ClusterAction", "act"));
}

#[test]
fn a_reference_is_one_branch_tag_or_commit() {
    let reference = |value: Value| serde_json::from_value::<GitReference>(value).unwrap().reference();
    assert_eq!(reference(json!({ "tag": "v1" })), Ok(Reference::Tag("v1".into())));
    assert_eq!(reference(json!({})), Err(InvalidReference::NotOne));
    assert_eq!(reference(json!({ "branch": "main", "tag": "v1" })), Err(InvalidReference::NotOne));
    assert!(matches!(reference(json!({ "commit": "92abcd3" })), Err(InvalidReference::Commit(_))));
}

#[test]
fn durations_are_humantimes_from_one_second_up() {
    let get = |text: &str| Duration(text.to_owned()).get();
    assert_eq!(get("1h 30m"), Ok(time::Duration::from_secs(5400)));
    assert_eq!(get("1day"), Ok(time::Duration::from_secs(86400)));
    assert_eq!(get("999ms").unwrap_err().to_string(), "`999ms` is not a duration of at least 1s, such as `30s`, `5m` or `1h 30m`");
    assert!(get("soon").is_err() && get("").is_err() && get("99999999999999999999y").is_err());
}

#[test]
fn an_empty_action_is_an_action_with_the_documented_defaults() {
    let spec: ActionSpec = serde_json::from_value(json!({})).unwrap();
    assert_eq!(spec, ActionSpec::default());
    let clone: CloneOptions = serde_json::from_value(json!({})).unwrap();
    assert_eq!((clone.depth, clone.submodules), (1, false));
}

#[test]
fn an_empty_runtime_config_has_the_documented_defaults_and_an_unknown_field_is_an_error() {
    let config: RuntimeConfig = serde_json::from_value(json!({})).unwrap();
    let ActionConfig { ttl_seconds_after_finished, active_deadline_seconds, max_running_jobs, job_waiting_timeout_seconds, .. } =
        config.action;
    assert_eq!((ttl_seconds_after_finished, active_deadline_seconds), (7200, 3600));
    assert_eq!((max_running_jobs, job_waiting_timeout_seconds), (16, 300));
    assert_eq!(config.action.workdir.mount_path, "/action_workdir");
    assert_eq!(config.action.containers.worker.variables_prefix, "ACTION_JOB_");
    assert_eq!(config.trigger.webhook.default_auth_header, "x-trigger-auth");
    let error = serde_json::from_value::<RuntimeConfig>(json!({ "action": { "maxJobs": 1 } })).unwrap_err();
    assert!(error.to_string().contains("unknown field `maxJobs`"), "{error}");
}

#[test]
fn what_a_runtime_config_cannot_mean_is_told_by_its_field() {
    assert_eq!(RuntimeConfig::default().check(), Ok(()));
    let cases = [
        ("trigger.webhook.defaultAuthHeader", json!("x trigger auth")),
        ("action.ttlSecondsAfterFinished", json!(-1)),
        ("action.activeDeadlineSeconds", json!(0)),
        ("action.maxRunningJobs", json!(0)),
        ("action.jobWaitingTimeoutSeconds", json!(0)),
        ("action.defaultServiceAccount", json!("Runner")),
        ("action.workdir.mountPath", json!("workdir")),
        ("action.workdir.mountPath", json!("/")),
        ("action.workdir.mountPath", json!("/work/../etc")),
        ("action.workdir.volumeName", json!("work.dir")),
        ("action.containers.cloner.name", json!("Cloner")),
        ("action.containers.cloner.image", json!("")),
        ("action.containers.worker.name", json!("action-cloner")),
        ("action.containers.worker.image", json!(" ")),
        ("action.containers.worker.variablesPrefix", json!("1_")),
    ];
    for (path, value) in cases {
        let value = path.rsplit('.').fold(value, |value, field| json!({ field: value }));
        let config: RuntimeConfig = serde_json::from_value(value).unwrap();
        assert_eq!(config.check().map_err(|error| error.path), Err(path));
    }
}

#[test]
fn a_status_of_the_earlier_operator_is_what_was_seen_here() {
    let status: TriggerStatus = serde_json::from_value(json!({
        "state": "Idle", "lastRun": "Never",
        "checkedSources": { "a": { "commitHash": "92abcd3fc4082ed5e53f12b383e14580b83dcff3", "fileHash": "2cf24d", "changed": "2024-05-20T01:02:01Z" } },
    }))
    .unwrap();
    let watched = Reference::Branch("main".into());
    let state = status.state(&watched).unwrap();
    assert_eq!(state.last_run, None);
    let source = &state.sources["a"];
    assert_eq!((&source.reference, source.sequence, &source.files), (&watched, 0, &None));
    assert!(source.commit.is_some());
}

#[test]
fn changed_is_the_time_of_the_last_change_of_the_commit() {
    let source =
        |commit: &str| json!({ "sources": { "a": { "reference": { "branch": "main" }, "commit": commit.repeat(40), "sequence": 1 } } });
    let state = |commit| serde_json::from_value::<TriggerState>(source(commit)).unwrap();
    let (mut status, changed) = (TriggerStatus::default(), |status: &TriggerStatus| status.checked_sources["a"].changed.clone().unwrap());
    status.set_state(&state("1"), "2026-01-01T00:00:00Z".parse().unwrap());
    status.set_state(&state("1"), "2026-01-02T00:00:00Z".parse().unwrap());
    assert_eq!(changed(&status), "2026-01-01T00:00:00Z");
    status.set_state(&state("2"), "2026-01-03T00:00:00Z".parse().unwrap());
    assert_eq!(changed(&status), "2026-01-03T00:00:00Z");
    status.set_state(&TriggerState::default(), "2026-01-04T00:00:00Z".parse().unwrap());
    assert!(status.checked_sources.is_empty());
}

#[test]
fn a_status_that_somebody_has_written_by_hand_is_an_error_that_names_the_field() {
    let status: TriggerStatus = serde_json::from_value(json!({ "checkedSources": { "a": { "commitHash": "main" } } })).unwrap();
    let error = status.state(&Reference::Branch("main".into())).unwrap_err();
    assert_eq!(error.to_string(), "status.checkedSources.a.commitHash: a commit is 40 hexadecimal digits, not `main`");
}

/// All schemas of fields, with their paths.
fn fields(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        fields(field, &path, found);
        found.push((path, field.clone()));
    }
    for part in ["items", "additionalProperties"] {
        if let Some(part) = schema.get(part).filter(|part| part.is_object()) {
            fields(part, path, found);
        }
    }
}

#[test]
fn every_field_is_documented_and_no_definition_is_large() {
    for crd in all() {
        let crd = serde_json::to_value(crd).unwrap();
        // An annotation of `kubectl apply` holds it twice over, and may have 256 KiB.
        assert!(crd.to_string().len() < 100_000, "{} has {} bytes", crd["metadata"]["name"], crd.to_string().len());
        let mut found = vec![];
        fields(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "", &mut found);
        let undocumented: Vec<_> = found.iter().filter(|(_, field)| field["description"].as_str().is_none_or(str::is_empty)).collect();
        assert!(undocumented.is_empty(), "{}: {undocumented:?}", crd["metadata"]["name"]);
    }
}

#[test]
fn what_depends_on_something_else_has_no_default_in_the_definition() {
    let defaults = |name: &str| {
        let crd = serde_json::to_value(all().into_iter().find(|crd| crd.spec.names.kind == name).unwrap()).unwrap();
        let mut found = vec![];
        fields(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], "spec", &mut found);
        let mut defaults: Vec<_> = found.into_iter().filter_map(|(path, field)| Some((path, field.get("default")?.to_string()))).collect();
        defaults.sort();
        defaults.into_iter().map(|(path, default)| format!("{path} {default}")).collect::<Vec<_>>()
    };
    assert_eq!(
        defaults("WebhookTrigger"),
        [
            r#"spec.concurrencyPolicy "Allow""#,
            r#"spec.onFirstCheck "Run""#,
            r#"spec.sources.kind "GitRepo""#,
            r#"spec.sources.watchOn {}"#,
            r#"spec.sources.watchOn.onChangeOnly true"#,
            r#"spec.sources.watchOn.reference {"branch":"main"}"#,
            r#"spec.suspend false"#,
            r#"spec.webhook.allowUnauthenticated false"#,
            r#"spec.webhook.authConfig.type "header""#,
            r#"spec.webhook.multiSource false"#,
        ]
    );
    assert_eq!(
        defaults("Action"),
        [
            r#"spec.actionJob {}"#,
            r#"spec.actionJob.backoffLimit 0"#,
            r#"spec.actionJob.clone.depth 1"#,
            r#"spec.actionJob.clone.submodules false"#,
            r#"spec.actionJob.enableClonerDebug false"#,
            r#"spec.actionJob.preserveGitFolder false"#,
        ]
    );
}
