//! The folder that is written to.

use std::{fs, io, path::Path};

use git_events_runner_core::cloner::arguments;

use crate::exit::{Exit, Failure};

/// Makes the folder, or sees that it is empty.
pub fn prepare(destination: &Path, empty: bool) -> Result<(), Failure> {
    let failed =
        |path: &Path, what: &str, error: io::Error| Failure::new(Exit::Disk, format!("{} cannot be {what}: {error}", path.display()));
    fs::create_dir_all(destination).map_err(|error| failed(destination, "made", error))?;
    let folder = destination.canonicalize().map_err(|error| failed(destination, "read", error))?;
    if folder.parent().is_none() {
        return Err(Failure::usage(format!("--{}: the top of all folders is not for this", arguments::DESTINATION)));
    }
    let entries = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| failed(destination, "read", error))?;
    if !entries.is_empty() && !empty {
        let message = format!("{} is not empty: name another folder, or say --{}", destination.display(), arguments::EMPTY_DESTINATION);
        return Err(Failure::usage(message));
    }
    for entry in entries {
        let path = entry.path();
        // Of a symbolic link, the link itself.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| failed(&path, "removed", error))?;
    }
    Ok(())
}
