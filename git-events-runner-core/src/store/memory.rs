use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{
    Accepted, Change, FireRequest, Inbox, Loaded, MAX_WAITING, PendingFull, StateError, StateStore, TriggerId, TriggerState, Version,
    state::MOST_PENDING,
};

/// Keeps the state of triggers in memory. Clones share it.
///
/// It is stricter than an API server: a sequence that goes back and a state past its limits are errors.
#[derive(Clone, Debug, Default)]
pub struct InMemoryStore {
    triggers: Arc<Mutex<BTreeMap<TriggerId, Stored>>>,
}

#[derive(Clone, Debug, Default)]
struct Stored {
    generation: i64,
    writes: u64,
    state: TriggerState,
}

impl InMemoryStore {
    /// Adds a trigger with an empty state, or gives a known one another generation.
    pub fn add(&self, id: &TriggerId, generation: i64) {
        let mut triggers = self.lock();
        let stored = triggers.entry(id.clone()).or_default();
        stored.generation = generation;
        stored.writes += 1;
    }

    /// Forgets a trigger.
    pub fn remove(&self, id: &TriggerId) {
        self.lock().remove(id);
    }

    /// The state of a trigger, if it is known.
    pub fn state(&self, id: &TriggerId) -> Option<TriggerState> {
        self.lock().get(id).map(|stored| stored.state.clone())
    }

    /// How often the state of a trigger was written.
    pub fn writes(&self, id: &TriggerId) -> u64 {
        self.lock().get(id).map_or(0, |stored| stored.writes)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TriggerId, Stored>> {
        self.triggers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StateStore for InMemoryStore {
    async fn load(&self, id: &TriggerId) -> Result<Loaded, StateError> {
        self.recent(id).ok_or_else(|| StateError::NotFound(id.clone()))
    }

    fn recent(&self, id: &TriggerId) -> Option<Loaded> {
        let triggers = self.lock();
        let stored = triggers.get(id)?;
        Some(Loaded { state: stored.state.clone(), version: Version(stored.writes.to_string()), generation: stored.generation })
    }

    async fn record(&self, id: &TriggerId, version: &Version, change: &Change) -> Result<(), StateError> {
        let mut triggers = self.lock();
        let stored = triggers.get_mut(id).ok_or_else(|| StateError::NotFound(id.clone()))?;
        if version.0 != stored.writes.to_string() {
            return Err(StateError::Conflict);
        }
        let mut state = stored.state.clone();
        change.apply(&mut state);
        check(&stored.state, &state).map_err(|wrong| StateError::Unavailable(wrong.into()))?;
        stored.state = state;
        stored.writes += 1;
        Ok(())
    }
}

#[async_trait]
impl Inbox for InMemoryStore {
    async fn request_all(&self, id: &TriggerId, requests: &[FireRequest]) -> Result<Vec<Result<Accepted, PendingFull>>, StateError> {
        let mut triggers = self.lock();
        let stored = triggers.get_mut(id).ok_or_else(|| StateError::NotFound(id.clone()))?;
        let accepted: Vec<_> = requests.iter().map(|request| stored.state.accept(request)).collect();
        if accepted.contains(&Ok(Accepted::Recorded)) {
            stored.writes += 1;
        }
        Ok(accepted)
    }
}

fn check(before: &TriggerState, after: &TriggerState) -> Result<(), String> {
    let sequence = |state: &TriggerState, name: &str| state.sources.get(name).map(|source| source.sequence);
    for name in after.sources.keys() {
        if sequence(before, name) > sequence(after, name) {
            return Err(format!("the sequence of {name} goes back"));
        }
    }
    if after.pending.len() > MOST_PENDING || after.waiting.len() > MAX_WAITING {
        return Err(format!("{} requests are pending and {} runs are waiting", after.pending.len(), after.waiting.len()));
    }
    Ok(())
}
