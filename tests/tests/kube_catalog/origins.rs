//! What Jobs check out, and with which credentials.

use std::collections::BTreeMap;

use git_events_runner_core::{
    crd::AuthType,
    job::{JobClone, JobCredentials, JobOrigins as _, MountedSecret},
    *,
};
use git_events_runner_tests::{APP, AppServer, Auth, GitServer, INSTALLATION, Options, SshKey};
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use super::fixture::{self, Fixture, HOUR, action, git_repo, trigger};

/// A run for the branch main of a source.
fn run(namespace: &str, source: &ObjectRef, action: &ObjectRef) -> RunRequest {
    RunRequest::new(
        RunKey { trigger: trigger(namespace), source: source.clone(), reference: Reference::Branch("main".into()), sequence: 0 },
        action.clone(),
        CommitId::digest_of("commit"),
        Timestamp::UNIX_EPOCH,
    )
}

fn private(uri: &str) -> Value {
    json!({ "repoUri": uri, "authConfig": { "type": "basic", "secretRef": { "name": "git" }, "keys": { "username": "user" } } })
}

fn clone(uri: &str, auth: Option<AuthType>, credentials: JobCredentials) -> JobClone {
    JobClone {
        uri: uri.to_owned(),
        no_verify_ssl: false,
        insecure_ignore_host_key: false,
        known_hosts: None,
        auth,
        ca_certificates: false,
        proxy: None,
        credentials,
    }
}

fn files(files: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    files.iter().map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec())).collect()
}

#[tokio::test]
async fn a_job_checks_out_what_its_action_names_at_the_commit_that_is_seen_when_it_is_registered() {
    let namespace = fixture::cluster().await.namespace().await.unwrap();
    let fixture = Fixture::of(Scope::All, HOUR).await;
    let server = GitServer::start(&Options { auth: Auth::Basic("deployer".into(), "right".into()), ..Options::default() }).unwrap();
    let tools = server.repo("tools").unwrap();
    let released = tools.push("main", &[("a", "1")]).unwrap();
    tools.tag_annotated("v1", released).unwrap();
    tools.push("main", &[("a", "2")]).unwrap();
    fixture.write_secret(&namespace, "git", json!({ "user": "deployer", "password": "right\n" })).await;

    let (app, of_namespace, deploy) = (git_repo(&namespace, "app"), git_repo(&namespace, "tools"), action(&namespace, "deploy"));
    let shared = ObjectRef::cluster("ClusterGitRepo", &format!("tools-{namespace}"));
    fixture.apply(&app, json!({ "repoUri": "https://git.example.com/app.git" })).await;
    fixture.apply(&of_namespace, private(&server.uri("tools"))).await;
    fixture.apply(&shared, private(&server.uri("tools"))).await;
    let request = run(&namespace, &app, &deploy);
    let mounted = |key: &str, file: &str| MountedSecret {
        name: "git".to_owned(),
        files: BTreeMap::from([(key.to_owned(), file.to_owned())]),
        optional: false,
    };
    let mounted = JobCredentials::Mounted(vec![mounted("user", "username"), mounted("password", "password")]);
    for (source, credentials) in [(&of_namespace, mounted), (&shared, JobCredentials::Own)] {
        let over = json!({ "kind": source.kind, "name": source.name, "reference": { "tag": "v1" } });
        fixture.apply(&deploy, json!({ "sourceOverride": over })).await;
        let origin = fixture.catalog.origin(&request).await.unwrap();
        assert_eq!(origin.source_uri, "https://git.example.com/app.git");
        let revision = Revision { reference: Reference::Tag("v1".into()), commit: released };
        assert_eq!(origin.overridden, Some((source.clone(), revision)));
        assert_eq!(origin.clone, clone(&server.uri("tools"), Some(AuthType::Basic), credentials));
        let expected = files(&[("username", "deployer"), ("password", "right\n")]);
        assert_eq!(fixture.catalog.credentials(&request, &server.uri("tools")).await.unwrap(), expected, "{source}");
        let error = fixture.catalog.credentials(&request, "https://git.example.com/app.git").await.unwrap_err().to_string();
        assert!(error.contains("which must not see the credentials of what it is now"), "{error}");
    }

    let over = json!({ "kind": "GitRepo", "name": "tools", "reference": { "tag": "v2" } });
    fixture.apply(&deploy, json!({ "sourceOverride": over })).await;
    let error = fixture.catalog.origin(&request).await.unwrap_err();
    assert!(matches!(error, ActionError::Unavailable(_)), "it may come");
    assert!(error.to_string().contains("sourceOverride (ReferenceNotFound): there is no tag v2 in "), "{error}");
}

#[tokio::test]
async fn a_job_without_an_override_checks_out_its_source() {
    let namespace = fixture::cluster().await.namespace().await.unwrap();
    let (fixture, repo, deploy) = (Fixture::of(Scope::All, HOUR).await, git_repo(&namespace, "app"), action(&namespace, "deploy"));
    let (uri, request) = ("https://git.example.com/app.git", run(&namespace, &repo, &deploy));
    let error = fixture.catalog.origin(&request).await.unwrap_err();
    assert!(matches!(error, ActionError::Unavailable(_)), "it may come: {error}");

    fixture.apply(&deploy, json!({})).await;
    fixture.apply(&repo, json!({ "repoUri": uri })).await;
    let origin = fixture.catalog.origin(&request).await.unwrap();
    assert_eq!((origin.overridden, origin.clone), (None, clone(uri, None, JobCredentials::None)));
    assert!(fixture.catalog.credentials(&request, uri).await.unwrap().is_empty());

    let ca = json!({ "caCert": { "secretRef": { "name": "authority" }, "key": "root.pem" } });
    fixture.apply(&repo, json!({ "repoUri": uri, "tlsConfig": ca })).await;
    let origin = fixture.catalog.origin(&request).await.unwrap();
    let authority =
        MountedSecret { name: "authority".into(), files: [("root.pem".to_owned(), "ca.crt".to_owned())].into(), optional: false };
    let with_authority = clone(uri, None, JobCredentials::Mounted(vec![authority]));
    assert_eq!(origin.clone, JobClone { ca_certificates: true, ..with_authority });

    let auth = json!({ "type": "ssh", "secretRef": { "name": "key" } });
    fixture.apply(&repo, json!({ "repoUri": "git@git.example.com:app.git", "authConfig": auth })).await;
    let clone = fixture.catalog.origin(&request).await.unwrap().clone;
    assert_eq!(clone.known_hosts.as_deref(), Some(fixture::KNOWN_HOSTS), "what is known of hosts for all repositories");
}

#[tokio::test]
async fn an_override_that_is_not_there_is_refused_before_anything_is_registered() {
    let namespace = fixture::cluster().await.namespace().await.unwrap();
    let (fixture, deploy) = (Fixture::of(Scope::All, HOUR).await, action(&namespace, "deploy"));
    let over = json!({ "kind": "GitRepo", "name": "nowhere", "reference": { "tag": "v1" } });
    fixture.apply(&deploy, json!({ "sourceOverride": over })).await;
    let error = fixture.catalog.action(&trigger(&namespace), &deploy).await.err().unwrap();
    assert_eq!(error.to_string(), format!("there is no GitRepo {namespace}/nowhere"));
}

#[tokio::test]
async fn a_job_gets_a_token_of_a_github_app_and_never_its_key() {
    let namespace = fixture::cluster().await.namespace().await.unwrap();
    let fixture = Fixture::of(Scope::All, HOUR).await;
    let (folder, tls_key) = (tempfile::tempdir().unwrap(), KeyPair::generate().unwrap());
    let key = SshKey::create(folder.path(), &["-t", "rsa", "-b", "2048", "-m", "PEM"], "").unwrap().private;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&tls_key).unwrap().pem();
    let api = AppServer::start(&key, "ghs_token").unwrap();
    let tls = Some((certificate.clone(), tls_key.serialize_pem()));
    let server = GitServer::start(&Options { auth: Auth::App(api.address()), tls, ..Options::default() }).unwrap();
    let tip = server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    let values = json!({ "appId": APP, "installationId": format!("{INSTALLATION}\n"), "privateKey": key, "ca.crt": certificate });
    fixture.write_secret(&namespace, "app", values).await;

    let (of_namespace, deploy) = (git_repo(&namespace, "app"), action(&namespace, "deploy"));
    let shared = ObjectRef::cluster("ClusterGitRepo", &format!("app-{namespace}"));
    let auth = json!({ "type": "githubApp", "secretRef": { "name": "app" }, "keys": { "privateKey": "privateKey" } });
    let tls = json!({ "caCert": { "secretRef": { "name": "app" } } });
    fixture.apply(&deploy, json!({})).await;
    for source in [&of_namespace, &shared] {
        fixture.apply(source, json!({ "repoUri": server.uri("app"), "authConfig": auth, "tlsConfig": tls })).await;
        assert_eq!(fixture.observe(&namespace, source).await.unwrap(), tip);
        let request = run(&namespace, source, &deploy);
        let origin = fixture.catalog.origin(&request).await.unwrap();
        assert_eq!(
            (origin.clone.credentials, origin.clone.auth),
            (JobCredentials::Own, Some(AuthType::GithubApp)),
            "a token is made at its release"
        );
        let made = fixture.catalog.credentials(&request, &server.uri("app")).await.unwrap();
        assert_eq!(made.keys().collect::<Vec<_>>(), ["ca.crt", "token"], "{source}");
        assert_eq!(made["ca.crt"], certificate.as_bytes());

        // It is the value of a header, as the cloner sends it.
        let token = String::from_utf8(made["token"].clone()).unwrap();
        let header = format!("http.extraHeader=Authorization: {token}");
        let repo = git_events_runner_tests::GitRepo::create(folder.path(), &source.kind).unwrap();
        let seen = repo.git(&["-c", &header, "-c", "http.sslVerify=false", "ls-remote", &server.uri("app"), "refs/heads/main"]).unwrap();
        assert!(seen.starts_with(&tip.to_string()), "{seen}");
    }
    assert_eq!(api.take_asked(), 1, "one token is enough for all of them");

    let wrong = json!({ "appId": APP, "installationId": "35", "privateKey": key, "ca.crt": certificate });
    fixture.write_secret(&namespace, "wrong", wrong).await;
    let auth = json!({ "type": "githubApp", "secretRef": { "name": "wrong" }, "keys": { "privateKey": "privateKey" } });
    fixture.apply(&of_namespace, json!({ "repoUri": server.uri("app"), "authConfig": auth, "tlsConfig": tls })).await;
    let error = fixture.catalog.credentials(&run(&namespace, &of_namespace, &deploy), &server.uri("app")).await.unwrap_err();
    assert!(matches!(error, ActionError::Unavailable(_)) && error.to_string().contains("there is no installation 35"), "{error}");
}
