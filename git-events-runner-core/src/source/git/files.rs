//! What is known of the files of commits: each commit's trees are fetched once, whoever asks for them.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use data_encoding::HEXLOWER;
use futures_util::future::join;
use git2::{ErrorCode, ObjectType, Oid};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout_at};

use super::{
    GitClient, Limits, Repository,
    client::lock,
    error,
    exchange::Exchange,
    fetch::Content,
    flights::Flights,
    local,
    pack::{Budget, Objects, PackError, PackReader},
    store::{self, Cancelled, PackReceiver, blocking},
    trees::{self, Failure, Lookup},
};
use crate::{
    CommitId, FilesDigest, Reason, Reference, Retry, SourceError,
    patterns::{self, InvalidPatterns, Patterns},
};

/// Part of every digest: another way to make them makes other ones, which are not compared with these.
const VERSION: u8 = 1;

/// How many digests are remembered; some 200 bytes each.
const MAX_DIGESTS: usize = 20_000;

/// What git says of a filter that its configuration does not allow.
const NO_FILTER: &str = "filter 'blob:none' not supported";

/// The digests that have been made, and the trees that were fetched last.
#[derive(Default)]
pub(super) struct Files {
    digests: Mutex<HashMap<[u8; 32], FilesDigest>>,
    flights: Flights<[u8; 32], Result<Arc<Trees>, SourceError>>,
    recent: Mutex<VecDeque<([u8; 32], Arc<Trees>)>>,
    memory: Arc<AtomicU64>,
}

/// The commit, tags and trees that a fetch brought.
struct Trees {
    objects: Objects,
    charge: Charge,
}

/// Memory of what all fetches may take together; it is given back on drop.
struct Charge {
    memory: Arc<AtomicU64>,
    kept: u64,
    skipped: u64,
    limits: Limits,
}

impl Budget for Charge {
    fn keep(&mut self, bytes: u64) -> Result<(), PackError> {
        if self.kept + bytes > self.limits.trees {
            return Err(PackError::TooLarge("more bytes of folders in the commit", self.limits.trees));
        }
        if self.memory.fetch_add(bytes, Ordering::Relaxed) + bytes > self.limits.all_trees {
            self.memory.fetch_sub(bytes, Ordering::Relaxed);
            return Err(PackError::Busy);
        }
        self.kept += bytes;
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> Result<(), PackError> {
        self.skipped = self.skipped.saturating_add(bytes);
        if self.skipped > self.limits.files {
            return Err(PackError::TooLarge("more bytes of files", self.limits.files));
        }
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.fetch_sub(self.kept, Ordering::Relaxed);
    }
}

impl Lookup for Trees {
    fn object(&self, id: &CommitId) -> Result<(ObjectType, Cow<'_, [u8]>), Failure> {
        let object = self.objects.get(id).ok_or(Failure::NotFound)?;
        Ok((object.kind, Cow::Borrowed(&object.data)))
    }
}

impl Lookup for git2::Repository {
    fn object(&self, id: &CommitId) -> Result<(ObjectType, Cow<'_, [u8]>), Failure> {
        let object = Oid::from_bytes(id.as_bytes()).and_then(|id| {
            let odb = self.odb()?;
            let object = odb.read(id)?;
            Ok((object.kind(), Cow::Owned(object.data().to_vec())))
        });
        object.map_err(|error| match error.code() {
            ErrorCode::NotFound => Failure::NotFound,
            _ => Failure::Broken(error.message().to_owned()),
        })
    }
}

/// The files of a commit that match patterns; `name` is the full name of the ref at which it was seen, if it was.
pub(super) async fn find(
    repository: &Repository,
    client: &GitClient,
    commit: CommitId,
    name: &str,
    written: &[String],
    deadline: Instant,
) -> Result<FilesDigest, SourceError> {
    let (of_commit, of_patterns) = (repository.digest(&commit.to_string()), patterns::digest(written));
    let key = Sha256::new_with_prefix(of_commit).chain_update(of_patterns).finalize().into();
    if let Some(known) = lock(&client.files().digests).get(&key) {
        return Ok(known.clone());
    }
    let found = async {
        let written = written.to_owned();
        // Reading many patterns takes longer than comparing files with few.
        let patterns = blocking(move |_| Patterns::new(&written)).await.map_err(unusable)?;
        let max_count = client.limits().file_count;
        let found = match repository.uri.local_path() {
            Some(path) => {
                let path = path.to_owned();
                blocking(move |cancelled| read_local(&path, &commit, &patterns, max_count, cancelled)).await?
            }
            None => {
                let trees = trees_of(repository, client, commit, name, of_commit, deadline).await?;
                blocking(move |cancelled| trees::digest(&*trees, &commit, &patterns, max_count, cancelled)).await
            }
        };
        found.map_err(|failure| into_error(failure, repository, &commit))
    };
    let late = |_| Err(error::timeout(repository, repository.timeout, "comparing its files"));
    let found = timeout_at(deadline, found).await.unwrap_or_else(late)?;
    let of_patterns = Sha256::new_with_prefix([VERSION]).chain_update(of_patterns).finalize();
    let digest = FilesDigest { patterns: HEXLOWER.encode(&of_patterns), files: found.map(|found| HEXLOWER.encode(&found)) };
    let mut digests = lock(&client.files().digests);
    // All at once: each costs one fetch to make again.
    if digests.len() >= MAX_DIGESTS {
        digests.clear();
    }
    digests.insert(key, digest.clone());
    Ok(digest)
}

fn unusable(error: InvalidPatterns) -> SourceError {
    SourceError::new(Reason::InvalidSpec, Retry::Never, format!("`watchOn.files` cannot be used: {error}"))
}

type Found = Result<Option<[u8; 32]>, Failure>;

fn read_local(path: &Path, commit: &CommitId, patterns: &Patterns, max_count: u64, cancelled: &Cancelled) -> Result<Found, SourceError> {
    let repository = local::open(path)?;
    Ok(trees::digest(&repository, commit, patterns, max_count, cancelled))
}

/// The trees of a commit: kept ones, those that others are fetching, or else fetched now.
async fn trees_of(
    repository: &Repository,
    client: &GitClient,
    commit: CommitId,
    name: &str,
    key: [u8; 32],
    deadline: Instant,
) -> Result<Arc<Trees>, SourceError> {
    if let Some(trees) = client.files().recall(&key) {
        return Ok(trees);
    }
    let (of, by, name) = (repository.clone(), client.clone(), name.to_owned());
    // What a commit holds never changes, so that nobody comes too late to share an answer.
    let fetch = |_| async move {
        let trees = Arc::new(fetch(&of, &by, commit, &name, deadline).await?);
        by.files().remember(key, Arc::clone(&trees), by.limits().all_trees / 4);
        Ok(trees)
    };
    client.files().flights.join(key, fetch).await
}

impl Files {
    fn recall(&self, key: &[u8; 32]) -> Option<Arc<Trees>> {
        let mut recent = lock(&self.recent);
        let found = recent.iter().position(|(known, _)| known == key)?;
        let entry = recent.remove(found)?;
        let trees = Arc::clone(&entry.1);
        recent.push_back(entry);
        Some(trees)
    }

    /// Keeps trees for others who ask for them soon; the oldest give way.
    fn remember(&self, key: [u8; 32], trees: Arc<Trees>, limit: u64) {
        let mut recent = lock(&self.recent);
        recent.push_back((key, trees));
        let mut bytes: u64 = recent.iter().map(|(_, trees)| trees.charge.kept).sum();
        while bytes > limit {
            let Some((_, oldest)) = recent.pop_front() else { break };
            bytes -= oldest.charge.kept;
        }
    }
}

async fn fetch(repository: &Repository, client: &GitClient, commit: CommitId, name: &str, deadline: Instant) -> Result<Trees, SourceError> {
    let late = |phase| error::timeout(repository, repository.timeout, phase);
    let let_in = timeout_at(deadline, client.let_in(repository)).await;
    let let_in = let_in.unwrap_or_else(|_| Err(late("waiting for a token")))?;
    let turn = timeout_at(deadline, client.hosts().turn(repository)).await;
    let turn = turn.unwrap_or_else(|_| Err(late("waiting for other checks of the same host")))?;
    let fetch = async |content| {
        let mut exchange = Exchange::new(&let_in, client)?;
        let fetched = timeout_at(deadline, fetch_by(&mut exchange, repository, client, (&commit, name, content))).await;
        fetched.unwrap_or_else(|_| Err(late(exchange.phase())))
    };
    let trees = match fetch(Content::Trees).await {
        // A server may say that it can leave objects out, and then not leave out these.
        Err(error) if error.to_string().contains(NO_FILTER) => fetch(Content::Files { depth: 1 }).await,
        trees => trees,
    };
    if let Some(turn) = turn {
        turn.end(&trees);
    }
    trees
}

async fn fetch_by(
    exchange: &mut Exchange<'_>,
    repository: &Repository,
    client: &GitClient,
    (commit, name, content): (&CommitId, &str, Content),
) -> Result<Trees, SourceError> {
    let (sender, receiver) = store::channel();
    let charge = Charge { memory: Arc::clone(&client.files().memory), kept: 0, skipped: 0, limits: client.limits().clone() };
    let received = blocking(move |cancelled| receive(charge, receiver, cancelled));
    let (fetched, trees) = join(exchange.fetch(commit, name, content, sender), received).await;
    // If both have failed, the end of the fetch is why the other was cancelled.
    fetched?;
    trees.map_err(|failure| into_error(failure, repository, commit))
}

/// Takes a pack, as it arrives.
fn receive(charge: Charge, mut pack: PackReceiver, cancelled: &Cancelled) -> Result<Trees, Failure> {
    let mut reader = PackReader::new(charge);
    while let Some(piece) = pack.next(cancelled).map_err(|_| Failure::Cancelled)? {
        let mut rest = &*piece;
        while !rest.is_empty() {
            cancelled.check().map_err(|_| Failure::Cancelled)?;
            rest = reader.read(rest).map_err(of_pack)?;
        }
    }
    let (objects, charge) = reader.finish().map_err(of_pack)?;
    Ok(Trees { objects, charge })
}

fn of_pack(error: PackError) -> Failure {
    match error {
        PackError::Malformed(what) => Failure::Broken(what.to_owned()),
        PackError::TooLarge(what, limit) => Failure::TooLarge(what, limit),
        PackError::Busy => Failure::Busy,
    }
}

fn into_error(failure: Failure, repository: &Repository, commit: &CommitId) -> SourceError {
    let uri = &repository.uri;
    match failure {
        Failure::Cancelled => SourceError::new(Reason::Unreachable, Retry::Backoff, format!("the check of {uri} was cancelled")),
        Failure::NotFound => SourceError::reference_not_found(&Reference::Commit(*commit), &uri.to_string()),
        Failure::TooLarge(what, limit) => error::too_large(repository, what, limit),
        Failure::Broken(what) => {
            SourceError::new(Reason::ProtocolError, Retry::Backoff, format!("commit {commit} of {uri} cannot be read: {what}"))
        }
        Failure::Busy => {
            let message =
                format!("too many large repositories are compared at this moment to compare the files of {uri}: it is tried again");
            SourceError::new(Reason::Full, Retry::Backoff, message)
        }
    }
}
