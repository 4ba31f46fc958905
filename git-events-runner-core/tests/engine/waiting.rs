//! Runs that wait for a slot: in which order, how many, and for how long.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use git_events_runner_core::{
    Released::{Begun, Waiting},
    engine::{Outcome, prepare, release_waiting},
    *,
};
use jiff::ToSpan as _;

use super::fixture::*;

#[test]
fn slots_go_to_the_oldest_first() {
    let mut f = Fixture::with_slots(1, |plan| plan.sources.push(source("b")));
    push(&f.a, "1");
    push(&f.b, "1");
    f.request("first", &["a"], true);
    f.evaluate();
    f.wait(1);
    f.request("older", &["b"], true);
    f.wait(1);
    f.request("younger", &["a"], true);
    f.evaluate_all();
    assert_eq!(f.begun_keys(), [("a".into(), 0)]);
    for _ in 0..2 {
        f.finish_all();
        f.release_waiting();
    }
    assert_eq!(f.begun_keys(), [("a".into(), 0), ("b".into(), 0), ("a".into(), 1)]);
}

/// Runs of which one ends just when another one has found no room.
struct EndsMeanwhile(InMemoryAction);

#[async_trait]
impl Action for EndsMeanwhile {
    fn id(&self) -> &ObjectRef {
        self.0.id()
    }

    async fn register(&self, run: &RunRequest) -> Result<Registered, ActionError> {
        self.0.register(run).await
    }

    async fn release(&self, run: &RunRef) -> Result<Released, ActionError> {
        let released = self.0.release(run).await?;
        if released == Released::Waiting {
            self.0.all().iter().for_each(|status| self.0.finish(&status.run.name, RunPhase::Succeeded, status.request.instant));
        }
        Ok(released)
    }

    async fn get(&self, run: &RunRef) -> Result<Option<RunStatus>, ActionError> {
        self.0.get(run).await
    }

    async fn unfinished(&self, of: &TriggerId) -> Result<Vec<RunStatus>, ActionError> {
        self.0.unfinished(of).await
    }

    async fn withdraw(&self, run: &RunRef) -> Result<Withdrawn, ActionError> {
        self.0.withdraw(run).await
    }

    async fn stop(&self, run: &RunRef) -> Result<(), ActionError> {
        self.0.stop(run).await
    }
}

#[test]
fn a_run_that_has_found_no_room_is_not_overtaken_when_there_is_some() {
    let mut f = Fixture::with_slots(1, |plan| plan.on_change_only = false);
    push(&f.a, "1");
    for _ in 0..3 {
        f.fire();
    }
    assert_eq!(f.begun_keys(), [("a".into(), 0)]);
    f.catalog.add_action(EndsMeanwhile(f.action.clone()));
    f.release_waiting();
    assert_eq!(f.begun_keys(), [("a".into(), 0)], "the second has found no room, and the third waits as well");
    f.release_waiting();
    assert_eq!(f.begun_keys(), [("a".into(), 0), ("a".into(), 1)]);
}

/// A store that is watched, and counts how often it is asked all the same.
struct Watched(InMemoryStore, AtomicUsize);

#[async_trait]
impl StateStore for Watched {
    async fn load(&self, id: &TriggerId) -> Result<Loaded, StateError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.load(id).await
    }

    fn recent(&self, id: &TriggerId) -> Option<Loaded> {
        at_once(self.0.load(id)).ok()
    }

    async fn record(&self, id: &TriggerId, version: &Version, change: &Change) -> Result<(), StateError> {
        self.0.record(id, version, change).await
    }
}

#[test]
fn runs_that_wait_for_an_older_one_of_their_queue_are_not_asked_for() {
    let mut f = Fixture::with_slots(2, |plan| plan.on_change_only = false);
    push(&f.a, "1");
    for _ in 0..12 {
        f.fire();
    }
    f.finish_all();
    let store = Watched(f.store.clone(), AtomicUsize::default());
    let releases = at_once(release_waiting(&[&f.trigger(None)], &store, &f.catalog));
    assert_eq!(releases.runs.iter().map(|(.., released)| *released).collect::<Vec<_>>(), [Begun, Begun, Waiting], "the oldest come first");
    assert_eq!(store.1.into_inner(), 3, "of ten runs that wait");
}

#[test]
fn how_long_a_run_waits_counts_from_when_all_sources_were_looked_at() {
    let mut f = Fixture::with_slots(0, |_| {});
    push(&f.a, "1");
    let slow = || {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            std::hint::spin_loop();
        }
    };
    f.catalog.add_source(Meanwhile(f.a.clone(), Arc::new(slow)));
    f.fire();
    let waiting = f.state().waiting;
    assert!(waiting.values().all(|run| run.since >= f.now + 1.second()), "{waiting:?}");
}

#[test]
fn only_runs_that_the_state_names_are_released() {
    let mut f = Fixture::with_slots(0, |_| {});
    push(&f.a, "1");
    f.fire();
    let mut stranger = f.action.all()[0].request.clone();
    stranger.key.sequence = 7;
    at_once(f.action.register(&stranger)).unwrap();
    let roomy = InMemoryAction::clone(&f.action).with_slots(9);
    f.catalog.add_action(roomy);
    f.release_waiting();
    assert_eq!(f.begun_keys(), [("a".into(), 0)]);
}

#[test]
fn a_run_of_the_same_name_and_another_uid_is_not_released() {
    let mut f = Fixture::with_slots(0, |_| {});
    push(&f.a, "1");
    f.fire();
    let status = f.action.all().remove(0);
    at_once(f.action.stop(&status.run)).unwrap();
    at_once(f.action.register(&status.request)).unwrap();
    let roomy = InMemoryAction::clone(&f.action).with_slots(9);
    f.catalog.add_action(roomy);
    f.release_waiting();
    assert_eq!(f.begun(), []);
}

#[test]
fn sixteen_runs_wait_and_further_requests_stay_pending() {
    let mut f = Fixture::with_slots(0, |_| {});
    push(&f.a, "1");
    for n in 0..20 {
        f.request(&format!("request-{n:02}"), &["a"], true);
    }
    f.evaluate_all();
    assert_eq!((f.state().waiting.len(), f.pending().len()), (MAX_WAITING, 4));
    let roomy = InMemoryAction::clone(&f.action).with_slots(99);
    f.catalog.add_action(roomy);
    f.release_waiting();
    f.drive();
    let served: BTreeSet<_> = f.action.begun().into_iter().flat_map(|run| run.requests).collect();
    assert_eq!((f.begun().len(), served.len(), f.pending().len()), (20, 20, 0));
}

#[test]
fn runs_that_begin_at_once_make_room_for_others() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    for n in 0..40 {
        f.request(&format!("request-{n:02}"), &["a"], true);
    }
    f.drive();
    assert_eq!(f.begun().len(), 40);
}

#[test]
fn more_sources_than_runs_may_wait_are_served_in_several_writes() {
    let names: Vec<_> = (0..20).map(|n| format!("s{n:02}")).collect();
    let mut f = Fixture::new(|plan| plan.sources = names.iter().map(|name| source(name)).collect());
    for name in &names {
        let repo = InMemorySource::new(source(name));
        push(&repo, "1");
        f.catalog.add_source(repo);
    }
    f.fire();
    f.drive();
    assert_eq!(f.begun_keys().into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>(), names.into_iter().collect());
    assert_eq!(f.begun().len(), 20);
}

#[test]
fn a_change_that_waits_too_long_expires_and_is_tried_again_after_as_long() {
    let mut f = Fixture::with_slots(0, |_| {});
    let tip = push(&f.a, "1");
    f.fire();
    let expires = f.now + 300.seconds();
    let settled = f.settle();
    assert_eq!((settled.waiting, settled.next), (1, Some(expires)));

    f.now = expires;
    let settled = f.settle();
    assert_eq!((settled.waiting, settled.expired.len(), settled.next), (0, 1, Some(expires + 300.seconds())));
    let state = &f.state().sources["a"];
    assert_eq!((state.commit, state.sequence, state.last_run.as_ref().unwrap().result), (None, 1, RunResult::Expired));
    assert_eq!((f.phases(), f.state().waiting.len()), (vec![], 0));

    assert!(f.evaluate().sources.is_empty());
    f.now = expires + 300.seconds();
    f.evaluate();
    assert_eq!(f.action.all().iter().map(|run| (run.request.commit, run.request.key.sequence)).collect::<Vec<_>>(), [(tip, 1)]);
}

#[test]
fn an_expired_change_goes_back_to_the_commit_of_the_run_before() {
    let mut f = Fixture::with_slots(1, |_| {});
    let first = push(&f.a, "1");
    f.fire();
    push(&f.a, "2");
    f.fire();
    f.wait(300);
    f.settle();
    assert_eq!(f.state().sources["a"].commit, Some(first));
    push(&f.a, "1");
    f.wait(300);
    assert!(is_unchanged(&f.evaluate(), "a"));
}

#[test]
fn a_request_that_always_runs_and_expires_is_over() {
    let mut f = Fixture::with_slots(0, |plan| plan.on_change_only = false);
    let tip = push(&f.a, "1");
    f.request("one", &["a"], true);
    f.evaluate();
    f.wait(300);
    assert_eq!(f.settle().expired.len(), 1);
    assert_eq!(f.state().sources["a"].commit, Some(tip));
    f.wait(300);
    f.evaluate_all();
    assert_eq!((f.action.all().len(), f.pending().len()), (0, 0));
}

#[test]
fn a_run_for_a_change_that_is_deleted_before_it_began_is_made_again() {
    let mut f = Fixture::with_slots(0, |_| {});
    let tip = push(&f.a, "1");
    f.fire();
    f.action.delete(&f.action.all()[0].run.name);
    let settled = f.settle();
    assert_eq!((settled.deleted.len(), settled.next), (1, Some(f.now)));
    f.evaluate();
    assert_eq!(f.phases(), [(1, RunPhase::Waiting)]);
    assert_eq!(f.action.all()[0].request.commit, tip);
}

#[test]
fn a_run_for_a_request_that_is_deleted_before_it_began_is_made_again() {
    let mut f = Fixture::with_slots(0, |plan| plan.on_change_only = false);
    push(&f.a, "1");
    f.request("one", &["a"], true);
    f.evaluate();
    f.action.delete(&f.action.all()[0].run.name);
    f.settle();
    assert_eq!(f.pending(), ["one"]);
    f.evaluate();
    assert_eq!(f.phases(), [(1, RunPhase::Waiting)]);
    assert_eq!(f.action.all()[0].request.requests, [request_id("one")].into());
}

#[test]
fn a_run_for_a_firing_that_is_deleted_before_it_began_is_made_again() {
    let mut f = Fixture::with_slots(0, |plan| plan.on_change_only = false);
    push(&f.a, "1");
    f.fire();
    let firing = f.now;
    f.action.delete(&f.action.all()[0].run.name);
    f.settle();
    f.wait(10);
    f.evaluate();
    assert_eq!(f.action.all().iter().map(|run| (run.request.key.sequence, run.request.firing)).collect::<Vec<_>>(), [(1, Some(firing))]);
}

#[test]
fn a_run_that_has_begun_and_is_gone_is_not_made_again() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    f.fire();
    f.action.delete(&f.action.all()[0].run.name);
    f.settle();
    assert_eq!(f.state().sources["a"].last_run.as_ref().unwrap().result, RunResult::Deleted);
    assert!(is_unchanged(&f.fire(), "a"));
}

#[test]
fn how_a_run_ended_is_recorded_once() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    f.fire();
    let last_run = |f: &Fixture| f.state().sources["a"].last_run.clone().unwrap();
    f.settle();
    assert_eq!((last_run(&f).result, f.state().waiting.len()), (RunResult::Running, 0));
    f.action.finish(&last_run(&f).run.name, RunPhase::Failed, f.now);
    f.settle();
    assert_eq!((last_run(&f).result, last_run(&f).finished), (RunResult::Failed, Some(f.now)));
    let writes = f.writes();
    f.settle();
    assert_eq!(f.writes(), writes);
}

#[test]
fn what_is_only_prepared_waits_to_be_released() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    f.wait(60);
    let (trigger, store, catalog) = (f.trigger(Some(f.now)), f.store.clone(), f.catalog.clone());
    let prepared = at_once(prepare(&trigger, &store, &catalog, &mut f.memory, f.now)).unwrap();
    assert!(matches!(&prepared.sources["a"], Outcome::Started(_, _, Released::Waiting)), "{prepared:?}");
    assert_eq!((f.begun().len(), f.state().waiting.len(), prepared.to_settle), (0, 1, true));
    f.release_waiting();
    assert_eq!(f.begun().len(), 1);
}

#[test]
fn nothing_is_to_be_settled_where_nothing_is_unfinished() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    assert!(f.fire().to_settle);
    f.settle();
    assert!(f.evaluate().to_settle, "a run goes on");
    f.finish_all();
    assert!(!f.fire().to_settle);
    f.crash();
    assert!(f.evaluate().to_settle, "a new evaluator looks for what was left behind");
}
