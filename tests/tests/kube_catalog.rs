//! KubeCatalog on a real API server, with real git servers.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

#[path = "kube_catalog/fixture.rs"]
mod fixture;
#[path = "kube_catalog/origins.rs"]
mod origins;
#[path = "kube_catalog/secrets.rs"]
mod secrets;

use std::time::Duration;

use async_trait::async_trait;
use fixture::{Fixture, HOUR, action, git_repo, trigger};
use git_events_runner_core::{
    testing::{self, CatalogHarness},
    *,
};
use git_events_runner_tests::cluster::{Cluster, Mode};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

#[async_trait]
impl CatalogHarness for Fixture {
    fn catalog(&self) -> &dyn Catalog {
        &self.catalog
    }

    async fn add_source(&self, source: &ObjectRef) {
        self.apply(source, json!({ "repoUri": "https://git.example.com/app.git" })).await;
    }

    async fn add_action(&self, action: &ObjectRef) {
        self.apply(action, json!({ "actionJob": {} })).await;
    }
}

#[tokio::test]
async fn it_conforms() {
    testing::catalog(|| async { Fixture::of(Scope::Namespaces(vec!["default".into()]), HOUR).await }).await;
}

#[tokio::test]
async fn what_belongs_to_no_namespace_may_be_used_by_the_namespaces_whose_labels_are_selected() {
    let cluster = fixture::cluster().await;
    let [team, other] = [cluster.namespace().await.unwrap(), cluster.namespace().await.unwrap()];
    let fixture = Fixture::of(Scope::All, HOUR).await;
    let [source, action] = ["ClusterGitRepo", "ClusterAction"].map(|kind| ObjectRef::cluster(kind, &format!("shared-{team}")));
    let allowed = json!({ "matchLabels": { "team": &*team } });
    fixture.apply(&source, json!({ "repoUri": "https://git.example.com/app.git", "allowedNamespaces": allowed })).await;
    fixture.apply(&action, json!({ "allowedNamespaces": allowed })).await;
    fixture.label(&team, "team", &team).await;

    let catalog = &fixture.catalog;
    assert!(catalog.source(&trigger(&team), &source).await.is_ok());
    assert!(catalog.checkout(&trigger(&team), &source).await.is_ok());
    assert!(catalog.action(&trigger(&team), &action).await.is_ok());
    let refused = [fixture.refused_source(&other, &source).await, catalog.action(&trigger(&other), &action).await.err().unwrap()];
    for (error, id) in refused.iter().zip([&source, &action]) {
        assert!(matches!(error, CatalogError::Invalid { .. }));
        let expected = format!(
            "{id}: its allowedNamespaces (team={team}) do not select the namespace {other}: change them, or the labels of the namespace"
        );
        assert_eq!(error.to_string(), expected);
    }

    fixture.label(&other, "team", &team).await;
    assert!(catalog.source(&trigger(&other), &source).await.is_ok(), "labels are those of the moment");
    assert!(catalog.action(&trigger(&other), &action).await.is_ok());

    let unknown = fixture.refused_source("nowhere", &source).await;
    assert_eq!((unknown.reason(), unknown.retry()), (Reason::Unreachable, Retry::Backoff));
    assert_eq!(unknown.to_string(), "Namespace nowhere cannot be read: its labels are not known yet");
}

#[tokio::test]
async fn of_a_part_of_a_cluster_each_namespace_is_watched() {
    let cluster = fixture::cluster().await;
    let [a, b, c] = [cluster.namespace().await.unwrap(), cluster.namespace().await.unwrap(), cluster.namespace().await.unwrap()];
    let [all, part] = [Scope::All, Scope::Namespaces(vec![a.to_string(), b.to_string()])];
    let (all, part) = (Fixture::of(all, HOUR).await, Fixture::of(part, HOUR).await);
    for namespace in [&c, &b, &a] {
        all.apply(&git_repo(namespace, "app"), json!({ "repoUri": "https://git.example.com/app.git" })).await;
    }
    for namespace in [&a, &b] {
        part.told(&git_repo(namespace, "app")).await;
        assert!(part.catalog.source(&trigger(namespace), &git_repo(namespace, "app")).await.is_ok());
    }
    assert!(all.catalog.source(&trigger(&c), &git_repo(&c, "app")).await.is_ok());
    let error = part.refused_source(&c, &git_repo(&c, "app")).await;
    assert!(matches!(error, CatalogError::NotFound(_)));
}

#[tokio::test]
async fn the_waiting_timeout_is_the_actions_own_or_else_that_of_the_config() {
    let namespace = fixture::cluster().await.namespace().await.unwrap();
    let fixture = Fixture::of(Scope::All, HOUR).await;
    let (own, general) = (action(&namespace, "own"), action(&namespace, "general"));
    fixture.apply(&own, json!({ "actionJob": { "jobWaitingTimeoutSeconds": 7 } })).await;
    fixture.apply(&general, json!({})).await;
    assert_eq!(fixture.catalog.waiting_timeout(&own), Duration::from_secs(7));
    for id in [&general, &action(&namespace, "nowhere")] {
        assert_eq!(fixture.catalog.waiting_timeout(id), Duration::from_secs(300));
    }
}

#[tokio::test]
async fn a_malformed_object_stops_only_itself() {
    let cluster = Cluster::start(Mode::ControlPlane).await.unwrap();
    let client = cluster.client().await.unwrap();
    // What an older operator may have left: its definition was less strict.
    let anything: Value = json!([{ "op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
        "value": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } }]);
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let patch = Patch::Json::<()>(serde_json::from_value(anything).unwrap());
    definitions.patch("gitrepos.git-events-runner.rs", &PatchParams::default(), &patch).await.unwrap();

    let fixture = Fixture::with(client.clone(), client, Scope::All, HOUR).await;
    let (malformed, well) = (git_repo("default", "malformed"), git_repo("default", "well"));
    fixture.apply_as_soon_as_accepted(&malformed, json!({ "repoUri": 7 })).await;
    fixture.apply(&well, json!({ "repoUri": "https://git.example.com/app.git" })).await;
    assert!(fixture.catalog.source(&trigger("default"), &well).await.is_ok());
    let error = fixture.refused_source("default", &malformed).await;
    assert!(matches!(error, CatalogError::Invalid { .. }));
    assert_eq!(error.to_string(), "GitRepo default/malformed: it is malformed: Invalid type integer `7`. Expected a string");
    assert!(matches!(fixture.refused_source("other", &malformed).await, CatalogError::NotFound(_)));

    fixture.apply(&malformed, json!({ "repoUri": "https://git.example.com/app.git" })).await;
    assert!(fixture.catalog.source(&trigger("default"), &malformed).await.is_ok(), "it is corrected");
}
