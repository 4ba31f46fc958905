//! Writing the files of a commit into an empty folder, exactly as `git checkout` does where nothing is configured.
//!
//! Nothing that the commit has is opened or followed on the way: each folder and each file is made here, or it is an error. So no symbolic
//! link leads out of the folder, whatever the commit gives which name.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use git2::{Index, IndexEntry, IndexTime, Odb};

use super::{
    convert::Conversion,
    packet::printable,
    store::{Cancelled, Failure},
};

/// What a file begins with that Git LFS has put in the place of a large one.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";

const EXECUTABLE: u32 = 0o100_755;
const LINK: u32 = 0o120_000;
pub(super) const SUBMODULE: u32 = 0o160_000;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Files that only stand for those that Git LFS keeps elsewhere.
    pub(super) lfs_pointers: u64,
}

/// Writes all that an index has. The index learns what it looks like on disk, by which Git tells whether it was changed later.
pub(super) fn write(git: &git2::Repository, index: &mut Index, into: &Path, cancelled: &Cancelled) -> Result<Written, Failure> {
    let odb = git.odb().map_err(Failure::Broken)?;
    let has_attributes = index.iter().any(|entry| entry.path.ends_with(b".gitattributes"));
    let mut folders = Folders { into, current: vec![] };
    let mut written = Written::default();
    for position in 0..index.len() {
        cancelled.check()?;
        let Some(mut entry) = index.get(position) else { break };
        let path = folders.place(&entry.path)?;
        if entry.mode == SUBMODULE {
            fs::create_dir(&path).map_err(|error| failure(path, &entry.path, error))?;
            continue;
        }
        let conversion = match has_attributes && entry.mode != LINK {
            true => Conversion::of(git, Path::new(OsStr::from_bytes(&entry.path))).map_err(Failure::Broken)?,
            false => Conversion::default(),
        };
        write_entry(&odb, &entry, conversion, &path, &mut written)?;
        describe(&mut entry, &path).map_err(|error| Failure::Write(path, error))?;
        index.add(&entry).map_err(Failure::Broken)?;
    }
    Ok(written)
}

/// The folders of what is written, in the order of an index: all that is in one follows one another.
struct Folders<'a> {
    into: &'a Path,
    /// The folder of the last file, with a `/` at its end; empty for the top.
    current: Vec<u8>,
}

impl Folders<'_> {
    /// Where a file is written, whose folders are made unless the one before had them.
    fn place(&mut self, path: &[u8]) -> Result<PathBuf, Failure> {
        let in_top = |path: &[u8]| self.into.join(OsStr::from_bytes(path));
        let folder = &path[..path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1)];
        let common = folder.iter().zip(&self.current).take_while(|(one, other)| one == other).count();
        let common = folder[..common].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        for slash in (common..folder.len()).filter(|at| folder[*at] == b'/') {
            let new = in_top(&folder[..slash]);
            fs::create_dir(&new).map_err(|error| failure(new, &folder[..slash], error))?;
        }
        let place = in_top(path);
        self.current = folder.to_vec();
        Ok(place)
    }
}

fn write_entry(odb: &Odb<'_>, entry: &IndexEntry, conversion: Conversion, path: &Path, written: &mut Written) -> Result<(), Failure> {
    let blob = odb.read(entry.id).map_err(Failure::Broken)?;
    let converted = conversion.apply(blob.data(), entry.id);
    let content = converted.as_deref().unwrap_or(blob.data());
    if entry.mode == LINK && (content.is_empty() || content.contains(&0)) {
        return Err(Failure::Broken(git2::Error::from_str(&format!("its symbolic link {} leads nowhere", shown(&entry.path)))));
    }
    let done = match entry.mode {
        LINK => symlink(OsStr::from_bytes(content), path),
        mode => write_file(path, if mode == EXECUTABLE { 0o777 } else { 0o666 }, content),
    };
    done.map_err(|error| failure(path.to_owned(), &entry.path, error))?;
    written.files += 1;
    written.bytes += content.len() as u64;
    written.lfs_pointers += u64::from(content.starts_with(LFS_POINTER));
    Ok(())
}

/// Why something that the commit has under this name was not written.
fn failure(path: PathBuf, name: &[u8], error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::InvalidFilename {
        return Failure::Broken(git2::Error::from_str(&format!("its file {} cannot be here: {error}", shown(name))));
    }
    Failure::Write(path, error)
}

/// A name that may be long.
fn shown(name: &[u8]) -> String {
    printable(name).chars().take(100).collect()
}

/// Makes a file, with the permissions that the umask leaves of these.
fn write_file(path: &Path, permissions: u32, content: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(permissions).open(path)?.write_all(content)
}

/// What an index keeps of a file on disk; of each number as much as there is room for.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "Git itself compares the lower 32 bits")]
fn describe(entry: &mut IndexEntry, path: &Path) -> io::Result<()> {
    let on_disk = path.symlink_metadata()?;
    entry.ctime = IndexTime::new(on_disk.ctime() as i32, on_disk.ctime_nsec() as u32);
    entry.mtime = IndexTime::new(on_disk.mtime() as i32, on_disk.mtime_nsec() as u32);
    (entry.dev, entry.ino) = (on_disk.dev() as u32, on_disk.ino() as u32);
    (entry.uid, entry.gid) = (on_disk.uid(), on_disk.gid());
    entry.file_size = on_disk.size() as u32;
    Ok(())
}
