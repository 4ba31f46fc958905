//! The fetch of one commit without its history: the request, and the parts of its answer.

use super::{
    advertisement::Advertisement,
    capabilities::Capabilities,
    packet::{Packet, WireError, write_line},
    refs::AGENT,
};
use crate::CommitId;

/// The most objects that a pack may say it has: memory is taken by this number, before they come.
const MAX_OBJECTS: u32 = 10_000_000;

/// Leaves out the contents of files.
const NO_BLOBS: &str = "filter blob:none";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Want {
    /// Commits, or annotated tags of such.
    pub(super) ids: Vec<CommitId>,
    /// With all that came before them.
    pub(super) history: bool,
    pub(super) content: Content,
}

/// What of a commit is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// All of it, and so many commits of its history, of which it is the first; 0: all.
    Files { depth: u32 },
    /// Its trees alone, where the server can leave the rest out.
    Trees,
}

impl Content {
    /// How many commits are asked for; 0: all.
    fn depth(self) -> u32 {
        match self {
            Self::Files { depth } => depth,
            Self::Trees => 1,
        }
    }
}

impl Want {
    /// One commit, of a server that gives any.
    pub(super) fn exactly(commit: CommitId, content: Content) -> Self {
        Self { ids: vec![commit], history: false, content }
    }

    /// What to ask for to have a commit, which was seen at a ref.
    pub(super) fn of(commit: CommitId, content: Content, advertisement: &Advertisement) -> Self {
        let Advertisement { capabilities, found, tip, tips, .. } = advertisement;
        if capabilities.any_commit() {
            return Self::exactly(commit, content);
        }
        match (*tip, found.direct) {
            (Some(tip), _) => Self::exactly(tip, content),
            // A server that gives only what its refs point at: if that is another commit by now, this one is in its history.
            (None, Some(tip)) => Self { ids: vec![tip], history: true, content },
            // Or else in any history that it has.
            (None, None) if tips.is_empty() => Self::exactly(commit, content),
            (None, None) => Self { ids: tips.clone(), history: true, content },
        }
    }
}

/// Asks for a commit and its files.
pub(super) fn request(want: &Want, capabilities: &Capabilities) -> Vec<u8> {
    let depth = want.content.depth();
    let cut_off = capabilities.shallow && !want.history && depth > 0;
    let filter = capabilities.filter && want.content == Content::Trees;
    let mut request = vec![];
    if capabilities.version2 {
        write_line(&mut request, "command=fetch");
        if capabilities.agent {
            write_line(&mut request, &format!("agent={AGENT}"));
        }
        request.extend_from_slice(b"0001");
        write_line(&mut request, "no-progress");
        write_line(&mut request, "ofs-delta");
        want.ids.iter().for_each(|id| write_line(&mut request, &format!("want {id}")));
        if cut_off {
            write_line(&mut request, &format!("deepen {depth}"));
        }
        if filter {
            write_line(&mut request, NO_BLOBS);
        }
        write_line(&mut request, "done");
        request.extend_from_slice(b"0000");
    } else {
        let mut options = capabilities.multi_ack.map_or_else(String::new, |name| format!(" {name}"));
        options.push_str(" side-band-64k");
        let offered = [
            (capabilities.no_progress, " no-progress"),
            (capabilities.ofs_delta, " ofs-delta"),
            (cut_off, " shallow"),
            (filter, " filter"),
        ];
        options.extend(offered.iter().filter(|(offered, _)| *offered).map(|(_, option)| *option));
        if capabilities.agent {
            options.push_str(&format!(" agent={AGENT}"));
        }
        for id in &want.ids {
            // The first line has them for all.
            write_line(&mut request, &format!("want {id}{}", std::mem::take(&mut options)));
        }
        if cut_off {
            write_line(&mut request, &format!("deepen {depth}"));
        }
        if filter {
            write_line(&mut request, NO_BLOBS);
        }
        request.extend_from_slice(b"0000");
        write_line(&mut request, "done");
    }
    request
}

/// Reads the answer packet by packet, and hands out the bytes of the pack.
#[derive(Debug)]
pub(super) struct Fetched {
    state: State,
    header: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Version 2: at the name of a section.
    Section,
    /// Version 2: within a section that says nothing to us.
    Other,
    /// Versions 0 and 1: before the pack, which an acknowledgment precedes.
    Acknowledgment,
    Pack,
    Done,
}

impl Fetched {
    pub(super) fn new(capabilities: &Capabilities) -> Self {
        let state = if capabilities.version2 { State::Section } else { State::Acknowledgment };
        Self { state, header: vec![] }
    }

    /// Whether the answer, and with it the pack, has come to its end.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes the next packet; some of them hold a piece of the pack.
    pub(super) fn read<'a>(&mut self, packet: Packet<'a>) -> Result<Option<&'a [u8]>, WireError> {
        if let (State::Pack, Packet::Data(data)) = (self.state, packet) {
            return self.read_band(data);
        }
        let line = packet.line()?;
        self.state = match (self.state, line, packet) {
            (State::Pack, _, Packet::Flush) => State::Done,
            (State::Section, Some(b"packfile"), _) => State::Pack,
            (State::Section, Some(b"acknowledgments" | b"shallow-info" | b"wanted-refs"), _) | (State::Other, Some(_), _) => State::Other,
            (State::Other, _, Packet::Delimiter) => State::Section,
            (State::Acknowledgment, Some(line), _) if line == b"NAK" || line.starts_with(b"ACK ") => State::Pack,
            (State::Acknowledgment, Some(line), _) if line.starts_with(b"shallow ") || line.starts_with(b"unshallow ") => self.state,
            (State::Acknowledgment, _, Packet::Flush) => self.state,
            (state, ..) => return Err(WireError::Malformed(format!("an unexpected packet in its answer to fetch, at {state:?}"))),
        };
        Ok(None)
    }

    fn read_band<'a>(&mut self, data: &'a [u8]) -> Result<Option<&'a [u8]>, WireError> {
        match data.split_first() {
            Some((1, pack)) => {
                self.check_header(pack)?;
                Ok(Some(pack))
            }
            Some((2, _progress)) => Ok(None),
            Some((3, text)) => Err(WireError::remote(text)),
            _ => Err(WireError::malformed("a packet of no known band in its pack")),
        }
    }

    /// Looks at the first twelve bytes: `PACK`, the version, and the number of objects.
    fn check_header(&mut self, pack: &[u8]) -> Result<(), WireError> {
        let missing = 12 - self.header.len();
        if missing == 0 {
            return Ok(());
        }
        self.header.extend_from_slice(&pack[..missing.min(pack.len())]);
        if self.header.len() < 12 {
            return Ok(());
        }
        let number = |at: usize| self.header[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        if !self.header.starts_with(b"PACK") || !(2..=3).contains(&number(4)) {
            return Err(WireError::malformed("what is no pack"));
        }
        if number(8) > MAX_OBJECTS {
            return Err(WireError::Malformed(format!("a pack of {} objects, where {MAX_OBJECTS} are accepted", number(8))));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::git::refs::Found;

    fn commit() -> CommitId {
        "1111111111111111111111111111111111111111".parse().unwrap()
    }

    fn v2() -> Capabilities {
        Capabilities { version2: true, shallow: true, ..Capabilities::default() }
    }

    fn read(capabilities: &Capabilities, packets: &[Packet<'_>]) -> Result<(Vec<u8>, bool), WireError> {
        let (mut fetched, mut pack) = (Fetched::new(capabilities), vec![]);
        for packet in packets {
            pack.extend_from_slice(fetched.read(*packet)?.unwrap_or_default());
        }
        Ok((pack, fetched.is_done()))
    }

    const HEAD: &[u8] = b"\x01PACK\0\0\0\x02\0\0";
    const TAIL: &[u8] = b"\x01\0\x03rest";

    #[test]
    fn the_pack_of_version_2_is_taken_out_of_its_sections_and_bands() {
        let packets = [
            Packet::Data(b"shallow-info\n"),
            Packet::Data(b"shallow 1111111111111111111111111111111111111111"),
            Packet::Delimiter,
            Packet::Data(b"packfile\n"),
            Packet::Data(b"\x02Counting objects\n"),
            Packet::Data(HEAD),
            Packet::Data(b"\x01"),
            Packet::Data(TAIL),
            Packet::Flush,
        ];
        assert_eq!(read(&v2(), &packets).unwrap(), (b"PACK\0\0\0\x02\0\0\0\x03rest".to_vec(), true));
        assert!(!read(&v2(), &packets[..8]).unwrap().1, "without its end it is cut off");
    }

    #[test]
    fn the_pack_of_versions_0_and_1_follows_the_acknowledgment() {
        let shallow = Packet::Data(b"shallow 1111111111111111111111111111111111111111");
        let packets = [shallow, Packet::Flush, Packet::Data(b"NAK\n"), Packet::Data(HEAD), Packet::Data(TAIL), Packet::Flush];
        assert_eq!(read(&Capabilities::default(), &packets).unwrap(), (b"PACK\0\0\0\x02\0\0\0\x03rest".to_vec(), true));
        assert!(read(&Capabilities::default(), &packets[2..]).unwrap().1);
    }

    #[test]
    fn what_the_server_reports_is_an_error() {
        let band_3 = [Packet::Data(b"packfile\n"), Packet::Data(b"\x03out of memory\n")];
        assert_eq!(read(&v2(), &band_3), Err(WireError::Remote("out of memory".to_owned())));
        let packet = [Packet::Data(b"ERR upload-pack: not our ref 1111\n")];
        assert_eq!(read(&v2(), &packet), Err(WireError::Remote("upload-pack: not our ref 1111".to_owned())));
        assert!(read(&Capabilities::default(), &packet).is_err());
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for data in [
            b"\x04x".as_slice(),
            b"",
            b"\x01GARBAGE\0\0\0\x02\0\0\0\x01",
            b"\x01PACK\0\0\0\x09\0\0\0\x01",
            b"\x01PACK\0\0\0\x02\xff\xff\xff\xff",
        ] {
            assert!(matches!(read(&v2(), &[Packet::Data(b"packfile"), Packet::Data(data)]), Err(WireError::Malformed(_))));
        }
        for packet in [Packet::Flush, Packet::Delimiter, Packet::ResponseEnd, Packet::Data(b"hello")] {
            assert!(matches!(read(&v2(), &[packet]), Err(WireError::Malformed(_))), "{packet:?}");
        }
        assert!(read(&v2(), &[Packet::Data(b"packfile"), Packet::Flush, Packet::Data(b"\x01more")]).is_err());
    }

    #[test]
    fn the_request_wants_the_exact_commit_and_no_history() {
        let mut want = Want::exactly(commit(), Content::Files { depth: 1 });
        let text = String::from_utf8(request(&want, &v2())).unwrap();
        assert!(text.starts_with("0012command=fetch\n0001") && text.ends_with("000ddeepen 1\n0009done\n0000"), "{text}");
        let mut old = Capabilities { shallow: true, ofs_delta: true, ..Capabilities::default() };
        let text = String::from_utf8(request(&want, &old)).unwrap();
        assert!(text.contains(&format!("want {} side-band-64k ofs-delta shallow\n000ddeepen 1\n00000009done\n", commit())), "{text}");
        for (offered, expected) in [("multi_ack", " multi_ack"), ("multi_ack_detailed multi_ack thin-pack", " multi_ack_detailed")] {
            old.multi_ack = None;
            old.read_list(offered.as_bytes());
            let text = String::from_utf8(request(&want, &old)).unwrap();
            assert!(text.contains(&format!("want {}{expected} side-band-64k ofs-delta shallow\n000ddeepen 1\n", commit())), "{text}");
        }
        old.multi_ack = None;
        want = Want { ids: vec![commit(), other()], history: true, content: Content::Files { depth: 1 } };
        let text = String::from_utf8(request(&want, &old)).unwrap();
        let second = format!("0032want {}\n", other());
        assert!(text.ends_with(&format!(" side-band-64k ofs-delta\n{second}00000009done\n")), "{text}");
    }

    #[test]
    fn as_much_of_the_history_comes_as_is_asked_for() {
        for (depth, expected) in [(1, "000ddeepen 1\n"), (20, "000edeepen 20\n"), (u32::MAX, "0016deepen 4294967295\n")] {
            let text = String::from_utf8(request(&Want::exactly(commit(), Content::Files { depth }), &v2())).unwrap();
            assert!(text.contains(expected), "{text}");
        }
        let text = String::from_utf8(request(&Want::exactly(commit(), Content::Files { depth: 0 }), &v2())).unwrap();
        assert!(!text.contains("deepen"), "{text}");
    }

    #[test]
    fn files_are_left_out_where_the_server_can_do_so() {
        let asks = |content, filter, version2| {
            let capabilities = Capabilities { shallow: true, filter, version2, ..Capabilities::default() };
            let text = String::from_utf8(request(&Want::exactly(commit(), content), &capabilities)).unwrap();
            if version2 {
                text.contains("000ddeepen 1\n0015filter blob:none\n0009done\n")
            } else {
                text.contains(" filter\n000ddeepen 1\n0015filter blob:none\n0000")
            }
        };
        for version2 in [true, false] {
            assert!(asks(Content::Trees, true, version2));
            assert!(!asks(Content::Trees, false, version2));
            assert!(!asks(Content::Files { depth: 1 }, true, version2));
        }
    }

    fn other() -> CommitId {
        "2222222222222222222222222222222222222222".parse().unwrap()
    }

    #[test]
    fn a_server_that_gives_only_what_its_refs_point_at_is_asked_for_a_history_that_has_the_commit() {
        let asked = |advertisement: &Advertisement| {
            let Want { ids, history, .. } = Want::of(commit(), Content::Files { depth: 1 }, advertisement);
            (ids, history)
        };
        let mut old = Advertisement::new("", None);
        assert_eq!(asked(&old), (vec![commit()], false), "it says itself that it has none");
        old.tips = vec![other(), other()];
        assert_eq!(asked(&old), (vec![other(), other()], true));
        old.found = Found { direct: Some(other()), peeled: None };
        assert_eq!(asked(&old), (vec![other()], true));
        for tip in [commit(), other()] {
            old.tip = Some(tip);
            assert_eq!(asked(&old), (vec![tip], false), "something points at it, or an annotated tag stands for it");
        }
        let mut new = Advertisement::new("", None);
        new.capabilities.version2 = true;
        assert_eq!(asked(&new), (vec![commit()], false));
    }
}
