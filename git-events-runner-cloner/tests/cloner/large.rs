//! What is large, or slow.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use git_events_runner_core::CommitId;
use git_events_runner_tests::{GitRepo, GitServer, Options, Program, files};

use super::fixture::{Clone, PROGRAM};

/// Bytes that cannot be compressed.
fn noise(length: usize) -> String {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + u8::try_from((state >> 33) % 94).unwrap_or_default())
    };
    (0..length).map(|_| next()).collect()
}

/// The address of a server that is like another one, but passes on some 600 KB a second.
fn slow(server: &GitServer) -> String {
    let target = server.origin().trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut server = TcpStream::connect(&target).unwrap();
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            thread::spawn(move || {
                let mut piece = [0; 6 * 1024];
                while let Ok(length @ 1..) = server.read(&mut piece) {
                    if client.write_all(&piece[..length]).is_err() {
                        break;
                    }
                    thread::sleep(Duration::from_millis(10));
                }
            });
        }
    });
    origin
}

#[test]
fn of_a_long_fetch_it_is_told_every_few_seconds_how_much_has_come() {
    let server = GitServer::start(&Options::default()).unwrap();
    let commit = server.repo("app").unwrap().push("main", &[("a", &noise(4 << 20))]).unwrap();
    let started = Instant::now();
    let ended = Clone::of(&format!("{}/app.git", slow(&server)), commit).run();
    let took = started.elapsed();
    ended.assert_success();
    let told: Vec<_> = ended.output.iter().filter(|line| line.starts_with("received ")).collect();
    assert!(!told.is_empty() && told.len() as u64 <= took.as_secs() / 5, "{took:?}: {ended:#?}");
    assert!(told.iter().all(|line| line.ends_with(" MiB") || line.ends_with(" KiB")), "{told:?}");
}

/// Makes a commit of so many files.
fn many_files(repo: &GitRepo, count: usize) -> CommitId {
    let mut commands = "commit refs/heads/many\ncommitter Tester <tester@example.com> 0 +0000\ndata 4\nmany\n".to_owned();
    for number in 0..count {
        let content = format!("content of {number}\n");
        commands += &format!("M 100644 inline {}/{}/{number}\ndata {}\n{content}\n", number % 10, number % 97, content.len());
    }
    repo.git_with_input(&["fast-import", "--quiet"], &commands).unwrap();
    repo.git(&["push", "--quiet", "origin", "many"]).unwrap();
    repo.commit("many").unwrap()
}

#[test]
fn fifty_thousand_files_and_a_large_one_take_little_memory() {
    const COUNT: usize = 50_000;
    let server = GitServer::start(&Options::default()).unwrap();
    let (app, large) = (server.repo("app").unwrap(), server.repo("large").unwrap());
    let commit = many_files(&app, COUNT);
    let clone = Clone::of(&server.uri("app"), commit);
    limited(&clone, 256 << 10);
    let expected: BTreeSet<_> =
        (0..COUNT).map(|number| format!("{}/{}/{number} 666 content of {number}\\n", number % 10, number % 97)).collect();
    let found: BTreeSet<_> = files(&clone.destination()).unwrap().into_iter().filter(|file| !file.ends_with("/ 777")).collect();
    assert!(found == expected, "{} of {COUNT} files are as they should be", found.intersection(&expected).count());

    // As much as the file has, and its pack, and no more.
    let commit = large.push("main", &[("a", &noise(32 << 20))]).unwrap();
    let clone = Clone::of(&server.uri("large"), commit);
    limited(&clone, 384 << 10);
    assert_eq!(clone.destination().join("a").metadata().unwrap().len(), 32 << 20);
}

/// Runs it with so many KiB of address space.
fn limited(clone: &Clone, kib: u32) {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {kib}; exec \"$@\""), "sh", PROGRAM]).args(&clone.args);
    clone.ended(Program::start(command).unwrap()).assert_success();
}
