//! What a server says it can do.

/// The way of talking, and the options in it, that a server offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Protocol version 2; otherwise 0 or 1, which differ in their first line only.
    pub(super) version2: bool,
    /// Objects are named by something other than SHA-1.
    pub(super) other_objects: bool,
    pub(super) agent: bool,
    /// A fetch can be cut off at a depth.
    pub(super) shallow: bool,
    /// A fetch can leave objects out.
    pub(super) filter: bool,
    /// Of versions 0 and 1: the pack comes in packets. Version 2 always does so.
    pub(super) side_band: bool,
    pub(super) no_progress: bool,
    pub(super) ofs_delta: bool,
    /// Of versions 0 and 1: its best way to acknowledge many commits that a client has. We have none, but Azure DevOps insists on one of these.
    pub(super) multi_ack: Option<&'static str>,
    /// Of versions 0 and 1: commits can be asked for that no ref points at.
    pub(super) reachable: bool,
}

impl Capabilities {
    /// Whether any commit of the history can be asked for by its id. Version 2 lets one, but for JGit's over ssh and `git://`.
    pub(super) fn any_commit(&self) -> bool {
        self.version2 || self.reachable
    }

    /// Takes a line of version 2.
    pub(super) fn read_line(&mut self, line: &[u8]) {
        let (key, value) = split(line, b'=');
        match key {
            b"agent" => self.agent = true,
            b"object-format" => self.other_objects = value != b"sha1",
            b"fetch" => {
                let offers = |wanted: &[u8]| value.split(|byte| *byte == b' ').any(|feature| feature == wanted);
                (self.shallow, self.filter) = (offers(b"shallow"), offers(b"filter"));
            }
            _ => {}
        }
    }

    /// Takes the list behind the first ref of versions 0 and 1.
    pub(super) fn read_list(&mut self, list: &[u8]) {
        for capability in list.split(|byte| *byte == b' ') {
            match split(capability, b'=') {
                (b"agent", _) => self.agent = true,
                (b"object-format", value) => self.other_objects = value != b"sha1",
                (b"shallow", _) => self.shallow = true,
                (b"filter", _) => self.filter = true,
                (b"side-band-64k", _) => self.side_band = true,
                (b"no-progress", _) => self.no_progress = true,
                (b"allow-reachable-sha1-in-want" | b"allow-any-sha1-in-want", _) => self.reachable = true,
                (b"ofs-delta", _) => self.ofs_delta = true,
                (b"multi_ack_detailed", _) => self.multi_ack = Some("multi_ack_detailed"),
                (b"multi_ack", _) if self.multi_ack.is_none() => self.multi_ack = Some("multi_ack"),
                _ => {}
            }
        }
    }
}

/// What stands before and behind the first of these bytes.
pub(super) fn split(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == at) {
        Some(position) => (&text[..position], &text[position + 1..]),
        None => (text, &[]),
    }
}
