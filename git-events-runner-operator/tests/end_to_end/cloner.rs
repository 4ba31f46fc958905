//! The cloner, as the kernel knows it while it runs.

use std::{fs, net::TcpListener, path::PathBuf};

use git_events_runner_core::RunPhase;

use super::fixture::{Fixture, trigger};

/// The process of the cloner that was told of this port.
fn process(port: u16) -> Option<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let is_it = |process: &PathBuf| {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.starts_with("/usr/local/bin/git-events-runner-cloner\0") && line.contains(&format!(":{port}/"))
    };
    processes.into_iter().find(is_it)
}

#[tokio::test]
async fn the_cloner_has_no_token_no_rights_and_nothing_that_it_may_write_but_the_folder() {
    let f = Fixture::new().await;
    // It is connected to, and says nothing: the cloner waits.
    let silent = TcpListener::bind((f.machine, 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    f.kubectl(&["create", "secret", "generic", "git", "--from-literal=username=robot", "--from-literal=password=canary-of-git"]);
    f.apply(&format!(
        "
apiVersion: git-events-runner.rs/v1alpha1
kind: GitRepo
metadata: {{ name: app }}
spec: {{ repoUri: 'http://{}:{port}/app.git', authConfig: {{ type: basic, secretRef: {{ name: git }} }} }}
",
        f.machine
    ));
    f.action("run", "args: [bash]");
    // Such a reference need not be looked at.
    let commit = "{ names: [app], watchOn: { reference: { commit: 0123456789abcdef0123456789abcdef01234567 } } }";
    f.apply(&trigger("it", commit, "run"));
    let process = f.wait_for("the cloner runs", || process(port));

    let text = |file: &str| fs::read_to_string(process.join(file)).unwrap();
    let status = text("status");
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap().trim().to_owned();
    assert_eq!(field("Uid"), "65532\t65532\t65532\t65532");
    assert_eq!((field("CapEff"), field("CapBnd")), ("0000000000000000".into(), "0000000000000000".into()));
    assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1".into(), "2".into()), "as restricted as a Pod can be");

    let names = |folder: &str| {
        let entries = fs::read_dir(process.join("root").join(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names("run/secrets/kubernetes.io/serviceaccount"), [""; 0], "what /var/run/secrets is");
    let visible = |names: Vec<String>| names.into_iter().filter(|name| !name.starts_with("..")).collect::<Vec<_>>();
    assert_eq!(visible(names("git-credentials")), ["password", "username"]);
    for file in ["environ", "cmdline"] {
        assert!(!String::from_utf8_lossy(&fs::read(process.join(file)).unwrap()).contains("canary-of-git"), "{file}");
    }
    let mounts = text("mounts");
    let writable: Vec<_> =
        mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|mount| mount[3].starts_with("rw")).collect();
    // What each container has.
    let given = |path: &&str| ["/proc", "/dev", "/sys", "/etc"].iter().any(|of| path.starts_with(of));
    let writable: Vec<_> = writable.iter().map(|mount| mount[1]).filter(|path| !given(path)).collect();
    assert_eq!(writable, ["/action_workdir"], "{mounts}");

    // It hears that it is to end.
    f.wait_for_phases(&[RunPhase::Running]);
    f.kubectl(&["delete", "scheduletrigger", "it", "--cascade=foreground"]);
    f.wait_for("the end of the cloner", || self::process(port).is_none().then_some(()));
}
