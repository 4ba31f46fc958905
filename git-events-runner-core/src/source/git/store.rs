//! The repository within a checkout: it takes a pack, and its commit is written out as files.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use git2::{
    Config, ConfigLevel, ErrorClass, ErrorCode, IndexEntry, Indexer, ObjectType, Oid, RepositoryInitOptions, build::CheckoutBuilder,
};
use tokio::sync::mpsc;

use super::{Limits, Repository, error};
use crate::{CommitId, Reason, Reference, Retry, SourceError};

/// Pieces of a pack that wait to be written; a piece has 64 KiB at most.
const QUEUE: usize = 16;

/// How deep folders may nest: a path cannot be longer than 4096 bytes.
const MAX_DEPTH: usize = 2048;

/// Files that are written before the next look at whether anybody still waits for them.
const BATCH: usize = 500;

/// The setting that names the user's own file of attributes.
const ATTRIBUTES: &str = "core.attributesFile";

/// Whether nobody waits any more for what runs on a blocking thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancelled(Arc<AtomicBool>);

impl Cancelled {
    fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::Cancelled) } else { Ok(()) }
    }
}

/// Runs blocking work, which is told when nobody waits for it any more.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce(&Cancelled) -> T + Send + 'static) -> T {
    struct CancelOnDrop(Cancelled);
    impl Drop for CancelOnDrop {
        fn drop(&mut self) {
            self.0.0.store(true, Ordering::Relaxed);
        }
    }
    let cancelled = Cancelled::default();
    let _guard = CancelOnDrop(cancelled.clone());
    match tokio::task::spawn_blocking(move || work(&cancelled)).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Why a commit was not written.
#[derive(Debug)]
pub(super) enum Failure {
    Cancelled,
    /// The repository has no such commit.
    NotFound,
    /// What the limit is of, and how high it is.
    TooLarge(&'static str, u64),
    /// What came is no pack, or lacks something.
    Broken(git2::Error),
    /// It cannot be written.
    Write(String),
}

impl Failure {
    pub(super) fn into_error(self, repository: &Repository, commit: &CommitId, into: &Path) -> SourceError {
        let uri = &repository.uri;
        match self {
            Self::Cancelled => SourceError::new(Reason::Unreachable, Retry::Backoff, format!("the checkout of {uri} was cancelled")),
            Self::NotFound => SourceError::reference_not_found(&Reference::Commit(*commit), &uri.to_string()),
            Self::TooLarge(what, limit) => error::too_large(repository, what, limit),
            Self::Broken(cause) => {
                let message = format!("commit {commit} of {uri} cannot be read: {}", cause.message());
                SourceError::new(Reason::ProtocolError, Retry::Backoff, message).caused_by(cause)
            }
            Self::Write(why) => {
                let message = format!("commit {commit} of {uri} cannot be written to {}: {why}", into.display());
                SourceError::new(Reason::Unreachable, Retry::Backoff, message)
            }
        }
    }
}

fn unwritable(error: git2::Error) -> Failure {
    Failure::Write(error.message().to_owned())
}

fn io_failure(error: io::Error) -> Failure {
    Failure::Write(error.to_string())
}

/// The async end of a pack on its way to the disk. Dropped without [`PackSender::finish`], the pack is thrown away.
pub(super) struct PackSender(mpsc::Sender<Piece>);

pub(super) struct PackReceiver(mpsc::Receiver<Piece>);

enum Piece {
    Data(Vec<u8>),
    End,
}

pub(super) fn channel() -> (PackSender, PackReceiver) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (PackSender(sender), PackReceiver(receiver))
}

impl PackSender {
    /// Hands on a piece. False: the other end has given up, and says why itself.
    pub(super) async fn send(&mut self, piece: &[u8]) -> bool {
        self.0.send(Piece::Data(piece.to_vec())).await.is_ok()
    }

    /// Says that the pack is whole.
    pub(super) async fn finish(self) {
        // If the other end is gone, it says why itself.
        let _ = self.0.send(Piece::End).await;
    }
}

/// A repository in the folder `.git` of a checkout, for one commit.
pub(super) struct Store {
    git: git2::Repository,
    folder: PathBuf,
}

impl Store {
    /// Makes an empty one. On disk it is bare until [`Store::keep`], so that nothing depends on who owns `into`.
    pub(super) fn create(into: &Path) -> Result<Self, Failure> {
        let folder = into.join(".git");
        let options = &mut RepositoryInitOptions::new();
        options.bare(true).no_reinit(true).external_template(false).mkpath(false).mkdir(true);
        let git = git2::Repository::init_opts(&folder, options).map_err(unwritable)?;
        // Its own configuration and attributes only: what a commit is written as does not depend on whose machine this is.
        let mut config = Config::new().map_err(unwritable)?;
        config.add_file(&folder.join("config"), ConfigLevel::Local, true).map_err(unwritable)?;
        config.set_str(ATTRIBUTES, "/dev/null").map_err(unwritable)?;
        git.set_config(&config).map_err(unwritable)?;
        git.set_workdir(into, false).map_err(unwritable)?;
        Ok(Self { git, folder })
    }

    /// Takes objects from another repository on this machine, whose folder of objects this is.
    pub(super) fn borrow_objects(&self, objects: &Path) -> Result<(), Failure> {
        let text = objects.to_str().ok_or_else(|| Failure::Write("the path of the repository is not UTF-8".to_owned()))?;
        self.git.odb().and_then(|odb| odb.add_disk_alternate(text)).map_err(Failure::Broken)?;
        let file = self.folder.join("objects").join("info").join("alternates");
        file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&file, format!("{text}\n"))).map_err(io_failure)
    }

    /// Takes a pack, as it arrives.
    pub(super) fn receive(&self, mut pack: PackReceiver, cancelled: &Cancelled) -> Result<(), Failure> {
        let odb = self.git.odb().map_err(Failure::Broken)?;
        let mut indexer = Indexer::new(Some(&odb), &self.folder.join("objects").join("pack"), 0, false).map_err(unwritable)?;
        let flag = cancelled.clone();
        indexer.progress(move |_| flag.check().is_ok());
        loop {
            cancelled.check()?;
            match pack.0.blocking_recv() {
                Some(Piece::Data(piece)) => indexer.write_all(&piece).map_err(|_| of_indexer(git2::Error::last_error(-1)))?,
                Some(Piece::End) => break,
                None => return Err(Failure::Cancelled),
            }
        }
        indexer.commit().map_err(|error| cancelled.check().err().unwrap_or(Failure::Broken(error)))?;
        odb.refresh().map_err(Failure::Broken)
    }

    /// Writes the files of a commit, exactly as `git checkout` does where nothing is configured.
    pub(super) fn check_out(&self, commit: &CommitId, limits: &Limits, cancelled: &Cancelled) -> Result<(), Failure> {
        let tree = self.find(commit)?.tree().map_err(Failure::Broken)?;
        self.measure(tree.id(), limits, cancelled)?;
        // The index comes first: attributes are read from it, as Git does, whichever file is written before another.
        let mut index = self.git.index().map_err(Failure::Broken)?;
        index.read_tree(&tree).map_err(Failure::Broken)?;
        index.write().map_err(unwritable)?;
        // As Git does, and unlike libgit2 by itself, with the permissions that the umask leaves of these.
        for (executable, permissions) in [(false, 0o666), (true, 0o777)] {
            let of_this_kind = |entry: &IndexEntry| (entry.mode == 0o100_755) == executable;
            let paths: Vec<_> = index.iter().filter(of_this_kind).map(|entry| entry.path).collect();
            for batch in paths.chunks(BATCH) {
                cancelled.check()?;
                let mut options = CheckoutBuilder::new();
                options.force().dir_perm(0o777).file_perm(permissions).disable_pathspec_match(true).update_index(false).refresh(false);
                for path in batch {
                    options.path(path.as_slice());
                }
                self.git.checkout_index(Some(&mut index), Some(&mut options)).map_err(unwritable)?;
            }
        }
        Ok(())
    }

    fn find(&self, commit: &CommitId) -> Result<git2::Commit<'_>, Failure> {
        let found = Oid::from_bytes(commit.as_bytes()).and_then(|id| self.git.find_commit(id));
        found.map_err(|error| if error.code() == ErrorCode::NotFound { Failure::NotFound } else { Failure::Broken(error) })
    }

    /// Sees that a tree, whose few kilobytes may stand for billions of files, is not more than is accepted.
    fn measure(&self, tree: Oid, limits: &Limits, cancelled: &Cancelled) -> Result<(), Failure> {
        let odb = self.git.odb().map_err(Failure::Broken)?;
        let (mut count, mut bytes) = (0, 0_u64);
        let mut trees = vec![(tree, 0)];
        while let Some((id, depth)) = trees.pop() {
            cancelled.check()?;
            for entry in self.git.find_tree(id).map_err(Failure::Broken)?.iter() {
                count += 1;
                match entry.kind() {
                    Some(ObjectType::Tree) if depth == MAX_DEPTH => {
                        return Err(Failure::TooLarge("folders nested deeper", MAX_DEPTH as u64));
                    }
                    Some(ObjectType::Tree) => trees.push((entry.id(), depth + 1)),
                    Some(ObjectType::Blob) => {
                        bytes = bytes.saturating_add(odb.read_header(entry.id()).map_err(Failure::Broken)?.0 as u64);
                    }
                    // A submodule: an empty folder.
                    _ => {}
                }
                if count > limits.file_count {
                    return Err(Failure::TooLarge("more files in the commit", limits.file_count));
                }
                if bytes > limits.files {
                    return Err(Failure::TooLarge("more bytes of files", limits.files));
                }
            }
        }
        Ok(())
    }

    /// Leaves the folder `.git` as that of a shallow clone, with the commit checked out.
    pub(super) fn keep(self, commit: &CommitId, uri: &str) -> Result<(), Failure> {
        let found = self.find(commit)?;
        let odb = self.git.odb().map_err(Failure::Broken)?;
        if found.parent_ids().any(|parent| !odb.exists(parent)) {
            fs::write(self.folder.join("shallow"), format!("{commit}\n")).map_err(io_failure)?;
        }
        self.git.set_head_detached(found.id()).map_err(unwritable)?;
        self.git.remote("origin", uri).map_err(unwritable)?;
        let mut config = self.git.config().map_err(unwritable)?;
        config.set_bool("core.bare", false).and_then(|()| config.remove(ATTRIBUTES)).map_err(unwritable)
    }

    /// Leaves nothing but the files.
    pub(super) fn remove(self) -> Result<(), Failure> {
        drop(self.git);
        fs::remove_dir_all(&self.folder).map_err(io_failure)
    }
}

/// A full disk is told from a pack that is none.
fn of_indexer(error: git2::Error) -> Failure {
    if error.class() == ErrorClass::Os { unwritable(error) } else { Failure::Broken(error) }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn blocking_work_is_told_when_nobody_waits_for_it_any_more() {
        let (started, has_started) = tokio::sync::oneshot::channel();
        let (ended, has_ended) = channel();
        let work = blocking(move |cancelled| {
            started.send(()).unwrap();
            while cancelled.check().is_ok() {
                std::thread::yield_now();
            }
            ended.send(()).unwrap();
        });
        tokio::select! {
            () = work => panic!("it does not end by itself"),
            started = has_started => started.unwrap(),
        }
        has_ended.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
    }

    #[tokio::test]
    async fn a_panic_of_blocking_work_is_passed_on() {
        let task = tokio::spawn(blocking(|_| panic!("oh")));
        assert!(task.await.unwrap_err().is_panic());
    }

    #[test]
    fn a_cancelled_checkout_writes_nothing() {
        let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let git = git2::Repository::init_bare(from.path()).unwrap();
        let mut tree = git.treebuilder(None).unwrap();
        tree.insert("a", git.blob(b"1").unwrap(), 0o100_644).unwrap();
        let tree = git.find_tree(tree.write().unwrap()).unwrap();
        let who = git2::Signature::new("Tester", "tester@example.com", &git2::Time::new(0, 0)).unwrap();
        let commit = git.commit(None, &who, &who, "a commit", &tree, &[]).unwrap().to_string().parse().unwrap();

        let store = Store::create(into.path()).unwrap();
        store.borrow_objects(&from.path().join("objects")).unwrap();
        let cancelled = Cancelled(Arc::new(AtomicBool::new(true)));
        assert!(matches!(store.check_out(&commit, &Limits::default(), &cancelled), Err(Failure::Cancelled)));
        assert!(!into.path().join("a").exists());
        store.check_out(&commit, &Limits::default(), &Cancelled::default()).unwrap();
        assert_eq!(fs::read(into.path().join("a")).unwrap(), b"1");
    }

    #[test]
    fn a_pack_that_is_dropped_before_its_end_is_thrown_away() {
        let into = tempfile::tempdir().unwrap();
        let store = Store::create(into.path()).unwrap();
        let (sender, receiver) = super::channel();
        drop(sender);
        assert!(matches!(store.receive(receiver, &Cancelled::default()), Err(Failure::Cancelled)));
        assert_eq!(fs::read_dir(into.path().join(".git/objects/pack")).unwrap().count(), 0);
    }
}
