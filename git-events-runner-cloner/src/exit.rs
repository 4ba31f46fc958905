//! How it ends: exit codes, and the error in words.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use git_events_runner_core::{Reason, SourceError};

/// The exit codes, for `--help`.
pub const HELP: &str = "Exit codes:
    0  the commit is checked out
    1  unexpected
    2  an argument or a file with credentials is wrong or missing
    3  the server refuses the credentials, or asks for some
    4  there is no such repository or commit
    5  the server cannot be reached, is not able to answer, or breaks off
    6  the server was silent for too long
    7  the disk is full, or the folder cannot be written
    8  the server's certificate or host key is not trusted
    9  what the server sends is no commit that can be checked out
  130  SIGINT
  143  SIGTERM";

/// The most that Kubernetes keeps of a container's last words.
const MAX_MESSAGE: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Unexpected = 1,
    Usage = 2,
    Authentication = 3,
    NotFound = 4,
    Network = 5,
    Timeout = 6,
    Disk = 7,
    Untrusted = 8,
    Content = 9,
    Interrupted = 130,
    Terminated = 143,
}

/// Why it ends without the commit.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub fn unexpected(message: impl Into<String>) -> Self {
        Self::new(Exit::Unexpected, message)
    }

    /// Says why, where people look and where Kubernetes does.
    pub fn tell(&self, termination_log: &Path) -> ExitCode {
        // There may be nobody to tell.
        let _ = writeln!(std::io::stderr(), "git-events-runner-cloner: {}", self.message);
        write_last_words(termination_log, &self.message);
        ExitCode::from(self.exit as u8)
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::new(exit_of(error.reason()), error.to_string())
    }
}

fn exit_of(reason: Reason) -> Exit {
    match reason {
        Reason::InvalidSpec | Reason::SecretNotFound => Exit::Usage,
        Reason::AuthenticationFailed => Exit::Authentication,
        Reason::RepositoryNotFound | Reason::ReferenceNotFound => Exit::NotFound,
        Reason::Unreachable | Reason::RateLimited => Exit::Network,
        Reason::Timeout => Exit::Timeout,
        Reason::DiskFull | Reason::NotWritable => Exit::Disk,
        Reason::HostKeyMismatch | Reason::CertificateInvalid => Exit::Untrusted,
        Reason::ProtocolError | Reason::TooLarge => Exit::Content,
        _ => Exit::Unexpected,
    }
}

/// Answers a command line that asks for help, or is wrong.
pub fn of_command_line(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() {
        let message = error.to_string();
        let message = message.lines().next().unwrap_or_default();
        write_last_words(&PathBuf::from("/dev/termination-log"), message.trim_start_matches("error: "));
        return ExitCode::from(Exit::Usage as u8);
    }
    ExitCode::SUCCESS
}

/// Without Kubernetes there is no such file, and none is made.
fn write_last_words(termination_log: &Path, message: &str) {
    let end = message.floor_char_boundary(MAX_MESSAGE);
    if let Ok(mut file) = OpenOptions::new().write(true).truncate(true).open(termination_log) {
        let _ = file.write_all(&message.as_bytes()[..end]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOCS: &str = include_str!("../../docs/cloner.md");

    /// The numbers at the beginnings of lines.
    fn codes(text: &str, start: &str) -> BTreeSet<u8> {
        let codes = text.lines().filter_map(|line| line.strip_prefix(start));
        let codes = codes.map(|line| line.split([' ', '|']).map_while(|word| word.trim_end_matches(',').parse().ok()));
        codes.flatten().collect()
    }

    #[test]
    fn the_help_and_the_docs_tell_of_all_codes_and_of_no_others() {
        let all = [
            Exit::Unexpected,
            Exit::Usage,
            Exit::Authentication,
            Exit::NotFound,
            Exit::Network,
            Exit::Timeout,
            Exit::Disk,
            Exit::Untrusted,
            Exit::Content,
            Exit::Interrupted,
            Exit::Terminated,
        ];
        // Each reason that there is ends with one of them.
        assert!(Reason::ALL.iter().all(|reason| all.contains(&exit_of(*reason))));
        let all = all.iter().map(|exit| *exit as u8).chain([0]).collect();
        let help = HELP.lines().map(|line| format!("{}\n", line.trim_start())).collect::<String>();
        assert_eq!(codes(&help, ""), all);
        assert_eq!(codes(DOCS, "| "), all);
    }
}
