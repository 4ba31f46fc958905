//! Reads manifests from files and folders.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use git_events_runner_core::validate::{MAX_FILE, Mistake, Mode, Reader, Reading};

/// Reads files, and the YAML files of folders, in order.
pub fn read(paths: &[PathBuf], mode: Mode) -> anyhow::Result<Reading> {
    let reader = Reader::new(mode);
    let mut reading = Reading::default();
    for path in paths {
        for file in files(path)? {
            let name = file.display().to_string();
            match text(&file) {
                Ok(text) => reading.extend(reader.read(&name, &text)),
                Err(error) => reading.mistakes.push(unreadable(name, &error)),
            }
        }
    }
    Ok(reading)
}

/// The files that a path stands for, in order.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let unreadable = || format!("cannot read {}", path.display());
    if !fs::metadata(path).with_context(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).with_context(unreadable)?.collect::<Result<Vec<_>, _>>().with_context(unreadable)?;
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).filter(|file| is_yaml(file)).collect();
    files.sort();
    Ok(files)
}

fn is_yaml(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") && !file.is_dir()
}

fn unreadable(file: String, error: &io::Error) -> Mistake {
    Mistake { file, line: 1, column: 1, object: None, field: String::new(), message: format!("cannot be read: {error}") }
}

fn text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    // One byte more than is accepted, so that a file that is too large is told from one that is just not.
    let most = MAX_FILE as u64 + 1;
    fs::File::open(file)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}
