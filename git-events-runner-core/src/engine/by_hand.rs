use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{EvaluateError, record::record};
use crate::{Change, FireRequest, PendingRequest, RequestId, StateError, StateStore, Trigger, TriggerState};

/// Takes a request that somebody has made by hand into what is pending: each source runs once for it, changed or not.
///
/// `text` is whatever tells it from the request before, and is remembered as [`TriggerState::last_handled_request`]. True: it was new.
///
/// # Errors
///
/// [`StateError::Full`] when too much is pending, and what [`evaluate`](super::evaluate()) meets when it writes. Ask again later.
pub async fn request_by_hand(trigger: &dyn Trigger, store: &dyn StateStore, text: &str, now: Timestamp) -> Result<bool, EvaluateError> {
    let (id, plan) = (trigger.id(), trigger.plan());
    let loaded = store.load(id).await?;
    if loaded.state.last_handled_request.as_deref() == Some(text) {
        return Ok(false);
    }
    let sources = plan.sources.iter().map(|source| source.name.clone()).collect();
    let request = PendingRequest { sources, received_at: now, commit: None, always: true };
    let new = FireRequest { id: request_id_by_hand(text), request };
    let mut accepted = TriggerState { pending: loaded.state.pending.clone(), ..TriggerState::default() };
    accepted.accept(&new).map_err(|_full| StateError::Full(id.clone()))?;
    let change = Change { pending: [(new.id, new.request)].into(), last_handled_request: Some(text.to_owned()), ..Change::default() };
    record(store, id, &loaded, &change).await?;
    Ok(true)
}

/// The id of the request that somebody makes with this text: the same for the same text, so that it is pending once however often it is taken.
pub fn request_id_by_hand(text: &str) -> RequestId {
    let digest: String = Sha256::digest(text)[..10].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("by-hand-{digest}").parse().expect("it is 28 letters, digits and hyphens")
}
