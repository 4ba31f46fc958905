//! The subcommands that print and end.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::{
    fs,
    net::TcpListener,
    process::{Command, Output, Stdio},
};

use git_events_runner_core::{
    crd::{self, RuntimeConfig},
    validate,
};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

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
    let defined: Vec<_> = crd::all().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect();
    assert_eq!(definitions.len(), 6);
    for (printed, defined) in definitions.iter().zip(&defined) {
        // Numbers such as 0.0 are read back as 0: as text they are the same to an API server.
        assert_eq!(printed.to_string().replace(".0,", ","), defined.to_string().replace(".0,", ","));
    }
    assert_eq!(printed.stdout, git_events_runner(&["crds"]).stdout);
}

#[test]
fn nothing_panics_or_complains_when_nobody_reads_what_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), SOUND).unwrap();
    let folder = folder.path().to_str().unwrap();
    for args in [&["crds"][..], &["validate", folder]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_git-events-runner")).args(args).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{args:?}");
    }
    for args in [&["local", folder][..], &["validate", "no-such-file.yaml"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_git-events-runner"));
        let status = command.args(args).stdout(Stdio::null()).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(1), "{args:?}");
    }
}

#[test]
fn slips_on_the_command_line_of_local_are_told_once_and_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("a.yaml"), SOUND).unwrap();
    let (dir, file) = (folder.path().display().to_string(), path("a.yaml"));
    let cases = [
        (vec!["local", &file], format!("{file} is a file: name the folder that it is in")),
        (vec!["local", &dir, "--log-level", "inof"], "--log-level: `inof` is no level: error, warn, info, debug or trace".to_owned()),
        (
            vec!["local", &dir, "--state", &file],
            format!("the state cannot be read or written: {file}/triggers cannot be created: Not a directory (os error 20)"),
        ),
    ];
    for (args, message) in cases {
        let output = git_events_runner(&args);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), &*format!("git-events-runner: {message}\n")));
    }
}

#[test]
fn a_manifest_that_is_a_dangling_link_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/no/such/file", folder.path().join("a.yaml")).unwrap();
    let output = git_events_runner(&["validate", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("a.yaml:1:1: cannot be read: No such file"), "{}", text(&output.stderr));
}

#[test]
fn config_prints_all_defaults_and_a_template_that_holds_them() {
    let printed = git_events_runner(&["config"]);
    assert!(printed.status.success());
    let config: RuntimeConfig = serde_saphyr::from_str(text(&printed.stdout)).unwrap();
    assert_eq!(config, RuntimeConfig::default());
    assert!(text(&printed.stdout).contains("maxRunningJobs: 16"), "{}", text(&printed.stdout));

    let template = git_events_runner(&["config", "--helm-template"]);
    let template = text(&template.stdout).replace("{{ .Values.configMapName | default \"git-events-runner-config\" }}", "config");
    let map: ConfigMap = serde_saphyr::from_str(&template.replace("{{ .Release.Namespace }}", "operators")).unwrap();
    assert_eq!((map.metadata.name.as_deref(), map.metadata.namespace.as_deref()), (Some("config"), Some("operators")));
    assert_eq!(validate::runtime_config(&map), Ok(RuntimeConfig::default()));
}

#[test]
fn every_flag_of_run_is_a_variable_too_and_what_cannot_be_is_told() {
    let help = git_events_runner(&["run", "--help"]);
    let help = text(&help.stdout);
    let flags = [
        ("--webhooks-port", "WEBHOOKS_PORT=", "8080"),
        ("--utility-port", "UTILITY_PORT=", "3000"),
        ("--webhooks-parallelism", "WEBHOOKS_PARALLELISM=", "256"),
        ("--schedule-parallelism", "SCHEDULE_PARALLELISM=", "256"),
        ("--secrets-cache-time", "SECRETS_CACHE_TIME=", "60"),
        ("--config-map-name", "CONFIG_MAP_NAME=", "git-events-runner-config"),
        ("--leader-lease-name", "LEADER_LEASE_NAME=", "git-events-runner-leader-lock"),
        ("--leader-lease-duration", "LEADER_LEASE_DURATION=", "30"),
        ("--leader-lease-grace", "LEADER_LEASE_GRACE=", "5"),
        ("--metrics-prefix", "METRICS_PREFIX=", "git_events_runner"),
        ("--watch-namespaces", "WATCH_NAMESPACES=", "all"),
        ("--json-logs", "JSON_LOGS=", ""),
        ("--log-level", "LOG_LEVEL=", "info"),
    ];
    for (flag, variable, default) in flags {
        let line = help.lines().find(|line| line.contains(&format!("{flag} ")) || line.ends_with(flag));
        let after = help.split_once(line.unwrap()).unwrap().1;
        let described: String = line.into_iter().chain(after.lines().take_while(|line| !line.contains("--"))).collect();
        assert!(described.contains(variable) && described.contains(default), "{flag}: {described}");
    }
    let cases = [
        (&["--leader-lease-grace", "30"][..], "--leader-lease-grace 30 must be less than --leader-lease-duration 30"),
        (&["--leader-lease-duration", "1"], "1 is not in 2..=3600"),
        (&["--schedule-parallelism", "0"], "invalid value '0' for '--schedule-parallelism"),
        (&["--metrics-prefix", "git-events"], "must be letters, digits and `_`, and begin with no digit"),
        (&["--watch-namespaces", "a,B"], "a namespace is at most 63 lower case letters"),
        (&["--config-map-name", "Config"], "a name is at most 253 lower case letters"),
        (&["--leader-lease-name", ""], "a name is at most 253 lower case letters"),
        (&["--webhooks-port", "70000"], "70000 is not in 0..=65535"),
        (&["--secrets-cache-time", "86401"], "86401 is not in 0..=86400"),
        (&["--log-level", "inof"], "--log-level: `inof` is no level: error, warn, info, debug or trace"),
        (&["--log-level", "a=b=c"], "--log-level: `a=b=c` is neither a level nor a list of directives"),
        (&["--webhook-port", "80"], "unexpected argument '--webhook-port' found"),
        (&["team-a"], "unexpected argument 'team-a' found"),
        (
            &["--utility-port", "0", "--webhooks-port", "0"],
            "there is neither a kubeconfig nor a ServiceAccount: set KUBECONFIG, or run it in a Pod",
        ),
    ];
    for (args, message) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_git-events-runner"));
        let output = command.arg("run").args(args).env("KUBECONFIG", "/no/such/file").output().unwrap();
        let told = text(&output.stderr);
        assert!(!output.status.success() && told.contains(message), "{args:?}: {told}");
        assert_eq!(told.matches("error: ").count() + told.matches("git-events-runner: ").count(), 1, "{args:?}: {told}");
    }
    let taken = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (flag, other) in [("--webhooks-port", "--utility-port"), ("--utility-port", "--webhooks-port")] {
        let output = git_events_runner(&["run", flag, &port, other, "0"]);
        let message = format!("choose another {flag}: Address already in use");
        assert!(output.status.code() == Some(1) && text(&output.stderr).contains(&message), "{}", text(&output.stderr));
    }
}

#[test]
fn the_chart_has_the_definitions_that_are_printed() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/git-events-runner/files/crds.yaml");
    let in_chart = fs::read_to_string(file).unwrap();
    assert!(in_chart == text(&git_events_runner(&["crds"]).stdout), "run `make crds`, and commit {file}");
}

#[test]
fn the_chart_gives_only_flags_that_there_are() {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/chart");
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/git-events-runner");
    for values in ["everything", "published", "least"] {
        let mut helm = git_events_runner_tests::cluster::helm().unwrap();
        helm.args(["template", chart, "--show-only=templates/deployment.yaml", &format!("--values={tests}/{values}.yaml")]);
        let deployment: Value = serde_saphyr::from_str(text(&helm.output().unwrap().stdout)).unwrap();
        let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
        let mut operator = Command::new(env!("CARGO_BIN_EXE_git-events-runner"));
        operator.args(args.iter().map(|arg| arg.as_str().unwrap())).args(["--webhooks-port=0", "--utility-port=0"]);
        let output = operator.env("KUBECONFIG", "/dev/null").output().unwrap();
        let why = text(&output.stderr);
        assert!(output.status.code() == Some(1) && why.contains("there is neither a kubeconfig nor a ServiceAccount"), "{values}: {why}");
    }
}
