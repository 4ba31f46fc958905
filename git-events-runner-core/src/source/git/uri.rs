use std::{
    fmt,
    path::{Path, PathBuf},
};

use reqwest::Url;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where a repository is. It holds no secret, so it may be shown anywhere.
///
/// Accepted are `https://`, `http://`, `ssh://`, `git://` and the form `user@host:path`; by [`RepoUri::parse_with_local`] also
/// `file://` and paths. A user or password inside an http URI is refused, and so is whatever Git would run as a command.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RepoUri(Place);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Place {
    Http(Url),
    /// `ssh://` and `git://`.
    Other(Url),
    /// `user@host:path`, as written.
    Scp(String),
    Local(PathBuf),
}

/// A text is not the URI of a repository. The message does not repeat the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotARepoUri(String);

const FORMS: &str = "use https://, http://, ssh://, git:// or user@host:path";

impl RepoUri {
    /// The URI of a repository that is reached over the network.
    ///
    /// # Errors
    ///
    /// The text is something else, a local path included.
    pub fn parse(text: &str) -> Result<Self, NotARepoUri> {
        check_text(text)?;
        if text.contains("://") {
            return parse_url(text);
        }
        match split_scp(text) {
            Some((host, path)) => check_scp(host, path).map(|()| Self(Place::Scp(text.to_owned()))),
            None => Err(refused(format!("a repository on disk can be used in local mode only: {FORMS}"))),
        }
    }

    /// As [`RepoUri::parse`], and also `file://` and paths; a relative one starts at `folder`.
    ///
    /// # Errors
    ///
    /// The text is neither.
    pub fn parse_with_local(text: &str, folder: &Path) -> Result<Self, NotARepoUri> {
        check_text(text)?;
        if text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file://")) {
            let path = Url::parse(text).ok().filter(|url| url.query().is_none() && url.fragment().is_none());
            let path = path.and_then(|url| url.to_file_path().ok());
            return path.map(|path| Self(Place::Local(path))).ok_or_else(|| refused("write a file URI as file:///path".to_owned()));
        }
        if text.contains("://") || split_scp(text).is_some() {
            return Self::parse(text);
        }
        // By its components, so that `.` adds nothing.
        Ok(Self(Place::Local(folder.join(text).components().collect())))
    }

    /// The folder of a repository on disk.
    pub fn local_path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Local(path) => Some(path),
            _ => None,
        }
    }

    /// The URL of a repository that is reached over http or https.
    pub(super) fn http(&self) -> Option<&Url> {
        match &self.0 {
            Place::Http(url) => Some(url),
            _ => None,
        }
    }
}

fn refused(message: String) -> NotARepoUri {
    NotARepoUri(message)
}

fn check_text(text: &str) -> Result<(), NotARepoUri> {
    if text.is_empty() {
        return Err(refused(format!("the URI of a repository is empty: {FORMS}")));
    }
    if text.starts_with('-') {
        return Err(refused(format!("the URI of a repository cannot begin with `-`: {FORMS}")));
    }
    if text.contains(char::is_control) {
        return Err(refused("the URI of a repository cannot have control characters, such as line ends".to_owned()));
    }
    Ok(())
}

fn parse_url(text: &str) -> Result<RepoUri, NotARepoUri> {
    let url = Url::parse(text).map_err(|error| refused(format!("the URI of a repository is not a URL ({error}): {FORMS}")))?;
    let scheme = url.scheme();
    if scheme == "file" {
        return Err(refused(format!("file:// can be used in local mode only: {FORMS}")));
    }
    if !matches!(scheme, "http" | "https" | "ssh" | "git") {
        return Err(refused(format!("the URI of a repository has an unknown scheme: {FORMS}")));
    }
    if url.password().is_some() || (!url.username().is_empty() && scheme != "ssh") {
        return Err(refused("a user or password inside the URI of a repository is refused: use `authConfig`".to_owned()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("the URI of a repository cannot have a query (`?`) or a fragment (`#`)".to_owned()));
    }
    let host = url.host_str().unwrap_or_default();
    if host.is_empty() || host.starts_with('-') || url.username().starts_with('-') {
        return Err(refused("the URI of a repository needs a host, and neither host nor user can begin with `-`".to_owned()));
    }
    if matches!(scheme, "http" | "https") { Ok(RepoUri(Place::Http(url))) } else { Ok(RepoUri(Place::Other(url))) }
}

/// `user@host` and `path`, if there is a colon before any slash: this is how Git tells this form from a path.
fn split_scp(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(host, _)| !host.contains('/'))
}

fn check_scp(host: &str, path: &str) -> Result<(), NotARepoUri> {
    if path.starts_with(':') {
        return Err(refused(format!("the URI of a repository names a remote helper (`::`), which is refused: {FORMS}")));
    }
    let (user, host) = host.rsplit_once('@').map_or((None, host), |(user, host)| (Some(user), host));
    let is_name = |name: &str| !name.is_empty() && !name.starts_with('-') && !name.contains([' ', ':', '@']);
    if !is_name(host) || !user.is_none_or(is_name) || path.is_empty() || path.starts_with('-') {
        return Err(refused(format!("the URI of a repository is not of the form user@host:path: {FORMS}")));
    }
    Ok(())
}

impl fmt::Display for RepoUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Http(url) | Place::Other(url) => f.write_str(url.as_str()),
            Place::Scp(text) => f.write_str(text),
            Place::Local(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for RepoUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As a text from which it can be read again; a path on disk becomes `file://`.
impl Serialize for RepoUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Place::Local(path) => {
                let url = std::path::absolute(path).ok().and_then(|path| Url::from_file_path(path).ok());
                serializer.collect_str(&url.ok_or_else(|| serde::ser::Error::custom("the path of a repository is not absolute"))?)
            }
            _ => serializer.collect_str(self),
        }
    }
}

/// Reads what was serialized, `file://` included: for one's own processes, not for manifests.
impl<'de> Deserialize<'de> for RepoUri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse_with_local(&String::deserialize(deserializer)?, Path::new("/")).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_reaches_over_the_network_is_accepted() {
        for text in [
            "https://git.example.com/the-best-team/cool-project.git",
            "http://127.0.0.1:8080/a",
            "https://[::1]:8443/a",
            "ssh://git@example.com:22/a/b.git",
            "git://example.com/a",
            "git@example.com:a/b.git",
            "example.com:b",
        ] {
            assert_eq!(RepoUri::parse(text).map(|uri| uri.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn anything_else_is_refused_and_not_repeated() {
        for text in [
            "",
            "-uhttps://example.com",
            "--upload-pack=touch",
            "https://example.com/a\nb",
            "https://example.com/a\0",
            "ext::sh -c canary",
            "EXT::sh -c canary",
            "fd::17",
            "user@ext::canary",
            "https://canary@example.com/a",
            "https://u:canary@example.com/a",
            "ssh://u:canary@example.com/a",
            "git://canary@example.com/a",
            "https://example.com/a?token=canary",
            "https://example.com/a#canary",
            "https://",
            "ssh://-oProxyCommand=canary/a",
            "git@-oProxyCommand=canary:a",
            "-oProxyCommand=canary@example.com:a",
            "u:canary@example.com:a@b:c\t",
            "ftp://example.com/a",
            "javascript://example.com/a",
            "file:///canary",
            "/canary",
            "./canary",
            "canary",
        ] {
            let error = RepoUri::parse(text).expect_err(text).to_string();
            assert!(!error.contains("canary"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn paths_are_accepted_in_local_mode_only() {
        let local = |text| RepoUri::parse_with_local(text, Path::new("/base")).map(|uri| uri.local_path().map(Path::to_owned));
        assert_eq!(local("/srv/a"), Ok(Some("/srv/a".into())));
        assert_eq!(local("a b"), Ok(Some("/base/a b".into())));
        assert_eq!(local("./a:b"), Ok(Some("/base/a:b".into())));
        assert_eq!(local("."), Ok(Some("/base".into())));
        assert_eq!(local("file:///srv/a%20b"), Ok(Some("/srv/a b".into())));
        assert_eq!(local("FILE:///srv/a"), Ok(Some("/srv/a".into())));
        assert_eq!(local("https://example.com/a"), Ok(None));
        for refused in ["file://host/a", "ext::sh", "-a", "https://u@example.com/a", "a\nb"] {
            local(refused).expect_err(refused);
        }
    }

    #[test]
    fn it_is_read_back_as_it_was_written() {
        for text in ["https://example.com/a", "git@example.com:a", "/srv/ä b"] {
            let uri = RepoUri::parse_with_local(text, Path::new("/")).unwrap();
            let json = serde_json::to_string(&uri).unwrap();
            assert_eq!(serde_json::from_str::<RepoUri>(&json).unwrap(), uri);
        }
    }
}
