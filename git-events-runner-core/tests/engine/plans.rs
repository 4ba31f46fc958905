//! What changes when the specification does.

use async_trait::async_trait;
use git_events_runner_core::{
    engine::{EvaluateError, Outcome},
    *,
};

use super::fixture::*;

fn tag() -> Reference {
    Reference::Tag("v1".into())
}

#[test]
fn a_plan_of_another_generation_than_the_state_is_not_carried_out() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    f.store.add(&f.id, 2);
    let evaluated = f.try_evaluate(Some(f.now));
    assert!(matches!(evaluated, Err(EvaluateError::OutdatedPlan)));
    assert_eq!(f.action.all(), []);
    f.plan.generation = 2;
    f.fire();
    assert_eq!(f.begun().len(), 1);
}

#[test]
fn a_suspended_trigger_does_not_fire_and_forgets_nothing() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    f.fire();
    f.finish_all();
    f.plan.suspend = true;
    let second = push(&f.a, "2");
    f.request("asked", &["a"], true);
    let (state, evaluation) = (f.state(), f.fire());
    assert!(evaluation.sources.is_empty() && evaluation.next.is_none());
    assert_eq!(f.state(), state);
    f.plan.suspend = false;
    f.evaluate();
    assert_eq!(f.begun()[1..], [second]);
    assert_eq!(f.action.begun()[1].requests, [request_id("asked")].into());
}

#[test]
fn after_suspension_the_policy_is_told_that_the_evaluator_is_fresh() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    let every_hour = Schedule::interval(std::time::Duration::from_secs(3600), &f.id.uid).unwrap();
    let evaluate = |f: &mut Fixture| {
        let trigger = ScheduleTrigger::new(f.id.clone(), f.plan.clone(), every_hour.clone());
        at_once(engine::evaluate(&trigger, &f.store, &f.catalog, &mut f.memory, f.now)).unwrap()
    };
    evaluate(&mut f);
    f.plan.suspend = true;
    let tip = push(&f.a, "2");
    evaluate(&mut f);
    f.plan.suspend = false;
    evaluate(&mut f);
    assert_eq!(f.begun()[1..], [tip]);
}

#[test]
fn another_reference_is_another_place_with_a_first_commit_of_its_own() {
    let mut f = Fixture::new(|_| {});
    let tip = push(&f.a, "1");
    f.a.push(&tag(), &[("file", "1")]);
    f.fire();
    f.plan.watch.reference = tag();
    f.fire();
    let runs: Vec<_> = f.action.begun().into_iter().map(|run| (run.commit, run.previous, run.key.reference, run.key.sequence)).collect();
    assert_eq!(runs, [(tip, None, main(), 0), (tip, None, tag(), 1)]);
}

#[test]
fn with_record_another_reference_takes_another_baseline() {
    let mut f = Fixture::new(|plan| plan.on_first_check = OnFirstCheck::Record);
    push(&f.a, "1");
    f.fire();
    f.plan.watch.reference = tag();
    let at_tag = f.a.push(&tag(), &[("file", "other")]);
    let evaluation = f.fire();
    assert!(matches!(evaluation.sources["a"], Outcome::Baseline(commit) if commit == at_tag));
    assert_eq!(f.begun(), []);
}

#[test]
fn a_source_that_is_removed_and_added_again_runs_under_a_fresh_number() {
    let mut f = Fixture::new(|plan| plan.sources.push(source("b")));
    let tip = push(&f.a, "1");
    push(&f.b, "1");
    f.fire();
    f.plan.sources.remove(0);
    f.fire();
    assert!(!f.state().sources.contains_key("a"));
    f.plan.sources.push(source("a"));
    f.fire();
    assert_eq!(f.begun_keys()[2..], [("a".into(), 1)]);
    assert_eq!(f.begun()[2], tip);
}

#[test]
fn what_failed_or_expired_at_a_source_that_is_removed_is_not_tried_again() {
    let mut f = Fixture::with_slots(0, |plan| plan.sources.push(source("b")));
    push(&f.a, "1");
    push(&f.b, "1");
    f.fire();
    f.b.fail_with(Some("down"));
    f.fire();
    f.plan.sources.remove(1);
    f.wait(300);
    f.drive();
    f.wait(300);
    f.drive();
}

#[test]
fn a_suspended_trigger_tries_nothing_again_until_it_is_resumed() {
    let mut f = Fixture::with_slots(0, |_| {});
    push(&f.a, "1");
    f.fire();
    f.a.fail_with(Some("down"));
    f.fire();
    f.plan.suspend = true;
    f.wait(300);
    f.drive();
    f.wait(300);
    f.drive();
}

#[test]
fn requests_to_a_source_that_is_removed_are_dropped() {
    let mut f = Fixture::new(|plan| plan.sources.push(source("b")));
    push(&f.a, "1");
    push(&f.b, "1");
    f.request("both", &["a", "b"], true);
    f.request("only-b", &["b"], true);
    f.plan.sources.remove(1);
    f.evaluate();
    assert_eq!(f.pending(), [""; 0]);
    assert_eq!(f.begun_keys(), [("a".into(), 0)]);
}

#[test]
fn changed_patterns_compare_the_files_of_both_commits_instead_of_firing() {
    let mut f = Fixture::new(|plan| plan.watch.files = vec!["chart".into()]);
    let first = f.a.push(&main(), &[("chart", "1"), ("values", "1"), ("README.md", "1")]);
    f.fire();
    f.plan.watch.files = vec!["chart".into(), "values".into()];
    assert!(is_unchanged(&f.fire(), "a"));
    f.a.push(&main(), &[("chart", "1"), ("values", "1"), ("README.md", "2")]);
    assert!(is_unchanged(&f.fire(), "a"));
    let third = f.a.push(&main(), &[("chart", "1"), ("values", "2"), ("README.md", "2")]);
    f.fire();
    assert_eq!(f.begun(), [first, third]);
}

#[test]
fn patterns_on_a_trigger_that_had_none_compare_files_too() {
    let mut f = Fixture::new(|_| {});
    f.a.push(&main(), &[("chart", "1"), ("README.md", "1")]);
    f.fire();
    f.plan.watch.files = vec!["chart".into()];
    f.a.push(&main(), &[("chart", "1"), ("README.md", "2")]);
    assert!(is_unchanged(&f.fire(), "a"));
}

/// A source from which all commits but the tip are gone, such as after a forced push.
struct Forgetful(InMemorySource);

#[async_trait]
impl Source for Forgetful {
    fn id(&self) -> &ObjectRef {
        self.0.id()
    }

    async fn observe(&self, watch: &Watch) -> Result<Observation, SourceError> {
        match &watch.reference {
            Reference::Commit(_) => Err(SourceError::reference_not_found(&watch.reference, "here")),
            _ => self.0.observe(watch).await,
        }
    }
}

#[test]
fn with_changed_patterns_a_new_commit_counts_if_nobody_has_the_old_one_any_more() {
    let mut f = Fixture::new(|plan| plan.watch.files = vec!["chart".into()]);
    f.catalog.add_source(Forgetful(f.a.clone()));
    let first = f.a.push(&main(), &[("chart", "1"), ("values", "1")]);
    f.fire();
    f.plan.watch.files = vec!["values".into()];
    assert!(is_unchanged(&f.fire(), "a"), "the same commit has the same files");
    let second = f.a.push(&main(), &[("chart", "2"), ("values", "1")]);
    f.fire();
    assert!(is_unchanged(&f.fire(), "a"));
    assert_eq!(f.begun(), [first, second]);
}
