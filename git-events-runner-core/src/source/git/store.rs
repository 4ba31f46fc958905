//! The repository within a checkout: it takes a pack, and its commit is written out as files.

use std::{
    collections::HashSet,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use git2::{Config, ConfigLevel, ErrorClass, ErrorCode, Indexer, Oid, RepositoryInitOptions};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::{
    Limits, RepoUri, Repository, error, listing,
    local::Origin,
    step::{Listener, Step},
    submodules::{self, Submodule},
    work_tree::{self, Written},
};
use crate::{CommitId, Reason, Reference, Retry, SourceError};

/// Pieces of a pack that wait to be written; a piece has 64 KiB at most.
const QUEUE: usize = 16;

/// The file of the commits whose parents are not there.
const SHALLOW: &str = "shallow";

/// The setting that names the user's own file of attributes.
const ATTRIBUTES: &str = "core.attributesFile";

/// Whether nobody waits any more for what runs on a blocking thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancelled(Arc<AtomicBool>);

impl Cancelled {
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::Cancelled) } else { Ok(()) }
    }
}

#[cfg(test)]
impl Cancelled {
    pub(super) fn yes() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
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
    /// This cannot be written.
    Write(PathBuf, io::Error),
}

impl Failure {
    pub(super) fn into_error(self, repository: &Repository, commit: &CommitId, into: &Path) -> SourceError {
        let uri = &repository.uri;
        match self {
            Self::Cancelled => SourceError::new(Reason::Unreachable, Retry::Backoff, format!("the checkout of {uri} was cancelled")),
            Self::NotFound => SourceError::reference_not_found(&Reference::Commit(*commit), &uri.to_string()),
            Self::TooLarge(what, limit) => error::too_large(repository, what, limit),
            Self::Broken(cause) => {
                // libgit2 does not always say what is wrong.
                let why = if cause.message() == "no error" { "it is damaged" } else { cause.message() };
                let message = format!("commit {commit} of {uri} cannot be read: {why}");
                SourceError::new(Reason::ProtocolError, Retry::Backoff, message).caused_by(cause)
            }
            Self::Write(path, cause) => {
                use io::ErrorKind::{QuotaExceeded, StorageFull};
                let is_full = matches!(cause.kind(), StorageFull | QuotaExceeded);
                let (reason, what) =
                    if is_full { (Reason::DiskFull, "there is no room for it") } else { (Reason::NotWritable, "it cannot be written") };
                let message = format!("commit {commit} of {uri}, into {}: {what}: {}: {cause}", into.display(), path.display());
                SourceError::new(reason, Retry::Backoff, message).caused_by(cause)
            }
        }
    }
}

/// Why libgit2 cannot write something.
fn unwritable(path: &Path, error: git2::Error) -> Failure {
    // It tells the operating system's reason in words only.
    let reasons = [Errno::NOSPC, Errno::DQUOT, Errno::ACCESS, Errno::PERM, Errno::ROFS].map(io::Error::from);
    let says = |reason: &io::Error| reason.to_string().split(" (os error").next().is_some_and(|text| error.message().ends_with(text));
    Failure::Write(path.to_owned(), reasons.into_iter().find(says).unwrap_or_else(|| io::Error::other(error)))
}

/// The async end of a pack on its way to the disk. Dropped without [`PackSender::finish`], the pack is thrown away.
pub(super) struct PackSender {
    pieces: mpsc::Sender<Piece>,
    sent: u64,
    listener: Listener,
}

pub(super) struct PackReceiver(mpsc::Receiver<Piece>);

enum Piece {
    Data(Vec<u8>),
    End,
}

pub(super) fn channel() -> (PackSender, PackReceiver) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (PackSender { pieces: sender, sent: 0, listener: Listener::default() }, PackReceiver(receiver))
}

impl PackSender {
    /// Tells how much it has handed on.
    pub(super) fn counted(self, listener: Listener) -> Self {
        Self { listener, ..self }
    }

    /// Hands on a piece. False: the other end has given up, and says why itself.
    pub(super) async fn send(&mut self, piece: &[u8]) -> bool {
        self.sent += piece.len() as u64;
        self.listener.tell(Step::Received { bytes: self.sent });
        self.pieces.send(Piece::Data(piece.to_vec())).await.is_ok()
    }

    /// Says that the pack is whole.
    pub(super) async fn finish(self) {
        // If the other end is gone, it says why itself.
        let _ = self.pieces.send(Piece::End).await;
    }
}

impl PackReceiver {
    /// The next piece; None at the end of the pack.
    pub(super) fn next(&mut self, cancelled: &Cancelled) -> Result<Option<Vec<u8>>, Failure> {
        cancelled.check()?;
        match self.0.blocking_recv() {
            Some(Piece::Data(piece)) => Ok(Some(piece)),
            Some(Piece::End) => Ok(None),
            None => Err(Failure::Cancelled),
        }
    }
}

/// What a folder `.git` that is kept tells.
pub(super) struct Kept<'a> {
    pub(super) commit: &'a CommitId,
    pub(super) uri: &'a RepoUri,
    pub(super) submodules: &'a [Submodule],
}

/// A repository in the folder `.git` of a checkout, for one commit.
pub(super) struct Store {
    git: git2::Repository,
    folder: PathBuf,
    into: PathBuf,
}

impl Store {
    /// Makes an empty one. It is bare until [`Store::keep`], so that libgit2 looks at no file of the work tree.
    pub(super) fn create(into: &Path) -> Result<Self, Failure> {
        let folder = into.join(".git");
        fs::create_dir(&folder).map_err(|error| Failure::Write(folder.clone(), error))?;
        let unwritable = |error| unwritable(&folder, error);
        let options = &mut RepositoryInitOptions::new();
        options.bare(true).no_reinit(true).external_template(false).mkpath(false).mkdir(false);
        let git = git2::Repository::init_opts(&folder, options).map_err(unwritable)?;
        // Its own configuration and attributes only: what a commit is written as does not depend on whose machine this is.
        let mut config = Config::new().map_err(unwritable)?;
        config.add_file(&folder.join("config"), ConfigLevel::Local, true).map_err(unwritable)?;
        config.set_str(ATTRIBUTES, "/dev/null").map_err(unwritable)?;
        git.set_config(&config).map_err(unwritable)?;
        Ok(Self { git, folder, into: into.to_owned() })
    }

    /// Takes objects from another repository on this machine.
    pub(super) fn borrow_objects(&self, from: &Origin) -> Result<(), Failure> {
        let Origin { objects, shallow } = from;
        let not_utf8 = || Failure::Write(objects.clone(), io::Error::other("the path of the repository is not UTF-8"));
        let text = objects.to_str().ok_or_else(not_utf8)?;
        self.git.odb().and_then(|odb| odb.add_disk_alternate(text)).map_err(Failure::Broken)?;
        self.write("objects/info/alternates", &format!("{text}\n"))?;
        shallow.as_ref().map_or(Ok(()), |shallow| self.write(SHALLOW, shallow))
    }

    fn write(&self, name: &str, content: &str) -> Result<(), Failure> {
        let file = self.folder.join(name);
        fs::write(&file, content).map_err(|error| Failure::Write(file, error))
    }

    /// Takes a pack, as it arrives.
    pub(super) fn receive(&self, mut pack: PackReceiver, cancelled: &Cancelled) -> Result<(), Failure> {
        let odb = self.git.odb().map_err(Failure::Broken)?;
        let folder = self.folder.join("objects").join("pack");
        let failed = |error: git2::Error| if error.class() == ErrorClass::Os { unwritable(&folder, error) } else { Failure::Broken(error) };
        let mut indexer = Indexer::new(Some(&odb), &folder, 0, false).map_err(failed)?;
        let flag = cancelled.clone();
        indexer.progress(move |_| flag.check().is_ok());
        while let Some(piece) = pack.next(cancelled)? {
            indexer.write_all(&piece).map_err(|error| of_indexer(error, failed))?;
        }
        indexer.commit().map_err(|error| cancelled.check().err().unwrap_or_else(|| failed(error)))?;
        odb.refresh().map_err(Failure::Broken)
    }

    /// Writes the files of a commit.
    pub(super) fn check_out(&self, commit: &CommitId, limits: &Limits, cancelled: &Cancelled) -> Result<Written, Failure> {
        let tree = self.find(commit)?.tree().map_err(Failure::Broken)?;
        let mut index = self.git.index().map_err(Failure::Broken)?;
        listing::list(&self.git, tree.id(), &mut index, limits, cancelled)?;
        work_tree::write(&self.git, &mut index, &self.into, cancelled)
    }

    fn find(&self, commit: &CommitId) -> Result<git2::Commit<'_>, Failure> {
        let found = Oid::from_bytes(commit.as_bytes()).and_then(|id| self.git.find_commit(id));
        found.map_err(|error| if error.code() == ErrorCode::NotFound { Failure::NotFound } else { Failure::Broken(error) })
    }

    /// The submodules of the commit that was checked out.
    pub(super) fn submodules(&self, of: &RepoUri) -> Result<Vec<Submodule>, Failure> {
        submodules::find(&self.git, &self.git.index().map_err(Failure::Broken)?, of)
    }

    /// Leaves the folder `.git` as that of a clone, with the commit checked out.
    pub(super) fn keep(self, kept: &Kept<'_>, cancelled: &Cancelled) -> Result<(), Failure> {
        let unwritable = |error| unwritable(&self.folder, error);
        let id = self.find(kept.commit)?.id();
        if !self.folder.join(SHALLOW).exists() {
            let shallow: String = self.ends_of_history(id, cancelled)?.iter().map(|id| format!("{id}\n")).collect();
            if !shallow.is_empty() {
                self.write(SHALLOW, &shallow)?;
            }
        }
        self.git.index().and_then(|mut index| index.write()).map_err(unwritable)?;
        self.git.set_head_detached(id).map_err(unwritable)?;
        self.git.remote("origin", &kept.uri.to_string()).map_err(unwritable)?;
        let mut config = self.git.config().map_err(unwritable)?;
        for Submodule { name, url, .. } in kept.submodules {
            // As `git submodule init` does.
            config.set_bool(&format!("submodule.{name}.active"), true).map_err(unwritable)?;
            config.set_str(&format!("submodule.{name}.url"), url).map_err(unwritable)?;
        }
        config.set_bool("core.bare", false).and_then(|()| config.remove(ATTRIBUTES)).map_err(unwritable)
    }

    /// The commits of whose parents some are not there.
    fn ends_of_history(&self, from: Oid, cancelled: &Cancelled) -> Result<Vec<Oid>, Failure> {
        let odb = self.git.odb().map_err(Failure::Broken)?;
        let (mut seen, mut waiting, mut ends) = (HashSet::from([from]), vec![from], vec![]);
        while let Some(id) = waiting.pop() {
            cancelled.check()?;
            let (there, missing): (Vec<_>, Vec<_>) =
                self.git.find_commit(id).map_err(Failure::Broken)?.parent_ids().partition(|parent| odb.exists(*parent));
            if !missing.is_empty() {
                ends.push(id);
            }
            waiting.extend(there.into_iter().filter(|parent| seen.insert(*parent)));
        }
        Ok(ends)
    }

    /// Leaves nothing but the files.
    pub(super) fn remove(self) -> Result<(), Failure> {
        let Self { git, folder, .. } = self;
        drop(git);
        fs::remove_dir_all(&folder).map_err(|error| Failure::Write(folder, error))
    }
}

/// What the indexer thinks of a pack, which it says by way of an error of I/O.
fn of_indexer(error: io::Error, failed: impl Fn(git2::Error) -> Failure) -> Failure {
    match error.downcast::<git2::Error>() {
        Ok(error) => failed(error),
        Err(error) => Failure::Broken(git2::Error::from_str(&error.to_string())),
    }
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
        store.borrow_objects(&Origin { objects: from.path().join("objects"), shallow: None }).unwrap();
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
