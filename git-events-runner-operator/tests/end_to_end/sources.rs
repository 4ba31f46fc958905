//! Where repositories are, and where their credentials.

use git_events_runner_core::RunPhase;
use git_events_runner_tests::{Auth, SshServer};

use super::fixture::{Fixture, commits, trigger};

/// Prints what is checked out, and what for.
const TELL: &str = "echo \"$(cat what) for $TRIGGER_SOURCE_NAME at $TRIGGER_SOURCE_COMMIT\"\n";

/// An Action that runs that.
const ACTION: &str = "
apiVersion: git-events-runner.rs/v1alpha1
kind: Action
metadata: { name: tell }
spec: { actionJob: { args: [bash, tell.sh] } }
";

#[tokio::test]
async fn a_repository_by_ssh_is_cloned_by_its_key_from_the_host_that_is_known() {
    let f = Fixture::new().await;
    let server = SshServer::start_at(f.machine, false).unwrap();
    let key = server.key(&["-t", "ed25519"], "").unwrap();
    let repo = server.repo("app").unwrap();
    let commit = repo.push("main", &[("tell.sh", TELL), ("what", "ssh")]).unwrap();
    let (private, known) =
        (format!("--from-literal=ssh-privatekey={}", key.private), format!("--from-literal=known_hosts={}", server.known_hosts()));
    f.kubectl(&["create", "secret", "generic", "ssh", &private, &known]);
    f.apply(ACTION);
    f.apply(&format!(
        "
apiVersion: git-events-runner.rs/v1alpha1
kind: GitRepo
metadata: {{ name: app }}
spec: {{ repoUri: '{}', authConfig: {{ type: ssh, secretRef: {{ name: ssh }} }} }}
",
        server.uri("app")
    ));
    f.apply(&trigger("it", "{ names: [app] }", "tell"));
    let jobs = f.wait_for_phases(&[RunPhase::Succeeded]);
    assert_eq!((commits(&jobs), f.log(&jobs[0])), (vec![commit], format!("ssh for app at {commit}\n")));

    let next = repo.push("main", &[("what", "ssh again")]).unwrap();
    let jobs = f.wait_for_phases(&[RunPhase::Succeeded; 2]);
    assert_eq!((commits(&jobs), f.log(&jobs[1])), (vec![commit, next], format!("ssh again for app at {next}\n")));
}

#[tokio::test]
async fn a_repository_of_the_cluster_brings_a_secret_from_elsewhere_to_its_job() {
    let f = Fixture::new().await;
    let elsewhere = Fixture::new().await;
    let (server, authority) = f.server(Auth::Basic("robot".into(), "pass word".into()));
    let repo = server.repo("app").unwrap();
    let commit = repo.push("main", &[("tell.sh", TELL), ("what", "shared")]).unwrap();
    let authority = format!("--from-literal=ca.crt={authority}");
    elsewhere.kubectl(&[
        "create",
        "secret",
        "generic",
        "git",
        "--from-literal=username=robot",
        "--from-literal=password=pass word",
        &authority,
    ]);
    let name = format!("shared-by-{}", f.namespace);
    f.apply(ACTION);
    f.apply(&format!(
        "
apiVersion: git-events-runner.rs/v1alpha1
kind: ClusterGitRepo
metadata: {{ name: {name} }}
spec:
  repoUri: {uri}
  tlsConfig: {{ caCert: {{ secretRef: {{ name: git, namespace: {of} }} }} }}
  authConfig: {{ type: basic, secretRef: {{ name: git, namespace: {of} }} }}
",
        uri = server.uri("app"),
        of = elsewhere.namespace
    ));
    f.apply(&trigger("it", &format!("{{ kind: ClusterGitRepo, names: [{name}] }}"), "tell"));
    let jobs = f.wait_for_phases(&[RunPhase::Succeeded]);
    assert_eq!((commits(&jobs), f.log(&jobs[0])), (vec![commit], format!("shared for {name} at {commit}\n")));
    // It was made for this Job alone, and goes with it.
    let job = jobs[0].metadata.name.as_ref().unwrap();
    assert_eq!(f.kubectl(&["get", "secrets", "--output=name"]), format!("secret/{job}\n"));
    f.kubectl(&["delete", "job", job]);
    f.wait_for("the end of the Secret", || f.kubectl(&["get", "secrets", "--output=name"]).is_empty().then_some(()));

    let next = repo.push("main", &[("what", "shared again")]).unwrap();
    let jobs = f.wait_for_phases(&[RunPhase::Succeeded]);
    assert_eq!((commits(&jobs), f.log(&jobs[0])), (vec![next], format!("shared again for {name} at {next}\n")));
}

#[tokio::test]
async fn an_action_checks_out_another_repository_than_the_one_that_changed() {
    let f = Fixture::new().await;
    let server = f.open_server();
    let app = server.repo("app").unwrap();
    let first = app.push("main", &[("what", "app")]).unwrap();
    let tools = server.repo("tools").unwrap();
    tools.push("main", &[("tell.sh", TELL), ("what", "tools of main")]).unwrap();
    let tell = "echo \"$(cat what) at $ACTION_SOURCE_COMMIT for $TRIGGER_SOURCE_COMMIT\"";
    let release = tools.push("release", &[("tell.sh", tell), ("what", "tools")]).unwrap();
    f.git_repo("app", &server.uri("app"));
    f.git_repo("tools", &server.uri("tools"));
    f.apply(
        "
apiVersion: git-events-runner.rs/v1alpha1
kind: Action
metadata: { name: tell }
spec:
  sourceOverride: { kind: GitRepo, name: tools, reference: { branch: release } }
  actionJob: { args: [bash, tell.sh] }
",
    );
    f.apply(&trigger("it", "{ names: [app] }", "tell"));
    let jobs = f.wait_for_phases(&[RunPhase::Succeeded]);
    assert_eq!((commits(&jobs), f.log(&jobs[0])), (vec![first], format!("tools at {release} for {first}\n")));

    // What is checked out is as new as the run.
    let release = tools.push("release", &[("what", "new tools")]).unwrap();
    let second = app.push("main", &[("what", "app again")]).unwrap();
    let jobs = f.wait_for_phases(&[RunPhase::Succeeded; 2]);
    assert_eq!((commits(&jobs), f.log(&jobs[1])), (vec![first, second], format!("new tools at {release} for {second}\n")));
}
