//! The store of files, when its process is killed.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use git_events_runner_core::{FileStore, StateError, StateStore as _, TriggerId};

#[tokio::test]
async fn what_was_answered_is_there_after_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let id = TriggerId { kind: "ScheduleTrigger".into(), namespace: "default".into(), name: "app".into(), uid: "1".into() };
    let mut answered = 0;
    for round in 0..20 {
        let mut writer = Command::new(env!("CARGO_BIN_EXE_test-store")).arg(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines().map(Result::unwrap);
        for _ in 0..=round {
            answered = lines.next().unwrap().parse().unwrap();
        }
        if round == 0 {
            let refused = FileStore::open(folder.path().to_owned());
            assert!(matches!(refused, Err(StateError::Unavailable(_))), "another process has it");
        }
        writer.kill().unwrap();
        answered = lines.last().map_or(answered, |number| number.parse::<u64>().unwrap());
        writer.wait().unwrap();

        let store = FileStore::open(folder.path().to_owned()).unwrap();
        let state = store.load(&id).await.unwrap().state;
        let found: u64 = state.last_handled_request.unwrap().parse().unwrap();
        assert!(found == answered || found == answered + 1, "{found} was found, {answered} was answered");
        assert!(state.pending.len() <= 1);
    }
}
