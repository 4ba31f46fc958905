//! What the store of files does beyond its ports' contracts.
#![cfg(feature = "file")]
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{fs, path::Path};

use git_events_runner_core::*;
use jiff::Timestamp;
use tempfile::TempDir;

fn id(name: &str) -> TriggerId {
    TriggerId { kind: "ScheduleTrigger".into(), namespace: "default".into(), name: name.into(), uid: "1".into() }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn open(folder: &TempDir) -> FileStore {
    FileStore::open(folder.path().join("state")).unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn by_hand(text: &str) -> Change {
    Change { last_handled_request: Some(text.into()), ..Change::default() }
}

#[tokio::test]
async fn a_folder_has_one_user_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let clone = store.clone();
    let state = folder.path().join("state");
    let refused = || FileStore::open(state.clone()).unwrap_err().to_string();
    let message = format!("another git-events-runner uses {}: end it, or use another folder for the state", state.display());
    assert_eq!(refused(), format!("the state cannot be read or written: {message}"));
    drop(store);
    assert!(refused().contains("another git-events-runner"), "a clone has it still");
    drop(clone);
    open(&folder);
}

#[tokio::test]
async fn a_trigger_is_as_old_as_its_first_adding() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    assert_eq!(store.add(&id("app"), 1, at(10)).await.unwrap(), at(10));
    let version = store.load(&id("app")).await.unwrap().version;
    assert_eq!(store.add(&id("app"), 1, at(20)).await.unwrap(), at(10));
    assert_eq!(store.load(&id("app")).await.unwrap().version, version, "what changes nothing writes nothing");
    drop(store);
    let store = open(&folder);
    assert_eq!(store.add(&id("app"), 2, at(30)).await.unwrap(), at(10));

    let another_life = TriggerId { uid: "2".into(), ..id("app") };
    store.record(&id("app"), &store.load(&id("app")).await.unwrap().version, &by_hand("old")).await.unwrap();
    assert_eq!(store.add(&another_life, 1, at(40)).await.unwrap(), at(40));
    assert_eq!(store.load(&another_life).await.unwrap().state, TriggerState::default());
    assert!(matches!(store.load(&id("app")).await, Err(StateError::NotFound(_))));
}

#[tokio::test]
async fn the_heartbeat_of_an_earlier_process_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    assert_eq!(store.last_heartbeat().await.unwrap(), None);
    for second in [1, 2] {
        store.heartbeat(at(second)).await.unwrap();
    }
    drop(store);
    assert_eq!(open(&folder).last_heartbeat().await.unwrap(), Some(at(2)));
    fs::write(folder.path().join("state/heartbeat"), "yesterday").unwrap();
    let error = open(&folder).last_heartbeat().await.unwrap_err().to_string();
    assert!(error.contains("state/heartbeat is not an instant") && error.contains("remove it"), "{error}");
}

#[tokio::test]
async fn any_name_of_a_trigger_is_a_file_within_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let names = ["../../escape", "/etc/passwd", "", ".", "a/b", "a b", "ä\0", "A", "a", &"x".repeat(5000)];
    for name in names {
        store.add(&id(name), 1, at(1)).await.unwrap();
        let version = store.load(&id(name)).await.unwrap().version;
        store.record(&id(name), &version, &by_hand(name)).await.unwrap();
    }
    for name in names {
        assert_eq!(store.load(&id(name)).await.unwrap().state.last_handled_request.as_deref(), Some(name));
    }
    assert_eq!(files(folder.path()), ["state"]);
    assert_eq!(files(&folder.path().join("state/triggers")).len(), names.len());
}

#[tokio::test]
async fn a_damaged_file_is_an_error_that_names_it_and_nothing_is_reset() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.add(&id("app"), 1, at(1)).await.unwrap();
    store.add(&id("other"), 1, at(1)).await.unwrap();
    let version = store.load(&id("app")).await.unwrap().version;
    let triggers = folder.path().join("state/triggers");
    let name = files(&triggers).into_iter().find(|name| name.starts_with("app.")).unwrap();
    let whole = fs::read(triggers.join(&name)).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"\0\0\0\0", b"{}", b"[1, 2]"] {
        fs::write(triggers.join(&name), damaged).unwrap();
        let errors = [
            store.load(&id("app")).await.unwrap_err(),
            store.record(&id("app"), &version, &by_hand("x")).await.unwrap_err(),
            store.add(&id("app"), 2, at(2)).await.unwrap_err(),
        ];
        for error in errors {
            let error = error.to_string();
            assert!(error.contains(&name) && error.contains("restore it from a copy, or remove it"), "{error}");
        }
        assert_eq!(fs::read(triggers.join(&name)).unwrap(), damaged, "it is left for whoever looks into it");
    }
    store.load(&id("other")).await.unwrap();
}

#[tokio::test]
async fn what_a_crash_has_left_half_written_is_ignored_and_cleaned() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.add(&id("app"), 1, at(1)).await.unwrap();
    let before = store.load(&id("app")).await.unwrap();
    let triggers = folder.path().join("state/triggers");
    let name = files(&triggers).remove(0);
    drop(store);
    fs::write(triggers.join(format!("{name}.1.2.tmp")), "{\"trigger\": {\"ki").unwrap();
    fs::write(folder.path().join("state/heartbeat.1.2.tmp"), "").unwrap();
    let store = open(&folder);
    assert_eq!(store.load(&id("app")).await.unwrap(), before);
    assert_eq!(files(&triggers), [name]);
    assert_eq!(files(&folder.path().join("state")), ["lock", "triggers"]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("state"), "").unwrap();
    let error = FileStore::open(folder.path().join("state")).unwrap_err().to_string();
    assert!(error.contains("state/triggers cannot be created"), "{error}");
}
