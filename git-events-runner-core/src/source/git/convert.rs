//! How a file's content differs in a work tree from what the repository has, as its `.gitattributes` say: line ends, and `$Id$`.

use std::path::Path;

use git2::{AttrCheckFlags, AttrValue, Oid};

/// Attributes of the commit alone: neither those of the machine, nor those that are in the work tree by now.
const OF_COMMIT: AttrCheckFlags = AttrCheckFlags::INDEX_ONLY.union(AttrCheckFlags::NO_SYSTEM);

/// What is to be done with a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Conversion {
    /// Lines end with CR LF.
    crlf: Option<Crlf>,
    /// `$Id$` becomes `$Id: <the id of the blob> $`.
    ident: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crlf {
    Always,
    /// Only in what looks like a text, and has no CR yet.
    InText,
}

/// What the attribute `text`, or its older form `crlf`, says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    Yes,
    No,
    Auto,
}

impl Conversion {
    /// That of the file at a path.
    pub(super) fn of(git: &git2::Repository, path: &Path) -> Result<Self, git2::Error> {
        let attribute = |name| git.get_attr_bytes(path, name, OF_COMMIT).map(AttrValue::always_bytes);
        let text = match text(attribute("text")?) {
            Some(text) => Some(text),
            None => text(attribute("crlf")?),
        };
        let crlf = match text {
            Some(Text::No) => None,
            text if attribute("eol")? == AttrValue::Bytes(b"crlf") => {
                Some(if text == Some(Text::Auto) { Crlf::InText } else { Crlf::Always })
            }
            _ => None,
        };
        Ok(Self { crlf, ident: attribute("ident")? == AttrValue::True })
    }

    /// The content for the work tree.
    pub(super) fn apply(self, content: &[u8], id: Oid) -> Option<Vec<u8>> {
        let named = self.ident.then(|| with_id(content, id));
        let content = named.as_deref().unwrap_or(content);
        let ended = self.crlf.filter(|crlf| *crlf == Crlf::Always || is_text_without_cr(content)).map(|_| with_crlf(content));
        ended.or(named)
    }
}

fn text(value: AttrValue<'_>) -> Option<Text> {
    match value {
        AttrValue::True | AttrValue::Bytes(b"input") => Some(Text::Yes),
        AttrValue::False => Some(Text::No),
        AttrValue::Bytes(b"auto") => Some(Text::Auto),
        _ => None,
    }
}

fn with_crlf(content: &[u8]) -> Vec<u8> {
    let mut converted = Vec::with_capacity(content.len() + content.len() / 16);
    let mut before = 0;
    for byte in content {
        if *byte == b'\n' && before != b'\r' {
            converted.push(b'\r');
        }
        converted.push(*byte);
        before = *byte;
    }
    converted
}

/// Git's rule: no NUL, no CR, and of 128 printable characters at most one that is not. A last ^Z is the end of a file of DOS.
fn is_text_without_cr(content: &[u8]) -> bool {
    let (mut printable, mut other) = (0_usize, 0_usize);
    for byte in content.strip_suffix(b"\x1a").unwrap_or(content) {
        match byte {
            0 | b'\r' => return false,
            b'\n' => {}
            b'\t' | 0x08 | 0x0c | 0x1b => printable += 1,
            0x01..0x20 | 0x7f => other += 1,
            _ => printable += 1,
        }
    }
    printable >> 7 >= other
}

/// Puts the id between the dollar signs of `$Id$`, also in the place of one that is there already.
fn with_id(content: &[u8], id: Oid) -> Vec<u8> {
    let mut converted = Vec::with_capacity(content.len() + 64);
    let mut rest = content;
    while let Some(dollar) = rest.iter().position(|byte| *byte == b'$') {
        let (before, after) = rest.split_at(dollar + 1);
        converted.extend_from_slice(before);
        rest = after;
        if let Some(length) = keyword(rest) {
            converted.extend_from_slice(format!("Id: {id} $").as_bytes());
            rest = &rest[length..];
        }
    }
    converted.extend_from_slice(rest);
    converted
}

/// The length of `Id$` or `Id: … $`, if this begins with one. With words in between it is another system's, which Git leaves alone.
fn keyword(text: &[u8]) -> Option<usize> {
    let inner = text.strip_prefix(b"Id")?;
    if inner.starts_with(b"$") {
        return Some(3);
    }
    let inner = inner.strip_prefix(b":")?;
    let end = inner.iter().position(|byte| matches!(byte, b'$' | b'\n')).filter(|end| inner[*end] == b'$')?;
    let words = inner[..end].get(1..).unwrap_or_default();
    let has_space = words.iter().position(|byte| *byte == b' ').is_some_and(|space| space + 1 < words.len());
    (!has_space).then_some("Id:".len() + end + 1)
}
