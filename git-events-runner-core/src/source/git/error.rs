//! Errors in words: what, where and what to do, without a secret.

use std::{error::Error, io, time::Duration};

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use rustls::{AlertDescription, CertificateError};

use super::{Repository, client::CONNECT_TIMEOUT, packet::WireError, uri::Reach};
use crate::{CommitId, Reason, Reference, Retry, SourceError};

/// The longest time that a server may ask us to wait: it should not be able to switch a source off for good.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The server answered with a status that is no success and no redirect; `said` is what it says of that, if anything.
pub(super) fn of_status(repository: &Repository, status: StatusCode, headers: &HeaderMap, said: &str) -> SourceError {
    let uri = &on_its_way(repository);
    let wait = retry_after(headers, Timestamp::now());
    let (reason, retry, message) = match status.as_u16() {
        // Large hosts refuse so whoever asks too often.
        code @ (429 | 403) if code == 429 || matches!(wait, Retry::After(_)) => {
            (Reason::RateLimited, wait, format!("{uri} asks for fewer requests ({status})"))
        }
        401 | 403 if repository.credentials.are_none() => {
            let message = format!("{uri} asks for credentials ({status}) and none are configured: set `authConfig`, or correct `repoUri`");
            (Reason::AuthenticationFailed, Retry::Backoff, message)
        }
        401 | 403 => {
            let message = format!("{uri} refuses the credentials ({status}): check the Secret, and what they may read");
            (Reason::AuthenticationFailed, Retry::Backoff, message)
        }
        407 if repository.proxy.is_some() => (Reason::AuthenticationFailed, Retry::Backoff, proxy_refuses(uri)),
        404 | 410 => {
            let message = format!("there is no repository at {uri} ({status}), or it is hidden from these credentials: check `repoUri`");
            (Reason::RepositoryNotFound, Retry::Backoff, message)
        }
        500.. => (Reason::Unreachable, wait, format!("{uri} is not able to answer now ({status}): see its own logs")),
        _ => {
            let said = shown(repository, said);
            let said = if said.is_empty() { said } else { format!(" (it says: {said})") };
            let message = format!("{uri} answers {status}{said}, which is not how a Git server answers: check `repoUri`");
            (Reason::ProtocolError, Retry::Backoff, message)
        }
    };
    SourceError::new(reason, retry, message)
}

/// What `Retry-After` says, in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Retry {
    let Some(text) = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) else { return Retry::Backoff };
    let seconds = match text.trim().parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => rfc2822::parse(text).ok().and_then(|date| date.timestamp().duration_since(now).try_into().ok()),
    };
    seconds.map_or(Retry::Backoff, |wait| Retry::After(wait.min(LONGEST_WAIT)))
}

/// The server did not answer, or stopped in the middle.
pub(super) fn of_transport(repository: &Repository, error: reqwest::Error) -> SourceError {
    let uri = on_its_way(repository);
    // Its own text would show the whole URL.
    let error = error.without_url();
    let (reason, message) = if let Some(told) = find_tls_error(&error).and_then(|error| of_tls(&uri, error)) {
        told
    } else if error.is_connect() && error.is_timeout() {
        return no_connection_in_time(repository);
    } else if repository.proxy.is_some() && innermost(&error).contains("proxy authorization required") {
        (Reason::AuthenticationFailed, proxy_refuses(&uri))
    } else if error.is_connect() {
        (Reason::Unreachable, format!("no connection to {uri}: {}", innermost(&error)))
    } else {
        (Reason::Unreachable, format!("the connection to {uri} broke off: {}", innermost(&error)))
    };
    SourceError::new(reason, Retry::Backoff, message).caused_by(error)
}

/// What is wrong with the server's TLS, where that is known to need somebody's hand.
fn of_tls(uri: &str, error: &rustls::Error) -> Option<(Reason, String)> {
    let (reason, why) = match error {
        rustls::Error::InvalidCertificate(why) => {
            return Some((Reason::CertificateInvalid, format!("the certificate of {uri} is not accepted: {}", in_words(why))));
        }
        rustls::Error::InvalidMessage(_) => (Reason::Unreachable, "it does not speak TLS there: check the port, or use http://"),
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            (Reason::ProtocolError, "it speaks no TLS newer than 1.1: let it speak 1.2 or 1.3")
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => (
            Reason::AuthenticationFailed,
            "it asks for a certificate of the client, which cannot be set here: let it take what `authConfig` has",
        ),
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            let why = "it finds no way of TLS that both sides take: it may ask for a certificate of the client, which cannot be set here, or know \
                       only ciphers that are not safe any longer";
            (Reason::ProtocolError, why)
        }
        _ => return None,
    };
    Some((reason, format!("no connection to {uri}: {why}")))
}

/// Where a repository is, and what is between.
fn on_its_way(repository: &Repository) -> String {
    match &repository.proxy {
        Some(proxy) => format!("{} (through the proxy {})", repository.uri, proxy.url),
        None => repository.uri.to_string(),
    }
}

fn proxy_refuses(uri: &str) -> String {
    format!("no connection to {uri}: the proxy refuses the credentials, or asks for some: check `proxy.secretRef`")
}

/// No connection came up in the time that one may take.
pub(super) fn no_connection_in_time(repository: &Repository) -> SourceError {
    let message = format!("no connection to {} within {CONNECT_TIMEOUT:?}: check host, port and network", on_its_way(repository));
    SourceError::new(Reason::Timeout, Retry::Backoff, message)
}

/// No connection came up.
pub(super) fn no_connection(repository: &Repository, error: io::Error) -> SourceError {
    let message = format!("no connection to {}: {}", repository.uri, innermost(&error));
    SourceError::new(Reason::Unreachable, Retry::Backoff, message).caused_by(error)
}

/// The connection ended in the middle.
pub(super) fn broken(repository: &Repository, error: impl Error + Send + Sync + 'static) -> SourceError {
    let message = format!("the connection to {} broke off: {}", repository.uri, innermost(&error));
    SourceError::new(Reason::Unreachable, Retry::Backoff, message).caused_by(error)
}

/// The credentials are not of the kind that this way to the repository takes.
pub(super) fn unfit_credentials(repository: &Repository, reach: &Reach<'_>) -> SourceError {
    let why = match reach {
        Reach::Ssh(_) => "is reached by ssh, which needs a key: set `authConfig` of type ssh",
        Reach::Git(_) => "is reached by git://, which takes no credentials: remove `authConfig`, or use https or ssh",
        Reach::Http(_) | Reach::Local => "is not reached by ssh: set `authConfig` of another type, or use a URI of ssh",
    };
    SourceError::new(Reason::InvalidSpec, Retry::Never, format!("{} {why}", repository.uri))
}

/// Why what is not reached by http cannot go through a proxy.
pub(super) const AROUND_THE_PROXY: &str = "a proxy is for http and https only, and it is not gone around";

/// There is a proxy, which this way to the repository would go around.
pub(super) fn around_the_proxy(repository: &Repository) -> SourceError {
    let message = format!("{} cannot be reached: {AROUND_THE_PROXY}: remove `proxy`, or use https", repository.uri);
    SourceError::new(Reason::InvalidSpec, Retry::Never, message)
}

fn find_tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An io::Error hands out what is beneath the error it holds, and not that error.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = held.map(|held| held as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

fn in_words(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => {
            "it is signed by nobody who is trusted here: give the certificate authority by `tlsConfig.caCert`".to_owned()
        }
        CertificateError::BadSignature => "it is not signed by the authority that it names: check `tlsConfig.caCert`".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired: the server needs a new one".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet: check the clocks on both sides".to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "it has no subjectAltName, and the host in its CN does not count: have it made with one".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is made for another host name: use the name that is in it, or have it made for this one".to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed in a way that is not safe any longer, such as SHA-1, or not known here: have it signed with SHA-256".to_owned()
        }
        other if format!("{other:?}").contains("UnsupportedCertVersion") => {
            "it is of X.509 version 1: have it made with a subjectAltName, which makes it one of version 3".to_owned()
        }
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "it is that of a certificate authority (CA:TRUE), which a server cannot use: make one with CA:FALSE".to_owned()
        }
        other => format!("{other}"),
    }
}

fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string().to_lowercase()
}

/// It took longer than it may.
pub(super) fn timeout(repository: &Repository, limit: Duration, phase: &str) -> SourceError {
    SourceError::new(Reason::Timeout, Retry::Backoff, format!("{} took longer than {limit:?}, while {phase}", repository.uri))
}

/// The server redirects to where the credentials do not belong; only the origin of that place is shown, which may have them in its name.
pub(super) fn redirected(repository: &Repository, to: Option<&reqwest::Url>) -> SourceError {
    let to = to.map_or_else(|| "nowhere".to_owned(), |url| repository.redact(&url.origin().ascii_serialization()));
    let message = format!("{} redirects to {to}, which is not followed: if it is right, use that in `repoUri`", repository.uri);
    SourceError::new(Reason::ProtocolError, Retry::Backoff, message)
}

/// The answer is not that of a Git server.
pub(super) fn not_git(repository: &Repository, content_type: &str) -> SourceError {
    // Only if it looks like one: otherwise it is the server's own text.
    let is_type = content_type.len() <= 60 && content_type.chars().all(|c| c.is_ascii_alphanumeric() || "/-+._".contains(c));
    let content_type = if is_type && !content_type.is_empty() { content_type } else { "something else" };
    let what = format!("{} answers with {content_type}, not as a Git server (smart http)", repository.uri);
    SourceError::new(Reason::ProtocolError, Retry::Backoff, format!("{what}: check `repoUri`, and whether it asks for credentials"))
}

/// The bytes of the answer make no sense.
pub(super) fn malformed(repository: &Repository, what: &str) -> SourceError {
    SourceError::new(Reason::ProtocolError, Retry::Backoff, format!("{} does not answer as a Git server does: {what}", repository.uri))
}

/// The answer ended too early.
pub(super) fn cut_off(repository: &Repository) -> SourceError {
    broken(repository, io::Error::new(io::ErrorKind::UnexpectedEof, "its answer is cut off"))
}

/// Whether the answer ended too early. The server is there, and may do so each time.
pub(super) fn is_cut_off(error: &SourceError) -> bool {
    let cause = error.cause().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::UnexpectedEof)
}

/// Whether a server that was asked by what is known from earlier may be another one by now; `elsewhere`: where it redirected to.
pub(super) fn may_be_another(error: &SourceError, elsewhere: bool) -> bool {
    match error.reason() {
        Reason::ProtocolError | Reason::RepositoryNotFound => true,
        Reason::AuthenticationFailed => elsewhere,
        _ => is_cut_off(error),
    }
}

/// More is sent than is accepted.
pub(super) fn too_large(repository: &Repository, what: &str, limit: u64) -> SourceError {
    let message = format!("{} has {what} than is accepted, which is {limit}", repository.uri);
    SourceError::new(Reason::TooLarge, Retry::Backoff, message)
}

/// How much of what a server says is shown, in characters.
const MAX_REMOTE: usize = 200;

/// What is shown of what a server says: no secret, and no part of one at the end.
fn shown(repository: &Repository, text: &str) -> String {
    repository.redact(text).chars().take(MAX_REMOTE).collect()
}

/// The server's bytes are malformed, or report an error. `wanted` is the commit that was asked for by id.
pub(super) fn of_wire(repository: &Repository, error: WireError, wanted: Option<&CommitId>) -> SourceError {
    let text = match error {
        WireError::Malformed(what) => return malformed(repository, &what),
        WireError::Remote(text) => text,
    };
    let not_found = |commit| SourceError::reference_not_found(&Reference::Commit(commit), &repository.uri.to_string());
    match wanted {
        // What git's upload-pack says when it has no such commit, or does not show it.
        Some(commit) if text.contains("not our ref") => not_found(*commit),
        // And JGit's.
        Some(commit) if text.contains("not valid") && text.contains(&commit.to_string()) => not_found(*commit).caused_by(AtNoRef),
        _ => reported(repository, &text),
    }
}

/// JGit's, over ssh and `git://`, gives only what its refs point at, although it talks version 2.
#[derive(Debug, thiserror::Error)]
#[error("no ref points at it")]
struct AtNoRef;

/// Whether there may be such a commit all the same, in the history of a ref.
pub(super) fn is_at_no_ref(error: &SourceError) -> bool {
    error.cause().is_some_and(|cause| cause.is::<AtNoRef>())
}

/// What servers say of a repository that is not there, or not shown: git and its daemon, GitHub, GitLab, Gitea and Forgejo, Azure DevOps.
const NOT_THERE: [&str; 7] = [
    "not appear to be a git repository",
    "repository not exported",
    "repository not found",
    "project you were looking for could not be found",
    "cannot find repository",
    "no such repository",
    "does not exist or you do not have permissions",
];

/// What servers say of a repository that the credentials, which they know, do not open.
const NOT_ALLOWED: [&str; 4] = ["access denied", "permission denied", "unauthorized", "not allowed to"];

/// The server reports an error in a line of text.
pub(super) fn reported(repository: &Repository, text: &str) -> SourceError {
    let uri = &repository.uri;
    let text = shown(repository, text);
    let lower = text.to_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| lower.contains(phrase));
    let (reason, message) = if says(&NOT_THERE) {
        let message =
            format!("there is no repository at {uri}, or it is hidden from these credentials: check `repoUri` (it reports: {text})");
        (Reason::RepositoryNotFound, message)
    } else if says(&NOT_ALLOWED) {
        let message = format!("{uri} does not open to these credentials: check what they may read (it reports: {text})");
        (Reason::AuthenticationFailed, message)
    } else {
        (Reason::ProtocolError, format!("{uri} reports: {text}"))
    };
    SourceError::new(reason, Retry::Backoff, message)
}

/// An error without what a server may have brought into it of the credentials, by names that it chose.
pub(super) fn without_secrets(repository: &Repository, error: SourceError) -> SourceError {
    let (uri, message) = (repository.uri.to_string(), error.to_string());
    let redacted = repository.redact(&message);
    // Of a secret that is part of the URI, what is left out would tell what it is.
    if redacted == message || repository.redact(&uri) != uri {
        return error;
    }
    // Without its cause, which says the same again.
    SourceError::new(error.reason(), error.retry(), redacted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_at_the_end_of_a_long_text_of_a_server_is_not_shown_in_part() {
        let mut repository = Repository::new(crate::source::git::RepoUri::parse("https://example.com/a").unwrap());
        repository.credentials = crate::source::git::Credentials::Token { token: "Bearer canary-canary".into() };
        for before in 150..MAX_REMOTE {
            let text = format!("{} canary-canary", "x".repeat(before));
            let shown = of_wire(&repository, WireError::remote(text.as_bytes()), None).to_string();
            assert!(!shown.contains("cana"), "{shown}");
        }
        let shown = of_wire(&repository, WireError::remote(&[b'x'; 60_000]), None).to_string();
        assert_eq!(shown, format!("https://example.com/a reports: {}", "x".repeat(MAX_REMOTE)));
    }

    #[test]
    fn an_answer_that_is_cut_off_is_told_from_a_connection_that_fails() {
        let repository = Repository::new(super::super::RepoUri::parse("https://example.com/a").unwrap());
        let error = cut_off(&repository);
        assert!(is_cut_off(&error) && error.reason() == Reason::Unreachable);
        assert!(!is_cut_off(&no_connection(&repository, io::ErrorKind::ConnectionRefused.into())));
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now = "1994-11-06T08:49:00Z".parse().unwrap();
        let read = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]), now);
        assert_eq!(read("120"), Retry::After(Duration::from_secs(120)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Retry::After(Duration::from_secs(37)));
        assert_eq!(read("99999999"), Retry::After(LONGEST_WAIT));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Retry::Backoff, "it is over already");
        assert_eq!(read("soon"), Retry::Backoff);
        assert_eq!(retry_after(&HeaderMap::new(), now), Retry::Backoff);
    }

    #[test]
    fn a_servers_content_type_is_shown_only_if_it_is_one() {
        let repository = Repository::new(super::super::RepoUri::parse("https://example.com/a").unwrap());
        assert!(not_git(&repository, "text/html").to_string().contains("answers with text/html, not"));
        assert!(not_git(&repository, "text html\u{1b}").to_string().contains("answers with something else, not"));
    }
}
