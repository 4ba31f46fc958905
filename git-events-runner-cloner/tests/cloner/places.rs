//! Where it is written to, and as whom.

use std::{fs, os::unix::fs::MetadataExt as _};

use git_events_runner_tests::{GitServer, Options};

use super::fixture::Clone;

#[test]
fn what_is_in_the_destination_is_removed_on_request_only() {
    let server = GitServer::start(&Options::default()).unwrap();
    let commit = server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    let clone = Clone::of(&server.uri("app"), commit);
    let (destination, outside) = (clone.destination(), clone.path("outside"));
    fs::create_dir_all(destination.join("old/.git")).unwrap();
    fs::write(destination.join("old/file"), "").unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "").unwrap();
    std::os::unix::fs::symlink(&outside, destination.join("link")).unwrap();
    clone.run().assert_failure(2, "is not empty: name another folder, or say --empty-destination");
    assert!(destination.join("old/file").exists());
    fs::write(clone.path("termination-log"), "").unwrap();

    let clone = clone.arg("--empty-destination");
    clone.run().assert_success();
    assert_eq!(fs::read_dir(&destination).unwrap().count(), 1);
    assert!(outside.join("kept").exists(), "a link is not followed");
    // Once more, as after a restart of the node.
    clone.run().assert_success();

    let mut clone = Clone::of(&server.uri("app"), commit).arg("--empty-destination");
    clone.args.retain(|arg| !arg.starts_with("--destination"));
    clone.arg("--destination=/proc/..").run().assert_failure(2, "--destination: the top of all folders is not for this");
}

#[test]
fn nobody_can_use_it_where_all_but_the_destination_is_read_only() {
    let server = GitServer::start(&Options::default()).unwrap();
    let commit = server.repo("app").unwrap().push("main", &[("folder/a", "1")]).unwrap();
    let clone = Clone::of(&server.uri("app"), commit).arg("--empty-destination");
    fs::create_dir(clone.destination()).unwrap();
    // Root's own, which nobody else can read.
    fs::write(clone.path(".gitconfig"), "[broken").unwrap();
    fs::set_permissions(clone.path(".gitconfig"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    // As Kubernetes mounts an emptyDir: for everybody.
    clone.run_confined("mount --bind \"$D\" \"$D\"; chmod 0777 \"$D\"").assert_success();
    let file = clone.destination().join("folder/a");
    assert_eq!(fs::read_to_string(&file).unwrap(), "1");
    assert_eq!(file.metadata().unwrap().uid(), 65534);
    assert_eq!(fs::read_dir(clone.destination()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn a_full_disk_and_a_folder_of_somebody_else_are_told() {
    let server = GitServer::start(&Options::default()).unwrap();
    let repo = server.repo("app").unwrap();
    let noise: String = (0..200_000_u32).map(|number| format!("{}\n", number.wrapping_mul(2_654_435_761))).collect();
    // The first fills the disk as it arrives, the second when it is written as files.
    let large = repo.push("main", &[("a", &noise)]).unwrap();
    let zeros = repo.push("other", &[("a", &"0".repeat(4 << 20))]).unwrap();
    for commit in [large, zeros] {
        let clone = Clone::of(&server.uri("app"), commit);
        fs::create_dir(clone.destination()).unwrap();
        let ended = clone.run_confined("mount -t tmpfs -o size=512k,mode=0777 none \"$D\"");
        ended.assert_failure_about(7, &["there is no room for it", "No space left on device"]);
    }
    for (script, message) in [("mount --bind \"$D\" \"$D\"; chmod 0755 \"$D\"", "Permission denied"), ("true", "Read-only file system")] {
        let clone = Clone::of(&server.uri("app"), large);
        fs::create_dir(clone.destination()).unwrap();
        fs::set_permissions(clone.destination(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let ended = clone.run_confined(script);
        let destination = clone.destination();
        ended.assert_failure_about(7, &["it cannot be written", destination.to_str().unwrap(), message]);
    }
}
