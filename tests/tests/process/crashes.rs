//! What is left when something is killed.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use futures_util::future::join_all;
use git_events_runner_core::*;
use serde_json::json;

use super::machine::*;

const APPENDS: &str = "echo $$ >> $FILES/ran; while [ ! -e $FILES/go ]; do sleep 0.02; done";

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_killed_before_the_command_is_followed_by_another() {
    let machine = Machine::script("echo ran >> $FILES/ran");
    let (tells, waits) = (machine.file("tells"), machine.file("waits"));
    let machine = machine.with_checkout(json!({"tells": tells, "waits_for": waits}));
    let run = machine.register(&request()).await;
    for _ in 0..2 {
        assert_eq!(machine.action.release(&run).await.unwrap(), Released::Preparing);
        assert_eq!(machine.action.release(&run).await.unwrap(), Released::Preparing, "while it checks out");
        eventually("it checks out", async || tells.exists().then_some(())).await;
        let supervisor = supervisor_that_holds(&machine.folder_of(&run).join("lock"));
        kill(supervisor);
        eventually("it is dead", async || (!runs(supervisor)).then_some(())).await;
        fs::remove_file(&tells).unwrap();
        assert_eq!(machine.phase(&run).await, RunPhase::Waiting);
    }
    fs::write(&waits, "").unwrap();
    machine.release(&run).await;
    assert_eq!(machine.end(&run).await.0.status.phase, RunPhase::Succeeded);
    assert_eq!(machine.lines_of("ran"), ["ran"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_supervisor_is_killed_is_interrupted_and_never_runs_again() {
    let machine = Machine::script("sh -c 'echo $$ >> $FILES/children; sleep 1000' & setsid -w true; echo $$ >> $FILES/ran; sleep 1000");
    let run = machine.begin().await;
    let pid = eventually("it runs", async || machine.lines_of("ran").pop()).await;
    let child = eventually("its child runs", async || machine.lines_of("children").pop()).await;
    let supervisor = machine.supervisor_of(&run).await;
    kill(supervisor);
    eventually("it is dead", async || (!runs(supervisor)).then_some(())).await;
    assert!(runs(pid.parse().unwrap()), "the command goes on, with nobody to look after it");

    let report = machine.runs.get(&run).await.unwrap().unwrap();
    assert_eq!(report.status.phase, RunPhase::Failed);
    let ending = report.ending.unwrap();
    assert!(ending.message.unwrap().starts_with("interrupted"));
    assert!(ending.started.is_some());
    for pid in [pid, child] {
        assert!(!runs(pid.parse().unwrap()), "what was started is ended");
    }
    assert_eq!(machine.action.release(&run).await.unwrap(), Released::Begun);
    let registered = machine.action.register(&request()).await.unwrap();
    assert!(matches!(registered, Registered::Existing(status) if status.phase == RunPhase::Failed));
    assert_eq!(machine.lines_of("ran").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_killed_after_the_end_changes_nothing() {
    let machine = Machine::script("echo ran >> $FILES/ran");
    let (report, _) = machine.run().await;
    let supervisor = machine.supervisor_of(&report.status.run).await;
    if runs(supervisor) {
        let _ = Command::new("kill").args(["-9", &supervisor.to_string()]).stderr(Stdio::null()).status();
    }
    assert_eq!(machine.phase(&report.status.run).await, RunPhase::Succeeded);
    assert_eq!(machine.action.release(&report.status.run).await.unwrap(), Released::Begun);
    assert_eq!(machine.lines_of("ran"), ["ran"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_outlive_whoever_has_started_them() {
    let machine = Machine::script("echo first; echo $$ >> $FILES/ran; while [ ! -e $FILES/go ]; do sleep 0.02; done; echo second");
    let run = machine.register(&request()).await;
    // Another process releases it, waits for its output, and is killed.
    let mut starter = starter(&machine, &run);
    eventually("it runs", async || machine.lines_of("ran").pop()).await;
    starter.kill().unwrap();
    starter.wait().unwrap();
    assert_eq!(machine.phase(&run).await, RunPhase::Running);
    fs::write(machine.file("go"), "").unwrap();
    let (report, lines) = machine.end(&run).await;
    assert_eq!((report.status.phase, lines), (RunPhase::Succeeded, vec!["first".to_owned(), "second".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_released_by_several_processes_at_once_starts_once() {
    let machine = Machine::script(APPENDS);
    for sequence in 0..5 {
        let mut request = request();
        request.key.sequence = sequence;
        let run = machine.register(&request).await;
        let mut starters: Vec<_> = (0..3).map(|_| starter(&machine, &run)).collect();
        let here = join_all((0..3).map(|_| machine.action.release(&run))).await;
        assert!(here.iter().all(|released| matches!(released, Ok(Released::Begun | Released::Preparing))), "{here:?}");
        for starter in &mut starters {
            assert!(starter.wait().unwrap().success());
        }
        let expected = usize::try_from(sequence).unwrap() + 1;
        eventually("it has run", async || (machine.lines_of("ran").len() >= expected).then_some(())).await;
        assert_eq!(machine.lines_of("ran").len(), expected);
    }
    fs::write(machine.file("go"), "").unwrap();
    for report in machine.runs.all().await.unwrap() {
        machine.end(&report.status.run).await;
    }
    assert_eq!(machine.lines_of("ran").len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn supervisors_of_their_own_accord_start_nothing_twice() {
    let machine = Machine::script(APPENDS);
    let run = machine.begin().await;
    eventually("it runs", async || machine.lines_of("ran").pop()).await;
    fs::write(machine.file("go"), "").unwrap();
    machine.end(&run).await;
    let other = machine.register(&RunRequest { key: RunKey { sequence: 1, ..request().key }, ..request() }).await;
    for (run, uid) in [(&run, run.uid.as_str()), (&other, "another")] {
        supervise_by_hand(&machine, run, uid);
    }
    assert_eq!(machine.lines_of("ran").len(), 1);
    assert_eq!(machine.phase(&other).await, RunPhase::Waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_leaves_a_run_alone_that_another_one_checks_out() {
    let machine = Machine::script("echo once >> $FILES/ran");
    let (tells, waits) = (machine.file("tells"), machine.file("waits"));
    let machine = machine.with_checkout(json!({"tells": tells, "waits_for": waits}));
    let run = machine.begin().await;
    eventually("it checks out", async || tells.exists().then_some(())).await;
    supervise_by_hand(&machine, &run, &run.uid);
    assert_eq!(machine.lines_of("ran"), [""; 0]);
    fs::write(&waits, "").unwrap();
    assert_eq!(machine.end(&run).await.0.status.phase, RunPhase::Succeeded);
    assert_eq!(machine.lines_of("ran"), ["once"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_that_goes_on_counts_as_begun_once_somebody_wants_to_withdraw_it() {
    let machine = Machine::script("true");
    let tells = machine.file("tells");
    let machine = machine.with_checkout(json!({"tells": tells, "waits_for": "/nowhere"}));
    let run = machine.begin().await;
    eventually("it checks out", async || tells.exists().then_some(())).await;
    assert_eq!(machine.phase(&run).await, RunPhase::Waiting);
    assert_eq!(machine.action.withdraw(&run).await.unwrap(), Withdrawn::TooLate);
    assert_eq!(machine.phase(&run).await, RunPhase::Running);
    kill(supervisor_that_holds(&machine.folder_of(&run).join("lock")));
    eventually("it is over", async || (machine.phase(&run).await == RunPhase::Failed).then_some(())).await;
    assert_eq!(machine.action.release(&run).await.unwrap(), Released::Begun);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_ends_with_everything_it_has_started() {
    let script =
        "setsid sh -c 'echo $$ >> $FILES/pids; sleep 1000' & trap '' TERM; echo $$ >> $FILES/pids; while true; do sleep 0.05; done";
    let machine = Machine::script(script);
    let run = machine.begin().await;
    eventually("it runs", async || (machine.lines_of("pids").len() == 2).then_some(())).await;
    let supervisor = machine.supervisor_of(&run).await;
    machine.action.stop(&run).await.unwrap();
    assert!(machine.runs.get(&run).await.unwrap().is_none());
    assert!(!machine.folder_of(&run).exists());
    assert!(!runs(supervisor));
    for pid in machine.lines_of("pids") {
        assert!(!runs(pid.parse().unwrap()), "{pid}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_hangs_does_not_keep_its_run_from_being_stopped() {
    let machine = Machine::script("echo $$ >> $FILES/ran; sleep 1000");
    let run = machine.begin().await;
    let pid = eventually("it runs", async || machine.lines_of("ran").pop()).await;
    // Killed while it is being stopped: what it looked after is ended all the same.
    kill(machine.supervisor_of(&run).await);
    machine.action.stop(&run).await.unwrap();
    assert!(!runs(pid.parse().unwrap()));
    assert!(!machine.folder_of(&run).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_killed_at_random_moments_start_at_most_once() {
    let machine = Machine::script("echo $TRIGGER_SOURCE_REF_NAME >> $FILES/ran");
    for n in 0..40 {
        let key = RunKey { reference: Reference::Branch(n.to_string()), ..request().key };
        let run = machine.register(&RunRequest { key, ..request() }).await;
        let mut starter = starter(&machine, &run);
        // Where in its life the kill falls is up to how busy the machine is: all of it is allowed.
        tokio::time::sleep(Duration::from_millis(n % 20)).await;
        let lock = machine.folder_of(&run).join("lock");
        if let Some(supervisor) = holder(&lock) {
            let _ = Command::new("kill").args(["-9", &supervisor.to_string()]).stderr(Stdio::null()).status();
        }
        let _ = starter.kill();
        starter.wait().unwrap();
        let over = async || {
            machine.action.release(&run).await.unwrap();
            machine.phase(&run).await.is_finished().then_some(())
        };
        eventually("it is over", over).await;
    }
    let ran = machine.lines_of("ran");
    let mut unique = ran.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(ran.len(), unique.len(), "{ran:?}");
    let succeeded = machine.runs.all().await.unwrap().iter().filter(|report| report.status.phase == RunPhase::Succeeded).count();
    assert!(succeeded <= ran.len(), "a run that has succeeded has run");
}

/// Starts a supervisor that nobody has asked for, and waits until it has ended.
fn supervise_by_hand(machine: &Machine, run: &RunRef, uid: &str) {
    let job = json!({"uid": uid, "argv": ["sh", "-c", "echo twice >> $FILES/ran"], "environment": {"FILES": machine.folder.path()},
        "checkout": {}, "revision": request().revision(), "deadline": null, "grace": {"secs": 1, "nanos": 0}});
    let mut supervisor = Command::new(&machine.supervisor.program).arg(machine.folder_of(run)).stdin(Stdio::piped()).spawn().unwrap();
    serde_json::to_writer(supervisor.stdin.take().unwrap(), &job).unwrap();
    assert!(supervisor.wait().unwrap().success());
}

/// Another process that releases a run: as local mode would.
fn starter(machine: &Machine, run: &RunRef) -> std::process::Child {
    let job = json!({"runs": machine.file("runs"), "supervisor": machine.supervisor.program, "argv": machine.command.argv,
        "environment": machine.command.environment, "checkout": machine.origin.checkout, "run": run});
    let program = env!("CARGO_BIN_EXE_test-starter");
    Command::new(program).arg(job.to_string()).stdout(Stdio::null()).spawn().unwrap()
}

fn supervisor_that_holds(lock: &std::path::Path) -> i32 {
    holder(lock).expect("a supervisor is at it")
}
