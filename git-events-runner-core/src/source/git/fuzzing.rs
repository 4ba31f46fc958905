//! What strangers write, as `fuzz/` and its corpus hand it over. Each of these panics if what it reads is read in a way that it must not be.

use std::{borrow::Cow, path::Path};

use git2::{ObjectType, Oid};

use super::{
    Reference, RepoUri,
    advertisement::Advertisement,
    capabilities::Capabilities,
    delta,
    fetch::Fetched,
    full_name, gitmodules,
    pack::{Budget, Objects, PackError, PackReader},
    packet::{Packet, Packets, WireError},
    refs::Refs,
    store::Cancelled,
    submodules, trees,
};
use crate::{CommitId, patterns::Patterns};

pub use super::ssh::fuzzing::{known_hosts, private_key};

/// What reads such bytes.
pub type Target = fn(&[u8]);

/// All of them, by the names of the fuzz targets.
pub const TARGETS: [(&str, Target); 13] = [
    ("advertisement", advertisement),
    ("delta", delta),
    ("fetch_response", fetch_response),
    ("gitmodules", gitmodules),
    ("known_hosts", known_hosts),
    ("ls_refs", ls_refs),
    ("pack", pack),
    ("packets", packets),
    ("patterns", patterns),
    ("printable", printable),
    ("private_key", private_key),
    ("reference", reference),
    ("uri", uri),
];

const MAIN: &str = "refs/heads/main";

/// Reads packets that arrive in pieces of this size.
fn read_packets(bytes: &[u8], size: usize, mut read: impl FnMut(Packet<'_>) -> Result<(), WireError>) -> Result<(), WireError> {
    let mut packets = Packets::default();
    for piece in bytes.chunks(size) {
        packets.push(piece);
        while let Some(packet) = packets.next()? {
            read(packet)?;
        }
    }
    Ok(())
}

/// Packets are the same however they arrive.
pub fn packets(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let cut = |size: usize| {
        let mut all = vec![];
        let end = read_packets(bytes, size, |packet| {
            all.push(format!("{packet:?}"));
            packet.line().map(drop)
        });
        (all, end)
    };
    assert_eq!(cut(usize::from(*size) + 1), cut(usize::MAX));
}

/// What is read of an advertisement is the same however it arrives.
pub fn advertisement(data: &[u8]) {
    let read = |size| {
        let mut advertisement = Advertisement::new(MAIN, Some(CommitId::digest_of("")));
        let end = read_packets(data, size, |packet| advertisement.read(packet));
        format!("{end:?} {advertisement:?}")
    };
    assert_eq!(read(7), read(usize::MAX));
}

/// An answer to `ls-refs`.
pub fn ls_refs(data: &[u8]) {
    let mut refs = Refs::new(MAIN);
    let _ = read_packets(data, usize::MAX, |packet| refs.read(packet));
    assert!(refs.found.peeled.is_none() || refs.found.direct.is_some(), "what a ref stands for belongs to a ref");
}

/// An answer to `fetch`, of either version.
pub fn fetch_response(data: &[u8]) {
    let Some((version, bytes)) = data.split_first() else { return };
    let mut fetched = Fetched::new(&Capabilities { version2: version % 2 == 0, ..Capabilities::default() });
    let mut length = 0;
    let _ = read_packets(bytes, usize::MAX, |packet| {
        length += fetched.read(packet)?.map_or(0, <[u8]>::len);
        Ok(())
    });
    assert!(length <= bytes.len());
}

/// What a pack may take here.
#[derive(Default)]
struct Small(u64);

const SMALL: u64 = 1 << 20;

impl Small {
    fn take(&mut self, bytes: u64) -> Result<(), PackError> {
        self.0 = self.0.saturating_add(bytes);
        if self.0 > SMALL { Err(PackError::TooLarge("more", SMALL)) } else { Ok(()) }
    }
}

impl Budget for Small {
    fn keep(&mut self, bytes: u64) -> Result<(), PackError> {
        self.take(bytes)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), PackError> {
        self.take(bytes)
    }
}

struct Found<'a>(&'a Objects);

impl trees::Lookup for Found<'_> {
    fn object(&self, id: &CommitId) -> Result<(ObjectType, Cow<'_, [u8]>), trees::Failure> {
        let object = self.0.get(id).ok_or(trees::Failure::NotFound)?;
        Ok((object.kind, Cow::Borrowed(&object.data)))
    }
}

/// A pack takes no more than it may, is the same however it arrives, and each object is what its id says; its trees are walked.
pub fn pack(data: &[u8]) {
    let whole = read_pack(data, usize::MAX);
    let in_pieces = read_pack(data, 3);
    // What is said to be wrong may be another mistake of the same object.
    assert_eq!(whole.is_ok(), in_pieces.is_ok());
    let (Ok((objects, Small(taken))), Ok((same, _))) = (whole, in_pieces) else { return };
    let kept: usize = objects.values().map(|object| object.data.len()).sum();
    assert!(kept as u64 <= taken && taken <= SMALL && objects.len() == same.len());
    let Ok(all) = Patterns::new(&["*".to_owned()]) else { return };
    for (id, object) in &objects {
        let named = Oid::hash_object(object.kind, &object.data);
        assert!(named.is_ok_and(|named| named.as_bytes() == id.as_bytes()));
        let _ = trees::digest(&Found(&objects), id, &all, 10_000, &Cancelled::default());
    }
}

fn read_pack(data: &[u8], size: usize) -> Result<(Objects, Small), PackError> {
    let mut reader = PackReader::new(Small::default());
    for piece in data.chunks(size) {
        let mut rest = piece;
        while !rest.is_empty() {
            rest = reader.read(rest)?;
        }
    }
    reader.finish()
}

/// A change to an object, the first byte of which tells where the object ends.
pub fn delta(data: &[u8]) {
    let Some((length, bytes)) = data.split_first() else { return };
    let (base, change) = bytes.split_at(bytes.len().min(usize::from(*length)));
    let Ok(sizes) = delta::sizes(change) else { return };
    // Whoever applies one has taken the memory for it before.
    if sizes.after <= SMALL
        && let Ok(made) = delta::apply(base, change)
    {
        assert_eq!(made.len() as u64, sizes.after);
    }
}

/// What is taken for an address can be written down and read again.
pub fn uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(uri) = RepoUri::parse(text) {
        let shown = uri.to_string();
        assert!(!shown.starts_with('-') && !shown.contains(char::is_control) && uri.local_path().is_none(), "{shown}");
        assert!(RepoUri::parse(&shown).is_ok_and(|again| again == uri), "{shown}");
    }
    let _ = RepoUri::parse_with_local(text, Path::new("/folder"));
}

/// What a `.gitmodules` names can be shown, and a relative URL stays on the server of its repository.
pub fn gitmodules(data: &[u8]) {
    for described in gitmodules::parse(data).unwrap_or_default() {
        assert!(!described.name.contains(char::is_control), "{described:?}");
        let Some(url) = described.url else { continue };
        for of in ["https://example.com/group/app.git", "git@example.com:app.git", "git@[::1]:/group/app.git", "ssh://example.com/~/app"] {
            let Ok(of) = RepoUri::parse(of) else { continue };
            let resolved = submodules::resolve(&of, &url);
            if let Some(Ok(uri)) = resolved.filter(|_| submodules::is_relative(&url)).map(|uri| RepoUri::parse(&uri)) {
                assert!(uri.is_on_server_of(&of), "{url}: {uri}");
            }
        }
    }
}

/// What is taken for the name of a branch says no more to a server than a name.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(Some(name)) = full_name(&Reference::Branch(text.to_owned())) {
        assert!(name.len() <= 1024 && !name.contains(|c: char| c.is_control() || c == ' '), "{name:?}");
    }
    let _ = serde_json::from_str::<Reference>(text);
}

/// Patterns, one a line, and behind an empty line the paths that they are asked about.
pub fn patterns(data: &[u8]) {
    let end = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let Ok(text) = std::str::from_utf8(&data[..end]) else { return };
    let lines: Vec<_> = text.split('\n').take(50).map(str::to_owned).collect();
    let Ok(patterns) = Patterns::new(&lines) else { return };
    for path in data[end..].split(|byte| *byte == b'\n').filter(|path| !path.is_empty()).take(50) {
        let folder = patterns.judge(path, true, Default::default());
        let _ = patterns.judge(path, false, folder);
    }
}

/// What is shown of a server's words is one line without control characters.
pub fn printable(data: &[u8]) {
    let shown = super::packet::printable(data);
    assert!(!shown.contains(char::is_control));
}
