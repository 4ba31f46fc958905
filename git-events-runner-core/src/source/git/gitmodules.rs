//! `.gitmodules`: the syntax of Git's configuration, of which nothing is included and only what describes submodules is kept.

/// What is said of a submodule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) path: Option<Vec<u8>>,
    pub(super) url: Option<String>,
    pub(super) update: Option<String>,
}

/// Reads it. An error is the number of the line that makes no sense.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Described>, usize> {
    let mut reader = Reader { rest: text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text), line: 1 };
    let mut found: Vec<Described> = vec![];
    // Which of those the section is of.
    let mut current = None;
    while let Some(byte) = reader.next() {
        match byte {
            b' ' | b'\t' | b'\n' => {}
            b'#' | b';' => reader.skip_line(),
            b'[' => current = reader.section()?.map(|name| place(&mut found, name)),
            _ if byte.is_ascii_alphabetic() => {
                let (key, value) = reader.variable(byte)?;
                if let (Some(current), Some(value)) = (current, value) {
                    found[current].set(&key, value);
                }
            }
            _ => return Err(reader.line),
        }
    }
    Ok(found)
}

fn place(found: &mut Vec<Described>, name: String) -> usize {
    found.iter().position(|described| described.name == name).unwrap_or_else(|| {
        found.push(Described { name, ..Described::default() });
        found.len() - 1
    })
}

impl Described {
    /// As Git does, a later value counts.
    fn set(&mut self, key: &str, value: Vec<u8>) {
        let text = || String::from_utf8(value.clone()).ok();
        match key {
            "url" => self.url = text(),
            "update" => self.update = text(),
            "path" => self.path = Some(value),
            _ => {}
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    line: usize,
}

impl Reader<'_> {
    /// The next byte. A line may end as on Windows.
    fn next(&mut self) -> Option<u8> {
        if self.rest.starts_with(b"\r\n") {
            self.rest = &self.rest[1..];
        }
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.line += usize::from(*byte == b'\n');
        Some(*byte)
    }

    fn skip_line(&mut self) {
        while self.next().is_some_and(|byte| byte != b'\n') {}
    }

    /// The rest of `[submodule "name"]`: the name, or None for another section.
    fn section(&mut self) -> Result<Option<String>, usize> {
        let line = self.line;
        let mut kind = vec![];
        loop {
            match self.next().ok_or(line)? {
                b']' => return Ok(None),
                b' ' | b'\t' => break,
                byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.') => kind.push(byte.to_ascii_lowercase()),
                _ => return Err(line),
            }
        }
        let mut byte = self.next();
        while matches!(byte, Some(b' ' | b'\t')) {
            byte = self.next();
        }
        if byte != Some(b'"') {
            return Err(line);
        }
        let mut name = vec![];
        loop {
            match self.next().ok_or(line)? {
                b'"' => break,
                b'\n' => return Err(line),
                b'\\' => name.push(self.next().filter(|byte| *byte != b'\n').ok_or(line)?),
                byte => name.push(byte),
            }
        }
        if self.next() != Some(b']') {
            return Err(line);
        }
        let name = String::from_utf8(name).ok().filter(|name| !name.contains(char::is_control));
        Ok(Some(name.ok_or(line)?).filter(|_| kind == b"submodule"))
    }

    /// A key in lower case, which begins with this, and its value, if it has one.
    fn variable(&mut self, first: u8) -> Result<(String, Option<Vec<u8>>), usize> {
        let line = self.line;
        let mut key = String::from(char::from(first.to_ascii_lowercase()));
        let mut byte = self.next();
        while let Some(letter) = byte.filter(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') {
            key.push(char::from(letter.to_ascii_lowercase()));
            byte = self.next();
        }
        while matches!(byte, Some(b' ' | b'\t')) {
            byte = self.next();
        }
        match byte {
            None | Some(b'\n') => Ok((key, None)),
            Some(b'=') => Ok((key, Some(self.value(line)?))),
            Some(_) => Err(line),
        }
    }

    /// A value up to the end of its line: without the spaces around it, but with those in quotes.
    fn value(&mut self, line: usize) -> Result<Vec<u8>, usize> {
        let (mut value, mut length, mut in_quotes) = (vec![], 0, false);
        loop {
            match self.next().unwrap_or(b'\n') {
                b'\n' if in_quotes => return Err(line),
                b'\n' => break,
                b'#' | b';' if !in_quotes => {
                    self.skip_line();
                    break;
                }
                b' ' | b'\t' if !in_quotes && value.is_empty() => {}
                byte @ (b' ' | b'\t') if !in_quotes => value.push(byte),
                b'"' => in_quotes = !in_quotes,
                b'\\' => {
                    match self.next().ok_or(line)? {
                        b'\n' => continue,
                        b't' => value.push(b'\t'),
                        b'b' => value.push(0x08),
                        b'n' => value.push(b'\n'),
                        byte @ (b'\\' | b'"') => value.push(byte),
                        _ => return Err(line),
                    }
                    length = value.len();
                }
                byte => {
                    value.push(byte);
                    length = value.len();
                }
            }
            if in_quotes {
                length = value.len();
            }
        }
        value.truncate(length);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(name: &str, path: &str, url: &str) -> Described {
        Described { name: name.to_owned(), path: Some(path.into()), url: Some(url.to_owned()), update: None }
    }

    #[test]
    fn submodules_are_read_as_git_reads_them() {
        let text = concat!(
            "\u{feff}# a comment\n[submodule \"libs/a\"]\n\tpath = libs/a\n\turl = ../a.git ; not this\r\n\tbranch = main\n\tshallow\n",
            "[Submodule \"with \\\"quotes\\\" and \\\\\"] path=b c  \n URL = \"../b # c\"\\\n  d\n",
            "[core]\n\tpath = wrong\n[include]\n\tpath = /etc/passwd\n[submodule]\n\tpath = wrong\n",
            "[submodule \"libs/a\"]\n\tpath = libs/later\n\tupdate = none\n[submodule.old]\n\tpath = wrong\n",
        );
        let mut first = described("libs/a", "libs/later", "../a.git");
        first.update = Some("none".to_owned());
        assert_eq!(parse(text.as_bytes()), Ok(vec![first, described("with \"quotes\" and \\", "b c", "../b # c  d")]));
        assert_eq!(parse(b""), Ok(vec![]));
        assert_eq!(parse(b"[submodule \"a\"]\npath = \xff\n").unwrap()[0].path.as_deref(), Some(b"\xff".as_slice()));
    }

    #[test]
    fn what_makes_no_sense_is_told_by_its_line() {
        for (text, line) in [
            ("\n[submodule", 2),
            ("[submodule \"a\n\"]", 1),
            ("[submodule \"a\"\n]", 1),
            ("[submodule \"a\"]\n\n= x\n", 3),
            ("[submodule \"a\"]\nurl = \"open\n", 2),
            ("[submodule \"a\"]\nurl = \\x\n", 2),
            ("[submodule \"a\"]\nurl ! x\n", 2),
            ("[sub module]\n", 1),
            ("[submodule \"a\u{1}\"]\n", 1),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(line), "{text:?}");
        }
    }
}
