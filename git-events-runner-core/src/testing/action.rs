use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::Timestamp;

use super::{DEADLINE, eventually};
use crate::{Action, CommitId, Registered, Released, RunKey, RunPhase, RunRef, RunRequest, RunStatus, TriggerId, Withdrawn};

/// What it takes to shake an action. A run of it goes on until the harness ends it.
#[async_trait]
pub trait ActionHarness: Send + Sync {
    /// The action. At most two of its runs may be unfinished at a time.
    fn action(&self) -> &dyn Action;

    /// A run that can begin: of a source and commit that are there. The suite makes others of it, by other triggers and numbers.
    fn request(&self) -> RunRequest;

    /// How often a run has really begun.
    async fn begun(&self, run: &RunRef) -> usize;

    /// Ends a run that goes on, well.
    async fn finish(&self, run: &RunRef);

    /// Loses what is not durable, as a crash would, and opens the same content again.
    async fn restart(&mut self);

    /// How long what is awaited may take.
    fn deadline(&self) -> Duration {
        DEADLINE
    }
}

/// Checks the contract of [`Action`].
pub async fn action<H: ActionHarness, F: Future<Output = H> + Send>(new: impl Fn() -> F + Send + Sync) {
    a_registered_run_is_durable_and_has_not_begun(new().await).await;
    of_one_key_there_is_one_run(&new().await).await;
    another_run_of_the_same_name_is_not_ours(&new().await).await;
    a_run_begins_once_however_often_it_is_released(new().await).await;
    what_is_not_there_is_not_released(&new().await).await;
    a_run_waits_for_its_turn(&new().await).await;
    a_run_that_is_withdrawn_never_begins(new().await).await;
    a_run_that_has_begun_is_not_withdrawn(&new().await).await;
    either_the_release_or_the_withdrawal_wins(&new().await).await;
    a_run_that_is_stopped_is_removed(&new().await).await;
    runs_are_listed_by_their_trigger(&new().await).await;
}

async fn a_registered_run_is_durable_and_has_not_begun(mut harness: impl ActionHarness) {
    let request = RunRequest { previous: Some(CommitId::from_bytes([7; 20])), ..harness.request() };
    let run = register(&harness, &request).await;
    assert_eq!(run.name, request.key.name(), "a run has the name of its key");
    harness.restart().await;
    let listed = only(&harness, &request).await;
    let expected = RunStatus { run: run.clone(), request, phase: RunPhase::Waiting, finished: None };
    assert_eq!(listed, expected, "what is registered is durable, and listed as it was registered");
    assert_eq!(harness.begun(&run).await, 0, "register starts nothing");
}

async fn of_one_key_there_is_one_run(harness: &impl ActionHarness) {
    let request = harness.request();
    let other = RunRequest { commit: CommitId::from_bytes([9; 20]), ..request.clone() };
    let requests: Vec<_> = (0..8).map(|n| if n % 2 == 0 { &request } else { &other }).collect();
    let registered = join_all(requests.iter().map(|request| harness.action().register(request))).await;
    let mut new = vec![];
    let mut existing = vec![];
    for (registered, request) in registered.into_iter().zip(requests) {
        match registered.unwrap() {
            Registered::New(run) => new.push((run, request.clone())),
            Registered::Existing(status) => existing.push((status.run, status.request)),
            Registered::Deleting => panic!("register of a run that nobody has deleted: deleting"),
        }
    }
    assert_eq!(new.len(), 1, "of one key at most one run is registered");
    assert!(existing.iter().all(|found| *found == new[0]), "register answers what was registered first: {existing:?}");
    assert_eq!(only(harness, &request).await.request, new[0].1, "a repeated register changes nothing");
}

async fn another_run_of_the_same_name_is_not_ours(harness: &impl ActionHarness) {
    let request = harness.request();
    let run = register(harness, &request).await;
    // The name says nothing of the trigger's kind: its uid is unique.
    let trigger = TriggerId { kind: "Another".to_owned(), ..request.key.trigger.clone() };
    let other = RunRequest { key: RunKey { trigger, ..request.key.clone() }, ..request.clone() };
    assert_eq!(other.key.name(), run.name);
    let registered = harness.action().register(&other).await;
    assert!(matches!(registered, Err(crate::ActionError::NotOurs(_))), "register over a run of another owner: {registered:?}");
    assert_eq!(only(harness, &request).await.run, run, "a run of another owner is left alone");
}

async fn a_run_begins_once_however_often_it_is_released(mut harness: impl ActionHarness) {
    let request = harness.request();
    let run = register(&harness, &request).await;
    let released = join_all((0..8).map(|_| harness.action().release(&run))).await;
    assert!(
        released.iter().all(|released| matches!(released, Ok(released) if has_its_turn(*released))),
        "a run that may begin does: {released:?}"
    );
    phase(&harness, &run, RunPhase::Running).await;
    harness.restart().await;
    assert_eq!(harness.action().release(&run).await.unwrap(), Released::Begun, "a run that goes on has begun");
    harness.finish(&run).await;
    let ended = phase(&harness, &run, RunPhase::Succeeded).await;
    assert!(ended.finished.is_some(), "a run that has ended says when");
    assert_eq!(harness.action().release(&run).await.unwrap(), Released::Begun, "a run that has ended has begun");
    let registered = harness.action().register(&request).await.unwrap();
    assert_eq!(registered, Registered::Existing(Box::new(ended)), "a run that has ended is there");
    assert_eq!(harness.begun(&run).await, 1, "a run starts at most once, however often it is released");
}

async fn what_is_not_there_is_not_released(harness: &impl ActionHarness) {
    let request = harness.request();
    let run = register(harness, &request).await;
    for run in [RunRef { uid: "another".to_owned(), ..run.clone() }, RunRef { name: "another".to_owned(), ..run.clone() }] {
        assert_eq!(harness.action().release(&run).await.unwrap(), Released::Gone, "release of a run that is not there");
        assert_eq!(harness.action().withdraw(&run).await.unwrap(), Withdrawn::TooLate, "withdraw of a run that is not there");
        assert_eq!(harness.action().get(&run).await.unwrap(), None, "get of a run that is not there");
        harness.action().stop(&run).await.unwrap();
    }
    assert_eq!(only(harness, &request).await.phase, RunPhase::Waiting, "only the run with that uid is touched");
    assert_eq!(harness.begun(&run).await, 0, "only the run with that uid is released");
}

async fn a_run_waits_for_its_turn(harness: &impl ActionHarness) {
    let requests = [0, 1, 2].map(|sequence| numbered(harness, sequence));
    let mut runs = vec![];
    for request in &requests {
        runs.push(register(harness, request).await);
    }
    for run in &runs[..2] {
        assert!(has_its_turn(harness.action().release(run).await.unwrap()), "there are two slots");
    }
    assert_eq!(harness.action().release(&runs[2]).await.unwrap(), Released::Waiting, "a third run waits");
    assert!(has_its_turn(harness.action().release(&runs[0]).await.unwrap()), "one that has begun does not wait");
    eventually(harness.deadline(), "the first run runs", async || (harness.begun(&runs[0]).await == 1).then_some(())).await;
    harness.finish(&runs[0]).await;
    let begun = async || has_its_turn(harness.action().release(&runs[2]).await.unwrap()).then_some(());
    eventually(harness.deadline(), "the third begins when the first has ended", begun).await;
    for run in &runs {
        eventually(harness.deadline(), "each run begins", async || (harness.begun(run).await == 1).then_some(())).await;
    }
}

async fn a_run_that_is_withdrawn_never_begins(mut harness: impl ActionHarness) {
    let request = harness.request();
    let run = register(&harness, &request).await;
    for _ in 0..2 {
        let withdrawn = harness.action().withdraw(&run).await.unwrap();
        assert_eq!(withdrawn, Withdrawn::NeverBegins, "a run that waits can be withdrawn, again and again");
        assert_eq!(only(&harness, &request).await.phase, RunPhase::Deleted, "a run that is withdrawn is listed as deleted");
        assert_eq!(harness.action().release(&run).await.unwrap(), Released::Gone, "a run that is withdrawn cannot be released");
        harness.restart().await;
    }
    harness.action().stop(&run).await.unwrap();
    gone(&harness, &run, &request).await;
    assert_eq!(harness.begun(&run).await, 0, "a run that is withdrawn never begins");
}

async fn a_run_that_has_begun_is_not_withdrawn(harness: &impl ActionHarness) {
    let request = harness.request();
    let run = register(harness, &request).await;
    harness.action().release(&run).await.unwrap();
    phase(harness, &run, RunPhase::Running).await;
    assert_eq!(harness.action().withdraw(&run).await.unwrap(), Withdrawn::TooLate, "a run that goes on cannot be withdrawn");
    harness.finish(&run).await;
    phase(harness, &run, RunPhase::Succeeded).await;
    assert_eq!(harness.action().withdraw(&run).await.unwrap(), Withdrawn::TooLate, "a run that has ended cannot be withdrawn");
    phase(harness, &run, RunPhase::Succeeded).await;
}

async fn either_the_release_or_the_withdrawal_wins(harness: &impl ActionHarness) {
    for sequence in 0..6 {
        let request = numbered(harness, sequence);
        let run = register(harness, &request).await;
        let (release, withdraw) = (harness.action().release(&run), harness.action().withdraw(&run));
        let (released, withdrawn) = if sequence % 2 == 0 {
            futures_util::future::join(release, withdraw).await
        } else {
            let (withdrawn, released) = futures_util::future::join(withdraw, release).await;
            (released, withdrawn)
        };
        match (released.unwrap(), withdrawn.unwrap()) {
            (Released::Gone, Withdrawn::NeverBegins) => {
                assert_eq!(harness.begun(&run).await, 0, "a run that was withdrawn in time never begins");
            }
            (Released::Begun | Released::Preparing, Withdrawn::TooLate) => {
                eventually(harness.deadline(), "a run that was released in time begins", async || {
                    (harness.begun(&run).await == 1).then_some(())
                })
                .await;
            }
            both => panic!("release and withdraw at once: {both:?}"),
        }
        harness.action().stop(&run).await.unwrap();
        gone(harness, &run, &request).await;
    }
}

async fn a_run_that_is_stopped_is_removed(harness: &impl ActionHarness) {
    let request = harness.request();
    let waiting = register(harness, &request).await;
    harness.action().stop(&waiting).await.unwrap();
    gone(harness, &waiting, &request).await;
    assert_eq!(harness.action().release(&waiting).await.unwrap(), Released::Gone, "a run that was stopped cannot be released");

    let again = async || match harness.action().register(&request).await.unwrap() {
        Registered::New(run) => Some(run),
        Registered::Existing(_) | Registered::Deleting => None,
    };
    let running = eventually(harness.deadline(), "a run that was stopped can be registered again", again).await;
    assert_ne!(running.uid, waiting.uid, "a run that is registered again has another uid");
    harness.action().release(&running).await.unwrap();
    phase(harness, &running, RunPhase::Running).await;
    harness.action().stop(&waiting).await.unwrap();
    assert_eq!(only(harness, &request).await.run, running, "stop ends the run with that uid only");
    for _ in 0..2 {
        harness.action().stop(&running).await.unwrap();
        gone(harness, &running, &request).await;
    }
    assert_eq!(harness.action().release(&running).await.unwrap(), Released::Gone, "a run that was stopped does not begin again");
}

async fn runs_are_listed_by_their_trigger(harness: &impl ActionHarness) {
    let request = harness.request();
    let other_life = TriggerId { uid: "another".to_owned(), ..request.key.trigger.clone() };
    let other = RunRequest { key: RunKey { trigger: other_life, ..request.key.clone() }, ..request.clone() };
    let second = numbered(harness, 1);
    let runs = [register(harness, &request).await, register(harness, &second).await];
    let of_other = register(harness, &other).await;
    let mut listed: Vec<_> = list(harness, &request).await.into_iter().map(|status| (status.run, status.request)).collect();
    listed.sort_by_key(|(_, request)| request.key.sequence);
    assert_eq!(listed, runs.into_iter().zip([request.clone(), second]).collect::<Vec<_>>(), "all runs of a trigger are listed");
    assert_eq!(only(harness, &other).await.run, of_other, "and none of another trigger, or another life of it");
    let nobody = TriggerId { name: "nobody".to_owned(), ..request.key.trigger };
    assert_eq!(harness.action().unfinished(&nobody).await.unwrap(), [], "a trigger without runs has none");
}

fn numbered(harness: &impl ActionHarness, sequence: u64) -> RunRequest {
    let request = harness.request();
    let instant = Timestamp::from_second(i64::try_from(sequence).unwrap()).unwrap();
    RunRequest { key: RunKey { sequence, ..request.key.clone() }, instant, ..request }
}

async fn register(harness: &impl ActionHarness, request: &RunRequest) -> RunRef {
    match harness.action().register(request).await.unwrap() {
        Registered::New(run) => run,
        other => panic!("register of a new key: {other:?}"),
    }
}

async fn list(harness: &impl ActionHarness, request: &RunRequest) -> Vec<RunStatus> {
    let unfinished = harness.action().unfinished(&request.key.trigger).await.unwrap();
    assert!(unfinished.iter().all(|status| !status.phase.has_ended()), "a run that has ended is not listed: {unfinished:?}");
    unfinished
}

async fn only(harness: &impl ActionHarness, request: &RunRequest) -> RunStatus {
    let mut runs = list(harness, request).await;
    assert_eq!(runs.len(), 1, "there is one run: {runs:?}");
    let listed = runs.remove(0);
    let there = harness.action().get(&listed.run).await.unwrap().map(|status| status.request);
    assert_eq!(there.as_ref(), Some(&listed.request), "what is listed is there");
    listed
}

async fn phase(harness: &impl ActionHarness, run: &RunRef, phase: RunPhase) -> RunStatus {
    let what = format!("the run is {phase:?}");
    let reached = async || harness.action().get(run).await.unwrap().filter(|status| status.phase == phase);
    let status = eventually(harness.deadline(), &what, reached).await;
    let is_listed = list(harness, &status.request).await.iter().any(|listed| listed.run == *run);
    assert_eq!(is_listed, !phase.has_ended(), "a run is listed until it has ended");
    status
}

async fn gone(harness: &impl ActionHarness, run: &RunRef, request: &RunRequest) {
    let is_gone = async || harness.action().get(run).await.unwrap().is_none().then_some(());
    eventually(harness.deadline(), "a run that is stopped is removed", is_gone).await;
    assert!(list(harness, request).await.iter().all(|status| status.run != *run), "a run that is removed is not listed");
}

fn has_its_turn(released: Released) -> bool {
    matches!(released, Released::Begun | Released::Preparing)
}
