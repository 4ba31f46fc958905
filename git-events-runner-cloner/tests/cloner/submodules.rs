//! Submodules: those that git itself checks out, and no others.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    sync::mpsc,
    thread,
    time::Duration,
};

use git_events_runner_core::CommitId;
use git_events_runner_tests::{Auth, GitRepo, GitServer, Options, ProxyServer, files};

use super::fixture::{Clone, path};

/// Commits a submodule of this commit, with this section in `.gitmodules`.
fn add(repo: &GitRepo, place: &str, commit: CommitId, url: &str) -> CommitId {
    let file = repo.work().join(".gitmodules");
    let before = fs::read_to_string(&file).unwrap_or_default();
    fs::write(&file, format!("{before}[submodule \"{place}\"]\n\tpath = {place}\n\turl = {url}\n")).unwrap();
    link(repo, place, commit)
}

fn link(repo: &GitRepo, place: &str, commit: CommitId) -> CommitId {
    fs::create_dir_all(repo.work().join(place)).unwrap();
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{place}")]).unwrap();
    repo.commit_and_push("main").unwrap()
}

fn open_server() -> GitServer {
    GitServer::start(&Options::default()).unwrap()
}

#[test]
fn submodules_within_submodules_are_checked_out_as_by_git_itself() {
    for old_protocol in [false, true] {
        let server = GitServer::start(&Options { old_protocol, ..Options::default() }).unwrap();
        let [app, lib, deep] = ["app", "lib", "deep"].map(|name| server.repo(name).unwrap());
        let deepest = deep.push("main", &[("d", "1")]).unwrap();
        lib.push("main", &[("l", "1")]).unwrap();
        let old = add(&lib, "nested", deepest, "../deep.git");
        lib.push("main", &[("l", "not to be seen")]).unwrap();
        app.push("main", &[("a", "1")]).unwrap();
        add(&app, "libs/with space", old, "./../lib.git");
        add(&app, "libs/absolute", deepest, &server.uri("deep"));
        fs::write(
            app.work().join(".gitmodules"),
            fs::read_to_string(app.work().join(".gitmodules")).unwrap() + "[submodule \"none\"]\n\tupdate = none\n",
        )
        .unwrap();
        let commit = add(&app, "none", deepest, "../deep.git");

        let without = Clone::of(&server.uri("app"), commit);
        without.run().assert_success();
        assert_eq!(fs::read_dir(without.destination().join("libs/absolute")).unwrap().count(), 0);

        let clone = Clone::of(&server.uri("app"), commit).arg("--submodules");
        let ended = clone.run();
        ended.assert_success();
        let told = format!("fetching {deepest} from {} for the submodule libs/with space/nested", server.uri("deep"));
        assert!(ended.output.contains(&told), "{ended:#?}");
        let expected = clone.path("expected");
        app.git(&["clone", "--quiet", "--recurse-submodules", &server.uri("app"), path(&expected)]).unwrap();
        let names = |files: std::collections::BTreeSet<String>| {
            files.iter().map(|file| file.replace(" 644 ", " 666 ").replace("/ 755", "/ 777")).collect::<Vec<_>>()
        };
        assert_eq!(names(files(&clone.destination()).unwrap()), names(files(&expected).unwrap()));
        for place in ["", "libs/with space", "libs/with space/nested"] {
            assert!(!clone.destination().join(place).join(".git").exists());
        }

        let kept = Clone::of(&server.uri("app"), commit).arg("--submodules").arg("--preserve-git-folder");
        kept.run().assert_success();
        let git = |args: &[&str]| app.git(&[&["-C", path(&kept.destination())], args].concat()).unwrap();
        let status = git(&["submodule", "status", "--recursive"]);
        let expected =
            [format!(" {deepest} libs/absolute"), format!(" {old} libs/with space"), format!(" {deepest} libs/with space/nested")];
        assert!(expected.iter().all(|line| format!(" {}", status.trim_start()).contains(line)), "{status}");
        assert_eq!(git(&["status", "--porcelain"]), "");
    }
}

#[test]
fn the_credentials_are_for_submodules_on_the_same_server_only() {
    let server = GitServer::start(&Options { auth: Auth::Basic("me".into(), "canary".into()), ..Options::default() }).unwrap();
    let [app, lib] = ["app", "lib"].map(|name| server.repo(name).unwrap());
    let inner = lib.push("main", &[("l", "1")]).unwrap();
    app.push("main", &[("a", "1")]).unwrap();
    let same = add(&app, "lib", inner, &server.uri("lib"));
    let with = |commit| {
        Clone::of(&server.uri("app"), commit).credentials("basic", &[("username", "me"), ("password", "canary")]).arg("--submodules")
    };
    let clone = with(same);
    clone.run().assert_success();
    assert_eq!(fs::read_to_string(clone.destination().join("lib/l")).unwrap(), "1");

    // The same host, and another port.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let elsewhere = format!("http://{}/lib.git", listener.local_addr().unwrap());
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            let length = client.read(&mut request).unwrap_or_default();
            let _ = sender.send(String::from_utf8_lossy(&request[..length]).into_owned());
            let _ = client.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    let other = add(&app, "elsewhere", inner, &elsewhere);
    with(other)
        .run()
        .assert_failure_about(3, &["the submodule elsewhere: ", &elsewhere, "the submodule has to be open to everybody there"]);
    let request = requests.recv_timeout(Duration::from_secs(10)).unwrap().to_lowercase();
    assert!(request.starts_with("get /lib.git/info/refs") && !request.contains("authorization"), "{request}");
}

#[test]
fn a_url_that_is_not_of_a_server_is_refused() {
    let server = open_server();
    let app = server.repo("app").unwrap();
    let inner = app.push("main", &[("a", "1")]).unwrap();
    let lib = server.repo("lib").unwrap();
    let bare = path(lib.bare()).to_owned();
    for (url, message) in [
        (format!("file://{bare}"), "the submodule sub of "),
        (bare, "the submodule sub of "),
        ("ext::sh -c touch% /tmp/canary".to_owned(), "names a remote helper"),
        ("--upload-pack=touch".to_owned(), "cannot begin with `-`"),
        ("http://me:secret@example.com/a".to_owned(), "a user or password inside the URI"),
        ("../../../../etc".to_owned(), "the url of its submodule sub leads out of its server"),
        ("\"a\\nb\"".to_owned(), "control characters"),
        (String::new(), "is empty"),
    ] {
        fs::write(app.work().join(".gitmodules"), "").unwrap();
        let commit = add(&app, "sub", inner, &url);
        let ended = Clone::of(&server.uri("app"), commit).arg("--submodules").run();
        ended.assert_failure(9, message);
        assert!(!ended.last_words.contains("secret"), "{ended:#?}");
    }
    fs::write(app.work().join(".gitmodules"), "[submodule \"sub\"]\n\tpath = ../sub\n\turl = ../lib.git\n").unwrap();
    let commit = link(&app, "sub", inner);
    Clone::of(&server.uri("app"), commit).arg("--submodules").run().assert_failure(9, "its submodule sub has no url in .gitmodules");
    fs::write(app.work().join(".gitmodules"), "[submodule \"sub\"\n").unwrap();
    let commit = link(&app, "sub", inner);
    Clone::of(&server.uri("app"), commit).arg("--submodules").run().assert_failure(9, "line 1 of its .gitmodules makes no sense");
}

#[test]
fn a_submodule_that_no_proxy_can_pass_on_does_not_go_around_it() {
    let (server, proxy) = (open_server(), ProxyServer::http(None).unwrap());
    let app = server.repo("app").unwrap();
    let inner = app.push("main", &[("a", "1")]).unwrap();
    let commit = add(&app, "lib", inner, "git://127.0.0.1:1/lib");
    let ended = Clone::of(&server.uri("app"), commit).arg("--submodules").arg(&format!("--proxy=http://{}", proxy.authority())).run();
    ended.assert_failure_about(9, &["the submodule lib of ", "git://127.0.0.1:1/lib", "a proxy is for http and https only"]);
}

#[test]
fn a_submodule_whose_commit_is_not_there_is_named() {
    let server = open_server();
    let [app, lib] = ["app", "lib"].map(|name| server.repo(name).unwrap());
    lib.push("main", &[("l", "1")]).unwrap();
    let missing: CommitId = "1234567812345678123456781234567812345678".parse().unwrap();
    let commit = add(&app, "lib", missing, "../lib.git");
    let message = format!("the submodule lib: there is no commit {missing} in {}", server.uri("lib"));
    Clone::of(&server.uri("app"), commit).arg("--submodules").run().assert_failure(4, &message);
}

#[test]
fn neither_depth_nor_number_of_submodules_is_without_bounds() {
    let server = open_server();
    let app = server.repo("app").unwrap();
    let mut commit = app.push("main", &[("a", "1")]).unwrap();
    fs::write(app.work().join(".gitmodules"), "[submodule \"self\"]\n\tpath = self\n\turl = ../app.git\n").unwrap();
    for nesting in 1..=11 {
        commit = link(&app, "self", commit);
        if nesting == 10 {
            let clone = Clone::of(&server.uri("app"), commit).arg("--submodules");
            clone.run().assert_success();
            assert!(clone.destination().join("self/".repeat(10)).join("a").exists());
        }
    }
    Clone::of(&server.uri("app"), commit)
        .arg("--submodules")
        .run()
        .assert_failure(9, "has submodules nested deeper than is accepted, which is 10");

    let many = server.repo("many").unwrap();
    let sections: String = (0..1001).map(|number| format!("[submodule \"{number}\"]\n\tpath = {number}\n\turl = ../app.git\n")).collect();
    many.write(".gitmodules", &sections).unwrap();
    let links: String = (0..1001).map(|number| format!("160000 {commit}\t{number}\n")).collect();
    many.git_with_input(&["update-index", "--index-info"], &links).unwrap();
    many.git(&["add", ".gitmodules"]).unwrap();
    many.git(&["commit", "--quiet", "--message", "many"]).unwrap();
    many.git(&["push", "--quiet", "origin", "HEAD:refs/heads/main"]).unwrap();
    let commit = many.commit("HEAD").unwrap();
    Clone::of(&server.uri("many"), commit)
        .arg("--submodules")
        .run()
        .assert_failure(9, "has more submodules than is accepted, which is 1000");
}
