//! What becomes of scripts, and what they may do.

use std::fs;

use git_events_runner_core::{RunPhase, job};
use git_events_runner_tests::Auth;
use k8s_openapi::api::batch::v1::Job;
use serde_json::Value;

use super::fixture::{Fixture, commits, trigger};

#[tokio::test]
async fn a_worker_of_any_user_changes_what_is_checked_out() {
    let f = Fixture::new().await;
    let server = f.open_server();
    let script =
        "echo $(id -u) >written && rm folder/file && mkdir folder/made && cat written && git log -1 --format=%H && git status --short\n";
    let commit = server.repo("app").unwrap().push("main", &[("run.sh", script), ("folder/file", "1")]).unwrap();
    f.git_repo("app", &server.uri("app"));
    for user in [0, 1000] {
        f.action(
            &format!("as-{user}"),
            &format!("args: [bash, run.sh], preserveGitFolder: true, podSecurityContext: {{ runAsUser: {user} }}"),
        );
        f.apply(&trigger(&format!("as-{user}"), "{ names: [app] }", &format!("as-{user}")));
    }
    let jobs = f.wait_for_phases(&[RunPhase::Succeeded; 2]);
    let mut logs: Vec<_> = jobs.iter().map(|job| f.log(job)).collect();
    logs.sort();
    assert_eq!(logs, ["0", "1000"].map(|user| format!("{user}\n{commit}\n D folder/file\n?? written\n")));
}

#[tokio::test]
async fn a_script_that_fails_is_told_and_the_next_commit_runs() {
    let f = Fixture::new().await;
    let server = f.open_server();
    let repo = server.repo("app").unwrap();
    let first = repo.push("main", &[("run.sh", "echo no; exit 3")]).unwrap();
    f.git_repo("app", &server.uri("app"));
    f.action("run", "args: [bash, run.sh]");
    f.apply(&trigger("it", "{ names: [app] }", "run"));
    let jobs = f.wait_for_phases(&[RunPhase::Failed]);
    assert_eq!((commits(&jobs), f.log(&jobs[0])), (vec![first], "no\n".to_owned()));
    assert_eq!(f.pod(&jobs[0])["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    f.wait_for_field("scheduletrigger/it", "/status/lastResult", "Failed");
    // It has done what it is for.
    f.wait_until_ready("scheduletrigger/it");

    let second = repo.push("main", &[("run.sh", "exit 0")]).unwrap();
    assert_eq!(commits(&f.wait_for_phases(&[RunPhase::Failed, RunPhase::Succeeded])), [first, second]);
    let expected = ["RunRegistered", "RunReleased", "RunFailed", "RunRegistered", "RunReleased", "RunSucceeded"];
    f.wait_for("the Events of both runs", || (f.events("ScheduleTrigger", "it") == expected).then_some(()));
}

#[tokio::test]
async fn a_commit_that_is_gone_fails_its_job_which_says_why() {
    let f = Fixture::new().await;
    let server = f.open_server();
    server.repo("app").unwrap().push("main", &[("run.sh", "exit 0")]).unwrap();
    f.git_repo("app", &server.uri("app"));
    f.action("run", "args: [bash, run.sh]");
    let gone = "0123456789abcdef0123456789abcdef01234567";
    f.apply(&trigger("it", &format!("{{ names: [app], watchOn: {{ reference: {{ commit: {gone} }} }} }}"), "run"));
    let jobs = f.wait_for_phases(&[RunPhase::Failed]);
    let ended = &f.pod(&jobs[0])["status"]["initContainerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["exitCode"], 4, "{ended}");
    assert!(ended["message"].as_str().unwrap().contains(gone), "{ended}");
    f.wait_for_field("scheduletrigger/it", "/status/lastResult", "Failed");
}

/// Lets a Job begin that is Kueue's to let begin.
fn admit(f: &Fixture, job: &Job) {
    f.kubectl(&["patch", "job", job.metadata.name.as_ref().unwrap(), "--type=merge", "--patch", r#"{ "spec": { "suspend": false } }"#]);
}

#[tokio::test]
async fn a_commit_that_vanishes_before_it_is_cloned_fails_its_job_and_the_one_in_its_place_runs() {
    let f = Fixture::new().await;
    let server = f.open_server();
    let repo = server.repo("app").unwrap();
    let first = repo.push("main", &[("run.sh", "exit 0")]).unwrap();
    f.git_repo("app", &server.uri("app"));
    f.action("run", &format!("args: [bash, run.sh], labels: {{ {}: held }}", job::KUEUE_QUEUE));
    f.apply(&trigger("it", "{ names: [app] }", "run"));
    let held = f.wait_for_phases(&[RunPhase::Running]).remove(0);

    let second = repo.push("anew", &[("run.sh", "echo anew")]).unwrap();
    repo.force("main", second).unwrap();
    let bare = format!("--git-dir={}", repo.bare().display());
    repo.git(&[&bare, "prune", "--expire=now"]).unwrap();
    assert!(repo.git(&[&bare, "cat-file", "-e", &first.to_string()]).is_err(), "{first} is still there");
    let jobs = f.wait_for_phases(&[RunPhase::Running; 2]);
    assert_eq!(commits(&jobs), [first, second]);

    admit(&f, &held);
    f.wait_for_phases(&[RunPhase::Failed, RunPhase::Running]);
    let ended = &f.pod(&held)["status"]["initContainerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["exitCode"], 4, "{ended}");
    assert!(ended["message"].as_str().unwrap().contains(&first.to_string()), "{ended}");
    admit(&f, &jobs[1]);
    let jobs = f.wait_for_phases(&[RunPhase::Failed, RunPhase::Succeeded]);
    assert_eq!(f.log(&jobs[1]), "anew\n");
    f.wait_for_field("scheduletrigger/it", "/status/lastResult", "Succeeded");
}

#[tokio::test]
async fn the_action_of_the_docs_runs_in_a_restricted_namespace_on_a_root_that_is_read_only() {
    let f = Fixture::new().await;
    f.kubectl(&["label", "namespace", &f.namespace, "pod-security.kubernetes.io/enforce=restricted"]);
    let server = f.open_server();
    let repo = server.repo("app").unwrap();
    // What the programs of the worker write at home and for a while has a place.
    let script = "#!/bin/bash -e
id -u
! touch /tmp/file 2>/dev/null
git config --global user.name You
echo kept >\"$(mktemp)\"
echo \"$(git config user.name) at home\"
";
    repo.write("deploy.sh", script).unwrap();
    repo.make_executable("deploy.sh").unwrap();
    repo.push("main", &[]).unwrap();
    f.git_repo("app", &server.uri("app"));
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/images.md")).unwrap();
    f.apply(page.split("```").find_map(|block| block.strip_prefix("yaml\n")).unwrap());
    f.apply(&trigger("it", "{ names: [app] }", "restricted"));
    let jobs = f.wait_for_phases(&[RunPhase::Succeeded]);
    assert_eq!(f.log(&jobs[0]), "65532\nYou at home\n");
}

/// Asks for the Secret as whoever the worker is, and looks for the password wherever there are files, without naming it whole.
const LOOK: &str = r#"
account=/var/run/secrets/kubernetes.io/serviceaccount
api=https://$KUBERNETES_SERVICE_HOST/api/v1/namespaces/$TRIGGER_NAMESPACE/secrets
ask() { curl --silent --output /dev/null --write-out '%{http_code}\n' --cacert $account/ca.crt --header "Authorization: Bearer $(cat $account/token)" "$@"; }
ask $api/git
ask $api
ls /git-credentials 2>&1
env
cat /proc/mounts /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\0' '\n'
grep --recursive --binary-files=text --no-messages --exclude-dir=proc --exclude-dir=sys --regexp='canary-of-gi[t]' /
echo looked
"#;

#[tokio::test]
async fn a_worker_can_read_neither_the_secret_nor_the_file_of_git() {
    let f = Fixture::new().await;
    let password = format!("canary-of-git-{}", uuid::Uuid::new_v4().simple());
    let (server, authority) = f.server(Auth::Basic("robot".into(), password.clone()));
    server.repo("app").unwrap().push("main", &[("run.sh", LOOK)]).unwrap();
    let (password_of, authority) = (format!("--from-literal=password={password}"), format!("--from-literal=ca.crt={authority}"));
    f.kubectl(&["create", "secret", "generic", "git", "--from-literal=username=robot", &password_of, &authority]);
    f.kubectl(&["create", "serviceaccount", "jobs"]);
    f.apply(&format!(
        "
apiVersion: git-events-runner.rs/v1alpha1
kind: GitRepo
metadata: {{ name: app }}
spec:
  repoUri: {}
  tlsConfig: {{ caCert: {{ secretRef: {{ name: git }} }} }}
  authConfig: {{ type: basic, secretRef: {{ name: git }} }}
",
        server.uri("app")
    ));
    f.action("run", "args: [bash, run.sh], serviceAccount: jobs, preserveGitFolder: true, securityContext: { runAsUser: 0 }");
    f.apply(&trigger("it", "{ names: [app] }", "run"));
    let jobs = f.wait_for_phases(&[RunPhase::Succeeded]);
    let log = f.log(&jobs[0]);
    let mut lines = log.lines();
    assert_eq!([lines.next(), lines.next()], [Some("403"), Some("403")], "{log}");
    assert!(lines.next().unwrap().contains("No such file or directory"), "{log}");
    assert_eq!(lines.next_back(), Some("looked"));
    assert!(!log.contains("canary-of-git") && !log.contains("/git-credentials "), "{log}");
    // Nor does anything else of the Pod or the Job say it.
    for object in [serde_json::to_value(&jobs[0]).unwrap(), f.pod(&jobs[0]), f.get::<Value>("scheduletrigger/it")] {
        assert!(!object.to_string().contains(&password));
    }
}
