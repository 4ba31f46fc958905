use std::{
    io::Write as _,
    net::IpAddr,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use git_events_runner_core::{CommitId, RunPhase, RunRequest, job};
use git_events_runner_tests::{Auth, GitServer, Options, cluster::Namespace};
use k8s_openapi::api::batch::v1::Job;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::release::Release;

/// How long what is to happen may take.
const WITHIN: Duration = Duration::from_secs(300);

/// A namespace of the cluster that the release watches.
pub struct Fixture {
    pub release: &'static Release,
    pub namespace: String,
    /// What Pods reach this machine by.
    pub machine: IpAddr,
    /// If the test fails, it prints what is in it.
    _own: Option<Namespace<'static>>,
}

impl Fixture {
    /// With a namespace of its own.
    pub async fn new() -> Self {
        let release = Release::shared().await;
        let own = release.cluster.namespace().await.unwrap();
        Self { release, namespace: own.to_string(), machine: release.cluster.machine().unwrap(), _own: Some(own) }
    }

    /// In the namespace `default`, which one test alone may use.
    pub async fn by_default() -> Self {
        let release = Release::shared().await;
        Self { release, namespace: "default".to_owned(), machine: release.cluster.machine().unwrap(), _own: None }
    }

    /// A Git server that Pods reach, by https, and the authority that has signed its certificate.
    pub fn server(&self, auth: Auth) -> (GitServer, String) {
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let trusted = authority.self_signed(&authority_key).unwrap().pem();
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([self.machine.to_string()]).unwrap().signed_by(&key, &issuer).unwrap();
        let tls = Some((certificate.pem(), key.serialize_pem()));
        let server = GitServer::start(&Options { auth, tls, address: Some(self.machine), ..Options::default() }).unwrap();
        (server, trusted)
    }

    /// A Git server that lets anybody in, by http.
    pub fn open_server(&self) -> GitServer {
        GitServer::start(&Options { address: Some(self.machine), ..Options::default() }).unwrap()
    }

    /// Runs kubectl in the namespace, and answers what it prints.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let output = self.release.cluster.kubectl().args(["--namespace", &self.namespace]).args(args).output().unwrap();
        assert!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Applies manifests, to the namespace where they name none.
    pub fn apply(&self, manifests: &str) {
        let mut kubectl = self.release.cluster.kubectl();
        kubectl.args(["--namespace", &self.namespace, "apply", "--server-side", "--filename=-"]);
        let mut kubectl = kubectl.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        kubectl.stdin.take().unwrap().write_all(manifests.as_bytes()).unwrap();
        assert!(kubectl.wait().unwrap().success(), "kubectl apply: see above");
    }

    /// Applies a GitRepo that anybody may read.
    pub fn git_repo(&self, name: &str, uri: &str) {
        let head = "apiVersion: git-events-runner.rs/v1alpha1\nkind: GitRepo";
        self.apply(&format!("{head}\nmetadata: {{ name: {name} }}\nspec: {{ repoUri: '{uri}' }}\n"));
    }

    /// Applies an Action with these fields of its Jobs.
    pub fn action(&self, name: &str, job: &str) {
        let head = "apiVersion: git-events-runner.rs/v1alpha1\nkind: Action";
        self.apply(&format!("{head}\nmetadata: {{ name: {name} }}\nspec: {{ actionJob: {{ {job} }} }}\n"));
    }

    /// An object as it is now.
    pub fn get<T: DeserializeOwned>(&self, object: &str) -> T {
        serde_json::from_str(&self.kubectl(&["get", object, "--output=json"])).unwrap()
    }

    /// Waits until the condition Ready is True.
    pub fn wait_until_ready(&self, object: &str) {
        self.kubectl(&["wait", "--for=condition=Ready", object, "--timeout=300s"]);
    }

    /// Waits until a field of an object has this text.
    pub fn wait_for_field(&self, object: &str, pointer: &str, text: &str) {
        self.wait_for(&format!("{pointer} of {object} is {text}"), || (self.get::<Value>(object).pointer(pointer)? == text).then_some(()));
    }

    /// Our Jobs, in the order in which they were registered.
    pub fn jobs(&self) -> Vec<Job> {
        let ours = format!("--selector={}={}", job::MANAGED_BY, job::FIELD_MANAGER);
        let mut list: Value = serde_json::from_str(&self.kubectl(&["get", "jobs", &ours, "--output=json"])).unwrap();
        let mut jobs: Vec<Job> = serde_json::from_value(list["items"].take()).unwrap();
        jobs.sort_by_cached_key(|found| request(found).registered_at);
        jobs
    }

    /// Waits until our Jobs are in these phases, in the order in which they were registered, and answers them.
    pub fn wait_for_phases(&self, phases: &[RunPhase]) -> Vec<Job> {
        self.wait_for(&format!("Jobs that are {phases:?}"), || {
            Some(self.jobs()).filter(|jobs| jobs.iter().map(job::phase).eq(phases.iter().copied()))
        })
    }

    /// What the worker of a Job has printed.
    pub fn log(&self, of: &Job) -> String {
        self.kubectl(&["logs", &format!("job/{}", of.metadata.name.as_ref().unwrap()), "--container=action-worker"])
    }

    /// The Pod of a Job.
    pub fn pod(&self, of: &Job) -> Value {
        let of_job = format!("--selector=batch.kubernetes.io/job-name={}", of.metadata.name.as_ref().unwrap());
        let mut list: Value = serde_json::from_str(&self.kubectl(&["get", "pods", &of_job, "--output=json"])).unwrap();
        list["items"][0].take()
    }

    /// The reasons of the Events about runs of a trigger, in the order in which they were told.
    pub fn events(&self, kind: &str, name: &str) -> Vec<String> {
        let about = format!("--field-selector=involvedObject.kind={kind},involvedObject.name={name}");
        self.kubectl(&["get", "events", &about, "--sort-by=.eventTime", "--output=jsonpath={.items[*].reason}"])
            .split(' ')
            .filter(|reason| reason.starts_with("Run"))
            .map(str::to_owned)
            .collect()
    }

    /// Waits until something is there.
    pub fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + WITHIN;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < deadline, "{what}: not within {WITHIN:?}");
            thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the release\n{}", self.release.logs());
        }
    }
}

/// A ScheduleTrigger that looks each second.
pub fn trigger(name: &str, sources: &str, action: &str) -> String {
    format!(
        "
apiVersion: git-events-runner.rs/v1alpha1
kind: ScheduleTrigger
metadata: {{ name: {name} }}
spec:
  sources: {sources}
  schedule: {{ interval: 1s }}
  action: {{ kind: Action, name: {action} }}
"
    )
}

/// The run that a Job is.
pub fn request(of: &Job) -> RunRequest {
    job::run_status(of).unwrap().request
}

/// The commits that Jobs are for.
pub fn commits(of: &[Job]) -> Vec<CommitId> {
    of.iter().map(|job| request(job).commit).collect()
}
