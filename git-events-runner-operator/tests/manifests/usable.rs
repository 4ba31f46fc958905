//! Which namespaces may use what, and what only some ways to a repository have.

use git_events_runner_core::{
    git::RepoUri,
    validate::{Mode, Reader},
    *,
};
use serde_json::{Value, json};

use super::folder::{Folder, manifest, repo, secret, shared, trigger};

fn only(namespace: &str) -> Value {
    json!({ "matchLabels": { "kubernetes.io/metadata.name": namespace } })
}

#[tokio::test]
async fn what_is_shared_may_be_used_by_the_namespaces_that_are_selected() {
    let (source, action) = (shared("ClusterGitRepo"), shared("ClusterAction"));
    let folder = Folder::with([
        manifest(&source, json!({ "repoUri": "app.git", "allowedNamespaces": only("team") })),
        manifest(&action, json!({ "actionJob": { "command": ["true"] }, "allowedNamespaces": only("team") })),
    ]);
    let (catalog, team) = (folder.read(), trigger("team"));
    assert!(catalog.source(&team, &source).await.is_ok());
    assert!(catalog.checkout(&team, &source).await.is_ok());
    assert!(catalog.action(&team, &action).await.is_ok());
    for error in [folder.refused_source("other", &source).await, folder.refused_action("other", &action).await] {
        assert!(matches!(error, CatalogError::Invalid { .. }));
        assert!(error.to_string().contains("its allowedNamespaces do not select the namespace other"), "{error}");
    }
}

#[tokio::test]
async fn without_a_selector_all_namespaces_may_use_it_and_with_an_unknown_label_none() {
    let source = shared("ClusterGitRepo");
    let folder = Folder::with([manifest(&source, json!({ "repoUri": "app.git" }))]);
    assert!(folder.read().source(&trigger("any"), &source).await.is_ok());
    folder.add(manifest(&source, json!({ "repoUri": "app.git", "allowedNamespaces": { "matchLabels": { "team": "a" } } })));
    let error = folder.refused_source("any", &source).await;
    assert!(error.to_string().contains("has the label kubernetes.io/metadata.name only because there is no cluster"), "{error}");
}

#[tokio::test]
async fn what_a_way_to_a_repository_does_not_have_is_refused() {
    let auth = |kind: &str| json!({ "type": kind, "secretRef": { "name": "git" } });
    let cases = [
        (json!({ "repoUri": "http://example.com/a", "authConfig": auth("githubApp") }), "githubApp is for https only"),
        (
            json!({ "repoUri": "git@example.com:a", "authConfig": auth("ssh"), "proxy": { "url": "http://p" } }),
            "proxy is for http and https",
        ),
    ];
    for (spec, expected) in cases {
        let folder = Folder::with([
            manifest(&repo("app"), spec),
            secret("default", "git", json!({ "ssh-privatekey": "canary", "appId": "1", "installationId": "2" })),
        ]);
        let error = folder.refused_source("default", &repo("app")).await;
        assert!(matches!(error, CatalogError::Invalid { .. }));
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_repository_over_ssh_without_a_key_says_at_its_first_check_what_is_missing() {
    for uri in ["ssh://git@example.com/a", "git@example.com:a"] {
        let folder = Folder::with([manifest(&repo("app"), json!({ "repoUri": uri }))]);
        let source = folder.read().source(&trigger("default"), &repo("app")).await.map_err(|error| error.to_string()).unwrap();
        let error = source.observe(&Watch::new(Reference::Branch("main".into()))).await.unwrap_err();
        assert_eq!((error.reason(), error.retry()), (Reason::InvalidSpec, Retry::Never));
        assert!(error.to_string().contains("set `authConfig` of type ssh"), "{error}");
    }
}

#[test]
fn the_validator_refuses_what_the_catalog_refuses_of_one_object() {
    let other = json!({ "type": "token", "secretRef": { "name": "git", "namespace": "other" } });
    let cases = [
        manifest(&repo("app"), json!({ "repoUri": "https://example.com/a", "authConfig": other })),
        manifest(&shared("ClusterAction"), json!({ "sourceOverride": { "kind": "GitRepo", "name": "a", "reference": { "tag": "v1" } } })),
    ];
    let reader = Reader::new(Mode::Local);
    for mut case in cases {
        if case["metadata"]["namespace"].is_null() {
            case["metadata"].as_object_mut().unwrap().remove("namespace");
        }
        assert_eq!(reader.read("a.yaml", &case.to_string()).mistakes.len(), 1, "{case}");
    }
    assert!(RepoUri::parse("app.git").is_err(), "a path is for local mode only");
}
