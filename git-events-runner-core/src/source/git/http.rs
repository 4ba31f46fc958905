//! `git-upload-pack` over http and https.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::{
    Response, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION},
};
use tokio::time::timeout;

use super::{
    GitClient, Repository,
    capabilities::Capabilities,
    client::Remembered,
    error,
    packet::printable,
    transport::{Phase, Transport},
};
use crate::SourceError;

/// How often a server may redirect within its own origin.
const MAX_REDIRECTS: usize = 5;

/// How long what an error says is waited for, and how much of it is read.
const LONGEST_WORDS: Duration = Duration::from_millis(500);
const MAX_WORDS: usize = 64 * 1024;

const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const RESULT: &str = "application/x-git-upload-pack-result";
const GIT_PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");

/// The conversation over as many requests as it takes.
pub(super) struct Http<'a> {
    repository: &'a Repository,
    client: &'a GitClient,
    pool: reqwest::Client,
    authorization: Option<HeaderValue>,
    url: &'a Url,
    /// The URL that the repository's own redirects led to.
    base: Url,
    /// The answer that is being read.
    response: Option<Response>,
    phase: Phase,
}

impl<'a> Http<'a> {
    pub(super) fn new(repository: &'a Repository, url: &'a Url, client: &'a GitClient, phase: Phase) -> Result<Self, SourceError> {
        let (pool, authorization) = (client.pool(repository)?, repository.credentials.header()?);
        Ok(Self { repository, client, pool, authorization, url, base: url.clone(), response: None, phase })
    }

    /// Gets `info/refs`, following redirects within the origin; with the answer comes the URL that they led to.
    async fn get_info(&self) -> Result<(Url, Response), SourceError> {
        let mut url = append(self.url, "info/refs");
        url.set_query(Some("service=git-upload-pack"));
        for _ in 0..=MAX_REDIRECTS {
            self.phase.enter("waiting for its answer to the first request");
            let response = self.send(self.pool.get(url.clone())).await?;
            if response.status().is_redirection() {
                let location = location(&response);
                let within = |to: &Url| to.origin() == self.url.origin() && to.username().is_empty() && to.password().is_none();
                url = location.clone().filter(within).ok_or_else(|| error::redirected(self.repository, location.as_ref()))?;
                continue;
            }
            let response = self.check_status(response).await?;
            self.check_type(&response, ADVERTISEMENT)?;
            let base = url.path().strip_suffix("/info/refs").map(str::to_owned);
            url.set_path(&base.ok_or_else(|| error::redirected(self.repository, Some(&url)))?);
            url.set_query(None);
            return Ok((url, response));
        }
        Err(error::malformed(self.repository, &format!("it redirects more than {MAX_REDIRECTS} times")))
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

    async fn check_status(&self, mut response: Response) -> Result<Response, SourceError> {
        let status = response.status();
        if status.as_u16() == 200 {
            return Ok(response);
        }
        // The status counts, also of one that says no more.
        let said = timeout(LONGEST_WORDS, words(&mut response)).await.unwrap_or_default();
        Err(error::of_status(self.repository, status, response.headers(), &said))
    }

    fn check_type(&self, response: &Response, expected: &str) -> Result<(), SourceError> {
        let actual = content_type(response);
        if actual == expected { Ok(()) } else { Err(error::not_git(self.repository, &actual)) }
    }
}

#[async_trait]
impl Transport for Http<'_> {
    fn recall(&mut self) -> Option<Capabilities> {
        let Remembered { base, capabilities } = self.client.remembered(self.repository)?;
        self.base = base;
        Some(capabilities)
    }

    fn remember(&self, capabilities: &Capabilities) {
        self.client.remember(self.repository, Remembered { base: self.base.clone(), capabilities: capabilities.clone() });
    }

    fn leads_elsewhere(&self) -> bool {
        self.base != *self.url
    }

    fn forget(&mut self) {
        self.client.forget(self.repository);
    }

    async fn start(&mut self) -> Result<(), SourceError> {
        let (base, response) = self.get_info().await?;
        (self.base, self.response) = (base, Some(response));
        Ok(())
    }

    async fn ask(&mut self, request: Vec<u8>) -> Result<(), SourceError> {
        let request = self.pool.post(append(&self.base, "git-upload-pack")).body(request);
        let response = self.send(request.header(CONTENT_TYPE, "application/x-git-upload-pack-request")).await?;
        if response.status().is_redirection() {
            return Err(error::redirected(self.repository, location(&response).as_ref()));
        }
        let response = self.check_status(response).await?;
        self.check_type(&response, RESULT)?;
        self.response = Some(response);
        Ok(())
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        let Some(response) = &mut self.response else { return Ok(None) };
        response.chunk().await.map_err(|error| error::of_transport(self.repository, error))
    }

    /// Also reads the end of the answer, without which the connection could not be used again.
    async fn end_answer(&mut self) -> Result<(), SourceError> {
        match self.chunk().await? {
            Some(_) => Err(error::malformed(self.repository, "something follows the end of its answer")),
            None => Ok(()),
        }
    }
}

/// The type of an answer, without its parameters.
fn content_type(response: &Response) -> String {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// What an error says in its first line, or as the title of its page. None of it if there is more than is read: the rest of a secret could be cut
/// off, by which it is known.
async fn words(response: &mut Response) -> String {
    let is_page = match content_type(response).as_str() {
        "text/plain" => false,
        "text/html" => true,
        _ => return String::new(),
    };
    let mut body = vec![];
    loop {
        let text = String::from_utf8_lossy(&body);
        let rest = if is_page { text.split_once("<title>").map(|(_, rest)| rest) } else { Some(text.trim_start()) };
        if let Some((words, _)) = rest.and_then(|rest| rest.split_once(if is_page { "</title>" } else { "\n" })) {
            return printable(words.as_bytes());
        }
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_WORDS => body.extend_from_slice(&chunk),
            Ok(None) if !is_page => return printable(&body),
            _ => return String::new(),
        }
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
