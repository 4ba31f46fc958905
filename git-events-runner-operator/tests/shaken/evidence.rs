//! What was seen: by a watch Jobs, their Pods, and who has led; in the history of triggers what their states have named.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
};

use futures_util::StreamExt as _;
use git_events_runner_core::{RunRef, RunRequest, crd, job};
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{batch::v1::Job, coordination::v1::Lease, core::v1::Pod},
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::ListParams,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;

use super::world::{World, wait_a_little};

/// What was seen. A version is that of etcd, of which all objects have one order.
#[derive(Default)]
pub struct Evidence(Mutex<Seen>);

#[derive(Default)]
pub struct Seen {
    /// Jobs, by uid.
    pub registered: BTreeMap<String, (RunRef, RunRequest)>,
    /// Jobs that have begun, by uid, and the version that was the first seen.
    pub begun: BTreeMap<String, u64>,
    /// Runs that the state of their trigger has named, and the version that was the first.
    pub recorded: BTreeMap<RunRef, u64>,
    /// Pods, by uid, and the Job that each is of.
    pub pods: BTreeMap<String, RunRef>,
    /// Jobs that were deleted by hand before they began, by uid, and the version of that; None: whether they were is not known.
    pub deleted: BTreeMap<String, Option<u64>>,
    /// Who has held the Lease, and when that was renewed last. In between was nobody, or nobody knows.
    pub leaders: Vec<(Option<String>, Option<Timestamp>)>,
}

impl Evidence {
    /// Begins to look.
    pub fn collect(world: &World) -> Arc<Self> {
        let evidence = Arc::new(Self::default());
        evidence.follow(world, Seen::job);
        evidence.follow(world, Seen::pod);
        evidence.follow(world, Seen::lease);
        evidence
    }

    fn follow<K>(self: &Arc<Self>, world: &World, note: fn(&mut Seen, &K))
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let (evidence, api) = (Arc::clone(self), Api::<K>::namespaced(world.client.clone(), &world.namespace));
        tokio::spawn(async move {
            let mut events = pin!(watcher(api, watcher::Config::default()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) => note(&mut evidence.seen(), &object),
                    // It may have missed something.
                    Ok(Event::Init) => evidence.seen().leaders.push((None, None)),
                    Ok(_) => {}
                    Err(_) => wait_a_little().await,
                }
            }
        });
    }

    /// Makes sure that nothing is missing of what is there now, and of what states have ever named.
    pub async fn complete(&self, world: &World) {
        self.list(world, Seen::job).await;
        self.list(world, Seen::pod).await;
        for (version, trigger) in world.cluster.history::<crd::ScheduleTrigger>().await.unwrap() {
            self.seen().status(trigger.status, version);
        }
        for (version, trigger) in world.cluster.history::<crd::WebhookTrigger>().await.unwrap() {
            self.seen().status(trigger.status, version);
        }
    }

    async fn list<K>(&self, world: &World, note: fn(&mut Seen, &K))
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(world.client.clone(), &world.namespace);
        let objects = api.list(&ListParams::default()).await.unwrap();
        objects.items.iter().for_each(|object| note(&mut self.seen(), object));
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }

    /// Notes that a Job was deleted by hand.
    pub fn deleted(&self, found: &Job, version: Option<u64>) {
        let mut seen = self.seen();
        seen.job(found);
        seen.deleted.insert(found.uid().unwrap(), version);
    }
}

impl Seen {
    fn job(&mut self, found: &Job) {
        let Ok(status) = job::run_status(found) else { return };
        let uid = status.run.uid.clone();
        // One that is deleted before it begins loses the finalizer, too.
        if !status.phase.has_not_begun() && found.metadata.deletion_timestamp.is_none() {
            self.begun.entry(uid.clone()).or_insert_with(|| version(found));
        }
        self.registered.insert(uid, (status.run, status.request));
    }

    fn pod(&mut self, pod: &Pod) {
        let Some(owner) = pod.owner_references().first() else { return };
        self.pods.insert(pod.uid().unwrap(), RunRef { name: owner.name.clone(), uid: owner.uid.clone() });
    }

    fn status(&mut self, status: Option<crd::TriggerStatus>, version: u64) {
        let Some(status) = status else { return };
        let waiting = status.waiting.iter().map(|(name, waiting)| (name, &waiting.uid));
        let last = status.checked_sources.values().filter_map(|source| source.last_job.as_ref()).map(|last| (&last.name, &last.uid));
        for (name, uid) in waiting.chain(last) {
            self.recorded.entry(RunRef { name: name.clone(), uid: uid.clone() }).or_insert(version);
        }
    }

    fn lease(&mut self, lease: &Lease) {
        let Some(spec) = &lease.spec else { return };
        let leader = spec.holder_identity.clone().filter(|holder| !holder.is_empty());
        self.leaders.push((leader, spec.renew_time.as_ref().map(|time| time.0)));
    }
}

/// Which write of all this object is of.
pub fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_ref().unwrap().parse().unwrap()
}
