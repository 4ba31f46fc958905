use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{Action, ActionError, ObjectRef, Registered, Released, RunPhase, RunRef, RunRequest, RunStatus, TriggerId, Withdrawn};

/// Records what is started, and starts nothing. Clones share the record.
///
/// A run goes on until [`finish`](Self::finish) ends it.
#[derive(Clone, Debug)]
pub struct InMemoryAction {
    id: ObjectRef,
    slots: usize,
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    runs: BTreeMap<String, RunStatus>,
    begun: Vec<(RunRef, RunRequest)>,
    registered: u64,
    failure: Option<String>,
}

impl InMemoryAction {
    /// An action that any number of runs may have at a time.
    pub fn new(id: ObjectRef) -> Self {
        Self { id, slots: usize::MAX, content: Arc::default() }
    }

    /// The same action, of which only so many runs may be unfinished at a time.
    #[must_use]
    pub fn with_slots(mut self, slots: usize) -> Self {
        self.slots = slots;
        self
    }

    /// How many runs may be unfinished at a time.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// All runs that have begun, in that order.
    pub fn begun(&self) -> Vec<RunRequest> {
        self.lock().begun.iter().map(|(_, request)| request.clone()).collect()
    }

    /// All runs that exist.
    pub fn all(&self) -> Vec<RunStatus> {
        self.lock().runs.values().cloned().collect()
    }

    /// Ends a run that has begun; otherwise nothing happens.
    pub fn finish(&self, name: &str, phase: RunPhase, now: Timestamp) {
        if let Some(status) = self.lock().runs.get_mut(name)
            && status.phase == RunPhase::Running
        {
            status.phase = phase;
            status.finished = Some(now);
        }
    }

    /// Deletes a run behind everybody's back.
    pub fn delete(&self, name: &str) {
        let mut content = self.lock();
        match content.runs.get_mut(name) {
            Some(status) if status.phase == RunPhase::Waiting => status.phase = RunPhase::Deleted,
            Some(status) if status.phase != RunPhase::Deleted => drop(content.runs.remove(name)),
            _ => {}
        }
    }

    /// From now on every call fails with this message; None ends that.
    pub fn fail_with(&self, message: Option<&str>) {
        self.lock().failure = message.map(str::to_owned);
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn working(&self) -> Result<MutexGuard<'_, Content>, ActionError> {
        let content = self.lock();
        match &content.failure {
            Some(message) => Err(ActionError::Unavailable(message.clone().into())),
            None => Ok(content),
        }
    }
}

#[async_trait]
impl Action for InMemoryAction {
    fn id(&self) -> &ObjectRef {
        &self.id
    }

    async fn register(&self, run: &RunRequest) -> Result<Registered, ActionError> {
        let mut content = self.working()?;
        let name = run.key.name();
        if let Some(existing) = content.runs.get(&name) {
            return if existing.request.key == run.key {
                Ok(Registered::Existing(Box::new(existing.clone())))
            } else {
                Err(ActionError::NotOurs(Box::new(run.key.clone())))
            };
        }
        content.registered += 1;
        let created = RunRef { name: name.clone(), uid: content.registered.to_string() };
        let status = RunStatus { run: created.clone(), request: run.clone(), phase: RunPhase::Waiting, finished: None };
        content.runs.insert(name, status);
        Ok(Registered::New(created))
    }

    async fn release(&self, run: &RunRef) -> Result<Released, ActionError> {
        let mut content = self.working()?;
        let running = content.runs.values().filter(|status| status.phase == RunPhase::Running).count();
        let Some(status) = content.runs.get_mut(&run.name).filter(|status| status.run == *run) else {
            return Ok(Released::Gone);
        };
        match status.phase {
            RunPhase::Waiting => {}
            RunPhase::Deleted => return Ok(Released::Gone),
            RunPhase::Running | RunPhase::Succeeded | RunPhase::Failed => return Ok(Released::Begun),
        }
        if running >= self.slots {
            return Ok(Released::Waiting);
        }
        status.phase = RunPhase::Running;
        let request = status.request.clone();
        content.begun.push((run.clone(), request));
        Ok(Released::Begun)
    }

    async fn get(&self, run: &RunRef) -> Result<Option<RunStatus>, ActionError> {
        Ok(self.working()?.runs.get(&run.name).filter(|status| status.run == *run).cloned())
    }

    async fn unfinished(&self, of: &TriggerId) -> Result<Vec<RunStatus>, ActionError> {
        let content = self.working()?;
        let unfinished = content.runs.values().filter(|status| status.request.key.trigger == *of && !status.phase.has_ended());
        Ok(unfinished.cloned().collect())
    }

    async fn withdraw(&self, run: &RunRef) -> Result<Withdrawn, ActionError> {
        match self.working()?.runs.get_mut(&run.name).filter(|status| status.run == *run) {
            Some(status) if status.phase.has_not_begun() => {
                status.phase = RunPhase::Deleted;
                Ok(Withdrawn::NeverBegins)
            }
            _ => Ok(Withdrawn::TooLate),
        }
    }

    async fn stop(&self, run: &RunRef) -> Result<(), ActionError> {
        let mut content = self.working()?;
        if content.runs.get(&run.name).is_some_and(|status| status.run == *run) {
            content.runs.remove(&run.name);
        }
        Ok(())
    }
}
