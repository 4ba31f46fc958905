//! No secret is seen anywhere: not in an error, a log line, a checkout, a process, or what a value shows of itself, whatever servers do.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use git_events_runner_core::{
    Checkout as _, CommitId, ObjectRef, Reference, Revision, Source as _, SourceError, Watch,
    git::{Credentials, GitClient, GitSource, Proxy, RepoUri, Repository, Tls},
};
use git_events_runner_tests::{APP, AppServer, Auth, Canaries, GitServer, INSTALLATION, Options, ProxyServer, SshKey, SshServer};
use rcgen::{CertificateParams, KeyPair};
use tracing_subscriber::fmt::MakeWriter;

/// What is logged, by us and by all libraries.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// A server that repeats what it was shown, in the way that its number says.
fn echo(way: usize) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let (mut head, mut byte) = (vec![], [0]);
            while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|count| count > 0) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let shown: Vec<_> = head.lines().filter(|line| line.to_lowercase().contains("authorization")).collect();
            let shown = shown.join(" ");
            let packet = |text: &str| format!("{:04x}{text}", text.len() + 4);
            let advertisement = "Content-Type: application/x-git-upload-pack-advertisement\r\n";
            let (status, headers, body) = match way {
                0 => (format!("401 {shown}"), String::new(), shown),
                1 => (format!("418 {shown}"), String::new(), shown),
                2 => ("302 Found".to_owned(), format!("Location: https://elsewhere.example/?{}\r\n", shown.replace(' ', "")), shown),
                3 => ("200 OK".to_owned(), format!("Content-Type: {shown}\r\n"), shown),
                4 => ("200 OK".to_owned(), advertisement.to_owned(), packet(&format!("ERR {shown}"))),
                5 => ("200 OK".to_owned(), advertisement.to_owned(), packet(&format!("version {shown}"))),
                6 => ("200 OK".to_owned(), advertisement.to_owned(), shown),
                7 => ("407 Proxy".to_owned(), format!("X-Said: {shown}\r\n"), shown),
                8 => ("429 Too Many Requests".to_owned(), format!("Retry-After: {shown}\r\n"), shown),
                // Without the kind before it, a name of a host can have it.
                9 => {
                    let value = shown.split(' ').next_back().unwrap_or_default();
                    ("302 Found".to_owned(), format!("Location: https://{value}.elsewhere.example/x\r\n"), String::new())
                }
                10 => ("400 Bad Request".to_owned(), "Content-Type: text/plain\r\n".to_owned(), shown),
                11 => ("400 Bad Request".to_owned(), "Content-Type: text/html\r\n".to_owned(), format!("<title>{shown}</title>")),
                _ => (shown, String::new(), String::new()),
            };
            let _ = write!(client, "HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    port
}

const WAYS: usize = 13;

struct World {
    canaries: Canaries,
    client: GitClient,
    failures: usize,
}

impl World {
    fn source(&self, repository: &Repository) -> GitSource {
        GitSource::new(ObjectRef::namespaced("GitRepo", "default", "app"), repository.clone(), self.client.clone()).keep_git_folder(true)
    }

    async fn observe(&mut self, repository: &Repository) -> Result<CommitId, SourceError> {
        let source = self.source(repository);
        self.canaries.assert_not_in("a source", &format!("{source:?} {source:#?} {:?}", self.client));
        let seen = source.observe(&Watch::new(Reference::Branch("main".to_owned()))).await.map(|seen| seen.commit);
        if let Err(error) = &seen {
            self.look_at(error);
        }
        seen
    }

    fn look_at(&mut self, error: &SourceError) {
        self.failures += 1;
        let mut shown = format!("{error} {error:?} {error:#?}");
        let mut next = std::error::Error::source(error);
        while let Some(cause) = next {
            shown.push_str(&format!(" {cause} {cause:?}"));
            next = cause.source();
        }
        self.canaries.assert_not_in(&format!("an error ({:?})", error.reason()), &shown);
    }

    /// These are the right credentials.
    async fn succeed(&mut self, repository: &Repository, tip: CommitId) {
        assert_eq!(self.observe(repository).await.unwrap(), tip);
        let into = tempfile::tempdir().unwrap();
        let revision = Revision { reference: Reference::Branch("main".to_owned()), commit: tip };
        self.source(repository).checkout(&revision, into.path()).await.unwrap();
        assert!(into.path().join(".git/config").exists());
        self.canaries.assert_not_in_folder("a checkout", into.path());
        let missing = Revision { commit: CommitId::digest_of("missing"), ..revision };
        let error = self.source(repository).checkout(&missing, tempfile::tempdir().unwrap().path()).await.unwrap_err();
        self.look_at(&error);
    }

    async fn fail(&mut self, repository: &Repository) {
        self.observe(repository).await.unwrap_err();
    }
}

fn repository(uri: &str, credentials: Credentials) -> Repository {
    Repository { credentials, timeout: Duration::from_secs(20), ..Repository::new(RepoUri::parse(uri).unwrap()) }
}

/// Part of a private key that is nobody else's.
fn middle(key: &str) -> String {
    let lines: Vec<_> = key.lines().collect();
    lines[lines.len() - 3][..40].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_seen_anywhere() {
    let log = Log::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .init();
    let folder = tempfile::tempdir().unwrap();
    let unique = |name: &str| format!("canary-{name}-{}", uuid::Uuid::new_v4().simple());
    let (password, token, of_proxy, minted) = (unique("password"), unique("token"), unique("proxy"), unique("minted"));
    // ssh-keygen takes it on its command line, and is over before anybody looks.
    let passphrase = unique("passphrase");

    let (tls_key, app_key) = (KeyPair::generate().unwrap(), SshKey::create(folder.path(), &["-t", "rsa", "-b", "2048", "-m", "PEM"], ""));
    let app_key = app_key.unwrap().private;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&tls_key).unwrap().pem();
    let api = AppServer::start(&app_key, minted.clone().leak()).unwrap();
    let tls = Some((certificate.clone(), tls_key.serialize_pem()));
    let server = |auth, tls| {
        let server = GitServer::start(&Options { auth, tls, ..Options::default() }).unwrap();
        let tip = server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
        (server, tip)
    };
    let (with_password, tip) = server(Auth::Basic("deployer".into(), password.clone()), None);
    let (with_token, token_tip) = server(Auth::Token(format!("Bearer {token}")), None);
    let (with_app, app_tip) = server(Auth::App(api.address()), tls);
    let ssh = SshServer::start(false).unwrap();
    let ssh_tip = ssh.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    let keys = [ssh.key(&["-t", "ed25519"], "").unwrap(), ssh.key(&["-t", "rsa"], &passphrase).unwrap()];
    let proxy = ProxyServer::http(Some(("robot", &of_proxy))).unwrap();
    let canaries = Canaries::new(&[
        ("password", &password),
        ("token", &token),
        ("proxy password", &of_proxy),
        ("minted token", &minted),
        ("passphrase", &passphrase),
        ("key of the App", &middle(&app_key)),
        ("private key", &middle(&keys[0].private)),
        ("protected private key", &middle(&keys[1].private)),
    ]);
    let processes = canaries.watch_processes();
    let mut world = World { canaries: canaries.clone(), client: GitClient::default(), failures: 0 };

    let basic = Credentials::Basic { username: "deployer".into(), password: password.as_str().into() };
    let bearer = Credentials::Token { token: format!("Bearer {token}").as_str().into() };
    let app =
        Credentials::GithubApp { app_id: APP.to_owned(), installation_id: INSTALLATION.to_owned(), private_key: app_key.as_str().into() };
    let of_ssh = |key: &SshKey, passphrase: Option<&str>, known_hosts: String| Credentials::Ssh {
        private_key: key.private.as_str().into(),
        passphrase: passphrase.map(Into::into),
        known_hosts: Some(known_hosts),
        insecure_ignore_host_key: false,
    };
    let through = |url: String, repository: Repository| Repository {
        proxy: Some(Proxy { url, credentials: Some(("robot".into(), of_proxy.as_str().into())) }),
        ..repository
    };
    let trusting =
        |repository: Repository| Repository { tls: Tls { ca_certificates: Some(certificate.clone()), no_verify: false }, ..repository };
    let by_app = trusting(repository(&with_app.uri("app"), app.clone()));

    // Where they belong.
    world.succeed(&repository(&with_password.uri("app"), basic.clone()), tip).await;
    world.succeed(&repository(&with_token.uri("app"), bearer.clone()), token_tip).await;
    world.succeed(&by_app, app_tip).await;
    world.succeed(&repository(&ssh.uri("app"), of_ssh(&keys[0], None, ssh.known_hosts())), ssh_tip).await;
    world.succeed(&repository(&ssh.uri("app"), of_ssh(&keys[1], Some(&passphrase), ssh.known_hosts())), ssh_tip).await;
    world.succeed(&through(format!("http://{}", proxy.authority()), repository(&with_password.uri("app"), basic.clone())), tip).await;

    // Where they do not.
    world.fail(&repository(&with_token.uri("app"), basic.clone())).await;
    world.fail(&repository(&with_password.uri("app"), bearer.clone())).await;
    world.fail(&repository(&with_password.uri("app"), app.clone())).await;
    world.fail(&repository(&with_app.uri("app"), app.clone())).await;
    api.revoke_all();
    world.fail(&by_app).await;
    let wrong_key = Credentials::GithubApp {
        app_id: APP.to_owned(),
        installation_id: INSTALLATION.to_owned(),
        private_key: keys[0].private.as_str().into(),
    };
    world.fail(&trusting(repository(&with_app.uri("app"), wrong_key))).await;
    for wrong in [
        of_ssh(&keys[0], None, String::new()),
        of_ssh(&keys[1], None, ssh.known_hosts()),
        of_ssh(&keys[1], Some(&password), ssh.known_hosts()),
        Credentials::Ssh {
            private_key: password.as_str().into(),
            passphrase: Some(passphrase.as_str().into()),
            known_hosts: Some(String::new()),
            insecure_ignore_host_key: false,
        },
        basic.clone(),
    ] {
        world.fail(&repository(&ssh.uri("app"), wrong)).await;
    }
    world.fail(&repository(&ssh.uri_as("nobody", "app"), of_ssh(&keys[0], None, ssh.known_hosts()))).await;

    // Where somebody repeats them.
    for way in 0..WAYS {
        let port = echo(way);
        for credentials in [&basic, &bearer] {
            world.fail(&repository(&format!("http://127.0.0.1:{port}/app"), credentials.clone())).await;
            let proxied = |uri: &str| through(format!("http://127.0.0.1:{port}"), repository(uri, credentials.clone()));
            world.fail(&proxied(&with_password.uri("nowhere"))).await;
            world.fail(&proxied("https://git.example.com/app")).await;
        }
    }

    // As the url and the path of a submodule, and in the path of a file that cannot be.
    let repo = with_password.repo("nested").unwrap();
    fs::create_dir_all(repo.work().join(&password)).unwrap();
    repo.write(".gitmodules", &format!("[submodule \"x\"]\n\tpath = {password}\n\turl = http://127.0.0.1:1/{password}\n")).unwrap();
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{tip},{password}")]).unwrap();
    let nested = repo.commit_and_push("main").unwrap();
    let blob = repo.git_with_input(&["hash-object", "-w", "--stdin"], "").unwrap();
    let inner = repo.git_with_input(&["mktree"], &format!("100644 blob {blob}\t.git\n")).unwrap();
    let tree = repo.git_with_input(&["mktree"], &format!("040000 tree {inner}\t{password}\n")).unwrap();
    let steps = Arc::<Mutex<Vec<String>>>::default();
    for commit in [nested, repo.git(&["commit-tree", "-m", "evil", &tree]).unwrap().parse().unwrap()] {
        repo.force("main", commit).unwrap();
        let told = Arc::clone(&steps);
        let source = world.source(&repository(&with_password.uri("nested"), basic.clone())).submodules(true);
        let source = source.tell(move |step| told.lock().unwrap().push(format!("{step:?}")));
        let revision = Revision { reference: Reference::Branch("main".to_owned()), commit };
        let error = source.checkout(&revision, tempfile::tempdir().unwrap().path()).await.unwrap_err();
        world.look_at(&error);
    }
    let steps = steps.lock().unwrap().join("\n");
    assert!(steps.contains("submodule: Some("), "the submodule was not asked for");
    canaries.assert_not_in("what a checkout tells", &steps);

    assert!(world.failures > 6 * WAYS + 10, "{}", world.failures);
    let logged = log.text();
    for library in ["russh", "hyper", "rustls"] {
        assert!(logged.contains(library), "{library} logs nothing, so that nothing is known of what it logs");
    }
    canaries.assert_not_in("the log", &logged);
    processes.assert_nothing_seen();
    fs::remove_dir_all(folder.path()).unwrap();
}
