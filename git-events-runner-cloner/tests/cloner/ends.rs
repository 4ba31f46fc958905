//! How it ends when it does not work.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use git_events_runner_core::CommitId;
use git_events_runner_tests::{Auth, GitServer, Options, Program, SshServer, free_port};
use rcgen::{CertificateParams, KeyPair};
use rustix::process::Signal;

use super::fixture::{Clone, PROGRAM};

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

fn missing() -> CommitId {
    "1234567812345678123456781234567812345678".parse().unwrap()
}

/// A server that reads, and answers with this; None: never.
fn server(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let uri = format!("http://{}/app.git", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut held = vec![];
        for mut client in listener.incoming().map_while(Result::ok) {
            if let Some(answer) = answer {
                let _ = client.read(&mut [0; 4096]);
                let _ = client.write_all(answer.as_bytes());
            } else {
                held.push(client);
            }
        }
    });
    uri
}

#[test]
fn the_exit_code_tells_what_has_to_be_done() {
    let http = GitServer::start(&Options { auth: Auth::Basic("me".into(), "s3cret".into()), ..Options::default() }).unwrap();
    let commit = http.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    let basic = |password: &str| [("username", "me"), ("password", password)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let with = |uri: &str, password: &str| {
        let files = basic(password);
        Clone::of(uri, commit).credentials("basic", &files.each_ref().map(|(name, value)| (name.as_str(), value.as_str())))
    };
    let html = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    let dumb = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
                1234567812345678123456781234567812345678\trefs/heads/main\n";
    let (closed, app) = (format!("http://127.0.0.1:{}/app.git", free_port().unwrap()), http.uri("app"));
    let mut not_there = with(&app, "s3cret");
    not_there.args[1] = format!("--commit={}", missing());
    for (clone, code, message) in [
        (Clone::of("ext::sh", commit), 2, "--repo-uri: the URI of a repository names a remote helper"),
        (Clone::of("file:///etc", commit), 2, "--repo-uri: file:// can be used in local mode only"),
        (Clone::of(&app, commit).credentials("token", &[]), 2, "/credentials/token is missing: check the Secret and its keys"),
        (Clone::of(&app, commit).credentials("ssh", &[("ssh-privatekey", "x")]), 2, "is not reached by ssh"),
        (Clone::of(&app, commit).arg("--proxy=ftp://example.com"), 2, "it begins with ftp:"),
        (Clone::of(&app, commit).arg("--ca-file=/nowhere"), 2, "the file /nowhere is missing"),
        (Clone::of(&app, commit).arg("--proxy=http://x").credentials("", &[("proxy-username", "x")]), 2, "one is missing"),
        (Clone::of(&app, commit).arg("--reference-type=commit").arg("--reference-name=main"), 2, "--reference-name"),
        (Clone::of(&app, commit), 3, "none are configured"),
        (with(&app, "canary"), 3, "refuses the credentials"),
        (with(&http.uri("nowhere"), "s3cret"), 4, "there is no repository at"),
        (not_there, 4, "there is no commit 1234567812345678123456781234567812345678"),
        (Clone::of(&closed, commit).arg("--try-for=0"), 5, "no connection to"),
        (Clone::of(&server(Some(BUSY)), commit).arg("--try-for=0"), 5, "is not able to answer now (503"),
        (Clone::of(&server(None), commit).arg("--timeout=1").arg("--try-for=0"), 6, "took longer than 1s, while waiting for its answer"),
        (Clone::of(&server(Some(html)), commit), 9, "answers with text/html, not as a Git server"),
        (Clone::of(&server(Some(dumb)), commit), 9, "answers with text/plain, not as a Git server (smart http)"),
    ] {
        let ended = clone.run();
        ended.assert_failure(code, message);
        assert!(!ended.output.concat().contains("canary"), "{ended:#?}");
    }
}

#[test]
fn what_it_has_begun_to_write_is_gone_when_it_gives_up() {
    let server = GitServer::start(&Options::default()).unwrap();
    let repo = server.repo("app").unwrap();
    let commit = repo.push("main", &[("a", "1")]).unwrap();
    let lib = format!("[submodule \"lib\"]\n\tpath = lib\n\turl = http://127.0.0.1:{}/lib.git\n", free_port().unwrap());
    repo.write(".gitmodules", &lib).unwrap();
    fs::create_dir(repo.work().join("lib")).unwrap();
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},lib")]).unwrap();
    let commit = repo.commit_and_push("main").unwrap();
    let clone = Clone::of(&server.uri("app"), commit).arg("--submodules").arg("--try-for=0");
    fs::create_dir(clone.destination()).unwrap();
    for _ in 0..2 {
        clone.run().assert_failure(5, "the submodule lib: no connection to");
        assert_eq!(fs::read_dir(clone.destination()).unwrap().count(), 0);
    }
    fs::write(clone.destination().join("mine"), "").unwrap();
    clone.run().assert_failure(2, "is not empty");
    assert!(clone.destination().join("mine").exists(), "what was there before is left");
}

/// A server that answers so once, and then as what is behind it.
fn at_first(answer: &'static str, behind: &GitServer) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let uri = format!("http://{}/app.git", listener.local_addr().unwrap());
    let behind = behind.origin().trim_start_matches("http://").to_owned();
    thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        let _ = first.read(&mut [0; 4096]);
        first.write_all(answer.as_bytes()).unwrap();
        drop(first);
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(&behind).unwrap();
            for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    uri
}

#[test]
fn a_server_that_is_busy_or_breaks_off_is_asked_again() {
    let breaks_off = "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nConnection: close\r\n\r\n001e# ser";
    let server = GitServer::start(&Options::default()).unwrap();
    let commit = server.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    for (answer, why) in [(BUSY, "503 Service Unavailable"), (breaks_off, "broke off: its answer is cut off")] {
        let clone = Clone::of(&at_first(answer, &server), commit);
        let ended = clone.run();
        ended.assert_success();
        let says_so = |line: &String| line.contains(why) && line.ends_with("; it is tried again in 1 s");
        assert!(ended.output.iter().any(says_so), "{ended:#?}");
        assert_eq!(fs::read_to_string(clone.destination().join("a")).unwrap(), "1");
    }
}

#[test]
fn a_server_that_is_not_the_known_one_has_a_code_of_its_own() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    let https = GitServer::start(&Options { tls: Some((certificate, key.serialize_pem())), ..Options::default() }).unwrap();
    let commit = https.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    Clone::of(&https.uri("app"), commit).run().assert_failure(8, "signed by nobody who is trusted here");
    Clone::of(&https.uri("app"), commit).arg("--no-verify-ssl").run().assert_success();

    let ssh = SshServer::start(false).unwrap();
    let commit = ssh.repo("app").unwrap().push("main", &[("a", "1")]).unwrap();
    let key = ssh.key(&["-t", "ed25519"], "").unwrap();
    let other = format!("{} {}", ssh.host(), key.public);
    let clone =
        |hosts: &str| Clone::of(&ssh.uri("app"), commit).credentials("ssh", &[("ssh-privatekey", &key.private), ("known_hosts", hosts)]);
    let ended = clone(&other).run();
    ended.assert_failure(8, "known_hosts");
    clone(&other).arg("--insecure-ignore-host-key").run().assert_success();
}

#[test]
fn a_commit_that_git_would_refuse_is_refused() {
    let server = GitServer::start(&Options::default()).unwrap();
    let repo = server.repo("app").unwrap();
    repo.push("main", &[("a", "1")]).unwrap();
    let blob = repo.git(&["rev-parse", "HEAD:a"]).unwrap();
    let bytes = (0..20).map(|at| u8::from_str_radix(&blob[at * 2..at * 2 + 2], 16).unwrap());
    fs::write(repo.work().join("tree"), b"100644 .git\0".iter().copied().chain(bytes).collect::<Vec<_>>()).unwrap();
    let tree = repo.git(&["hash-object", "-t", "tree", "--literally", "-w", "tree"]).unwrap();
    let commit = repo.git(&["commit-tree", "-m", "evil", &tree]).unwrap();
    repo.git(&["push", "--quiet", "origin", &format!("{commit}:refs/heads/evil")]).unwrap();
    Clone::of(&server.uri("app"), commit.parse().unwrap()).run().assert_failure(9, "cannot be read: invalid path");
}

#[test]
fn a_signal_ends_it_at_once() {
    for (signal, code, message) in [(Signal::TERM, 143, "ended by SIGTERM"), (Signal::INT, 130, "interrupted")] {
        let clone = Clone::of(&server(None), missing());
        let program = clone.start();
        program.wait_for_line("fetching").unwrap();
        let asked = Instant::now();
        let (status, output) = program.end(signal).unwrap();
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        assert_eq!(status.code(), Some(code), "{output:#?}");
        assert!(fs::read_to_string(clone.path("termination-log")).unwrap().contains(message));
    }
}

#[test]
fn a_command_line_that_is_wrong_is_told_and_help_is_no_error() {
    let run = |args: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(args).env_clear();
        Program::start(command).unwrap().finish().unwrap()
    };
    let (status, output) = run(&["--help"]);
    assert!(status.success() && output.iter().any(|line| line.contains("143  SIGTERM")), "{output:#?}");
    let always = ["--repo-uri=https://example.com/a", "--destination=/nowhere"];
    for (args, message) in [
        (vec![], "--repo-uri"),
        (always.to_vec(), "--commit"),
        ([&always[..], &["--commit=12"]].concat(), "--commit"),
        ([&always[..], &["--commit=1234567812345678123456781234567812345678", "--auth=basic"]].concat(), "--credentials"),
        ([&always[..], &["--commit=1234567812345678123456781234567812345678", "--depth=-1"]].concat(), "--depth"),
    ] {
        let (status, output) = run(&args);
        assert_eq!(status.code(), Some(2));
        assert!(output.concat().contains(message), "{output:#?}");
    }
}
