//! A pack as it arrives: its commits, tags and trees are kept, the contents of files are not.
//!
//! It is for packs of strangers: neither the number of objects, nor what they say of their size, nor what they unpack to, takes more memory or
//! time than [`Budget`] has. Git's own indexers trust in all of these.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use flate2::{Decompress, FlushDecompress, Status};
use git2::{ObjectType, Oid};

use super::delta;
use crate::CommitId;

/// The most bytes of one object that is kept: a folder of some 300,000 files.
const MAX_OBJECT: u64 = 16 << 20;

/// What keeping an object costs besides its bytes, at most.
const OVERHEAD: u64 = 256;

/// Bytes that are unpacked at a time.
const PIECE: usize = 32 * 1024;

/// Why a pack is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PackError {
    /// What is wrong with it.
    Malformed(&'static str),
    /// What the limit is of, and how high it is.
    TooLarge(&'static str, u64),
    /// Others have all the memory that there is for this.
    Busy,
}

/// What limits a pack. What has been taken is never given back while the pack is read, so that it is a limit of the work as well.
pub(super) trait Budget {
    /// Takes this much for objects that are kept.
    fn keep(&mut self, bytes: u64) -> Result<(), PackError>;

    /// Takes this much for objects that are unpacked and thrown away.
    fn skip(&mut self, bytes: u64) -> Result<(), PackError>;
}

/// A commit, a tag or a tree.
pub(super) struct Object {
    pub(super) kind: ObjectType,
    pub(super) data: Box<[u8]>,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.kind, self.data.len())
    }
}

/// Objects by their ids, which are those of what they hold.
pub(super) type Objects = HashMap<CommitId, Object>;

/// Reads a pack.
pub(super) struct PackReader<B> {
    budget: B,
    state: State,
    /// Bytes that belong together, and have not all arrived.
    head: Vec<u8>,
    /// Where the next byte is within the pack.
    position: u64,
    /// How many objects are still to come.
    left: u32,
    inflate: Decompress,
    piece: Vec<u8>,
    found: Found,
}

enum State {
    Header,
    Entry,
    Content(Entry),
    Checksum,
    Done,
}

struct Entry {
    at: u64,
    size: u64,
    unpacked: u64,
    what: What,
    data: Vec<u8>,
}

enum What {
    Whole(ObjectType),
    Delta(Base),
    /// The content of a file, or a change to one.
    Skipped,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Base {
    At(u64),
    Of(CommitId),
}

impl<B: Budget> PackReader<B> {
    pub(super) fn new(budget: B) -> Self {
        let (inflate, piece) = (Decompress::new(true), vec![0; PIECE]);
        Self { budget, state: State::Header, head: vec![], position: 0, left: 0, inflate, piece, found: Found::default() }
    }

    /// Takes bytes that have arrived, up to the end of a piece of work; what is left of them is for the next call.
    pub(super) fn read<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], PackError> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Header | State::Entry | State::Checksum => {
                    self.head.push(bytes[0]);
                    (self.position, bytes) = (self.position + 1, &bytes[1..]);
                    self.read_head()?;
                }
                State::Content(_) => return self.read_content(bytes),
                State::Done => return Err(PackError::Malformed("something follows the end of the pack")),
            }
        }
        Ok(bytes)
    }

    /// What the pack has, now that it has come to its end.
    pub(super) fn finish(self) -> Result<(Objects, B), PackError> {
        match self.state {
            State::Done => Ok((self.found.objects, self.budget)),
            _ => Err(PackError::Malformed("the pack is cut off")),
        }
    }

    fn read_head(&mut self) -> Result<(), PackError> {
        match self.state {
            State::Header if self.head.len() == 12 => {
                let number = |at: usize| self.head[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
                if !self.head.starts_with(b"PACK") || number(4) != 2 {
                    return Err(PackError::Malformed("what is no pack"));
                }
                self.left = number(8);
                self.next_entry();
            }
            State::Entry => {
                let start = self.position - self.head.len() as u64;
                if let Some((kind, size, base)) = parse_entry(&self.head, start)? {
                    self.begin(start, kind, size, base)?;
                }
            }
            State::Checksum if self.head.len() == 20 => {
                // What is made of the objects is their ids, and these are looked for: the sum of all of them says nothing more.
                self.state = State::Done;
            }
            _ => {}
        }
        Ok(())
    }

    fn next_entry(&mut self) {
        self.head.clear();
        self.state = if self.left == 0 { State::Checksum } else { State::Entry };
    }

    fn begin(&mut self, at: u64, kind: u8, size: u64, base: Option<Base>) -> Result<(), PackError> {
        let what = match (kind, base) {
            (1, _) => What::Whole(ObjectType::Commit),
            (2, _) => What::Whole(ObjectType::Tree),
            (4, _) => What::Whole(ObjectType::Tag),
            (6 | 7, Some(base)) if self.found.may_have(base) => What::Delta(base),
            _ => What::Skipped,
        };
        if matches!(what, What::Skipped) {
            self.budget.skip(size)?;
        } else {
            keep(&mut self.budget, size)?;
        }
        self.inflate.reset(true);
        self.state = State::Content(Entry { at, size, unpacked: 0, what, data: vec![] });
        Ok(())
    }

    fn read_content<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], PackError> {
        let State::Content(entry) = &mut self.state else { return Ok(bytes) };
        let (read, unpacked) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(bytes, &mut self.piece, FlushDecompress::None);
        let status = status.map_err(|_| PackError::Malformed("an object that cannot be unpacked"))?;
        let read = usize::try_from(self.inflate.total_in() - read).unwrap_or_default();
        let unpacked = usize::try_from(self.inflate.total_out() - unpacked).unwrap_or_default();
        entry.unpacked += unpacked as u64;
        if entry.unpacked > entry.size {
            return Err(PackError::Malformed("an object that is longer than it says"));
        }
        if !matches!(entry.what, What::Skipped) {
            entry.data.extend_from_slice(&self.piece[..unpacked]);
        }
        self.position += read as u64;
        if status == Status::StreamEnd {
            self.end_entry()?;
        } else if read == 0 && unpacked == 0 {
            return Err(PackError::Malformed("an object that cannot be unpacked"));
        }
        Ok(&bytes[read..])
    }

    fn end_entry(&mut self) -> Result<(), PackError> {
        self.left -= 1;
        let State::Content(entry) = std::mem::replace(&mut self.state, State::Entry) else { return Ok(()) };
        self.next_entry();
        if entry.unpacked < entry.size {
            return Err(PackError::Malformed("an object that is shorter than it says"));
        }
        let data = entry.data.into_boxed_slice();
        match entry.what {
            What::Whole(kind) => self.found.add(entry.at, Object { kind, data }, &mut self.budget),
            What::Delta(base) => self.found.add_delta(entry.at, base, data, &mut self.budget),
            What::Skipped => Ok(()),
        }
    }
}

fn keep(budget: &mut impl Budget, size: u64) -> Result<(), PackError> {
    if size > MAX_OBJECT {
        return Err(PackError::TooLarge("a larger folder", MAX_OBJECT));
    }
    budget.keep(size + OVERHEAD)
}

/// Kind, size and base of the object whose entry begins with these bytes, at this place; None until enough of them are there.
fn parse_entry(head: &[u8], at: u64) -> Result<Option<(u8, u64, Option<Base>)>, PackError> {
    let (first, mut rest) = (head[0], &head[1..]);
    let (kind, mut size) = (first >> 4 & 7, u64::from(first & 15));
    if first & 0x80 != 0 {
        let Some((high, after)) = delta::number(rest).map_err(PackError::Malformed)? else { return Ok(None) };
        if high >> 59 != 0 {
            return Err(PackError::Malformed("an object of an impossible size"));
        }
        (size, rest) = (size | high << 4, after);
    }
    let base = match kind {
        1..=4 => None,
        6 => match parse_distance(rest)? {
            Some(distance) if distance > 0 && distance <= at => Some(Base::At(at - distance)),
            Some(_) => return Err(PackError::Malformed("a change to what is not in the pack")),
            None => return Ok(None),
        },
        7 => match rest.first_chunk::<20>() {
            Some(id) => Some(Base::Of(CommitId::from_bytes(*id))),
            None => return Ok(None),
        },
        _ => return Err(PackError::Malformed("an object of no known kind")),
    };
    Ok(Some((kind, size, base)))
}

/// How far before an object its base is: seven bits a byte, the highest first, and one is added for each further byte.
fn parse_distance(bytes: &[u8]) -> Result<Option<u64>, PackError> {
    let mut distance = 0_u64;
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 {
            distance =
                distance.checked_add(1).filter(|distance| distance >> 57 == 0).ok_or(PackError::Malformed("an impossible distance"))? << 7;
        }
        distance |= u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok(Some(distance));
        }
    }
    Ok(None)
}

/// Where a change is, and what it says.
type Change = (u64, Box<[u8]>);

/// What a pack has, as far as it has been read.
#[derive(Default)]
struct Found {
    objects: Objects,
    ids: HashMap<u64, CommitId>,
    /// Changes, by what they change, which has not come yet.
    waiting: HashMap<Base, Vec<Change>>,
    /// Where these are.
    waiting_at: HashSet<u64>,
}

impl Found {
    /// Whether a base is kept, or may come: what lies before and is not kept is the content of a file.
    fn may_have(&self, base: Base) -> bool {
        match base {
            Base::At(at) => self.ids.contains_key(&at) || self.waiting_at.contains(&at),
            Base::Of(_) => true,
        }
    }

    fn get(&self, base: Base) -> Option<&Object> {
        match base {
            Base::At(at) => self.objects.get(self.ids.get(&at)?),
            Base::Of(id) => self.objects.get(&id),
        }
    }

    fn add_delta(&mut self, at: u64, base: Base, change: Box<[u8]>, budget: &mut impl Budget) -> Result<(), PackError> {
        if let Some(base) = self.get(base) {
            let object = changed(base, &change, budget)?;
            return self.add(at, object, budget);
        }
        self.waiting.entry(base).or_default().push((at, change));
        self.waiting_at.insert(at);
        Ok(())
    }

    /// Adds an object, and those that have waited for it.
    fn add(&mut self, at: u64, object: Object, budget: &mut impl Budget) -> Result<(), PackError> {
        let mut added = vec![(at, object)];
        while let Some((at, object)) = added.pop() {
            let id = Oid::hash_object(object.kind, &object.data).map_err(|_| PackError::Malformed("an object that has no id"))?;
            let mut bytes = [0; 20];
            bytes.copy_from_slice(id.as_bytes());
            let id = CommitId::from_bytes(bytes);
            for base in [Base::Of(id), Base::At(at)] {
                for (at, change) in self.waiting.remove(&base).unwrap_or_default() {
                    self.waiting_at.remove(&at);
                    added.push((at, changed(&object, &change, budget)?));
                }
            }
            self.ids.insert(at, id);
            self.objects.entry(id).or_insert(object);
        }
        Ok(())
    }
}

fn changed(base: &Object, change: &[u8], budget: &mut impl Budget) -> Result<Object, PackError> {
    let sizes = delta::sizes(change).map_err(PackError::Malformed)?;
    keep(budget, sizes.after)?;
    let data = delta::apply(&base.data, change).map_err(PackError::Malformed)?;
    Ok(Object { kind: base.kind, data: data.into_boxed_slice() })
}

#[cfg(test)]
mod tests;
