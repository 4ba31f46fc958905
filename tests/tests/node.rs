//! The node that tests run containers on is one.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
};

use git_events_runner_tests::{
    cluster::{Cluster, Mode, Namespace},
    wait_for,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{LogParams, PostParams},
    runtime::wait::await_condition,
};
use serde_json::json;

/// Runs a script in a container until it has ended, and answers its phase and its log.
async fn run(cluster: &Cluster, namespace: &Namespace<'_>, name: &str, script: &str) -> (String, String) {
    let pods = pods(cluster, namespace).await;
    start(&pods, name, script).await;
    let phase = |pod: Option<&Pod>| pod?.status.as_ref()?.phase.clone();
    let ended = move |pod: Option<&Pod>| phase(pod).is_some_and(|phase| ["Succeeded", "Failed"].contains(&&*phase));
    let pod = await_condition(pods.clone(), name, ended).await.unwrap();
    (phase(pod.as_ref()).unwrap(), pods.logs(name, &LogParams::default()).await.unwrap())
}

async fn pods(cluster: &Cluster, namespace: &Namespace<'_>) -> Api<Pod> {
    Api::namespaced(cluster.client().await.unwrap(), namespace)
}

async fn start(pods: &Api<Pod>, name: &str, script: &str) {
    let container = json!({ "name": "main", "image": "localhost/busybox:1", "command": ["sh", "-c", script] });
    let spec = json!({ "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container] });
    let pod = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
}

#[tokio::test]
async fn pods_are_containers_that_reach_the_api_server_and_this_machine() {
    let cluster = Cluster::shared(Mode::Node).await.unwrap();
    let namespace = cluster.namespace().await.unwrap();
    assert_eq!(run(cluster, &namespace, "succeeds", "echo $((6 * 7))").await, ("Succeeded".into(), "42\n".into()));
    assert_eq!(run(cluster, &namespace, "fails", "echo oh >&2; exit 1").await, ("Failed".into(), "oh\n".into()));

    let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let connect = format!("nc -w 30 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT </dev/null && test -s {token} && echo $?");
    assert_eq!(run(cluster, &namespace, "connects", &connect).await, ("Succeeded".into(), "0\n".into()));

    let listener = TcpListener::bind((cluster.machine().unwrap(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let greet = thread::spawn(move || listener.accept().unwrap().0.write_all(b"hello\n"));
    let listen = format!("nc {} {port}", cluster.machine().unwrap());
    assert_eq!(run(cluster, &namespace, "reaches", &listen).await, ("Succeeded".into(), "hello\n".into()));
    greet.join().unwrap().unwrap();
}

#[tokio::test]
async fn this_machine_reaches_pods() {
    let cluster = Cluster::shared(Mode::Node).await.unwrap();
    let namespace = cluster.namespace().await.unwrap();
    let pods = pods(cluster, &namespace).await;
    start(&pods, "listens", "echo hello | nc -l -p 8080").await;
    let address = |pod: Option<&Pod>| pod?.status.as_ref()?.pod_ip.clone();
    let pod = await_condition(pods, "listens", move |pod: Option<&Pod>| address(pod).is_some()).await.unwrap();
    let address = SocketAddr::new(address(pod.as_ref()).unwrap().parse().unwrap(), 8080);
    let mut greeted = String::new();
    let mut stream = wait_for("the Pod listens", || TcpStream::connect(address).ok()).unwrap();
    stream.read_to_string(&mut greeted).unwrap();
    assert_eq!(greeted, "hello\n");
}

#[tokio::test]
async fn a_command_is_run_in_a_container_that_is_there() {
    let cluster = Cluster::shared(Mode::Node).await.unwrap();
    let namespace = cluster.namespace().await.unwrap();
    let pods = pods(cluster, &namespace).await;
    start(&pods, "waits", "sleep 1000").await;
    let running = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.status.as_ref().unwrap().phase.as_deref() == Some("Running"));
    await_condition(pods, "waits", running).await.unwrap();
    let said =
        cluster.kubectl().args(["exec", "--namespace", &namespace, "waits", "--", "sh", "-c", "echo $0 from here"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "sh from here\n", "{}", String::from_utf8_lossy(&said.stderr));
}

/// What a node leaves on a machine that is its own: processes, mounts, links and control groups.
fn traces(of: &Path) -> Vec<String> {
    let name = of.file_name().unwrap().to_str().unwrap();
    let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let processes = fs::read_dir("/proc").unwrap().map(|entry| text(&entry.unwrap().path().join("cmdline")));
    let mounts = text(Path::new("/proc/mounts"));
    let find = Command::new("find").args(["/sys/fs/cgroup", "-type", "d"]).output().unwrap();
    let groups = String::from_utf8(find.stdout).unwrap();
    let all = processes.chain(mounts.lines().map(str::to_owned)).chain(groups.lines().map(str::to_owned));
    all.filter(|trace| trace.contains(name)).collect()
}

fn links() -> Vec<String> {
    let names = fs::read_dir("/sys/class/net").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("ger")).collect()
}

#[test]
fn nothing_is_left_of_a_node_and_of_its_containers() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (cluster, folder) = runtime.block_on(async {
        let cluster = Cluster::start(Mode::Node).await.unwrap();
        let namespace = cluster.namespace().await.unwrap();
        let pods = pods(&cluster, &namespace).await;
        start(&pods, "goes-on", "sleep 1000").await;
        let running = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.status.as_ref().unwrap().phase.as_deref() == Some("Running"));
        await_condition(pods, "goes-on", running).await.unwrap();
        let folder = cluster.kubeconfig().parent().unwrap().to_owned();
        drop(namespace);
        (cluster, folder)
    });
    assert!(traces(&folder).len() > 6, "{:?}", traces(&folder));
    let during = links();
    drop(cluster);
    wait_for("the end of all", || traces(&folder).is_empty().then_some(())).unwrap();
    assert!(!folder.exists());
    wait_for("the end of its link", || (links().len() < during.len()).then_some(())).unwrap();
}
