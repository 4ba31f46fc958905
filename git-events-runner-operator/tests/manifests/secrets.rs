//! Whose Secrets a source may use, and what is said when they are not there.

use git_events_runner_core::{process::Origins as _, *};
use serde_json::{Value, json};

use super::folder::{Folder, manifest, repo, request, secret, shared};

/// A repository that needs a token.
fn private(id: &ObjectRef, secret_ref: Value) -> Value {
    manifest(id, json!({ "repoUri": "https://git.example.com/app.git", "authConfig": { "type": "token", "secretRef": secret_ref } }))
}

/// The credentials for a run of a trigger of this namespace, as a supervisor gets them.
async fn credentials(folder: &Folder, namespace: &str, source: &ObjectRef) -> Value {
    let action = ObjectRef::namespaced("Action", namespace, "act");
    folder.add(manifest(&action, json!({ "actionJob": { "command": ["true"] } })));
    let mut request = request(source.clone(), action, CommitId::from_bytes([1; 20]));
    request.key.trigger.namespace = namespace.to_owned();
    folder.read().origin(&request).await.unwrap().checkout["repository"]["credentials"].clone()
}

fn token(text: &str) -> Value {
    json!({ "type": "token", "token": text })
}

#[tokio::test]
async fn a_git_repo_uses_secrets_of_its_own_namespace_only() {
    let secrets = ["default", "other"].map(|namespace| secret(namespace, "git", json!({ "token": format!("of {namespace}") })));
    for secret_ref in [json!({ "name": "git" }), json!({ "name": "git", "namespace": "default" })] {
        let folder = Folder::with(secrets.clone());
        folder.add(private(&repo("app"), secret_ref));
        assert_eq!(credentials(&folder, "default", &repo("app")).await, token("of default"));
    }
    let folder = Folder::with(secrets);
    folder.add(private(&repo("app"), json!({ "name": "git", "namespace": "other" })));
    let error = folder.refused_source("default", &repo("app")).await;
    assert!(matches!(error, CatalogError::Invalid { .. }));
    let expected = "GitRepo default/app: authConfig.secretRef.namespace is other: a GitRepo can use Secrets of its own namespace only";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_cluster_git_repo_uses_the_secret_it_names_or_else_the_triggers() {
    let secrets = ["default", "other"].map(|namespace| secret(namespace, "git", json!({ "token": format!("of {namespace}\n") })));
    let of_trigger = Folder::with(secrets.clone());
    of_trigger.add(private(&shared("ClusterGitRepo"), json!({ "name": "git" })));
    assert_eq!(credentials(&of_trigger, "default", &shared("ClusterGitRepo")).await, token("of default"));
    assert_eq!(credentials(&of_trigger, "other", &shared("ClusterGitRepo")).await, token("of other"));

    let named = Folder::with(secrets);
    named.add(private(&shared("ClusterGitRepo"), json!({ "name": "git", "namespace": "other" })));
    assert_eq!(credentials(&named, "default", &shared("ClusterGitRepo")).await, token("of other"));
}

#[tokio::test]
async fn a_secret_or_key_that_is_missing_is_named_and_no_value_is_shown() {
    let folder = Folder::with([private(&repo("app"), json!({ "name": "git" }))]);
    let error = folder.refused_source("default", &repo("app")).await;
    assert!(matches!(error, CatalogError::SecretNotFound { .. }));
    assert_eq!(error.reason(), Reason::SecretNotFound);
    assert_eq!(error.to_string(), "GitRepo default/app: there is no Secret default/git");

    folder.add(secret("default", "git", json!({ "username": "canary", "password": "canary" })));
    let error = folder.refused_source("default", &repo("app")).await;
    assert_eq!(error.reason(), Reason::SecretNotFound);
    let expected = "GitRepo default/app: the Secret default/git has no key `token`, only: password, username";
    assert_eq!(error.to_string(), expected);
    assert!(!format!("{error:?}").contains("canary"));

    folder.add(secret("default", "git", json!({})));
    let error = folder.refused_source("default", &repo("app")).await;
    assert_eq!(error.to_string(), "GitRepo default/app: the Secret default/git has no key `token`, it is empty");
}

#[tokio::test]
async fn keys_are_those_of_the_method_or_those_that_are_named() {
    let values = json!({ "username": "me", "password": "secret", "user": "you", "pass": "word", "ca.crt": "PEM" });
    let folder = Folder::with([secret("default", "git", values)]);
    let spec = |keys: Value| {
        let auth = json!({ "type": "basic", "secretRef": { "name": "git" }, "keys": keys });
        let ca = json!({ "caCert": { "secretRef": { "name": "git" } } });
        manifest(&repo("app"), json!({ "repoUri": "https://git.example.com/app.git", "authConfig": auth, "tlsConfig": ca }))
    };
    let basic = |username: &str, password: &str| json!({ "type": "basic", "username": username, "password": password });
    folder.add(spec(json!({})));
    assert_eq!(credentials(&folder, "default", &repo("app")).await, basic("me", "secret"));
    folder.add(spec(json!({ "username": "user", "password": "pass" })));
    assert_eq!(credentials(&folder, "default", &repo("app")).await, basic("you", "word"));
}
