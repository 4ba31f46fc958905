//! Git's pkt-lines: four hexadecimal digits of length, then that many bytes, the digits included.

/// The most that a packet may hold, its length included, by Git's own definition.
const MAX_PACKET: usize = 65520;

/// Bytes of a server that cannot be understood, or an error that it reports in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WireError {
    /// What is wrong with them.
    Malformed(String),
    /// What the server says, cut to what a line can hold.
    Remote(String),
}

impl WireError {
    pub(super) fn malformed(what: &str) -> Self {
        Self::Malformed(what.to_owned())
    }

    /// An error with the text of a server, of which one line of printable characters is kept. It is as long as a packet may be: it cannot be cut
    /// before it is known to repeat no secret.
    pub(super) fn remote(text: &[u8]) -> Self {
        Self::Remote(printable(text))
    }
}

/// A text of a server as one line without control characters.
pub(super) fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// One pkt-line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Data(&'a [u8]),
    /// `0000`
    Flush,
    /// `0001`
    Delimiter,
    /// `0002`
    ResponseEnd,
}

impl<'a> Packet<'a> {
    /// The line that a packet of text holds, without its line end. A packet `ERR` is an error.
    pub(super) fn line(self) -> Result<Option<&'a [u8]>, WireError> {
        match self {
            Self::Data(data) => match data.strip_prefix(b"ERR ") {
                Some(text) => Err(WireError::remote(text)),
                None => Ok(Some(data.strip_suffix(b"\n").unwrap_or(data))),
            },
            _ => Ok(None),
        }
    }
}

/// Cuts bytes, as they arrive, into packets. It holds one piece of what arrived and at most one packet more.
#[derive(Debug, Default)]
pub(super) struct Packets {
    buffer: Vec<u8>,
    start: usize,
}

impl Packets {
    /// Takes bytes that have arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole packet; None until more bytes are there.
    pub(super) fn next(&mut self) -> Result<Option<Packet<'_>>, WireError> {
        let rest = &self.buffer[self.start..];
        let Some(digits) = rest.first_chunk::<4>() else { return Ok(None) };
        let length = length(digits)?;
        let special = match length {
            0 => Some(Packet::Flush),
            1 => Some(Packet::Delimiter),
            2 => Some(Packet::ResponseEnd),
            _ => None,
        };
        if let Some(packet) = special {
            self.start += 4;
            return Ok(Some(packet));
        }
        if !(4..=MAX_PACKET).contains(&length) {
            return Err(WireError::Malformed(format!("a packet of {length} bytes")));
        }
        let Some(packet) = rest.get(4..length) else { return Ok(None) };
        self.start += length;
        Ok(Some(Packet::Data(packet)))
    }

    /// Whether everything that arrived has been read.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }
}

fn length(digits: &[u8; 4]) -> Result<usize, WireError> {
    digits.iter().try_fold(0, |length, digit| {
        let value = char::from(*digit).to_digit(16).and_then(|value| usize::try_from(value).ok());
        value.map(|value| length * 16 + value).ok_or_else(|| WireError::malformed("no packets of Git"))
    })
}

/// Appends a packet with a line of text. Our lines are short: a command, a capability, or a name that fits a packet.
pub(super) fn write_line(request: &mut Vec<u8>, line: &str) {
    debug_assert!(line.len() + 5 <= MAX_PACKET);
    request.extend_from_slice(format!("{:04x}{line}\n", line.len() + 5).as_bytes());
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// All packets of some bytes, when they arrive in pieces of `size`.
    fn cut(bytes: &[u8], size: usize) -> Result<Vec<String>, WireError> {
        let (mut packets, mut read) = (Packets::default(), vec![]);
        for piece in bytes.chunks(size) {
            packets.push(piece);
            while let Some(packet) = packets.next()? {
                read.push(match packet {
                    Packet::Data(data) => String::from_utf8_lossy(data).into_owned(),
                    other => format!("{other:?}"),
                });
            }
        }
        if !packets.is_empty() {
            read.push("(rest)".to_owned());
        }
        Ok(read)
    }

    #[test]
    fn packets_are_the_same_however_they_arrive() {
        for size in 1..30 {
            assert_eq!(
                cut(b"0006a\n0000000100020004000cabcdefgh", size).unwrap(),
                ["a\n", "Flush", "Delimiter", "ResponseEnd", "", "abcdefgh"]
            );
        }
    }

    #[test]
    fn a_cut_off_packet_is_seen() {
        assert_eq!(cut(b"0006a\n0006a", 9).unwrap(), ["a\n", "(rest)"]);
        assert_eq!(cut(b"000", 9).unwrap(), ["(rest)"]);
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for bytes in ["<!DOCTYPE html>", "0003", "fff1", "ffff", "+006a\n", "00 6"] {
            assert!(matches!(cut(bytes.as_bytes(), 99), Err(WireError::Malformed(_))), "{bytes}");
        }
    }

    #[test]
    fn no_more_is_held_than_one_packet_and_what_has_just_arrived() {
        let mut packets = Packets::default();
        for _ in 0..1000 {
            packets.push(b"0008abcd0008ab");
            while packets.next().unwrap().is_some() {}
            packets.push(b"cd");
            while packets.next().unwrap().is_some() {}
        }
        assert!(packets.buffer.len() < 32, "{}", packets.buffer.len());
    }

    #[test]
    fn an_error_packet_is_an_error_of_one_printable_line() {
        let text = [b"ERR no\n\x1b[31m ".as_slice(), &[b'x'; 500]].concat();
        let Err(WireError::Remote(message)) = Packet::Data(&text).line() else { panic!() };
        assert_eq!(message, format!("no  [31m {}", "x".repeat(500)));
    }

    #[test]
    fn a_line_is_written_with_its_length() {
        let mut request = vec![];
        write_line(&mut request, "command=ls-refs");
        assert_eq!(request, b"0014command=ls-refs\n");
    }
}
