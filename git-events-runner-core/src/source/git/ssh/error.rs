//! Errors of ssh in words: what, where and what to do, without a secret.

use russh::{
    AlgorithmKind, Error,
    keys::{HashAlg, PrivateKey, PublicKeyOrCertificate},
};

use super::known_hosts::{Distrust, Known};
use crate::{
    Reason, Retry, SourceError,
    source::git::{Repository, error as common, packet},
};

/// How much of a server's own words is shown, in characters.
const MAX_WORDS: usize = 200;

/// A public key as it is shown: its kind and fingerprint.
pub(super) struct Shown(String);

impl Shown {
    pub(super) fn of(key: &PrivateKey) -> Self {
        Self(format!("{} {}", key.algorithm().as_str(), key.fingerprint(HashAlg::Sha256)))
    }
}

/// The private key cannot be used; `why` is the rest of the sentence.
pub(super) fn unusable_key(repository: &Repository, why: &str) -> SourceError {
    SourceError::new(Reason::InvalidSpec, Retry::Never, format!("the private key for {} {why}", repository.uri))
}

/// The host is not the one that is known.
pub(super) fn host_key(repository: &Repository, why: &Distrust, presented: &PublicKeyOrCertificate, known: &Known) -> SourceError {
    let (uri, key) = (&repository.uri, presented.public_key());
    let (kind, fingerprint) = (key.algorithm(), key.fingerprint(HashAlg::Sha256));
    let message = match why {
        Distrust::Unknown => {
            let unreadable: Vec<_> = known.unreadable.iter().map(|line| format!("line {line}")).collect();
            let unreadable = match unreadable.as_slice() {
                [] => String::new(),
                lines => format!(", of which {} cannot be read,", lines.join(", ")),
            };
            let line = key.to_openssh().unwrap_or_default();
            format!(
                "the host key of {uri} is not known: if {fingerprint} is its fingerprint, add to `known_hosts` in the Secret{unreadable} the \
                 line: {} {}",
                known.name,
                line.trim_end()
            )
        }
        Distrust::OtherKey => {
            let others: Vec<_> =
                known.keys.iter().map(|key| format!("{} {}", key.algorithm().as_str(), key.fingerprint(HashAlg::Sha256))).collect();
            format!(
                "the host key of {uri} is {} {fingerprint} and not {}, as is known: somebody may answer in its place; if it has a new key, \
                 correct `known_hosts` in the Secret",
                kind.as_str(),
                others.join(" or ")
            )
        }
        Distrust::Revoked => format!("the host key of {uri}, {} {fingerprint}, is revoked in `known_hosts`", kind.as_str()),
        Distrust::Certificate(what) => {
            format!(
                "the certificate of {uri} for its host key {fingerprint} {what}: check `@cert-authority` in `known_hosts`, or have another made"
            )
        }
    };
    SourceError::new(Reason::HostKeyMismatch, Retry::Backoff, message)
}

/// No connection comes up.
pub(super) fn of_handshake(repository: &Repository, cause: Error) -> SourceError {
    let uri = &repository.uri;
    match cause {
        Error::IO(_) | Error::Disconnect | Error::HUP => broken(repository, None, cause),
        Error::Version => common::malformed(repository, "it does not greet as one of ssh"),
        Error::NoCommonAlgo { kind, theirs, .. } => {
            let what = match kind {
                AlgorithmKind::Kex => "way to exchange keys",
                AlgorithmKind::Key => "kind of host key",
                AlgorithmKind::Cipher => "cipher",
                AlgorithmKind::Mac => "checksum",
                AlgorithmKind::Compression => "compression",
            };
            let theirs: String = packet::printable(theirs.join(", ").as_bytes()).chars().take(MAX_WORDS).collect();
            let message = format!("{uri} offers no {what} that is safe enough, only {theirs}: it needs a newer ssh server");
            SourceError::new(Reason::ProtocolError, Retry::Backoff, message)
        }
        Error::WrongServerSig => {
            let message = format!("{uri} cannot prove that its host key is its own: somebody may answer in its place");
            SourceError::new(Reason::HostKeyMismatch, Retry::Backoff, message)
        }
        cause => {
            let message = format!("no ssh connection to {uri}: {}", in_words(&cause));
            SourceError::new(Reason::ProtocolError, Retry::Backoff, message).caused_by(cause)
        }
    }
}

/// An error of the protocol as a fragment of a sentence.
pub(super) fn in_words(cause: &Error) -> String {
    match cause {
        Error::Disconnect | Error::HUP | Error::SendError | Error::RecvError => "it has closed it".to_owned(),
        other => packet::printable(other.to_string().to_lowercase().as_bytes()).chars().take(MAX_WORDS).collect(),
    }
}

/// The connection ended in the middle.
pub(super) fn broken(repository: &Repository, why: Option<String>, cause: Error) -> SourceError {
    let why: String = why.unwrap_or_else(|| in_words(&cause)).chars().take(MAX_WORDS).collect();
    let message = format!("the connection to {} broke off: {why}", repository.uri);
    SourceError::new(Reason::Unreachable, Retry::Backoff, message).caused_by(cause)
}

/// The server does not take the key; `why` is what it said when it hung up.
pub(super) fn refused(repository: &Repository, user: &str, key: &Shown, why: Option<String>) -> SourceError {
    let why: String = why.map(|why| format!(" ({why})")).unwrap_or_default().chars().take(MAX_WORDS).collect();
    let message =
        format!("{} refuses the key {} for the user {user}{why}: add its public key there, or correct the Secret", repository.uri, key.0);
    SourceError::new(Reason::AuthenticationFailed, Retry::Backoff, message)
}

/// The server takes the key, and wants a password besides.
pub(super) fn more_wanted(repository: &Repository) -> SourceError {
    let message = format!("{} asks for more than a key, which cannot be given: let it be content with the key", repository.uri);
    SourceError::new(Reason::AuthenticationFailed, Retry::Backoff, message)
}

/// The server takes RSA with SHA-1 only.
pub(super) fn rsa_with_sha1_only(repository: &Repository) -> SourceError {
    let message = format!("{} takes RSA keys with SHA-1 only, which is not safe any more: use a key of Ed25519 or ECDSA", repository.uri);
    SourceError::new(Reason::AuthenticationFailed, Retry::Backoff, message)
}

/// The server lets nobody run a command.
pub(super) fn no_command(repository: &Repository, why: Option<String>, cause: Error) -> SourceError {
    match cause {
        Error::ChannelOpenFailure(_) => command_refused(repository),
        cause => broken(repository, why, cause),
    }
}

/// The server does not run the command.
pub(super) fn command_refused(repository: &Repository) -> SourceError {
    let message = format!("{} lets the key in and does not run git-upload-pack: check what its account may do", repository.uri);
    SourceError::new(Reason::ProtocolError, Retry::Backoff, message)
}
