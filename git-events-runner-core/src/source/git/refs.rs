//! `ls-refs` of version 2: the request, and the lines of its answer.

use super::{
    capabilities::{Capabilities, split},
    packet::{Packet, WireError, write_line},
};
use crate::CommitId;

/// How we name ourselves to servers.
pub(super) const AGENT: &str = concat!("git-events-runner/", env!("CARGO_PKG_VERSION"));

/// What a ref points at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) direct: Option<CommitId>,
    /// What an annotated tag stands for.
    pub(super) peeled: Option<CommitId>,
}

impl Found {
    /// The commit that the ref counts as.
    pub(super) fn commit(self) -> Option<CommitId> {
        self.peeled.or(self.direct)
    }

    /// The object of an annotated tag.
    pub(super) fn tag(self) -> Option<CommitId> {
        self.peeled.and(self.direct)
    }
}

/// Asks for one ref by its full name. A server may answer more: all that begin with it, or even all it has.
pub(super) fn request(name: &str, capabilities: &Capabilities) -> Vec<u8> {
    let mut request = vec![];
    write_line(&mut request, "command=ls-refs");
    if capabilities.agent {
        write_line(&mut request, &format!("agent={AGENT}"));
    }
    request.extend_from_slice(b"0001");
    write_line(&mut request, "peel");
    write_line(&mut request, &format!("ref-prefix {name}"));
    request.extend_from_slice(b"0000");
    request
}

/// Reads the answer packet by packet, and keeps only the one ref.
#[derive(Debug)]
pub(super) struct Refs {
    wanted: String,
    pub(super) found: Found,
    done: bool,
}

impl Refs {
    pub(super) fn new(wanted: &str) -> Self {
        Self { wanted: wanted.to_owned(), found: Found::default(), done: false }
    }

    /// Whether the answer has come to its end.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Takes the next packet: `<id> <name>`, and then maybe `symref-target:…` and `peeled:<id>`.
    pub(super) fn read(&mut self, packet: Packet<'_>) -> Result<(), WireError> {
        let Some(line) = packet.line()? else {
            self.done = packet == Packet::Flush;
            return if self.done { Ok(()) } else { Err(WireError::malformed("an unexpected packet in its answer to ls-refs")) };
        };
        if self.done {
            return Err(WireError::malformed("more packets after the end of its answer to ls-refs"));
        }
        let (id, rest) = split(line, b' ');
        let (name, attributes) = split(rest, b' ');
        if name.is_empty() {
            return Err(WireError::malformed("a ref without a name"));
        }
        if name == self.wanted.as_bytes() {
            let peeled = attributes.split(|byte| *byte == b' ').find_map(|attribute| attribute.strip_prefix(b"peeled:"));
            self.found = Found { direct: Some(object_id(id)?), peeled: peeled.map(object_id).transpose()? };
        }
        Ok(())
    }
}

/// The id that 40 hexadecimal digits stand for.
pub(super) fn object_id(digits: &[u8]) -> Result<CommitId, WireError> {
    let text = std::str::from_utf8(digits).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| WireError::malformed("an id that is not 40 hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";

    fn find(wanted: &str, lines: &[&str]) -> Result<Option<String>, WireError> {
        let mut refs = Refs::new(wanted);
        lines.iter().try_for_each(|line| refs.read(Packet::Data(line.as_bytes())))?;
        refs.read(Packet::Flush)?;
        assert!(refs.is_done());
        Ok(refs.found.commit().map(|id| id.to_string()))
    }

    #[test]
    fn a_ref_is_found_by_its_exact_name() {
        let lines = [format!("{B} refs/heads/main-2\n"), format!("{A} refs/heads/main\n"), format!("{B} refs/heads/main/x\n")];
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        assert_eq!(find("refs/heads/main", &lines).unwrap().as_deref(), Some(A));
        assert_eq!(find("refs/heads/mai", &lines).unwrap(), None);
        assert_eq!(find("refs/heads/ä", &[&format!("{A} refs/heads/ä\n")]).unwrap().as_deref(), Some(A));
    }

    #[test]
    fn an_annotated_tag_counts_as_the_commit_it_points_at() {
        let line = format!("{A} refs/tags/v1 symref-target:refs/tags/v0 peeled:{B}\n");
        assert_eq!(find("refs/tags/v1", &[&line]).unwrap().as_deref(), Some(B));
        let [a, b] = [A, B].map(|id| Some(id.parse().unwrap()));
        assert_eq!(Found { direct: a, peeled: b }.tag(), a, "its own object is known as well");
        assert_eq!(Found { direct: a, peeled: None }.tag(), None);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for line in ["hello", "1234 refs/heads/main", &format!("{A} refs/heads/main peeled:12"), "", "ERR no"] {
            find("refs/heads/main", &[line]).expect_err(line);
        }
        let mut refs = Refs::new("refs/heads/main");
        refs.read(Packet::Delimiter).expect_err("no section is expected");
        refs.read(Packet::Flush).unwrap();
        refs.read(Packet::Data(format!("{A} refs/heads/main").as_bytes())).expect_err("nothing follows the end");
    }

    #[test]
    fn the_request_names_the_one_ref() {
        let request = request("refs/heads/main", &Capabilities::default());
        assert_eq!(String::from_utf8(request).unwrap(), "0014command=ls-refs\n00010009peel\n001fref-prefix refs/heads/main\n0000");
    }
}
