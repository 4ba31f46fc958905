//! Local mode: what it prints, how it ends, and what it remembers.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context as _, Result};
use data_encoding::HEXLOWER;
use git_events_runner_tests::{GitRepo, Program, free_port, send, wait_for};
use ring::hmac;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_git-events-runner");

/// A folder with a repository beside one with manifests.
struct Folder {
    folder: TempDir,
    repo: GitRepo,
}

impl Folder {
    fn new(action: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let repo = GitRepo::create(folder.path(), "app")?;
        repo.push("main", &[("file", "1")])?;
        fs::create_dir(folder.path().join("manifests"))?;
        let folder = Self { folder, repo };
        folder.write("all.yaml", &manifests(action))?;
        Ok(folder)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.path("manifests").join(name), text)?)
    }

    fn start(&self, args: &[&str]) -> Result<Program> {
        Program::local_mode(PROGRAM, &self.path("manifests"), args, &[("HOME", self.folder.path().as_os_str())])
    }

    fn lines(&self, file: &str) -> Vec<String> {
        fs::read_to_string(self.path(file)).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn wait_for_lines(&self, file: &str, count: usize) -> Result<Vec<String>> {
        wait_for(&format!("{count} lines in {file}"), || Some(self.lines(file)).filter(|lines| lines.len() >= count))
    }
}

fn manifests(action: &str) -> String {
    format!(
        r#"
apiVersion: git-events-runner.rs/v1alpha1
kind: GitRepo
metadata: {{name: app}}
spec: {{repoUri: ../app.git}}
---
apiVersion: git-events-runner.rs/v1alpha1
kind: ScheduleTrigger
metadata: {{name: watch}}
spec:
  sources: {{names: [app]}}
  schedule: {{interval: 1s}}
  action: {{kind: Action, name: act}}
---
apiVersion: git-events-runner.rs/v1alpha1
kind: Action
metadata: {{name: act}}
spec:
  actionJob:
    command: [sh, -c]
    args: ['{action}']
"#
    )
}

#[test]
fn once_runs_what_is_due_and_succeeds_with_it() -> Result<()> {
    let folder = Folder::new("cat file; echo ran >>$HOME/runs")?;
    let (status, output) = folder.start(&["--once"])?.finish()?;
    assert!(status.success(), "{output:?}");
    assert!(output.iter().any(|line| line.starts_with("watch-") && line.ends_with(" | 1")), "{output:?}");

    let (status, output) = folder.start(&["--once"])?.finish()?;
    assert!(status.success());
    assert_eq!(folder.lines("runs").len(), 1, "nothing has changed");
    assert!(output.iter().any(|line| line.contains("checked; nothing is due")), "{output:?}");

    folder.repo.push("main", &[("file", "2")])?;
    let (status, output) = folder.start(&["--once"])?.finish()?;
    assert!(status.success());
    assert!(output.iter().any(|line| line.ends_with(" | 2")), "{output:?}");
    Ok(())
}

#[test]
fn with_patterns_only_a_commit_that_changes_a_matching_file_runs_the_action() -> Result<()> {
    let folder = Folder::new("echo $TRIGGER_SOURCE_COMMIT >>$HOME/runs")?;
    let with = |files: &str| {
        let watch = format!("names: [app], watchOn: {{files: {files}}}");
        folder.write("all.yaml", &manifests("echo $TRIGGER_SOURCE_COMMIT >>$HOME/runs").replace("names: [app]", &watch))
    };
    let once = || anyhow::Ok(folder.start(&["--once"])?.finish()?.0.success());
    with("[docs/, \"!*.png\"]")?;
    let first = folder.repo.push("main", &[("docs/a.md", "1"), ("b.md", "1")])?;
    assert!(once()?);
    folder.repo.push("main", &[("docs/a.png", "1"), ("b.md", "2")])?;
    assert!(once()?);
    assert_eq!(folder.lines("runs"), [first.to_string()]);
    // Other patterns compare the files of both commits.
    with("[docs/a.md]")?;
    assert!(once()?);
    assert_eq!(folder.lines("runs"), [first.to_string()]);
    let second = folder.repo.push("main", &[("docs/a.md", "2")])?;
    assert!(once()?);
    assert_eq!(folder.lines("runs"), [first, second].map(|commit| commit.to_string()));
    Ok(())
}

#[test]
fn the_users_own_configuration_of_git_is_not_read() -> Result<()> {
    let folder = Folder::new("echo ran >>$HOME/runs")?;
    fs::write(folder.path(".gitconfig"), "[this cannot be read")?;
    let (status, output) = folder.start(&["--once"])?.finish()?;
    assert!(status.success(), "{output:#?}");
    assert_eq!(folder.lines("runs"), ["ran"]);
    Ok(())
}

#[test]
fn once_ends_although_a_trigger_that_always_runs_is_due_again_before_its_run_has_ended() -> Result<()> {
    let folder = Folder::new("echo ran >>$HOME/runs; sleep 2")?;
    let always = manifests("echo ran >>$HOME/runs; sleep 2").replace("names: [app]", "names: [app], watchOn: {onChangeOnly: false}");
    folder.write("all.yaml", &always)?;
    let (status, output) = folder.start(&["--once"])?.finish()?;
    assert!(status.success(), "{output:?}");
    assert!(folder.lines("runs").len() <= 2, "{output:?}");
    Ok(())
}

#[test]
fn once_fails_when_a_run_fails_or_a_source_cannot_be_read() -> Result<()> {
    let folder = Folder::new("exit 3")?;
    let (status, output) = folder.start(&["--once"])?.finish()?;
    assert_eq!(status.code(), Some(1));
    assert!(output.iter().any(|line| line.contains("failed") && line.contains("exit code 3")), "{output:?}");

    let bare = folder.repo.bare().display().to_string();
    folder.repo.git(&["--git-dir", &bare, "update-ref", "-d", "refs/heads/main"])?;
    let (status, output) = folder.start(&["--once"])?.finish()?;
    assert_eq!(status.code(), Some(1));
    assert!(output.iter().any(|line| line.contains("there is no branch main in")), "{output:?}");
    Ok(())
}

#[test]
fn a_commit_runs_the_action_within_two_seconds_of_the_interval() -> Result<()> {
    let folder = Folder::new("echo $TRIGGER_SOURCE_COMMIT >>$HOME/runs")?;
    let local = folder.start(&[])?;
    folder.wait_for_lines("runs", 1)?;
    let pushed = Instant::now();
    let commit = folder.repo.push("main", &[("file", "2")])?;
    assert_eq!(folder.wait_for_lines("runs", 2)?[1], commit.to_string());
    println!("ran {:?} after the push, with an interval of 1 s", pushed.elapsed());
    local.end(Signal::INT)?;
    Ok(())
}

#[test]
fn all_mistakes_are_reported_at_once_and_the_rest_works() -> Result<()> {
    let folder = Folder::new("echo ran >>$HOME/runs")?;
    folder.write(
        "mistakes.yaml",
        r#"
apiVersion: git-events-runner.rs/v1alpha1
kind: GitRepo
metadata:
  name: broken
spec:
  repoUri: ftp://example.com/app.git
---
apiVersion: git-events-runner.rs/v1alpha1
kind: ScheduleTrigger
metadata:
  name: of-broken
spec:
  sources: {names: [broken]}
  schedule: {interval: 1s}
  action: {kind: Action, name: nowhere}
---
apiVersion: git-events-runner.rs/v1alpha1
kind: ScheduleTrigger
metadata:
  name: two-times
spec:
  sources: {names: [app]}
  schedule:
    interval: 1s
    cron: "* * * * *"
  action: {kind: Action, name: act}
---
apiVersion: git-events-runner.rs/v1alpha1
kind: WebhookTrigger
metadata:
  name: open
spec:
  sources: {names: [app]}
  webhook: {}
  action: {kind: Action, name: act}
"#,
    )?;
    let port = free_port()?.to_string();
    let local = folder.start(&["--webhooks-port", &port])?;
    folder.wait_for_lines("runs", 1)?;
    local.wait_for_line("webhook: POST")?;
    let refused = send(port.parse()?, "POST", "/default/open/app", &[], b"")?;
    assert_eq!(refused.status, 503);
    assert!(refused.headers.to_lowercase().contains("retry-after:"), "{}", refused.headers);
    let (status, output) = local.end(Signal::TERM)?;
    assert!(status.success());
    assert!(!output.iter().any(|line| line.contains("metadata")), "the scheduler complains: {output:?}");
    for expected in [
        "mistakes.yaml:7:3: GitRepo default/broken: spec.repoUri: ",
        "mistakes.yaml:9: ScheduleTrigger default/of-broken: does not start: GitRepo default/broken has mistakes",
        "mistakes.yaml:9: ScheduleTrigger default/of-broken: does not start: there is no Action default/nowhere",
        "ScheduleTrigger default/two-times: spec.schedule: must have exactly one of interval and cron",
        "mistakes.yaml:29: WebhookTrigger default/open: answers every request with 503: AuthenticationRequired",
    ] {
        assert!(output.iter().any(|line| line.contains(expected)), "no `{expected}` in:\n{}", output.join("\n"));
    }
    Ok(())
}

#[test]
fn a_run_outlives_a_crash_and_is_followed_by_the_next_start() -> Result<()> {
    let folder = Folder::new("echo begun >>$HOME/runs; until test -e $HOME/go; do sleep 0.05; done; echo done")?;
    let mut local = folder.start(&[])?;
    folder.wait_for_lines("runs", 1)?;
    local.kill()?;
    let local = folder.start(&[])?;
    local.wait_for_line("goes on since an earlier start")?;
    fs::write(folder.path("go"), "")?;
    let line = local.wait_for_line("| done")?;
    let run = line.split(' ').next().unwrap_or_default();
    let succeeded = local.wait_for_line("succeeded")?;
    assert!(succeeded.contains(run), "{succeeded}");
    local.end(Signal::TERM)?;
    assert_eq!(folder.lines("runs").len(), 1);
    Ok(())
}

/// Takes the one run back to where it was recorded and not yet begun, which is where a crash can leave it.
fn take_back_to_record(state: &Path) -> Result<()> {
    let only = |folder: &str| {
        let mut paths = fs::read_dir(state.join(folder))?.flatten().map(|entry| entry.path());
        paths.find(|path| !path.ends_with(".lock")).context("it is empty")
    };
    let run = only("runs")?.join("request.json");
    for later in ["decision.json", "started.json", "exit.json", "output.log"] {
        fs::remove_file(run.with_file_name(later))?;
    }
    let registered: Value = serde_json::from_slice(&fs::read(run)?)?;
    let request = &registered["request"];
    let trigger = only("triggers")?;
    let mut stored: Value = serde_json::from_slice(&fs::read(&trigger)?)?;
    let last_run = &mut stored["state"]["sources"]["app"]["lastRun"];
    last_run["result"] = "Waiting".into();
    let name = last_run["name"].as_str().context("the run has no name")?.to_owned();
    let (uid, at) = (&registered["uid"], &request["registeredAt"]);
    stored["state"]["waiting"] = json!({ name: { "uid": uid, "source": "app", "sequence": 0, "instant": at, "since": at } });
    Ok(fs::write(trigger, serde_json::to_vec(&stored)?)?)
}

#[test]
fn a_run_that_a_crash_has_left_recorded_begins_at_the_next_start() -> Result<()> {
    for args in [&["--once"][..], &[]] {
        let folder = Folder::new("echo ran >>$HOME/runs")?;
        folder.start(&["--once"])?.finish()?;
        take_back_to_record(&folder.path("manifests/.git-events-runner"))?;
        let local = folder.start(args)?;
        folder.wait_for_lines("runs", 2)?;
        if args.is_empty() {
            local.end(Signal::INT)?;
        } else {
            assert!(local.finish()?.0.success());
        }
    }
    Ok(())
}

#[test]
fn a_second_process_on_the_same_state_is_refused() -> Result<()> {
    let folder = Folder::new("echo ran >>$HOME/runs")?;
    let local = folder.start(&[])?;
    folder.wait_for_lines("runs", 1)?;
    let (status, output) = folder.start(&[])?.finish()?;
    assert_eq!(status.code(), Some(1));
    assert!(output.iter().any(|line| line.contains("another git-events-runner uses")), "{output:?}");
    local.end(Signal::TERM)?;
    Ok(())
}

#[test]
fn a_deadline_ends_all_that_a_run_has_started() -> Result<()> {
    let folder = Folder::new("x")?;
    let action = "sleep 300 & echo $! >$HOME/pid; wait";
    folder.write("all.yaml", &(manifests(action) + "    activeDeadlineSeconds: 5\n"))?;
    let (status, output) = folder.start(&["--once"])?.finish()?;
    assert_eq!(status.code(), Some(1));
    assert!(output.iter().any(|line| line.contains("failed") && line.contains("deadline")), "{output:?}");
    let child = folder.lines("pid").concat();
    assert_ne!(child, "");
    wait_for("the end of what it has started", || (!Path::new("/proc").join(&child).exists()).then_some(()))
}

/// A runtime config of this name and content, in a namespace of its own.
fn config(name: &str, namespace: &str, content: &str) -> String {
    let content = content.replace('\n', "\n    ");
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata:\n  runtimeConfig: |\n    {content}\n"
    )
}

#[test]
fn the_runtime_config_of_the_manifests_takes_effect() -> Result<()> {
    let folder = Folder::new("env >$HOME/env; echo ran >>$HOME/runs; exec sleep 300")?;
    let content = "action:\n  activeDeadlineSeconds: 5\n  containers: {worker: {variablesPrefix: GIT_EVENT_}}";
    folder.write("config.yaml", &config("git-events-runner-config", "operators", content))?;
    let (status, output) = folder.start(&["--once"])?.finish()?;
    assert_eq!(status.code(), Some(1));
    assert!(output.iter().any(|line| line.contains("failed") && line.contains("deadline")), "{output:?}");
    let variables = folder.lines("env");
    assert!(variables.contains(&"GIT_EVENT_TRIGGER_SOURCE_NAME=app".to_owned()), "{variables:?}");
    assert!(!variables.iter().any(|line| line.starts_with("ACTION_JOB_")), "{variables:?}");
    Ok(())
}

#[test]
fn the_runtime_config_says_how_many_runs_there_may_be_at_once() -> Result<()> {
    let folder = Folder::new("echo begun >>$HOME/runs; until test -e $HOME/go; do sleep 0.05; done")?;
    let second = manifests("").replace("name: watch", "name: second").split("---\n").nth(1).context("no trigger")?.to_owned();
    folder.write("second.yaml", &second)?;
    folder.write("config.yaml", &config("git-events-runner-config", "default", "action: {maxRunningJobs: 1}"))?;
    let local = folder.start(&[])?;
    local.wait_for_line("waits")?;
    assert_eq!(folder.wait_for_lines("runs", 1)?.len(), 1);
    fs::write(folder.path("go"), "")?;
    folder.wait_for_lines("runs", 2)?;
    local.end(Signal::TERM)?;
    Ok(())
}

#[test]
fn the_runtime_config_names_the_header_of_webhooks() -> Result<()> {
    let folder = Folder::new("echo ran >>$HOME/runs")?;
    folder.write("config.yaml", &config("git-events-runner-config", "default", "trigger: {webhook: {defaultAuthHeader: x-our-token}}"))?;
    folder.write(
        "hook.yaml",
        r#"
apiVersion: v1
kind: Secret
metadata: {name: hook}
stringData: {token: abc}
---
apiVersion: git-events-runner.rs/v1alpha1
kind: WebhookTrigger
metadata: {name: hook}
spec:
  sources: {names: [app]}
  webhook: {authConfig: {secretRef: {name: hook}, key: token}}
  action: {kind: Action, name: act}
"#,
    )?;
    let port = free_port()?;
    let local = folder.start(&["--webhooks-port", &port.to_string()])?;
    local.wait_for_line("webhook: POST")?;
    let status = |header| Ok::<_, anyhow::Error>(send(port, "POST", "/default/hook/app", &[(header, "abc")], b"")?.status);
    assert_eq!(status("x-trigger-auth")?, 401);
    assert_eq!(status("x-our-token")?, 202);
    local.end(Signal::TERM)?;
    Ok(())
}

#[test]
fn what_a_forge_signs_runs_the_action_and_names_its_request() -> Result<()> {
    let folder = Folder::new("echo $TRIGGER_NAME $TRIGGER_REQUEST_ID >>$HOME/runs")?;
    folder.write(
        "hook.yaml",
        r#"
apiVersion: v1
kind: Secret
metadata: {name: hook}
stringData: {token: the-secret-of-the-hook, other: the-secret-of-another}
---
apiVersion: git-events-runner.rs/v1alpha1
kind: WebhookTrigger
metadata: {name: hook}
spec:
  sources: {names: [app]}
  webhook: {authConfig: {type: github, secretRef: {name: hook}, key: token}}
  action: {kind: Action, name: act}
---
apiVersion: git-events-runner.rs/v1alpha1
kind: WebhookTrigger
metadata: {name: other}
spec:
  sources: {names: [app]}
  webhook: {authConfig: {type: github, secretRef: {name: hook}, key: other}}
  action: {kind: Action, name: act}
"#,
    )?;
    let (port, commit) = (free_port()?, folder.repo.commit("main")?.to_string());
    let local = folder.start(&["--webhooks-port", &port.to_string()])?;
    local.wait_for_line("webhook: POST")?;
    let sent = |name: &str, path: &str| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/webhooks").join(name);
        let text = fs::read_to_string(file)?;
        let (head, body) = text.split_once("\n\n").context("it has no headers")?;
        // It tells of a commit that is there, so that it is signed anew.
        let body = body.replace("0d1a26e67d8f5eaf1f6ba5c57fc3c7d91ac0fd1c", &commit);
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"the-secret-of-the-hook"), body.as_bytes());
        let signature = format!("sha256={}", HEXLOWER.encode(signature.as_ref()));
        let recorded = head.lines().filter_map(|line| line.split_once(": ")).filter(|(name, _)| *name != "X-Hub-Signature-256");
        let headers: Vec<_> = recorded.chain([("X-Hub-Signature-256", signature.as_str())]).collect();
        send(port, "POST", path, &headers, body.as_bytes())
    };
    assert_eq!(sent("github-ping.http", "/default/hook/app")?.status, 200);
    assert_eq!(sent("github-push.http", "/default/other/app")?.status, 403);
    assert_eq!(sent("github-tag.http", "/default/hook/app")?.status, 200);
    let answer = sent("github-push.http", "/default/hook/app")?;
    assert_eq!(answer.status, 202);
    let id = answer.body["task_id"].as_str().context("it has no id")?;
    wait_for("its run", || folder.lines("runs").contains(&format!("hook {id}")).then_some(()))?;
    local.end(Signal::TERM)?;
    assert!(!folder.lines("runs").iter().any(|line| line.starts_with("other")));
    Ok(())
}

#[test]
fn with_a_recheck_interval_a_push_that_no_webhook_tells_of_runs_once_the_source_was_looked_at() -> Result<()> {
    let folder = Folder::new("x")?;
    let webhook = "webhook: {allowUnauthenticated: true, recheckInterval: 1s}";
    let manifests = manifests("echo $TRIGGER_SOURCE_COMMIT $TRIGGER_REQUEST_ID >>$HOME/runs");
    folder.write("all.yaml", &manifests.replace("ScheduleTrigger", "WebhookTrigger").replace("schedule: {interval: 1s}", webhook))?;
    let first = folder.repo.commit("main")?.to_string();
    let port = free_port()?;
    let local = folder.start(&["--webhooks-port", &port.to_string()])?;
    local.wait_for_line("webhook: POST")?;
    let answer = send(port, "POST", "/default/watch/app", &[], b"")?;
    let id = answer.body["task_id"].as_str().context("it has no id")?;
    assert_eq!(folder.wait_for_lines("runs", 1)?, [format!("{first} {id}")]);

    let pushed = folder.repo.push("main", &[("file", "2")])?.to_string();
    assert_eq!(folder.wait_for_lines("runs", 2)?[1].trim_end(), pushed);
    local.end(Signal::TERM)?;
    Ok(())
}

#[test]
fn a_runtime_config_that_cannot_be_used_is_a_mistake() -> Result<()> {
    let cases = [
        (config("git-events-runner-config", "default", "action: {maxJobs: 1}"), "data.runtimeConfig: "),
        (config("git-events-runner-config", "default", "{}").replace("runtimeConfig", "other"), "data: has no key runtimeConfig"),
        (
            ["one", "two"].map(|namespace| config("git-events-runner-config", namespace, "{}")).join("---\n"),
            "ConfigMap two/git-events-runner-config: there is a runtime config already, in ",
        ),
    ];
    for (text, expected) in cases {
        let folder = Folder::new("echo ran >>$HOME/runs")?;
        folder.write("config.yaml", &text)?;
        let (status, output) = folder.start(&["--once"])?.finish()?;
        assert_eq!(status.code(), Some(1));
        assert!(output.iter().any(|line| line.contains("config.yaml:") && line.contains(expected)), "no `{expected}` in:\n{output:?}");
        assert_eq!(folder.lines("runs").len(), 1, "the rest works");
    }
    Ok(())
}

#[test]
fn nothing_to_watch_is_an_error_that_says_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for args in [&[][..], &["--once"]] {
        let (status, output) = Program::local_mode(PROGRAM, folder.path(), args, &[])?.finish()?;
        assert_eq!(status.code(), Some(1));
        assert!(output.iter().any(|line| line.contains("there is nothing to watch")), "{output:?}");
    }
    let (status, output) = Program::local_mode(PROGRAM, &folder.path().join("nowhere"), &[], &[])?.finish()?;
    assert_eq!(status.code(), Some(1));
    assert!(output.iter().any(|line| line.contains("nowhere")), "{output:?}");
    Ok(())
}
