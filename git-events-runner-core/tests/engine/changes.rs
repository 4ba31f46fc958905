//! What a check finds, and what that starts.

use async_trait::async_trait;
use git_events_runner_core::{engine::Outcome, *};

use super::fixture::*;

#[test]
fn the_first_commit_ever_seen_starts_the_action() {
    let mut f = Fixture::new(|_| {});
    let tip = push(&f.a, "1");
    assert!(is_started(&f.fire(), "a"));
    let run = &f.action.begun()[0];
    assert_eq!((run.commit, run.previous, run.key.sequence, run.firing), (tip, None, 0, Some(f.now)));
    let state = &f.state().sources["a"];
    assert_eq!((state.commit, state.sequence), (Some(tip), 1));
}

#[test]
fn with_record_the_first_commit_is_the_baseline_and_starts_nothing() {
    let mut f = Fixture::new(|plan| plan.on_first_check = OnFirstCheck::Record);
    let first = push(&f.a, "1");
    let evaluation = f.fire();
    assert!(matches!(evaluation.sources["a"], Outcome::Baseline(commit) if commit == first));
    assert_eq!(f.begun(), []);
    let second = push(&f.a, "2");
    f.fire();
    assert_eq!(f.action.begun().iter().map(|run| (run.commit, run.previous)).collect::<Vec<_>>(), [(second, Some(first))]);
}

#[test]
fn a_check_that_finds_nothing_new_writes_nothing() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    f.fire();
    f.finish_all();
    let writes = f.writes();
    assert!(is_unchanged(&f.fire(), "a"));
    f.settle();
    f.release_waiting();
    assert!(is_unchanged(&f.fire(), "a"));
    assert_eq!(f.writes(), writes);
}

/// A tag that is always seen as this commit, by this object.
struct AnnotatedTag {
    id: ObjectRef,
    commit: CommitId,
    tag: CommitId,
}

#[async_trait]
impl Source for AnnotatedTag {
    fn id(&self) -> &ObjectRef {
        &self.id
    }

    async fn observe(&self, watch: &Watch) -> Result<Observation, SourceError> {
        let commit = if let Reference::Commit(commit) = watch.reference { commit } else { self.commit };
        let digest = || FilesDigest { patterns: format!("{:?}", watch.files), files: Some(commit.to_string()) };
        Ok(Observation { commit, tag: Some(self.tag), files: (!watch.files.is_empty()).then(digest) })
    }
}

#[test]
fn a_state_that_knows_an_annotated_tag_by_its_own_object_is_taken_over_without_a_run() {
    let (commit, tag) = (CommitId::digest_of("commit"), CommitId::digest_of("tag"));
    for files in [vec![], vec!["file".to_owned()]] {
        let mut f = Fixture::new(|plan| plan.watch = Watch { reference: Reference::Tag("v1".into()), files });
        f.catalog.add_source(AnnotatedTag { id: source("a"), commit, tag });
        let taken_over = SourceState { commit: Some(tag), ..SourceState::new(f.plan.watch.reference.clone()) };
        let change = Change { sources: [("a".to_owned(), taken_over)].into(), ..Change::default() };
        let version = at_once(f.store.load(&f.id)).unwrap().version;
        at_once(f.store.record(&f.id, &version, &change)).unwrap();
        let writes = f.writes();
        f.request_with("of-a-forge", &["a"], false, Some(tag));
        assert!(is_unchanged(&f.fire(), "a"), "the tag that the request speaks of is what is seen");
        assert_eq!((f.begun(), f.writes()), (vec![], writes + 2), "nothing is written but the request, and that it is served");

        let moved = CommitId::digest_of("moved");
        f.catalog.add_source(AnnotatedTag { id: source("a"), commit: moved, tag: CommitId::digest_of("moved tag") });
        f.fire();
        assert_eq!(f.begun(), [moved]);
    }
}

#[test]
fn a_second_push_runs_once() {
    let mut f = Fixture::new(|_| {});
    let first = push(&f.a, "1");
    f.fire();
    let second = push(&f.a, "2");
    f.fire();
    f.fire();
    assert_eq!(f.begun(), [first, second]);
    assert_eq!(f.action.begun()[1].previous, Some(first));
    assert_eq!(f.state().sources["a"].previous, Some(first));
}

#[test]
fn pushes_between_two_checks_run_the_newest_only() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    let tip = push(&f.a, "2");
    f.fire();
    assert_eq!(f.begun(), [tip]);
}

#[test]
fn a_revert_runs_again() {
    let mut f = Fixture::new(|_| {});
    let first = push(&f.a, "1");
    f.fire();
    let second = push(&f.a, "2");
    f.fire();
    push(&f.a, "1");
    f.fire();
    assert_eq!(f.begun(), [first, second, first]);
}

#[test]
fn each_source_starts_the_action_on_its_own() {
    let mut f = Fixture::new(|plan| plan.sources.push(source("b")));
    let tips = [push(&f.a, "a"), push(&f.b, "b")];
    f.fire();
    assert_eq!(f.begun(), tips);
    push(&f.b, "b2");
    f.fire();
    assert_eq!(f.begun_keys(), [("a".into(), 0), ("b".into(), 0), ("b".into(), 1)]);
}

#[test]
fn without_on_change_only_each_firing_has_its_run() {
    let mut f = Fixture::new(|plan| plan.on_change_only = false);
    let tip = push(&f.a, "1");
    f.fire();
    f.fire();
    f.fire();
    assert_eq!(f.begun(), [tip; 3]);
}

#[test]
fn a_firing_that_had_its_run_has_none_by_the_next_evaluator() {
    let mut f = Fixture::new(|plan| plan.on_change_only = false);
    push(&f.a, "1");
    f.fire();
    f.crash();
    f.try_evaluate(Some(f.now)).unwrap();
    assert_eq!(f.begun().len(), 1);
}

#[test]
fn with_patterns_a_new_commit_counts_only_if_a_matching_file_differs() {
    let mut f = Fixture::new(|plan| plan.watch.files = vec!["chart".into()]);
    let first = f.a.push(&main(), &[("chart", "1"), ("README.md", "1")]);
    f.fire();
    f.finish_all();
    let writes = f.writes();
    f.a.push(&main(), &[("chart", "1"), ("README.md", "2")]);
    assert!(is_unchanged(&f.fire(), "a"));
    assert_eq!(f.writes(), writes);
    let third = f.a.push(&main(), &[("chart", "2"), ("README.md", "2")]);
    f.fire();
    assert_eq!(f.begun(), [first, third]);
}

#[test]
fn a_commit_in_which_no_file_matches_counts_as_a_change() {
    let mut f = Fixture::new(|plan| plan.watch.files = vec!["chart".into()]);
    let first = f.a.push(&main(), &[("README.md", "1")]);
    f.fire();
    let second = f.a.push(&main(), &[("README.md", "2")]);
    f.fire();
    assert!(is_unchanged(&f.fire(), "a"));
    assert_eq!(f.begun(), [first, second]);
}

#[test]
fn a_tip_that_goes_back_and_forth_between_two_checks_is_no_change() {
    let mut f = Fixture::new(|_| {});
    push(&f.a, "1");
    f.fire();
    push(&f.a, "2");
    push(&f.a, "1");
    assert!(is_unchanged(&f.fire(), "a"));
}
