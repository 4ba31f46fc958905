//! What may run side by side.

use git_events_runner_core::*;

use super::fixture::*;

fn with_policy(concurrency: ConcurrencyPolicy) -> Fixture {
    Fixture::new(|plan| plan.concurrency = concurrency)
}

#[test]
fn allow_lets_runs_of_a_source_overlap() {
    let mut f = with_policy(ConcurrencyPolicy::Allow);
    push(&f.a, "1");
    f.fire();
    push(&f.a, "2");
    f.fire();
    assert_eq!(f.phases(), [(0, RunPhase::Running), (1, RunPhase::Running)]);
}

#[test]
fn forbid_holds_changes_until_the_run_has_ended_and_collapses_them_to_the_newest() {
    let mut f = with_policy(ConcurrencyPolicy::Forbid);
    let first = push(&f.a, "1");
    f.fire();
    push(&f.a, "2");
    assert!(is_held(&f.fire(), "a"));
    assert_eq!(f.pending(), ["scheduled"]);
    let third = push(&f.a, "3");
    assert!(is_held(&f.fire(), "a"));
    assert_eq!(f.begun(), [first]);
    f.finish_all();
    f.evaluate_all();
    assert_eq!(f.begun(), [first, third]);
    assert_eq!(f.pending(), [""; 0]);
}

#[test]
fn forbid_drops_a_held_change_that_was_reverted() {
    let mut f = with_policy(ConcurrencyPolicy::Forbid);
    push(&f.a, "1");
    f.fire();
    push(&f.a, "2");
    f.fire();
    push(&f.a, "1");
    f.finish_all();
    assert!(is_unchanged(&f.evaluate(), "a"));
    assert_eq!((f.begun().len(), f.pending().len()), (1, 0));
}

#[test]
fn forbid_lets_requests_that_always_run_queue() {
    let mut f = with_policy(ConcurrencyPolicy::Forbid);
    push(&f.a, "1");
    for id in ["one", "two", "three"] {
        f.wait(1);
        f.request(id, &["a"], true);
    }
    for runs in 1..=3 {
        f.evaluate_all();
        f.evaluate_all();
        assert_eq!(f.begun().len(), runs);
        f.finish_all();
    }
    let served: Vec<_> = f.action.begun().into_iter().flat_map(|run| run.requests).collect();
    assert_eq!(served, ["one", "two", "three"].map(request_id));
}

#[test]
fn forbid_holds_the_latest_of_firings_that_always_run() {
    let mut f = Fixture::new(|plan| {
        plan.concurrency = ConcurrencyPolicy::Forbid;
        plan.on_change_only = false;
    });
    push(&f.a, "1");
    f.fire();
    f.fire();
    f.fire();
    let latest = f.now;
    f.finish_all();
    f.wait(10);
    f.evaluate_all();
    f.finish_all();
    f.evaluate_all();
    assert_eq!(f.action.begun()[1..].iter().map(|run| run.firing).collect::<Vec<_>>(), [Some(latest)]);
}

#[test]
fn forbid_holds_one_source_while_others_go_on() {
    let mut f = Fixture::new(|plan| {
        plan.concurrency = ConcurrencyPolicy::Forbid;
        plan.sources.push(source("b"));
    });
    push(&f.a, "1");
    push(&f.b, "1");
    f.fire();
    f.action.finish(&f.state().sources["b"].last_run.as_ref().unwrap().run.name, RunPhase::Failed, f.now);
    push(&f.a, "2");
    push(&f.b, "2");
    let evaluation = f.fire();
    assert!(is_held(&evaluation, "a") && is_started(&evaluation, "b"));
}

#[test]
fn replace_ends_the_running_one_first() {
    let mut f = with_policy(ConcurrencyPolicy::Replace);
    let first = push(&f.a, "1");
    f.fire();
    let second = push(&f.a, "2");
    f.fire();
    assert_eq!(f.begun(), [first, second]);
    assert_eq!(f.phases(), [(1, RunPhase::Running)]);
}

#[test]
fn replace_leaves_finished_runs_and_other_sources_alone() {
    let mut f = Fixture::new(|plan| {
        plan.concurrency = ConcurrencyPolicy::Replace;
        plan.sources.push(source("b"));
    });
    push(&f.a, "1");
    f.fire();
    f.finish_all();
    push(&f.a, "2");
    push(&f.b, "1");
    f.fire();
    f.fire();
    assert_eq!(f.phases(), [(0, RunPhase::Succeeded), (0, RunPhase::Running), (1, RunPhase::Running)]);
}

#[test]
fn replace_withdraws_those_that_wait_and_goes_back_past_them_if_it_never_begins() {
    let mut f = Fixture::with_slots(0, |plan| plan.concurrency = ConcurrencyPolicy::Replace);
    push(&f.a, "1");
    f.fire();
    push(&f.a, "2");
    f.fire();
    let state = f.state();
    let waiting: Vec<_> = state.waiting.values().map(|run| (run.sequence, run.previous)).collect();
    assert_eq!(waiting, [(1, None)]);
    f.settle();
    assert_eq!(f.phases(), [(1, RunPhase::Waiting)]);
    assert_eq!(f.begun(), []);
    // As the first run never was, nothing was acted on after the second has expired.
    f.wait(300);
    f.settle();
    assert_eq!(f.state().sources["a"].commit, None);
}
