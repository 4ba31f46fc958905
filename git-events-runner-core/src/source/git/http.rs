//! `git-upload-pack` over http and https.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use reqwest::{
    Response, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION},
};

use super::{
    GitClient, Repository,
    advertisement::Advertisement,
    client::Remembered,
    error,
    fetch::{self, Fetched, Want},
    packet::{Packet, Packets, WireError},
    refs::{self, Found, Refs},
    store::PackSender,
};
use crate::{CommitId, Reason, Retry, SourceError};

/// How often a server may redirect within its own origin.
const MAX_REDIRECTS: usize = 5;

const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const RESULT: &str = "application/x-git-upload-pack-result";
const GIT_PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");

/// One check or one fetch, over as many requests as it takes.
pub(super) struct Exchange<'a> {
    repository: &'a Repository,
    client: &'a GitClient,
    pool: reqwest::Client,
    authorization: Option<HeaderValue>,
    url: &'a Url,
    /// What is being waited for, in words.
    phase: Mutex<&'static str>,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(repository: &'a Repository, url: &'a Url, client: &'a GitClient) -> Result<Self, SourceError> {
        let (pool, authorization) = (client.pool(repository)?, repository.credentials.header()?);
        Ok(Self { repository, client, pool, authorization, url, phase: Mutex::new("connecting") })
    }

    /// What is being waited for, in words.
    pub(super) fn phase(&self) -> &'static str {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, phase: &'static str) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// What a ref points at, by the ref's full name.
    pub(super) async fn find(&self, name: &str) -> Result<Found, SourceError> {
        if let Some(known) = self.client.remembered(self.repository) {
            match self.list(&known, name).await {
                // The server, or what it redirects to, may have changed: ask again from the beginning.
                Err(error) if matches!(error.reason(), Reason::ProtocolError | Reason::RepositoryNotFound) => {
                    self.client.forget(self.repository);
                }
                answer => return answer,
            }
        }
        let (known, advertisement) = self.discover(name).await?;
        if known.capabilities.version2 { self.list(&known, name).await } else { Ok(advertisement.found) }
    }

    /// How the server talks, and, where it sends all its refs at once, the one of this name.
    async fn discover(&self, name: &str) -> Result<(Remembered, Advertisement), SourceError> {
        let (base, response) = self.get_info().await?;
        self.enter("receiving its list of refs");
        let mut advertisement = Advertisement::new(name);
        self.read_refs(response, ADVERTISEMENT, |packet| advertisement.read(packet)).await?;
        if !advertisement.is_done() {
            return Err(error::cut_off(self.repository));
        }
        if advertisement.capabilities.other_objects {
            let message = format!("{} names its objects by SHA-256, which is not available here: only SHA-1 is", self.repository.uri);
            return Err(SourceError::new(Reason::InvalidSpec, Retry::Never, message));
        }
        let known = Remembered { base, capabilities: advertisement.capabilities.clone() };
        if known.capabilities.version2 {
            self.client.remember(self.repository, known.clone());
        }
        Ok((known, advertisement))
    }

    /// Asks a server of version 2 for one ref.
    async fn list(&self, known: &Remembered, name: &str) -> Result<Found, SourceError> {
        let response = self.post(known, refs::request(name, &known.capabilities)).await?;
        self.enter("receiving the ref");
        let mut refs = Refs::new(name);
        self.read_refs(response, RESULT, |packet| refs.read(packet)).await?;
        if refs.is_done() { Ok(refs.found) } else { Err(error::cut_off(self.repository)) }
    }

    /// Reads an answer that has refs, packet by packet, up to the limit.
    async fn read_refs(
        &self,
        mut response: Response,
        content_type: &str,
        mut read: impl FnMut(Packet<'_>) -> Result<(), WireError> + Send,
    ) -> Result<(), SourceError> {
        self.check_type(&response, content_type)?;
        let wire = |error| error::of_wire(self.repository, error, None);
        let limit = self.client.limits().refs;
        let (mut packets, mut received) = (Packets::default(), 0);
        while let Some(bytes) = self.chunk(&mut response).await? {
            received += bytes.len() as u64;
            if received > limit {
                return Err(error::too_large(self.repository, "more bytes of refs", limit));
            }
            packets.push(&bytes);
            while let Some(packet) = packets.next().map_err(wire)? {
                read(packet).map_err(wire)?;
            }
        }
        if packets.is_empty() { Ok(()) } else { Err(error::cut_off(self.repository)) }
    }

    /// Fetches a commit with its files, which was seen at the ref of this name; without its history, where the server can do so.
    pub(super) async fn fetch(&self, commit: &CommitId, name: &str, pack: PackSender) -> Result<(), SourceError> {
        let (known, found) = match self.client.remembered(self.repository) {
            Some(known) => (known, Found::default()),
            None => self.within_timeout(self.discover(name)).await.map(|(known, advertisement)| (known, advertisement.found))?,
        };
        let want = match found.direct {
            // A server that gives only what its refs point at: if that is another commit by now, this one is in its history.
            Some(tip) if !known.capabilities.any_commit() => Want { id: tip, history: found.commit() != Some(*commit) },
            _ => Want { id: *commit, history: false },
        };
        let fetched = self.fetch_from(&known, commit, &want, pack).await;
        if fetched.is_err() {
            // What is remembered of it may be out of date: the next try asks from the beginning.
            self.client.forget(self.repository);
        }
        fetched
    }

    async fn fetch_from(&self, known: &Remembered, commit: &CommitId, want: &Want, mut pack: PackSender) -> Result<(), SourceError> {
        if !known.capabilities.version2 && !known.capabilities.side_band {
            return Err(error::malformed(self.repository, "it is too old to send files in packets (side-band-64k)"));
        }
        let mut response = self.within_timeout(self.post(known, fetch::request(want, &known.capabilities))).await?;
        self.check_type(&response, RESULT)?;
        let wire = |error| error::of_wire(self.repository, error, Some(commit));
        self.enter("receiving its files");
        let (mut packets, mut fetched, mut received) = (Packets::default(), Fetched::new(&known.capabilities), 0);
        while let Some(bytes) = self.within_timeout(self.chunk(&mut response)).await? {
            received += bytes.len() as u64;
            if received > self.client.limits().pack {
                return Err(error::too_large(self.repository, "more bytes of files", self.client.limits().pack));
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
        if !fetched.is_done() || !packets.is_empty() {
            return Err(error::cut_off(self.repository));
        }
        pack.finish().await;
        Ok(())
    }

    /// Bounds one step of a checkout, so that a server that falls silent is not waited for until the end of all time.
    async fn within_timeout<T>(&self, step: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
        let limit = self.repository.timeout;
        tokio::time::timeout(limit, step).await.unwrap_or_else(|_| Err(error::timeout(self.repository, limit, self.phase())))
    }

    /// Gets `info/refs`, following redirects within the origin; with the answer comes the URL that they led to.
    async fn get_info(&self) -> Result<(Url, Response), SourceError> {
        let mut url = append(self.url, "info/refs");
        url.set_query(Some("service=git-upload-pack"));
        for _ in 0..=MAX_REDIRECTS {
            self.enter("waiting for its answer to the first request");
            let response = self.send(self.pool.get(url.clone())).await?;
            if response.status().is_redirection() {
                let location = location(&response);
                let within = |to: &Url| to.origin() == self.url.origin() && to.username().is_empty() && to.password().is_none();
                url = location.clone().filter(within).ok_or_else(|| error::redirected(self.repository, location.as_ref()))?;
                continue;
            }
            let response = self.check_status(response)?;
            self.check_type(&response, ADVERTISEMENT)?;
            let base = url.path().strip_suffix("/info/refs").map(str::to_owned);
            url.set_path(&base.ok_or_else(|| error::redirected(self.repository, Some(&url)))?);
            url.set_query(None);
            return Ok((url, response));
        }
        Err(error::malformed(self.repository, &format!("it redirects more than {MAX_REDIRECTS} times")))
    }

    async fn post(&self, known: &Remembered, body: Vec<u8>) -> Result<Response, SourceError> {
        self.enter("waiting for its answer");
        let request = self.pool.post(append(&known.base, "git-upload-pack"));
        let response = self.send(request.header(CONTENT_TYPE, "application/x-git-upload-pack-request").body(body)).await?;
        if response.status().is_redirection() {
            return Err(error::redirected(self.repository, location(&response).as_ref()));
        }
        self.check_status(response)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, SourceError> {
        let request = request.header(GIT_PROTOCOL, "version=2");
        let request = match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        };
        let again = request.try_clone();
        match (request.send().await, again) {
            // A connection that was kept may have been closed by the server at this very moment. All our requests only read.
            (Err(error), Some(again)) if error.is_request() && !error.is_connect() && !error.is_timeout() => again.send().await,
            (answer, _) => answer,
        }
        .map_err(|error| error::of_transport(self.repository, error))
    }

    fn check_status(&self, response: Response) -> Result<Response, SourceError> {
        let status = response.status();
        if status.as_u16() == 200 { Ok(response) } else { Err(error::of_status(self.repository, status, response.headers())) }
    }

    fn check_type(&self, response: &Response, expected: &str) -> Result<(), SourceError> {
        let actual = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if actual == expected { Ok(()) } else { Err(error::not_git(self.repository, actual)) }
    }

    async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, SourceError> {
        response.chunk().await.map_err(|error| error::of_transport(self.repository, error))
    }
}

/// Where a redirect leads to.
fn location(response: &Response) -> Option<Url> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    response.url().join(location).ok()
}

/// The URL of something beneath a repository.
fn append(base: &Url, name: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{name}", base.path().trim_end_matches('/')));
    url
}
