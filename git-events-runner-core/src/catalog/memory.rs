use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{Action, Catalog, CatalogError, Checkout, ObjectRef, Source, TriggerId};

/// Knows what it was given. Clones share it.
///
/// An object of another namespace than the trigger's is not found.
#[derive(Clone, Default)]
pub struct InMemoryCatalog {
    content: Arc<Mutex<Content>>,
}

#[derive(Default)]
struct Content {
    sources: BTreeMap<ObjectRef, Arc<dyn Source>>,
    checkouts: BTreeMap<ObjectRef, Arc<dyn Checkout>>,
    actions: BTreeMap<ObjectRef, Arc<dyn Action>>,
}

impl InMemoryCatalog {
    /// Adds a source, or replaces it.
    pub fn add_source(&self, source: impl Source + 'static) {
        self.lock().sources.insert(source.id().clone(), Arc::new(source));
    }

    /// Says what a source is checked out of.
    pub fn add_checkout(&self, source: &ObjectRef, checkout: impl Checkout + 'static) {
        self.lock().checkouts.insert(source.clone(), Arc::new(checkout));
    }

    /// Adds an action, or replaces it.
    pub fn add_action(&self, action: impl Action + 'static) {
        self.lock().actions.insert(action.id().clone(), Arc::new(action));
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find<T: ?Sized>(of: &TriggerId, id: &ObjectRef, known: &BTreeMap<ObjectRef, Arc<T>>) -> Result<Arc<T>, CatalogError> {
    let usable = id.namespace.as_ref().is_none_or(|namespace| *namespace == of.namespace);
    known.get(id).filter(|_| usable).map(Arc::clone).ok_or_else(|| CatalogError::NotFound(id.clone()))
}

#[async_trait]
impl Catalog for InMemoryCatalog {
    async fn source(&self, of: &TriggerId, source: &ObjectRef) -> Result<Arc<dyn Source>, CatalogError> {
        find(of, source, &self.lock().sources)
    }

    async fn checkout(&self, of: &TriggerId, source: &ObjectRef) -> Result<Arc<dyn Checkout>, CatalogError> {
        find(of, source, &self.lock().checkouts)
    }

    async fn action(&self, of: &TriggerId, action: &ObjectRef) -> Result<Arc<dyn Action>, CatalogError> {
        find(of, action, &self.lock().actions)
    }
}
