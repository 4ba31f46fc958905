//! Git repositories, over http, https, ssh and `git://`, and on this machine.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use crate::{Checkout, ObjectRef, Observation, Reason, Reference, Retry, Revision, Source, SourceError, Watch};

mod advertisement;
mod capabilities;
mod checkout;
mod client;
mod convert;
mod delta;
mod error;
mod exchange;
mod fetch;
mod files;
mod flights;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod github_app;
mod gitmodules;
mod hosts;
mod http;
mod listing;
mod local;
mod pack;
mod packet;
mod refs;
mod repository;
mod set_up;
mod ssh;
mod step;
mod store;
mod submodules;
mod tcp;
mod transport;
mod trees;
mod uri;
mod work_tree;

pub use client::{GitClient, Limits};
pub use repository::{Credentials, Proxy, Repository, Secret, Tls};
pub use set_up::set_up;
pub use step::Step;
#[cfg(feature = "kube")]
pub(crate) use uri::host_of_url;
pub use uri::{NotARepoUri, RepoUri};

use exchange::Exchange;
use flights::Departure;
use refs::Found;
use step::Listener;
use store::blocking;

/// A Git repository.
///
/// A check asks the server for one ref and nothing else, where the server can do so (protocol v2): two small requests, and one later on.
/// With patterns of files, a commit that has not been seen yet is fetched without its history and, where the server can leave them out, without
/// the contents of its files.
/// A checkout fetches the one commit. Both need a tokio runtime, and both end by themselves in the times that the
/// [`Repository`] sets.
#[derive(Clone, Debug)]
pub struct GitSource {
    id: ObjectRef,
    repository: Repository,
    client: GitClient,
    options: checkout::Options,
}

impl GitSource {
    /// A source of this name.
    pub fn new(id: ObjectRef, repository: Repository, client: GitClient) -> Self {
        Self { id, repository, client, options: checkout::Options::default() }
    }

    /// Whether checkouts keep their folder `.git`, as that of a shallow clone. That of a repository on this machine borrows its objects.
    #[must_use]
    pub fn keep_git_folder(mut self, keep: bool) -> Self {
        self.options.keep = keep;
        self
    }

    /// How many commits of the history a kept folder `.git` has; 0: all. By default it is the one. An old server may give more.
    #[must_use]
    pub fn depth(mut self, depth: u32) -> Self {
        self.options.depth = depth;
        self
    }

    /// Whether submodules are checked out as well. They get the credentials only if they are on the same server.
    #[must_use]
    pub fn submodules(mut self, submodules: bool) -> Self {
        self.options.submodules = submodules;
        self
    }

    /// Who is told how far a checkout is. It is called from within, and has to return at once.
    #[must_use]
    pub fn tell(mut self, listener: impl Fn(Step) + Send + Sync + 'static) -> Self {
        self.options.listener = Listener(Some(Arc::new(listener)));
        self
    }

    async fn find(&self, name: &str) -> Result<Found, SourceError> {
        let limit = self.repository.timeout;
        if let Some(path) = self.repository.uri.local_path() {
            let (path, name) = (path.to_owned(), name.to_owned());
            let found = tokio::time::timeout(limit, blocking(move |_| local::find(&path, &name))).await;
            return found.unwrap_or_else(|_| Err(error::timeout(&self.repository, limit, "reading it from disk")));
        }
        let check = |departure| ask(self.repository.clone(), self.client.clone(), name.to_owned(), departure);
        self.client.flights().join(self.repository.digest(name), check).await
    }
}

/// Asks a server what a ref points at, when it is the turn of this repository and of this host.
async fn ask(
    repository: Repository,
    client: GitClient,
    name: String,
    mut departure: Departure<Result<Found, SourceError>>,
) -> Result<Found, SourceError> {
    let deadline = Instant::now() + repository.timeout;
    let turn = async {
        departure.is_next().await;
        let let_in = client.let_in(&repository).await?;
        Ok((client.hosts().turn(&repository).await?, let_in))
    };
    let late = |phase| error::timeout(&repository, repository.timeout, phase);
    let turn = timeout_at(deadline, turn).await.unwrap_or_else(|_| Err(late("waiting for other checks of the same host")));
    let (turn, let_in) = turn?;
    let mut exchange = Exchange::new(&let_in, &client)?;
    departure.begin();
    let found = timeout_at(deadline, exchange.find(&name)).await;
    let found = found.unwrap_or_else(|_| Err(late(exchange.phase())));
    if let Some(turn) = turn {
        turn.end(&found);
    }
    if matches!(&found, Err(error) if error.reason() == Reason::AuthenticationFailed) {
        client.forget_token(&repository);
    }
    found
}

/// The full name of a branch or tag; None for a commit.
fn full_name(reference: &Reference) -> Result<Option<String>, SourceError> {
    let name = match reference {
        Reference::Branch(name) => format!("refs/heads/{name}"),
        Reference::Tag(name) => format!("refs/tags/{name}"),
        Reference::Commit(_) => return Ok(None),
    };
    // Names of Git have no spaces and no control characters, so that none can say more to a server than a name. Those of Unicode that are not of
    // ASCII would be taken by Git, and obeyed by terminals.
    if name.len() <= 1024 && git2::Reference::is_valid_name(&name) && !name.contains(char::is_control) {
        return Ok(Some(name));
    }
    let shown: String = reference.name().chars().filter(|c| !c.is_control()).take(64).collect();
    let message = format!("`{shown}` cannot be the name of a {}: correct `reference`", reference.kind());
    Err(SourceError::new(Reason::InvalidSpec, Retry::Never, message))
}

#[async_trait]
impl Source for GitSource {
    fn id(&self) -> &ObjectRef {
        &self.id
    }

    async fn observe(&self, watch: &Watch) -> Result<Observation, SourceError> {
        let deadline = Instant::now() + self.repository.timeout;
        let name = full_name(&watch.reference)?;
        let found = match (&watch.reference, &name) {
            (Reference::Commit(commit), _) => Found { direct: Some(*commit), peeled: None },
            (_, Some(name)) => self.find(name).await?,
            (_, None) => Found::default(),
        };
        let commit = found.commit();
        let commit = commit.ok_or_else(|| SourceError::reference_not_found(&watch.reference, &self.repository.uri.to_string()))?;
        let files = match watch.files.as_slice() {
            [] => None,
            patterns => {
                let name = name.as_deref().unwrap_or_default();
                Some(files::find(&self.repository, &self.client, commit, name, patterns, deadline).await?)
            }
        };
        Ok(Observation { commit, tag: found.tag(), files })
    }
}

#[async_trait]
impl Checkout for GitSource {
    async fn checkout(&self, revision: &Revision, into: &Path) -> Result<(), SourceError> {
        checkout::check_out(&self.repository, &self.client, &self.options, revision, into).await
    }
}
