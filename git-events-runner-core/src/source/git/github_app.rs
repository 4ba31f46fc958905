//! GitHub Apps: with its private key an App gets tokens, of which each opens the repositories of an installation for an hour.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD;
use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{
    Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue},
};
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use super::{Credentials, GitClient, RepoUri, Repository, Secret, client::lock, error, packet::printable, uri::Reach};
use crate::{Reason, Retry, SourceError};

/// The user that GitHub expects beside a token of an App.
const USER: &str = "x-access-token";

/// How long a token still has to open a repository for a check or a checkout of ours.
const LASTS: Duration = Duration::from_secs(5 * 60);

/// How long it has to for a Job, which may wait for a Pod, a node and an image first.
#[cfg(feature = "kube")]
const LASTS_FOR_A_JOB: Duration = Duration::from_secs(45 * 60);

/// How long one is waited for.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How long nobody asks again after none was given, at first and at most.
const SHORTEST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Before when and until when a signature is valid, in seconds: GitHub's clock may be behind, and takes ten minutes at most.
const BEFORE: i64 = 60;
const UNTIL: i64 = 9 * 60;

/// How far two clocks may differ, in seconds, before that is taken for the reason of a refusal.
const SKEW: u64 = 60;

/// The longest answer that is read, in bytes; one with a token has some kilobytes.
const MAX_ANSWER: usize = 256 * 1024;

/// For how many installations tokens are kept; some hundred bytes each.
const MAX_INSTALLATIONS: usize = 1000;

/// The tokens of installations, by a digest of all by which these differ.
#[derive(Default)]
pub(super) struct Apps(Mutex<HashMap<[u8; 32], Installation>>);

/// Whoever holds the lock asks for a token, and the others wait for that.
type Installation = Arc<AsyncMutex<State>>;

#[derive(Default)]
struct State {
    token: Option<Token>,
    failed: Option<Failed>,
}

struct Token {
    value: Secret,
    expires: Instant,
}

/// That no token was given, and when somebody may ask again.
struct Failed {
    error: SourceError,
    times: u32,
    not_before: Instant,
}

/// What an App says of itself, and where.
struct App<'a> {
    id: &'a str,
    installation: &'a str,
    private_key: &'a Secret,
    /// The address that gives tokens, as a repository that is reached in the same way.
    api: Repository,
}

impl Apps {
    fn installation(&self, key: [u8; 32]) -> Installation {
        let mut installations = lock(&self.0);
        // All at once: each costs one request to ask again.
        if installations.len() >= MAX_INSTALLATIONS {
            installations.clear();
        }
        Arc::clone(installations.entry(key).or_default())
    }

    fn forget(&self, key: &[u8; 32]) {
        lock(&self.0).remove(key);
    }
}

impl GitClient {
    /// The repository with credentials that its server takes as they are: of a GitHub App it is a token.
    pub(super) async fn let_in(&self, repository: &Repository) -> Result<Repository, SourceError> {
        let credentials = self.credentials(repository, LASTS).await?;
        Ok(Repository { credentials, ..repository.clone() })
    }

    /// The value of the header `Authorization` for a Job that is to check a repository of a GitHub App out.
    #[cfg(feature = "kube")]
    pub(crate) async fn authorization_for_a_job(&self, repository: &Repository) -> Result<String, SourceError> {
        Ok(self.credentials(repository, LASTS_FOR_A_JOB).await?.authorization().unwrap_or_default())
    }

    /// A server has refused the token that this repository had: the next one is a new one.
    pub(super) fn forget_token(&self, repository: &Repository) {
        if let Ok(Some(app)) = App::of(repository) {
            self.apps().forget(&app.digest());
        }
    }

    async fn credentials(&self, repository: &Repository, lasts: Duration) -> Result<Credentials, SourceError> {
        let Some(app) = App::of(repository)? else { return Ok(repository.credentials.clone()) };
        let installation = self.apps().installation(app.digest());
        let mut state = installation.lock().await;
        let now = Instant::now();
        let token = state.token.as_ref().filter(|token| now + lasts < token.expires);
        let token = match token {
            Some(token) => token.value.clone(),
            None => self.renew(&app, &mut state).await?,
        };
        Ok(Credentials::Basic { username: USER.into(), password: token })
    }

    /// Asks for a token, unless somebody has done so in vain a short time ago.
    async fn renew(&self, app: &App<'_>, state: &mut State) -> Result<Secret, SourceError> {
        let asked_at = Instant::now();
        if let Some(Failed { error, not_before, .. }) = &state.failed
            && asked_at < *not_before
        {
            return Err(SourceError::new(error.reason(), Retry::After(*not_before - asked_at), error.to_string()));
        }
        let answer = tokio::time::timeout(TIMEOUT, self.ask_for_token(app)).await;
        let answer = answer.unwrap_or_else(|_| Err(error::timeout(&app.api, TIMEOUT, "waiting for a token of the GitHub App")));
        match answer {
            Ok((value, lifetime)) => {
                *state = State { token: Some(Token { value: value.clone(), expires: asked_at + lifetime }), failed: None };
                Ok(value)
            }
            Err(error) => {
                let times = state.failed.as_ref().map_or(0, |failed| failed.times);
                let wait = SHORTEST_WAIT.saturating_mul(1 << times.min(6)).min(LONGEST_WAIT);
                let not_before = Instant::now() + error.retry().wait(wait);
                state.failed = Some(Failed { error: error.clone(), times: times + 1, not_before });
                Err(error)
            }
        }
    }

    /// A new token, and how long it opens the repositories.
    async fn ask_for_token(&self, app: &App<'_>) -> Result<(Secret, Duration), SourceError> {
        let Reach::Http(url) = app.api.uri.reach() else { return Err(app.no_token("it has no address", Reason::InvalidSpec)) };
        let now = Timestamp::now();
        let mut signed = HeaderValue::from_str(&format!("Bearer {}", app.sign(now)?)).map_err(|_| app.invalid("its id is none"))?;
        signed.set_sensitive(true);
        let request = self.pool(&app.api)?.post(url.clone()).header(AUTHORIZATION, signed);
        let request = request.header(ACCEPT, "application/vnd.github+json").header("X-GitHub-Api-Version", "2022-11-28");
        // Otherwise the token may do all that the App may.
        let needed = json!({ "permissions": { "contents": "read" } }).to_string();
        let request = request.header(CONTENT_TYPE, "application/json").body(needed);
        let mut response = request.send().await.map_err(|error| error::of_transport(&app.api, error))?;
        let body = read(&mut response).await.map_err(|error| error::of_transport(&app.api, error))?;
        if response.status() != StatusCode::CREATED {
            return Err(app.refused(response.status(), response.headers(), &body, now));
        }
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| app.no_token("its answer has none", Reason::ProtocolError))?;
        // By the server's own clock, where it tells the time: ours may be wrong.
        let since = date(response.headers()).unwrap_or(now);
        let lifetime = Duration::try_from(answer.expires_at.duration_since(since)).unwrap_or_default();
        Ok((answer.token.into(), lifetime))
    }
}

/// What GitHub answers; there is more of it.
#[derive(Deserialize)]
struct Answer {
    token: String,
    expires_at: Timestamp,
}

/// What it answers where there is no token.
#[derive(Default, Deserialize)]
struct Refusal {
    message: String,
}

impl<'a> App<'a> {
    /// The App that opens a repository; None if that is not how it is opened.
    fn of(repository: &'a Repository) -> Result<Option<Self>, SourceError> {
        let Credentials::GithubApp { app_id, installation_id, private_key } = &repository.credentials else { return Ok(None) };
        let invalid = |why: String| SourceError::new(Reason::InvalidSpec, Retry::Never, why);
        // What is wrong with any other way is told where the connection is made.
        let Reach::Http(url) = repository.uri.reach() else { return Ok(None) };
        if url.scheme() != "https" {
            let message = format!("{} is reached without encryption, which shows the tokens of a GitHub App: use https://", repository.uri);
            return Err(invalid(message));
        }
        let is_id = |id: &str| (1..=64).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
        if !is_id(app_id) || !installation_id.parse::<u64>().is_ok_and(|id| id > 0) {
            return Err(invalid(format!(
                "the GitHub App for {} is named by what is no id: appId and installationId in the Secret are numbers, such as 123456",
                repository.uri
            )));
        }
        let api = format!("{}/app/installations/{installation_id}/access_tokens", api(url));
        let uri = RepoUri::parse(&api).map_err(|error| invalid(error.to_string()))?;
        let api = Repository { uri, credentials: Credentials::None, ..repository.clone() };
        Ok(Some(Self { id: app_id, installation: installation_id, private_key, api }))
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::new_with_prefix(self.api.digest(self.id)).chain_update(self.private_key.expose()).finalize().into()
    }

    /// The App's word, signed by its key, that it is the App: a JSON Web Token.
    fn sign(&self, now: Timestamp) -> Result<String, SourceError> {
        let key = self.key()?;
        let now = now.as_second();
        let claims = json!({ "iat": now - BEFORE, "exp": now + UNTIL, "iss": self.id });
        let text =
            [json!({ "alg": "RS256", "typ": "JWT" }), claims].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes())).join(".");
        let mut signature = vec![0; key.public().modulus_len()];
        let signed = key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature);
        signed.map_err(|_| self.invalid("its private key cannot sign"))?;
        Ok(format!("{text}.{}", BASE64URL_NOPAD.encode(&signature)))
    }

    fn key(&self) -> Result<RsaKeyPair, SourceError> {
        const NONE: &str = "its private key is no RSA key as PEM: the Secret needs the file that GitHub gave when the key was made";
        let key = match PrivateKeyDer::from_pem_slice(self.private_key.expose().as_bytes()) {
            Ok(PrivateKeyDer::Pkcs1(key)) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            Ok(PrivateKeyDer::Pkcs8(key)) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            _ => return Err(self.invalid(NONE)),
        };
        key.map_err(|why| self.invalid(&format!("its private key cannot be used: {why}; it has to be of RSA with 2048 to 4096 bits")))
    }

    fn invalid(&self, why: &str) -> SourceError {
        SourceError::new(Reason::InvalidSpec, Retry::Never, format!("GitHub App {}: {why}", self.id))
    }

    fn no_token(&self, why: &str, reason: Reason) -> SourceError {
        SourceError::new(reason, Retry::Backoff, format!("no token of the GitHub App {} from {}: {why}", self.id, self.api.uri))
    }

    /// Why none is given.
    fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8], now: Timestamp) -> SourceError {
        let Refusal { message } = serde_json::from_slice(body).unwrap_or_default();
        let said: String = printable(message.as_bytes()).chars().take(200).collect();
        let apart = date(headers).map_or(0, |date| date.duration_since(now).unsigned_abs().as_secs());
        let usual = error::of_status(&self.api, status, headers, "");
        let why = match status.as_u16() {
            _ if usual.reason() == Reason::RateLimited => return usual,
            401 if apart > SKEW => format!("the clocks there and here are {apart} seconds apart: correct the one that is wrong ({said})"),
            401 => format!("it refuses the signature: check appId and the private key in the Secret ({said})"),
            403 if said.to_lowercase().contains("suspended") => {
                format!("installation {} is suspended: let its owner unsuspend it ({said})", self.installation)
            }
            403 => format!("it is forbidden: check what the App may do ({said})"),
            404 => format!(
                "there is no installation {} of it: check installationId in the Secret, and that it is installed",
                self.installation
            ),
            422 => format!(
                "installation {} does not let it read contents: give the App the permission Contents: read-only, and let the installation's \
                 owner accept that ({said})",
                self.installation
            ),
            _ => return usual,
        };
        self.no_token(&why, Reason::AuthenticationFailed)
    }
}

/// Where the API of the host of a repository is.
fn api(repository: &Url) -> String {
    let origin = repository.origin().ascii_serialization();
    match repository.host_str().unwrap_or_default() {
        "github.com" | "www.github.com" => "https://api.github.com".to_owned(),
        host if host.ends_with(".ghe.com") => format!("https://api.{host}"),
        _ => format!("{origin}/api/v3"),
    }
}

/// When an answer was made, by the clock of who made it.
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    Some(rfc2822::parse(headers.get(DATE)?.to_str().ok()?).ok()?.timestamp())
}

/// The body of an answer, as much as may be needed of it.
async fn read(response: &mut Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = vec![];
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            break;
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_that_of_the_host() {
        for (repository, expected) in [
            ("https://github.com/a/b.git", "https://api.github.com"),
            ("https://octo.ghe.com/a/b", "https://api.octo.ghe.com"),
            ("https://git.example.com/a/b", "https://git.example.com/api/v3"),
            ("https://git.example.com:8443/a/b", "https://git.example.com:8443/api/v3"),
            ("https://github.com.example.com/a/b", "https://github.com.example.com/api/v3"),
        ] {
            assert_eq!(api(&Url::parse(repository).unwrap()), expected);
        }
    }

    fn app(uri: &str, app_id: &str, installation_id: &str, private_key: &str) -> Repository {
        let credentials = Credentials::GithubApp {
            app_id: app_id.to_owned(),
            installation_id: installation_id.to_owned(),
            private_key: private_key.into(),
        };
        Repository { credentials, ..Repository::new(RepoUri::parse(uri).unwrap()) }
    }

    #[test]
    fn what_cannot_be_an_app_is_refused_before_anything_is_sent() {
        for (uri, app_id, installation, message) in [
            ("http://github.com/a/b", "1", "2", "use https://"),
            ("https://github.com/a/b", "", "2", "what is no id"),
            ("https://github.com/a/b", "1", "../2", "what is no id"),
            ("https://github.com/a/b", "1 2", "2", "what is no id"),
            ("https://github.com/a/b", "1", "0", "what is no id"),
        ] {
            let repository = app(uri, app_id, installation, "canary");
            let error = App::of(&repository).err().unwrap();
            assert_eq!((error.reason(), error.retry()), (Reason::InvalidSpec, Retry::Never));
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    #[test]
    fn what_is_no_rsa_key_is_told_without_showing_it() {
        let ed25519 = russh::keys::PrivateKey::random(&mut russh::keys::key::safe_rng(), russh::keys::Algorithm::Ed25519).unwrap();
        let openssh = ed25519.to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap().to_string();
        for (text, message) in [
            ("", "no RSA key as PEM"),
            ("canary", "no RSA key as PEM"),
            (openssh.as_str(), "no RSA key as PEM"),
            ("-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----", "cannot be used"),
            ("-----BEGIN RSA PRIVATE KEY-----\nY2FuYXJ5\n-----END RSA PRIVATE KEY-----", "cannot be used"),
        ] {
            let repository = app("https://github.com/a/b", "12", "34", text);
            let error = App::of(&repository).unwrap().unwrap().sign(Timestamp::UNIX_EPOCH).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(message) && shown.contains("GitHub App 12") && !shown.contains("canary"), "{shown}");
        }
    }
}
