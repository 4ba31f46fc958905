//! Waiting until there is nothing left to do.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use git_events_runner_core::{CommitId, RunPhase, crd, job};
use git_events_runner_tests::wait_for;
use k8s_openapi::api::batch::v1::Job;
use kube::{Api, ResourceExt as _, api::ListParams};

use super::{
    traffic::ask,
    world::{Kind, Trigger, World, repo_name},
};

/// How long what is left to do may take.
const WITHIN: Duration = Duration::from_secs(600);

/// A look is at hundreds of Jobs.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Has everything looked at once more, and waits until there is nothing left to do.
pub async fn come_to_rest(world: &World) {
    let port = world.ports.lock().unwrap()[0];
    for trigger in world.triggers(Kind::Change) {
        wait_for("a last request is accepted", || ask(world, port, &trigger.name)).unwrap();
    }
    let tips: Vec<_> = (0..world.repos.len()).map(|repo| world.tip(repo)).collect();
    let deadline = Instant::now() + WITHIN;
    while let Some(what) = left_to_do(world, &tips).await {
        assert!(Instant::now() < deadline, "{what}, after {WITHIN:?} of rest");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Something that is left to do, if there is anything.
async fn left_to_do(world: &World, tips: &[CommitId]) -> Option<String> {
    let all = ListParams::default();
    let schedule = Api::<crd::ScheduleTrigger>::namespaced(world.client.clone(), &world.namespace).list(&all).await.unwrap();
    let webhook = Api::<crd::WebhookTrigger>::namespaced(world.client.clone(), &world.namespace).list(&all).await.unwrap();
    let schedule = schedule.into_iter().map(|trigger| (trigger.name_any(), trigger.status.unwrap_or_default()));
    let webhook = webhook.into_iter().map(|trigger| (trigger.name_any(), trigger.status.unwrap_or_default()));
    let statuses: BTreeMap<_, _> = schedule.chain(webhook).collect();
    if let Some(left) = world.triggers.iter().find_map(|trigger| left_of(trigger, &statuses[&trigger.name], tips)) {
        return Some(left);
    }
    let jobs = Api::<Job>::namespaced(world.client.clone(), &world.namespace).list(&all).await.unwrap();
    let unfinished = jobs.into_iter().find(|found| job::phase(found) == RunPhase::Running)?;
    Some(format!("{} is unfinished", unfinished.name_any()))
}

fn left_of(trigger: &Trigger, status: &crd::TriggerStatus, tips: &[CommitId]) -> Option<String> {
    let name = &trigger.name;
    if !status.pending.is_empty() || !status.waiting.is_empty() {
        return Some(format!("{name}: {:?} are pending, and {:?} wait", status.pending, status.waiting));
    }
    let mut last_jobs = status.checked_sources.values().filter_map(|source| source.last_job.as_ref());
    if let Some(unfinished) = last_jobs.find(|last| !last.result.is_finished()) {
        return Some(format!("{name}: {unfinished:?} is unfinished"));
    }
    let seen = |source: usize| status.checked_sources.get(&repo_name(source))?.commit_hash.clone();
    let mut sources = trigger.sources.iter().filter(|_| trigger.kind != Kind::Always);
    let behind = *sources.find(|source| seen(**source) != Some(tips[**source].to_string()))?;
    Some(format!("{name}: {} is at {}, and {:?} was acted on", repo_name(behind), tips[behind], seen(behind)))
}
