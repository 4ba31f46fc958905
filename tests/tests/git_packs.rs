//! Packs of servers that mean harm, where files are watched by patterns: one clear error each, in time, and little memory.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

#[path = "git_hostile/server.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod server;

use std::{
    fs,
    io::{self, Read as _, Write as _},
    time::{Duration, Instant},
};

use flate2::{Compression, write::ZlibEncoder};
use git_events_runner_core::{
    CommitId, ObjectRef, Reason, Reference, Source as _, SourceError, Watch,
    git::{GitClient, GitSource, RepoUri, Repository},
};
use git_events_runner_tests::GitDaemon;

use server::{Connection, Server, band, line, version_2};

/// The most that any of these may take at a time: 64 MiB are allowed for folders, and what the allocator needs besides.
const MEMORY: u64 = 112 << 20;

const COMMIT: u8 = 1;
const TREE: u8 = 2;
const BLOB: u8 = 3;
const CHANGE_AT: u8 = 6;
const CHANGE_OF: u8 = 7;

/// As zlib packs it; what is short, as it is.
fn packed(data: &[u8]) -> Vec<u8> {
    if data.len() < 100 {
        let length = u16::try_from(data.len()).unwrap();
        let (low, high) =
            data.iter().fold((1, 0), |(low, high), byte| ((low + u32::from(*byte)) % 65521, (high + low + u32::from(*byte)) % 65521));
        let (length, sum) = (length.to_le_bytes(), (high << 16 | low).to_be_bytes());
        return [[0x78, 0x01, 0x01].as_slice(), &length, &length.map(|byte| !byte), data, &sum].concat();
    }
    let mut encoder = ZlibEncoder::new(vec![], Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// What an object begins with.
fn head(kind: u8, size: u64) -> Vec<u8> {
    let (mut head, mut rest) = (vec![kind << 4 | u8::try_from(size & 15).unwrap()], size >> 4);
    while rest > 0 {
        *head.last_mut().unwrap() |= 0x80;
        head.push(u8::try_from(rest & 0x7f).unwrap());
        rest >>= 7;
    }
    head
}

fn object(kind: u8, data: &[u8]) -> Vec<u8> {
    [head(kind, data.len() as u64), packed(data)].concat()
}

fn pack(objects: &[Vec<u8>]) -> Vec<u8> {
    let count = u32::try_from(objects.len()).unwrap().to_be_bytes();
    [b"PACK\0\0\0\x02".as_slice(), &count, &objects.concat(), &[0; 20]].concat()
}

fn number(mut number: usize) -> Vec<u8> {
    let mut bytes = vec![];
    while number >> 7 > 0 {
        bytes.push(0x80 | u8::try_from(number & 0x7f).unwrap());
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

/// A change that makes of 64 KiB this many times as much.
fn repeating(times: usize) -> Vec<u8> {
    [number(0x1_0000), number(0x1_0000 * times), vec![0x80; times]].concat()
}

/// How far back a base is, for less than 128 bytes, or with another byte for less than 16,000.
fn distance(back: usize) -> Vec<u8> {
    let low = u8::try_from(back & 0x7f).unwrap();
    if back < 128 { vec![low] } else { vec![0x80 | u8::try_from((back >> 7) - 1).unwrap(), low] }
}

/// Many equal changes of one object, each of which makes a megabyte of a few bytes.
fn equal_changes() -> Vec<u8> {
    let base = object(TREE, &[b'x'; 0x1_0000]);
    let (change, mut back) = (packed(&repeating(16)), base.len());
    let mut objects = vec![base];
    while objects.len() < 300 {
        let object = [head(CHANGE_AT, repeating(16).len() as u64), distance(back), change.clone()].concat();
        back += object.len();
        objects.push(object);
    }
    pack(&objects)
}

fn waiting_changes() -> Vec<u8> {
    let change = object(CHANGE_OF, &repeating(16));
    let (head, data) = change.split_at(2);
    pack(&vec![[head, &[0xab; 20], data].concat(); 300_000])
}

fn small_folders() -> Vec<u8> {
    pack(&(0..500_000).map(|number| object(TREE, format!("{number}").as_bytes())).collect::<Vec<_>>())
}

/// A server that answers a fetch with this.
fn answering(script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> Server {
    Server::start(move |client| {
        client.packet()?;
        client.0.write_all(&version_2())?;
        let mut request = vec![];
        while !request.ends_with(b"done\n0000") {
            let mut byte = [0];
            client.0.read_exact(&mut byte)?;
            request.extend(byte);
        }
        client.0.write_all(&line(b"packfile\n"))?;
        script(client)
    })
}

fn sending(pack: Vec<u8>) -> Server {
    answering(move |client| {
        for piece in pack.chunks(60_000) {
            client.0.write_all(&band(1, piece))?;
        }
        client.0.write_all(b"0000")?;
        client.silence()
    })
}

fn slow(client: &mut Connection) -> io::Result<()> {
    client.0.write_all(&band(1, b"PACK\0\0\0\x02\0\0\0\x09"))?;
    client.trickle(&band(2, b"working"))
}

async fn observe(uri: &str, commit: CommitId, timeout: Duration) -> SourceError {
    let repository = Repository { timeout, ..Repository::new(RepoUri::parse(uri).unwrap()) };
    let source = GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), repository, GitClient::default());
    source.observe(&Watch { reference: Reference::Commit(commit), files: vec!["*.md".to_owned()] }).await.unwrap_err()
}

/// The most memory that the process has had since the last call.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    fs::write("/proc/self/clear_refs", "5").unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn no_pack_takes_more_than_its_share_of_memory_or_time() {
    use Reason::*;
    let with = |objects: &[Vec<u8>]| sending(pack(objects));
    let announced = |kind, size| with(&[[head(kind, size), vec![0xab; 20], packed(b"x")].concat()]);
    let zeros = vec![0; 100 << 20];
    let bomb = |kind, size| with(&[[head(kind, size), packed(&zeros)].concat()]);
    let large = "more bytes of folders in the commit than is accepted, which is 67108864";
    let cases: Vec<(&str, Server, Reason, &str)> = vec![
        ("a folder of 64 GiB in 41 bytes", announced(TREE, 64 << 30), TooLarge, "a larger folder than is accepted, which is 16777216"),
        ("a file of 64 GiB", announced(BLOB, 64 << 30), TooLarge, "more bytes of files than is accepted, which is 17179869184"),
        ("a change of 64 GiB", announced(CHANGE_OF, 64 << 30), TooLarge, "a larger folder"),
        ("a folder that unpacks to more than it says", bomb(TREE, 10_000_000), ProtocolError, "an object that is longer than it says"),
        ("a file that unpacks to a hundred megabytes", bomb(BLOB, 100 << 20), ReferenceNotFound, "there is no commit"),
        ("equal changes", sending(equal_changes()), TooLarge, large),
        ("changes that wait for nothing", sending(waiting_changes()), TooLarge, large),
        ("folders without end", sending(small_folders()), TooLarge, large),
        ("noise", answering(|client| client.endless(&band(1, &[0xff; 1000]))), ProtocolError, "what is no pack"),
        ("another commit", with(&[object(COMMIT, b"tree of another")]), ReferenceNotFound, "there is no commit"),
        ("nothing", with(&[]), ReferenceNotFound, "there is no commit"),
        ("cut off", sending(pack(&[object(TREE, b"x")])[..20].to_vec()), ProtocolError, "the pack is cut off"),
        ("silence", answering(Connection::silence), Timeout, "took longer than 15s, while receiving its files"),
        ("a byte now and then", answering(slow), Timeout, "took longer than 15s"),
    ];
    drop(zeros);
    for (what, server, reason, message) in cases {
        peak();
        let (begun, before) = (Instant::now(), peak());
        let uri = format!("git://{}/app", server.address);
        let error = observe(&uri, CommitId::digest_of("x"), Duration::from_secs(15)).await;
        let (took, grown) = (begun.elapsed(), peak().saturating_sub(before));
        println!("{what}: {took:?}, {} MB: {error}", grown >> 20);
        assert_eq!(error.reason(), reason, "{what}: {error}");
        assert!(error.to_string().contains(message), "{what}: {error}");
        assert!(took < Duration::from_secs(30), "{what}: {took:?}");
        assert!(grown < MEMORY, "{what}: {} MB", grown >> 20);
    }

    // By a server that means no harm: a few folders that stand for more files than there are atoms.
    let daemon = GitDaemon::start().unwrap();
    let repo = daemon.repo("app").unwrap();
    let blob = repo.git_with_input(&["hash-object", "-w", "--stdin"], "x").unwrap();
    let mut tree = repo.git_with_input(&["mktree"], &format!("100644 blob {blob}\ta.md\n")).unwrap();
    for _ in 0..100 {
        let lines: String = (0..10).map(|number| format!("040000 tree {tree}\t{number}\n")).collect();
        tree = repo.git_with_input(&["mktree"], &lines).unwrap();
    }
    let commit = repo.git(&["commit-tree", "-m", "large", &tree]).unwrap();
    repo.git(&["push", "--quiet", "origin", &format!("{commit}:refs/heads/main")]).unwrap();
    peak();
    let (begun, before) = (Instant::now(), peak());
    let error = observe(&daemon.uri("app"), commit.parse().unwrap(), Duration::from_secs(60)).await;
    assert_eq!(error.to_string(), format!("{} has more files in the commit than is accepted, which is 1000000", daemon.uri("app")));
    println!("folders of folders: {:?}, {} MB", begun.elapsed(), peak().saturating_sub(before) >> 20);
}
