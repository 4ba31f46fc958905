//! The subcommands that print and end.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::{
    fs,
    process::{Command, Output},
};

const SOUND: &str = "apiVersion: git-events-runner.rs/v1alpha1
kind: GitRepo
metadata:
  name: app
spec:
  repoUri: https://git.example.com/app
";

fn git_events_runner(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_git-events-runner")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn validate_prints_sound_objects_and_then_all_mistakes_of_all_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let sound = file("a.yaml", SOUND);
    let output = git_events_runner(&["validate", &sound]);
    assert_eq!(text(&output.stdout), format!("{sound}:1: GitRepo default/app: ok\n"));
    assert!(output.status.success() && output.stderr.is_empty());

    let broken = file("b.yml", &SOUND.replace("name: app", "name: b").replace("repoUri", "repoUrl"));
    let repeated = file("c.yaml", SOUND);
    file("not-yaml.txt", "{");
    let output = git_events_runner(&["validate", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), format!("{sound}:1: GitRepo default/app: ok\n"));
    let mistakes: Vec<_> = text(&output.stderr).lines().collect();
    assert_eq!(
        mistakes,
        [
            format!("{broken}:6:3: GitRepo default/b: spec.repoUrl: there is no such field; did you mean repoUri?"),
            format!("{broken}:6:3: GitRepo default/b: spec.repoUri: must be there"),
            format!("{repeated}:1:1: GitRepo default/app: metadata.name: is there already, in {sound}:1"),
        ]
    );
}

#[test]
fn validate_says_which_file_it_cannot_read() {
    let output = git_events_runner(&["validate", "no-such-file.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot read no-such-file.yaml"), "{}", text(&output.stderr));
}

#[test]
fn crds_prints_the_definition_of_every_kind_always_in_the_same_way() {
    let printed = git_events_runner(&["crds"]);
    assert!(printed.status.success());
    let definitions: Vec<serde_json::Value> = serde_saphyr::from_multiple(text(&printed.stdout)).unwrap();
    let defined: Vec<_> = git_events_runner_core::crd::all().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect();
    assert_eq!(definitions.len(), 6);
    for (printed, defined) in definitions.iter().zip(&defined) {
        // Numbers such as 0.0 are read back as 0: as text they are the same to an API server.
        assert_eq!(printed.to_string().replace(".0,", ","), defined.to_string().replace(".0,", ","));
    }
    assert_eq!(printed.stdout, git_events_runner(&["crds"]).stdout);
}
