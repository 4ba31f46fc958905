//! Runs as Jobs.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use git_events_runner_core::{
    Action, ActionError, Reason, Registered, Released, Retry, RunPhase, RunRef, RunRequest, Withdrawn, crd,
    job::{self, JobAction, JobCredentials},
    testing::{self, ActionHarness},
};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, ResourceQuota, Secret, VolumeMount},
};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{WITHIN, eventually, run::Runs};

struct Harness {
    runs: Runs,
    action: JobAction,
}

impl Harness {
    async fn new() -> Self {
        let runs = Runs::new(2).await;
        Self { action: runs.action(crd::ActionJob::default(), JobCredentials::None), runs }
    }
}

#[async_trait]
impl ActionHarness for Harness {
    fn action(&self) -> &dyn Action {
        &self.action
    }

    fn request(&self) -> RunRequest {
        self.runs.request(0)
    }

    /// There is no node: a Job has begun when it has a Pod.
    async fn begun(&self, run: &RunRef) -> usize {
        self.runs.pods(run).await.len()
    }

    async fn finish(&self, run: &RunRef) {
        self.runs.finish(run).await;
    }

    async fn restart(&mut self) {
        self.action = self.runs.action(crd::ActionJob::default(), JobCredentials::None);
    }

    fn deadline(&self) -> Duration {
        WITHIN
    }
}

#[tokio::test]
async fn jobs_keep_the_contract_of_actions() {
    testing::action(Harness::new).await;
}

fn action_job(spec: Value) -> crd::ActionJob {
    serde_json::from_value(spec).unwrap()
}

async fn phase(action: &JobAction, run: &RunRef) -> RunPhase {
    action.get(run).await.unwrap().unwrap().phase
}

#[tokio::test]
async fn of_many_released_at_once_as_many_begin_as_may() {
    let runs = Runs::new(4).await;
    let action = runs.action(crd::ActionJob::default(), JobCredentials::None);
    let registered: Vec<_> = join_all((0..12).map(|sequence| runs.register(&action, sequence))).await;
    let released = join_all(registered.iter().map(|run| action.release(run))).await;
    let with = |wanted| released.iter().filter(|released| matches!(released, Ok(found) if *found == wanted)).count();
    assert_eq!((with(Released::Begun), with(Released::Waiting)), (4, 8), "{released:?}");

    let ended = registered.iter().zip(&released).find(|(_, released)| matches!(released, Ok(Released::Begun))).unwrap().0;
    runs.finish(ended).await;
    let job = eventually("it has ended", async || Some(runs.job(ended).await).filter(|job| job::phase(job) == RunPhase::Succeeded)).await;
    runs.jobs.free_slot(&job).await.unwrap();
    assert!(!runs.job(ended).await.labels().contains_key(job::SLOT));
    let again = join_all(registered.iter().map(|run| action.release(run))).await;
    assert_eq!(again.iter().filter(|released| matches!(released, Ok(Released::Begun))).count(), 5, "{again:?}");
}

#[tokio::test]
async fn a_job_that_somebody_deletes_is_kept_until_it_is_stopped() {
    let runs = Runs::new(1).await;
    let action = runs.action(crd::ActionJob::default(), JobCredentials::None);
    let run = runs.register(&action, 0).await;
    runs.api::<Job>().delete(&run.name, &DeleteParams::foreground()).await.unwrap();
    assert_eq!(phase(&action, &run).await, RunPhase::Deleted);
    assert_eq!(action.release(&run).await.unwrap(), Released::Gone);
    let registered = action.register(&runs.request(0)).await.unwrap();
    assert!(matches!(registered, Registered::Existing(status) if status.phase == RunPhase::Deleted));
    action.stop(&run).await.unwrap();
    let gone = async || action.get(&run).await.unwrap().is_none().then_some(());
    eventually("it is gone", gone).await;
}

#[tokio::test]
async fn a_job_that_somebody_lets_begin_has_begun_when_it_is_released() {
    let runs = Runs::new(1).await;
    let action = runs.action(crd::ActionJob::default(), JobCredentials::None);
    let (first, second) = (runs.register(&action, 0).await, runs.register(&action, 1).await);
    assert_eq!(action.release(&first).await.unwrap(), Released::Begun);
    let patch = Patch::Merge(json!({ "spec": { "suspend": false } }));
    runs.api::<Job>().patch(&second.name, &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(action.release(&second).await.unwrap(), Released::Begun, "whether there is room or not");
    assert_eq!(phase(&action, &second).await, RunPhase::Running);
}

#[tokio::test]
async fn a_job_that_somebody_lets_begin_is_not_withdrawn() {
    let runs = Runs::new(1).await;
    let action = runs.action(crd::ActionJob::default(), JobCredentials::None);
    let run = runs.register(&action, 0).await;
    let patch = Patch::Merge(json!({ "spec": { "suspend": false } }));
    runs.api::<Job>().patch(&run.name, &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(action.withdraw(&run).await.unwrap(), Withdrawn::TooLate);
    assert_eq!(phase(&action, &run).await, RunPhase::Running);
}

#[tokio::test]
async fn a_job_of_another_owner_or_with_a_broken_annotation_is_left_alone() {
    let runs = Runs::new(1).await;
    let action = runs.action(crd::ActionJob::default(), JobCredentials::None);
    let (broken, good) = (runs.register(&action, 0).await, runs.register(&action, 1).await);
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { job::RUN: "{" } } }));
    runs.api::<Job>().patch(&broken.name, &PatchParams::default(), &patch).await.unwrap();
    let listed = action.unfinished(&runs.trigger).await.unwrap();
    assert_eq!(listed.into_iter().map(|status| status.run).collect::<Vec<_>>(), [good]);
    let error = action.register(&runs.request(0)).await.unwrap_err();
    assert!(matches!(error, ActionError::NotOurs(_)), "{error}");
    assert!(error.to_string().contains(&broken.name), "{error}");
}

#[tokio::test]
async fn what_the_api_server_refuses_is_an_error_that_names_the_field() {
    let runs = Runs::new(1).await;
    let action = runs.action(action_job(json!({ "env": [{ "name": "A=B", "value": "" }] })), JobCredentials::None);
    let error = action.register(&runs.request(0)).await.unwrap_err();
    assert!(matches!(error, ActionError::Invalid(_)), "{error}");
    assert!(error.to_string().contains("spec.template.spec.containers[0].env"), "{error}");
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_no_fault_of_the_action() {
    let runs = Runs::new(1).await;
    let hard = json!({ "count/jobs.batch": "1" });
    let quota = json!({ "metadata": { "name": "jobs" }, "spec": { "hard": hard } });
    let quotas = runs.api::<ResourceQuota>();
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    // As the controller of quotas would, which does not run.
    let used_up = Patch::Merge(json!({ "status": { "hard": hard, "used": hard } }));
    quotas.patch_status("jobs", &PatchParams::default(), &used_up).await.unwrap();
    let action = runs.action(crd::ActionJob::default(), JobCredentials::None);
    // The API server's own cache of quotas may be a moment behind: until then it lets Jobs through, or does not know the quota's status.
    let mut sequence = 0;
    let error = eventually("a Job exceeds the quota", async || {
        sequence += 1;
        action.register(&runs.request(sequence)).await.err().filter(|error| error.to_string().contains("exceeded quota"))
    })
    .await;
    assert_eq!((error.reason(), error.retry()), (Reason::Forbidden, Retry::Backoff), "{error}");
}

#[tokio::test]
async fn a_job_of_a_queue_is_handed_over_to_kueue() {
    let runs = Runs::new(0).await;
    let action = runs.action(action_job(json!({ "labels": { "kueue.x-k8s.io/queue-name": "q" } })), JobCredentials::None);
    let run = runs.register(&action, 0).await;
    assert!(!runs.job(&run).await.labels().contains_key(job::KUEUE_QUEUE), "not before it is recorded");
    assert_eq!(action.release(&run).await.unwrap(), Released::Begun, "our slots do not count it");
    let job = runs.job(&run).await;
    assert_eq!(job.labels()[job::KUEUE_QUEUE], "q");
    assert_eq!(job.labels()[job::SLOT], job::SLOT_OF_KUEUE);
    assert_eq!(job.spec.unwrap().suspend, Some(true), "Kueue lets it begin");
    assert_eq!(phase(&action, &run).await, RunPhase::Running);
}

#[tokio::test]
async fn credentials_of_its_own_are_there_when_a_job_begins_and_go_with_it() {
    let runs = Runs::new(1).await;
    let action = runs.action(crd::ActionJob::default(), JobCredentials::Own);
    let run = runs.register(&action, 0).await;
    let secrets = runs.api::<Secret>();
    assert!(secrets.get_opt(&run.name).await.unwrap().is_none(), "not before it begins");
    let released = join_all([action.release(&run), action.release(&run)]).await;
    assert!(released.iter().all(|released| matches!(released, Ok(Released::Begun))), "{released:?}");
    let secret = secrets.get(&run.name).await.unwrap();
    assert_eq!(secret.data.clone().unwrap()["token"].0, b"secret");
    assert_eq!(secret.owner_references()[0].uid, run.uid);
    action.stop(&run).await.unwrap();
    eventually("the Secret is gone", async || secrets.get_opt(&run.name).await.unwrap().is_none().then_some(())).await;
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_not_taken() {
    let runs = Runs::new(1).await;
    let action = runs.action(crd::ActionJob::default(), JobCredentials::Own);
    let run = runs.register(&action, 0).await;
    let other = serde_json::from_value(json!({ "metadata": { "name": run.name } })).unwrap();
    runs.api::<Secret>().create(&PostParams::default(), &other).await.unwrap();
    let error = action.release(&run).await.unwrap_err();
    assert!(error.to_string().contains("does not belong to the Job"), "{error}");
    assert_eq!(phase(&action, &run).await, RunPhase::Waiting);
}

#[tokio::test]
async fn the_pod_passes_the_restricted_standard_and_only_the_worker_has_the_token_of_the_service_account() {
    let runs = Runs::new(1).await;
    let enforce = Patch::Merge(json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "restricted" } } }));
    let namespaces = kube::Api::<Namespace>::all(runs.client.clone());
    namespaces.patch(&runs.namespace, &PatchParams::default(), &enforce).await.unwrap();
    let restricted = json!({
        "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
        "podSecurityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
    });
    let action = runs.action(action_job(restricted), JobCredentials::Own);
    let run = runs.register(&action, 0).await;
    action.release(&run).await.unwrap();
    let pod = runs.pod(&run).await.spec.unwrap();
    let mounts = |mounts: &Option<Vec<VolumeMount>>| {
        let mounts = mounts.clone().unwrap().into_iter();
        mounts.map(|mount| (mount.mount_path, mount.name.split("-access-").next().unwrap().to_owned())).collect::<Vec<_>>()
    };
    let token = "/var/run/secrets/kubernetes.io/serviceaccount".to_owned();
    let workdir = ("/action_workdir".to_owned(), "action-workdir".to_owned());
    let credentials = ("/git-credentials".to_owned(), "git-credentials".to_owned());
    let cloner = &pod.init_containers.unwrap()[0];
    assert_eq!(mounts(&cloner.volume_mounts), [workdir.clone(), (token.clone(), "no-service-account-token".to_owned()), credentials]);
    assert_eq!(mounts(&pod.containers[0].volume_mounts), [workdir, (token, "kube-api".to_owned())]);
}
