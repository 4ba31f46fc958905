//! Local mode shows no secret: not in its output, its state, or the command lines and environments of its processes.

use std::{fs, path::Path};

use anyhow::Result;
use git_events_runner_tests::{Auth, Canaries, GitServer, Options, Program, SshServer, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_git-events-runner");

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "git-events-runner.rs/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

fn secret(name: &str, values: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": values })
}

fn write(folder: &Path, objects: &[Value]) -> Result<()> {
    let texts: Vec<_> = objects.iter().map(Value::to_string).collect();
    Ok(fs::write(folder.join("all.yaml"), texts.join("\n---\n"))?)
}

#[test]
fn no_secret_is_in_its_output_its_state_or_a_process() -> Result<()> {
    let unique = |name: &str| format!("canary-{name}-{}", uuid::Uuid::new_v4().simple());
    let [password, wrong, passphrase, forged] = ["password", "wrong", "passphrase", "forged"].map(unique);
    let server = GitServer::start(&Options { auth: Auth::Basic("robot".into(), password.clone()), ..Options::default() })?;
    let (repo, ssh) = (server.repo("app")?, SshServer::start(false)?);
    repo.push("main", &[("a", "1")])?;
    ssh.repo("app")?.push("main", &[("a", "1")])?;
    let key = ssh.key(&["-t", "ed25519"], &passphrase)?;
    let line = key.private.lines().nth(2).unwrap_or_default().to_owned();
    let canaries = Canaries::new(&[
        ("password", &password),
        ("wrong password", &wrong),
        ("passphrase", &passphrase),
        ("forged token", &forged),
        ("private key", &line),
    ]);

    let folder = tempfile::tempdir()?;
    let (manifests, state) = (folder.path().join("manifests"), folder.path().join("state"));
    fs::create_dir(&manifests)?;
    let auth = |kind: &str, secret: &str| json!({ "type": kind, "secretRef": { "name": secret } });
    let repository =
        |name: &str, uri: String, kind: &str| object("GitRepo", name, json!({ "repoUri": uri, "authConfig": auth(kind, name) }));
    let mut objects = vec![
        secret("right", json!({ "username": "robot", "password": password })),
        secret("wrong", json!({ "username": "robot", "password": wrong })),
        secret("key", json!({ "ssh-privatekey": key.private, "passphrase": passphrase, "known_hosts": ssh.known_hosts() })),
        secret("locked", json!({ "ssh-privatekey": key.private, "passphrase": wrong })),
        repository("right", server.uri("app"), "basic"),
        repository("wrong", server.uri("app"), "basic"),
        repository("key", ssh.uri("app"), "ssh"),
        repository("locked", ssh.uri("app"), "ssh"),
        // Long enough to be seen.
        object(
            "Action",
            "act",
            json!({ "actionJob": { "command": ["sh", "-c"], "args": ["env; find .; sleep 1"], "preserveGitFolder": true } }),
        ),
    ];
    for name in ["right", "wrong", "key", "locked"] {
        let action = json!({ "kind": "Action", "name": "act" });
        objects.push(object(
            "ScheduleTrigger",
            name,
            json!({ "sources": { "names": [name] }, "schedule": { "interval": "1s" }, "action": action }),
        ));
    }
    write(&manifests, &objects)?;

    let processes = canaries.watch_processes();
    let state_folder = state.display().to_string();
    let args = ["--state", &state_folder, "--log-level", "trace"];
    let mut program = Some(Program::local_mode(PROGRAM, &manifests, &args, &[("HOME", folder.path().as_os_str())])?);
    let output = || program.as_ref().map(Program::output).unwrap_or_default().join("\n");
    wait_for("two runs that end well, and two sources that fail", || {
        let output = output();
        let all = output.matches("succeeded").count() >= 2
            && ["refuses the credentials", "does not open with the passphrase"].iter().all(|text| output.contains(text));
        all.then_some(())
    })?;
    canaries.assert_not_in_folder("the state", &state);
    let (_, log) = program.take().map(|program| program.end(Signal::INT)).transpose()?.unwrap_or_else(|| unreachable!("it was started"));
    assert!(log.iter().filter(|line| line.contains("TRACE")).count() > 100, "it logs all that it can");
    canaries.assert_not_in("its output", &log.join("\n"));
    canaries.assert_not_in_folder("the state", &state);
    processes.assert_nothing_seen();
    Ok(())
}
