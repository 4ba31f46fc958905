//! The cluster that the tests of the operator run on is one.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use git_events_runner_tests::{
    cluster::{self, Cluster, Mode, Namespace, Write},
    wait_for,
};
use k8s_openapi::api::{
    batch::v1::Job,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod, Secret},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams},
    runtime::wait::{await_condition, conditions},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn job(name: &str, annotations: Value) -> Job {
    let container = json!({ "name": "worker", "image": "worker" });
    let pod = json!({ "restartPolicy": "Never", "initContainers": [{ "name": "cloner", "image": "cloner" }], "containers": [container] });
    let template = json!({ "metadata": { "annotations": annotations }, "spec": pod });
    object(json!({ "metadata": { "name": name }, "spec": { "backoffLimit": 0, "template": template } }))
}

async fn namespace() -> (Namespace<'static>, Client) {
    let cluster = Cluster::shared(Mode::Kwok).await.unwrap();
    (cluster.namespace().await.unwrap(), cluster.client().await.unwrap())
}

/// Waits until a Job has ended; the condition that says how.
async fn end_of(jobs: &Api<Job>, name: &str) -> String {
    let ended = |job: Option<&Job>| {
        let conditions = job?.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| ["Complete", "Failed"].contains(&condition.type_.as_str())).map(|found| found.type_.clone())
    };
    let job = await_condition(jobs.clone(), name, move |job: Option<&Job>| ended(job).is_some()).await.unwrap();
    ended(job.as_ref()).unwrap()
}

#[tokio::test]
async fn jobs_run_and_end_as_their_pods_are_annotated() {
    let (namespace, client) = namespace().await;
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    for (name, annotations) in [
        ("succeeds", json!({ "test/run-for": "10ms" })),
        ("fails", json!({ "test/run-for": "10ms", "test/outcome": "Failed" })),
        ("by-default", json!({})),
        ("goes-on", json!({ "test/run-for": "1h" })),
    ] {
        jobs.create(&PostParams::default(), &job(name, annotations)).await.unwrap();
    }
    assert_eq!(end_of(&jobs, "succeeds").await, "Complete");
    assert_eq!(end_of(&jobs, "fails").await, "Failed");
    assert_eq!(end_of(&jobs, "by-default").await, "Complete");

    // What is deleted in the foreground stays until its Pod has gone.
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let of_job = ListParams::default().labels("batch.kubernetes.io/job-name=goes-on");
    let running = |job: Option<&Job>| job.and_then(|job| job.status.as_ref()?.ready).is_some_and(|ready| ready == 1);
    await_condition(jobs.clone(), "goes-on", running).await.unwrap();
    let uid = jobs.get("goes-on").await.unwrap().uid().unwrap();
    jobs.delete("goes-on", &DeleteParams::foreground()).await.unwrap();
    await_condition(jobs, "goes-on", conditions::is_deleted(&uid)).await.unwrap();
    assert_eq!(pods.list(&of_job).await.unwrap().items.len(), 0);
}

#[tokio::test]
async fn what_belongs_to_a_trigger_goes_with_it() {
    let (namespace, client) = namespace().await;
    let cluster = Cluster::shared(Mode::Kwok).await.unwrap();
    let triggers = format!("/apis/git-events-runner.rs/v1alpha1/namespaces/{namespace}/scheduletriggers");
    let trigger = json!({
        "apiVersion": "git-events-runner.rs/v1alpha1", "kind": "ScheduleTrigger", "metadata": { "name": "owner" },
        "spec": { "sources": { "names": ["a"] }, "schedule": { "interval": "1h" }, "action": { "kind": "Action", "name": "a" } },
    });
    let trigger = cluster.server().create(&triggers, trigger.to_string()).await.unwrap();
    let mut owned = job("owned", json!({ "test/run-for": "1h" }));
    owned.metadata.owner_references = Some(vec![object(json!({
        "apiVersion": trigger["apiVersion"], "kind": trigger["kind"], "name": "owner", "uid": trigger["metadata"]["uid"],
    }))]);
    let jobs: Api<Job> = Api::namespaced(client, &namespace);
    let uid = jobs.create(&PostParams::default(), &owned).await.unwrap().uid().unwrap();
    let deleted = cluster.kubectl().args(["delete", "scheduletrigger", "owner", "--namespace", &namespace]).output().unwrap();
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    await_condition(jobs, "owned", conditions::is_deleted(&uid)).await.unwrap();
}

fn code<T>(result: kube::Result<T>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => unreachable!("no answer of the API server: {error}"),
    }
}

#[tokio::test]
async fn an_operator_may_do_what_its_role_says_and_no_more() {
    let (namespace, _) = namespace().await;
    let (elsewhere, _) = self::namespace().await;
    let cluster = Cluster::shared(Mode::Kwok).await.unwrap();
    let kubeconfig = cluster.operator_account(&namespace).await.unwrap();
    let client = cluster::client(&kubeconfig).await.unwrap();
    let (create, list) = (PostParams::default(), ListParams::default());

    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    assert_eq!(code(jobs.create(&create, &job("granted", json!({}))).await), 200);
    let label = Patch::Merge(json!({ "metadata": { "labels": { "a": "b" } } }));
    assert_eq!(code(jobs.patch("granted", &PatchParams::default(), &label).await), 200);
    assert_eq!(code(jobs.delete("granted", &DeleteParams::background()).await), 200);
    assert_eq!(code(jobs.delete_collection(&DeleteParams::background(), &list).await), 403);
    assert_eq!(code(Api::<Job>::namespaced(client.clone(), &elsewhere).list(&list).await), 403);

    let kinds = |kind: &str, namespace: Option<&str>| {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("git-events-runner.rs", "v1alpha1", kind));
        let all = || Api::<DynamicObject>::all_with(client.clone(), &kind);
        namespace.map_or_else(all, |namespace| Api::namespaced_with(client.clone(), namespace, &kind))
    };
    for kind in ["GitRepo", "Action", "ScheduleTrigger", "WebhookTrigger"] {
        for (place, granted) in [(Some(&*namespace), 200), (Some(&*elsewhere), 403), (None, 403)] {
            assert_eq!(code(kinds(kind, place).list(&list).await), granted, "{kind} of {place:?}");
        }
    }
    for kind in ["ClusterGitRepo", "ClusterAction"] {
        assert_eq!(code(kinds(kind, None).list(&list).await), 200, "{kind}");
    }

    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    assert_eq!(code(secrets.create(&create, &object(json!({ "metadata": { "name": "credentials" } }))).await), 200);
    assert_eq!(code(Api::<Secret>::namespaced(client.clone(), &elsewhere).create(&create, &Secret::default()).await), 403);
    assert_eq!(code(secrets.get("credentials").await), 200);
    assert_eq!(code(secrets.list(&list).await), 403);
    assert_eq!(code(secrets.delete("credentials", &DeleteParams::default()).await), 403);

    for (namespace, name, granted) in [
        (&namespace, "git-events-runner-leader-lock", 404),
        (&namespace, "another", 403),
        (&elsewhere, "git-events-runner-leader-lock", 403),
    ] {
        assert_eq!(code(Api::<Lease>::namespaced(client.clone(), namespace).get(name).await), granted, "{namespace}/{name}");
    }
    let config: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    assert_eq!(code(config.list(&ListParams::default().fields("metadata.name=git-events-runner-config")).await), 200);
    assert_eq!(code(config.list(&list).await), 403);
    assert_eq!(code(Api::<Pod>::all(client).list(&list).await), 403);
}

#[tokio::test]
async fn writes_are_counted_with_who_made_them_and_reads_are_not() {
    let (namespace, admin) = namespace().await;
    let cluster = Cluster::shared(Mode::Kwok).await.unwrap();
    let client = cluster::client(&cluster.operator_account(&namespace).await.unwrap()).await.unwrap();
    let name = "git-events-runner-leader-lock";
    let leases: Api<Lease> = Api::namespaced(client.clone(), &namespace);
    leases.create(&PostParams::default(), &object(json!({ "metadata": { "name": name } }))).await.unwrap();
    let lease = leases.get(name).await.unwrap();
    leases.replace(name, &PostParams::default(), &lease).await.unwrap();
    assert_eq!(code(leases.delete(name, &DeleteParams::default()).await), 403);
    Api::<Lease>::namespaced(admin, &namespace).delete(name, &DeleteParams::default()).await.unwrap();

    let writes = cluster.writes().unwrap();
    let of_lease = writes.iter().filter(|write| write.resource == "leases" && write.namespace.as_deref() == Some(&*namespace));
    let account = format!("system:serviceaccount:{}:git-events-runner", &*namespace);
    let expected = [("create", &*account, 201), ("update", &account, 200), ("delete", &account, 403), ("delete", "admin", 200)];
    assert!(of_lease.clone().all(|write| write.name.as_deref() == Some(name)), "{writes:?}");
    assert_eq!(of_lease.map(|Write { verb, user, code, .. }| (&**verb, &**user, *code)).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn an_api_server_that_was_killed_comes_back_with_what_it_had() {
    let cluster = Cluster::start(Mode::ControlPlane).await.unwrap();
    let namespace = cluster.namespace().await.unwrap();
    let client = cluster::client(&cluster.operator_account(&namespace).await.unwrap()).await.unwrap();
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let suspended = Patch::Merge(json!({ "spec": { "suspend": true } }));
    jobs.create(&PostParams::default(), &job("before", json!({}))).await.unwrap();
    let before = jobs.patch("before", &PatchParams::default(), &suspended).await.unwrap();

    cluster.stop_api_server().unwrap();
    assert!(matches!(jobs.get("before").await, Err(kube::Error::HyperError(_) | kube::Error::Service(_))));
    cluster.start_api_server().await.unwrap();

    let after = jobs.get("before").await.unwrap();
    assert_eq!((after.uid(), after.spec.unwrap().suspend), (before.uid(), Some(true)));
    // The controllers are back too, and the log of writes goes on.
    let namespace = cluster.namespace().await.unwrap();
    let writes = cluster.writes().unwrap();
    assert!(writes.iter().any(|write| write.resource == "jobs" && write.verb == "patch" && write.name.as_deref() == Some("before")));
    assert!(writes.iter().any(|write| write.resource == "namespaces" && write.name.as_deref() == Some(&*namespace)));
}

#[test]
fn nothing_is_left_of_a_cluster() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(Cluster::start(Mode::ControlPlane)).unwrap();
    let folder = cluster.kubeconfig().parent().unwrap().to_owned();
    let uses_it = |process: &std::path::Path| {
        std::fs::read(process.join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(folder.to_str().unwrap()))
    };
    let processes = || std::fs::read_dir("/proc").unwrap().filter(|entry| uses_it(&entry.as_ref().unwrap().path())).count();
    assert!(processes() >= 4);
    drop(cluster);
    wait_for("the end of all processes", || (processes() == 0).then_some(())).unwrap();
    assert!(!folder.exists());
}
