use crate::{Change, Loaded, StateError, StateStore, TriggerId, TriggerState};

/// How often the same decision is written again because a listener was faster.
const ATTEMPTS: u32 = 20;

/// Writes a decision that was made on `loaded`, or gives it up.
///
/// A conflict means that something was written since. When it was only a listener that appended a request, the same decision holds, and is
/// written again. Another evaluator's write makes it void.
///
/// # Errors
///
/// [`StateError::Conflict`] when the decision is void.
pub async fn record(store: &dyn StateStore, id: &TriggerId, loaded: &Loaded, change: &Change) -> Result<(), StateError> {
    let mut version = loaded.version.clone();
    for _ in 0..ATTEMPTS {
        match store.record(id, &version, change).await {
            Err(StateError::Conflict) => {}
            done => return done,
        }
        let current = store.load(id).await?;
        if current.generation != loaded.generation || acted_on(&current.state) != acted_on(&loaded.state) {
            return Err(StateError::Conflict);
        }
        version = current.version;
    }
    Err(StateError::Conflict)
}

/// Everything that only evaluators write and decisions rest on.
fn acted_on(state: &TriggerState) -> impl PartialEq {
    let sources = state.sources.iter();
    let seen = sources.map(|(name, source)| (name.clone(), source.sequence, source.reference.clone(), source.commit, source.last_firing));
    (seen.collect::<Vec<_>>(), state.waiting.keys().cloned().collect::<Vec<_>>())
}
