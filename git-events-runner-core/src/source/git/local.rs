//! Repositories on this machine.

use std::path::{Path, PathBuf};

use git2::ErrorCode;

use crate::{CommitId, Reason, Retry, SourceError};

/// The commit that a ref points at, by the ref's full name.
pub(super) fn find(path: &Path, name: &str) -> Result<Option<CommitId>, SourceError> {
    let found = match open(path)?.find_reference(name).and_then(|reference| reference.peel_to_commit()) {
        Ok(commit) => commit.id(),
        Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, error)),
    };
    let mut id = [0; 20];
    id.copy_from_slice(found.as_bytes());
    Ok(Some(CommitId::from_bytes(id)))
}

/// The folder that holds its objects; for a linked work tree that of the main one.
pub(super) fn objects(path: &Path) -> Result<PathBuf, SourceError> {
    let objects = open(path)?.commondir().join("objects");
    std::path::absolute(&objects).map_err(|error| {
        let message = format!("{} cannot be read: {error}", objects.display());
        SourceError::new(Reason::Unreachable, Retry::Backoff, message).caused_by(error)
    })
}

/// The repository whose top folder, or folder `.git`, this is; folders above are not looked at.
fn open(path: &Path) -> Result<git2::Repository, SourceError> {
    git2::Repository::open(path).map_err(|error| match error.code() {
        ErrorCode::NotFound => {
            let message = format!("there is no repository at {}: name its top folder", path.display());
            SourceError::new(Reason::RepositoryNotFound, Retry::Backoff, message).caused_by(error)
        }
        ErrorCode::Owner => {
            let message = format!("{} belongs to another user: run as that user, or add it to safe.directory", path.display());
            SourceError::new(Reason::AuthenticationFailed, Retry::Backoff, message).caused_by(error)
        }
        _ => unreadable(path, error),
    })
}

fn unreadable(path: &Path, error: git2::Error) -> SourceError {
    let message = format!("the repository at {} cannot be read: {}", path.display(), error.message());
    SourceError::new(Reason::Unreachable, Retry::Backoff, message).caused_by(error)
}
