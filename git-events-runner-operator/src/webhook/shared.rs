//! Requests to one trigger that come at the same time share a write.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use git_events_runner_core::{Accepted, FireRequest, Inbox, PendingFull, TriggerId};
use tokio::sync::oneshot;
use tracing::error;

/// How many requests for a trigger may wait for its last write. Those whose senders have hung up make way for others.
const MAX_WAITING: usize = 256;

/// Writes what comes for a trigger while its last write is going on in the next one, all of it together.
pub struct SharedInbox {
    inbox: Arc<dyn Inbox>,
    /// What is to be written for the triggers that something is being written for.
    waiting: Mutex<HashMap<TriggerId, Vec<Waiting>>>,
}

struct Waiting {
    request: FireRequest,
    answer: oneshot::Sender<Result<Accepted, Unrecorded>>,
}

/// Why a request is not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrecorded {
    Full,
    /// The log says why.
    Failed,
}

impl SharedInbox {
    pub fn new(inbox: Arc<dyn Inbox>) -> Arc<Self> {
        Arc::new(Self { inbox, waiting: Mutex::default() })
    }

    /// Adds a request, and answers when it is written.
    pub async fn request(self: &Arc<Self>, id: &TriggerId, request: FireRequest) -> Result<Accepted, Unrecorded> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { request, answer };
        match self.waiting().entry(id.clone()) {
            Entry::Occupied(mut others) => {
                let others = others.get_mut();
                if others.len() >= MAX_WAITING {
                    others.retain(|other| !other.answer.is_closed());
                }
                if others.len() >= MAX_WAITING {
                    return Err(Unrecorded::Full);
                }
                others.push(waiting);
            }
            Entry::Vacant(nobody) => {
                nobody.insert(vec![waiting]);
                // A task of its own: whoever has sent a request may hang up, and others wait for the same write.
                tokio::spawn(Arc::clone(self).write(id.clone()));
            }
        }
        answered.await.unwrap_or(Err(Unrecorded::Failed))
    }

    /// Writes for a trigger until nothing waits.
    async fn write(self: Arc<Self>, id: TriggerId) {
        while let Some(waiting) = self.next(&id) {
            let (requests, answers): (Vec<_>, Vec<_>) = waiting.into_iter().map(|Waiting { request, answer }| (request, answer)).unzip();
            let accepted = self.inbox.request_all(&id, &requests).await.unwrap_or_else(|failed| {
                error!(trigger = %id, "{} requests cannot be recorded: {failed}", requests.len());
                vec![]
            });
            let accepted = accepted.into_iter().map(|accepted| accepted.map_err(|PendingFull| Unrecorded::Full));
            for (answer, accepted) in answers.into_iter().zip(accepted) {
                // Who has hung up does not want to know.
                let _ = answer.send(accepted);
            }
        }
    }

    /// What waits now. None: nothing does, and nobody writes for the trigger any more.
    fn next(&self, id: &TriggerId) -> Option<Vec<Waiting>> {
        let mut all = self.waiting();
        let waiting = std::mem::take(all.get_mut(id)?);
        if waiting.is_empty() {
            all.remove(id);
            return None;
        }
        Some(waiting)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<TriggerId, Vec<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
