use std::{fmt, time::Duration};

use data_encoding::BASE64;
use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::RepoUri;
use crate::{Reason, Retry, SourceError};

/// A repository, and how to get at it.
///
/// It can be serialized, so that another process of ours can check it out; **what is written then holds the credentials.**
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Repository {
    /// Where it is.
    pub uri: RepoUri,
    /// What it is shown to be let in.
    #[serde(default)]
    pub credentials: Credentials,
    /// How its server is recognized.
    #[serde(default)]
    pub tls: Tls,
    /// What is between here and the server; http and https only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// How long one check may take, everything included, and for how long a checkout may receive nothing.
    pub timeout: Duration,
    /// How long a checkout may take, everything included.
    pub checkout_timeout: Duration,
}

impl Repository {
    /// A repository that needs no credentials, with the default times: a minute for a check, an hour for a checkout.
    pub fn new(uri: RepoUri) -> Self {
        let (timeout, checkout_timeout) = (Duration::from_secs(60), Duration::from_secs(3600));
        Self { uri, credentials: Credentials::None, tls: Tls::default(), proxy: None, timeout, checkout_timeout }
    }

    /// Has it trust more host keys, in the form of `known_hosts`, where it is reached by ssh.
    pub fn know_hosts(&mut self, more: &str) {
        if let Credentials::Ssh { known_hosts, .. } = &mut self.credentials
            && !more.is_empty()
        {
            let own = known_hosts.take().unwrap_or_default();
            *known_hosts = Some(format!("{own}\n{more}"));
        }
    }

    /// A text of the server, or of the proxy, without what it may repeat of the credentials for either.
    pub(super) fn redact(&self, text: &str) -> String {
        let text = self.credentials.redact(text);
        let Some((username, password)) = self.proxy.as_ref().and_then(|proxy| proxy.credentials.clone()) else { return text };
        Credentials::Basic { username, password }.redact(&text)
    }

    /// What tells checks of the same ref apart: everything by which an answer may differ, or the right to have it.
    pub(super) fn digest(&self, name: &str) -> [u8; 32] {
        let repository = serde_json::to_vec(self).expect("it is made of texts and numbers");
        Sha256::new_with_prefix(Sha256::digest(repository)).chain_update(name).finalize().into()
    }
}

/// What a server is shown to be let in. It is sent to the scheme, host and port of the repository's URI only.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Credentials {
    /// Nothing.
    #[default]
    None,
    /// A user and a password, over http or https.
    Basic {
        /// The user.
        username: Secret,
        /// The password, or a token that stands for one.
        password: Secret,
    },
    /// `Authorization: <the value as it is>`, over http or https.
    Token {
        /// The whole value of the header, such as `Bearer …`.
        token: Secret,
    },
    /// A GitHub App, over https: tokens are got with its key, and renewed before they expire.
    #[serde(rename_all = "camelCase")]
    GithubApp {
        /// The id of the App, or its client id.
        app_id: String,
        /// The id of the App's installation, which the repository has to be part of.
        installation_id: String,
        /// The App's private key, as PEM: RSA.
        private_key: Secret,
    },
    /// A key, over ssh.
    #[serde(rename_all = "camelCase")]
    Ssh {
        /// The private key, in OpenSSH's form or as PEM: Ed25519, ECDSA or RSA.
        private_key: Secret,
        /// What the private key is protected by, if it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        passphrase: Option<Secret>,
        /// The host keys that are trusted, in the form of OpenSSH's `known_hosts`. For a host of which it has none, those are that the large
        /// public hosts publish.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        known_hosts: Option<String>,
        /// Any host key is taken, so that anybody on the way can answer in the server's place.
        #[serde(default)]
        insecure_ignore_host_key: bool,
    },
}

impl Credentials {
    pub(super) fn are_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// What tells them apart.
    pub(super) fn digest(&self) -> [u8; 32] {
        Sha256::digest(serde_json::to_vec(self).expect("they are made of texts")).into()
    }

    /// The header that carries them.
    pub(super) fn header(&self) -> Result<Option<HeaderValue>, SourceError> {
        let Some(value) = self.authorization() else { return Ok(None) };
        let mut value = HeaderValue::from_str(&value).map_err(|_| {
            let message = "the token cannot be sent: it has characters that a header cannot have, such as line ends; correct the Secret";
            SourceError::new(Reason::InvalidSpec, Retry::Never, message)
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    pub(super) fn authorization(&self) -> Option<String> {
        match self {
            Self::None | Self::Ssh { .. } | Self::GithubApp { .. } => None,
            Self::Basic { username: Secret(username), password: Secret(password) } => {
                Some(format!("Basic {}", BASE64.encode(format!("{username}:{password}").as_bytes())))
            }
            Self::Token { token } => Some(token.0.clone()),
        }
    }

    /// A text of the server without what it may repeat of these credentials.
    fn redact(&self, text: &str) -> String {
        let header = self.authorization().unwrap_or_default();
        let password = match self {
            Self::Basic { password, .. } | Self::Ssh { passphrase: Some(password), .. } => password.0.as_str(),
            _ => "",
        };
        let secrets = [header.as_str(), header.split_once(' ').map_or("", |(_, value)| value), password];
        secrets.iter().filter(|secret| !secret.is_empty()).fold(text.to_owned(), |text, secret| without(&text, secret))
    }
}

/// A text without a secret in it, in whatever case: names of hosts, for one, are in small letters.
fn without(text: &str, secret: &str) -> String {
    let (mut rest, mut shown) = (0, String::new());
    for (at, found) in text.to_ascii_lowercase().match_indices(&secret.to_ascii_lowercase()) {
        shown.push_str(&text[rest..at]);
        shown.push('…');
        rest = at + found.len();
    }
    shown + &text[rest..]
}

/// How a server is recognized; https only.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Certificates, as PEM, that are trusted besides those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificates: Option<String>,
    /// Any certificate is accepted, so that anybody on the way can answer in the server's place.
    #[serde(default)]
    pub no_verify: bool,
}

/// What connections go through.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// Its address: `http://`, `https://` or `socks5://`, host, and port; with `socks5` it also looks up the name of the server.
    pub url: String,
    /// The user and the password that open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<(Secret, Secret)>,
}

/// A text that is never shown: its Debug is `…`. Line ends after it, which editors and `echo` leave, do not belong to it.
///
/// It can be serialized, and **what is written then is the secret itself.**
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(mut text: String) -> Self {
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Secret> for String {
    fn from(secret: Secret) -> Self {
        secret.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic() -> Credentials {
        Credentials::Basic { username: "me".into(), password: "canary\r\n".into() }
    }

    #[test]
    fn line_ends_after_a_secret_do_not_belong_to_it() {
        assert_eq!(basic().authorization().unwrap(), format!("Basic {}", BASE64.encode(b"me:canary")));
        assert_eq!(Secret::from(" a \n").expose(), " a ");
    }

    #[test]
    fn debug_shows_no_secret() {
        let mut repository = Repository::new(RepoUri::parse("https://example.com/a").unwrap());
        for credentials in [basic(), Credentials::Token { token: "Bearer canary".into() }] {
            repository.credentials = credentials;
            let shown = format!("{repository:?} {:?}", repository.credentials.header());
            assert!(!shown.contains("canary") && !shown.contains(&BASE64.encode(b"me:canary")), "{shown}");
        }
    }

    #[test]
    fn a_repository_is_read_back_with_its_secrets() {
        let mut repository = Repository::new(RepoUri::parse("https://example.com/a").unwrap());
        repository.credentials = basic();
        let read: Repository = serde_json::from_str(&serde_json::to_string(&repository).unwrap()).unwrap();
        assert_eq!(read.credentials.authorization(), repository.credentials.authorization());
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_an_error_without_it() {
        let error = Credentials::Token { token: "canary\nX-Other: 1".into() }.header().unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidSpec);
        assert!(!format!("{error:?}").contains("canary"));
    }

    #[test]
    fn what_a_server_repeats_of_the_credentials_is_taken_out() {
        let text = format!("no canary here: Basic {}", BASE64.encode(b"me:canary"));
        assert_eq!(basic().redact(&text), "no … here: …");
        assert_eq!(Credentials::Token { token: "Bearer canary".into() }.redact("canary?"), "…?");
        assert_eq!(Credentials::Token { token: "Bearer caNAry".into() }.redact("ä CANary canary ä"), "ä … … ä");
        assert_eq!(Credentials::None.redact("a"), "a");
        let mut repository = Repository::new(RepoUri::parse("https://example.com/a").unwrap());
        repository.proxy = Some(Proxy { url: "http://proxy".to_owned(), credentials: Some(("me".into(), "canary".into())) });
        assert_eq!(repository.redact(&text), "no … here: …", "those of a proxy are not shown either");
    }
}
