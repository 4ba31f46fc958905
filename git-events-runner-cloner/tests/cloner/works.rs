//! What is checked out.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path};

use git_events_runner_tests::{Auth, GitDaemon, GitServer, Options, SshServer, files};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::fixture::{Clone, cloned_by_git, path};

#[test]
fn every_way_to_a_repository_leads_to_what_git_itself_checks_out() {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let http = GitServer::start(&Options { auth: Auth::Basic("me".into(), "s3cret".into()), ..Options::default() }).unwrap();
    let tls = Some((certificate.pem(), key.serialize_pem()));
    let https = GitServer::start(&Options { auth: Auth::Token("Bearer t0ken".into()), tls, ..Options::default() }).unwrap();
    let ssh = SshServer::start(false).unwrap();
    let ssh_key = ssh.key(&["-t", "ed25519"], "passphrase").unwrap();
    let tcp = GitDaemon::start().unwrap();
    let repos = [http.repo("app"), https.repo("app"), ssh.repo("app"), tcp.repo("app")].map(Result::unwrap);
    let commits = [0, 1, 2, 3].map(|number| {
        let repo = &repos[number];
        repo.write("folder/a", "1").unwrap();
        repo.write("run", "2").unwrap();
        repo.make_executable("run").unwrap();
        repo.link("link", "run").unwrap();
        let commit = repo.commit_and_push("main").unwrap();
        repo.push("main", &[("later", "not to be seen")]).unwrap();
        commit
    });
    let clones = [
        Clone::of(&http.uri("app"), commits[0]).credentials("basic", &[("username", "me"), ("password", "s3cret\n")]),
        Clone::of(&https.uri("app"), commits[1])
            .credentials("token", &[("token", "Bearer t0ken"), ("ca.crt", &authority.pem())])
            .arg("--reference-type=branch")
            .arg("--reference-name=main"),
        Clone::of(&ssh.uri("app"), commits[2])
            .credentials("ssh", &[("ssh-privatekey", &ssh_key.private), ("passphrase", "passphrase"), ("known_hosts", &ssh.known_hosts())]),
        Clone::of(&tcp.uri("app"), commits[3]),
    ];
    for (number, mut clone) in clones.into_iter().enumerate() {
        if number == 1 {
            clone.args.push(format!("--ca-file={}", clone.path("credentials/ca.crt").display()));
        }
        let ended = clone.run();
        ended.assert_success();
        let expected = files(&cloned_by_git(&repos[number], commits[number]).path().join("clone")).unwrap();
        // Git's own umask is another one.
        let (expected, found) = (without_modes(expected), without_modes(files(&clone.destination()).unwrap()));
        assert_eq!(found, expected);
        assert!(!clone.destination().join(".git").exists());
        let said = [format!("fetching {} from", commits[number]), "writing its files".to_owned(), "checked out 3 files, ".to_owned()];
        assert!(said.iter().zip(&ended.output).all(|(expected, line)| line.starts_with(expected)), "{:#?}", ended.output);
        assert_eq!(ended.output.len(), 3, "{:#?}", ended.output);
        for secret in ["s3cret", "t0ken", "passphrase", "PRIVATE KEY"] {
            assert!(!ended.output.concat().contains(secret));
        }
    }
}

fn without_modes(files: BTreeSet<String>) -> Vec<String> {
    files.iter().map(|file| file.replace(" 644 ", " 666 ").replace(" 755", " 777")).collect()
}

#[test]
fn everybody_may_use_what_it_has_written() {
    let server = GitServer::start(&Options::default()).unwrap();
    let repo = server.repo("app").unwrap();
    repo.write("run", "1").unwrap();
    repo.make_executable("run").unwrap();
    let commit = repo.push("main", &[("folder/a", "1")]).unwrap();
    let clone = Clone::of(&server.uri("app"), commit).arg("--preserve-git-folder");
    clone.run().assert_success();
    let mode = |name: &str| clone.destination().join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(["", "folder", "folder/a", "run", ".git", ".git/objects"].map(mode), [0o777, 0o777, 0o666, 0o777, 0o777, 0o777]);
}

#[test]
fn the_folder_git_is_kept_on_request() {
    let server = GitServer::start(&Options::default()).unwrap();
    let repo = server.repo("app").unwrap();
    repo.push("main", &[("a", "1")]).unwrap();
    let commit = repo.push("main", &[("a", "2")]).unwrap();
    let clone = Clone::of(&server.uri("app"), commit).arg("--preserve-git-folder");
    clone.run().assert_success();
    let destination = clone.destination();
    let git = |args: &[&str]| repo.git(&[&["-C", destination.to_str().unwrap()], args].concat()).unwrap();
    assert_eq!(git(&["rev-parse", "HEAD"]), commit.to_string());
    assert_eq!(git(&["status", "--porcelain"]), "");
    assert_eq!(git(&["remote", "get-url", "origin"]), server.uri("app"));
    git(&["fsck", "--strict"]);
}

#[test]
fn a_commit_without_files_leaves_the_folder_empty() {
    let server = GitServer::start(&Options::default()).unwrap();
    let commit = server.repo("app").unwrap().commit_and_push("main").unwrap();
    let clone = Clone::of(&server.uri("app"), commit).arg("--submodules");
    let ended = clone.run();
    ended.assert_success();
    assert_eq!(ended.output.last().map(String::as_str), Some("checked out 0 files, 0 bytes"));
    assert_eq!(fs::read_dir(clone.destination()).unwrap().count(), 0);
}

#[test]
fn as_much_of_the_history_is_kept_as_is_asked_for() {
    for old_protocol in [false, true] {
        let server = GitServer::start(&Options { old_protocol, ..Options::default() }).unwrap();
        let repo = server.repo("app").unwrap();
        for number in 0..5 {
            repo.push("main", &[("a", &number.to_string())]).unwrap();
        }
        // Two ways lead back from a merge.
        repo.git(&["checkout", "--quiet", "-b", "side", "HEAD~2"]).unwrap();
        repo.push("side", &[("b", "1")]).unwrap();
        repo.git(&["checkout", "--quiet", "main"]).unwrap();
        repo.git(&["merge", "--quiet", "--no-ff", "--message", "a merge", "side"]).unwrap();
        let commit = repo.commit_and_push("main").unwrap();
        for depth in ["1", "2", "3", "100", "0"] {
            let clone = Clone::of(&server.uri("app"), commit).arg("--preserve-git-folder").arg(&format!("--depth={depth}"));
            clone.run().assert_success();
            let expected = clone.path("expected");
            let depth = format!("--depth={depth}");
            let depth = if depth == "--depth=0" { "--no-single-branch" } else { depth.as_str() };
            repo.git(&["clone", "--quiet", depth, &server.uri("app"), path(&expected)]).unwrap();
            let log = |folder: &Path| {
                repo.git(&["-C", path(folder), "fsck", "--strict"]).unwrap();
                repo.git(&["-C", path(folder), "log", "--format=%H %P", "HEAD"]).unwrap()
            };
            assert_eq!(log(&clone.destination()), log(&expected), "{depth}");
        }
    }
}

#[test]
fn pointers_of_git_lfs_are_left_as_they_are_and_told() {
    let server = GitServer::start(&Options::default()).unwrap();
    let repo = server.repo("app").unwrap();
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345\n", "4d7a".repeat(16));
    let commit = repo.push("main", &[("a.bin", &pointer), (".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")]).unwrap();
    let clone = Clone::of(&server.uri("app"), commit);
    let ended = clone.run();
    ended.assert_success();
    assert_eq!(fs::read_to_string(clone.destination().join("a.bin")).unwrap(), pointer);
    let told = "1 of them are pointers of Git LFS, and left as they are: their content is not fetched";
    assert_eq!(ended.output.last().map(String::as_str), Some(told));
}
