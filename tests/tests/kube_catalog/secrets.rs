//! Secrets: whose, how often they are read, and what is said when they cannot be.

use std::time::Duration;

use git_events_runner_core::*;
use git_events_runner_tests::{Auth, GitServer, Options, cluster};
use serde_json::{Value, json};

use super::fixture::{self, Fixture, HOUR, git_repo};

fn server() -> (GitServer, CommitId) {
    let server = GitServer::start(&Options { auth: Auth::Basic("deployer".into(), "right".into()), ..Options::default() }).unwrap();
    let commit = server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    (server, commit)
}

fn private(uri: &str, secret_ref: Value) -> Value {
    json!({ "repoUri": uri, "authConfig": { "type": "basic", "secretRef": secret_ref } })
}

fn values(password: &str) -> Value {
    json!({ "username": "deployer", "password": password })
}

/// The status codes of the requests that a server has had, at least so many.
fn statuses(server: &GitServer, count: usize) -> Vec<u16> {
    server.take_requests(count).unwrap().iter().map(|request| request.status).collect()
}

#[tokio::test]
async fn a_secret_is_kept_and_read_again_once_when_the_server_refuses_it() {
    let namespace = fixture::cluster().await.namespace().await.unwrap();
    let (fixture, (server, commit), repo) = (Fixture::of(Scope::All, HOUR).await, server(), git_repo(&namespace, "app"));
    fixture.write_secret(&namespace, "git", values("wrong")).await;
    fixture.apply(&repo, private(&server.uri("app"), json!({ "name": "git" }))).await;

    let refused = fixture.observe(&namespace, &repo).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::AuthenticationFailed);
    assert_eq!(statuses(&server, 1), [401], "what is read again is the same, and not tried again");

    fixture.write_secret(&namespace, "git", values("right")).await;
    assert_eq!(fixture.observe(&namespace, &repo).await.unwrap(), commit, "the new one is read within the same check");
    assert_eq!(statuses(&server, 3), [401, 200, 200]);

    fixture.write_secret(&namespace, "git", values("wrong")).await;
    assert_eq!(fixture.observe(&namespace, &repo).await.unwrap(), commit, "what was read a short time ago is kept");
    assert_eq!(statuses(&server, 1), [200]);
}

#[tokio::test]
async fn a_secret_that_is_not_kept_is_read_for_each_check() {
    let namespace = fixture::cluster().await.namespace().await.unwrap();
    let (fixture, (server, commit), repo) = (Fixture::of(Scope::All, Duration::ZERO).await, server(), git_repo(&namespace, "app"));
    fixture.apply(&repo, private(&server.uri("app"), json!({ "name": "git" }))).await;
    fixture.write_secret(&namespace, "git", values("right")).await;
    assert_eq!(fixture.observe(&namespace, &repo).await.unwrap(), commit);
    fixture.write_secret(&namespace, "git", values("wrong")).await;
    assert_eq!(fixture.observe(&namespace, &repo).await.unwrap_err().reason(), Reason::AuthenticationFailed);
}

#[tokio::test]
async fn a_git_repo_uses_secrets_of_its_own_namespace_and_a_cluster_git_repo_the_one_it_names_or_the_triggers() {
    let cluster = fixture::cluster().await;
    let [own, other] = [cluster.namespace().await.unwrap(), cluster.namespace().await.unwrap()];
    let (fixture, (server, commit), repo) = (Fixture::of(Scope::All, HOUR).await, server(), git_repo(&own, "app"));
    fixture.write_secret(&own, "git", values("right")).await;
    fixture.write_secret(&other, "git", values("wrong")).await;

    fixture.apply(&repo, private(&server.uri("app"), json!({ "name": "git", "namespace": &*other }))).await;
    let error = fixture.refused_source(&own, &repo).await;
    let expected = format!("{repo}: authConfig.secretRef.namespace is {other}: a GitRepo can use Secrets of its own namespace only");
    assert_eq!((error.reason(), error.to_string()), (Reason::InvalidSpec, expected));

    let shared = ObjectRef::cluster("ClusterGitRepo", &format!("secrets-{own}"));
    fixture.apply(&shared, private(&server.uri("app"), json!({ "name": "git" }))).await;
    assert_eq!(fixture.observe(&own, &shared).await.unwrap(), commit);
    assert_eq!(fixture.observe(&other, &shared).await.unwrap_err().reason(), Reason::AuthenticationFailed);
    fixture.apply(&shared, private(&server.uri("app"), json!({ "name": "git", "namespace": &*own }))).await;
    assert_eq!(fixture.observe(&other, &shared).await.unwrap(), commit);
}

#[tokio::test]
async fn a_secret_that_is_missing_or_not_to_be_read_is_named_and_no_value_is_shown() {
    let cluster = fixture::cluster().await;
    let namespace = cluster.namespace().await.unwrap();
    let (fixture, repo) = (Fixture::of(Scope::All, HOUR).await, git_repo(&namespace, "app"));
    fixture.apply(&repo, private("https://git.example.com/app.git", json!({ "name": "git" }))).await;
    let error = fixture.refused_source(&namespace, &repo).await;
    assert_eq!((error.reason(), error.retry()), (Reason::SecretNotFound, Retry::Backoff));
    assert_eq!(error.to_string(), format!("{repo}: there is no Secret {namespace}/git"));

    fixture.write_secret(&namespace, "git", json!({ "username": "canary", "pass": "canary" })).await;
    let error = fixture.refused_source(&namespace, &repo).await;
    assert_eq!(error.reason(), Reason::SecretNotFound);
    assert_eq!(error.to_string(), format!("{repo}: the Secret {namespace}/git has no key `password`, only: pass, username"));
    assert!(!format!("{error:?}").contains("canary"));

    let admin = cluster.client().await.unwrap();
    let without_rights = cluster::client(&cluster.service_account(&namespace, "nobody").await.unwrap()).await.unwrap();
    let fixture = Fixture::with(admin, without_rights, Scope::All, HOUR).await;
    let error = fixture.refused_source(&namespace, &repo).await;
    assert_eq!((error.reason(), error.retry()), (Reason::SecretNotFound, Retry::Backoff));
    let expected = format!(
        "{repo}: the operator may not read the Secret {namespace}/git: grant its ServiceAccount the verb get on secrets in {namespace}"
    );
    assert_eq!(error.to_string(), expected);
}
