//! A trigger whose action has Jobs in a namespace of its own.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use async_trait::async_trait;
use git_events_runner_core::{
    Action as _, ActionError, CommitId, ObjectRef, Reference, Registered, RunKey, RunRef, RunRequest, Scope, TriggerId, crd,
    job::{JobAction, JobClone, JobCredentials, JobOrigin, JobOrigins, Jobs},
};
use git_events_runner_tests::cluster::Namespace;
use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::sync::watch;

use super::{LOOK, WITHIN, cluster, create_trigger, trigger_id};

/// What each Job checks out, and what the Secret of each holds.
pub struct Origins(pub JobCredentials);

#[async_trait]
impl JobOrigins for Origins {
    async fn origin(&self, _: &RunRequest) -> Result<JobOrigin, ActionError> {
        let clone = JobClone {
            uri: "https://git.example.com/app.git".to_owned(),
            no_verify_ssl: false,
            insecure_ignore_host_key: false,
            known_hosts: None,
            auth: None,
            ca_certificates: false,
            proxy: None,
            credentials: self.0.clone(),
        };
        Ok(JobOrigin { source_uri: clone.uri.clone(), overridden: None, clone })
    }

    async fn credentials(&self, _: &RunRequest, _: &str) -> Result<BTreeMap<String, Vec<u8>>, ActionError> {
        Ok([("token".to_owned(), b"secret".to_vec())].into())
    }
}

pub struct Runs {
    pub client: Client,
    pub namespace: Namespace<'static>,
    pub trigger: TriggerId,
    pub jobs: Jobs,
    _config: watch::Sender<Arc<crd::RuntimeConfig>>,
}

impl Runs {
    /// Of which so many may go on at once.
    pub async fn new(max_running_jobs: u32) -> Self {
        let client = cluster().await.client().await.unwrap();
        let namespace = cluster().await.namespace().await.unwrap();
        let trigger = trigger_id(&create_trigger(&client, "ScheduleTrigger", &namespace, "app").await);
        let action = crd::ActionConfig { max_running_jobs, ..crd::ActionConfig::default() };
        let (sender, config) = watch::channel(Arc::new(crd::RuntimeConfig { action, ..crd::RuntimeConfig::default() }));
        let jobs = Jobs::new(client.clone(), Scope::Namespaces(vec![namespace.to_string()]), config);
        Self { client, namespace, trigger, jobs, _config: sender }
    }

    pub fn action(&self, job: crd::ActionJob, credentials: JobCredentials) -> JobAction {
        let id = ObjectRef::namespaced("Action", &self.namespace, "deploy");
        JobAction::new(id, &self.namespace, job, self.jobs.clone(), Arc::new(Origins(credentials)))
    }

    pub fn request(&self, sequence: u64) -> RunRequest {
        RunRequest::new(
            RunKey {
                trigger: self.trigger.clone(),
                source: ObjectRef::namespaced("GitRepo", &self.namespace, "app"),
                reference: Reference::Branch("main".to_owned()),
                sequence,
            },
            ObjectRef::namespaced("Action", &self.namespace, "deploy"),
            CommitId::digest_of("commit"),
            Timestamp::UNIX_EPOCH,
        )
    }

    pub async fn register(&self, action: &JobAction, sequence: u64) -> RunRef {
        let registered = action.register(&self.request(sequence)).await.unwrap();
        let Registered::New(run) = registered else { unreachable!("it is new: {registered:?}") };
        run
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn job(&self, run: &RunRef) -> Job {
        self.api::<Job>().get(&run.name).await.unwrap()
    }

    pub async fn pods(&self, run: &RunRef) -> Vec<Pod> {
        let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/controller-uid={}", run.uid));
        self.api::<Pod>().list(&of_job).await.unwrap().items
    }

    /// The Pod of a run, as soon as it is there.
    pub async fn pod(&self, run: &RunRef) -> Pod {
        // Not by `eventually`: the future of its closure is not known to be Send.
        let deadline = Instant::now() + WITHIN;
        loop {
            if let Some(pod) = self.pods(run).await.into_iter().next() {
                return pod;
            }
            assert!(Instant::now() < deadline, "{run} has no Pod");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends a run that goes on well, as a node would.
    pub async fn finish(&self, run: &RunRef) {
        let pod = self.pod(run).await;
        let patch = Patch::Merge(json!({ "status": { "phase": "Succeeded" } }));
        self.api::<Pod>().patch_status(&pod.metadata.name.unwrap(), &PatchParams::default(), &patch).await.unwrap();
    }
}
