//! `git-events-runner validate`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use git_events_runner_core::validate::Mode;

use crate::{args, manifest_files};

/// Prints every object that is sound, and after them all mistakes of all files.
pub fn run(args: args::Validate) -> anyhow::Result<ExitCode> {
    let args::Validate { files } = args;
    let reading = manifest_files::read(&files, Mode::Cluster)?;
    let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
    for document in reading.documents.iter().filter(|document| document.object.is_some()) {
        // The exit code tells as well, if nobody reads this.
        let _ = writeln!(stdout, "{}:{}: {}: ok", document.file, document.line, document.id);
    }
    for mistake in &reading.mistakes {
        let _ = writeln!(stderr, "{mistake}");
    }
    Ok(if reading.mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
