//! What the operator writes into a Job is what the cloner understands.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use git_events_runner_core::{
    Action as _, ActionError, CommitId, ObjectRef, Reference, RunKey, RunRequest, Scope, TriggerId, cloner, crd,
    job::{JobAction, JobClone, JobCredentials, JobOrigin, JobOrigins, Jobs},
};
use git_events_runner_tests::{
    Auth, GitRepo, GitServer, Options, SshKey, SshServer,
    cluster::{Cluster, Mode, Namespace},
};
use k8s_openapi::{api::batch::v1::Job, jiff::Timestamp};
use kube::Api;
use serde_json::json;
use tokio::sync::watch;

use super::fixture::Clone;

/// What each Job checks out.
struct Origins(JobClone);

#[async_trait]
impl JobOrigins for Origins {
    async fn origin(&self, _: &RunRequest) -> Result<JobOrigin, ActionError> {
        Ok(JobOrigin { source_uri: self.0.uri.clone(), overridden: None, clone: self.0.clone() })
    }

    async fn credentials(&self, _: &RunRequest, _: &str) -> Result<BTreeMap<String, Vec<u8>>, ActionError> {
        unreachable!("no Job begins")
    }
}

fn request(namespace: &Namespace<'_>, reference: Reference, commit: CommitId, sequence: u64) -> RunRequest {
    let trigger = TriggerId { kind: "ScheduleTrigger".into(), namespace: namespace.to_string(), name: "app".into(), uid: "1".into() };
    let source = ObjectRef::namespaced("GitRepo", namespace, "app");
    RunRequest::new(
        RunKey { trigger, source, reference, sequence },
        ObjectRef::namespaced("Action", namespace, "deploy"),
        commit,
        Timestamp::UNIX_EPOCH,
    )
}

/// A repository whose commit was seen at a branch with an awkward name, and the submodule that is in it.
fn push(server_repo: impl Fn(&str) -> GitRepo) -> CommitId {
    let (app, lib) = (server_repo("app"), server_repo("lib"));
    let inner = lib.push("main", &[("l", "1")]).unwrap();
    app.push("$(main)", &[("a", "0")]).unwrap();
    app.write(".gitmodules", "[submodule \"lib\"]\n\tpath = lib\n\turl = ../lib.git\n").unwrap();
    app.write("a", "1").unwrap();
    std::fs::create_dir(app.work().join("lib")).unwrap();
    app.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{inner},lib")]).unwrap();
    app.commit_and_push("$(main)").unwrap()
}

#[tokio::test]
async fn the_arguments_of_a_job_lead_to_its_commit() {
    let cluster = Cluster::start(Mode::ControlPlane).await.unwrap();
    let (client, namespace) = (cluster.client().await.unwrap(), cluster.namespace().await.unwrap());
    let http = GitServer::start(&Options { auth: Auth::Basic("me".into(), "s3cret".into()), ..Options::default() }).unwrap();
    let token = GitServer::start(&Options { auth: Auth::Token("Bearer t0ken".into()), old_protocol: true, ..Options::default() }).unwrap();
    let ssh = SshServer::start(false).unwrap();
    let key: SshKey = ssh.key(&["-t", "ed25519"], "").unwrap();
    let cases = [
        (http.uri("app"), push(|name| http.repo(name).unwrap()), crd::AuthType::Basic, vec![("username", "me"), ("password", "s3cret")]),
        (token.uri("app"), push(|name| token.repo(name).unwrap()), crd::AuthType::Token, vec![("token", "Bearer t0ken")]),
        (
            ssh.uri("app"),
            push(|name| ssh.repo(name).unwrap()),
            crd::AuthType::Ssh,
            vec![("ssh-privatekey", key.private.as_str()), ("known_hosts", "example.com ssh-ed25519 AAAA")],
        ),
    ];
    let (_sender, config) = watch::channel(Arc::new(crd::RuntimeConfig::default()));
    let jobs = Jobs::new(client.clone(), Scope::Namespaces(vec![namespace.to_string()]), config);
    for (sequence, (uri, commit, auth, mut files)) in cases.into_iter().enumerate() {
        let mut clone = Clone::of(&uri, commit);
        files.push(("ca.crt", http_authority()));
        clone = clone.credentials("", &files);
        let of_job = JobClone {
            uri,
            // All that can be said of a repository; what is not for this way to it changes nothing.
            no_verify_ssl: true,
            insecure_ignore_host_key: auth != crd::AuthType::Ssh,
            known_hosts: Some(ssh.known_hosts()),
            auth: Some(auth),
            ca_certificates: true,
            proxy: None,
            credentials: JobCredentials::Own,
        };
        let spec = json!({
            "workdir": clone.destination(), "enableClonerDebug": true, "preserveGitFolder": true, "clone": { "depth": 0, "submodules": true },
        });
        let id = ObjectRef::namespaced("Action", &namespace, "deploy");
        let action = JobAction::new(id, &namespace, serde_json::from_value(spec).unwrap(), jobs.clone(), Arc::new(Origins(of_job)));
        let request = request(&namespace, Reference::Branch("$(main)".to_owned()), commit, sequence as u64);
        action.register(&request).await.unwrap();

        let job = Api::<Job>::namespaced(client.clone(), &namespace).get(&request.key.name()).await.unwrap();
        let container = job.spec.unwrap().template.spec.unwrap().init_containers.unwrap().remove(0);
        assert_eq!(container.command, None, "the image's own");
        // As a node would pass it on, but for where the files are.
        let folder = clone.path("credentials");
        let passed = |arg: &String| arg.replace("$$", "$").replace(cloner::files::FOLDER, folder.to_str().unwrap());
        clone.args = container.args.unwrap().iter().map(passed).collect();
        clone.args.push(format!("--termination-log={}", clone.path("termination-log").display()));
        let ended = clone.run();
        ended.assert_success();
        let read = |name: &str| std::fs::read_to_string(clone.destination().join(name)).unwrap();
        assert_eq!((read("a"), read("lib/l")), ("1".to_owned(), "1".to_owned()));
        assert_eq!(read(".git/HEAD"), format!("{commit}\n"));
        assert!(!clone.destination().join(".git/shallow").exists(), "all of the history");
        assert!(ended.output[0].contains("was seen at branch $(main)"), "{ended:#?}");
        // A second time, as after a restart of the node.
        clone.run().assert_success();
    }
}

/// Some authority, which nothing here is signed by.
fn http_authority() -> &'static str {
    static AUTHORITY: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new(vec!["authority.example.com".to_owned()]).unwrap().self_signed(&key).unwrap().pem()
    });
    &AUTHORITY
}
