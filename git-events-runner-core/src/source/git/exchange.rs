//! One check or one fetch, over whatever reaches the server.

use super::{
    Credentials, GitClient, Repository,
    advertisement::{Advertisement, MAX_TIPS},
    capabilities::Capabilities,
    error,
    fetch::{self, Content, Fetched, Want},
    http::Http,
    packet::{Packet, Packets, WireError},
    refs::{self, Found, Refs},
    ssh::Ssh,
    store::PackSender,
    tcp::Tcp,
    transport::{Phase, Transport},
    uri::Reach,
};
use crate::{CommitId, Reason, Retry, SourceError};

/// One check or one fetch.
pub(super) struct Exchange<'a> {
    repository: &'a Repository,
    client: &'a GitClient,
    transport: Box<dyn Transport + 'a>,
    phase: Phase,
    /// The commit was looked for in the history of some refs only.
    has_more_tips: bool,
}

impl<'a> Exchange<'a> {
    /// Prepares it; nothing is sent yet.
    pub(super) fn new(repository: &'a Repository, client: &'a GitClient) -> Result<Self, SourceError> {
        if repository.proxy.is_some() && !matches!(repository.uri.reach(), Reach::Http(_)) {
            return Err(error::around_the_proxy(repository));
        }
        let phase = Phase::default();
        let transport: Box<dyn Transport + 'a> = match (repository.uri.reach(), &repository.credentials) {
            (Reach::Http(url), Credentials::None | Credentials::Basic { .. } | Credentials::Token { .. }) => {
                Box::new(Http::new(repository, url, client, phase.clone())?)
            }
            (Reach::Git(remote), Credentials::None) => Box::new(Tcp::new(repository, remote, phase.clone())),
            (Reach::Ssh(remote), Credentials::Ssh { .. }) => Box::new(Ssh::new(repository, remote, client, phase.clone())),
            (reach, _) => return Err(error::unfit_credentials(repository, &reach)),
        };
        Ok(Self { repository, client, transport, phase, has_more_tips: false })
    }

    /// What is being waited for, in words.
    pub(super) fn phase(&self) -> &'static str {
        self.phase.get()
    }

    pub(super) fn enter(&self, phase: &'static str) {
        self.phase.enter(phase);
    }

    /// What a ref points at, by the ref's full name.
    pub(super) async fn find(&mut self, name: &str) -> Result<Found, SourceError> {
        if let Some(capabilities) = self.transport.recall() {
            match self.list(&capabilities, name).await {
                // The server, or what it redirects to, may have changed: ask again from the beginning.
                Err(error) if error::may_be_another(&error, self.transport.leads_elsewhere()) => self.transport.forget(),
                answer => return answer,
            }
        }
        let Advertisement { capabilities, mut found, .. } = self.discover(name, None).await?;
        if capabilities.version2 {
            found = self.list(&capabilities, name).await?;
        }
        self.transport.close().await;
        Ok(found)
    }

    /// How the server talks, and, where it sends all its refs at once, what the one of this name points at, and which one stands for a commit.
    async fn discover(&mut self, name: &str, commit: Option<CommitId>) -> Result<Advertisement, SourceError> {
        self.transport.start().await?;
        self.enter("receiving its list of refs");
        let mut advertisement = Advertisement::new(name, commit);
        self.read_refs(|packet| advertisement.read(packet).map(|()| advertisement.is_done())).await?;
        if advertisement.capabilities.other_objects {
            let message = format!("{} names its objects by SHA-256, which is not available here: only SHA-1 is", self.repository.uri);
            return Err(SourceError::new(Reason::InvalidSpec, Retry::Never, message));
        }
        if advertisement.capabilities.version2 {
            self.transport.remember(&advertisement.capabilities);
        }
        Ok(advertisement)
    }

    /// Asks a server of version 2 for one ref.
    async fn list(&mut self, capabilities: &Capabilities, name: &str) -> Result<Found, SourceError> {
        self.enter("waiting for its answer");
        self.transport.ask(refs::request(name, capabilities)).await?;
        self.enter("receiving the ref");
        let mut refs = Refs::new(name);
        self.read_refs(|packet| refs.read(packet).map(|()| refs.is_done())).await?;
        Ok(refs.found)
    }

    /// Reads an answer that has refs, packet by packet, up to the limit, until `read` says that it is whole.
    async fn read_refs(&mut self, mut read: impl FnMut(Packet<'_>) -> Result<bool, WireError> + Send) -> Result<(), SourceError> {
        let repository = self.repository;
        let wire = |error| error::of_wire(repository, error, None);
        let limit = self.client.limits().refs;
        let (mut packets, mut received, mut is_whole) = (Packets::default(), 0, false);
        while !is_whole {
            let bytes = self.transport.chunk().await?.ok_or_else(|| error::cut_off(repository))?;
            received += bytes.len() as u64;
            if received > limit {
                return Err(error::too_large(repository, "more bytes of refs", limit));
            }
            packets.push(&bytes);
            while let Some(packet) = packets.next().map_err(wire)? {
                is_whole = read(packet).map_err(wire)?;
            }
        }
        self.end_answer(&packets).await
    }

    async fn end_answer(&mut self, packets: &Packets) -> Result<(), SourceError> {
        if !packets.is_empty() {
            return Err(error::malformed(self.repository, "something follows the end of its answer"));
        }
        self.transport.end_answer().await
    }

    /// Says of a commit that is not there if it may be where it was not looked for.
    pub(super) fn explain(&self, error: SourceError) -> SourceError {
        if !self.has_more_tips || error.reason() != Reason::ReferenceNotFound {
            return error;
        }
        let message =
            format!("{error}: only the first {MAX_TIPS} of its refs were looked through, and there are more: name the one that has it");
        SourceError::new(error.reason(), error.retry(), message)
    }

    /// Fetches a commit, which was seen at the ref of this name; without its history, where the server can do so.
    pub(super) async fn fetch(&mut self, commit: &CommitId, name: &str, content: Content, mut pack: PackSender) -> Result<(), SourceError> {
        let (capabilities, want) = match self.transport.recall() {
            // Of version 2: it gives any commit.
            Some(capabilities) => (capabilities, Want::exactly(*commit, content)),
            None => {
                let (repository, phase) = (self.repository, self.phase.clone());
                let advertisement = within_timeout(repository, &phase, self.discover(name, Some(*commit))).await?;
                let want = Want::of(*commit, content, &advertisement);
                self.has_more_tips = advertisement.has_more_tips && want.ids.len() > 1;
                (advertisement.capabilities, want)
            }
        };
        let fetched = match self.fetch_from(&capabilities, commit, &want, &mut pack).await {
            Err(refused) if error::is_at_no_ref(&refused) && !name.is_empty() => {
                self.fetch_by_ref(commit, name, content, &mut pack, refused).await
            }
            fetched => fetched,
        };
        match fetched {
            Ok(()) => pack.finish().await,
            // What is remembered of it may be out of date: the next try asks from the beginning.
            Err(_) => self.transport.forget(),
        }
        fetched
    }

    /// Fetches what a ref points at, and what came before it if that is not the commit, which was refused by itself.
    async fn fetch_by_ref(
        &mut self,
        commit: &CommitId,
        name: &str,
        content: Content,
        pack: &mut PackSender,
        refused: SourceError,
    ) -> Result<(), SourceError> {
        let (repository, phase) = (self.repository, self.phase.clone());
        let list = async {
            let capabilities = self.discover(name, None).await?.capabilities;
            Ok((self.list(&capabilities, name).await?, capabilities))
        };
        let (found, capabilities) = within_timeout(repository, &phase, list).await?;
        let tip = found.direct.ok_or(refused)?;
        let want = Want { ids: vec![tip], history: found.commit() != Some(*commit), content };
        self.fetch_from(&capabilities, commit, &want, pack).await
    }

    async fn fetch_from(
        &mut self,
        capabilities: &Capabilities,
        commit: &CommitId,
        want: &Want,
        pack: &mut PackSender,
    ) -> Result<(), SourceError> {
        let Self { repository, client, transport, phase, .. } = self;
        if !capabilities.version2 && !capabilities.side_band {
            return Err(error::malformed(repository, "it is too old to send files in packets (side-band-64k)"));
        }
        phase.enter("waiting for its answer");
        within_timeout(repository, phase, transport.ask(fetch::request(want, capabilities))).await?;
        let wire = |error| error::of_wire(repository, error, Some(commit));
        phase.enter("receiving its files");
        let limit = client.limits().pack;
        let (mut packets, mut fetched, mut received) = (Packets::default(), Fetched::new(capabilities), 0);
        while !fetched.is_done() {
            let bytes = within_timeout(repository, phase, transport.chunk()).await?.ok_or_else(|| error::cut_off(repository))?;
            received += bytes.len() as u64;
            if received > limit {
                return Err(error::too_large(repository, "more bytes of files", limit));
            }
            packets.push(&bytes);
            while let Some(packet) = packets.next().map_err(wire)? {
                let Some(piece) = fetched.read(packet).map_err(wire)? else { continue };
                if !pack.send(piece).await {
                    // The other end knows why it stopped.
                    return Ok(());
                }
            }
        }
        let (repository, phase) = (self.repository, self.phase.clone());
        within_timeout(repository, &phase, self.end_answer(&packets)).await?;
        self.transport.close().await;
        Ok(())
    }
}

/// Bounds one step of a checkout, so that a server that falls silent is not waited for until the end of all time.
async fn within_timeout<T>(
    repository: &Repository,
    phase: &Phase,
    step: impl Future<Output = Result<T, SourceError>> + Send,
) -> Result<T, SourceError> {
    let limit = repository.timeout;
    tokio::time::timeout(limit, step).await.unwrap_or_else(|_| Err(error::timeout(repository, limit, phase.get())))
}
