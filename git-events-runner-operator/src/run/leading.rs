//! What the leader does: the controllers of all kinds, and the tasks beside them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt as _;
use git_events_runner_core::{KubeCatalog, KubeStore, Loaded, ObjectRef, RunRef, RunResult, Scope, Trigger, TriggerId, crd, job::Jobs};
use jiff::Timestamp;
use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client};
use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};
use tokio::task::JoinSet;
use tracing::warn;

use super::{
    actions::{self, ActionKind, Actions},
    controller::{Objects, objects},
    firings::Firings,
    jobs::{self, Seen},
    sources::{self, Recheck, Sources},
    triggers::{self, TriggerKind, Triggers},
};
use crate::{
    events::{Events, Happening},
    leader::Leadership,
    metrics::{Metrics, Unfinished},
};

/// How often what is remembered of objects that are gone is forgotten.
const FORGET: Duration = Duration::from_secs(60);

/// How often it is counted what is not over.
const COUNT: Duration = Duration::from_secs(5);

/// How often Jobs are looked at that were deleted before they began.
const LET_GO: Duration = Duration::from_secs(5);

/// What leading takes, and what outlives a leadership.
pub struct Leader {
    pub client: Client,
    pub scope: Scope,
    /// The operator's own.
    pub namespace: String,
    pub parallelism: u16,
    pub config: watch::Receiver<Arc<crd::RuntimeConfig>>,
    pub catalog: KubeCatalog,
    /// Told what of the catalog has changed.
    pub changes: broadcast::Sender<ObjectRef>,
    pub firings: Arc<Firings>,
    pub events: Events,
    pub metrics: Metrics,
}

/// The triggers and actions of all kinds.
#[derive(Clone)]
struct Known {
    schedule: Objects<crd::ScheduleTrigger>,
    webhook: Objects<crd::WebhookTrigger>,
    actions: Objects<crd::Action>,
    cluster_actions: Objects<crd::ClusterAction>,
}

impl Leader {
    /// Leads until it is dropped. All that it has started ends with it, at the next point where it waits.
    pub async fn lead(self: &Arc<Self>, leadership: Leadership) -> anyhow::Result<()> {
        let _leading = self.metrics.leading();
        self.firings.clear();
        let scope = &self.scope;
        let (schedule, schedule_watches) = objects(scope.apis(&self.client));
        let (webhook, webhook_watches) = objects(scope.apis(&self.client));
        let (git_repos, git_repo_watches) = objects(scope.apis(&self.client));
        let (cluster_git_repos, cluster_git_repo_watches) = objects(vec![Api::all(self.client.clone())]);
        let (actions, action_watches) = objects(scope.apis(&self.client));
        let (cluster_actions, cluster_action_watches) = objects(vec![Api::all(self.client.clone())]);
        let known = Known { schedule, webhook, actions, cluster_actions };
        let recheck = Recheck { git_repos, cluster_git_repos, doubted: Arc::default() };
        let triggers = Arc::new(Triggers {
            client: self.client.clone(),
            store: KubeStore::new(self.client.clone()).with_watch({
                let known = known.clone();
                move |id| known.state(id)
            }),
            catalog: self.catalog.clone(),
            turns: Arc::default(),
            firings: Arc::clone(&self.firings),
            config: self.config.clone(),
            events: self.events.clone(),
            metrics: self.metrics.clone(),
            recheck: recheck.clone(),
            handled: leadership.handled_until,
            tracked: Mutex::default(),
            outdated: Mutex::default(),
        });
        let sources = Arc::new(Sources { client: self.client.clone(), catalog: self.catalog.clone(), recheck, failures: Mutex::default() });
        let trial = Arc::new(Actions { client: self.client.clone(), catalog: self.catalog.clone(), namespace: self.namespace.clone() });
        self.catalog.ready().await.map_err(anyhow::Error::from_boxed)?;
        let changes = self.changes.subscribe();
        let n = self.parallelism;
        let mut tasks = JoinSet::new();
        tasks.spawn(schedule_watches.reconcile(n, Arc::clone(&triggers), triggers::relevant, triggers::reconcile));
        tasks.spawn(webhook_watches.reconcile(n, Arc::clone(&triggers), triggers::relevant, triggers::reconcile));
        tasks.spawn(git_repo_watches.reconcile(n, Arc::clone(&sources), sources::relevant, sources::reconcile));
        tasks.spawn(cluster_git_repo_watches.reconcile(n, Arc::clone(&sources), sources::relevant, sources::reconcile));
        tasks.spawn(action_watches.reconcile(n, Arc::clone(&trial), actions::relevant, actions::reconcile));
        tasks.spawn(cluster_action_watches.reconcile(n, trial, actions::relevant, actions::reconcile));
        tasks.spawn(Arc::clone(self).follow_jobs(known.clone(), Arc::clone(&triggers)));
        tasks.spawn(Arc::clone(self).give_turns(known.clone(), Arc::clone(&triggers)));
        tasks.spawn(follow_changes(changes, known.clone(), Arc::clone(&triggers)));
        tasks.spawn(count_unfinished(known.clone(), triggers.metrics.clone()));
        tasks.spawn(forget(known, triggers, sources));
        match tasks.join_next().await {
            Some(Err(panicked)) => Err(panicked.into()),
            _ => anyhow::bail!("a controller has ended, which must not be"),
        }
    }

    /// Tells of Jobs that end, and lets others begin.
    async fn follow_jobs(self: Arc<Self>, known: Known, triggers: Arc<Triggers>) {
        known.are_known().await;
        let ours = Jobs::new(self.client.clone(), self.scope.clone(), self.config.clone());
        let mut seen = std::pin::pin!(jobs::watch(&self.client, &self.scope));
        let mut withdrawn = BTreeMap::new();
        let mut now_and_then = tokio::time::interval(LET_GO);
        loop {
            let seen = tokio::select! {
                seen = seen.next() => seen,
                _ = now_and_then.tick() => {
                    let_go(&ours, &known, &mut withdrawn).await;
                    continue;
                }
            };
            match seen {
                Some(Seen::Ended(job, (run, request), result)) => {
                    triggers.turns.one_has_ended();
                    known.reconcile(&request.key.trigger).await;
                    self.metrics.finished(result);
                    let source = request.key.source.name.clone();
                    triggers.tell(&request.key.trigger, Happening::Finished { run, source, result });
                    if let Err(error) = ours.free_slot(&job).await {
                        warn!(job = job.metadata.name, "{error}");
                    }
                }
                Some(Seen::Withdrawn(job, (run, request))) => {
                    known.reconcile(&request.key.trigger).await;
                    withdrawn.insert(run, (job, request.key.trigger));
                }
                Some(Seen::Gone((run, request))) => {
                    withdrawn.remove(&run);
                    triggers.turns.one_has_ended();
                    known.reconcile(&request.key.trigger).await;
                }
                Some(Seen::Listed) => {
                    triggers.turns.one_has_ended();
                    for id in known.running() {
                        known.reconcile(&id).await;
                    }
                }
                None => return,
            }
        }
    }

    /// Lets runs begin in the order of all triggers: of those, too, that an earlier leader has left waiting.
    async fn give_turns(self: Arc<Self>, known: Known, triggers: Arc<Triggers>) {
        known.are_known().await;
        for trigger in known.waiting() {
            triggers.turns.wait(&trigger);
        }
        for (id, handled) in known.all() {
            self.firings.add(&id, handled.max(triggers.handled).unwrap_or_default());
        }
        self.firings.all_are_added();
        loop {
            for (run, request) in triggers.turns.give(&triggers.store, &triggers.catalog).await {
                self.metrics.runs_released.inc();
                triggers.tell(&request.key.trigger, Happening::Released(run));
                known.reconcile(&request.key.trigger).await;
            }
        }
    }
}

impl Known {
    async fn are_known(&self) {
        tokio::join!(self.schedule.are_known(), self.webhook.are_known(), self.actions.are_known(), self.cluster_actions.are_known());
    }

    /// Has an action reconciled.
    async fn reconcile_action(&self, id: &ObjectRef) {
        match id.namespace.as_deref() {
            Some(namespace) => self.actions.reconcile(Some(namespace), &id.name).await,
            None => self.cluster_actions.reconcile(None, &id.name).await,
        }
    }

    /// Has a trigger reconciled.
    async fn reconcile(&self, id: &TriggerId) {
        match id.kind.as_str() {
            crd::ScheduleTrigger::KIND => self.schedule.reconcile(Some(&id.namespace), &id.name).await,
            crd::WebhookTrigger::KIND => self.webhook.reconcile(Some(&id.namespace), &id.name).await,
            _ => {}
        }
    }

    /// The state of a trigger as it was last seen.
    fn state(&self, id: &TriggerId) -> Option<Loaded> {
        fn of<K: TriggerKind>(triggers: &Objects<K>, id: &TriggerId) -> Option<Loaded> {
            let object = triggers.get(Some(&id.namespace), &id.name)?;
            let trigger = object.0.as_ref().ok()?;
            KubeStore::loaded(id, trigger.meta(), trigger.spec(), trigger.status())
        }
        match id.kind.as_str() {
            crd::ScheduleTrigger::KIND => of(&self.schedule, id),
            crd::WebhookTrigger::KIND => of(&self.webhook, id),
            _ => None,
        }
    }

    /// Something of each trigger that can be read.
    fn map<T>(&self, schedule: impl Fn(&crd::ScheduleTrigger) -> Option<T>, webhook: impl Fn(&crd::WebhookTrigger) -> Option<T>) -> Vec<T> {
        let schedules = self.schedule.all();
        let webhooks = self.webhook.all();
        let schedules = schedules.iter().filter_map(|object| schedule(object.0.as_ref().ok()?));
        schedules.chain(webhooks.iter().filter_map(|object| webhook(object.0.as_ref().ok()?))).collect()
    }

    /// The triggers of which runs wait.
    fn waiting(&self) -> Vec<Arc<dyn Trigger>> {
        fn of<K: TriggerKind>(trigger: &K) -> Option<Arc<dyn Trigger>> {
            trigger.status().filter(|status| !status.waiting.is_empty())?;
            trigger.policy().ok()
        }
        self.map(of, of)
    }

    /// The triggers of which runs may be unfinished.
    fn running(&self) -> Vec<TriggerId> {
        let is_running = |status: Option<&crd::TriggerStatus>| status.is_some_and(|status| status.usable_state() == crd::State::Running);
        self.map(|t| is_running(t.status.as_ref()).then(|| t.id()), |t| is_running(t.status.as_ref()).then(|| t.id()))
    }

    /// What of all triggers is not over.
    fn unfinished(&self) -> Unfinished {
        let of = |status: Option<&crd::TriggerStatus>| {
            let status = status?;
            let last = status.checked_sources.values().filter_map(|source| source.last_job.as_ref());
            let running = last.filter(|last| last.result == RunResult::Running).count();
            Some((status.waiting.len(), running, status.pending.len()))
        };
        let mut sum = Unfinished::default();
        for (waiting, running, pending) in self.map(|trigger| of(trigger.status.as_ref()), |trigger| of(trigger.status.as_ref())) {
            sum.waiting += waiting;
            sum.running += running;
            sum.pending += pending;
        }
        sum
    }

    /// The actions that check out one of these.
    fn overriding(&self, sources: &BTreeSet<ObjectRef>) -> Vec<ObjectRef> {
        fn of<K: ActionKind>(actions: &Objects<K>, sources: &BTreeSet<ObjectRef>) -> Vec<ObjectRef> {
            let all = actions.all();
            let usable = all.iter().filter_map(|action| action.0.as_ref().ok());
            usable.filter(|action| action.checks_out().is_some_and(|source| sources.contains(&source))).map(ActionKind::name).collect()
        }
        [of(&self.actions, sources), of(&self.cluster_actions, sources)].concat()
    }

    /// The triggers that name one of these, or are in it.
    fn naming(&self, objects: &BTreeSet<ObjectRef>) -> Vec<TriggerId> {
        let names = |id: &TriggerId, spec: &crd::TriggerSpec| {
            let kind = spec.sources.kind;
            objects.contains(&ObjectRef::cluster("Namespace", &id.namespace))
                || spec.sources.names.iter().any(|name| objects.contains(&kind.named(&id.namespace, name)))
                || objects.contains(&spec.action.kind.named(&id.namespace, &spec.action.name))
        };
        self.map(|t| Some(t.id()).filter(|id| names(id, &t.spec.common)), |t| Some(t.id()).filter(|id| names(id, &t.spec.common)))
    }

    /// All triggers that can be evaluated, and when each was made.
    fn all(&self) -> BTreeMap<TriggerId, Option<Timestamp>> {
        fn made(meta: &ObjectMeta) -> Option<Timestamp> {
            meta.creation_timestamp.as_ref().map(|made| made.0)
        }
        fn of<K: TriggerKind>(trigger: &K) -> Option<(TriggerId, Option<Timestamp>)> {
            let meta = trigger.meta();
            let is_evaluated = meta.deletion_timestamp.is_none();
            Some((trigger.policy().ok().filter(|_| is_evaluated)?.id().clone(), made(meta)))
        }
        self.map(of, of).into_iter().collect()
    }
}

/// Has triggers reconciled when something that they name has changed.
async fn follow_changes(mut changes: broadcast::Receiver<ObjectRef>, known: Known, triggers: Arc<Triggers>) {
    known.are_known().await;
    loop {
        let mut changed = BTreeSet::new();
        let all = match changes.recv().await {
            Ok(first) => {
                changed.insert(first);
                // Those that came at once are looked for at once.
                while let Ok(next) = changes.try_recv() {
                    changed.insert(next);
                }
                false
            }
            Err(RecvError::Lagged(_)) => true,
            Err(RecvError::Closed) => return,
        };
        let overriding = known.overriding(&changed);
        for action in &overriding {
            known.reconcile_action(action).await;
        }
        changed.extend(overriding);
        let ids = if all { known.all().into_keys().collect() } else { known.naming(&changed) };
        for id in ids {
            triggers.look_up_again(&id);
            known.reconcile(&id).await;
        }
    }
}

/// Lets Jobs vanish that were deleted before they began, when their trigger is gone as well: nobody else would.
async fn let_go(jobs: &Jobs, known: &Known, withdrawn: &mut BTreeMap<RunRef, (Box<Job>, TriggerId)>) {
    let all = if withdrawn.is_empty() { BTreeMap::new() } else { known.all() };
    let orphans: Vec<_> = withdrawn.extract_if(.., |_, (_, trigger)| !all.contains_key(trigger)).collect();
    for (run, (job, trigger)) in orphans {
        if let Err(error) = jobs.let_go(&job).await {
            warn!(%run, "it cannot be let go, and is tried again: {error}");
            withdrawn.insert(run, (job, trigger));
        }
    }
}

/// Counts what is not over.
async fn count_unfinished(known: Known, metrics: Metrics) {
    let mut now_and_then = tokio::time::interval(COUNT);
    known.are_known().await;
    loop {
        now_and_then.tick().await;
        metrics.unfinished(&known.unfinished());
    }
}

/// Forgets what is remembered of objects that are gone.
async fn forget(known: Known, triggers: Arc<Triggers>, sources: Arc<Sources>) {
    let mut now_and_then = tokio::time::interval(FORGET);
    known.are_known().await;
    loop {
        now_and_then.tick().await;
        let all = known.all();
        let number = |kind: &str| all.keys().filter(|id| id.kind == kind).count();
        for kind in [crd::ScheduleTrigger::KIND, crd::WebhookTrigger::KIND] {
            triggers.metrics.triggers(kind, number(kind));
        }
        triggers.retain(|id| all.contains_key(id));
        let there = triggers.recheck.all();
        sources.retain(|id| there.contains(id));
    }
}
