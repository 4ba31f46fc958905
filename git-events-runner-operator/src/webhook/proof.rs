//! How a request proves itself: by a token in a header, or by a signature of its body. Pure, but for the Secret that is asked for.

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use git_events_runner_core::{Reason, crd};
use jiff::Timestamp;
use ring::hmac;
use sha2::{Digest as _, Sha256};
use warp::http::{HeaderMap, HeaderName};

/// How far the clock of who signs may be from ours, in seconds: what Standard Webhooks recommends.
const CLOCKS_APART: i64 = 300;

/// What the signing tokens of Standard Webhooks begin with.
const SIGNING_TOKEN: &str = "whsec_";

/// How many signatures a request may have where it may have more than one: an old key's and a new one's.
const MAX_SIGNATURES: usize = 4;

const GITLAB_TOKEN: HeaderName = HeaderName::from_static("x-gitlab-token");
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// How a request proves itself.
pub enum Proof {
    /// It need not.
    None,
    /// By a header that holds the token.
    Token { header: HeaderName, token: Token },
    /// By a header that holds the HMAC-SHA256 of the body in hexadecimal digits, after this prefix. The first of these that is there counts.
    Signature { headers: Vec<HeaderName>, prefix: &'static str, key: hmac::Key },
    /// By an HMAC-SHA256 of id, timestamp and body, as the specification Standard Webhooks says.
    StandardWebhooks { key: hmac::Key },
}

/// Why a request does not prove itself. Neither message repeats anything of the request.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// There is no proof.
    #[error("{0}")]
    Missing(String),
    /// The proof is wrong.
    #[error("{0}")]
    Wrong(String),
}

/// Why a trigger cannot tell who asks.
#[derive(Debug, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct NoProof {
    pub reason: Reason,
    pub message: String,
}

impl NoProof {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// A token, as its digest: comparing two takes as long however much of them is equal.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    pub fn new(token: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(token).into())
    }
}

impl Proof {
    /// What a trigger asks for. `secret` answers the value of a key of a Secret of its namespace, or what is missing.
    pub async fn of<F: Future<Output = Result<String, NoProof>>>(
        webhook: &crd::Webhook,
        default_header: &str,
        secret: impl FnOnce(String, String) -> F,
    ) -> Result<Self, NoProof> {
        let Some(auth) = &webhook.auth_config else {
            let message = "set webhook.authConfig, or webhook.allowUnauthenticated if anybody may fire it";
            return if webhook.allow_unauthenticated { Ok(Self::None) } else { Err(NoProof::new(Reason::AuthenticationRequired, message)) };
        };
        let value = secret(auth.secret_ref.name.clone(), auth.key.clone()).await?;
        if value.is_empty() {
            let message = format!("webhook.authConfig: key `{}` of the Secret {} is empty", auth.key, auth.secret_ref.name);
            return Err(NoProof::new(Reason::SecretNotFound, message));
        }
        Self::by(auth, default_header, &value)
    }

    fn by(auth: &crd::WebhookAuth, default_header: &str, value: &str) -> Result<Self, NoProof> {
        let header = |default: &str| {
            let header = auth.header.as_deref().unwrap_or(default);
            HeaderName::try_from(header).map_err(|_malformed| {
                NoProof::new(Reason::InvalidSpec, format!("webhook.authConfig.header: `{header}` cannot be the name of a header"))
            })
        };
        let signature = |headers, prefix| Self::Signature { headers, prefix, key: key(value.as_bytes()) };
        Ok(match auth.auth_type {
            crd::WebhookAuthType::Header => Self::Token { header: header(default_header)?, token: Token::new(value) },
            crd::WebhookAuthType::Hmac => signature(vec![header("x-signature")?], "sha256="),
            crd::WebhookAuthType::Github => signature(vec![HeaderName::from_static("x-hub-signature-256")], "sha256="),
            crd::WebhookAuthType::Bitbucket => signature(vec![HeaderName::from_static("x-hub-signature")], "sha256="),
            crd::WebhookAuthType::Gitea => {
                // Gogs, which Gitea and Forgejo come from, knows its own name only.
                signature(vec![HeaderName::from_static("x-gitea-signature"), HeaderName::from_static("x-gogs-signature")], "")
            }
            crd::WebhookAuthType::Gitlab => match value.strip_prefix(SIGNING_TOKEN) {
                None => Self::Token { header: GITLAB_TOKEN, token: Token::new(value) },
                Some(encoded) => Self::StandardWebhooks { key: key(&signing_key(encoded, auth)?) },
            },
        })
    }

    /// Whether the body has a part in it.
    pub fn is_of_body(&self) -> bool {
        matches!(self, Self::Signature { .. } | Self::StandardWebhooks { .. })
    }

    /// Whether a request proves itself, by its headers and the raw bytes of its body. It takes as long, however much of the proof is right.
    pub fn check(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), Unproven> {
        match self {
            Self::None => Ok(()),
            Self::Token { header, token } => {
                let given = the_one(headers, header, "token")?;
                if Token::new(given) == *token { Ok(()) } else { Err(wrong("the token is wrong")) }
            }
            Self::Signature { headers: names, prefix, key } => {
                let name = names.iter().find(|name| headers.contains_key(*name)).unwrap_or(&names[0]);
                let given = the_one(headers, name, "signature")?;
                let digits = given.strip_prefix(prefix.as_bytes());
                let digits = digits.ok_or_else(|| wrong(format!("the signature in {name} does not begin with {prefix}")))?;
                let malformed = |_| wrong(format!("the signature in {name} is not 64 hexadecimal digits"));
                let signature = HEXLOWER_PERMISSIVE.decode(digits).map_err(malformed)?;
                hmac::verify(key, body, &signature)
                    .map_err(|_unequal| wrong("the signature is wrong: it is of another body, or by another key"))
            }
            Self::StandardWebhooks { key } => check_standard_webhooks(key, headers, body, now),
        }
    }
}

fn key(value: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, value)
}

fn signing_key(encoded: &str, auth: &crd::WebhookAuth) -> Result<Vec<u8>, NoProof> {
    let decoded = BASE64.decode(encoded.as_bytes()).ok().filter(|key| !key.is_empty());
    decoded.ok_or_else(|| {
        let message = format!(
            "webhook.authConfig: key `{}` of the Secret {} begins with {SIGNING_TOKEN} as a signing token does, and what follows is not Base64: copy it again",
            auth.key, auth.secret_ref.name
        );
        NoProof::new(Reason::InvalidSpec, message)
    })
}

fn check_standard_webhooks(key: &hmac::Key, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), Unproven> {
    let given = the_one(headers, &WEBHOOK_SIGNATURE, "signature")?;
    let id = the_one(headers, &WEBHOOK_ID, "id")?;
    let timestamp = the_one(headers, &WEBHOOK_TIMESTAMP, "timestamp")?;
    let mut signing = hmac::Context::with_key(key);
    for part in [id, b".", timestamp, b".", body] {
        signing.update(part);
    }
    let right = Token::new(signing.sign());
    // One is enough: while a key is replaced, there is one by the old and one by the new.
    let mut signatures = given.split(|byte| *byte == b' ').take(MAX_SIGNATURES).filter_map(|signature| signature.strip_prefix(b"v1,"));
    if !signatures.any(|signature| BASE64.decode(signature).is_ok_and(|signature| Token::new(signature) == right)) {
        return Err(wrong("the signature is wrong: it is of something else, or by another key"));
    }
    let sent = std::str::from_utf8(timestamp).ok().and_then(|seconds| seconds.parse::<i64>().ok());
    match sent {
        Some(sent) if sent.abs_diff(now.as_second()) <= CLOCKS_APART.unsigned_abs() => Ok(()),
        Some(_) => Err(wrong("the request was signed more than five minutes ago, or one of the clocks is wrong")),
        None => Err(wrong("the timestamp is no number of seconds")),
    }
}

/// The value of a header that is there once.
fn the_one<'a>(headers: &'a HeaderMap, name: &HeaderName, what: &str) -> Result<&'a [u8], Unproven> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(Unproven::Missing(format!("the header {name} with the {what} is missing"))),
        // It would be luck which of them somebody else has looked at.
        (Some(_), Some(_)) => Err(wrong(format!("the header {name} is there more than once"))),
        (Some(value), None) if value.is_empty() => Err(Unproven::Missing(format!("the header {name} is empty"))),
        (Some(value), None) => Ok(value.as_bytes()),
    }
}

fn wrong(message: impl Into<String>) -> Unproven {
    Unproven::Wrong(message.into())
}

#[cfg(test)]
mod tests;
