//! The state of triggers in their status.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::future::join_all;
use git_events_runner_core::{
    Accepted, Change, CommitId, FireRequest, Inbox, KubeStore, LastRun, MAX_PENDING, MAX_WAITING, PendingFull, PendingRequest, Reference,
    RunRef, RunResult, SourceState, StateError, StateStore, TriggerId, WaitingRun,
    testing::{self, StoreHarness},
};
use git_events_runner_tests::cluster::Namespace;
use jiff::Timestamp;
use kube::{
    Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{cluster, create_trigger, trigger_id, triggers};

struct Harness {
    client: Client,
    store: KubeStore,
    namespaces: [Namespace<'static>; 2],
}

impl Harness {
    async fn new(client: Client) -> Self {
        let cluster = cluster().await;
        let namespaces = [cluster.namespace().await.unwrap(), cluster.namespace().await.unwrap()];
        Self { store: KubeStore::new(client.clone()), client, namespaces }
    }
}

#[async_trait]
impl StoreHarness for Harness {
    fn store(&self) -> &dyn StateStore {
        &self.store
    }

    fn inbox(&self) -> &dyn Inbox {
        &self.store
    }

    async fn add(&self, id: &TriggerId, generation: i64) -> TriggerId {
        let [first, second] = &self.namespaces;
        let namespace = if id.namespace == "other" { second } else { first };
        let mut trigger = create_trigger(&self.client, &id.kind, namespace, &id.name).await;
        while trigger.metadata.generation < Some(generation) {
            let suspend = !trigger.data["spec"]["suspend"].as_bool().unwrap();
            let patch = Patch::Merge(json!({ "spec": { "suspend": suspend } }));
            trigger = triggers(&self.client, &id.kind, namespace).patch(&id.name, &PatchParams::default(), &patch).await.unwrap();
        }
        trigger_id(&trigger)
    }

    async fn restart(&mut self) {
        self.store = KubeStore::new(self.client.clone());
    }
}

#[tokio::test]
async fn the_store_keeps_its_contract() {
    let client = cluster().await.client().await.unwrap();
    testing::state_store(|| Harness::new(client.clone())).await;
}

/// A trigger in a namespace of its own, with a store.
struct Trigger {
    client: Client,
    store: KubeStore,
    id: TriggerId,
    _namespace: Namespace<'static>,
}

impl Trigger {
    async fn new() -> Self {
        let client = cluster().await.client().await.unwrap();
        let namespace = cluster().await.namespace().await.unwrap();
        let id = trigger_id(&create_trigger(&client, "WebhookTrigger", &namespace, "app").await);
        Self { store: KubeStore::new(client.clone()), client, id, _namespace: namespace }
    }

    async fn patch_status(&self, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        let api = triggers(&self.client, &self.id.kind, &self.id.namespace);
        api.patch_status(&self.id.name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn status(&self) -> Value {
        triggers(&self.client, &self.id.kind, &self.id.namespace).get(&self.id.name).await.unwrap().data["status"].clone()
    }

    async fn record(&self, change: &Change) {
        let version = self.store.load(&self.id).await.unwrap().version;
        self.store.record(&self.id, &version, change).await.unwrap();
    }
}

fn ran(source: &str, sequence: u64, result: RunResult) -> Change {
    let run = RunRef { name: format!("{source}-{sequence}"), uid: format!("{source}-{sequence}") };
    let mut state = SourceState::new(Reference::Branch("main".to_owned()));
    state.commit = Some(CommitId::digest_of(sequence.to_string()));
    state.sequence = sequence + 1;
    state.last_run = Some(LastRun { run, result, finished: None });
    Change { sources: [(source.to_owned(), state)].into(), ..Change::default() }
}

#[tokio::test]
async fn a_write_leaves_everything_else_of_the_status_alone() {
    let trigger = Trigger::new().await;
    let condition =
        json!({ "type": "Ready", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" });
    trigger.patch_status(json!({ "conditions": [condition], "observedGeneration": 1, "webhookPath": "/x", "lastRun": "Never" })).await;
    trigger.record(&ran("app", 0, RunResult::Running)).await;
    trigger.store.request(&trigger.id, &request(0, "app", false)).await.unwrap();
    let status = trigger.status().await;
    assert_eq!(status["conditions"], json!([condition]));
    assert_eq!((&status["observedGeneration"], &status["webhookPath"], &status["lastRun"]), (&json!(1), &json!("/x"), &json!("Never")));
}

#[tokio::test]
async fn the_state_in_one_word_and_the_last_result_are_of_the_same_write() {
    let trigger = Trigger::new().await;
    let words = async || {
        let status = trigger.status().await;
        (status["state"].as_str().unwrap().to_owned(), status["lastResult"].as_str().unwrap().to_owned())
    };
    trigger.record(&ran("app", 0, RunResult::Waiting)).await;
    assert_eq!(words().await, ("Running".to_owned(), "Waiting".to_owned()));
    trigger.record(&ran("tools", 0, RunResult::Running)).await;
    trigger.record(&ran("app", 0, RunResult::Succeeded)).await;
    assert_eq!(words().await, ("Running".to_owned(), "Succeeded".to_owned()));
    trigger.record(&ran("tools", 0, RunResult::Failed)).await;
    assert_eq!(words().await, ("Idle".to_owned(), "Failed".to_owned()));
    trigger.patch_status(json!({ "state": "WrongConfig" })).await;
    trigger.record(&ran("app", 1, RunResult::Running)).await;
    assert_eq!(words().await, ("WrongConfig".to_owned(), "Running".to_owned()));
}

#[tokio::test]
async fn what_did_not_change_is_not_written() {
    let trigger = Trigger::new().await;
    trigger.record(&ran("app", 0, RunResult::Running)).await;
    let before = trigger.store.load(&trigger.id).await.unwrap();
    trigger.record(&ran("app", 0, RunResult::Running)).await;
    assert_eq!(trigger.store.load(&trigger.id).await.unwrap(), before);
}

#[tokio::test]
async fn many_requests_at_once_that_replace_each_other_are_all_answered() {
    let trigger = Trigger::new().await;
    let requests: Vec<_> = (0..60).map(|n| request(n, "app", false)).collect();
    let accepted = join_all(requests.iter().map(|request| trigger.store.request(&trigger.id, request))).await;
    assert!(accepted.iter().all(|accepted| matches!(accepted, Ok(Accepted::Recorded))), "{accepted:?}");
    assert_eq!(trigger.store.load(&trigger.id).await.unwrap().state.pending.len(), 1);
}

#[tokio::test]
async fn of_more_requests_at_once_than_there_is_room_for_as_many_are_kept_as_may_be() {
    let trigger = Trigger::new().await;
    let requests: Vec<_> = (0..MAX_PENDING + 10).map(|n| request(n, "app", true)).collect();
    let mut accepted = vec![];
    for at_once in requests.chunks(20) {
        accepted.extend(join_all(at_once.iter().map(|request| trigger.store.request(&trigger.id, request))).await);
    }
    assert_eq!(accepted.iter().filter(|accepted| matches!(accepted, Ok(Accepted::Recorded))).count(), MAX_PENDING, "{accepted:?}");
    assert_eq!(accepted.iter().filter(|accepted| matches!(accepted, Err(StateError::Full(_)))).count(), 10, "{accepted:?}");
    // Those of all runs that wait, which may be undone, and a firing that is held find room all the same.
    let put_back = |number: usize| {
        let pending = (0..number).map(|n| (format!("again-{n}").parse().unwrap(), requests[0].request.clone()));
        Change { pending: pending.collect(), ..Change::default() }
    };
    let version = trigger.store.load(&trigger.id).await.unwrap().version;
    let recorded = trigger.store.record(&trigger.id, &version, &put_back(MAX_WAITING + 2)).await;
    assert!(matches!(recorded, Err(StateError::Full(_))), "{recorded:?}");
    trigger.record(&put_back(MAX_WAITING + 1)).await;
}

#[tokio::test]
async fn requests_of_very_many_sources_leave_room_for_what_is_recorded() {
    let trigger = Trigger::new().await;
    let names: Vec<_> = (0..256).map(|n| format!("{n:0>63}")).collect();
    let runs = |sequence| {
        let sources = names.iter().flat_map(|name| ran(name, sequence, RunResult::Running).sources);
        Change { sources: sources.collect(), ..Change::default() }
    };
    trigger.record(&runs(0)).await;
    let request =
        PendingRequest { sources: names.iter().cloned().collect(), received_at: Timestamp::UNIX_EPOCH, commit: None, always: true };
    let mut numbers = 0..;
    let request = || FireRequest { id: format!("{:0>63}", numbers.next().unwrap()).parse().unwrap(), request: request.clone() };
    let requests: Vec<_> = std::iter::repeat_with(request).take(MAX_PENDING).collect();
    let accepted = trigger.store.request_all(&trigger.id, &requests).await.unwrap();
    assert_eq!(accepted.last(), Some(&Err(PendingFull)));

    let waiting = |n: usize| WaitingRun {
        uid: "0".repeat(36),
        source: names[n].clone(),
        sequence: 1,
        instant: Timestamp::UNIX_EPOCH,
        since: Timestamp::UNIX_EPOCH,
        previous: Some(CommitId::digest_of("previous")),
        follows: Some(format!("{n:0>63}")),
        owed_to: Some(requests[0].id.clone()),
    };
    let waiting = (0..MAX_WAITING).map(|n| (format!("{n:1>63}"), waiting(n)));
    trigger.record(&Change { waiting: waiting.collect(), ..runs(1) }).await;
}

#[tokio::test]
async fn a_status_that_somebody_has_written_by_hand_is_an_error_that_names_the_field() {
    let trigger = Trigger::new().await;
    trigger.patch_status(json!({ "checkedSources": { "app": { "commitHash": "main" } } })).await;
    let error = trigger.store.load(&trigger.id).await.unwrap_err();
    assert!(matches!(error, StateError::Malformed(_)));
    assert!(error.to_string().contains("status.checkedSources.app.commitHash: "), "{error}");
}

fn request(n: usize, source: &str, always: bool) -> FireRequest {
    let request = PendingRequest { sources: [source.to_owned()].into(), received_at: Timestamp::UNIX_EPOCH, commit: None, always };
    FireRequest { id: n.to_string().parse().unwrap(), request }
}

#[tokio::test]
async fn what_a_watch_has_seen_is_used_until_something_is_recorded_that_it_has_not_seen() {
    let trigger = Trigger::new().await;
    let seen = Arc::new(Mutex::new(None));
    let store = KubeStore::new(trigger.client.clone()).with_watch({
        let seen = Arc::clone(&seen);
        move |_| seen.lock().unwrap().clone()
    });
    assert_eq!(store.recent(&trigger.id), None, "nothing was seen");
    let before = store.load(&trigger.id).await.unwrap();
    *seen.lock().unwrap() = Some(before.clone());
    assert_eq!(store.recent(&trigger.id), Some(before.clone()));

    store.record(&trigger.id, &before.version, &ran("app", 0, RunResult::Running)).await.unwrap();
    assert_eq!(store.recent(&trigger.id), None, "what was seen is older than what was recorded");
    let after = store.load(&trigger.id).await.unwrap();
    *seen.lock().unwrap() = Some(after.clone());
    assert_eq!(store.recent(&trigger.id), Some(after.clone()));

    // A write that was refused may have been made, as far as is known here, until somebody looks.
    let refused = store.record(&trigger.id, &before.version, &ran("app", 1, RunResult::Running)).await;
    assert!(matches!(refused, Err(StateError::Conflict)), "{refused:?}");
    assert_eq!(store.load(&trigger.id).await.unwrap(), after);
    assert_eq!(store.recent(&trigger.id), Some(after));
}
