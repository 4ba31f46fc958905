//! Somebody who deletes Jobs by hand.

use std::{pin::pin, sync::Arc};

use futures_util::StreamExt as _;
use git_events_runner_core::{RunPhase, job};
use git_events_runner_tests::Random;
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, Error, ResourceExt as _,
    api::{DeleteParams, Preconditions},
    runtime::watcher::{self, Event, watcher},
};
use tokio::sync::oneshot;

use super::{
    evidence::{Evidence, version},
    world::{World, wait_a_little},
};

/// One of how many times that a Job is seen that has not begun it is deleted.
const ONE_OF: usize = 10;

/// Deletes Jobs that have not begun, recorded or not, at random, until it is over.
pub async fn delete_some(world: Arc<World>, evidence: Arc<Evidence>, mut random: Random, mut over: oneshot::Receiver<()>) {
    let jobs = Api::<Job>::namespaced(world.client.clone(), &world.namespace);
    let mut seen = pin!(watcher(jobs.clone(), watcher::Config::default()));
    loop {
        let event = tokio::select! {
            event = seen.next() => event.unwrap(),
            _ = &mut over => return,
        };
        match event {
            Ok(Event::Apply(found) | Event::InitApply(found)) => {
                if job::phase(&found) == RunPhase::Waiting && random.below(ONE_OF) == 0 {
                    delete(&jobs, &found, &evidence).await;
                }
            }
            Ok(_) => {}
            Err(_) => wait_a_little().await,
        }
    }
}

/// Deletes a Job if it is still as it was seen.
async fn delete(jobs: &Api<Job>, found: &Job, evidence: &Evidence) {
    let as_seen = Preconditions { uid: found.uid(), resource_version: found.resource_version() };
    match jobs.delete(&found.name_any(), &DeleteParams::background().preconditions(as_seen)).await {
        Ok(deleted) => evidence.deleted(found, deleted.left().as_ref().map(version)),
        // It has begun in the meantime, or is gone.
        Err(Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
        // Nobody knows.
        Err(_) => evidence.deleted(found, None),
    }
}
