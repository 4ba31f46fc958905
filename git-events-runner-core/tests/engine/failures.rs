//! Sources, actions and names that fail.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use git_events_runner_core::{
    engine::{Evaluation, Failure, Outcome},
    *,
};
use jiff::ToSpan as _;

use super::fixture::*;

fn with_two_sources(adapt: impl FnOnce(&mut Plan)) -> Fixture {
    let f = Fixture::new(|plan| {
        plan.sources.push(source("b"));
        adapt(plan);
    });
    push(&f.a, "1");
    push(&f.b, "1");
    f
}

fn reason_of(evaluation: &Evaluation, source: &str) -> Option<Reason> {
    match &evaluation.sources[source] {
        Outcome::Failed(failure) => Some(failure.reason()),
        _ => None,
    }
}

#[test]
fn a_source_that_fails_backs_off_alone() {
    let mut f = with_two_sources(|_| {});
    f.a.fail_with(Some("down"));
    for (n, backoff) in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300].into_iter().enumerate() {
        push(&f.b, &n.to_string());
        let evaluation = f.try_evaluate(Some(f.now)).unwrap();
        assert_eq!(reason_of(&evaluation, "a"), Some(Reason::Unreachable));
        assert!(is_started(&evaluation, "b"));
        assert_eq!(evaluation.next, Some(f.now + backoff.seconds()));
        f.finish_all();
        f.wait(backoff);
    }
}

#[test]
fn a_source_that_backs_off_is_not_looked_at_before_its_time() {
    let mut f = with_two_sources(|_| {});
    f.a.fail_with(Some("down"));
    f.fire();
    f.a.fail_with(None);
    let evaluation = f.try_evaluate(Some(f.now)).unwrap();
    assert_eq!(evaluation.sources.keys().collect::<Vec<_>>(), ["b"]);
    f.wait(1);
    assert!(is_started(&f.evaluate(), "a"));
}

#[test]
fn a_source_that_backs_off_is_looked_at_when_what_it_depends_on_has_changed() {
    let mut f = with_two_sources(|_| {});
    f.a.fail_with(Some("down"));
    f.fire();
    f.memory.try_again();
    assert_eq!(reason_of(&f.evaluate(), "a"), Some(Reason::Unreachable));
    f.a.fail_with(None);
    f.memory.try_again();
    assert!(is_started(&f.evaluate(), "a"));
}

#[test]
fn success_resets_the_back_off() {
    let mut f = with_two_sources(|_| {});
    let retried_after = |f: &mut Fixture| {
        let next = f.try_evaluate(Some(f.now)).unwrap().next.unwrap();
        (next - f.now).get_seconds()
    };
    f.a.fail_with(Some("down"));
    assert_eq!(retried_after(&mut f), 1);
    f.wait(1);
    assert_eq!(retried_after(&mut f), 2);
    f.a.fail_with(None);
    f.wait(2);
    f.evaluate();
    f.a.fail_with(Some("down again"));
    assert_eq!(retried_after(&mut f), 1);
}

#[test]
fn a_check_that_fails_changes_nothing_that_was_seen() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    f.fire();
    let state = f.state();
    f.a.fail_with(Some("down"));
    f.fire();
    assert_eq!(f.state(), state);
    f.a.fail_with(None);
    f.wait(1);
    assert!(is_unchanged(&f.evaluate(), "a"));
}

#[test]
fn a_branch_that_is_gone_for_a_while_is_no_change() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    f.fire();
    f.a.delete(&main());
    assert_eq!(reason_of(&f.fire(), "a"), Some(Reason::ReferenceNotFound));
    push(&f.a, "1");
    assert!(is_unchanged(&f.fire(), "a"));
}

#[test]
fn a_firing_that_always_runs_outlives_the_failure_and_the_evaluator() {
    let mut f = with_two_sources(|plan| plan.on_change_only = false);
    f.a.fail_with(Some("down"));
    f.fire();
    let firing = f.now;
    assert_eq!(f.state().pending[&RequestId::scheduled()].sources, ["a".to_owned()].into());
    f.crash();
    f.a.fail_with(None);
    f.wait(5);
    f.evaluate();
    assert_eq!(f.begun_keys(), [("b".into(), 0), ("a".into(), 0)]);
    assert_eq!(f.action.begun()[1].firing, Some(firing));
}

struct Refuses(ObjectRef, Retry);

#[async_trait]
impl Source for Refuses {
    fn id(&self) -> &ObjectRef {
        &self.0
    }

    async fn observe(&self, _: &Watch) -> Result<Observation, SourceError> {
        Err(SourceError::new(Reason::RateLimited, self.1, "too many requests"))
    }
}

#[test]
fn a_source_is_tried_again_when_it_asked_for_it() {
    let mut f = Fixture::new(|_| {});
    f.catalog.add_source(Refuses(source("a"), Retry::After(Duration::from_secs(77))));
    let evaluation = f.fire();
    assert_eq!(reason_of(&evaluation, "a"), Some(Reason::RateLimited));
    assert_eq!(evaluation.next, Some(f.now + 77.seconds()));
    f.wait(76);
    assert!(f.try_evaluate(Some(f.now)).unwrap().sources.is_empty());
    f.wait(1);
    assert!(f.evaluate().sources.contains_key("a"));
}

#[test]
fn a_source_is_not_tried_again_before_it_asked_for_it_however_late_that_is() {
    let mut f = Fixture::new(|_| {});
    f.catalog.add_source(Refuses(source("a"), Retry::After(Duration::from_secs(3600))));
    assert_eq!(f.fire().next, Some(f.now + 3600.seconds()));
}

#[test]
fn what_only_a_hand_can_mend_is_tried_again_every_five_minutes() {
    let mut f = Fixture::new(|_| {});
    f.catalog.add_source(Refuses(source("a"), Retry::Never));
    assert_eq!(f.fire().next, Some(f.now + 300.seconds()));
}

#[test]
fn a_source_that_is_not_there_does_not_keep_others_from_running() {
    let mut f = with_two_sources(|plan| plan.sources.insert(0, source("missing")));
    let evaluation = f.fire();
    assert_eq!(reason_of(&evaluation, "missing"), Some(Reason::NotFound));
    assert!(is_started(&evaluation, "a") && is_started(&evaluation, "b"));
}

#[test]
fn an_action_that_is_not_there_leaves_the_change_to_be_tried_again() {
    let mut f = Fixture::new(|plan| plan.action.name = "missing".into());
    push(&f.a, "1");
    let evaluation = f.fire();
    assert_eq!(reason_of(&evaluation, "a"), Some(Reason::NotFound));
    f.catalog.add_action(InMemoryAction::new(f.plan.action.clone()));
    f.wait(1);
    assert!(is_started(&f.evaluate(), "a"));
}

#[test]
fn a_run_that_cannot_be_registered_is_tried_again() {
    let mut f = Fixture::new(|_| {});
    let tip = push(&f.a, "1");
    f.action.fail_with(Some("down"));
    let writes = f.writes();
    assert_eq!(reason_of(&f.fire(), "a"), Some(Reason::Unreachable));
    assert_eq!(f.writes(), writes);
    f.action.fail_with(None);
    f.wait(1);
    f.evaluate();
    assert_eq!(f.begun(), [tip]);
}

#[test]
fn a_run_of_somebody_else_under_the_same_name_is_left_alone() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    let mut theirs = f.trigger(None).0;
    theirs.kind = "OtherTrigger".into();
    let mut other = Fixture::new(|_| {});
    (other.id, other.action) = (theirs, f.action.clone());
    other.store.add(&other.id, 1);
    other.catalog.add_action(f.action.clone().with_slots(0));
    push(&other.a, "1");
    other.fire();
    let (before, writes) = (f.action.all(), f.writes());

    let evaluation = f.fire();
    let Outcome::Failed(Failure::Action(ActionError::NotOurs(key))) = &evaluation.sources["a"] else { panic!("{evaluation:?}") };
    assert_eq!(key.name(), before[0].run.name);
    f.settle();
    assert_eq!((f.action.all(), f.writes()), (before, writes));
}

#[test]
fn an_evaluation_that_comes_to_nothing_is_repeated_later_each_time() {
    let mut f = Fixture::new(|_| {});
    f.store.remove(&f.id);
    let error = f.try_evaluate(None).unwrap_err();
    assert_eq!((error.reason(), error.retry()), (Reason::NotFound, Retry::Never));
    let conflict = StateError::Conflict.into();
    let waits: Vec<_> = (0..3).map(|_| (f.memory.failed(&conflict, f.now) - f.now).get_seconds()).collect();
    assert_eq!(waits, [1, 2, 4]);
    f.store.add(&f.id, 1);
    push(&f.a, "1");
    assert!(f.fire().to_settle);
    assert_eq!(f.memory.failed(&conflict, f.now), f.now + 8.seconds(), "what it has started is not settled");
    f.settle();
    assert_eq!(f.memory.failed(&conflict, f.now), f.now + 1.second());
    f.finish_all();
    f.settle();
    assert!(!f.evaluate().to_settle);
    assert_eq!(f.memory.failed(&conflict, f.now), f.now + 1.second());
}

#[test]
fn looks_at_sources_do_not_wait_for_one_another() {
    let names: Vec<_> = (0..16).map(|n| format!("s{n:02}")).collect();
    let mut f = Fixture::new(|plan| plan.sources = names.iter().map(|name| source(name)).collect());
    let together = Arc::new(tokio::sync::Barrier::new(16));
    for name in &names {
        f.catalog.add_source(Together(source(name), Arc::clone(&together)));
    }
    assert_eq!(f.fire().sources.len(), 16);
}

/// Answers when as many others are looked at.
struct Together(ObjectRef, Arc<tokio::sync::Barrier>);

#[async_trait]
impl Source for Together {
    fn id(&self) -> &ObjectRef {
        &self.0
    }

    async fn observe(&self, _: &Watch) -> Result<Observation, SourceError> {
        self.1.wait().await;
        Ok(Observation { commit: CommitId::digest_of("tip"), tag: None, files: None })
    }
}
