//! What a run is as a Job.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Container;

use super::{build::Blueprint, *};
use crate::{CommitId, Reference, Revision, RunKey, cloner::files};

fn run() -> RunRequest {
    let trigger = TriggerId { kind: "WebhookTrigger".into(), namespace: "team".into(), name: "deploy".into(), uid: "0a1b".into() };
    RunRequest {
        previous: Some(CommitId::from_bytes([2; 20])),
        requests: ["first"].map(|id| id.parse().unwrap()).into(),
        owed_to: Some("first".parse().unwrap()),
        ..RunRequest::new(
            RunKey {
                trigger,
                source: ObjectRef::cluster("ClusterGitRepo", "app"),
                reference: Reference::Branch("main".into()),
                sequence: 3,
            },
            ObjectRef::namespaced("Action", "team", "deploy"),
            CommitId::from_bytes([1; 20]),
            jiff::Timestamp::UNIX_EPOCH,
        )
    }
}

fn origin(credentials: JobCredentials) -> JobOrigin {
    let uri = "https://git.example.com/app.git".to_owned();
    let (no_verify_ssl, insecure_ignore_host_key, ca_certificates) = (false, false, false);
    let clone = JobClone {
        uri: uri.clone(),
        no_verify_ssl,
        insecure_ignore_host_key,
        known_hosts: None,
        auth: None,
        ca_certificates,
        proxy: None,
        credentials,
    };
    JobOrigin { source_uri: uri, overridden: None, clone }
}

fn action(spec: Value) -> crd::ActionJob {
    serde_json::from_value(spec).unwrap()
}

fn build(run: &RunRequest, action: &crd::ActionJob, origin: &JobOrigin) -> Job {
    Blueprint { run, action, config: &crd::ActionConfig::default(), origin }.job()
}

fn pod(job: &Job) -> &k8s_openapi::api::core::v1::PodSpec {
    job.spec.as_ref().unwrap().template.spec.as_ref().unwrap()
}

fn cloner(job: &Job) -> &Container {
    &pod(job).init_containers.as_ref().unwrap()[0]
}

fn arguments(job: &Job) -> Vec<&str> {
    cloner(job).args.as_ref().unwrap().iter().map(String::as_str).collect()
}

fn variables(job: &Job) -> Vec<(&str, &str)> {
    let variables = pod(job).containers[0].env.as_ref().unwrap();
    variables.iter().map(|variable| (variable.name.as_str(), variable.value.as_deref().unwrap_or_default())).collect()
}

/// Everything at once, to be read as it would be seen in a cluster.
#[test]
fn a_job_is_as_documented() {
    let files = [("ssh-key", files::PRIVATE_KEY)].map(|(key, file)| (key.to_owned(), file.to_owned())).into();
    let optional = [("known_hosts", files::KNOWN_HOSTS)].map(|(key, file)| (key.to_owned(), file.to_owned())).into();
    let secrets = [(files, false), (optional, true)].map(|(files, optional)| MountedSecret { name: "git".into(), files, optional });
    let mut origin = origin(JobCredentials::Mounted(secrets.into()));
    origin.clone.auth = Some(crd::AuthType::Ssh);
    origin.clone.uri = "git@git.example.com:app.git".to_owned();
    let spec: Value = serde_saphyr::from_str(include_str!("tests/action.yaml")).unwrap();
    let mut job = serde_json::to_value(build(&run(), &action(spec), &origin)).unwrap();
    let registered = job["metadata"]["annotations"][RUN].take();
    assert_eq!(serde_json::from_str::<RunRequest>(registered.as_str().unwrap()).unwrap(), run());
    let expected: Value = serde_saphyr::from_str(include_str!("tests/job.yaml")).unwrap();
    assert_eq!(job, expected, "\n{}", serde_saphyr::to_string(&job).unwrap());
}

#[test]
fn a_job_takes_from_the_runtime_config_what_the_action_leaves_open() {
    let config: crd::ActionConfig = serde_json::from_value(json!({
        "ttlSecondsAfterFinished": 1, "activeDeadlineSeconds": 2, "defaultServiceAccount": "runner",
        "workdir": { "mountPath": "/work", "volumeName": "files" },
        "containers": { "cloner": { "name": "c", "image": "cloner:1" }, "worker": { "name": "w", "image": "worker:1", "variablesPrefix": "" } },
    }))
    .unwrap();
    let job = Blueprint { run: &run(), action: &action(json!({})), config: &config, origin: &origin(JobCredentials::None) }.job();
    let spec = job.spec.as_ref().unwrap();
    assert_eq!((spec.ttl_seconds_after_finished, spec.active_deadline_seconds, spec.backoff_limit), (Some(1), Some(2), Some(0)));
    let (cloner, worker) = (cloner(&job), &pod(&job).containers[0]);
    assert_eq!(pod(&job).service_account_name.as_deref(), Some("runner"));
    assert_eq!((cloner.name.as_str(), cloner.image.as_deref()), ("c", Some("cloner:1")));
    assert_eq!((worker.name.as_str(), worker.image.as_deref()), ("w", Some("worker:1")));
    assert_eq!((&worker.command, &worker.args, worker.working_dir.as_deref()), (&None, &None, Some("/work")));
    assert_eq!(worker.volume_mounts.as_ref().unwrap()[0].name, "files");
    let names: Vec<_> = variables(&job).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.iter().filter(|name| **name == "WORKDIR").count(), 1, "without a prefix each variable is there once: {names:?}");
}

#[test]
fn what_is_ours_cannot_be_said_by_an_action() {
    let action = action(json!({
        "labels": { MANAGED_BY: "me", SLOT: SLOT_TAKEN, TRIGGER_NAME: "other", KUEUE_QUEUE: "q", "team": "a" },
        "annotations": { RUN: "{}", "note": "n" },
        "env": [{ "name": "TRIGGER_NAME", "value": "other" }, { "name": "ACTION_JOB_WORKDIR", "value": "/" }, { "name": "OWN", "value": "$(WORKDIR)" }],
    }));
    let job = build(&run(), &action, &origin(JobCredentials::None));
    let template = job.spec.as_ref().unwrap().template.metadata.as_ref().unwrap();
    for labels in [job.labels(), template.labels.as_ref().unwrap()] {
        let of = |label: &str| labels.get(label).map(String::as_str);
        assert_eq!((of(MANAGED_BY), of(TRIGGER_NAME), of("team")), (Some(FIELD_MANAGER), Some("deploy"), Some("a")));
        assert_eq!(of(KUEUE_QUEUE), None, "it comes when the Job is released");
    }
    let slots = [job.labels(), template.labels.as_ref().unwrap()].map(|labels| labels.get(SLOT).map(String::as_str));
    assert_eq!(slots, [Some(SLOT_AWAITED), None], "it has none before it is released");
    assert_eq!(template.annotations, Some(BTreeMap::from([("note".to_owned(), "n".to_owned())])));
    assert_eq!(run_status(&job).unwrap().request, run());
    let of = |wanted: &str| variables(&job).into_iter().filter(|(name, _)| *name == wanted).map(|(_, value)| value).collect::<Vec<_>>();
    assert_eq!((of("TRIGGER_NAME"), of("ACTION_JOB_WORKDIR"), of("OWN")), (vec!["deploy"], vec!["/action_workdir"], vec!["$(WORKDIR)"]));
}

#[test]
fn a_name_that_somebody_else_has_chosen_is_never_taken_for_a_variable_or_a_flag() {
    let mut run = run();
    run.key.reference = Reference::Branch("--debug$(TOKEN)".into());
    let job = build(&run, &action(json!({})), &origin(JobCredentials::None));
    assert!(arguments(&job).contains(&"--reference-name=--debug$$(TOKEN)"), "{:?}", arguments(&job));
    assert!(variables(&job).contains(&("TRIGGER_SOURCE_REF_NAME", "--debug$$(TOKEN)")));
    assert!(variables(&job).contains(&("ACTION_JOB_TRIGGER_SOURCE_REF_NAME", "--debug$$(TOKEN)")));
}

#[test]
fn the_cloner_is_told_how_to_reach_the_repository() {
    let with = |change: fn(&mut JobClone)| {
        let mut origin = origin(JobCredentials::Own);
        change(&mut origin.clone);
        let job = build(&run(), &action(json!({})), &origin);
        let told = arguments(&job).into_iter().skip(6).filter(|argument| *argument != "--empty-destination");
        told.map(str::to_owned).collect::<Vec<_>>()
    };
    let credentials = "--credentials=/git-credentials";
    assert_eq!(with(|_| {}), [credentials]);
    assert_eq!(with(|clone| clone.auth = Some(crd::AuthType::Basic)), [credentials, "--auth=basic"]);
    assert_eq!(with(|clone| clone.auth = Some(crd::AuthType::Token)), [credentials, "--auth=token"]);
    assert_eq!(with(|clone| clone.auth = Some(crd::AuthType::GithubApp)), [credentials, "--auth=token"]);
    assert_eq!(with(|clone| clone.ca_certificates = true), [credentials, "--ca-file=/git-credentials/ca.crt"]);
    assert_eq!(with(|clone| clone.proxy = Some("http://proxy:3128".into())), [credentials, "--proxy=http://proxy:3128"]);
    assert_eq!(with(|clone| clone.no_verify_ssl = true), [credentials, "--no-verify-ssl"]);
    assert_eq!(with(|clone| clone.insecure_ignore_host_key = true), [credentials, "--insecure-ignore-host-key"]);
    assert_eq!(with(|clone| clone.credentials = JobCredentials::None), [""; 0]);
}

#[test]
fn another_source_than_the_triggers_is_checked_out_and_told() {
    let revision = Revision { reference: Reference::Tag("v1".into()), commit: CommitId::from_bytes([3; 20]) };
    let mut origin = origin(JobCredentials::None);
    origin.overridden = Some((ObjectRef::namespaced("GitRepo", "team", "tools"), revision));
    origin.clone.uri = "https://git.example.com/tools.git".to_owned();
    let job = build(&run(), &action(json!({})), &origin);
    let expected = [
        "--repo-uri=https://git.example.com/tools.git",
        "--reference-type=tag",
        "--reference-name=v1",
        "--commit=0303030303030303030303030303030303030303",
    ];
    assert_eq!(arguments(&job)[..4], expected);
    assert!(variables(&job).contains(&("ACTION_SOURCE_REF_NAME", "v1")));
    assert!(variables(&job).contains(&("TRIGGER_SOURCE_URI", "https://git.example.com/app.git")));
}

#[test]
fn only_a_job_with_credentials_of_its_own_has_a_secret_made_for_it() {
    let secret = MountedSecret { name: "git".into(), files: BTreeMap::new(), optional: false };
    let made = |credentials| cloner::has_own_secret(&build(&run(), &action(json!({})), &origin(credentials)));
    assert!(made(JobCredentials::Own));
    assert!(!made(JobCredentials::None) && !made(JobCredentials::Mounted(vec![secret])));
}

#[test]
fn the_cloner_is_not_root_where_the_worker_is() {
    let user = |pod: Value| {
        let job = build(&run(), &action(json!({ "podSecurityContext": pod })), &origin(JobCredentials::None));
        cloner(&job).security_context.as_ref().unwrap().run_as_user
    };
    assert_eq!((user(json!({ "runAsUser": 0 })), user(json!({ "runAsUser": 1000 })), user(json!({}))), (Some(65534), None, None));
}

#[test]
fn git_of_the_worker_is_configured_by_the_action_if_it_says_so() {
    let action = action(json!({ "env": [{ "name": "GIT_CONFIG_COUNT", "value": "0" }] }));
    let job = build(&run(), &action, &origin(JobCredentials::None));
    let git: Vec<_> = variables(&job).into_iter().filter(|(name, _)| name.starts_with("GIT_")).collect();
    assert_eq!(git, [("GIT_CONFIG_COUNT", "0")]);
}

#[test]
fn a_job_has_begun_when_our_finalizer_is_off() {
    let job = |finalizers: &[&str], deleted: bool, condition: Option<&str>| -> Job {
        let time = deleted.then_some("2026-01-01T00:00:00Z");
        let conditions = condition.map(|kind| json!([{ "type": kind, "status": "True", "lastTransitionTime": "2026-01-02T00:00:00Z" }]));
        let metadata = json!({ "finalizers": finalizers, "deletionTimestamp": time, "annotations": { RUN: json!(run()).to_string() } });
        serde_json::from_value(json!({ "metadata": metadata, "status": { "conditions": conditions } })).unwrap()
    };
    let cases = [
        (job(&[REGISTERED], false, Some("Suspended")), RunPhase::Waiting),
        (job(&["foregroundDeletion", REGISTERED], true, None), RunPhase::Deleted),
        (job(&[], false, None), RunPhase::Running),
        (job(&["foregroundDeletion"], true, None), RunPhase::Running),
        (job(&[], false, Some("SuccessCriteriaMet")), RunPhase::Running),
        (job(&[], false, Some("Complete")), RunPhase::Succeeded),
        (job(&[], false, Some("Failed")), RunPhase::Failed),
    ];
    for (job, expected) in cases {
        let status = run_status(&job).unwrap();
        assert_eq!(status.phase, expected, "{job:?}");
        let ended = matches!(expected, RunPhase::Succeeded | RunPhase::Failed).then(|| "2026-01-02T00:00:00Z".parse().unwrap());
        assert_eq!(status.finished, ended);
    }
}
