use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

/// The longest line that is kept in one piece, in bytes; what is longer goes on in the next line.
const MAX_LINE: usize = 16 << 10;

/// How much of the output of a run is kept, in bytes.
const MAX_OUTPUT: u64 = 16 << 20;

/// How much is read at a time.
const CHUNK: u64 = 64 << 10;

/// Keeps the output of a run: whole lines, none of them too long, and not too many.
pub struct Log {
    file: File,
    column: usize,
    room: u64,
    full: bool,
}

impl Log {
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, column: 0, room: MAX_OUTPUT, full: false })
    }

    /// Adds to the output. What there is no room for is left away, once with a notice.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut lines = Vec::with_capacity(bytes.len() + 1);
        while !bytes.is_empty() {
            let rest_of_line = MAX_LINE - self.column;
            let within = &bytes[..bytes.len().min(rest_of_line + 1)];
            let (take, ends) = match within.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end, true),
                None if bytes.len() > rest_of_line => (rest_of_line, false),
                None => {
                    lines.extend_from_slice(bytes);
                    self.column += bytes.len();
                    break;
                }
            };
            lines.extend_from_slice(&bytes[..take]);
            lines.push(b'\n');
            bytes = &bytes[take + usize::from(ends)..];
            self.column = 0;
        }
        self.append(&lines)
    }

    /// Ends the last line.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.column > 0 { self.append(b"\n") } else { Ok(()) }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.full {
            return Ok(());
        }
        let fitting = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
        self.file.write_all(&bytes[..fitting])?;
        self.room -= fitting as u64;
        if fitting < bytes.len() {
            self.full = true;
            writeln!(self.file, "\n[the rest is not kept: the output of a run may be {} MiB long]", MAX_OUTPUT >> 20)?;
        }
        Ok(())
    }
}

/// Follows the output of a run while it grows, line by line.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    position: u64,
    begun: Vec<u8>,
}

impl Output {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, position: 0, begun: vec![] }
    }

    /// Leaves out what is there now: only what comes is read.
    ///
    /// # Errors
    ///
    /// When the output cannot be read.
    pub fn skip(&mut self) -> io::Result<()> {
        self.begun.clear();
        self.position = self.open()?.map_or(Ok(0), |file| file.metadata().map(|metadata| metadata.len()))?;
        Ok(())
    }

    /// The next lines that are complete, at most some 64 KiB of them; none when there are no more by now. What is not UTF-8 in them
    /// is replaced.
    ///
    /// # Errors
    ///
    /// When the output cannot be read.
    pub fn read_new_lines(&mut self) -> io::Result<Vec<String>> {
        while let Some(mut file) = self.open()? {
            file.seek(SeekFrom::Start(self.position))?;
            let read = file.take(CHUNK).read_to_end(&mut self.begun)?;
            self.position += read as u64;
            if let Some(end) = self.begun.iter().rposition(|byte| *byte == b'\n') {
                let rest = self.begun.split_off(end + 1);
                let lines = std::mem::replace(&mut self.begun, rest);
                return Ok(String::from_utf8_lossy(&lines).lines().map(str::to_owned).collect());
            }
            if read == 0 {
                break;
            }
        }
        Ok(vec![])
    }

    fn open(&self) -> io::Result<Option<File>> {
        match File::open(&self.path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(pieces: &[&[u8]]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output.log");
        let mut log = Log::create(&path).unwrap();
        for piece in pieces {
            log.write(piece).unwrap();
        }
        log.finish().unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn output_is_kept_as_it_is() {
        assert_eq!(kept(&[b"one\ntw", b"o\n\n", b"three\r\n\xff\0\n"]), b"one\ntwo\n\nthree\r\n\xff\0\n");
    }

    #[test]
    fn the_last_line_is_ended() {
        assert_eq!(kept(&[b"one"]), b"one\n");
        assert_eq!(kept(&[]), b"");
    }

    #[test]
    fn a_line_that_is_too_long_goes_on_in_the_next() {
        let long = [b'x'; MAX_LINE];
        assert_eq!(kept(&[&long, b"\n"]), [&long[..], b"\n"].concat());
        assert_eq!(kept(&[&long, b"y\n"]), [&long[..], b"\ny\n"].concat());
        assert_eq!(kept(&[&[&long[..], &long, b"\n"].concat()]), [&long[..], b"\n", &long, b"\n"].concat());
    }

    #[test]
    fn output_without_end_is_cut_with_a_notice() {
        let mebibyte = [&[b'x'; 1023][..], b"\n"].concat().repeat(1024);
        let output = kept(&vec![&mebibyte[..]; 18]);
        assert!(output.starts_with(&mebibyte));
        assert!(output.ends_with(b"x\n\n[the rest is not kept: the output of a run may be 16 MiB long]\n"));
        assert!((output.len() as u64) < MAX_OUTPUT + 100);
    }

    #[test]
    fn lines_are_read_when_they_are_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output.log");
        let mut output = Output::new(path.clone());
        assert_eq!(output.read_new_lines().unwrap(), [""; 0]);
        std::fs::write(&path, "one\ntwo\nthr").unwrap();
        assert_eq!(output.read_new_lines().unwrap(), ["one", "two"]);
        assert_eq!(output.read_new_lines().unwrap(), [""; 0]);
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(output.read_new_lines().unwrap(), ["three"]);
        let mut later = Output::new(path.clone());
        later.skip().unwrap();
        std::fs::write(&path, "one\ntwo\nthree\nfour\n").unwrap();
        assert_eq!(later.read_new_lines().unwrap(), ["four"]);
    }
}
