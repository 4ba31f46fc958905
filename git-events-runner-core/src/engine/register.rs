use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    Failure, Outcome,
    decide::{self, Causes, Decision},
    release,
};
use crate::{
    Action, ActionError, Catalog, Change, CommitId, ConcurrencyPolicy, Due, LastRun, MAX_WAITING, PendingRequest, Plan, Registered,
    Released, RequestId, RunPhase, RunRef, RunRequest, RunStatus, SourceState, TriggerId, TriggerState, WaitingRun, Withdrawn,
};

/// Turns the decisions about all sources of a trigger into registered runs and one change of its state.
pub struct Work<'a> {
    id: &'a TriggerId,
    plan: &'a Plan,
    state: &'a TriggerState,
    catalog: &'a dyn Catalog,
    now: Timestamp,
    change: Change,
    outcomes: BTreeMap<String, Outcome>,
    /// There is more to do as soon as this is recorded.
    again: bool,
    held: BTreeSet<String>,
    held_at: Option<Timestamp>,
}

impl<'a> Work<'a> {
    pub fn new(id: &'a TriggerId, plan: &'a Plan, state: &'a TriggerState, catalog: &'a dyn Catalog, now: Timestamp) -> Self {
        let (change, outcomes) = (Change::default(), BTreeMap::new());
        Self { id, plan, state, catalog, now, change, outcomes, again: false, held: BTreeSet::new(), held_at: None }
    }

    /// Carries out what was decided for one source, as far as that goes before it is recorded.
    pub async fn carry_out(&mut self, name: &str, causes: &Causes<'_>, decided: Result<Decision, Failure>, due: &Due) {
        let outcome = match decided {
            Ok(Decision::Nothing { served, awaited }) => {
                self.serve(name, served.iter());
                self.serve(name, [&RequestId::scheduled()]);
                if awaited { Outcome::Awaited } else { Outcome::Unchanged }
            }
            Ok(Decision::Baseline { state, served, awaited }) => {
                let commit = state.commit;
                self.serve(name, served.iter().chain([&RequestId::scheduled()]));
                self.again |= awaited;
                self.change.sources.insert(name.to_owned(), *state);
                commit.map_or(Outcome::Unchanged, Outcome::Baseline)
            }
            Ok(Decision::Run { request, more }) => match self.register(name, *request).await {
                Ok(outcome) => {
                    // What is held waits for something to end, and there is nothing to do before that.
                    self.again |= matches!(outcome, Outcome::Adopted(..)) || more && matches!(outcome, Outcome::Started(..));
                    outcome
                }
                Err(failure) => Outcome::Failed(failure),
            },
            Err(failure) => Outcome::Failed(failure),
        };
        if self.must_hold(&outcome, causes, due) {
            self.hold(name, causes);
        }
        self.outcomes.insert(name.to_owned(), outcome);
    }

    async fn register(&mut self, name: &str, request: RunRequest) -> Result<Outcome, Failure> {
        // Those of them that have begun leave the state when they are seen to have: `settle` says when there is room again.
        if self.state.waiting.len() + self.change.waiting.len() >= MAX_WAITING {
            self.again |= !self.change.waiting.is_empty();
            return Ok(Outcome::Held);
        }
        let action = self.catalog.action(self.id, &self.plan.action).await?;
        let unfinished = match self.plan.concurrency {
            ConcurrencyPolicy::Allow => vec![],
            ConcurrencyPolicy::Forbid | ConcurrencyPolicy::Replace => self.unfinished(&*action, &request).await?,
        };
        if self.plan.concurrency == ConcurrencyPolicy::Forbid && !unfinished.is_empty() {
            return Ok(Outcome::Held);
        }
        match action.register(&request).await? {
            Registered::New(run) => {
                self.add(name, &run, &request, RunPhase::Waiting, None);
                self.replace(&*action, &run, unfinished).await?;
                Ok(Outcome::Started(run, Box::new(request), Released::Waiting))
            }
            Registered::Existing(existing) => {
                let RunStatus { run, request, phase, finished } = *existing;
                if phase.has_not_begun() && request.owed_to.is_none() && self.last(name, &request) == Some(request.commit) {
                    // What it was registered for has been undone since: it is nobody's now, and settle removes it.
                    release::skip_number(&mut self.change, self.state, &request.key);
                    self.again = true;
                    return Ok(Outcome::Held);
                }
                self.add(name, &run, &request, phase, finished);
                self.replace(&*action, &run, unfinished).await?;
                Ok(Outcome::Adopted(run, Box::new(request)))
            }
            Registered::Deleting => Err(ActionError::Unavailable(format!("`{}` is still being deleted", request.key.name()).into()).into()),
        }
    }

    /// What of the same source is unfinished. Leftovers that can never begin do not count.
    async fn unfinished(&self, action: &dyn Action, request: &RunRequest) -> Result<Vec<RunStatus>, ActionError> {
        let mut runs = release::earlier_unfinished(action, request).await?;
        runs.retain(|status| status.phase != RunPhase::Waiting || release::is_named(self.state, &status.run));
        Ok(runs)
    }

    /// Has a run take the place of unfinished ones. Those that have not begun never will; if this one does not either, they are undone too.
    async fn replace(&mut self, action: &dyn Action, run: &RunRef, unfinished: Vec<RunStatus>) -> Result<(), ActionError> {
        let mut never_began = vec![];
        for RunStatus { run, phase, .. } in unfinished {
            if phase == RunPhase::Waiting && action.withdraw(&run).await? == Withdrawn::NeverBegins {
                never_began.extend(self.state.waiting.get(&run.name));
            }
            self.change.not_waiting.insert(run.name);
        }
        let first = never_began.into_iter().min_by_key(|waiting| waiting.sequence);
        if let (Some(first), Some(waiting)) = (first, self.change.waiting.get_mut(&run.name)) {
            (waiting.previous, waiting.follows) = (first.previous, first.follows.clone());
        }
        Ok(())
    }

    /// Records a run exactly as it was registered.
    fn add(&mut self, name: &str, run: &RunRef, request: &RunRequest, phase: RunPhase, finished: Option<Timestamp>) {
        let before = self.state.sources.get(name);
        let scheduled = RequestId::scheduled();
        // A held firing is over when this run serves it, or when any look at the source does.
        let held = self.state.pending.get(&scheduled);
        if held.is_some_and(|held| self.plan.on_change_only || request.firing >= Some(held.received_at)) {
            self.serve(name, [&scheduled]);
        }
        for id in &request.requests {
            // Also what came after this state was loaded: whoever registered the run has served it.
            self.change.served.entry(id.clone()).or_default().insert(name.to_owned());
        }
        if phase.has_not_begun() {
            let previous = self.last(name, request);
            let waiting = WaitingRun {
                uid: run.uid.clone(),
                source: name.to_owned(),
                sequence: request.key.sequence,
                instant: request.instant,
                since: request.registered_at,
                previous,
                follows: before.filter(|_| previous.is_some()).and_then(|before| Some(before.last_run.as_ref()?.run.name.clone())),
                owed_to: request.owed_to.clone(),
            };
            self.change.waiting.insert(run.name.clone(), waiting);
        }
        let state = SourceState {
            reference: request.key.reference.clone(),
            commit: Some(request.commit),
            files: request.files.clone(),
            previous: request.previous,
            sequence: request.key.sequence + 1,
            last_firing: request.firing.max(before.and_then(|before| before.last_firing)),
            last_run: Some(LastRun { run: run.clone(), result: phase.into(), finished }),
        };
        self.change.sources.insert(name.to_owned(), state);
    }

    /// The commit last acted on where this run was registered for.
    fn last(&self, name: &str, request: &RunRequest) -> Option<CommitId> {
        self.state.sources.get(name).filter(|state| state.reference == request.key.reference)?.commit
    }

    fn serve<'r>(&mut self, name: &str, requests: impl IntoIterator<Item = &'r RequestId>) {
        for id in requests.into_iter().filter(|id| self.state.pending.get(*id).is_some_and(|request| request.sources.contains(name))) {
            self.change.served.entry(id.clone()).or_default().insert(name.to_owned());
        }
    }

    /// Whether the reason to look at a source would be forgotten, if it were not written down.
    fn must_hold(&self, outcome: &Outcome, causes: &Causes<'_>, due: &Due) -> bool {
        match outcome {
            Outcome::Held => causes.firing.is_some() || causes.requests.is_empty(),
            // The run that was found knows nothing of what was seen now.
            Outcome::Adopted(_, adopted) if self.plan.on_change_only => causes.requests.iter().all(|(id, _)| adopted.requests.contains(id)),
            Outcome::Adopted(_, adopted) => causes.firing.is_some() && causes.firing != adopted.firing,
            Outcome::Failed(_) => due.durable && causes.firing.is_some(),
            Outcome::Started(_, request, _) => !self.plan.on_change_only && causes.firing != request.firing,
            Outcome::Unchanged | Outcome::Baseline(_) | Outcome::Awaited => false,
        }
    }

    /// Writes the firing of a source that is not looked at now down as pending, where it must not be lost.
    pub fn hold_if_durable(&mut self, name: &str, causes: &Causes<'_>, due: &Due) {
        if due.durable && causes.firing.is_some() {
            self.hold(name, causes);
        }
    }

    fn hold(&mut self, name: &str, causes: &Causes<'_>) {
        self.held.insert(name.to_owned());
        self.held_at = self.held_at.max(Some(causes.firing.unwrap_or(self.now)));
    }

    /// The whole decision, with what is held, and without what is not the trigger's any more.
    pub fn finish(mut self, due: &Due) -> (Change, BTreeMap<String, Outcome>, bool) {
        let scheduled = RequestId::scheduled();
        let before = self.state.pending.get(&scheduled);
        if let Some(held) = before {
            let is_over =
                |name: &&String| decide::is_too_late(held, due) || decide::has_run_for(self.plan, self.state, name, held.received_at);
            for name in held.sources.iter().filter(is_over) {
                self.serve(name, [&scheduled]);
            }
        }
        if let Some(held_at) = self.held_at {
            let served = self.change.served.remove(&scheduled).unwrap_or_default();
            let still = before.iter().flat_map(|held| held.sources.difference(&served)).cloned();
            let sources: BTreeSet<_> = still.chain(std::mem::take(&mut self.held)).collect();
            let always = !self.plan.on_change_only;
            // Only the latest firing counts where each runs; where any look serves it, the one that is written is as good.
            let received_at = before.map(|held| held.received_at).filter(|earlier| !always || *earlier > held_at).unwrap_or(held_at);
            let held = PendingRequest { sources, received_at, commit: None, always };
            if before != Some(&held) {
                self.change.pending.insert(scheduled, held);
            }
        }
        let pending = self.state.pending.values().flat_map(|request| &request.sources);
        let gone = self.state.sources.keys().chain(pending).filter(|name| self.plan.source(name).is_none());
        self.change.forgotten = gone.cloned().collect();
        if !self.change.waiting.is_empty() {
            self.change.last_run = Some(self.now);
        }
        (self.change, self.outcomes, self.again)
    }
}
