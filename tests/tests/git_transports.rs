//! Every way to a repository, with every credential, right and wrong: what GitSource sees and checks out is what git itself does.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

#[path = "git_transports/forge.rs"]
mod forge;
#[path = "git_transports/front.rs"]
mod front;
#[path = "git_transports/way.rs"]
mod way;

use std::{any::Any, fs};

use git_events_runner_core::{
    Checkout as _, CommitId, ObjectRef, Reason, Reference, Revision, Source as _, Watch,
    git::{Credentials, GitClient, GitSource, RepoUri, Repository},
};
use git_events_runner_tests::{Auth, GitDaemon, GitRepo, GitServer, Options, SshKey, SshServer};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use way::{Way, assert_as_git_does, assert_refused, basic, of_ssh, ssh, token};

/// The certificate of an authority, one that it has made for a server here, and the private key to that.
fn certificates() -> [String; 3] {
    let (authority, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&authority).unwrap().pem();
    let of_server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = of_server.signed_by(&key, &Issuer::new(params, authority)).unwrap().pem();
    [ca, certificate, key.serialize_pem()]
}

/// Over http, or over https with a certificate of its own authority.
fn over_http(auth: Auth, over_tls: bool, old_protocol: bool, key: &SshKey) -> Way {
    use Reason::AuthenticationFailed;
    let ([ca, certificate, private_key], folder) = (certificates(), tempfile::tempdir().unwrap());
    let tls = over_tls.then_some((certificate, private_key));
    let server = GitServer::start(&Options { auth: auth.clone(), old_protocol, tls, ..Options::default() }).unwrap();
    let none = (Credentials::None, AuthenticationFailed, "none are configured");
    let (git, right, wrong) = match &auth {
        Auth::None | Auth::App(_) => (String::new(), Credentials::None, vec![]),
        Auth::Basic(..) => {
            let git = "http.extraHeader=Authorization: Basic ZGVwbG95ZXI6cGFzcw==".to_owned();
            let wrong =
                vec![none, (basic("canary"), AuthenticationFailed, "refuses the credentials"), (token("canary"), AuthenticationFailed, "")];
            (git, basic("pass"), wrong)
        }
        Auth::Token(text) => {
            let wrong =
                vec![none, (token("canary"), AuthenticationFailed, "refuses the credentials"), (basic("canary"), AuthenticationFailed, "")];
            (format!("http.extraHeader=Authorization: {text}"), token(text), wrong)
        }
    };
    let file = folder.path().join("ca.crt");
    fs::write(&file, &ca).unwrap();
    let settings = [format!("http.sslCAInfo={}", file.display()), git];
    Way {
        what: format!("{}, {auth:?}", server.origin()),
        repo: server.repo("app").unwrap(),
        uri: server.uri("app"),
        git: settings.into_iter().filter(|setting| !setting.is_empty()).flat_map(|setting| ["-c".to_owned(), setting]).collect(),
        ca_certificates: over_tls.then_some(ca),
        right,
        wrong: wrong.into_iter().chain([of_ssh(key)]).collect(),
        _server: Box::new((server, folder)),
    }
}

fn over_tcp(old_protocol: bool, key: &SshKey) -> Way {
    let server = GitDaemon::start().unwrap();
    let none_taken = "takes no credentials";
    Way {
        what: "git://".to_owned(),
        repo: server.repo("app").unwrap(),
        uri: if old_protocol { server.old_uri("app").unwrap() } else { server.uri("app") },
        git: vec![],
        ca_certificates: None,
        right: Credentials::None,
        wrong: vec![(basic("canary"), Reason::InvalidSpec, none_taken), (token("canary"), Reason::InvalidSpec, none_taken), of_ssh(key)],
        _server: Box::new(server),
    }
}

fn over_ssh(old_protocol: bool, stranger: &SshKey) -> Way {
    let server = SshServer::start(old_protocol).unwrap();
    let (key, protected) = (server.key(&["-t", "ed25519"], "").unwrap(), server.key(&["-t", "ecdsa"], "a canary").unwrap());
    let known = || server.known_hosts();
    let (no_key, of_key) = ("needs a key: set `authConfig` of type ssh", "the private key for ssh://");
    let wrong = vec![
        (Credentials::None, Reason::InvalidSpec, no_key),
        (basic("canary"), Reason::InvalidSpec, no_key),
        (token("canary"), Reason::InvalidSpec, no_key),
        (ssh(stranger, None, known()), Reason::AuthenticationFailed, "refuses the key ssh-ed25519 SHA256:"),
        (ssh(&protected, None, known()), Reason::InvalidSpec, "is protected by a passphrase"),
        (ssh(&protected, Some("canary"), known()), Reason::InvalidSpec, "does not open with the passphrase"),
        (ssh(&SshKey { private: key.public.clone(), ..key.clone() }, None, known()), Reason::InvalidSpec, of_key),
        (ssh(&SshKey { private: "canary".into(), ..key.clone() }, None, known()), Reason::InvalidSpec, of_key),
        (ssh(&key, None, String::new()), Reason::HostKeyMismatch, "is not known"),
    ];
    Way {
        what: "ssh".to_owned(),
        repo: server.repo("app").unwrap(),
        uri: server.uri("app"),
        git: vec!["-c".to_owned(), format!("core.sshCommand={}", server.ssh_command(&key).unwrap())],
        ca_certificates: None,
        right: ssh(&protected, Some("a canary\n"), known()),
        wrong,
        _server: Box::new(server),
    }
}

fn ways(old_protocol: bool, stranger: &SshKey) -> Vec<Way> {
    let auths = [Auth::None, Auth::Basic("deployer".into(), "pass".into()), Auth::Token("Bearer s3cret".into())];
    let http = auths.iter().flat_map(|auth| [false, true].map(|over_tls| over_http(auth.clone(), over_tls, old_protocol, stranger)));
    let mut ways: Vec<_> = http.collect();
    ways.extend([over_tcp(old_protocol, stranger), over_ssh(old_protocol, stranger)]);
    ways
}

async fn every_way(old_protocol: bool) {
    let folder = tempfile::tempdir().unwrap();
    let stranger = SshKey::create(folder.path(), &["-t", "ed25519"], "").unwrap();
    for way in ways(old_protocol, &stranger) {
        assert_as_git_does(&way).await;
        assert_refused(&way).await;
    }
}

#[tokio::test]
async fn every_way_with_every_credential_in_version_2() {
    every_way(false).await;
}

#[tokio::test]
async fn every_way_with_every_credential_in_version_0() {
    every_way(true).await;
}

#[tokio::test]
async fn a_server_of_version_2_that_gives_only_what_its_refs_point_at_gives_their_history() {
    let server = GitDaemon::start().unwrap();
    let repo = server.repo("app").unwrap();
    let [first, tip] = ["1", "2"].map(|content| repo.push("main", &[("a", content)]).unwrap());
    repo.tag_annotated("v1", first).unwrap();
    let uri = RepoUri::parse(&server.jgit_uri(&repo, "app").unwrap()).unwrap();
    let source = GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), Repository::new(uri), GitClient::default());
    let (main, v1) = (Reference::Branch("main".into()), Reference::Tag("v1".into()));
    for (reference, commit, content) in [(&main, tip, "2"), (&main, first, "1"), (&v1, first, "1")] {
        let into = tempfile::tempdir().unwrap();
        source.checkout(&Revision { reference: reference.clone(), commit }, into.path()).await.unwrap();
        assert_eq!(fs::read_to_string(into.path().join("a")).unwrap(), content, "{reference}");
    }
    let files = Watch { reference: v1, files: vec!["a".to_owned()] };
    assert!(source.observe(&files).await.unwrap().files.is_some());
    for (reference, commit) in [(main, CommitId::digest_of("")), (Reference::Branch("gone".into()), first)] {
        let into = tempfile::tempdir().unwrap();
        let error = source.checkout(&Revision { reference, commit }, into.path()).await.unwrap_err();
        assert!(error.reason() == Reason::ReferenceNotFound && error.to_string().contains(&commit.to_string()), "{error}");
    }
}

/// A repository that anybody may read, on a server that has never heard of version 2.
fn open(what: &str, repo: GitRepo, uri: String, server: impl Any + Send + Sync) -> Way {
    let (git, ca_certificates, right, wrong) = (vec![], None, Credentials::None, vec![]);
    Way { what: what.to_owned(), repo, uri, git, ca_certificates, right, wrong, _server: Box::new(server) }
}

#[tokio::test]
async fn a_server_that_insists_on_acknowledging_many_commits_is_fetched_from() {
    let server = GitServer::start(&Options { old_protocol: true, ..Options::default() }).unwrap();
    let repo = server.repo("app").unwrap();
    // As Azure DevOps does.
    let refusal = |request: &str| {
        let (head, body) = request.split_once("\r\n\r\n")?;
        let first = body.lines().next().unwrap_or_default();
        (head.starts_with("POST") && !first.contains(" multi_ack")).then_some("TF401041: Clients must support multi-ack")
    };
    let uri = front::start(&server, refusal, |answer| answer);
    assert_as_git_does(&open("one that insists on multi_ack", repo, uri, server)).await;
}

#[tokio::test]
async fn why_a_server_refuses_a_request_is_told() {
    let server = GitServer::start(&Options::default()).unwrap();
    let commit = server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    let refusal = |request: &str| request.starts_with("POST").then_some("TF401041: Clients must\tsupport this\r\nand much more");
    let uri = RepoUri::parse(&front::start(&server, refusal, |answer| answer)).unwrap();
    let source = GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), Repository::new(uri), GitClient::default());
    let (reference, into) = (Reference::Branch("main".into()), tempfile::tempdir().unwrap());
    let error = source.checkout(&Revision { reference, commit }, into.path()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ProtocolError);
    assert!(error.to_string().contains("answers 400 Bad Request (it says: TF401041: Clients must support this), which is not"), "{error}");
}

#[tokio::test]
async fn a_content_type_may_have_a_parameter_and_be_written_in_capitals() {
    for old_protocol in [false, true] {
        let server = GitServer::start(&Options { old_protocol, ..Options::default() }).unwrap();
        let repo = server.repo("app").unwrap();
        let other = |answer: String| {
            ["advertisement", "result"].iter().fold(answer, |answer, of| {
                answer
                    .replace(&format!("application/x-git-upload-pack-{of}"), &format!("Application/X-Git-Upload-Pack-{of} ;charset=utf-8"))
            })
        };
        let uri = front::start(&server, |_| None, other);
        assert_as_git_does(&open("one with parameters", repo, uri, server)).await;
    }
}

#[tokio::test]
async fn of_a_hundred_thousand_refs_of_an_old_server_the_last_is_found() {
    const REFS: usize = 100_000;
    let (http, tcp) = (GitServer::start(&Options { old_protocol: true, ..Options::default() }).unwrap(), GitDaemon::start().unwrap());
    let repos = [http.repo("app").unwrap(), tcp.repo("app").unwrap()];
    for (repo, uri) in repos.iter().zip([http.uri("app"), tcp.old_uri("app").unwrap()]) {
        let tip = repo.push("main", &[("a", "1")]).unwrap();
        let [before, last, tagged] = ["2", "3", "4"].map(|content| repo.push("z", &[("a", content)]).unwrap());
        repo.force("z", last).unwrap();
        repo.tag_annotated("z", tagged).unwrap();
        let packed: String = (0..REFS).map(|number| format!("{tip} refs/heads/topic/{number:06}\n")).collect();
        fs::write(repo.bare().join("packed-refs"), format!("# pack-refs with: peeled fully-peeled sorted \n{packed}")).unwrap();
        let source = GitSource::new(
            ObjectRef::cluster("ClusterGitRepo", "app"),
            Repository::new(RepoUri::parse(&uri).unwrap()),
            GitClient::default(),
        );
        for (name, expected) in [("main", tip), ("z", last), ("topic/099999", tip)] {
            assert_eq!(source.observe(&Watch::new(Reference::Branch(name.into()))).await.unwrap().commit, expected, "{uri}: {name}");
        }
        for (commit, content) in [(last, "3"), (tagged, "4")] {
            let into = tempfile::tempdir().unwrap();
            source.checkout(&Revision { reference: Reference::Commit(commit), commit }, into.path()).await.unwrap();
            assert_eq!(fs::read_to_string(into.path().join("a")).unwrap(), content, "{uri}");
        }
        // In no history of the first of them.
        let (reference, into) = (Reference::Commit(before), tempfile::tempdir().unwrap());
        let error = source.checkout(&Revision { reference, commit: before }, into.path()).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ReferenceNotFound, "{error}");
        assert!(error.to_string().contains("only the first 20000 of its refs"), "{error}");
    }
}

#[tokio::test]
async fn compressed_answers_are_read_and_are_smaller() {
    let mut sent = vec![];
    for compressed in [false, true] {
        // In version 0 the answer has all refs, which say the same again and again.
        let server = GitServer::start(&Options { old_protocol: true, compressed, ..Options::default() }).unwrap();
        let repo = server.repo("app").unwrap();
        let tip = repo.push("main", &[("a", "1")]).unwrap();
        let refs: String = (0..1000).map(|number| format!("create refs/heads/topic/{number} {tip}\n")).collect();
        repo.git_with_input(&["--git-dir", repo.bare().to_str().unwrap(), "update-ref", "--stdin"], &refs).unwrap();
        let source = GitSource::new(
            ObjectRef::cluster("ClusterGitRepo", "app"),
            Repository::new(RepoUri::parse(&server.uri("app")).unwrap()),
            GitClient::default(),
        );
        let seen = source.observe(&Watch::new(Reference::Branch("main".into()))).await.unwrap();
        assert_eq!(seen.commit, tip);
        sent.push(server.take_requests(1).unwrap()[0].sent);
    }
    assert!(sent[1] * 4 < sent[0], "{sent:?}");
}
