//! Actions that check out another source than the one that fired.

use git_events_runner_core::*;
use serde_json::{Value, json};

use super::folder::{Folder, act, manifest, repo, request, shared};

/// Two repositories, of which the second has the script to run.
fn folder() -> (Folder, RunRequest, CommitId) {
    let tools = json!({ "repoUri": "tools.git" });
    let folder = Folder::with([
        manifest(&repo("app"), json!({ "repoUri": "app.git" })),
        manifest(&repo("tools"), tools.clone()),
        manifest(&shared("ClusterGitRepo"), tools),
    ]);
    let (_, commit) = folder.repo("app", "of-app");
    let (tools, released) = folder.repo("tools", "of-tools");
    tools.tag_annotated("v1", released).unwrap();
    tools.push("main", &[("of-later", "")]).unwrap();
    (folder, request(repo("app"), act(), commit), released)
}

fn spec(kind: &str, name: &str, reference: Value) -> Value {
    let job = json!({ "command": ["sh", "-c", "ls; env"] });
    json!({ "actionJob": job, "sourceOverride": { "kind": kind, "name": name, "reference": reference } })
}

fn assert_tools(lines: &[String], app: CommitId, expected: &[(&str, &str)]) {
    assert!(lines.contains(&"of-tools".to_owned()), "the files are those of the override: {lines:?}");
    assert!(!lines.iter().any(|line| line == "of-app" || line == "of-later"), "{lines:?}");
    assert!(lines.contains(&format!("ACTION_JOB_TRIGGER_SOURCE_COMMIT={app}")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("TRIGGER_SOURCE_URI=") && line.ends_with("/app.git")), "{lines:?}");
    for (name, value) in expected {
        for variable in [format!("ACTION_SOURCE_{name}={value}"), format!("ACTION_JOB_ACTION_SOURCE_{name}={value}")] {
            assert!(lines.contains(&variable), "no {variable} in {lines:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_checks_out_another_git_repo_of_its_namespace() {
    let (folder, request, released) = folder();
    folder.add(manifest(&act(), spec("GitRepo", "tools", json!({ "tag": "v1" }))));
    let (report, lines) = folder.run(&request).await;
    assert_eq!(report.status.phase, RunPhase::Succeeded);
    let commit = released.to_string();
    let told =
        [("KIND", "GitRepo"), ("NAMESPACE", "default"), ("NAME", "tools"), ("REF_TYPE", "tag"), ("REF_NAME", "v1"), ("COMMIT", &commit)];
    assert_tools(&lines, request.commit, &told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_action_checks_out_a_cluster_git_repo() {
    let (folder, request, released) = folder();
    let action = shared("ClusterAction");
    let commit = released.to_string();
    folder.add(manifest(&action, spec("ClusterGitRepo", "shared", json!({ "commit": commit }))));
    let (report, lines) = folder.run(&RunRequest { action, ..request.clone() }).await;
    assert_eq!(report.status.phase, RunPhase::Succeeded);
    let told = [("KIND", "ClusterGitRepo"), ("NAMESPACE", ""), ("NAME", "shared"), ("REF_TYPE", "commit"), ("COMMIT", &commit)];
    assert_tools(&lines, request.commit, &told);
}

#[tokio::test]
async fn an_override_that_cannot_be_used_is_refused_before_anything_runs() {
    let cluster = shared("ClusterAction");
    let tag = json!({ "tag": "v1" });
    let cases = [
        (
            &cluster,
            "GitRepo",
            "tools",
            tag.clone(),
            "ClusterAction shared: sourceOverride: a ClusterAction can only check out a ClusterGitRepo",
        ),
        (&act(), "GitRepo", "nowhere", tag.clone(), "there is no GitRepo default/nowhere"),
        (&cluster, "ClusterGitRepo", "nowhere", tag, "there is no ClusterGitRepo nowhere"),
        (
            &act(),
            "GitRepo",
            "tools",
            json!({}),
            "Action default/act: sourceOverride: a reference has exactly one of branch, tag and commit",
        ),
    ];
    for (action, kind, name, reference, expected) in cases {
        let (folder, ..) = folder();
        folder.add(manifest(action, spec(kind, name, reference)));
        assert_eq!(folder.refused_action("default", action).await.to_string(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_that_is_not_there_leaves_the_run_waiting() {
    let (folder, request, _) = folder();
    folder.add(manifest(&act(), spec("GitRepo", "tools", json!({ "branch": "gone" }))));
    let action = folder.read().action(&request.key.trigger, &act()).await.map_err(|error| error.to_string()).unwrap();
    let Registered::New(run) = action.register(&request).await.unwrap() else { panic!("the run is there already") };
    let error = action.release(&run).await.unwrap_err();
    assert!(matches!(error, ActionError::Unavailable(_)));
    let expected = "sourceOverride (ReferenceNotFound): there is no branch gone in ";
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(folder.runs.get(&run).await.unwrap().unwrap().status.phase, RunPhase::Waiting);
}
