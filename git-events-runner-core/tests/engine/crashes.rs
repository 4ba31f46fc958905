//! Failures that fall between two of the three writes: register, record, release.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use git_events_runner_core::{
    engine::{EvaluateError, Failure, Outcome},
    *,
};

use super::fixture::*;

/// A store that reads as the fixture's does, and writes as the test says.
fn store(f: &Fixture, record: impl Fn(&TriggerId, &Version, &Change) -> Result<(), StateError> + Send + 'static) -> MockStateStore {
    let mut store = MockStateStore::new();
    let real = f.store.clone();
    store.expect_recent().returning(|_| None);
    store.expect_load().returning(move |id| at_once(real.load(id)));
    store.expect_record().returning(record);
    store
}

/// Evaluates a firing, and is killed after register.
fn crash_before_record(f: &mut Fixture) {
    f.wait(60);
    let store = store(f, |_, _, _| Err(StateError::Unavailable("killed".into())));
    let evaluated = f.evaluate_with(&store, Some(f.now));
    assert!(matches!(evaluated, Err(EvaluateError::State(StateError::Unavailable(_)))), "{evaluated:?}");
    f.crash();
}

/// Evaluates a firing, and is killed after record.
fn crash_before_release(f: &mut Fixture) {
    f.wait(60);
    let (real, action) = (f.store.clone(), f.action.clone());
    let store = store(f, move |id, version, change| {
        let recorded = at_once(real.record(id, version, change));
        action.fail_with(Some("killed"));
        recorded
    });
    let evaluated = f.evaluate_with(&store, Some(f.now)).expect("a run that is not released is no error of the evaluation");
    assert!(matches!(&evaluated.not_released[..], [(_, EvaluateError::Action(Failure::Action(_)))]), "{evaluated:?}");
    f.action.fail_with(None);
    f.crash();
}

/// The fixture's action, but for what the test says before.
fn passed_on(mut mock: MockAction, real: &InMemoryAction) -> MockAction {
    let actions: [InMemoryAction; 6] = std::array::from_fn(|_| real.clone());
    let [register, release, get, unfinished, withdraw, stop] = actions;
    mock.expect_id().return_const(real.id().clone());
    mock.expect_queue().return_const(real.queue());
    mock.expect_register().returning(move |run| at_once(register.register(run)));
    mock.expect_release().returning(move |run| at_once(release.release(run)));
    mock.expect_get().returning(move |run| at_once(get.get(run)));
    mock.expect_unfinished().returning(move |of| at_once(unfinished.unfinished(of)));
    mock.expect_withdraw().returning(move |run| at_once(withdraw.withdraw(run)));
    mock.expect_stop().returning(move |run| at_once(stop.stop(run)));
    mock
}

#[test]
fn what_is_registered_and_not_recorded_has_not_begun() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    crash_before_record(&mut f);
    f.release_waiting();
    assert_eq!(f.phases(), [(0, RunPhase::Waiting)]);
    assert!(f.state().sources.is_empty());
}

#[test]
fn after_a_crash_before_record_the_run_is_recorded_exactly_as_it_was_registered() {
    let mut f = Fixture::new(|_| {});
    let first = push(&f.a, "1");
    crash_before_record(&mut f);
    let registered = f.action.all()[0].clone();
    let second = push(&f.a, "2");
    let evaluation = f.fire();
    assert!(
        matches!(&evaluation.sources["a"], Outcome::Adopted(run, request) if *run == registered.run && **request == registered.request)
    );
    let state = &f.state().sources["a"];
    assert_eq!((state.commit, state.sequence, &state.last_run.as_ref().unwrap().run), (Some(first), 1, &registered.run));
    assert_eq!(evaluation.next, Some(f.now));
    f.evaluate_all();
    f.release_waiting();
    let mut begun = f.action.begun();
    begun.sort_by_key(|run| run.key.sequence);
    assert_eq!(begun.iter().map(|run| run.commit).collect::<Vec<_>>(), [first, second]);
}

#[test]
fn a_request_that_an_adopted_run_serves_has_no_other_run() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    f.request("one", &["a"], true);
    crash_before_record(&mut f);
    f.evaluate_all();
    f.release_waiting();
    assert_eq!(f.begun_keys(), [("a".into(), 0)]);
    assert_eq!(f.pending(), [""; 0]);
}

#[test]
fn a_leftover_that_nobody_comes_back_for_is_removed_and_its_number_is_never_used() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    crash_before_record(&mut f);
    f.settle();
    assert_eq!(f.phases(), [(0, RunPhase::Waiting)]);
    f.wait(300);
    f.settle();
    assert_eq!(f.phases(), []);
    f.fire();
    assert_eq!(f.begun_keys(), [("a".into(), 1)]);
}

#[test]
fn after_a_crash_before_release_the_run_begins_once() {
    let mut f = Fixture::new(|_| {});
    let tip = push(&f.a, "1");
    crash_before_release(&mut f);
    assert_eq!(f.begun(), []);
    f.release_waiting();
    f.release_waiting();
    f.fire();
    assert_eq!(f.begun(), [tip]);
}

#[test]
fn a_run_that_has_begun_and_that_no_state_names_is_recorded_and_not_begun_again() {
    let mut f = Fixture::new(|_| {});
    let tip = push(&f.a, "1");
    f.fire();
    f.store.remove(&f.id);
    f.store.add(&f.id, f.plan.generation);
    f.crash();
    let evaluation = f.fire();
    assert!(matches!(evaluation.sources["a"], Outcome::Adopted(..)));
    f.evaluate_all();
    f.release_waiting();
    assert_eq!(f.begun(), [tip]);
    let state = f.state();
    assert_eq!((state.sources["a"].sequence, state.sources["a"].commit, state.waiting.len()), (1, Some(tip), 0));
}

#[test]
fn a_run_that_is_on_its_way_out_is_waited_for() {
    let mut f = Fixture::new(|_| {});
    let tip = push(&f.a, "1");
    let mut action = MockAction::new();
    action.expect_register().times(1).returning(|_| Ok(Registered::Deleting));
    f.catalog.add_action(passed_on(action, &f.action));
    let evaluation = f.fire();
    assert!(matches!(&evaluation.sources["a"], Outcome::Failed(failure) if failure.retry() == Retry::Backoff));
    assert!(f.state().sources.is_empty());
    f.wait(1);
    f.evaluate();
    assert_eq!(f.begun(), [tip]);
}

#[test]
fn a_run_that_cannot_be_released_does_not_hide_another_that_was() {
    let mut f = Fixture::new(|plan| plan.sources.push(source("b")));
    let (a, b) = (push(&f.a, "1"), push(&f.b, "2"));
    let mut action = MockAction::new();
    action.expect_release().times(1).returning(|_| Err(ActionError::Unavailable("down".into())));
    f.catalog.add_action(passed_on(action, &f.action));
    let evaluation = f.fire();
    assert_eq!(evaluation.not_released.len(), 1);
    assert!(matches!(evaluation.sources["a"], Outcome::Started(_, _, Released::Waiting)));
    assert!(matches!(evaluation.sources["b"], Outcome::Started(_, _, Released::Begun)));
    f.release_waiting();
    assert_eq!(f.begun(), [b, a]);
}

#[test]
fn replace_begins_when_the_earlier_one_is_gone() {
    let mut f = Fixture::new(|plan| plan.concurrency = ConcurrencyPolicy::Replace);
    let first = push(&f.a, "1");
    f.fire();
    let mut lingering = MockAction::new();
    lingering.expect_stop().times(1).returning(|_| Ok(()));
    f.catalog.add_action(passed_on(lingering, &f.action));
    let second = push(&f.a, "2");
    let evaluation = f.fire();
    assert!(matches!(evaluation.sources["a"], Outcome::Started(_, _, Released::Waiting)));
    assert_eq!(f.begun(), [first]);
    f.release_waiting();
    assert_eq!(f.begun(), [first, second]);
    assert_eq!(f.phases(), [(1, RunPhase::Running)]);
}

#[test]
fn a_run_that_was_released_and_is_still_listed_as_waiting_is_no_leftover() {
    let mut f = Fixture::new(|_| {});
    let first = push(&f.a, "1");
    // As when a local run checks its files out: should that be cut short, it is to be released again.
    let mut preparing = MockAction::new();
    preparing.expect_release().times(1).returning(|_| Ok(Released::Begun));
    f.catalog.add_action(passed_on(preparing, &f.action));
    f.fire();
    let second = push(&f.a, "2");
    f.fire();
    f.settle();
    assert_eq!(f.phases(), [(0, RunPhase::Waiting), (1, RunPhase::Running)]);
    f.release_waiting();
    assert_eq!(f.begun(), [second, first]);
}

#[test]
fn a_run_expires_in_the_state_before_it_is_removed() {
    let mut f = Fixture::with_slots(0, |_| {});
    push(&f.a, "1");
    f.fire();
    f.wait(300);
    let failing = store(&f, |_, _, _| Err(StateError::Unavailable("killed".into())));
    let settled = at_once(engine::settle(&f.trigger(None), &failing, &f.action, &mut f.memory, WAITING_TIMEOUT, f.now));
    assert!(settled.is_err());
    // It is withdrawn, so nobody can begin it, and it is there, so nobody takes it for one that has begun.
    assert_eq!(f.phases(), [(0, RunPhase::Deleted)]);
    f.release_waiting();
    f.crash();
    assert_eq!(f.settle().expired.len(), 1);
    assert_eq!((f.begun(), f.phases()), (vec![], vec![]));
    assert_eq!(f.state().sources["a"].commit, None);
}

#[test]
fn a_check_that_finds_nothing_registers_and_records_nothing() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    f.fire();
    f.finish_all();
    let mut action = MockAction::new();
    action.expect_id().return_const(f.action.id().clone());
    action.expect_register().never();
    action.expect_release().never();
    f.catalog.add_action(action);
    let mut store = MockStateStore::new();
    let real = f.store.clone();
    store.expect_recent().return_const(None);
    store.expect_load().times(1).returning(move |id| at_once(real.load(id)));
    store.expect_record().never();
    f.wait(60);
    assert!(is_unchanged(&f.evaluate_with(&store, Some(f.now)).unwrap(), "a"));

    // It does not even load a state that is known as well as this.
    let mut store = MockStateStore::new();
    let real = f.store.clone();
    store.expect_recent().returning(move |id| real.recent(id));
    store.expect_load().never();
    store.expect_record().never();
    f.settle();
    f.wait(60);
    assert!(is_unchanged(&f.evaluate_with(&store, Some(f.now)).unwrap(), "a"));
}

#[test]
fn what_was_seen_of_a_state_lately_decides_nothing_but_that_nothing_is_to_do() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    f.fire();
    f.finish_all();
    f.settle();
    let (before, real) = (f.store.recent(&f.id), f.store.clone());
    let late = || {
        let (before, load, record) = (before.clone(), real.clone(), real.clone());
        let mut store = MockStateStore::new();
        store.expect_recent().returning(move |_| before.clone());
        store.expect_load().returning(move |id| at_once(load.load(id)));
        store.expect_record().returning(move |id, version, change| at_once(record.record(id, version, change)));
        store
    };
    push(&f.a, "2");
    f.wait(60);
    f.evaluate_with(&late(), Some(f.now)).unwrap();
    assert_eq!(f.begun().len(), 2, "the second commit runs");
    // That has not come to what is known lately, by which the same commit is new.
    f.wait(60);
    assert!(is_unchanged(&f.evaluate_with(&late(), Some(f.now)).unwrap(), "a"));
    assert_eq!(f.begun().len(), 2, "and runs once");
}

#[test]
fn a_source_that_fails_or_always_runs_is_looked_at_once_by_an_evaluation() {
    for always in [false, true] {
        let mut f = Fixture::new(|plan| plan.on_change_only = !always);
        push(&f.a, "1");
        f.fire();
        f.finish_all();
        f.settle();
        let (looks, id) = (Arc::new(AtomicUsize::new(0)), f.a.id().clone());
        let mut source = MockSource::new();
        source.expect_id().return_const(id);
        source.expect_observe().returning({
            let looks = Arc::clone(&looks);
            move |watch| {
                looks.fetch_add(1, Ordering::SeqCst);
                Err(SourceError::new(Reason::Unreachable, Retry::Backoff, format!("{watch:?} is away")))
            }
        });
        f.catalog.add_source(source);
        let evaluation = f.fire();
        assert!(matches!(evaluation.sources["a"], Outcome::Failed(_)), "{evaluation:?}");
        assert_eq!(looks.load(Ordering::SeqCst), 1, "always: {always}");
    }
}

#[test]
fn a_listener_that_never_stops_appending_makes_the_decision_void_in_the_end() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    let store = store(&f, |_, _, _| Err(StateError::Conflict));
    let evaluated = f.evaluate_with(&store, Some(f.now));
    assert!(matches!(evaluated, Err(EvaluateError::State(StateError::Conflict))));
    assert_eq!(f.phases(), [(0, RunPhase::Waiting)]);
}
