//! The Helm chart, by the real helm: what it renders, a real API server takes, and what people do to releases does what they expect.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what a test cannot set up fails it")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use git_events_runner_core::crd::RuntimeConfig;
use git_events_runner_tests::cluster::ApiServer;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/git-events-runner");
const API: &str = "git-events-runner.rs/v1alpha1";
const VALUES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/chart");

/// A file of values, by its name.
fn values(name: &str) -> String {
    format!("--values={VALUES}/{name}.yaml")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs helm, which is to succeed, and answers what it has printed.
fn helm(server: &ApiServer, args: &[&str]) -> String {
    let output = server.helm().unwrap().args(args).output().unwrap();
    assert!(output.status.success(), "helm {args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// The objects that the chart renders to with these arguments.
fn render(server: &ApiServer, args: &[&str]) -> Vec<Value> {
    let rendered = helm(server, &[&["template", "runner", CHART, "--namespace", "default"], args].concat());
    serde_saphyr::from_multiple(&rendered).unwrap()
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is_it).unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

fn runtime_config(objects: &[Value]) -> RuntimeConfig {
    let map = find(objects, "ConfigMap", "git-events-runner-config");
    serde_saphyr::from_str(map["data"]["runtimeConfig"].as_str().unwrap()).unwrap()
}

fn kubectl(server: &ApiServer, args: &[&str]) -> Output {
    server.kubectl().args(args).output().unwrap()
}

/// The names of all that there is of these kinds and belongs to the release.
fn left(server: &ApiServer, kinds: &str) -> Vec<String> {
    let args = ["get", kinds, "--all-namespaces", "--selector=app.kubernetes.io/instance=runner", "--output=name"];
    let output = kubectl(server, &args);
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// All kinds that the chart may make, but for its definitions of kinds.
const KINDS: &str = "deployments,services,configmaps,serviceaccounts,poddisruptionbudgets,networkpolicies,ingresses,\
    roles,rolebindings,clusterroles,clusterrolebindings";

#[tokio::test]
async fn what_the_chart_renders_to_is_sound() {
    let server = ApiServer::start().await.unwrap();
    for namespace in ["team-a", "team-b", "project"] {
        server.create("/api/v1/namespaces", json!({ "metadata": { "name": namespace } }).to_string()).await.unwrap();
    }
    // Prometheus' own definition is as lax as this one where it matters here.
    let monitors = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "servicemonitors.monitoring.coreos.com" },
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": { "plural": "servicemonitors", "singular": "servicemonitor", "kind": "ServiceMonitor", "listKind": "ServiceMonitorList" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }],
        },
    });
    server.establish(&monitors).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["defaults", "everything", "least", "published"] {
        let args = if name == "defaults" { vec![] } else { vec![values(name)] };
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let linted = helm(&server, &[&["lint", "--strict", CHART], &args[..]].concat());
        assert!(!linted.contains("WARNING"), "{name}: {linted}");
        let rendered = helm(&server, &[&["template", "runner", CHART, "--namespace", "default"], &args[..]].concat());
        let file = folder.path().join(name);
        fs::write(&file, &rendered).unwrap();
        let apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename"];
        let taken = kubectl(&server, &[&apply[..], &[file.to_str().unwrap()]].concat());
        assert!(taken.status.success() && taken.stderr.is_empty(), "{name}: {}", text(&taken.stderr));
        for object in serde_saphyr::from_multiple::<Value>(&rendered).unwrap() {
            if object["kind"] == "ConfigMap" {
                runtime_config(&[object]).check().unwrap();
            }
        }
    }
}

#[tokio::test]
async fn options_become_flags_and_namespaces_bindings() {
    let server = ApiServer::start().await.unwrap();
    let objects = render(&server, &[&values("everything")]);
    let pod = &find(&objects, "Deployment", "runner-git-events-runner")["spec"]["template"]["spec"];
    let args: Vec<_> = pod["containers"][0]["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    for expected in [
        "run",
        "--log-level=debug",
        "--json-logs",
        "--leader-lease-duration=30",
        "--leader-lease-grace=5",
        "--secrets-cache-time=60",
        "--schedule-parallelism=64",
        "--webhooks-parallelism=64",
        "--allowed-hosts=github.com,*.example.com",
        "--metrics-prefix=runner",
        "--tls-secret-name=webhooks-tls",
        "--hooks-rrl-global=1000/1",
        "--hooks-rrl-trigger=30/60",
        "--hooks-rrl-source=10/60",
        "--watch-namespaces=default,team-a,team-b",
    ] {
        assert!(args.contains(&expected), "no {expected} in {args:?}");
    }
    assert_eq!(pod["containers"][0]["lifecycle"], json!({ "preStop": { "sleep": { "seconds": 5 } } }));
    let bound = |objects: &[Value], role: &str| -> Vec<String> {
        let bindings = objects.iter().filter(|object| object["roleRef"]["name"] == role);
        let mut places: Vec<_> =
            bindings.map(|binding| binding["metadata"]["namespace"].as_str().unwrap_or("everywhere").to_owned()).collect();
        places.sort();
        places
    };
    let name = "runner-git-events-runner";
    assert_eq!(bound(&objects, &format!("{name}-jobs")), ["default", "team-a", "team-b"]);
    assert_eq!(bound(&objects, &format!("{name}-secrets")), ["everywhere"]);
    let of_cluster = &find(&objects, "ClusterRole", name)["rules"];
    for kind in ["gitrepos", "actions", "scheduletriggers", "webhooktriggers"] {
        assert!(!of_cluster.to_string().contains(&format!("\"{kind}")), "{kind} of all namespaces in {of_cluster}");
    }
    let defaults = render(&server, &[]);
    assert_eq!(bound(&defaults, &format!("{name}-jobs")), ["everywhere"]);
    assert_eq!(bound(&defaults, &format!("{name}-secrets")), ["default"]);
}

#[tokio::test]
async fn jobs_get_an_account_in_each_namespace_and_all_repositories_the_host_keys() {
    let server = ApiServer::start().await.unwrap();
    let objects = render(&server, &[&values("everything")]);
    let name = "runner-git-events-runner-action-job";
    let accounts = objects.iter().filter(|object| object["kind"] == "ServiceAccount" && object["metadata"]["name"] == name);
    let namespaces: Vec<_> = accounts.clone().map(|account| account["metadata"]["namespace"].as_str().unwrap()).collect();
    assert_eq!(namespaces, ["default", "team-a"]);
    assert!(accounts.clone().all(|account| account["metadata"]["annotations"]["example.com/who"] == "jobs"));
    assert!(accounts.clone().all(|account| account["automountServiceAccountToken"] == true));
    assert!(accounts.clone().all(|account| account["imagePullSecrets"] == json!([{ "name": "registry" }])));
    let config = runtime_config(&objects);
    assert_eq!(config.action.default_service_account.as_deref(), Some(name));
    let known: Vec<_> = config.ssh.known_hosts.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(known, ["git.example.com", "@cert-authority"]);

    let created = "--set=actionJobServiceAccounts.create=true";
    for (set, expected) in [("runtimeConfig.action.maxRunningJobs=4", name), ("runtimeConfig.action.defaultServiceAccount=own", "own")] {
        let config = runtime_config(&render(&server, &[created, "--set", set]));
        assert_eq!(config.action.default_service_account.as_deref(), Some(expected), "{set}");
    }
    let defaults = render(&server, &[]);
    assert!(defaults.iter().all(|object| object["metadata"]["name"] != name), "nothing is made that nobody has asked for");
    assert_eq!(runtime_config(&defaults), RuntimeConfig::default());
    for (created, named, expected) in [("true", "", name), ("true", "own", "own"), ("false", "", "default"), ("false", "own", "own")] {
        let sets = [("create", created), ("name", named)].map(|(what, set)| format!("--set=actionJobServiceAccounts.{what}={set}"));
        let config = runtime_config(&render(&server, &[&values("everything"), &sets[0], &sets[1]]));
        assert_eq!(config.action.default_service_account.as_deref(), Some(expected), "create: {created}, name: {named}");
    }
    let hosts = tempfile::NamedTempFile::new().unwrap();
    fs::write(hosts.path(), "git.example.com ssh-ed25519 AAAA\n").unwrap();
    let from_file = format!("--set-file=runtimeConfig.ssh.knownHosts={}", hosts.path().display());
    assert_eq!(runtime_config(&render(&server, &[&from_file])).ssh.known_hosts, "git.example.com ssh-ed25519 AAAA\n");
}

#[tokio::test]
async fn the_values_of_the_docs_for_another_registry_name_the_images_of_this_version() {
    let server = ApiServer::start().await.unwrap();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/images.md")).unwrap();
    let block = page.split("```\n").find(|block| block.starts_with("image:\n")).unwrap();
    let values = tempfile::NamedTempFile::new().unwrap();
    fs::write(values.path(), block).unwrap();
    let objects = render(&server, &["--values", values.path().to_str().unwrap()]);
    let elsewhere = |image: &str| image.replace("ghcr.io/", "registry.example.com/");
    let (containers, defaults) = (runtime_config(&objects).action.containers, RuntimeConfig::default().action.containers);
    assert_eq!(containers.cloner.image, elsewhere(&defaults.cloner.image));
    assert_eq!(containers.worker.image, elsewhere(&defaults.worker.image));
    let of_operator = |objects: &[Value]| {
        let pod = &find(objects, "Deployment", "runner-git-events-runner")["spec"]["template"]["spec"];
        pod["containers"][0]["image"].as_str().unwrap().to_owned()
    };
    assert_eq!(of_operator(&objects), elsewhere(&of_operator(&render(&server, &[]))));
}

/// The paths of all that is in an object of objects, from its root.
fn paths(object: &Value, root: &str) -> Vec<String> {
    let fields = object.as_object().into_iter().flatten();
    fields.flat_map(|(name, value)| [vec![format!("{root}.{name}")], paths(value, &format!("{root}.{name}"))].concat()).collect()
}

/// What of a schema an object may have.
fn properties(schema: &Value) -> Value {
    let Some(fields) = schema["properties"].as_object() else { return Value::Null };
    assert_eq!(schema["additionalProperties"], false, "{schema}");
    fields.iter().map(|(name, schema)| (name.clone(), properties(schema))).collect()
}

#[test]
fn the_schema_of_the_runtime_config_has_its_fields_and_no_others() {
    let schema: Value = serde_json::from_str(&fs::read_to_string(format!("{CHART}/values.schema.json")).unwrap()).unwrap();
    let mut config = RuntimeConfig::default();
    // It is left out while there is none.
    config.action.default_service_account = Some("account".to_owned());
    let known = paths(&properties(&schema["properties"]["runtimeConfig"]), "runtimeConfig");
    assert_eq!(known, paths(&serde_json::to_value(config).unwrap(), "runtimeConfig"));
}

#[tokio::test]
async fn misspelt_values_are_refused_by_their_name() {
    let server = ApiServer::start().await.unwrap();
    for (set, named) in [
        ("replicas=3", "replicas"),
        ("controllerOptions.loglevel=debug", "loglevel"),
        ("controllerOptions.leaderLease.duration=0", "/controllerOptions/leaderLease/duration"),
        ("controllerOptions.leaderLease.duration=10,controllerOptions.leaderLease.grace=20", "leaderLease.grace (20) must be less"),
        ("controllerOptions.metricsPrefix=1a", "/controllerOptions/metricsPrefix"),
        // This is a list of an empty name, and no empty list.
        ("controllerOptions.allowedHosts={}", "/controllerOptions/allowedHosts/0"),
        ("rbac.controller.secretsNamespaces=all", "/rbac/controller/secretsNamespaces"),
        ("runtimeConfig.action.maxRuningJobs=4", "maxRuningJobs"),
        ("runtimeConfig.action.maxRunningJobs=-4", "/runtimeConfig/action/maxRunningJobs"),
        ("runtimeConfig.action.workdir.mountPath=/files/../etc", "/runtimeConfig/action/workdir/mountPath"),
        ("runtimeConfig.action.containers.worker.image=", "/runtimeConfig/action/containers/worker/image"),
        ("runtimeConfig.trigger.webhook.defaultAuthHeader=x auth", "/runtimeConfig/trigger/webhook/defaultAuthHeader"),
        // Of the published operator's chart.
        ("livenessProbe.periodSeconds=1", "livenessProbe"),
        ("readinessProbe.periodSeconds=1", "readinessProbe"),
        ("autoscaling.enabled=false", "autoscaling"),
        ("prometheus.serviceMonitor.enabled=true", "prometheus"),
    ] {
        let refused = server.helm().unwrap().args(["template", CHART, "--set", set]).output().unwrap();
        let why = text(&refused.stderr);
        assert!(!refused.status.success() && why.contains(named), "{set}: {why}");
    }
}

#[tokio::test]
async fn a_release_is_upgraded_rolled_back_uninstalled_and_installed_again_and_objects_survive() {
    let server = ApiServer::start().await.unwrap();
    let release = ["runner", CHART, "--namespace=default"];
    let notes = helm(&server, &[&["install"], &release[..]].concat());
    for told in ["rollout status deployment/runner-git-events-runner", "It may read Secrets of these namespaces: default", "svc:8080/"] {
        assert!(notes.contains(told), "no `{told}` in {notes}");
    }
    let by_tls = helm(&server, &[&["upgrade"], &release[..], &["--dry-run=server", "--set=controllerOptions.tls.secretName=tls"]].concat());
    for (notes, scheme) in [(&notes, "http"), (&by_tls, "https")] {
        assert!(notes.contains(&format!("taken by {scheme}://runner-git-events-runner")), "no {scheme} in {notes}");
    }
    let objects = put_objects(&server).await;
    let installed = left(&server, KINDS);
    assert!(installed.len() >= 12, "{installed:?}");

    let replicas = |expected: &str| {
        let path = "--output=jsonpath={.spec.replicas}";
        let output = kubectl(&server, &["get", "deployment", "runner-git-events-runner", path]);
        assert_eq!(text(&output.stdout), expected);
    };
    let next = tempfile::tempdir().unwrap();
    let chart = next_chart(next.path());
    helm(&server, &["upgrade", "runner", &chart, "--namespace=default", "--set=replicaCount=5"]);
    replicas("5");
    wait_for_added(&server, true).await;
    helm(&server, &["rollback", "runner", "1"]);
    replicas("2");
    wait_for_added(&server, false).await;
    helm(&server, &["uninstall", "runner"]);
    assert_eq!(left(&server, KINDS), [""; 0], "nothing is left but what is kept on purpose");
    assert_eq!(left(&server, "customresourcedefinitions").len(), 6);
    helm(&server, &[&["install"], &release[..]].concat());
    assert_eq!(left(&server, KINDS), installed);
    assert_eq!(all_objects(&server), objects);
}

/// Makes objects, of which one has a status, and answers all of ours that there are.
async fn put_objects(server: &ApiServer) -> Vec<Value> {
    let object =
        |kind: &str, name: &str, spec: Value| json!({ "apiVersion": API, "kind": kind, "metadata": { "name": name }, "spec": spec });
    let sources = json!({ "kind": "GitRepo", "names": ["app"] });
    let trigger = json!({ "sources": sources, "schedule": { "interval": "5m" }, "action": { "kind": "Action", "name": "act" } });
    let all = [
        ("gitrepos", object("GitRepo", "app", json!({ "repoUri": "https://git.example.com/app" }))),
        ("actions", object("Action", "act", json!({ "actionJob": { "args": ["./deploy.sh"] } }))),
        ("scheduletriggers", object("ScheduleTrigger", "it", trigger)),
    ];
    let in_default = |plural: &str| format!("/apis/{API}/namespaces/default/{plural}");
    for (plural, object) in &all {
        server.wait_until_served(&in_default(plural)).await.unwrap();
        server.create(&in_default(plural), object.to_string()).await.unwrap();
    }
    let status = json!({ "status": { "state": "Idle", "lastRun": "2026-01-01T00:00:00Z", "lastResult": "Succeeded" } });
    let path = format!("{}/it/status", in_default("scheduletriggers"));
    let (code, written) = server.send(Method::PATCH, &path, "application/merge-patch+json", status.to_string()).await.unwrap();
    assert!(code == StatusCode::OK && written["status"] == status["status"], "{code}: {written}");
    all_objects(server)
}

/// All objects of our kinds.
fn all_objects(server: &ApiServer) -> Vec<Value> {
    let output = kubectl(server, &["get", "git-events-runner", "--all-namespaces", "--output=json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["items"].as_array().unwrap().clone()
}

/// The chart of a later version, in which a GitRepo has one more field.
fn next_chart(folder: &Path) -> String {
    let chart = folder.join("git-events-runner");
    let copied = Command::new("cp").arg("-r").args([Path::new(CHART), &chart]).status().unwrap();
    assert!(copied.success());
    let file = chart.join("files/crds.yaml");
    let mut definitions: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(&file).unwrap()).unwrap();
    let repos = definitions.iter_mut().find(|definition| definition["metadata"]["name"] == "gitrepos.git-events-runner.rs").unwrap();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    repos.pointer_mut(spec).unwrap()["added"] = json!({ "type": "string" });
    let documents: Vec<_> = definitions.iter().map(|definition| format!("---\n{definition}\n")).collect();
    fs::write(&file, documents.concat()).unwrap();
    chart.to_str().unwrap().to_owned()
}

/// Waits until that field of a new object is kept, or is not.
async fn wait_for_added(server: &ApiServer, is_kept: bool) {
    let repo = json!({ "apiVersion": API, "kind": "GitRepo", "metadata": { "name": "new" },
        "spec": { "repoUri": "https://git.example.com/new", "added": "" } });
    let path = format!("/apis/{API}/namespaces/default/gitrepos?dryRun=All");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let created = server.create(&path, repo.to_string()).await.unwrap();
        if created["spec"].get("added").is_some() == is_kept {
            return;
        }
        assert!(Instant::now() < deadline, "{created}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
