//! What the controllers of all kinds have in common: a watch, a cache, a queue, and one reconcile at a time for each object.

use std::{convert::Infallible, fmt::Debug, hash::Hash, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use jiff::Timestamp;
use kube::{
    Api, Resource,
    core::DeserializeGuard,
    runtime::{
        PredicateConfig, WatchStreamExt as _,
        controller::{self, Action as Requeue, ReconcileRequest, applier},
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

/// How many objects may be asked to be reconciled before they are taken into the queue proper, which knows each of them once.
const ASKED: usize = 256;

/// An object, or what is wrong with it: one malformed object must not stop the others.
pub type Guarded<K> = DeserializeGuard<K>;

/// All objects of a kind, as they were last seen. Clones share them.
#[derive(Clone)]
pub struct Objects<K: Resource<DynamicType = ()> + Clone + 'static> {
    parts: Arc<Vec<Part<K>>>,
}

/// Those of one namespace, or of the whole cluster.
struct Part<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<Guarded<K>>,
    asked: mpsc::Sender<ObjectRef<Guarded<K>>>,
    /// Whether all were seen once. The store's own way to wait for that wakes only one of several tasks.
    known: watch::Receiver<bool>,
}

/// What fills [`Objects`], for as long as it runs.
pub struct Watches<K: Resource<DynamicType = ()> + Clone + 'static> {
    watches: Vec<Watch<K>>,
}

struct Watch<K: Resource<DynamicType = ()> + Clone + 'static> {
    api: Api<Guarded<K>>,
    store: Store<Guarded<K>>,
    writer: Writer<Guarded<K>>,
    asked: mpsc::Receiver<ObjectRef<Guarded<K>>>,
    known: watch::Sender<bool>,
}

/// Watches all that these give access to.
pub fn objects<K>(apis: Vec<Api<Guarded<K>>>) -> (Objects<K>, Watches<K>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (mut parts, mut watches) = (vec![], vec![]);
    for api in apis {
        let (store, writer) = reflector::store();
        let (sender, asked) = mpsc::channel(ASKED);
        let (known_sender, known) = watch::channel(false);
        parts.push(Part { store: store.clone(), asked: sender, known });
        watches.push(Watch { api, store, writer, asked, known: known_sender });
    }
    (Objects { parts: Arc::new(parts) }, Watches { watches })
}

impl<K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static> Objects<K> {
    /// The object of this name; None for the namespace of what has none.
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<Guarded<K>>> {
        let object = reference(namespace, name);
        self.parts.iter().find_map(|part| part.store.get(&object))
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Guarded<K>>> {
        self.parts.iter().flat_map(|part| part.store.state()).collect()
    }

    /// Waits until all were seen once.
    pub async fn are_known(&self) {
        for part in self.parts.iter() {
            // It fails only when the watch is gone, and then nobody is left to wait either.
            let _ = part.known.clone().wait_for(|known| *known).await;
        }
    }

    /// Has an object reconciled, if it is there.
    pub async fn reconcile(&self, namespace: Option<&str>, name: &str) {
        let object = reference(namespace, name);
        if let Some(part) = self.parts.iter().find(|part| part.store.get(&object).is_some()) {
            // Nobody takes it when the controller is ending.
            let _ = part.asked.send(object).await;
        }
    }

    /// As [`reconcile`](Self::reconcile), if the controller can take it at once.
    pub fn reconcile_if_not_busy(&self, namespace: Option<&str>, name: &str) {
        let object = reference(namespace, name);
        if let Some(part) = self.parts.iter().find(|part| part.store.get(&object).is_some()) {
            let _ = part.asked.try_send(object);
        }
    }
}

fn reference<K: Resource<DynamicType = ()>>(namespace: Option<&str>, name: &str) -> ObjectRef<Guarded<K>> {
    let object = ObjectRef::new(name);
    match namespace {
        Some(namespace) => object.within(namespace),
        None => object,
    }
}

impl<K> Watches<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    /// Fills the cache, and does nothing else.
    pub async fn run(self) {
        let watches = self.watches.into_iter().map(|Watch { api, writer, known, .. }| {
            seen(api, writer, known).for_each(|seen| {
                seen.err().inspect(report);
                future::ready(())
            })
        });
        future::join_all(watches).await;
    }

    /// Reconciles each object when it is new, when what `relevant` takes of it is another, when somebody asks for it, and when its last
    /// reconcile has said so; at most so many at a time, and none twice at a time.
    pub async fn reconcile<C, R, H, F, D>(self, concurrency: u16, context: Arc<C>, relevant: R, reconcile: F)
    where
        C: Send + Sync + 'static,
        R: Fn(&Guarded<K>) -> H + Copy + Send + 'static,
        H: Hash,
        F: Fn(Arc<Guarded<K>>, Arc<C>) -> D + Copy + Send + 'static,
        D: Future<Output = Option<Timestamp>> + Send + 'static,
    {
        let controllers = self.watches.into_iter().map(|Watch { api, store, writer, asked, known }| {
            let relevant = move |object: &Guarded<K>| Some(hash(&relevant(object)));
            let changed = seen(api, writer, known).predicate_filter(relevant, PredicateConfig::default());
            let changed = changed.map_ok(|object| ReconcileRequest::from(ObjectRef::from_obj(&object)));
            let asked = stream::unfold(asked, async |mut asked| Some((asked.recv().await?, asked)));
            let queue = stream::select(changed, asked.map(|object| Ok(object.into())));
            let reconcile = move |object: Arc<Guarded<K>>, context| {
                Box::pin(async move {
                    object.0.as_ref().err().inspect(|malformed| warn!("it is malformed: {malformed}"));
                    let next = reconcile(object, context).await;
                    Ok::<_, Infallible>(next.map_or_else(Requeue::await_change, |next| Requeue::requeue(until(next))))
                })
            };
            let config = controller::Config::default().concurrency(concurrency);
            let never = |_, error: &Infallible, _| match *error {};
            applier(reconcile, never, Arc::clone(&context), store, Box::pin(queue), config).for_each(|done| {
                match done {
                    Ok(_) => {}
                    Err(controller::Error::QueueError(error)) => report(&error),
                    // It was deleted in the meantime, most often.
                    Err(error) => debug!("{error}"),
                }
                future::ready(())
            })
        });
        future::join_all(controllers).await;
    }
}

/// What a watch sees of objects that are there. What nobody here reads of them is not kept.
fn seen<K>(
    api: Api<Guarded<K>>,
    writer: Writer<Guarded<K>>,
    known: watch::Sender<bool>,
) -> impl futures_util::Stream<Item = Result<Guarded<K>, watcher::Error>> + Send
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|object| object.meta_mut().managed_fields = None)
        .reflect(writer)
        .inspect_ok(move |event| {
            if matches!(event, watcher::Event::InitDone) {
                known.send_replace(true);
            }
        })
        .applied_objects()
}

fn until(instant: Timestamp) -> Duration {
    Duration::try_from(instant.duration_since(Timestamp::now())).unwrap_or_default()
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    value.hash(&mut hasher);
    std::hash::Hasher::finish(&hasher)
}

fn report(error: &watcher::Error) {
    warn!("a watch was interrupted, and goes on: {error}");
}
