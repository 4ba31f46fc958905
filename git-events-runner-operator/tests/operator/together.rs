//! Requests that come at the same time.

use futures_util::future::join_all;
use git_events_runner_core::crd;
use git_events_runner_tests::{Auth, send};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, api::PostParams};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::{
    fixture::Fixture,
    manifests::{action, git_repo, webhook_trigger, with},
};

const REQUESTS: usize = 60;

/// Has somebody else lead, so that nothing is written but requests.
async fn nobody_leads(f: &Fixture) {
    let spec = LeaseSpec {
        holder_identity: Some("somebody-else".to_owned()),
        lease_duration_seconds: Some(3600),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    let metadata = ObjectMeta { name: Some("git-events-runner-leader-lock".to_owned()), ..ObjectMeta::default() };
    let leases = Api::<Lease>::namespaced(f.client.clone(), &f.namespace);
    leases.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await.unwrap();
}

#[tokio::test]
async fn many_requests_for_one_trigger_at_once_share_writes() {
    let f = Fixture::new(Auth::None).await;
    f.put(git_repo("app", &f.server.uri("app"))).await;
    f.put(action("act")).await;
    for (name, on_change) in [("always", false), ("change", true)] {
        f.put(with(webhook_trigger(name, "app", "act"), "sources.watchOn", json!({ "onChangeOnly": on_change }))).await;
    }
    nobody_leads(&f).await;
    let operator = f.operator(&[]);
    let user = format!("system:serviceaccount:{}:git-events-runner", &*f.namespace);
    let writes = |name: &str| {
        let mut writes = f.cluster.writes().unwrap();
        writes.retain(|write| write.user == user && write.resource == "webhooktriggers" && write.name.as_deref() == Some(name));
        writes.len()
    };
    for (name, pending) in [("always", REQUESTS), ("change", 1)] {
        let (port, path) = (operator.webhooks_port(), format!("/{}/{name}/app", &*f.namespace));
        let sent = (0..REQUESTS).map(|_| {
            let path = path.clone();
            spawn_blocking(move || send(port, "POST", &path, &[], b"").unwrap())
        });
        let answers = join_all(sent).await.into_iter().map(Result::unwrap);
        let ids: Vec<_> = answers
            .map(|answer| {
                assert_eq!(answer.status, 202, "{answer:?}");
                answer.body["task_id"].as_str().unwrap().to_owned()
            })
            .collect();
        let status: crd::TriggerStatus = serde_json::from_value(f.status("WebhookTrigger", name).await).unwrap();
        assert_eq!(status.pending.len(), pending);
        assert!(status.pending.keys().all(|id| ids.contains(&id.to_string())));
        let writes = writes(name);
        println!("{REQUESTS} requests to {name} took {writes} writes");
        assert!(writes > 0 && writes * 2 <= REQUESTS, "{REQUESTS} requests to {name} took {writes} writes");
    }
}
