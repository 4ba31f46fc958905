//! Files that are there whole or not at all, whatever happens in between.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::Cause;

/// What a file is called until it is whole.
pub const TEMPORARY: &str = "tmp";

/// Creates or replaces a file, in one step, durably. A crash may leave a file that ends in [`TEMPORARY`].
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    let written = write_new(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| sync_folder_of(path))
}

/// Creates a file, in one step, durably. False, and nothing is done, when it is there: of any number of callers at most one creates it.
#[cfg(feature = "process")]
pub fn create(path: &Path, content: &[u8]) -> io::Result<bool> {
    let temporary = temporary(path);
    let linked = write_new(&temporary, content).and_then(|()| fs::hard_link(&temporary, path));
    let _ = fs::remove_file(&temporary);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        linked => linked.and_then(|()| sync_folder_of(path)).map(|()| true),
    }
}

/// A name beside this one that nobody else uses.
fn temporary(path: &Path) -> PathBuf {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    path.with_added_extension(format!("{}.{write}.{TEMPORARY}", std::process::id()))
}

/// Creates a file and waits until its content is on the disk; that of its folder is another matter.
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Waits until what was created, renamed or removed beside a file is on the disk.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_folder)
}

/// Waits until what was created, renamed or removed in a folder is on the disk.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// Creates a folder that only its owner may read, and those above it.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// The content of a file, None when there is no such file.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An exclusive lock, which also ends with the process.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Waits for the lock.
    #[cfg(feature = "process")]
    pub fn wait_for(path: &Path) -> io::Result<Self> {
        let file = open_lock(path)?;
        file.lock()?;
        Ok(Self(file))
    }

    /// The lock, or None when somebody else has it.
    #[cfg(feature = "file")]
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = open_lock(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Not left to the closing: a child that is just being started may have the file open for another moment.
        let _ = self.0.unlock();
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    File::options().create(true).write(true).truncate(false).open(path)
}

/// An error of a file, with which one and what was to be done with it.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be {done}: {error}", path = .path.display())]
pub struct FileError {
    path: PathBuf,
    done: &'static str,
    #[source]
    error: io::Error,
}

/// Says of an error which file it is about. `done` is such as `read` or `written`.
pub fn about<'a>(path: &'a Path, done: &'static str) -> impl FnOnce(io::Error) -> Cause + 'a {
    move |error| Box::new(FileError { path: path.to_owned(), done, error })
}

/// Runs what waits for the disk where it holds up nobody else.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Cause> + Send + 'static) -> Result<T, Cause> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|interrupted| Err(interrupted.into()))
}
