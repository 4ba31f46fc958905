//! Reconciles Actions and ClusterActions: says whether a Job can be made of them.

use std::{fmt::Debug, sync::Arc, time::Duration};

use git_events_runner_core::{KubeCatalog, ObjectRef, Reason, Retry, crd};
use jiff::Timestamp;
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tracing::warn;

use super::{
    conditions::{Health, Level, Word},
    controller::Guarded,
    sources::BEHIND,
    status,
};

/// How soon to look again at what may be well without a change of the action.
const AGAIN: Duration = Duration::from_secs(5);

/// A kind of actions.
pub trait ActionKind: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static {
    fn name(&self) -> ObjectRef;
    fn status(&self) -> Option<&crd::ActionStatus>;
    /// What its Jobs check out instead of the source that has fired.
    fn checks_out(&self) -> Option<ObjectRef>;
}

impl ActionKind for crd::Action {
    fn name(&self) -> ObjectRef {
        ObjectRef::namespaced("Action", &self.namespace().unwrap_or_default(), &self.name_any())
    }

    fn status(&self) -> Option<&crd::ActionStatus> {
        self.status.as_ref()
    }

    fn checks_out(&self) -> Option<ObjectRef> {
        let over = self.spec.source_override.as_ref()?;
        Some(over.kind.named(&self.namespace().unwrap_or_default(), &over.name))
    }
}

impl ActionKind for crd::ClusterAction {
    fn name(&self) -> ObjectRef {
        ObjectRef::cluster("ClusterAction", &self.name_any())
    }

    fn status(&self) -> Option<&crd::ActionStatus> {
        self.status.as_ref()
    }

    fn checks_out(&self) -> Option<ObjectRef> {
        // It can be nothing else.
        self.spec.source_override.as_ref().map(|over| ObjectRef::cluster("ClusterGitRepo", &over.name))
    }
}

/// What reconciling actions takes.
pub struct Actions {
    pub client: Client,
    pub catalog: KubeCatalog,
    /// Where Jobs of ClusterActions are tried.
    pub namespace: String,
}

/// Everything of an action that makes it worth looking at when it is another.
pub fn relevant<K: ActionKind>(object: &Guarded<K>) -> impl std::hash::Hash + use<K> {
    (object.uid(), object.meta().generation)
}

/// Has the API server look at a Job of an action, says what it thinks of it, and answers when to look again.
pub async fn reconcile<K: ActionKind>(object: Arc<Guarded<K>>, actions: Arc<Actions>) -> Option<Timestamp> {
    let meta = object.meta();
    let (health, before) = match &object.0 {
        Ok(action) if !actions.catalog.knows(&action.name(), meta) => return Some(Timestamp::now() + BEHIND),
        Ok(action) => (actions.look(&action.name()).await, action.status().map(|status| status.conditions.clone()).unwrap_or_default()),
        Err(malformed) => (Health::new(Level::Stalled, Reason::InvalidSpec, malformed.to_string()), vec![]),
    };
    let next = (health.level == Level::Retrying).then(|| Timestamp::now() + AGAIN);
    if Health::said_by(&before, meta.generation).as_ref() == Some(&health) {
        return next;
    }
    if let Err(error) = status::of_other::<K>(&actions.client, meta, &before, &health).await {
        warn!(action = meta.name, "its status cannot be written: {error}");
        return Some(status::again(&error));
    }
    next
}

impl Actions {
    async fn look(&self, id: &ObjectRef) -> Health {
        let failed = |reason: Reason, retry: Retry, message: String| {
            Health::new(if retry == Retry::Never { Level::Stalled } else { Level::Retrying }, reason, message)
        };
        match self.catalog.try_action(id, &self.namespace).await {
            Ok(()) => Health::ready(Word::Valid, "Jobs can be made of it"),
            Err(error) => failed(error.reason(), error.retry(), error.to_string()),
        }
    }
}
