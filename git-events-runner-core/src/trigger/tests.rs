use std::time::Duration;

use super::*;
use crate::{
    CommitId, FireRequest, InMemoryAction, InMemoryCatalog, InMemorySource, InMemoryStore, Inbox as _, ObjectRef, PendingRequest,
    Reference, Schedule, SourceState, Watch,
    engine::{self, Evaluation, Memory, Outcome},
};

const NOON: &str = "2026-01-01T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn main_branch() -> Reference {
    Reference::Branch("main".into())
}

fn id() -> TriggerId {
    TriggerId { kind: "Trigger".into(), namespace: "default".into(), name: "trigger".into(), uid: "uid".into() }
}

fn source_id(name: &str) -> ObjectRef {
    ObjectRef::namespaced("GitRepo", "default", name)
}

/// Two sources, of which the state knows `seen` and not `unseen`.
fn plan() -> Plan {
    let action = ObjectRef::namespaced("Action", "default", "action");
    Plan::new(&[&source_id("seen"), &source_id("unseen")], Watch::new(main_branch()), &action)
}

fn always() -> Plan {
    Plan { on_change_only: false, ..plan() }
}

fn record(plan: Plan) -> Plan {
    Plan { on_first_check: OnFirstCheck::Record, ..plan }
}

fn state() -> TriggerState {
    let seen = SourceState {
        reference: main_branch(),
        commit: Some(CommitId::digest_of("seen")),
        files: None,
        previous: None,
        sequence: 1,
        last_firing: None,
        last_run: None,
    };
    TriggerState { sources: [("seen".to_owned(), seen)].into(), ..TriggerState::default() }
}

fn hourly(plan: Plan) -> ScheduleTrigger {
    ScheduleTrigger::new(id(), plan, Schedule::cron("@hourly", None, None, "uid").unwrap())
}

fn each_minute(plan: Plan) -> ScheduleTrigger {
    ScheduleTrigger::new(id(), plan, Schedule::interval(Duration::from_secs(60), "uid").unwrap())
}

fn webhook(plan: Plan) -> WebhookTrigger {
    WebhookTrigger::new(id(), plan)
}

/// What is due at noon, where everything up to then was handled.
fn due_at_noon(trigger: &dyn Trigger, fresh: bool) -> Due {
    trigger.due(&state(), Since { handled: at(NOON), fresh }, at(NOON))
}

fn checked(trigger: &dyn Trigger, fresh: bool) -> Vec<String> {
    due_at_noon(trigger, fresh).check.into_iter().collect()
}

#[test]
fn of_the_firings_that_were_missed_the_latest_is_due() {
    let due = hourly(always()).due(&state(), Since { handled: at("2025-06-01T00:00:00Z"), fresh: false }, at("2026-01-01T12:30:00Z"));
    let expected = Due {
        firing: Some(at(NOON)),
        durable: true,
        check: BTreeSet::new(),
        not_before: None,
        requests: true,
        next: Some(at("2026-01-01T13:00:00Z")),
    };
    assert_eq!(due, expected);
}

#[test]
fn a_firing_is_due_from_its_instant_on_and_only_once() {
    let firing = |handled, now| hourly(plan()).due(&state(), Since { handled: at(handled), fresh: false }, at(now)).firing;
    assert_eq!(firing("2026-01-01T11:59:59Z", "2026-01-01T11:59:59.999Z"), None);
    assert_eq!(firing("2026-01-01T11:59:59Z", NOON), Some(at(NOON)));
    assert_eq!(firing(NOON, "2026-01-01T12:59:59Z"), None);
    assert_eq!(firing("2026-01-01T13:30:00Z", NOON), None, "the clock was put back");
}

#[test]
fn a_firing_later_than_the_starting_deadline_is_not_due() {
    let trigger = hourly(always()).with_starting_deadline(Duration::from_secs(600));
    let due = |now| trigger.due(&state(), Since { handled: at("2026-01-01T11:30:00Z"), fresh: false }, at(now));
    let in_time = due("2026-01-01T12:10:00Z");
    assert_eq!((in_time.firing, in_time.not_before), (Some(at(NOON)), Some(at(NOON))));
    let late = due("2026-01-01T12:10:01Z");
    assert_eq!((late.firing, late.next), (None, Some(at("2026-01-01T13:00:00Z"))));
}

#[test]
fn a_trigger_that_runs_on_change_checks_once_when_its_evaluator_starts() {
    assert_eq!(checked(&each_minute(plan()), true), ["seen", "unseen"]);
    assert_eq!(checked(&hourly(plan()), true), ["seen"]);
    assert_eq!(checked(&hourly(plan()), false), [""; 0]);
    assert_eq!(checked(&hourly(always()), true), [""; 0]);
}

#[test]
fn a_source_without_state_is_checked_at_once_by_an_interval() {
    assert_eq!(checked(&each_minute(plan()), false), ["unseen"]);
    assert_eq!(checked(&each_minute(always()), false), ["unseen"]);
    let elsewhere = Plan { watch: Watch::new(Reference::Tag("v1".into())), ..plan() };
    assert_eq!(checked(&each_minute(elsewhere), false), ["seen", "unseen"]);
}

#[test]
fn a_baseline_is_taken_at_once() {
    for triggers in
        [plan(), always()].map(record).map(|plan| [&hourly(plan.clone()) as &dyn Trigger, &webhook(plan)].map(|t| checked(t, false)))
    {
        assert_eq!(triggers, [["unseen"], ["unseen"]]);
    }
}

#[test]
fn a_firing_must_outlive_the_process_unless_the_next_one_checks_anyway() {
    let durable = |plan: fn() -> Plan| [due_at_noon(&hourly(plan()), false).durable, due_at_noon(&each_minute(plan()), false).durable];
    assert_eq!(durable(always), [true, true]);
    assert_eq!(durable(plan), [true, false], "nothing but its firing makes a cron pattern check `unseen`");
    assert_eq!(durable(|| record(plan())), [false, false]);
    assert_eq!(durable(|| Plan { sources: vec![source_id("seen")], ..plan() }), [false, false]);
}

#[test]
fn a_webhook_trigger_waits_for_requests() {
    for trigger in [webhook(plan()), webhook(always())] {
        assert_eq!(due_at_noon(&trigger, false), Due { requests: true, ..Due::default() });
    }
    assert_eq!(checked(&webhook(plan()), true), ["seen"]);
    assert_eq!(checked(&webhook(always()), true), [""; 0]);
}

#[test]
fn a_recheck_looks_at_known_sources_each_time_so_much_time_has_passed() {
    for plan in [plan(), always()] {
        let trigger = webhook(plan).with_recheck(Duration::from_secs(60)).unwrap();
        let next = due_at_noon(&trigger, false).next.unwrap();
        let due = |handled, now| trigger.due(&state(), Since { handled, fresh: false }, now);
        let just_before = next - Duration::from_nanos(1);
        assert_eq!(due(at(NOON), just_before), Due { requests: true, next: Some(next), ..Due::default() });
        let rechecked = due(at(NOON), next);
        assert_eq!((rechecked.check, rechecked.firing), (["seen".to_owned()].into(), None));
        assert_eq!(rechecked.next, Some(next + Duration::from_secs(60)));
        assert_eq!(due(next, next).check, BTreeSet::new());
    }
    let too_short = webhook(plan()).with_recheck(Duration::from_millis(10)).unwrap_err();
    assert_eq!(too_short.to_string(), "an interval of 10ms is too short: the shortest is `1s`");
}

/// One source, and all that a trigger of it needs.
struct World {
    source: InMemorySource,
    action: InMemoryAction,
    store: InMemoryStore,
    catalog: InMemoryCatalog,
    plan: Plan,
}

impl World {
    fn new(plan: Plan) -> Self {
        let source = InMemorySource::new(source_id("unseen"));
        let action = InMemoryAction::new(plan.action.clone());
        let (store, catalog) = (InMemoryStore::default(), InMemoryCatalog::default());
        catalog.add_source(source.clone());
        catalog.add_action(action.clone());
        let plan = Plan { sources: vec![source_id("unseen")], ..plan };
        store.add(&id(), plan.generation);
        source.push(&main_branch(), &[("file", "first")]);
        Self { source, action, store, catalog, plan }
    }

    async fn evaluate(&self, trigger: &dyn Trigger, memory: &mut Memory, now: &str) -> Evaluation {
        engine::evaluate(trigger, &self.store, &self.catalog, memory, at(now)).await.unwrap()
    }

    /// The instants of the schedule that its runs serve.
    fn firings(&self) -> Vec<Option<Timestamp>> {
        self.action.begun().into_iter().map(|run| run.firing).collect()
    }
}

#[tokio::test]
async fn a_firing_that_cannot_be_served_is_served_by_the_next_process_once() {
    for plan in [plan(), always()] {
        let world = World::new(plan);
        let trigger = hourly(world.plan.clone());
        world.source.fail_with(Some("the network is down"));
        let failed = world.evaluate(&trigger, &mut Memory::new(at("2026-01-01T11:30:00Z")), NOON).await;
        assert!(matches!(failed.sources["unseen"], Outcome::Failed(_)));

        world.source.fail_with(None);
        let mut next_process = Memory::new(at("2026-01-01T12:05:00Z"));
        world.evaluate(&trigger, &mut next_process, "2026-01-01T12:10:00Z").await;
        world.evaluate(&trigger, &mut next_process, "2026-01-01T12:20:00Z").await;
        assert_eq!(world.firings(), [Some(at(NOON))]);
    }
}

#[tokio::test]
async fn a_firing_that_was_held_past_its_starting_deadline_is_given_up() {
    let world = World::new(always());
    let trigger = hourly(world.plan.clone()).with_starting_deadline(Duration::from_secs(600));
    world.source.fail_with(Some("the network is down"));
    let mut memory = Memory::new(at("2026-01-01T11:30:00Z"));
    world.evaluate(&trigger, &mut memory, NOON).await;
    assert_eq!(world.store.state(&id()).unwrap().pending.len(), 1);
    world.source.fail_with(None);
    world.evaluate(&trigger, &mut Memory::new(at("2026-01-01T12:05:00Z")), "2026-01-01T12:20:00Z").await;
    assert_eq!(world.firings(), []);
    assert_eq!(world.store.state(&id()).unwrap().pending.len(), 0);
}

#[tokio::test]
async fn a_schedule_that_runs_on_change_runs_for_each_change_once() {
    let world = World::new(plan());
    let trigger = each_minute(world.plan.clone());
    let mut memory = Memory::new(at(NOON));
    let first = world.evaluate(&trigger, &mut memory, NOON).await.next.unwrap();
    assert_eq!(world.firings(), [None], "the source is new and is not made to wait");
    let second = world.evaluate(&trigger, &mut memory, &first.to_string()).await.next.unwrap();
    world.source.push(&main_branch(), &[("file", "second")]);
    world.evaluate(&trigger, &mut memory, &second.to_string()).await;
    assert_eq!(world.firings(), [None, Some(second)]);
    assert_eq!(second.duration_since(first).as_secs(), 60);
}

#[tokio::test]
async fn a_webhook_trigger_that_records_its_baseline_first_runs_for_what_changes_after_it_was_added() {
    let world = World::new(record(plan()));
    let trigger = webhook(world.plan.clone());
    let mut memory = Memory::new(at(NOON));
    let added = world.evaluate(&trigger, &mut memory, NOON).await;
    assert!(matches!(added.sources["unseen"], Outcome::Baseline(_)));

    let request = |id: &str| {
        let request = PendingRequest { sources: ["unseen".to_owned()].into(), received_at: at(NOON), commit: None, always: false };
        FireRequest { id: id.parse().unwrap(), request }
    };
    world.store.request(&id(), &request("1")).await.unwrap();
    world.evaluate(&trigger, &mut memory, "2026-01-01T12:01:00Z").await;
    assert_eq!(world.firings(), []);
    world.source.push(&main_branch(), &[("file", "second")]);
    world.store.request(&id(), &request("2")).await.unwrap();
    world.evaluate(&trigger, &mut memory, "2026-01-01T12:02:00Z").await;
    assert_eq!(world.action.begun()[0].requests, ["2".parse().unwrap()].into());
}

#[tokio::test]
async fn a_recheck_runs_the_action_only_for_a_change() {
    let world = World::new(record(always()));
    let trigger = webhook(world.plan.clone()).with_recheck(Duration::from_secs(60)).unwrap();
    let mut memory = Memory::new(at(NOON));
    let first = world.evaluate(&trigger, &mut memory, NOON).await.next.unwrap();
    let second = world.evaluate(&trigger, &mut memory, &first.to_string()).await.next.unwrap();
    assert_eq!(world.firings(), []);
    world.source.push(&main_branch(), &[("file", "second")]);
    world.evaluate(&trigger, &mut memory, &second.to_string()).await;
    assert_eq!(world.firings(), [None]);
}
