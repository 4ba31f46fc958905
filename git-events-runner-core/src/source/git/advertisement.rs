//! The answer to `info/refs`: the capabilities of version 2, or all refs in versions 0 and 1.

use super::{
    capabilities::{Capabilities, split},
    packet::{Packet, WireError},
    refs::{Found, object_id},
};
use crate::CommitId;

/// How many branches and tags are kept, 20 bytes each.
pub(super) const MAX_TIPS: usize = 20_000;

/// Reads an advertisement packet by packet, and keeps of its refs only what is looked for.
#[derive(Debug)]
pub(super) struct Advertisement {
    wanted: String,
    commit: Option<CommitId>,
    state: State,
    /// What the last ref points at.
    last: Option<CommitId>,
    pub(super) capabilities: Capabilities,
    /// What the wanted ref points at, in versions 0 and 1.
    pub(super) found: Found,
    /// What a ref points at that stands for the commit, in versions 0 and 1: the commit itself, or an annotated tag.
    pub(super) tip: Option<CommitId>,
    /// What branches and tags point at, in versions 0 and 1; where there are very many, the first of them.
    pub(super) tips: Vec<CommitId>,
    /// There are more.
    pub(super) has_more_tips: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    /// After `# service=…`, which a flush follows.
    Service,
    /// At `version …` or the first ref.
    First,
    /// At the first ref, which the capabilities follow.
    FirstRef,
    Capabilities,
    Refs,
    Done,
}

impl Advertisement {
    /// Looks for a ref by its full name; an empty name finds none. And for a ref that stands for a commit.
    pub(super) fn new(wanted: &str, commit: Option<CommitId>) -> Self {
        let (capabilities, found) = (Capabilities::default(), Found::default());
        let (wanted, state, last, tip) = (wanted.to_owned(), State::Start, None, None);
        Self { wanted, commit, state, last, capabilities, found, tip, tips: vec![], has_more_tips: false }
    }

    /// Whether the advertisement has come to its end.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes the next packet.
    pub(super) fn read(&mut self, packet: Packet<'_>) -> Result<(), WireError> {
        let line = packet.line()?;
        self.state = match (self.state, line) {
            (State::Start, Some(b"# service=git-upload-pack")) => State::Service,
            (State::Service, None) => State::First,
            (State::Start | State::First, Some(b"version 2")) => {
                self.capabilities.version2 = true;
                State::Capabilities
            }
            (State::Start | State::First, Some(b"version 1")) => State::FirstRef,
            (State::Start | State::First | State::FirstRef, Some(line)) => {
                let (line, capabilities) = split(line, 0);
                self.capabilities.read_list(capabilities);
                self.read_ref(line)?;
                State::Refs
            }
            (State::Capabilities, Some(line)) => {
                self.capabilities.read_line(line);
                State::Capabilities
            }
            (State::Refs, Some(line)) => {
                self.read_ref(line)?;
                State::Refs
            }
            // A repository without refs may send nothing at all.
            (State::First | State::FirstRef | State::Capabilities | State::Refs, None) if packet == Packet::Flush => State::Done,
            (state, _) => return Err(WireError::Malformed(format!("an unexpected packet in its list of refs, at {state:?}"))),
        };
        Ok(())
    }

    fn read_ref(&mut self, line: &[u8]) -> Result<(), WireError> {
        // `shallow <id>` tells what a shallow repository lacks.
        if line.starts_with(b"shallow ") {
            return Ok(());
        }
        let (id, name) = split(line, b' ');
        if name.is_empty() {
            return Err(WireError::malformed("a ref without a name"));
        }
        // An id of another length is one of other objects, which is said better elsewhere.
        if self.capabilities.other_objects {
            return Ok(());
        }
        let id = object_id(id)?;
        match name.strip_suffix(b"^{}") {
            Some(name) if name == self.wanted.as_bytes() => self.found.peeled = Some(id),
            None if name == self.wanted.as_bytes() => self.found.direct = Some(id),
            _ => {}
        }
        // What an annotated tag stands for comes right after it, and cannot be asked for by itself.
        if !name.ends_with(b"^{}") {
            self.last = Some(id);
        }
        if self.commit == Some(id) {
            self.tip = self.last;
        }
        if name.starts_with(b"refs/heads/") || name.starts_with(b"refs/tags/") {
            if self.tips.len() < MAX_TIPS { self.tips.push(id) } else { self.has_more_tips = true }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::git::packet::Packets;

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";

    fn line(text: &str) -> String {
        format!("{:04x}{text}", text.len() + 4)
    }

    fn read(wanted: &str, bytes: &str) -> Result<Advertisement, WireError> {
        let (mut packets, mut advertisement) = (Packets::default(), Advertisement::new(wanted, Some(B.parse().unwrap())));
        packets.push(bytes.as_bytes());
        while let Some(packet) = packets.next()? {
            advertisement.read(packet)?;
        }
        Ok(advertisement)
    }

    #[test]
    fn version_2_is_read_with_and_without_the_line_of_the_service() {
        let lines = ["version 2\n", "agent=git/2.39.5\n", "ls-refs=unborn\n", "fetch=shallow wait-for-done\n", "object-format=sha1\n"];
        let plain = lines.map(line).concat() + "0000";
        for bytes in [plain.clone(), line("# service=git-upload-pack\n") + "0000" + &plain] {
            let read = read("refs/heads/main", &bytes).unwrap();
            assert!(read.is_done());
            let expected = Capabilities { version2: true, agent: true, shallow: true, ..Capabilities::default() };
            assert_eq!(read.capabilities, expected);
        }
    }

    fn refs(service: &str) -> String {
        let first = format!("{A} HEAD\0multi_ack ofs-delta shallow no-progress side-band-64k symref=HEAD:refs/heads/main agent=git/2\n");
        let refs = [
            format!("{A} refs/heads/main\n"),
            format!("{B} refs/heads/main2\n"),
            format!("{A} refs/tags/v1\n"),
            format!("{B} refs/tags/v1^{{}}\n"),
            format!("shallow {B}\n"),
        ];
        format!("{service}{}{}0000", line(&first), refs.map(|text| line(&text)).concat())
    }

    #[test]
    fn versions_0_and_1_are_read_for_the_one_ref() {
        let service = line("# service=git-upload-pack\n") + "0000";
        for service in [service.clone(), service + &line("version 1\n"), String::new()] {
            let found = |wanted| read(wanted, &refs(&service)).unwrap().found.commit().map(|id| id.to_string());
            assert_eq!(found("refs/heads/main").as_deref(), Some(A));
            assert_eq!(found("refs/heads/main2").as_deref(), Some(B));
            assert_eq!(found("refs/tags/v1").as_deref(), Some(B), "an annotated tag is the commit it points at");
            assert_eq!(found("refs/heads/mai"), None);
            let capabilities = read("", &refs(&service)).unwrap().capabilities;
            let tips: Vec<_> = read("", &refs(&service)).unwrap().tips.iter().map(ToString::to_string).collect();
            assert_eq!(tips, [A, B, A, B]);
            assert_eq!(read("", &refs(&service)).unwrap().tip.map(|id| id.to_string()).as_deref(), Some(A), "the annotated tag of B");
            assert!(!capabilities.version2 && capabilities.shallow && capabilities.side_band && capabilities.ofs_delta);
        }
    }

    #[test]
    fn an_empty_repository_has_capabilities_and_no_refs() {
        let zeros = "0".repeat(40);
        let read = read("refs/heads/main", &(line(&format!("{zeros} capabilities^{{}}\0agent=git/2 object-format=sha1\n")) + "0000"));
        let read = read.unwrap();
        assert!(read.is_done() && read.found.commit().is_none() && !read.capabilities.other_objects);
    }

    #[test]
    fn a_repository_of_sha_256_is_told_apart() {
        let first = format!("{} HEAD\0object-format=sha256\n", "3".repeat(64));
        assert!(read("refs/heads/main", &(line(&first) + "0000")).unwrap().capabilities.other_objects);
    }

    #[test]
    fn what_is_no_advertisement_is_refused() {
        for text in ["hello\n", "0 HEAD\n", "1111 refs/heads/main\n", &format!("{A}\n"), "version 3\n", "\n"] {
            assert!(matches!(read("refs/heads/main", &line(text)), Err(WireError::Malformed(_))), "{text}");
        }
        let error = read("", &line("ERR access denied\n")).unwrap_err();
        assert_eq!(error, WireError::Remote("access denied".to_owned()));
        assert!(!read("", &line("version 2\n")).unwrap().is_done());
    }
}
