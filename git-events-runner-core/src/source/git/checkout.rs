//! A checkout: of a commit, and of the submodules in it.

use std::path::{Path, PathBuf};

use futures_util::future::join;
use tokio::time::{Instant, timeout_at};

use super::{
    GitClient, Limits, Repository, Step, error,
    exchange::Exchange,
    fetch::Content,
    full_name, local,
    step::Listener,
    store::{self, Cancelled, Failure, Kept, Store, blocking},
    submodules::{ELSEWHERE, Nested, Submodule},
    work_tree::Written,
};
use crate::{CommitId, Reason, Revision, SourceError};

/// How a commit is checked out.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// The folder `.git` stays.
    pub(super) keep: bool,
    /// How many commits of the history it has; 0: all.
    pub(super) depth: u32,
    pub(super) submodules: bool,
    pub(super) listener: Listener,
}

impl Default for Options {
    fn default() -> Self {
        Self { keep: false, depth: 1, submodules: false, listener: Listener::default() }
    }
}

/// Writes a commit into an empty folder.
pub(super) async fn check_out(
    repository: &Repository,
    client: &GitClient,
    options: &Options,
    revision: &Revision,
    into: &Path,
) -> Result<(), SourceError> {
    let done = all_parts(repository, client, options, revision, into).await;
    // A server chooses the names of files, and the urls of submodules.
    done.map_err(|error| error::without_secrets(repository, error))
}

async fn all_parts(
    repository: &Repository,
    client: &GitClient,
    options: &Options,
    revision: &Revision,
    into: &Path,
) -> Result<(), SourceError> {
    let deadline = Instant::now() + repository.checkout_timeout;
    let name = full_name(&revision.reference)?.unwrap_or_default();
    let mut checkout = Checkout { top: repository, client, options, deadline, limits: client.limits().clone() };
    let (repository, into) = (repository.clone(), into.to_owned());
    let top = Part { repository, commit: revision.commit, name, into, path: String::new(), is_elsewhere: false };
    let mut nested = Nested::of(&top.repository);
    let mut found = checkout.part(&top).await?;
    nested.add(&top, found)?;
    while let Some(part) = nested.next() {
        found = checkout.part(&part).await.map_err(|error| part.explain(error))?;
        nested.add(&part, found)?;
    }
    Ok(())
}

/// The whole, or a submodule.
pub(super) struct Part {
    pub(super) repository: Repository,
    pub(super) commit: CommitId,
    /// The full name of the ref that it was seen at, if there is one.
    pub(super) name: String,
    pub(super) into: PathBuf,
    /// Where it is in the whole, to be shown; empty for the whole.
    pub(super) path: String,
    /// It is on another server than the whole, and gets no credentials.
    pub(super) is_elsewhere: bool,
}

impl Part {
    /// An error of a submodule says so.
    pub(super) fn explain(&self, error: SourceError) -> SourceError {
        let message = match self.path.as_str() {
            "" => return error,
            path if self.is_elsewhere && error.reason() == Reason::AuthenticationFailed => {
                format!("the submodule {path}: {} asks for credentials, {ELSEWHERE}", self.repository.uri)
            }
            path => format!("the submodule {path}: {error}"),
        };
        SourceError::new(error.reason(), error.retry(), message).caused_by(error)
    }
}

struct Checkout<'a> {
    top: &'a Repository,
    client: &'a GitClient,
    options: &'a Options,
    deadline: Instant,
    /// What is left of them.
    limits: Limits,
}

impl Checkout<'_> {
    /// Checks one part out, and finds its submodules.
    async fn part(&mut self, part: &Part) -> Result<Vec<Submodule>, SourceError> {
        let late = |phase| error::timeout(&part.repository, part.repository.checkout_timeout, phase);
        if let Some(from) = part.repository.uri.local_path() {
            let done = timeout_at(self.deadline, self.local(from.to_owned(), part)).await;
            return done.unwrap_or_else(|_| Err(late("copying its files")));
        }
        let let_in = timeout_at(self.deadline, self.client.let_in(&part.repository)).await;
        let let_in = let_in.unwrap_or_else(|_| Err(late("waiting for a token")))?;
        let mut exchange = Exchange::new(&let_in, self.client)?;
        let done = timeout_at(self.deadline, self.remote(&mut exchange, part)).await;
        done.unwrap_or_else(|_| Err(late(exchange.phase())))
    }

    async fn local(&mut self, from: PathBuf, part: &Part) -> Result<Vec<Submodule>, SourceError> {
        let origin = blocking(move |_| local::Origin::of(&from)).await?;
        let store = store(part, move |store, _| store.borrow_objects(&origin)).await?;
        self.write_files(store, part).await
    }

    async fn remote(&mut self, exchange: &mut Exchange<'_>, part: &Part) -> Result<Vec<Submodule>, SourceError> {
        let Options { keep, depth, listener, .. } = self.options;
        let [path, uri] = [&part.path, &part.repository.uri.to_string()].map(|text| self.top.redact(text));
        let commit = part.commit;
        listener.tell(Step::Fetch { submodule: Some(path).filter(|path| !path.is_empty()), uri, commit });
        let (sender, receiver) = store::channel();
        let sender = sender.counted(listener.clone());
        // What is not kept is not fetched.
        let content = Content::Files { depth: if *keep { *depth } else { 1 } };
        let received = store(part, move |store, cancelled| store.receive(receiver, cancelled));
        let (fetched, store) = join(exchange.fetch(&commit, &part.name, content, sender), received).await;
        // If both have failed, the end of the fetch is why the other was cancelled.
        fetched?;
        exchange.enter("writing its files");
        self.write_files(store?, part).await.map_err(|error| exchange.explain(error))
    }

    async fn write_files(&mut self, store: Store, part: &Part) -> Result<Vec<Submodule>, SourceError> {
        let Options { keep, submodules, listener, .. } = self.options.clone();
        let (limits, commit, uri) = (self.limits.clone(), part.commit, part.repository.uri.clone());
        listener.tell(Step::Write);
        let written = blocking(move |cancelled| {
            let written = store.check_out(&commit, &limits, cancelled)?;
            let found = if submodules { store.submodules(&uri)? } else { vec![] };
            if keep { store.keep(&Kept { commit: &commit, uri: &uri, submodules: &found }, cancelled) } else { store.remove() }
                .map(|()| (written, found))
        });
        let written = written.await.map_err(|failure| failure.into_error(&part.repository, &commit, &part.into));
        let (Written { files, bytes, lfs_pointers }, found) = written?;
        self.limits.files = self.limits.files.saturating_sub(bytes);
        self.limits.file_count = self.limits.file_count.saturating_sub(files);
        listener.tell(Step::Written { files, bytes, lfs_pointers });
        Ok(found)
    }
}

/// A store with objects that `fill` brings into it.
async fn store(part: &Part, fill: impl FnOnce(&Store, &Cancelled) -> Result<(), Failure> + Send + 'static) -> Result<Store, SourceError> {
    let folder = part.into.clone();
    let filled = blocking(move |cancelled| Store::create(&folder).and_then(|store| fill(&store, cancelled).map(|()| store))).await;
    filled.map_err(|failure| failure.into_error(&part.repository, &part.commit, &part.into))
}
