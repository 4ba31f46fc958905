//! A run that takes the place of another.

use std::{io::Read as _, net::TcpListener};

use git_events_runner_core::RunPhase;

use super::fixture::{Fixture, commits, trigger};

#[tokio::test]
async fn a_newer_commit_ends_the_script_that_runs_and_takes_its_place() {
    let f = Fixture::new().await;
    let server = f.open_server();
    let repo = server.repo("app").unwrap();
    let told = TcpListener::bind((f.machine, 0)).unwrap();
    let tell = format!("/dev/tcp/{}/{}", f.machine, told.local_addr().unwrap().port());
    let script = format!("trap 'echo ended >{tell}; exit 1' TERM\necho begun >{tell}\nsleep 3600 &\nwait\n");
    let first = repo.push("main", &[("run.sh", &script)]).unwrap();
    f.git_repo("app", &server.uri("app"));
    f.action("run", "args: [bash, run.sh]");
    f.apply(&trigger("it", "{ names: [app] }", "run").replace("spec:", "spec:\n  concurrencyPolicy: Replace"));
    let hear = || {
        let mut heard = String::new();
        told.accept().unwrap().0.read_to_string(&mut heard).unwrap();
        heard
    };
    assert_eq!(hear(), "begun\n");
    assert_eq!(commits(&f.wait_for_phases(&[RunPhase::Running])), [first]);

    let second = repo.push("main", &[("run.sh", "echo done")]).unwrap();
    assert_eq!(hear(), "ended\n");
    let jobs = f.wait_for_phases(&[RunPhase::Succeeded]);
    assert_eq!((commits(&jobs), f.log(&jobs[0])), (vec![second], "done\n".to_owned()));
}
