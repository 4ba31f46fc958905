//! Repositories on this machine.

use std::{
    fmt::Display,
    fs, io,
    path::{Path, PathBuf},
};

use git2::ErrorCode;

use super::refs::Found;
use crate::{CommitId, Reason, Retry, SourceError};

/// What a ref points at, by the ref's full name.
pub(super) fn find(path: &Path, name: &str) -> Result<Found, SourceError> {
    let repository = open(path)?;
    let found = repository.find_reference(name).and_then(|reference| {
        let tag = reference.peel_to_tag().ok().map(|tag| tag.id());
        Ok((reference.peel_to_commit()?.id(), tag))
    });
    match found {
        Ok((commit, None)) => Ok(Found { direct: Some(id(commit)), peeled: None }),
        Ok((commit, Some(tag))) => Ok(Found { direct: Some(id(tag)), peeled: Some(id(commit)) }),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(Found::default()),
        Err(error) => Err(unreadable(path, error.message())),
    }
}

pub(super) fn id(oid: git2::Oid) -> CommitId {
    let mut id = [0; 20];
    id.copy_from_slice(oid.as_bytes());
    CommitId::from_bytes(id)
}

/// What another repository needs to borrow this one's objects.
pub(super) struct Origin {
    /// The folder that holds them; for a linked work tree that of the main one.
    pub(super) objects: PathBuf,
    /// Which commits have parents that are not there: the content of the file, if there are any.
    pub(super) shallow: Option<String>,
}

impl Origin {
    pub(super) fn of(path: &Path) -> Result<Self, SourceError> {
        let folder = std::path::absolute(open(path)?.commondir()).map_err(|error| unreadable(path, error))?;
        let shallow = match fs::read_to_string(folder.join("shallow")) {
            Ok(shallow) => Some(shallow),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unreadable(path, error)),
        };
        Ok(Self { objects: folder.join("objects"), shallow })
    }
}

/// The repository whose top folder, or folder `.git`, this is; folders above are not looked at.
pub(super) fn open(path: &Path) -> Result<git2::Repository, SourceError> {
    git2::Repository::open(path).map_err(|error| match error.code() {
        ErrorCode::NotFound => {
            let message = format!("there is no repository at {}: name its top folder", path.display());
            SourceError::new(Reason::RepositoryNotFound, Retry::Backoff, message).caused_by(error)
        }
        ErrorCode::Owner => {
            let message = format!("{} belongs to another user: run as that user, or add it to safe.directory", path.display());
            SourceError::new(Reason::AuthenticationFailed, Retry::Backoff, message).caused_by(error)
        }
        _ => unreadable(path, error.message()),
    })
}

fn unreadable(path: &Path, why: impl Display) -> SourceError {
    let message = format!("the repository at {} cannot be read: {why}", path.display());
    SourceError::new(Reason::Unreachable, Retry::Backoff, message)
}
