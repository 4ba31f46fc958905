//! What a run does, and how it ends.

use std::{fs, time::Duration};

use futures_util::future::join_all;
use git_events_runner_core::*;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::machine::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ends_well_has_succeeded_and_leaves_its_output_and_no_files() {
    let machine = Machine::new(&["./greet.sh", "a b", "$HOME; *"])
        .with_files(json!({"greet.sh": "#!/bin/sh\necho hello \"$1\" \"$2\"; echo error >&2"}));
    let (report, lines) = machine.run().await;
    assert_eq!(report.status.phase, RunPhase::Succeeded);
    let ending = report.ending.unwrap();
    assert_eq!((ending.code, ending.signal, ending.message), (Some(0), None, None));
    assert!(ending.started.unwrap() <= ending.finished);
    assert_eq!(lines, ["hello a b $HOME; *", "error"]);
    assert_eq!(fs::read_to_string(&report.output).unwrap(), "hello a b $HOME; *\nerror\n");
    let workdir = machine.folder_of(&report.status.run).join("workdir");
    eventually("the files are removed", async || (!workdir.exists()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exact_commit_is_checked_out_where_the_command_runs() {
    let (_, lines) = Machine::script("cat COMMIT; echo; [ \"$PWD\" = \"$WORKDIR\" ] && echo here").run().await;
    assert_eq!(lines, ["0101010101010101010101010101010101010101", "here"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_and_signals_are_reported() {
    for (script, code, signal) in [("exit 3", Some(3), None), ("kill -9 $$", None, Some(9)), ("kill -TERM $$", None, Some(15))] {
        let (report, _) = Machine::script(script).run().await;
        let ending = report.ending.unwrap();
        assert_eq!((ending.code, ending.signal, ending.message), (code, signal, None), "{script}");
        assert_eq!(report.status.phase, RunPhase::Failed);
        assert_eq!(report.status.finished, Some(ending.finished));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_be_started_says_why() {
    let files = json!({"no-interpreter": "#!/nowhere/sh\n", "folder/x": ""});
    for (program, message) in [
        ("./missing.sh", "`./missing.sh` is not among the checked-out files"),
        ("no-such-program", "`no-such-program` is not in PATH; a file of the repository is `./no-such-program`"),
        ("./folder", "`./folder` is not executable: `git update-index --chmod=+x` makes it so"),
        ("./no-interpreter", "`./no-interpreter` cannot be started: what its first line names is not there"),
    ] {
        let (report, _) = Machine::new(&[program]).with_files(files.clone()).run().await;
        assert_eq!(report.status.phase, RunPhase::Failed);
        assert_eq!(report.ending.unwrap().message.unwrap(), message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_that_fails_is_a_run_that_failed_and_is_not_tried_again() {
    let machine = Machine::script("echo ran >> $FILES/ran").with_checkout(json!({"fails": "there is no commit"}));
    let (report, _) = machine.run().await;
    let ending = report.ending.unwrap();
    assert_eq!((ending.code, ending.started), (None, None));
    assert_eq!(ending.message.unwrap(), "its files cannot be checked out: there is no commit");
    assert_eq!(report.status.phase, RunPhase::Failed);
    assert_eq!(machine.action.release(&report.status.run).await.unwrap(), Released::Begun);
    assert_eq!(machine.lines_of("ran"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_from_a_server_that_is_away_begins_anew() {
    let machine = Machine::script("ls >> $FILES/ran");
    let checkout = json!({ "away": machine.file("away"), "files": { "whole": "" } });
    let machine = machine.with_checkout(checkout);
    let (report, _) = machine.run().await;
    assert_eq!((report.status.phase, report.ending.unwrap().message), (RunPhase::Succeeded, None));
    assert!(machine.file("away").exists(), "the server was away");
    assert_eq!(machine.lines_of("ran"), ["COMMIT", "whole"], "and nothing is left of that");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_gets_what_is_documented_and_nothing_else() {
    let mut machine = Machine::new(&["env"]);
    let own = [("TOKEN", "secret\nline"), ("TRIGGER_NAME", "own"), ("ACTION_JOB_TRIGGER_KIND", "own")];
    machine.command.environment = own.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    machine.restart();
    let (report, lines) = machine.run().await;
    let variables = Machine::variables(&lines);
    let workdir = machine.folder_of(&report.status.run).join("workdir");
    let documented = [
        ("WORKDIR", workdir.to_str().unwrap()),
        ("TRIGGER_KIND", "ScheduleTrigger"),
        ("TRIGGER_NAMESPACE", "default"),
        ("TRIGGER_NAME", "app"),
        ("TRIGGER_SOURCE_KIND", "GitRepo"),
        ("TRIGGER_SOURCE_NAMESPACE", "default"),
        ("TRIGGER_SOURCE_NAME", "app"),
        ("TRIGGER_SOURCE_URI", "https://git.example.com/app.git"),
        ("TRIGGER_SOURCE_COMMIT", "0101010101010101010101010101010101010101"),
        ("TRIGGER_SOURCE_PREVIOUS_COMMIT", ""),
        ("TRIGGER_SOURCE_REF_TYPE", "branch"),
        ("TRIGGER_SOURCE_REF_NAME", "main"),
        ("TRIGGER_REQUEST_ID", ""),
    ];
    let mut known = vec!["TOKEN".to_owned()];
    for (name, value) in documented {
        assert_eq!(variables[&format!("ACTION_JOB_{name}")], value);
        let expected = if name == "TRIGGER_NAME" { "own" } else { value };
        assert_eq!(variables[name], expected, "{name}: the action's own goes before one without prefix");
        known.extend([name.to_owned(), format!("ACTION_JOB_{name}")]);
    }
    assert_eq!(variables["TOKEN"], "secret");
    known.extend(process::PASSED_ON.map(str::to_owned));
    let unknown: Vec<_> = variables.keys().filter(|name| !known.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert_eq!(variables["PATH"], std::env::var("PATH").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_source_can_be_checked_out_instead() {
    let mut machine =
        Machine::script("cat COMMIT; echo; echo $ACTION_JOB_ACTION_SOURCE_NAME $ACTION_SOURCE_REF_NAME $TRIGGER_SOURCE_COMMIT");
    let revision = Revision { reference: Reference::Tag("v1".into()), commit: CommitId::from_bytes([2; 20]) };
    machine.origin.overridden = Some((ObjectRef::namespaced("GitRepo", "default", "tools"), revision));
    machine.restart();
    let (_, lines) = machine.run().await;
    assert_eq!(lines, ["0202020202020202020202020202020202020202", "tools v1 0101010101010101010101010101010101010101"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_on_the_disk_or_in_an_argument() {
    let mut machine = Machine::script("cat /proc/$PPID/cmdline /proc/$$/cmdline; grep -rl 5eCret \"$FILES\"; echo done");
    machine.command.environment.push(("TOKEN".to_owned(), "5eCret".to_owned()));
    machine.origin.checkout = json!({"password": "5eCret"});
    machine.restart();
    let (_, lines) = machine.run().await;
    // The script itself has the word in its arguments, twice at most, and nothing else has.
    assert_eq!(lines.concat().matches("5eCret").count(), 1, "{lines:?}");
    assert!(lines.last().unwrap().ends_with("done"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_any_kind_is_kept_line_by_line() {
    let script = r"printf 'one\ntwo'; printf '\377\000\n'; head -c 40000 /dev/zero | tr '\0' x; printf 'end'";
    let (_, lines) = Machine::script(script).run().await;
    assert_eq!(lines[..2], ["one", "two\u{FFFD}\0"]);
    assert_eq!(lines[2..].iter().map(String::len).collect::<Vec<_>>(), [16384, 16384, 40003 - 2 * 16384]);
    assert!(lines[4].ends_with("xend"));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_without_end_does_not_fill_the_disk_nor_stop_the_command() {
    let machine = Machine::script("head -c 20000000 /dev/zero | tr '\\0' '\\n'; exit 7");
    let (report, lines) = machine.run().await;
    assert_eq!(report.ending.unwrap().code, Some(7));
    assert_eq!(lines.last().unwrap(), "[the rest is not kept: the output of a run may be 16 MiB long]");
    assert!(fs::metadata(report.output).unwrap().len() < 17_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_followed_while_the_command_runs() {
    let machine = Machine::script("echo first; while [ ! -e $FILES/go ]; do sleep 0.02; done; echo second");
    let run = machine.begin().await;
    let mut output = machine.runs.output(&run);
    let first = eventually("there is output", async || output.read_new_lines().unwrap().pop()).await;
    assert_eq!(first, "first");
    assert_eq!(machine.phase(&run).await, RunPhase::Running);
    fs::write(machine.file("go"), "").unwrap();
    assert_eq!(machine.end(&run).await.1, ["first", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_ends_a_run_with_everything_it_has_started() {
    let script = "(trap '' TERM; echo $$ >> $FILES/pids; sleep 1000) & sh -c 'echo $$ >> $FILES/pids; sleep 1000' & \
        echo $$ >> $FILES/pids; trap 'echo ending; exit 0' TERM; while true; do sleep 0.05; done";
    let machine = Machine::script(script).with_deadline(Duration::from_secs(3)).with_grace(Duration::from_secs(10));
    let (report, lines) = machine.run().await;
    assert_eq!(report.status.phase, RunPhase::Failed, "even if the command ends well in its grace");
    assert_eq!(report.ending.unwrap().message.unwrap(), "ended at its deadline, after 3s");
    // The shell says of its children how they ended, too.
    assert_eq!(lines.last().unwrap(), "ending");
    for pid in machine.lines_of("pids") {
        assert!(!runs(pid.parse().unwrap()), "{pid}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_want_to_end_is_killed_after_its_grace() {
    let machine = Machine::script("trap '' TERM; while true; do sleep 0.05; done").with_deadline(Duration::from_secs(3));
    let ending = machine.run().await.0.ending.unwrap();
    assert_eq!((ending.signal, ending.message.unwrap().as_str()), (Some(9), "ended at its deadline, after 3s"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_counts_for_the_checkout_as_well() {
    let machine =
        Machine::script("echo ran > $FILES/ran").with_checkout(json!({"waits_for": "/nowhere"})).with_deadline(Duration::from_millis(100));
    let ending = machine.run().await.0.ending.unwrap();
    assert_eq!((ending.started, ending.message.unwrap().as_str()), (None, "ended at its deadline, after 100ms"));
    assert_eq!(machine.lines_of("ran"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_behind_ends_with_it() {
    // One in the group, one that has left group and session, and one below that.
    let script = "sleep 1000 & echo $! >> $FILES/pids; \
        setsid sh -c 'echo $$ >> $FILES/pids; sh -c \"echo \\$\\$ >> $FILES/pids; sleep 1000\" & wait' & \
        while [ $(wc -l < $FILES/pids) -lt 3 ]; do sleep 0.02; done; echo done";
    let machine = Machine::script(script);
    let (report, lines) = machine.run().await;
    assert_eq!((report.status.phase, lines), (RunPhase::Succeeded, vec!["done".to_owned()]));
    let pids = machine.lines_of("pids");
    assert_eq!(pids.len(), 3);
    for pid in pids {
        assert!(!runs(pid.parse().unwrap()), "{pid}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_released_at_once_do_not_share_a_slot() {
    let mut machine = Machine::script("while true; do sleep 0.05; done");
    machine.runs = machine.runs.clone().with_max_running(2);
    machine.restart();
    let mut runs = vec![];
    for sequence in 0..6 {
        runs.push(machine.register(&RunRequest { key: RunKey { sequence, ..request().key }, ..request() }).await);
    }
    let released = join_all(runs.iter().map(|run| machine.action.release(run))).await;
    let begun = released.iter().filter(|released| matches!(released, Ok(Released::Begun | Released::Preparing))).count();
    let waiting = released.iter().filter(|released| matches!(released, Ok(Released::Waiting))).count();
    assert_eq!((begun, waiting), (2, 4), "{released:?}");
    for run in &runs {
        machine.action.stop(run).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_runs_are_removed_after_their_time_and_others_are_not() {
    let machine = Machine::script("[ $TRIGGER_SOURCE_REF_NAME = main ] || while true; do sleep 0.05; done");
    let (report, _) = machine.run().await;
    let mut going_on = request();
    going_on.key.reference = Reference::Branch("other".into());
    let going_on = machine.register(&going_on).await;
    machine.action.release(&going_on).await.unwrap();
    let mut waiting = request();
    waiting.key.sequence = 7;
    let waiting = machine.register(&waiting).await;
    let finished = report.status.finished.unwrap();
    let keep = |action: &ObjectRef| Duration::from_secs(if action.name == "deploy" { 60 } else { 0 });

    machine.runs.remove_finished(keep, finished + SignedDuration::from_secs(59)).await.unwrap();
    assert!(machine.runs.get(&report.status.run).await.unwrap().is_some());
    machine.runs.remove_finished(keep, finished + SignedDuration::from_secs(60)).await.unwrap();
    assert!(machine.runs.get(&report.status.run).await.unwrap().is_none());
    let left: Vec<_> = machine.runs.all().await.unwrap().into_iter().map(|report| report.status.run).collect();
    assert_eq!(left.len(), 2);
    assert!(left.contains(&going_on) && left.contains(&waiting));
    machine.action.stop(&going_on).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_has_left_half_done_is_not_a_run_and_is_cleaned() {
    let machine = Machine::new(&["true"]);
    let left = [machine.file("runs/.new-1"), machine.file("runs/.gone-2")];
    for folder in &left {
        fs::create_dir_all(folder.join("workdir")).unwrap();
        fs::write(folder.join("request.json"), "{\"uid\": \"1\", ").unwrap();
    }
    assert_eq!(machine.runs.all().await.unwrap().len(), 0);
    machine.runs.remove_finished(|_| Duration::MAX, Timestamp::now()).await.unwrap();
    assert!(left.iter().all(|folder| folder.exists()), "somebody may be at it");
    machine.runs.remove_finished(|_| Duration::MAX, Timestamp::now() + SignedDuration::from_mins(2)).await.unwrap();
    assert!(!left.iter().any(|folder| folder.exists()));
}
