//! Actions that check out another source than the one that fired.

use std::collections::BTreeMap;

use git_events_runner_core::{RunPhase, job};
use git_events_runner_tests::{
    Auth,
    cluster::{Cluster, Mode},
};
use k8s_openapi::api::{batch::v1::Job, core::v1::Secret};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::{
    fixture::Fixture,
    manifests::{FOR_EVER, action, action_that, git_repo, object, runtime_config, schedule_trigger, secret, with},
};

/// The command line of a Job's cloner.
fn arguments(job: &Job) -> Vec<String> {
    job.spec.clone().unwrap().template.spec.unwrap().init_containers.unwrap().remove(0).args.unwrap()
}

/// The variables of a Job's worker.
fn variables(job: &Job) -> BTreeMap<String, String> {
    let worker = job.spec.clone().unwrap().template.spec.unwrap().containers.remove(0);
    worker.env.unwrap().into_iter().map(|variable| (variable.name, variable.value.unwrap_or_default())).collect()
}

/// The Secrets that a Job mounts.
fn mounted(job: &Job) -> Vec<String> {
    let volumes = job.spec.clone().unwrap().template.spec.unwrap().volumes.unwrap();
    let sources = volumes.into_iter().filter_map(|volume| volume.projected).flat_map(|projected| projected.sources.unwrap());
    sources.filter_map(|source| source.secret).map(|secret| secret.name).collect()
}

#[tokio::test]
async fn an_action_checks_out_another_repository_at_its_own_commit() {
    let f = Fixture::new(Auth::Basic("robot".into(), "secret".into())).await;
    let app = f.repo("app").push("main", &[("app", "1")]).unwrap();
    let tools = f.repo("tools");
    tools.push("main", &[("tools", "main")]).unwrap();
    let release = tools.push("release/1", &[("tools", "release")]).unwrap();
    f.put(secret("of-app", &[("username", "robot"), ("password", "secret")])).await;
    f.put(secret("of-tools", &[("username", "robot"), ("password", "secret")])).await;
    for name in ["app", "tools"] {
        let auth = json!({ "type": "basic", "secretRef": { "name": format!("of-{name}") } });
        f.put(with(git_repo(name, &f.server.uri(name)), "authConfig", auth)).await;
    }
    let over = json!({ "kind": "GitRepo", "name": "tools", "reference": { "branch": "release/1" } });
    f.put(with(action("act"), "sourceOverride", over)).await;
    f.put(schedule_trigger("it", "app", "act")).await;
    let _operator = f.operator(&[]);

    let job = f.wait_for_phases(&[RunPhase::Succeeded]).await.remove(0);
    let arguments = arguments(&job);
    for expected in [
        format!("--repo-uri={}", f.server.uri("tools")),
        "--reference-type=branch".to_owned(),
        "--reference-name=release/1".to_owned(),
        format!("--commit={release}"),
        "--auth=basic".to_owned(),
    ] {
        assert!(arguments.contains(&expected), "no {expected} among {arguments:?}");
    }
    assert_eq!(mounted(&job), ["of-tools", "of-tools"], "one for each key");
    let variables = variables(&job);
    for (name, value) in [
        ("TRIGGER_KIND", "ScheduleTrigger".to_owned()),
        ("TRIGGER_NAMESPACE", f.namespace.to_string()),
        ("TRIGGER_SOURCE_KIND", "GitRepo".to_owned()),
        ("TRIGGER_SOURCE_NAME", "app".to_owned()),
        ("TRIGGER_SOURCE_URI", f.server.uri("app")),
        ("TRIGGER_SOURCE_COMMIT", app.to_string()),
        ("TRIGGER_SOURCE_REF_TYPE", "branch".to_owned()),
        ("TRIGGER_SOURCE_REF_NAME", "main".to_owned()),
        ("ACTION_SOURCE_KIND", "GitRepo".to_owned()),
        ("ACTION_SOURCE_NAME", "tools".to_owned()),
        ("ACTION_SOURCE_NAMESPACE", f.namespace.to_string()),
        ("ACTION_SOURCE_COMMIT", release.to_string()),
        ("ACTION_SOURCE_REF_TYPE", "branch".to_owned()),
        ("ACTION_SOURCE_REF_NAME", "release/1".to_owned()),
    ] {
        for name in [name.to_owned(), format!("ACTION_JOB_{name}")] {
            assert_eq!(variables.get(&name), Some(&value), "{name} of {variables:#?}");
        }
    }
    f.wait_for_ready("Action", "act", "True", "Valid").await;
}

#[tokio::test]
async fn credentials_of_another_namespace_come_with_the_release_and_belong_to_the_job() {
    let f = Fixture::new(Auth::Basic("robot".into(), "secret".into())).await;
    let other = Cluster::shared(Mode::Kwok).await.unwrap().namespace().await.unwrap();
    f.repo("app").push("main", &[]).unwrap();
    let repo = f.repo("tools");
    let tagged = repo.push("main", &[]).unwrap();
    repo.tag_annotated("v1", tagged).unwrap();
    f.put_into(&other, secret("git", &[("user", "robot"), ("password", "secret")])).await;
    let auth = json!({ "type": "basic", "secretRef": { "name": "git", "namespace": *other }, "keys": { "username": "user" } });
    let [app, tools, act] = ["app", "tools", "act"].map(|name| f.unique(name));
    for (name, repo) in [(&app, "app"), (&tools, "tools")] {
        let spec = json!({ "repoUri": f.server.uri(repo), "authConfig": auth });
        f.put(object("ClusterGitRepo", name, spec)).await;
    }
    let over = json!({ "kind": "ClusterGitRepo", "name": tools, "reference": { "tag": "v1" } });
    f.put(object("ClusterAction", &act, json!({ "sourceOverride": over }))).await;
    f.put(runtime_config("action: { maxRunningJobs: 1 }")).await;
    f.put(action_that("goes-on", FOR_EVER)).await;
    let of_cluster = |name: &str, action: &str| {
        let trigger = with(schedule_trigger(name, &app, action), "sources.kind", "ClusterGitRepo");
        with(trigger, "schedule.interval", "1h")
    };
    f.put(of_cluster("occupies", "goes-on")).await;
    let _operator = f.operator(&[]);
    let occupying = f.wait_for_phases(&[RunPhase::Running]).await.remove(0);
    f.put(with(of_cluster("it", &act), "action.kind", "ClusterAction")).await;
    let job = f.wait_for_phases(&[RunPhase::Running, RunPhase::Waiting]).await.remove(1);

    let (secrets, name) = (Api::<Secret>::namespaced(f.client.clone(), &f.namespace), job.name_any());
    assert_eq!(mounted(&job), [name.as_str()]);
    assert!(arguments(&job).contains(&format!("--commit={tagged}")), "{:?}", arguments(&job));
    assert!(secrets.get_opt(&name).await.unwrap().is_none(), "there before the Job begins");
    f.end(&occupying).await;
    f.wait_for_phases(&[RunPhase::Succeeded, RunPhase::Succeeded]).await;
    let made = secrets.get(&name).await.unwrap();
    assert_eq!(made.owner_references()[0].uid, job.uid().unwrap());
    let values: BTreeMap<_, _> = made.data.unwrap().into_iter().map(|(key, value)| (key, String::from_utf8(value.0).unwrap())).collect();
    assert_eq!(values, [("username", "robot"), ("password", "secret")].map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    assert_eq!(job.labels()[job::ACTION_KIND], "ClusterAction");
    for (kind, name, reason) in [("ClusterAction", &act, "Valid"), ("ClusterGitRepo", &tools, "Reachable")] {
        f.wait_for_ready(kind, name, "True", reason).await;
    }
}
