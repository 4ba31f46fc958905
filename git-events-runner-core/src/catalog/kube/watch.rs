use std::{collections::BTreeMap, fmt::Debug, mem, pin::pin, sync::Arc};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

use super::{CatalogStores, Stores};
use crate::{ObjectRef, Scope};

/// Told which object has changed.
type Changed = Arc<dyn Fn(ObjectRef) + Send + Sync>;

impl CatalogStores {
    /// Watches this part of a cluster. The future fills the stores for as long as it is polled; it does not end by itself.
    ///
    /// `changed` is told which object is new, gone, or has another specification or other labels, when the stores have it already. It is
    /// called between two events of a watch, so it must not block.
    pub fn watch(client: &Client, scope: &Scope, changed: impl Fn(ObjectRef) + Send + Sync + 'static) -> (Self, BoxFuture<'static, ()>) {
        let (changed, mut watches): (Changed, _) = (Arc::new(changed), vec![]);
        let stores = Self {
            git_repos: stores(scope.apis(client), &changed, &mut watches),
            cluster_git_repos: stores(vec![Api::all(client.clone())], &changed, &mut watches),
            actions: stores(scope.apis(client), &changed, &mut watches),
            cluster_actions: stores(vec![Api::all(client.clone())], &changed, &mut watches),
            namespaces: stores(vec![Api::all(client.clone())], &changed, &mut watches),
        };
        (stores, Box::pin(join_all(watches).map(drop)))
    }
}

/// A store for each of these, and what fills it.
fn stores<K>(apis: Vec<Api<DeserializeGuard<K>>>, changed: &Changed, watches: &mut Vec<BoxFuture<'static, ()>>) -> Stores<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let watched = apis.into_iter().map(|api| {
        let (store, writer) = reflector::store();
        watches.push(Box::pin(fill(api, writer, Arc::clone(changed))));
        store
    });
    watched.collect()
}

async fn fill<K>(api: Api<DeserializeGuard<K>>, writer: Writer<DeserializeGuard<K>>, changed: Changed)
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    // Nobody here reads who has written which field, and that is much of an object.
    let events = watcher(api, watcher::Config::default()).default_backoff().modify(|object| object.managed_fields_mut().clear());
    let (mut events, mut known) = (pin!(events.reflect(writer)), Known::default());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => known.take(&event).into_iter().for_each(&*changed),
            Err(error) => tracing::warn!(kind = %K::kind(&()), "a watch was interrupted, and goes on: {error}"),
        }
    }
}

/// What of an object matters here: not its status, which is written often.
type Version = (Option<String>, Option<i64>, BTreeMap<String, String>);

/// The objects of a watch, each in the version that was told of.
#[derive(Default)]
struct Known {
    told: BTreeMap<ObjectRef, Version>,
    /// Those of the list that is being received.
    listed: BTreeMap<ObjectRef, Version>,
}

impl Known {
    /// What an event changes.
    fn take<K: Resource<DynamicType = ()>>(&mut self, event: &Event<K>) -> Vec<ObjectRef> {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                self.listed.insert(id(object), version(object));
            }
            Event::InitDone => return self.replace(),
            Event::Apply(object) => {
                let version = version(object);
                if self.told.insert(id(object), version.clone()) != Some(version) {
                    return vec![id(object)];
                }
            }
            Event::Delete(object) => return self.told.remove_entry(&id(object)).into_iter().map(|(id, _)| id).collect(),
        }
        vec![]
    }

    /// The list is complete: what is not in it was deleted while nobody watched.
    fn replace(&mut self) -> Vec<ObjectRef> {
        let before = mem::replace(&mut self.told, mem::take(&mut self.listed));
        let other = self.told.iter().filter(|(id, version)| before.get(id) != Some(version)).map(|(id, _)| id);
        let gone = before.keys().filter(|id| !self.told.contains_key(id));
        other.chain(gone).cloned().collect()
    }
}

fn id<K: Resource<DynamicType = ()>>(object: &K) -> ObjectRef {
    ObjectRef { kind: K::kind(&()).into_owned(), namespace: object.namespace(), name: object.name_any() }
}

fn version<K: Resource>(object: &K) -> Version {
    (object.uid(), object.meta().generation, object.labels().clone())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    use super::*;

    fn object(name: &str, generation: i64) -> Namespace {
        let metadata = ObjectMeta { name: Some(name.to_owned()), generation: Some(generation), ..ObjectMeta::default() };
        Namespace { metadata, ..Namespace::default() }
    }

    fn told(known: &mut Known, events: Vec<Event<Namespace>>) -> Vec<String> {
        events.iter().flat_map(|event| known.take(event)).map(|id| id.name).collect()
    }

    fn list(objects: &[(&str, i64)]) -> Vec<Event<Namespace>> {
        let objects = objects.iter().map(|(name, generation)| Event::InitApply(object(name, *generation)));
        [Event::Init].into_iter().chain(objects).chain([Event::InitDone]).collect()
    }

    #[test]
    fn what_is_listed_is_told_when_the_list_is_complete() {
        let mut known = Known::default();
        let mut events = list(&[("a", 1), ("b", 1)]);
        let done = events.pop().unwrap();
        assert!(told(&mut known, events).is_empty());
        assert_eq!(told(&mut known, vec![done]), ["a", "b"]);
    }

    #[test]
    fn a_list_after_a_gap_tells_what_differs_and_what_is_gone() {
        let mut known = Known::default();
        told(&mut known, list(&[("a", 1), ("b", 1), ("c", 1)]));
        assert_eq!(told(&mut known, list(&[("a", 1), ("b", 2), ("d", 1)])), ["b", "d", "c"]);
        assert!(told(&mut known, list(&[("a", 1), ("b", 2), ("d", 1)])).is_empty());
    }

    #[test]
    fn a_change_of_the_status_alone_is_not_told() {
        let mut known = Known::default();
        assert_eq!(told(&mut known, vec![Event::Apply(object("a", 1)), Event::Apply(object("a", 1))]), ["a"]);
        assert_eq!(told(&mut known, vec![Event::Apply(object("a", 2)), Event::Delete(object("a", 2))]), ["a", "a"]);
        let mut labelled = object("a", 2);
        labelled.labels_mut().insert("team".to_owned(), "a".to_owned());
        assert_eq!(told(&mut known, vec![Event::Apply(object("a", 2)), Event::Apply(labelled)]), ["a", "a"]);
    }
}
