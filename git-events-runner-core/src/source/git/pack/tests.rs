use std::{io::Write as _, time::Instant};

use flate2::{Compression, write::ZlibEncoder};

use super::*;

const LIMIT: u64 = 1 << 20;

/// Counts what has been taken.
#[derive(Debug, Default)]
struct Counted {
    kept: u64,
    skipped: u64,
}

impl Budget for Counted {
    fn keep(&mut self, bytes: u64) -> Result<(), PackError> {
        self.kept += bytes;
        if self.kept > LIMIT { Err(PackError::TooLarge("more bytes of folders", LIMIT)) } else { Ok(()) }
    }

    fn skip(&mut self, bytes: u64) -> Result<(), PackError> {
        self.skipped = self.skipped.saturating_add(bytes);
        if self.skipped > 10 * LIMIT { Err(PackError::TooLarge("more bytes of files", 10 * LIMIT)) } else { Ok(()) }
    }
}

fn read(pack: &[u8], size: usize) -> Result<(Objects, Counted), PackError> {
    let mut reader = PackReader::new(Counted::default());
    for mut piece in pack.chunks(size) {
        while !piece.is_empty() {
            piece = reader.read(piece)?;
        }
    }
    reader.finish()
}

/// A pack in the making.
struct Pack {
    bytes: Vec<u8>,
    count: u32,
}

fn packed(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(vec![], Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn head(kind: u8, size: u64) -> Vec<u8> {
    let (mut head, mut rest) = (vec![kind << 4 | (size & 15) as u8], size >> 4);
    while rest > 0 {
        *head.last_mut().unwrap() |= 0x80;
        head.push((rest & 0x7f) as u8);
        rest >>= 7;
    }
    head
}

impl Pack {
    fn new() -> Self {
        Self { bytes: vec![], count: 0 }
    }

    fn position(&self) -> u64 {
        12 + self.bytes.len() as u64
    }

    fn raw(&mut self, parts: &[&[u8]]) -> u64 {
        let at = self.position();
        self.count += 1;
        self.bytes.extend(parts.concat());
        at
    }

    fn whole(&mut self, kind: u8, data: &[u8]) -> u64 {
        self.raw(&[&head(kind, data.len() as u64), &packed(data)])
    }

    fn change_of(&mut self, id: CommitId, change: &[u8]) -> u64 {
        self.raw(&[&head(7, change.len() as u64), id.as_bytes(), &packed(change)])
    }

    fn change_at(&mut self, at: u64, change: &[u8]) -> u64 {
        let mut distance = self.position() - at;
        let mut bytes = vec![(distance & 0x7f) as u8];
        while distance >> 7 > 0 {
            distance = (distance >> 7) - 1;
            bytes.insert(0, 0x80 | (distance & 0x7f) as u8);
        }
        self.raw(&[&head(6, change.len() as u64), &bytes, &packed(change)])
    }

    fn finish(&self) -> Vec<u8> {
        self.of(self.count)
    }

    fn of(&self, count: u32) -> Vec<u8> {
        [b"PACK\0\0\0\x02".as_slice(), &count.to_be_bytes(), &self.bytes, &[0; 20]].concat()
    }
}

fn id(kind: ObjectType, data: &[u8]) -> CommitId {
    CommitId::from_bytes(Oid::hash_object(kind, data).unwrap().as_bytes().try_into().unwrap())
}

fn number(mut number: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while number >> 7 > 0 {
        bytes.push(0x80 | (number & 0x7f) as u8);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A change that copies all of what has this length, at most 64 KiB, and appends a text.
fn appending(length: usize, text: &[u8]) -> Vec<u8> {
    let low = [(length & 0xff) as u8, (length >> 8) as u8];
    let copy = [[0xb0].as_slice(), &low].concat();
    [number(length as u64), number((length + text.len()) as u64), copy, vec![text.len() as u8], text.to_vec()].concat()
}

/// A pack with every kind of object, and every kind of base.
fn ordinary() -> (Pack, Vec<(ObjectType, Vec<u8>)>) {
    let (tree, mut pack) = (b"a tree of some length".to_vec(), Pack::new());
    pack.whole(1, b"a commit");
    let blob = pack.whole(3, &[b'x'; 100_000]);
    pack.change_at(blob, &appending(1, b"y"));
    let at = pack.whole(2, &tree);
    let second = [tree.as_slice(), b"!"].concat();
    let at = pack.change_at(at, &appending(tree.len(), b"!"));
    let third = [second.as_slice(), b"?"].concat();
    // Of one that comes later, and of one that waits for that.
    let waits = pack.change_of(id(ObjectType::Tree, b"late"), &appending(4, b"+"));
    pack.change_at(waits, &appending(5, b"+"));
    pack.change_at(at, &appending(second.len(), b"?"));
    pack.whole(2, b"late");
    pack.change_of(id(ObjectType::Tree, &second), &appending(second.len(), b"."));
    pack.whole(4, b"a tag");
    let trees = [tree, second.clone(), third, b"late".to_vec(), b"late+".to_vec(), b"late++".to_vec(), [second.as_slice(), b"."].concat()];
    let mut objects = vec![(ObjectType::Commit, b"a commit".to_vec()), (ObjectType::Tag, b"a tag".to_vec())];
    objects.extend(trees.map(|tree| (ObjectType::Tree, tree)));
    (pack, objects)
}

#[test]
fn commits_trees_and_tags_are_kept_however_they_are_packed_and_arrive() {
    let (pack, expected) = ordinary();
    let pack = pack.finish();
    for size in [1, 2, 3, 7, 20, 100, pack.len()] {
        let (objects, counted) = read(&pack, size).unwrap();
        assert_eq!(objects.len(), expected.len());
        for (kind, data) in &expected {
            let found = &objects[&id(*kind, data)];
            assert_eq!((found.kind, &*found.data), (*kind, data.as_slice()));
        }
        assert!(counted.skipped >= 100_000 && counted.kept < 4000, "{counted:?}");
    }
}

#[test]
fn a_pack_by_git2_is_read_as_git2_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let git = git2::Repository::init_bare(folder.path()).unwrap();
    let mut builder = git.packbuilder().unwrap();
    let (mut trees, blob) = (vec![], git.blob(b"1").unwrap());
    for count in 0..200 {
        let mut tree = git.treebuilder(None).unwrap();
        (0..count).for_each(|file| tree.insert(format!("file {file} of many"), blob, 0o100_644).map(drop).unwrap());
        trees.push(tree.write().unwrap());
        builder.insert_object(trees[count], None).unwrap();
    }
    builder.insert_object(blob, None).unwrap();
    let mut pack = git2::Buf::new();
    builder.write_buf(&mut pack).unwrap();
    let sizes: usize = trees.iter().map(|tree| git.odb().unwrap().read(*tree).unwrap().len()).sum();
    assert!(pack.len() < sizes / 20, "it has deltas: {} of {sizes}", pack.len());

    let mut reader = PackReader::new(Unlimited);
    let mut rest = &*pack;
    while !rest.is_empty() {
        rest = reader.read(rest).unwrap();
    }
    let (objects, _) = reader.finish().unwrap();
    assert_eq!(objects.len(), trees.len());
    for tree in trees {
        let found = &objects[&CommitId::from_bytes(tree.as_bytes().try_into().unwrap())];
        assert_eq!(&*found.data, git.odb().unwrap().read(tree).unwrap().data());
    }
}

struct Unlimited;

impl Budget for Unlimited {
    fn keep(&mut self, _: u64) -> Result<(), PackError> {
        Ok(())
    }

    fn skip(&mut self, _: u64) -> Result<(), PackError> {
        Ok(())
    }
}

#[test]
fn a_pack_that_is_cut_off_or_goes_on_is_refused() {
    let pack = ordinary().0.finish();
    for length in 0..pack.len() {
        assert_eq!(read(&pack[..length], 64).unwrap_err(), PackError::Malformed("the pack is cut off"), "{length}");
    }
    let longer = [pack.as_slice(), b"x"].concat();
    assert_eq!(read(&longer, 64).unwrap_err(), PackError::Malformed("something follows the end of the pack"));
    let (pack, _) = ordinary();
    let count = pack.count;
    assert_eq!(read(&pack.of(count - 1), 64).unwrap_err(), PackError::Malformed("something follows the end of the pack"));
    assert!(read(&pack.of(count + 1), 64).is_err());
}

#[test]
fn no_changed_byte_makes_an_object_other_than_its_id_says() {
    let (pack, expected) = ordinary();
    let pack = pack.finish();
    for at in 0..pack.len() {
        for bit in 0..8 {
            let mut pack = pack.clone();
            pack[at] ^= 1 << bit;
            let Ok((objects, _)) = read(&pack, 64) else { continue };
            for (kind, data) in &expected {
                let found = objects.get(&id(*kind, data));
                assert!(found.is_none_or(|found| (found.kind, &*found.data) == (*kind, data.as_slice())), "{at}.{bit}");
            }
        }
    }
}

#[test]
fn what_an_object_says_of_its_size_takes_no_memory() {
    for kind in [1, 2, 4, 7] {
        let mut pack = Pack::new();
        pack.raw(&[&head(kind, 64 << 30), &[0xab; 20], &packed(b"x")]);
        assert_eq!(read(&pack.finish(), 64).unwrap_err(), PackError::TooLarge("a larger folder", MAX_OBJECT), "{kind}");
    }
    let mut pack = Pack::new();
    pack.raw(&[&head(3, 64 << 30), &packed(b"x")]);
    assert_eq!(read(&pack.finish(), 64).unwrap_err(), PackError::TooLarge("more bytes of files", 10 * LIMIT));
    let mut pack = Pack::new();
    pack.raw(&[&head(2, u64::MAX)]);
    assert!(read(&pack.finish(), 64).is_err());
}

#[test]
fn an_object_that_unpacks_to_another_length_than_it_says_is_refused() {
    let bomb = packed(&vec![0; 50 << 20]);
    for kind in [1, 2, 3, 4] {
        for (size, why) in [(10, "longer"), (900_000, "longer")] {
            let mut pack = Pack::new();
            pack.raw(&[&head(kind, size), &bomb]);
            let begun = Instant::now();
            assert_eq!(read(&pack.finish(), 64 << 10).unwrap_err(), PackError::Malformed("an object that is longer than it says"), "{why}");
            assert!(begun.elapsed().as_secs() < 5);
        }
        let mut pack = Pack::new();
        pack.raw(&[&head(kind, 10), &packed(b"short")]);
        assert_eq!(read(&pack.finish(), 64).unwrap_err(), PackError::Malformed("an object that is shorter than it says"));
    }
}

#[test]
fn each_of_many_equal_changes_counts() {
    let mut pack = Pack::new();
    let base = [b'x'; 60_000];
    let at = pack.whole(2, &base);
    for _ in 0..1000 {
        pack.change_at(at, &appending(base.len(), b"y"));
    }
    let pack = pack.finish();
    assert!(pack.len() < 40_000);
    assert_eq!(read(&pack, 4096).unwrap_err(), PackError::TooLarge("more bytes of folders", LIMIT));
    // So do those that wait, all of which their base would make at once.
    let mut pack = Pack::new();
    for _ in 0..1000 {
        pack.change_of(id(ObjectType::Tree, &base), &appending(base.len(), b"y"));
    }
    pack.whole(2, &base);
    assert_eq!(read(&pack.finish(), 4096).unwrap_err(), PackError::TooLarge("more bytes of folders", LIMIT));
}

#[test]
fn long_chains_of_changes_are_followed_in_either_direction() {
    let objects: Vec<Vec<u8>> = (1..1000).map(|length| vec![b'x'; length]).collect();
    let mut forward = Pack::new();
    let mut at = forward.whole(2, &objects[0]);
    for object in &objects[1..] {
        at = forward.change_at(at, &appending(object.len() - 1, b"x"));
    }
    let mut backward = Pack::new();
    for pair in objects.windows(2).rev() {
        backward.change_of(id(ObjectType::Tree, &pair[0]), &appending(pair[0].len(), b"x"));
    }
    backward.whole(2, &objects[0]);
    for pack in [forward, backward] {
        assert_eq!(read(&pack.finish(), 64).unwrap().0.len(), objects.len());
    }
}

#[test]
fn changes_that_go_round_in_circles_make_nothing() {
    let mut pack = Pack::new();
    let [a, b] = [b"a".as_slice(), b"b"].map(|data| id(ObjectType::Tree, data));
    pack.change_of(a, &appending(1, b"x"));
    pack.change_of(b, &appending(1, b"x"));
    assert!(read(&pack.finish(), 64).unwrap().0.is_empty());
}

#[test]
fn what_is_no_pack_is_refused() {
    let entry = |bytes: &[u8]| {
        let mut pack = Pack::new();
        pack.raw(&[bytes]);
        pack.finish()
    };
    let packs = [
        b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        b"PACK\0\0\0\x03\0\0\0\x01".to_vec(),
        entry(&[0x00]),
        entry(&[0x50]),
        entry(&[0x32, b'x', b'x', b'x', b'x']),
        entry(&[&[0x62, 0], packed(b"xx").as_slice()].concat()),
        entry(&[&[0x62, 0x7f], packed(b"xx").as_slice()].concat()),
        entry(&[[0xe2].as_slice(), &[0xff; 40]].concat()),
        entry(&[[0xb2].as_slice(), &[0xff; 40]].concat()),
    ];
    for pack in packs {
        assert!(matches!(read(&pack, 64), Err(PackError::Malformed(_))), "{pack:?}");
    }
}
