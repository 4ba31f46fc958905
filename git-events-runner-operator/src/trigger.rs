//! `git-events-runner trigger`: fires a trigger by hand.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail, ensure};
use git_events_runner_core::{RequestId, RunPhase, RunRef, RunStatus, crd, engine, job};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    args::{self, TriggerName},
    client,
    run::TriggerKind,
    stdout,
};

/// How long the API server may take for an answer, and how often it is asked how far the runs are.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Fires a trigger. It fails if it waits for the runs, and one of them does not end well.
pub fn run(args: args::Trigger) -> anyhow::Result<ExitCode> {
    let args::Trigger { trigger: TriggerName { kind, name }, namespace, wait, timeout } = args;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = client::connect(ANSWER_WITHIN).await?;
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let wait = wait.then_some(timeout);
        match kind {
            args::TriggerKind::Schedule => fire::<crd::ScheduleTrigger>(client, &namespace, &name, wait).await,
            args::TriggerKind::Webhook => fire::<crd::WebhookTrigger>(client, &namespace, &name, wait).await,
        }
    })
}

async fn fire<K: TriggerKind>(client: Client, namespace: &str, name: &str, wait: Option<Duration>) -> anyhow::Result<ExitCode> {
    let triggers = Api::<K>::namespaced(client.clone(), namespace);
    let full_name = format!("{}/{name}", K::KIND.to_lowercase());
    // Another one each time.
    let text = format!("{} {}", Timestamp::now(), uuid::Uuid::new_v4());
    let patch = json!({ "metadata": { "annotations": { crd::REQUESTED_AT: text } } });
    let trigger = match triggers.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(trigger) => trigger,
        Err(kube::Error::Api(answer)) if answer.is_not_found() => bail!("there is no {full_name} in the namespace {namespace}"),
        Err(error) => return Err(error).with_context(|| format!("{full_name} cannot be fired")),
    };
    let is_suspended = trigger.policy().is_ok_and(|policy| policy.plan().suspend);
    let Some(timeout) = wait else {
        let note = if is_suspended { ", and runs when it is not suspended any more" } else { "" };
        stdout::print(&format!("{full_name} is fired{note}\n"))?;
        return Ok(ExitCode::SUCCESS);
    };
    ensure!(!is_suspended, "{full_name} is fired, but it is suspended: it runs when that is over, which is not waited for");
    stdout::print(&format!("{full_name} is fired\n"))?;
    let jobs = Api::<Job>::namespaced(client, namespace);
    let firing = Firing { triggers, jobs, name, text };
    let ended = tokio::time::timeout(timeout, firing.wait()).await;
    let within = humantime::format_duration(timeout);
    let ended = ended.map_err(|_elapsed| anyhow!("{full_name}: its runs have not ended within {within}"))??;
    Ok(if ended { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A trigger that was fired.
struct Firing<'a, K> {
    triggers: Api<K>,
    jobs: Api<Job>,
    name: &'a str,
    text: String,
}

impl<K: TriggerKind> Firing<'_, K> {
    /// Waits until there is a run of each source and all have ended, and tells of each. True: all have ended well.
    async fn wait(&self) -> anyhow::Result<bool> {
        let id = engine::request_id_by_hand(&self.text);
        let mut seen = BTreeMap::<RunRef, (String, RunPhase)>::new();
        loop {
            let begin = Instant::now();
            let trigger = self.triggers.get(self.name).await.with_context(|| format!("{} cannot be read", self.name))?;
            let status = trigger.status().cloned().unwrap_or_default();
            if let Some(why) = status.conditions.iter().find(|condition| condition.type_ == "Stalled" && condition.status == "True") {
                bail!("it cannot run ({}): {}", why.reason, why.message);
            }
            // Its runs are there before the request is gone from there.
            let are_all_there = status.last_handled_request.as_ref() == Some(&self.text) && !status.pending.contains_key(&id);
            let runs = self.runs(&trigger.uid().unwrap_or_default(), &id).await?;
            let is_gone = |run: &RunRef| !runs.iter().any(|there| there.run == *run);
            if let Some((run, (source, _))) = seen.iter().find(|(run, (_, phase))| !phase.is_finished() && is_gone(run)) {
                bail!("{source}: job/{} is gone, and how it would have ended is not known", run.name);
            }
            for RunStatus { run, request, phase, .. } in runs {
                let source = request.key.source.name;
                if seen.get(&run).is_none_or(|(_, before)| *before != phase) {
                    stdout::print(&format!("{source}: job/{} {}\n", run.name, how_far(phase)))?;
                }
                seen.insert(run, (source, phase));
            }
            if are_all_there && seen.values().all(|(_, phase)| phase.is_finished()) {
                ensure!(!seen.is_empty(), "nothing runs: its sources have changed, or its runs were given up");
                return Ok(seen.values().all(|(_, phase)| *phase == RunPhase::Succeeded));
            }
            tokio::time::sleep(ASK_EVERY.saturating_sub(begin.elapsed())).await;
        }
    }

    /// The runs that serve the request.
    async fn runs(&self, uid: &str, id: &RequestId) -> anyhow::Result<Vec<RunStatus>> {
        let of_trigger = ListParams::default().labels(&format!("{}={}", job::TRIGGER_UID, job::label_value(uid)));
        let jobs = self.jobs.list(&of_trigger).await.context("the Jobs cannot be listed")?;
        let runs = jobs.items.iter().filter_map(|job| job::run_status(job).ok());
        Ok(runs.filter(|run| run.request.requests.contains(id)).collect())
    }
}

fn how_far(phase: RunPhase) -> &'static str {
    match phase {
        RunPhase::Waiting => "waits for its turn",
        RunPhase::Running => "has begun",
        RunPhase::Succeeded => "has succeeded",
        RunPhase::Failed => "has failed",
        RunPhase::Deleted => "was deleted before it began",
    }
}
