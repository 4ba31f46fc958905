use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::Timestamp;

use super::trigger_id;
use crate::{
    Accepted, Change, CommitId, FilesDigest, FireRequest, Inbox, LastRun, MAX_PENDING, PendingRequest, Reference, RunRef, RunResult,
    SourceState, StateError, StateStore, TriggerId, TriggerState, WaitingRun,
};

/// What it takes to shake a store.
#[async_trait]
pub trait StoreHarness: Send + Sync {
    /// The store.
    fn store(&self) -> &dyn StateStore;

    /// The inbox on the same content.
    fn inbox(&self) -> &dyn Inbox;

    /// Makes a trigger known, or gives it a higher generation, and answers which it is: a store may have a namespace and uids of its own.
    async fn add(&self, id: &TriggerId, generation: i64) -> TriggerId;

    /// Loses what is not durable, as a crash would, and opens the same content again.
    async fn restart(&mut self);
}

/// Checks the contracts of [`StateStore`] and [`Inbox`].
pub async fn state_store<H: StoreHarness, F: Future<Output = H> + Send>(new: impl Fn() -> F + Send + Sync) {
    what_is_not_known_is_not_found(&new().await).await;
    a_change_is_written_whole_and_outlives_a_crash(new().await).await;
    a_change_on_an_old_version_is_refused_whole(&new().await).await;
    of_changes_at_once_one_is_written(&new().await).await;
    a_request_is_kept_and_outlives_a_crash(new().await).await;
    requests_at_once_are_all_kept(&new().await).await;
    requests_collapse_and_those_that_always_run_do_not(&new().await).await;
    no_more_is_pending_than_may_be(&new().await).await;
    requests_that_are_added_together_are_accepted_one_after_the_other(&new().await).await;
    triggers_do_not_touch_each_other(&new().await).await;
}

async fn what_is_not_known_is_not_found(harness: &impl StoreHarness) {
    let known = harness.add(&trigger_id("known", "1"), 1).await;
    let version = harness.store().load(&known).await.unwrap().version;
    for id in [TriggerId { name: "unknown".to_owned(), ..known.clone() }, TriggerId { uid: "2".to_owned(), ..known.clone() }] {
        let loaded = harness.store().load(&id).await;
        assert!(matches!(loaded, Err(StateError::NotFound(_))), "load of {id:?}, which is not known: {loaded:?}");
        let recorded = harness.store().record(&id, &version, &change()).await;
        assert!(matches!(recorded, Err(StateError::NotFound(_))), "record for {id:?}, which is not known: {recorded:?}");
        let requested = harness.inbox().request(&id, &request("r", &["a"], false)).await;
        assert!(matches!(requested, Err(StateError::NotFound(_))), "request to {id:?}, which is not known: {requested:?}");
    }
    assert_eq!(state(harness, &known).await, TriggerState::default(), "a new trigger has an empty state");
}

async fn a_change_is_written_whole_and_outlives_a_crash(mut harness: impl StoreHarness) {
    let id = harness.add(&trigger_id("app", "1"), 3).await;
    let loaded = harness.store().load(&id).await.unwrap();
    assert_eq!(loaded.generation, 3, "load answers the generation");
    harness.store().record(&id, &loaded.version, &change()).await.unwrap();
    let mut expected = TriggerState::default();
    change().apply(&mut expected);
    assert_eq!(state(&harness, &id).await, expected, "record writes the whole change");
    assert_ne!(harness.store().load(&id).await.unwrap().version, loaded.version, "a write makes another version");

    harness.restart().await;
    let again = harness.store().load(&id).await.unwrap();
    assert_eq!((again.state, again.generation), (expected.clone(), 3), "what record has answered is durable");
    let undone = Change {
        forgotten: expected.sources.keys().cloned().collect(),
        not_waiting: expected.waiting.keys().cloned().collect(),
        served: expected.pending.iter().map(|(id, request)| (id.clone(), request.sources.clone())).collect(),
        ..Change::default()
    };
    harness.store().record(&id, &again.version, &undone).await.unwrap();
    undone.apply(&mut expected);
    assert_eq!(state(&harness, &id).await, expected, "record removes what the change removes");
}

async fn a_change_on_an_old_version_is_refused_whole(harness: &impl StoreHarness) {
    let id = harness.add(&trigger_id("app", "1"), 1).await;
    let refused = async |after: &str, version| {
        let before = harness.store().load(&id).await.unwrap();
        let recorded = harness.store().record(&id, &version, &change_of("other", 7)).await;
        assert!(matches!(recorded, Err(StateError::Conflict)), "record on a version before {after}: {recorded:?}");
        assert_eq!(harness.store().load(&id).await.unwrap(), before, "record that met a conflict has written nothing");
    };
    let old = harness.store().load(&id).await.unwrap().version;
    harness.store().record(&id, &old, &change()).await.unwrap();
    refused("another change", old).await;
    let old = harness.store().load(&id).await.unwrap().version;
    harness.inbox().request(&id, &request("r", &["a"], true)).await.unwrap();
    refused("a request", old).await;
    let old = harness.store().load(&id).await.unwrap().version;
    let before = state(harness, &id).await;
    harness.add(&id, 2).await;
    refused("another generation", old).await;
    let after = harness.store().load(&id).await.unwrap();
    assert_eq!((after.state, after.generation), (before, 2), "another generation keeps the state");
}

async fn of_changes_at_once_one_is_written(harness: &impl StoreHarness) {
    let id = harness.add(&trigger_id("app", "1"), 1).await;
    for round in 0..5 {
        let version = harness.store().load(&id).await.unwrap().version;
        let changes: Vec<_> = (0..8).map(|n| change_of(&format!("source-{n}"), round + 1)).collect();
        let recorded = join_all(changes.iter().map(|change| harness.store().record(&id, &version, change))).await;
        let written = recorded.iter().filter(|recorded| recorded.is_ok()).count();
        assert_eq!(written, 1, "of changes on the same version one is written: {recorded:?}");
        let conflicts = recorded.iter().filter(|recorded| matches!(recorded, Err(StateError::Conflict))).count();
        assert_eq!(conflicts, 7, "the others meet a conflict: {recorded:?}");
        let state = state(harness, &id).await;
        let in_state = state.sources.values().filter(|source| source.sequence == round + 1).count();
        assert_eq!(in_state, 1, "only the change that was answered is written");
    }
}

async fn a_request_is_kept_and_outlives_a_crash(mut harness: impl StoreHarness) {
    let id = harness.add(&trigger_id("app", "1"), 1).await;
    let version = harness.store().load(&id).await.unwrap().version;
    harness.store().record(&id, &version, &change_of("a", 5)).await.unwrap();
    let before = state(&harness, &id).await;
    let asked = request("r", &["a", "b"], false);
    assert_eq!(harness.inbox().request(&id, &asked).await.unwrap(), Accepted::Recorded, "a new request is recorded");
    harness.restart().await;
    let expected = TriggerState { pending: BTreeMap::from([(asked.id.clone(), asked.request.clone())]), ..before };
    assert_eq!(state(&harness, &id).await, expected, "a request is durable, and touches nothing else");

    let before = harness.store().load(&id).await.unwrap();
    let other = FireRequest { id: asked.id.clone(), ..request("x", &["c"], true) };
    assert_eq!(harness.inbox().request(&id, &other).await.unwrap(), Accepted::AlreadyPending, "an id that is pending is not new");
    assert_eq!(harness.store().load(&id).await.unwrap(), before, "a request that is pending writes nothing");
}

async fn requests_at_once_are_all_kept(harness: &impl StoreHarness) {
    let id = harness.add(&trigger_id("app", "1"), 1).await;
    let requests: Vec<_> = (0..20).map(|n| request(&format!("r{n}"), &["a"], true)).collect();
    let evaluator = async {
        for sequence in 1..=5 {
            loop {
                let version = harness.store().load(&id).await.unwrap().version;
                match harness.store().record(&id, &version, &change_of("a", sequence)).await {
                    Ok(()) => break,
                    Err(StateError::Conflict) => {}
                    Err(error) => panic!("record beside requests: {error}"),
                }
            }
        }
    };
    let listeners = join_all(requests.iter().map(|request| harness.inbox().request(&id, request)));
    let (accepted, ()) = futures_util::future::join(listeners, evaluator).await;
    assert!(accepted.iter().all(|accepted| matches!(accepted, Ok(Accepted::Recorded))), "requests need no version: {accepted:?}");
    let state = state(harness, &id).await;
    assert_eq!(state.pending.len(), requests.len(), "requests at once, and beside a change, are all kept");
    assert_eq!(state.sources["a"].sequence, 5, "a change beside requests is kept");
}

async fn requests_collapse_and_those_that_always_run_do_not(harness: &impl StoreHarness) {
    let id = harness.add(&trigger_id("app", "1"), 1).await;
    let mut expected = TriggerState::default();
    let requests = [
        request("1", &["a"], false),
        request("2", &["b", "c"], false),
        request("3", &["a"], true),
        request("4", &["a", "b"], false),
        request("5", &["a"], true),
        request("6", &["a", "b", "c"], false),
        request("7", &["b"], false),
    ];
    for request in requests {
        let accepted = harness.inbox().request(&id, &request).await.unwrap();
        assert_eq!(accepted, expected.accept(&request).unwrap(), "{} is accepted as `TriggerState::accept` says", request.id);
        assert_eq!(state(harness, &id).await, expected, "requests collapse as `TriggerState::accept` says, in one write");
    }
}

async fn no_more_is_pending_than_may_be(harness: &impl StoreHarness) {
    let id = harness.add(&trigger_id("app", "1"), 1).await;
    for n in 0..MAX_PENDING {
        harness.inbox().request(&id, &request(&n.to_string(), &[&format!("s{n}")], n > 0)).await.unwrap();
    }
    let before = harness.store().load(&id).await.unwrap();
    let full = harness.inbox().request(&id, &request("more", &["x"], true)).await;
    assert!(matches!(full, Err(StateError::Full(_))), "there is no room for one more that always runs: {full:?}");
    assert_eq!(harness.store().load(&id).await.unwrap(), before, "a request that is refused writes nothing");
    harness.inbox().request(&id, &request("collapses", &["x"], false)).await.unwrap();
    let state = state(harness, &id).await;
    assert_eq!(state.pending.len(), MAX_PENDING, "what can collapse does, to make room");
    let sources = &state.pending[&"collapses".parse().unwrap()].sources;
    assert_eq!(sources, &BTreeSet::from(["s0".to_owned(), "x".to_owned()]), "and takes over the sources");
}

async fn requests_that_are_added_together_are_accepted_one_after_the_other(harness: &impl StoreHarness) {
    let id = harness.add(&trigger_id("app", "1"), 1).await;
    let mut requests = vec![request("a", &["a"], false), request("b", &["b"], true), request("a", &["a"], false)];
    requests.extend((0..MAX_PENDING).map(|n| request(&n.to_string(), &["c"], true)));
    requests.push(request("d", &["d"], false));
    let mut expected = TriggerState::default();
    let accepted: Vec<_> = requests.iter().map(|request| expected.accept(request)).collect();
    let answered = harness.inbox().request_all(&id, &requests).await.unwrap();
    assert_eq!(answered, accepted, "of requests that are added together each is accepted as `TriggerState::accept` says");
    assert_eq!(state(harness, &id).await, expected, "what is accepted of requests that are added together is written");
    assert_eq!(harness.inbox().request_all(&id, &[]).await.unwrap(), [], "none is nothing to add");
}

async fn triggers_do_not_touch_each_other(harness: &impl StoreHarness) {
    let ids = ["a", "a.b", "a-b", &"a".repeat(253), &format!("{}b", "a".repeat(252))];
    let ids = ids.iter().zip(1..).map(|(name, uid)| trigger_id(name, &uid.to_string()));
    let elsewhere = TriggerId { namespace: "other".to_owned(), ..trigger_id("a", "6") };
    let other_kind = TriggerId { kind: "WebhookTrigger".to_owned(), ..trigger_id("a", "7") };
    let ids = join_all(ids.chain([elsewhere, other_kind]).map(async |id| harness.add(&id, 1).await)).await;
    for (id, sequence) in ids.iter().zip(1..) {
        let version = harness.store().load(id).await.unwrap().version;
        harness.store().record(id, &version, &change_of("source", sequence)).await.unwrap();
    }
    for (id, sequence) in ids.iter().zip(1..) {
        assert_eq!(state(harness, id).await.sources["source"].sequence, sequence, "each trigger has a state of its own: {id:?}");
    }
}

async fn state(harness: &impl StoreHarness, id: &TriggerId) -> TriggerState {
    harness.store().load(id).await.unwrap().state
}

fn request(id: &str, sources: &[&str], always: bool) -> FireRequest {
    let sources = sources.iter().map(|&name| name.to_owned()).collect();
    let commit = Some(CommitId::digest_of(id));
    FireRequest { id: id.parse().unwrap(), request: PendingRequest { sources, received_at: instant(1), commit, always } }
}

fn instant(second: i64) -> Timestamp {
    // With fractions, which a store has to keep.
    Timestamp::new(1_767_225_600 + second, 123_456_789).unwrap()
}

/// A change with something in every field.
fn change() -> Change {
    let pending = [request("pending", &["a", "b"], true), request("scheduled", &["a"], false)];
    let waiting = WaitingRun {
        uid: "42".to_owned(),
        source: "a".to_owned(),
        sequence: 3,
        instant: instant(2),
        since: instant(3),
        previous: Some(CommitId::digest_of("previous")),
        follows: Some("run-before".to_owned()),
        owed_to: Some("request".parse().unwrap()),
    };
    Change {
        pending: pending.into_iter().map(|request| (request.id, request.request)).collect(),
        waiting: BTreeMap::from([("run".to_owned(), waiting)]),
        last_run: Some(instant(5)),
        last_handled_request: Some("by hand \u{1F680} \"quoted\"\n".to_owned()),
        ..change_of("a", 4)
    }
}

fn change_of(source: &str, sequence: u64) -> Change {
    let state = SourceState {
        reference: Reference::Branch("feature/ü".to_owned()),
        commit: Some(CommitId::digest_of("commit")),
        files: Some(FilesDigest { patterns: "p".to_owned(), files: None }),
        previous: Some(CommitId::digest_of("previous")),
        sequence,
        last_firing: Some(instant(6)),
        last_run: Some(LastRun {
            run: RunRef { name: "run".to_owned(), uid: "42".to_owned() },
            result: RunResult::Failed,
            finished: Some(instant(7)),
        }),
    };
    Change { sources: BTreeMap::from([(source.to_owned(), state)]), ..Change::default() }
}
