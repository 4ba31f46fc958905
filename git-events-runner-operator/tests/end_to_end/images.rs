//! The images.

use std::fs;

use serde_json::json;

use super::release::Release;

#[tokio::test]
async fn the_pods_have_the_command_and_may_list_all_triggers() {
    let status = ["exec", "deploy/git-events-runner", "--", "git-events-runner", "status", "--all-namespaces"];
    let printed = Release::shared().await.kubectl(&status).unwrap();
    assert!(printed.starts_with("NAMESPACE") || printed.starts_with("there are no triggers"), "{printed}");
}

#[tokio::test]
async fn images_are_of_nobody_labelled_small_and_hold_no_more_than_they_need() {
    let images = &Release::shared().await.images;
    for (name, megabytes) in [("git-events-runner", 110), ("cloner", 50), ("worker", 500)] {
        let size = fs::metadata(images.archive(name)).unwrap().len() / 1_000_000;
        assert!(size <= megabytes, "{name} has {size} MB");
        let config = &images.config(name).unwrap()["config"];
        assert_eq!(config["User"], "65532:65532", "{name}");
        for (label, value) in [
            ("licenses", "MIT OR Apache-2.0"),
            ("version", env!("CARGO_PKG_VERSION")),
            ("source", env!("CARGO_PKG_REPOSITORY")),
            ("revision", "tests"),
        ] {
            assert_eq!(config["Labels"][format!("org.opencontainers.image.{label}")], value, "{name}");
        }
    }
    let entrypoint = |name: &str| images.config(name).unwrap()["config"]["Entrypoint"].clone();
    assert_eq!(entrypoint("git-events-runner"), json!(["/usr/local/bin/git-events-runner"]));
    assert_eq!(entrypoint("cloner"), json!(["/usr/local/bin/git-events-runner-cloner"]));

    // One program each, and no shell.
    for (name, programs) in
        [("git-events-runner", ["usr/local/bin/git-events-runner"]), ("cloner", ["usr/local/bin/git-events-runner-cloner"])]
    {
        let files = images.files(name).unwrap();
        let in_bin = |path: &&String| ["bin/", "sbin/", "usr/bin/", "usr/sbin/", "usr/local/bin/"].iter().any(|bin| path.starts_with(bin));
        let found: Vec<_> = files.iter().filter(in_bin).filter(|path| !path.ends_with('/')).collect();
        let expected: Vec<_> = programs.iter().collect();
        assert_eq!(found, expected, "{name}");
        assert!(files.iter().any(|path| path == "etc/ssl/certs/ca-certificates.crt"), "{name}");
    }
}
