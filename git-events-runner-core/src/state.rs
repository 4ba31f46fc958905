//! What is remembered of a trigger between evaluations, and the one way in which it changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Accepted, CommitId, FilesDigest, FireRequest, Reference, RunRef, RunResult};

/// How many requests may be pending at a trigger.
pub const MAX_PENDING: usize = 100;

/// How many bytes they may take, about: etcd keeps no object of more than 1.5 MiB, and there is more in it.
const MAX_PENDING_BYTES: usize = 512 << 10;

/// How many runs of a trigger may wait for their start.
pub const MAX_WAITING: usize = 16;

/// How many requests are pending at most when those are again of which no run has come, and a firing that is held.
pub(crate) const MOST_PENDING: usize = MAX_PENDING + MAX_WAITING + 1;

/// The id of a request to fire: 1 to 63 letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(String);

/// A text is not the id of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request id is 1 to 63 letters, digits, `-`, `_` and `.`")]
pub struct NotARequestId;

impl RequestId {
    /// The request that stands for a firing of the schedule that could not be served at once.
    pub fn scheduled() -> Self {
        Self("scheduled".to_owned())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestId {
    type Err = NotARequestId;

    fn from_str(text: &str) -> Result<Self, NotARequestId> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for RequestId {
    type Error = NotARequestId;

    fn try_from(text: String) -> Result<Self, NotARequestId> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if (1..=63).contains(&text.len()) && text.chars().all(allowed) { Ok(Self(text)) } else { Err(NotARequestId) }
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> Self {
        id.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that is remembered of a trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TriggerState {
    /// The number of the first run of a source that is new: past those of every source that was forgotten, so that one that comes back has
    /// no run again.
    pub first_sequence: u64,
    /// By the source's name: what was last acted on.
    pub sources: BTreeMap<String, SourceState>,
    /// Accepted and not yet acted on, at most [`MAX_PENDING`].
    pub pending: BTreeMap<RequestId, PendingRequest>,
    /// Recorded and not yet known to have begun, by the run's name; at most [`MAX_WAITING`]. Only these are ever released.
    pub waiting: BTreeMap<String, WaitingRun>,
    /// When the action was last started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Timestamp>,
    /// The last request by hand that was taken into `pending`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_request: Option<String>,
}

/// There are [`MAX_PENDING`] requests pending, or fewer that name very many sources, and none of them makes way for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("as many requests are pending as there may be: {max}, or fewer that name very many sources", max = MAX_PENDING)]
pub struct PendingFull;

impl TriggerState {
    /// The number of the next run of a source.
    pub fn next_sequence(&self, source: &str) -> u64 {
        self.sources.get(source).map_or(self.first_sequence, |source| source.sequence)
    }

    /// Adds a request to what is pending, as the contract of [`Inbox`](crate::Inbox) says.
    ///
    /// A request that does not always run replaces those of its kind whose sources are all among its own, but for those that speak of
    /// another commit, for which it is to be waited. If that does not make room, it replaces all of its kind, and takes over their sources.
    ///
    /// # Errors
    ///
    /// [`PendingFull`], and nothing is changed.
    pub fn accept(&mut self, new: &FireRequest) -> Result<Accepted, PendingFull> {
        if self.pending.contains_key(&new.id) {
            return Ok(Accepted::AlreadyPending);
        }
        let collapsible: Vec<_> = self.pending.iter().filter(|(_, old)| !new.request.always && !old.always).collect();
        let says_no_more = |old: &PendingRequest| old.commit.is_none() || old.commit == new.request.commit;
        let is_replaced = |old: &PendingRequest| old.sources.is_subset(&new.request.sources) && says_no_more(old);
        let mut replaced: Vec<_> = collapsible.iter().filter(|(_, old)| is_replaced(old)).copied().collect();
        let mut request = new.request.clone();
        let bytes: usize = self.pending.values().chain([&new.request]).map(PendingRequest::bytes).sum();
        let freed: usize = replaced.iter().map(|(_, old)| old.bytes()).sum();
        if self.pending.len() - replaced.len() >= MAX_PENDING || bytes - freed > MAX_PENDING_BYTES {
            if collapsible.is_empty() {
                return Err(PendingFull);
            }
            request.sources.extend(collapsible.iter().flat_map(|(_, old)| &old.sources).cloned());
            replaced = collapsible;
        }
        let served = replaced.into_iter().map(|(id, old)| (id.clone(), old.sources.clone())).collect();
        Change { served, pending: BTreeMap::from([(new.id.clone(), request)]), ..Change::default() }.apply(self);
        Ok(Accepted::Recorded)
    }
}

/// What was last acted on at one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceState {
    /// What was watched. A source that is watched elsewhere now is new, but for its sequence.
    pub reference: Reference,
    /// The commit last acted on; None after a first run that expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitId>,
    /// The files of that commit that matched the trigger's patterns; None also when that is not known any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesDigest>,
    /// The commit acted on before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<CommitId>,
    /// How many runs of this source there were: the next run's number. It never goes back.
    pub sequence: u64,
    /// The latest instant of the schedule that a run has served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_firing: Option<Timestamp>,
    /// The last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
}

impl SourceState {
    /// Nothing was acted on there yet.
    pub fn new(reference: Reference) -> Self {
        Self { reference, commit: None, files: None, previous: None, sequence: 0, last_firing: None, last_run: None }
    }
}

/// The last run of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// Which run.
    #[serde(flatten)]
    pub run: RunRef,
    /// How it ended, or how far it is.
    pub result: RunResult,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
}

/// A request to fire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingRequest {
    /// The names of the sources that are still to be checked for it.
    pub sources: BTreeSet<String>,
    /// When it came.
    pub received_at: Timestamp,
    /// The commit that it speaks of: a hint, which the source may not show yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitId>,
    /// True: the action starts, changed or not, once for this request. False: it is a reason to look, like any other.
    pub always: bool,
}

impl PendingRequest {
    /// How many bytes it takes as JSON, about.
    fn bytes(&self) -> usize {
        160 + self.sources.iter().map(|name| name.len() + 3).sum::<usize>()
    }
}

/// A run that is recorded and not yet known to have begun, with what it takes to undo it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingRun {
    /// [`RunRef::uid`]: which object of that name may be released.
    pub uid: String,
    /// The source that fired.
    pub source: String,
    /// The number of the run.
    pub sequence: u64,
    /// The instant of its request, which is its place among those that wait.
    pub instant: Timestamp,
    /// Since when it waits.
    pub since: Timestamp,
    /// What the commit of the source goes back to if this run never begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<CommitId>,
    /// The name of the run that was for `previous`: if that one never begins either, it goes back further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<String>,
    /// [`RunRequest::owed_to`](crate::RunRequest::owed_to).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed_to: Option<RequestId>,
}

/// One decision, to be recorded in one write or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// These sources are now so.
    pub sources: BTreeMap<String, SourceState>,
    /// These are not the trigger's any more; they leave pending requests as well.
    pub forgotten: BTreeSet<String>,
    /// These sources leave these pending requests; a request with none left is over.
    pub served: BTreeMap<RequestId, BTreeSet<String>>,
    /// These requests are added or replaced.
    pub pending: BTreeMap<RequestId, PendingRequest>,
    /// These runs wait now.
    pub waiting: BTreeMap<String, WaitingRun>,
    /// These do not wait any more.
    pub not_waiting: BTreeSet<String>,
    /// The action was started now.
    pub last_run: Option<Timestamp>,
    /// This request by hand is in `pending` now.
    pub last_handled_request: Option<String>,
}

impl Change {
    /// True when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Carries the decision out on a state.
    pub fn apply(&self, state: &mut TriggerState) {
        state.sources.extend(self.sources.clone());
        for source in self.forgotten.iter().filter_map(|name| state.sources.remove(name)) {
            state.first_sequence = state.first_sequence.max(source.sequence);
        }
        for (id, request) in &mut state.pending {
            let served = self.served.get(id);
            request.sources.retain(|name| !self.forgotten.contains(name) && !served.is_some_and(|s| s.contains(name)));
        }
        state.pending.extend(self.pending.clone());
        state.pending.retain(|_, request| !request.sources.is_empty());
        state.waiting.extend(self.waiting.clone());
        state.waiting.retain(|name, _| !self.not_waiting.contains(name));
        state.last_run = self.last_run.or(state.last_run);
        if self.last_handled_request.is_some() {
            state.last_handled_request.clone_from(&self.last_handled_request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: &str, sources: &[&str], always: bool) -> FireRequest {
        let sources = sources.iter().map(|&name| name.to_owned()).collect();
        let request = PendingRequest { sources, received_at: Timestamp::UNIX_EPOCH, commit: None, always };
        FireRequest { id: id.parse().unwrap(), request }
    }

    fn pending(state: &TriggerState) -> Vec<(String, String)> {
        let names = |request: &PendingRequest| request.sources.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        state.pending.iter().map(|(id, request)| (id.to_string(), names(request))).collect()
    }

    fn accepted(requests: &[FireRequest]) -> TriggerState {
        let mut state = TriggerState::default();
        for request in requests {
            assert_eq!(state.accept(request), Ok(Accepted::Recorded));
        }
        state
    }

    #[test]
    fn a_request_replaces_those_whose_sources_are_all_among_its_own() {
        let state = accepted(&[request("1", &["a"], false), request("2", &["b", "c"], false), request("3", &["a", "b"], false)]);
        assert_eq!(pending(&state), [("2".into(), "b c".into()), ("3".into(), "a b".into())]);
    }

    #[test]
    fn a_request_does_not_replace_one_that_speaks_of_a_commit_that_it_does_not_speak_of() {
        let of_a_commit = |id: &str, commit: &str| {
            let FireRequest { id, request } = request(id, &["a"], false);
            FireRequest { id, request: PendingRequest { commit: Some(CommitId::digest_of(commit)), ..request } }
        };
        let ids = |requests: &[FireRequest]| accepted(requests).pending.keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(ids(&[of_a_commit("push", "1"), request("pull-request", &["a"], false)]), ["pull-request", "push"]);
        assert_eq!(ids(&[request("pull-request", &["a"], false), of_a_commit("push", "1")]), ["push"]);
        assert_eq!(ids(&[of_a_commit("push", "1"), of_a_commit("push-again", "1")]), ["push-again"]);
        // The first one may come late.
        assert_eq!(ids(&[of_a_commit("second", "2"), of_a_commit("first", "1")]), ["first", "second"]);
    }

    #[test]
    fn a_request_that_always_runs_neither_replaces_nor_is_replaced() {
        let state = accepted(&[request("1", &["a"], true), request("2", &["a"], false), request("3", &["a"], true)]);
        assert_eq!(pending(&state).len(), 3);
        let state = accepted(&[request("1", &["a"], true), request("2", &["a", "b"], false)]);
        assert_eq!(pending(&state).len(), 2);
    }

    #[test]
    fn a_request_that_is_pending_is_not_written_again() {
        let mut state = accepted(&[request("1", &["a"], false)]);
        let before = state.clone();
        assert_eq!(state.accept(&request("1", &["a", "b"], true)), Ok(Accepted::AlreadyPending));
        assert_eq!(state, before);
    }

    #[test]
    fn when_there_is_no_room_requests_collapse_to_one_for_all_their_sources() {
        let distinct: Vec<_> = (0..MAX_PENDING).map(|n| request(&n.to_string(), &[&format!("s{n}")], n == 0)).collect();
        let mut state = accepted(&distinct);
        assert_eq!(state.accept(&request("always", &["x"], true)), Err(PendingFull));
        assert_eq!(state.accept(&request("last", &["x"], false)), Ok(Accepted::Recorded));
        assert_eq!(pending(&state).iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["0", "last"]);
        assert_eq!(state.pending[&"last".parse().unwrap()].sources.len(), MAX_PENDING);
    }

    #[test]
    fn requests_that_name_very_many_sources_are_fewer() {
        let names: Vec<_> = (0..256).map(|n| format!("{n:0>60}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut state = TriggerState::default();
        let mut number = 0..;
        let mut add = |always| state.accept(&request(&number.next().unwrap().to_string(), &names, always));
        let accepted = (0..MAX_PENDING).filter(|_| add(true).is_ok()).count();
        assert_eq!((accepted, add(false)), (32, Err(PendingFull)));
        assert!(serde_json::to_string(&state).unwrap().len() < MAX_PENDING_BYTES);
    }

    #[test]
    fn no_more_requests_are_pending_than_may_be() {
        let always: Vec<_> = (0..MAX_PENDING).map(|n| request(&n.to_string(), &["a"], true)).collect();
        let mut state = accepted(&always);
        let before = state.clone();
        assert_eq!(state.accept(&request("one-more", &["a"], false)), Err(PendingFull));
        assert_eq!(state, before);
    }
}
