//! Requests, by webhook or by hand.

use std::sync::Arc;

use git_events_runner_core::{
    engine::{EvaluateError, Memory, Outcome, evaluate, request_by_hand},
    *,
};

use super::fixture::*;

#[test]
fn a_request_checks_the_sources_that_it_names_only() {
    let mut f = Fixture::new(|plan| plan.sources.push(source("b")));
    push(&f.a, "1");
    push(&f.b, "1");
    f.request("one", &["b"], false);
    let evaluation = f.evaluate();
    assert_eq!(evaluation.sources.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(f.begun_keys(), [("b".into(), 0)]);
    assert_eq!(f.action.begun()[0].requests, [request_id("one")].into());
}

#[test]
fn a_request_on_change_that_finds_none_is_over_and_starts_nothing() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    f.fire();
    f.request("one", &["a"], false);
    assert!(is_unchanged(&f.evaluate(), "a"));
    assert_eq!((f.begun().len(), f.pending().len()), (1, 0));
}

#[test]
fn requests_on_change_collapse_to_one_run() {
    let mut f = Fixture::new(|plan| plan.sources.push(source("b")));
    push(&f.a, "1");
    push(&f.b, "1");
    f.request("both", &["a", "b"], false);
    f.request("one", &["a"], false);
    f.request("one-more", &["a"], false);
    f.evaluate_all();
    assert_eq!(f.begun_keys(), [("a".into(), 0), ("b".into(), 0)]);
    assert_eq!(f.action.begun()[0].requests, ["both", "one-more"].map(request_id).into());
    assert_eq!(f.pending(), [""; 0]);
}

#[test]
fn requests_that_always_run_queue_and_each_has_its_run() {
    let mut f = Fixture::new(|_| {});
    let tip = push(&f.a, "1");
    for id in ["one", "two", "three"] {
        f.wait(1);
        f.request(id, &["a"], true);
    }
    f.evaluate_all();
    assert_eq!(f.begun(), [tip; 3]);
    let served: Vec<_> = f.action.begun().into_iter().map(|run| run.requests).collect();
    assert_eq!(served, ["one", "two", "three"].map(|id| [request_id(id)].into()));
    assert_eq!(f.pending(), [""; 0]);
}

#[test]
fn a_request_that_always_runs_has_one_run_on_each_of_its_sources() {
    let mut f = Fixture::new(|plan| plan.sources.push(source("b")));
    push(&f.a, "1");
    push(&f.b, "1");
    f.request("both", &["a", "b"], true);
    f.evaluate_all();
    f.evaluate_all();
    assert_eq!(f.begun_keys(), [("a".into(), 0), ("b".into(), 0)]);
}

#[test]
fn a_source_leaves_a_request_by_the_write_that_records_its_run() {
    let mut f = Fixture::new(|plan| plan.sources.push(source("b")));
    push(&f.a, "1");
    push(&f.b, "1");
    f.b.fail_with(Some("down"));
    f.request("both", &["a", "b"], true);
    f.evaluate();
    assert_eq!(f.state().pending[&request_id("both")].sources, ["b".to_owned()].into());
    f.b.fail_with(None);
    f.wait(1);
    f.evaluate();
    assert_eq!(f.begun_keys(), [("a".into(), 0), ("b".into(), 0)]);
    assert_eq!(f.pending(), [""; 0]);
}

#[test]
fn a_commit_that_is_not_visible_yet_is_awaited_for_half_a_minute() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    f.fire();
    f.request_with("hint", &["a"], false, Some(CommitId::digest_of("not there yet")));
    for _ in 0..30 {
        let evaluation = f.evaluate();
        assert!(matches!(evaluation.sources["a"], Outcome::Awaited));
        f.wait(1);
        assert_eq!(evaluation.next, Some(f.now));
    }
    assert!(is_unchanged(&f.evaluate(), "a"));
    assert_eq!((f.begun().len(), f.pending().len()), (1, 0));
}

#[test]
fn a_request_that_always_runs_awaits_its_commit_as_long_while_the_last_one_is_shown() {
    let mut f = Fixture::new(|_| {});
    let old = push(&f.a, "1");
    f.fire();
    f.request_with("hint", &["a"], true, Some(commit_of("2")));
    assert!(matches!(f.evaluate().sources["a"], Outcome::Awaited));
    f.request("another", &["a"], true);
    f.evaluate_all();
    assert_eq!(f.begun(), [old, old], "another one runs meanwhile");
    assert_eq!(f.pending(), ["hint"]);
    let new = push(&f.a, "2");
    f.evaluate_all();
    assert_eq!(f.begun(), [old, old, new]);

    f.request_with("lost", &["a"], true, Some(CommitId::digest_of("never there")));
    f.evaluate_all();
    f.wait(29);
    f.evaluate_all();
    assert_eq!(f.pending(), ["lost"]);
    f.wait(1);
    f.evaluate_all();
    assert_eq!((f.begun().len(), f.pending().len()), (4, 0), "in the end it runs for what is there");
}

/// The commit that a push of this will be.
fn commit_of(text: &str) -> CommitId {
    push(&InMemorySource::new(source("elsewhere")), text)
}

#[test]
fn another_tip_runs_at_once_and_the_commit_that_is_awaited_may_still_come() {
    for on_first_check in [OnFirstCheck::Run, OnFirstCheck::Record] {
        let mut f = Fixture::new(|plan| plan.on_first_check = on_first_check);
        push(&f.a, "1");
        f.request_with("first", &["a"], false, Some(commit_of("2")));
        let ran = usize::from(on_first_check == OnFirstCheck::Run);
        f.evaluate_all();
        assert_eq!((f.begun().len(), f.pending()), (ran, vec!["first".to_owned()]));
        let second = push(&f.a, "2");
        f.request_with("second", &["a"], false, Some(commit_of("3")));
        f.evaluate_all();
        assert_eq!((&f.begun()[ran..], f.pending()), (&[second][..], vec!["second".to_owned()]));
        let third = push(&f.a, "3");
        f.evaluate_all();
        assert_eq!((&f.begun()[ran..], f.pending()), (&[second, third][..], vec![]));
    }
}

#[test]
fn a_request_that_always_runs_does_not_run_for_an_older_commit_than_its_own() {
    let mut f = Fixture::new(|plan| plan.on_change_only = false);
    push(&f.a, "1");
    f.request_with("second", &["a"], true, Some(commit_of("2")));
    f.evaluate_all();
    assert_eq!((f.begun(), f.state().sources.len()), (vec![], 0), "not even at the first look");
    let second = push(&f.a, "2");
    f.request_with("third", &["a"], true, Some(commit_of("3")));
    f.evaluate_all();
    assert_eq!((f.begun(), f.pending()), (vec![second], vec!["third".to_owned()]));
    let third = push(&f.a, "3");
    f.evaluate_all();
    assert_eq!((f.begun(), f.pending()), (vec![second, third], vec![]));
}

#[test]
fn a_commit_is_not_awaited_any_more_when_that_of_a_later_request_is_there() {
    for always in [false, true] {
        let mut f = Fixture::new(|plan| plan.on_change_only = !always);
        push(&f.a, "1");
        f.request("first", &["a"], always);
        f.evaluate_all();
        f.request_with("passed-over", &["a"], always, Some(commit_of("2")));
        f.wait(1);
        f.request_with("later", &["a"], always, Some(push(&f.a, "3")));
        f.evaluate_all();
        assert_eq!((f.begun().len(), f.pending().len()), (if always { 3 } else { 2 }, 0));
    }
}

#[test]
fn a_commit_that_was_acted_on_already_is_not_awaited() {
    let mut f = Fixture::new(|_| {});
    let tip = push(&f.a, "1");
    f.fire();
    f.request_with("hint", &["a"], false, Some(tip));
    assert!(is_unchanged(&f.evaluate(), "a"));
    assert_eq!(f.pending(), [""; 0]);
}

#[test]
fn what_a_listener_appends_during_an_evaluation_stays_pending_and_the_decision_is_written_all_the_same() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    f.request("before", &["a"], true);
    let (store, id, now) = (f.store.clone(), f.id.clone(), f.now);
    let append = move || {
        let request = PendingRequest { sources: ["a".to_owned()].into(), received_at: now, commit: None, always: true };
        at_once(store.request(&id, &FireRequest { id: request_id("meanwhile"), request })).unwrap();
    };
    f.catalog.add_source(Meanwhile(f.a.clone(), Arc::new(append)));
    assert!(is_started(&f.evaluate(), "a"));
    assert_eq!(f.pending(), ["meanwhile"]);
    assert_eq!(f.begun().len(), 1);
}

#[test]
fn a_request_that_replaces_one_being_served_is_served_as_well() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    f.fire();
    f.request("before", &["a"], false);
    let (store, id, now, a) = (f.store.clone(), f.id.clone(), f.now, f.a.clone());
    let push_and_append = move || {
        push(&a, "2");
        let request = PendingRequest { sources: ["a".to_owned()].into(), received_at: now, commit: None, always: false };
        at_once(store.request(&id, &FireRequest { id: request_id("meanwhile"), request })).unwrap();
    };
    f.catalog.add_source(Meanwhile(f.a.clone(), Arc::new(push_and_append)));
    // It was seen before the push.
    assert!(is_unchanged(&f.evaluate(), "a"));
    assert_eq!(f.pending(), ["meanwhile"]);
    f.catalog.add_source(f.a.clone());
    f.evaluate();
    assert_eq!((f.begun().len(), f.pending().len()), (2, 0));
}

#[test]
fn of_two_evaluators_at_once_one_records_and_the_other_drops_its_work() {
    let mut f = Fixture::new(|_| {});
    let tip = push(&f.a, "1");
    let (store, catalog, now) = (f.store.clone(), InMemoryCatalog::default(), f.now);
    catalog.add_source(f.a.clone());
    catalog.add_action(f.action.clone());
    let trigger = f.trigger(Some(now));
    let other = move || drop(at_once(evaluate(&trigger, &store, &catalog, &mut Memory::new(now), now)).unwrap());
    f.catalog.add_source(Meanwhile(f.a.clone(), Arc::new(other)));
    let evaluated = f.try_evaluate(Some(now));
    assert!(matches!(evaluated, Err(EvaluateError::State(StateError::Conflict))), "{evaluated:?}");
    assert_eq!(f.begun(), [tip]);
    f.catalog.add_source(f.a.clone());
    assert!(is_unchanged(&f.fire(), "a"));
    assert_eq!(f.begun(), [tip]);
}

#[test]
fn a_plan_that_changes_during_an_evaluation_makes_it_void() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    let (store, id) = (f.store.clone(), f.id.clone());
    f.catalog.add_source(Meanwhile(f.a.clone(), Arc::new(move || store.add(&id, 2))));
    let evaluated = f.try_evaluate(Some(f.now));
    assert!(matches!(evaluated, Err(EvaluateError::State(StateError::Conflict))), "{evaluated:?}");
    assert_eq!(f.begun(), []);
}

#[test]
fn a_request_by_hand_always_runs_and_is_taken_once() {
    let mut f = Fixture::new(|plan| plan.sources.push(source("b")));
    push(&f.a, "1");
    push(&f.b, "1");
    f.fire();
    f.finish_all();
    let ask = |f: &Fixture, text| at_once(request_by_hand(&f.trigger(None), &f.store, text, f.now)).unwrap();
    assert!(ask(&f, "today"));
    assert_eq!(f.state().last_handled_request.as_deref(), Some("today"));
    f.evaluate_all();
    assert_eq!(f.begun().len(), 4, "each source runs, although nothing has changed");
    let writes = f.writes();
    assert!(!ask(&f, "today"));
    assert_eq!(f.writes(), writes, "what was taken is not taken again");
    assert!(ask(&f, "tomorrow"));
    assert_eq!(f.pending().len(), 1);
}

#[test]
fn a_request_by_hand_waits_where_too_much_is_pending() {
    let f = Fixture::new(|_| {});
    for n in 0..MAX_PENDING {
        f.request(&format!("r{n}"), &["a"], true);
    }
    let asked = at_once(request_by_hand(&f.trigger(None), &f.store, "today", f.now));
    assert!(matches!(asked, Err(EvaluateError::State(StateError::Full(_)))), "{asked:?}");
    assert_eq!(f.state().last_handled_request, None);
}
