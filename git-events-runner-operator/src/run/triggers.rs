//! Reconciles triggers: evaluates them, follows what became of their runs, and says how they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use git_events_runner_core::{
    Catalog as _, KubeCatalog, KubeStore, Plan, Reason, RunResult, StateError, Trigger, TriggerId, crd,
    engine::{self, EvaluateError, Evaluation, Failure, Memory, Outcome, Settled},
};
use jiff::Timestamp;
use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{PartialObjectMeta, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{
    conditions::{Health, Level},
    controller::Guarded,
    firings::Firings,
    hooks,
    problems::{Problem, Problems},
    sources::Recheck,
    status,
    turns::Turns,
};
use crate::{
    events::{self, Events, Happening},
    metrics::Metrics,
    webhook::NoProof,
};

/// How soon to look again for what a trigger names and what is not there: later each time, up to the second.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(1);
const LOOK_UP_AT_LEAST: Duration = Duration::from_secs(60);

/// How soon to look whether the Secret of a webhook is still there.
const LOOK_UP_SECRETS: Duration = Duration::from_secs(300);

/// What is applied together does not come at once: for so long nothing is said of what a new trigger names and what is not there yet.
const COMES_WITHIN: Duration = Duration::from_secs(3);

/// How long to wait after a write that failed and that nothing else depends on.
const AGAIN: Duration = Duration::from_secs(5);

/// The finalizer that an earlier operator put on triggers, and that nobody else takes off.
const OLD_FINALIZERS: [&str; 2] = ["scheduletriggers.git-events-runner.rs", "webhooktriggers.git-events-runner.rs"];

/// A kind of triggers.
pub trait TriggerKind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug + Send + Sync + 'static
{
    const KIND: &str;
    /// What it does, as far as it can be done.
    fn policy(&self) -> Result<Arc<dyn Trigger>, crd::InvalidSpec>;
    fn status(&self) -> Option<&crd::TriggerStatus>;
    /// What both kinds specify.
    fn spec(&self) -> &crd::TriggerSpec;
    /// What it listens to, if it does.
    fn webhook(&self) -> Option<&crd::Webhook>;
}

impl TriggerKind for crd::ScheduleTrigger {
    const KIND: &str = "ScheduleTrigger";

    fn policy(&self) -> Result<Arc<dyn Trigger>, crd::InvalidSpec> {
        Ok(Arc::new(self.policy(self.id())?))
    }

    fn status(&self) -> Option<&crd::TriggerStatus> {
        self.status.as_ref()
    }

    fn spec(&self) -> &crd::TriggerSpec {
        &self.spec.common
    }

    fn webhook(&self) -> Option<&crd::Webhook> {
        None
    }
}

impl TriggerKind for crd::WebhookTrigger {
    const KIND: &str = "WebhookTrigger";

    fn policy(&self) -> Result<Arc<dyn Trigger>, crd::InvalidSpec> {
        Ok(Arc::new(self.policy(self.id())?))
    }

    fn status(&self) -> Option<&crd::TriggerStatus> {
        self.status.as_ref()
    }

    fn spec(&self) -> &crd::TriggerSpec {
        &self.spec.common
    }

    fn webhook(&self) -> Option<&crd::Webhook> {
        Some(&self.spec.webhook)
    }
}

/// What reconciling triggers takes.
pub struct Triggers {
    pub client: Client,
    pub store: KubeStore,
    pub catalog: KubeCatalog,
    pub turns: Arc<Turns>,
    pub firings: Arc<Firings>,
    pub config: watch::Receiver<Arc<crd::RuntimeConfig>>,
    pub events: Events,
    pub metrics: Metrics,
    pub recheck: Recheck,
    /// Up to when earlier leaders have handled all firings.
    pub handled: Option<Timestamp>,
    pub tracked: Mutex<BTreeMap<TriggerId, Arc<tokio::sync::Mutex<Tracked>>>>,
    /// Those of which something that they name has changed since they were last evaluated.
    pub outdated: Mutex<BTreeSet<TriggerId>>,
}

/// What is remembered of a trigger as long as this leader leads. Losing it loses no event.
pub struct Tracked {
    since: Timestamp,
    memory: Memory,
    looked_up: LookedUp,
    problems: Problems,
    /// What was said last.
    said: Option<(Option<i64>, Health)>,
}

/// When what a trigger names was looked up.
#[derive(Default)]
struct LookedUp {
    /// For which generation of it; None: it is to be looked up.
    generation: Option<i64>,
    /// When to do so again, because something is missing, and how often it was.
    again: Option<Timestamp>,
    times: u32,
}

/// Everything of a trigger that makes it worth looking at when it is another.
pub fn relevant<K: TriggerKind>(object: &Guarded<K>) -> impl Hash + use<K> {
    let meta = object.meta();
    let asked = object.annotations().get(crd::REQUESTED_AT).cloned();
    let status = object.0.as_ref().ok().and_then(TriggerKind::status);
    let pending: Vec<_> = status.iter().flat_map(|status| status.pending.keys()).map(ToString::to_string).collect();
    (meta.uid.clone(), meta.generation, asked, pending, meta.finalizers.clone(), meta.deletion_timestamp.is_some())
}

/// Evaluates a trigger, and answers when to do so again if nothing happens before.
pub async fn reconcile<K: TriggerKind>(object: Arc<Guarded<K>>, triggers: Arc<Triggers>) -> Option<Timestamp> {
    let meta = object.meta();
    let now = Timestamp::now();
    if let Err(error) = triggers.take_over::<K>(meta).await {
        warn!(trigger = object.name_any(), "the finalizer of an earlier operator cannot be removed: {error}");
        return Some(now + AGAIN);
    }
    if meta.deletion_timestamp.is_some() {
        return None;
    }
    let readable = object.0.as_ref().map_err(|malformed| malformed.to_string());
    let usable = readable.and_then(|readable| Ok((readable, readable.policy().map_err(|invalid| invalid.to_string())?)));
    let (readable, trigger) = match usable {
        Ok(usable) => usable,
        Err(message) => {
            let health = Health::new(Level::Stalled, Reason::InvalidSpec, message);
            return triggers.say::<K>(meta, &health).await.err();
        }
    };
    let tracked = triggers.track(readable, trigger.id());
    let mut tracked = tracked.lock().await;
    if triggers.outdated().remove(trigger.id()) {
        tracked.looked_up = LookedUp::default();
        tracked.memory.try_again();
    }
    let next = triggers.evaluate(readable, &trigger, &mut tracked, now).await;
    let come_by = tracked.since + COMES_WITHIN;
    if now < come_by && tracked.problems.may_pass() {
        return Some(next.map_or(come_by, |next| next.min(come_by)));
    }
    for happening in tracked.problems.news() {
        triggers.tell(trigger.id(), happening);
    }
    let health = tracked.problems.health(trigger.plan());
    let said = Some((meta.generation, health));
    if tracked.said != said {
        let (_, health) = said.as_ref()?;
        if let Err(again) = triggers.say::<K>(meta, health).await {
            return Some(next.map_or(again, |next| next.min(again)));
        }
        tracked.said = said;
    }
    next
}

impl Triggers {
    /// Takes off what an earlier operator has left, and what would keep the trigger from ever being deleted.
    async fn take_over<K: TriggerKind>(&self, meta: &ObjectMeta) -> kube::Result<()> {
        let finalizers = meta.finalizers.as_deref().unwrap_or_default();
        let keep: Vec<_> = finalizers.iter().filter(|finalizer| !OLD_FINALIZERS.contains(&finalizer.as_str())).collect();
        if keep.len() == finalizers.len() {
            return Ok(());
        }
        let api = Api::<PartialObjectMeta<K>>::namespaced(self.client.clone(), meta.namespace.as_deref().unwrap_or_default());
        let patch = json!({ "metadata": { "finalizers": keep, "resourceVersion": meta.resource_version, "uid": meta.uid } });
        let name = meta.name.as_deref().unwrap_or_default();
        match api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            // What has changed in the meantime is seen, and this tried again.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(()),
            done => done.map(drop),
        }
    }

    /// What is remembered of a trigger; of one that is new here, that all was handled before it was made or before this leader came.
    fn track<K: TriggerKind>(&self, object: &K, id: &TriggerId) -> Arc<tokio::sync::Mutex<Tracked>> {
        let mut tracked = self.tracked();
        let tracked = tracked.entry(id.clone()).or_insert_with(|| {
            let made = object.meta().creation_timestamp.as_ref().map(|made| made.0);
            let handled = made.max(self.handled).unwrap_or_else(Timestamp::now);
            self.firings.add(id, handled);
            let status = object.status();
            let said = status.and_then(|status| Health::said_by(&status.conditions, object.meta().generation));
            let results = status.iter().flat_map(|status| status.checked_sources.values()).filter_map(|source| source.last_job.as_ref());
            let expired = results.into_iter().any(|job| job.result == RunResult::Expired);
            Arc::new(tokio::sync::Mutex::new(Tracked {
                since: Timestamp::now(),
                memory: Memory::new(handled),
                looked_up: LookedUp::default(),
                problems: Problems::new(expired),
                said: said.map(|said| (object.meta().generation, said)),
            }))
        });
        Arc::clone(tracked)
    }

    /// Forgets triggers that are gone.
    pub fn retain(&self, is_there: impl Fn(&TriggerId) -> bool) {
        self.tracked().retain(|id, _| is_there(id));
        self.outdated().retain(&is_there);
        self.store.retain(&is_there);
        self.turns.retain(&is_there);
        self.firings.retain(&is_there);
    }

    fn tracked(&self) -> MutexGuard<'_, BTreeMap<TriggerId, Arc<tokio::sync::Mutex<Tracked>>>> {
        self.tracked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn evaluate<K: TriggerKind>(
        &self,
        object: &K,
        trigger: &Arc<dyn Trigger>,
        tracked: &mut Tracked,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let (id, begin) = (trigger.id(), Instant::now());
        let (next, settled) = match self.try_evaluate(object, trigger, tracked, now).await {
            Ok((next, true)) => (next, self.settle(trigger, tracked).await),
            Ok((next, false)) => (next, Ok(None)),
            Err(error) => (None, Err(error)),
        };
        self.metrics.evaluated(begin.elapsed());
        let again = match settled {
            Ok(again) => {
                tracked.problems.whole = None;
                again
            }
            // It is gone, and nobody waits for it.
            Err(EvaluateError::State(StateError::NotFound(_))) => return None,
            Err(error) => {
                let again = tracked.memory.failed(&error, now);
                self.metrics.failed(K::KIND, error.reason());
                self.report_failed(id, tracked, &error, again);
                Some(again)
            }
        };
        [next, again].into_iter().flatten().min()
    }

    /// Remembers why an evaluation came to nothing, if somebody can do something about it.
    fn report_failed(&self, id: &TriggerId, tracked: &mut Tracked, error: &EvaluateError, again: Timestamp) {
        let problem = match error {
            EvaluateError::Action(failure) => Problem::of(failure),
            EvaluateError::State(StateError::Malformed(message)) => {
                Problem { reason: error.reason(), is_for_good: true, message: message.clone() }
            }
            EvaluateError::OutdatedPlan => return debug!(trigger = %id, "{error}"),
            EvaluateError::State(StateError::Conflict) => {
                self.metrics.state_conflicts.inc();
                return;
            }
            EvaluateError::State(_) => return warn!(trigger = %id, "cannot be evaluated, next try at {again:.0}: {error}"),
        };
        if tracked.problems.whole.as_ref() != Some(&problem) {
            warn!(trigger = %id, reason = %problem.reason, "cannot be evaluated, next try at {again:.0}: {error}");
        }
        tracked.problems.whole = Some(problem);
    }

    /// Answers when to do so again, and whether there are runs to settle.
    async fn try_evaluate<K: TriggerKind>(
        &self,
        object: &K,
        trigger: &Arc<dyn Trigger>,
        tracked: &mut Tracked,
        now: Timestamp,
    ) -> Result<(Option<Timestamp>, bool), EvaluateError> {
        let by_hand_again = self.take_request_by_hand(object, trigger, now).await?;
        let evaluation = engine::prepare(&**trigger, &self.store, &self.catalog, &mut tracked.memory, now).await?;
        self.firings.evaluated(trigger.id(), evaluation.next);
        self.report_dropped(object, trigger);
        self.report(trigger, tracked, &evaluation);
        let look_up_again = self.look_up(object, trigger, tracked).await;
        let next = [evaluation.next, look_up_again, by_hand_again].into_iter().flatten().min();
        Ok((next, evaluation.to_settle))
    }

    /// Takes what somebody has asked for by an annotation, or answers when to try again: when less is pending.
    async fn take_request_by_hand<K: TriggerKind>(
        &self,
        object: &K,
        trigger: &Arc<dyn Trigger>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, EvaluateError> {
        let handled = object.status().and_then(|status| status.last_handled_request.as_ref());
        let asked = object.annotations().get(crd::REQUESTED_AT).filter(|text| Some(*text) != handled);
        let Some(text) = asked else { return Ok(None) };
        match engine::request_by_hand(&**trigger, &self.store, text, now).await {
            Err(EvaluateError::State(full @ StateError::Full(_))) => {
                warn!(trigger = %trigger.id(), "a request by hand waits: {full}");
                Ok(Some(now + AGAIN))
            }
            taken => taken.map(|_new| None),
        }
    }

    /// Follows what became of the runs, which needs nothing of the action but that it makes Jobs here.
    async fn settle(&self, trigger: &Arc<dyn Trigger>, tracked: &mut Tracked) -> Result<Option<Timestamp>, EvaluateError> {
        let (id, action) = (trigger.id(), &trigger.plan().action);
        let (jobs, timeout) = (self.catalog.jobs(id, action), self.catalog.waiting_timeout(action));
        let settled = engine::settle(&**trigger, &self.store, &jobs, &mut tracked.memory, timeout, Timestamp::now()).await?;
        self.report_settled(trigger, tracked, &settled);
        Ok(settled.next)
    }
}

impl Triggers {
    /// Finds out whether what a trigger names is there, so that it is told before it is needed: once, and again while something is missing.
    async fn look_up<K: TriggerKind>(&self, object: &K, trigger: &Arc<dyn Trigger>, tracked: &mut Tracked) -> Option<Timestamp> {
        let (id, plan, now) = (trigger.id(), trigger.plan(), Timestamp::now());
        let looked_up = &tracked.looked_up;
        if looked_up.generation == Some(plan.generation) && looked_up.again.is_none_or(|again| now < again) {
            return looked_up.again;
        }
        let mut missing = BTreeMap::new();
        for source in &plan.sources {
            if let Err(error) = self.catalog.source(id, source).await {
                missing.insert(Some(source.name.clone()), Problem::of(&Failure::from(error)));
            }
        }
        if let Err(error) = self.catalog.action(id, &plan.action).await {
            missing.insert(None, Problem::of(&Failure::from(error)));
        }
        if let Some(webhook) = object.webhook() {
            let config = Arc::clone(&self.config.borrow());
            if let Err(NoProof { reason, message }) = hooks::proof(webhook, id, &self.catalog, &config).await {
                // What is wrong with a Secret is put right there.
                let problem = Problem { reason, is_for_good: reason == Reason::AuthenticationRequired, message };
                missing.entry(None).or_insert(problem);
            }
        }
        // Nobody tells when a Secret comes, or goes; of everything else this is told.
        let is_to_come = missing.values().any(|problem| !problem.is_for_good);
        let times = if is_to_come { looked_up.times.saturating_add(1) } else { 0 };
        let may_go = object.webhook().is_some_and(|webhook| webhook.auth_config.is_some());
        let again = if is_to_come {
            Some(now + LOOK_UP_AGAIN.saturating_mul(1 << times.min(8)).min(LOOK_UP_AT_LEAST))
        } else {
            may_go.then(|| now + LOOK_UP_SECRETS)
        };
        tracked.looked_up = LookedUp { generation: Some(plan.generation), again, times };
        tracked.problems.missing = missing;
        again
    }

    /// Has everything looked up again that a trigger names, and what has failed tried again, because some of it has changed.
    pub fn look_up_again(&self, id: &TriggerId) {
        self.outdated().insert(id.clone());
    }

    fn outdated(&self) -> MutexGuard<'_, BTreeSet<TriggerId>> {
        self.outdated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of what an evaluation did, and remembers what is wrong.
    fn report(&self, trigger: &Arc<dyn Trigger>, tracked: &mut Tracked, evaluation: &Evaluation) {
        let (id, plan, problems) = (trigger.id(), trigger.plan(), &mut tracked.problems);
        problems.sources.retain(|name, _| plan.source(name).is_some());
        for (source, outcome) in &evaluation.sources {
            self.metrics.checked(outcome);
            let was_held = problems.held.remove(source);
            match outcome {
                Outcome::Unchanged => debug!(trigger = %id, source, "nothing new"),
                Outcome::Awaited => debug!(trigger = %id, source, "the commit that a request speaks of is not there yet"),
                Outcome::Baseline(commit) => self.tell(id, Happening::Baseline { source: source.clone(), commit: *commit }),
                Outcome::Held => {
                    problems.held.insert(source.clone());
                    if !was_held {
                        let why = "until an earlier run has ended, or a place is free among those that wait".to_owned();
                        self.tell(id, Happening::Held { source: source.clone(), why });
                    }
                }
                Outcome::Started(run, request, _) | Outcome::Adopted(run, request) => {
                    info!(trigger = %id, source, %run, commit = %request.commit, "registered");
                    problems.expired = false;
                    self.metrics.runs_registered.inc();
                    self.turns.wait(trigger);
                    self.tell(id, Happening::Registered { run: run.clone(), request: request.clone() });
                }
                Outcome::Failed(failure) => warn!(trigger = %id, source, reason = %failure.reason(), "{failure}"),
            }
            self.report_problem(plan, problems, source, outcome);
        }
    }

    /// Remembers whether a source fails. If that is news, it is looked at whether the source itself is well.
    fn report_problem(&self, plan: &Plan, problems: &mut Problems, source: &str, outcome: &Outcome) {
        let now = match outcome {
            // It was not looked at.
            Outcome::Held => return,
            Outcome::Failed(failure) => Some(Problem::of(failure)),
            _ => None,
        };
        problems.missing.remove(&Some(source.to_owned()));
        let before = problems.sources.remove(source);
        if let Some(source) = plan.source(source).filter(|_| before != now) {
            self.recheck.recheck(source);
        }
        problems.sources.extend(now.map(|now| (source.to_owned(), now)));
    }

    fn report_settled(&self, trigger: &Arc<dyn Trigger>, tracked: &mut Tracked, settled: &Settled) {
        let id = trigger.id();
        for run in &settled.expired {
            warn!(trigger = %id, %run, "has waited too long for its turn, and is given up");
            tracked.problems.expired = true;
            self.metrics.finished(RunResult::Expired);
            self.tell(id, Happening::Expired(run.clone()));
        }
        for run in &settled.deleted {
            warn!(trigger = %id, %run, "was deleted before it began, and is made again");
            self.metrics.finished(RunResult::Deleted);
            self.tell(id, Happening::Deleted(run.clone()));
        }
        if settled.waiting > 0 {
            self.turns.wait(trigger);
        } else {
            self.turns.none_waits(id);
        }
    }

    /// Tells of requests for sources that are not the trigger's any more: the evaluation has dropped them.
    fn report_dropped<K: TriggerKind>(&self, object: &K, trigger: &Arc<dyn Trigger>) {
        let pending = object.status().into_iter().flat_map(|status| &status.pending);
        let dropped = pending.flat_map(|(id, request)| {
            let gone = request.sources.iter().filter(|name| trigger.plan().source(name).is_none());
            gone.map(move |name| format!("{id} for {name}"))
        });
        let dropped: Vec<_> = dropped.collect();
        if !dropped.is_empty() {
            let message = format!("requests for sources that are not the trigger's any more are dropped: {}", dropped.join(", "));
            self.tell(trigger.id(), Happening::RequestsDropped(message));
        }
    }

    pub fn tell(&self, id: &TriggerId, happening: Happening) {
        self.events.tell(events::trigger(id), happening);
    }

    /// Says how a trigger is, or answers when to try again.
    async fn say<K: TriggerKind>(&self, meta: &ObjectMeta, health: &Health) -> Result<(), Timestamp> {
        status::of_trigger::<K>(&self.client, meta, health).await.map_err(|error| {
            warn!(trigger = meta.name, "its status cannot be written: {error}");
            status::again(&error)
        })
    }
}
