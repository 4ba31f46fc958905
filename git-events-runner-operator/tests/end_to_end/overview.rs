//! The typical flow that the documentation describes.

use std::fs;

use git_events_runner_core::{RunPhase, job};
use git_events_runner_tests::{Auth, GitServer, send_to};
use kube::ResourceExt as _;
use serde_json::Value;

use super::fixture::{Fixture, commits, request};

/// The script of the documentation, as it is there.
const DEPLOY_SH: &str = r#"#!/bin/bash

# 1st argument is path to the folder with Helm chart

helm upgrade ${TRIGGER_SOURCE_NAME} ${1} -f configs/values.yaml --install --wait && \
    (echo "Has been successfully deployed"; exit 0) || \
    (echo "Something went wrong"; exit 1)
"#;

/// What the documentation leaves to the reader: credentials, and what the Jobs may do, which is what helm does.
const GIVEN: &str = r#"
apiVersion: v1
kind: Secret
metadata: { name: cool-project-auth }
stringData: { username: robot, password: pass word }
---
apiVersion: v1
kind: Secret
metadata: { name: webhook-auth }
stringData: { token: open sesame }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: git-events-runner-jobs }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: git-events-runner-jobs }
rules:
  - { apiGroups: [""], resources: [configmaps, secrets], verbs: ["*"] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: git-events-runner-jobs }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: git-events-runner-jobs }
subjects: [{ kind: ServiceAccount, name: git-events-runner-jobs }]
"#;

/// The manifests of the documentation with another URI, a shorter interval, and the authority that the server's certificate is of.
fn manifests(server: &GitServer) -> String {
    let manifests = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/overview.yaml")).unwrap();
    let uri = server.uri("the-best-team/cool-project");
    let with_authority = format!("repoUri: {uri}\n  tlsConfig:\n    caCert:\n      secretRef:\n        name: cool-project-authority");
    let manifests = manifests.replace("repoUri: https://git.example.com/the-best-team/cool-project.git", &with_authority);
    manifests.replace("interval: 5m", "interval: 1s")
}

#[tokio::test]
async fn the_typical_flow_works_as_documented() {
    let f = Fixture::by_default().await;
    let (server, authority) = f.server(Auth::Basic("robot".into(), "pass word".into()));
    let repo = server.repo("the-best-team/cool-project").unwrap();
    repo.write("deploy.sh", DEPLOY_SH).unwrap();
    repo.make_executable("deploy.sh").unwrap();
    repo.write("chart/Chart.yaml", "apiVersion: v2\nname: cool-project\nversion: 1.0.0\n").unwrap();
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: cool-project }\ndata: { color: {{ .Values.color }} }\n";
    repo.write("chart/templates/config.yaml", template).unwrap();
    let first = repo.push("main", &[("configs/values.yaml", "color: blue\n")]).unwrap();
    f.apply(GIVEN);
    f.kubectl(&["create", "secret", "generic", "cool-project-authority", &format!("--from-literal=ca.crt={authority}")]);
    f.apply(&manifests(&server));

    let color = || f.get::<Value>("configmap/cool-project")["data"]["color"].clone();
    let jobs = f.wait_for_phases(&[RunPhase::Succeeded]);
    assert_eq!(commits(&jobs), [first]);
    assert!(f.log(&jobs[0]).ends_with("Has been successfully deployed\n"), "{}", f.log(&jobs[0]));
    assert_eq!(color(), "blue");
    let pod = f.pod(&jobs[0]);
    assert_eq!(pod["spec"]["serviceAccountName"], "git-events-runner-jobs");
    f.wait_for_field("scheduletrigger/cool-trigger", "/status/lastResult", "Succeeded");
    for object in ["scheduletrigger/cool-trigger", "webhooktrigger/coll-trigger", "gitrepo/cool-project-repo", "action/run-deploy-sh"] {
        f.wait_until_ready(object);
    }

    let second = repo.push("main", &[("configs/values.yaml", "color: green\n")]).unwrap();
    let jobs = f.wait_for_phases(&[RunPhase::Succeeded; 2]);
    assert_eq!((commits(&jobs), request(&jobs[1]).previous), (vec![first, second], Some(first)));
    assert_eq!(color(), "green");
    f.wait_for_field("scheduletrigger/cool-trigger", "/status/checkedSources/cool-project-repo/commitHash", &second.to_string());
    let expected = ["RunRegistered", "RunReleased", "RunSucceeded", "RunRegistered", "RunReleased", "RunSucceeded"];
    f.wait_for("the Events of both runs", || (f.events("ScheduleTrigger", "cool-trigger") == expected).then_some(()));

    server.take_requests(1).unwrap();
    server.take_requests(3).unwrap();
    assert_eq!(f.jobs().len(), 2, "without a push nothing runs");
    let post = |token| {
        let headers = [("x-trigger-auth", token), ("Content-Type", "application/json")];
        // Another test has the replicas replaced meanwhile.
        f.wait_for("a replica that answers", || {
            let replicas = f.release.replicas().unwrap();
            replicas.iter().find_map(|replica| send_to(*replica, "POST", "/default/coll-trigger", &headers, b"{}").ok())
        })
        .status
    };
    assert_eq!((post("wrong"), post("open sesame")), (403, 202));
    let jobs = f.wait_for_phases(&[RunPhase::Succeeded; 3]);
    assert_eq!((request(&jobs[2]).commit, jobs[2].labels()[job::TRIGGER_NAME].as_str()), (second, "coll-trigger"));
}
