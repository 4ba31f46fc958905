use std::{
    fmt,
    net::Ipv6Addr,
    path::{Path, PathBuf},
};

use percent_encoding::percent_decode_str;
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
    Ssh(Remote),
    Git(Remote),
    Local(PathBuf),
}

/// A repository that is reached over ssh or `git://`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Remote {
    /// As it was written.
    text: String,
    /// Who to be there; ssh only.
    pub(super) user: String,
    /// A name in lower case or an address, which has no brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// As the server is told: relative to the user's home, or from its root.
    pub(super) path: String,
}

/// How a repository is reached.
pub(super) enum Reach<'a> {
    Http(&'a Url),
    Ssh(&'a Remote),
    Git(&'a Remote),
    Local,
}

const SSH_PORT: u16 = 22;
const GIT_PORT: u16 = 9418;

/// Who is taken over ssh where the URI names nobody. All large hosts have this one.
const USER: &str = "git";

/// The longest URI in bytes: as long as a path can be.
const MAX_LENGTH: usize = 4096;

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
            Some((host, path)) => parse_scp(text, host, path),
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

    /// The host that it is on: a name in lower case, or an address without brackets. None for one on disk.
    pub fn host(&self) -> Option<&str> {
        match &self.0 {
            Place::Http(url) => host(url),
            Place::Ssh(remote) | Place::Git(remote) => Some(&remote.host),
            Place::Local(_) => None,
        }
    }

    /// Whether both are reached in the same way on the same host and port, so that one may see what the other is shown.
    pub(super) fn is_on_server_of(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Place::Http(one), Place::Http(other)) => one.origin() == other.origin(),
            (Place::Ssh(one), Place::Ssh(other)) | (Place::Git(one), Place::Git(other)) => {
                (&one.host, one.port) == (&other.host, other.port)
            }
            _ => false,
        }
    }

    /// Whether both name the same repository: by host and path alone, as it is another port and another user over each transport. Case does
    /// not count, nor does `.git` at the end. One on disk is the same as none.
    pub fn is_same_repository(&self, other: &Self) -> bool {
        self.place().is_some_and(|place| Some(place) == other.place())
    }

    fn place(&self) -> Option<(&str, String)> {
        // Where large hosts answer ssh on the port of https.
        let host = match self.host()? {
            "ssh.github.com" => "github.com",
            "altssh.gitlab.com" => "gitlab.com",
            "altssh.bitbucket.org" => "bitbucket.org",
            host => host,
        };
        let path = match &self.0 {
            Place::Http(url) => percent_decode_str(url.path()).decode_utf8_lossy().to_lowercase(),
            Place::Ssh(remote) | Place::Git(remote) => remote.path.to_lowercase(),
            Place::Local(_) => return None,
        };
        let path = path.trim_matches('/');
        Some((host, path.strip_suffix(".git").unwrap_or(path).to_owned()))
    }

    pub(super) fn reach(&self) -> Reach<'_> {
        match &self.0 {
            Place::Http(url) => Reach::Http(url),
            Place::Ssh(remote) => Reach::Ssh(remote),
            Place::Git(remote) => Reach::Git(remote),
            Place::Local(_) => Reach::Local,
        }
    }
}

/// The host in a URL, as in [`RepoUri::host`].
#[cfg(feature = "kube")]
pub fn host_of_url(text: &str) -> Option<String> {
    host(&Url::parse(text).ok()?).map(str::to_owned)
}

fn host(url: &Url) -> Option<&str> {
    url.host_str().map(|host| host.trim_matches(['[', ']']))
}

fn refused(message: String) -> NotARepoUri {
    NotARepoUri(message)
}

fn check_text(text: &str) -> Result<(), NotARepoUri> {
    if text.is_empty() {
        return Err(refused(format!("the URI of a repository is empty: {FORMS}")));
    }
    if text.len() > MAX_LENGTH {
        return Err(refused(format!("the URI of a repository cannot have more than {MAX_LENGTH} bytes")));
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
    match scheme {
        "ssh" => {
            remote(url.as_str(), url.username(), host, url.port().unwrap_or(SSH_PORT), url.path()).map(|remote| RepoUri(Place::Ssh(remote)))
        }
        "git" => remote(url.as_str(), "", host, url.port().unwrap_or(GIT_PORT), url.path()).map(|remote| RepoUri(Place::Git(remote))),
        _ => Ok(RepoUri(Place::Http(url))),
    }
}

/// What the parts of a URL of ssh or `git://` stand for, as Git reads them.
fn remote(text: &str, user: &str, host: &str, port: u16, path: &str) -> Result<Remote, NotARepoUri> {
    let decode = |part: &str| {
        let decoded = percent_decode_str(part).decode_utf8().ok().filter(|decoded| !decoded.contains(char::is_control));
        decoded.map(String::from).ok_or_else(|| refused("the URI of a repository has percent signs that stand for no letters".to_owned()))
    };
    let (user, path) = (decode(user)?, decode(path)?);
    // `/~user/` is in the home of that user.
    let path = if path.starts_with("/~") { path[1..].to_owned() } else { path };
    if path.trim_matches('/').is_empty() || port == 0 {
        return Err(refused("the URI of a repository needs a path, and a port that is not 0".to_owned()));
    }
    let user = if user.is_empty() { USER.to_owned() } else { user };
    Ok(Remote { text: text.to_owned(), user, host: check_host(host)?, port, path })
}

/// A name in lower case, or an address of version 6 without its brackets.
fn check_host(host: &str) -> Result<String, NotARepoUri> {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|address| address.parse::<Ipv6Addr>().is_ok());
    let is_name = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    match address {
        Some(address) => Ok(address.to_ascii_lowercase()),
        None if is_name && !host.starts_with('-') => Ok(host.to_ascii_lowercase()),
        None => Err(refused("the host of a repository is neither a name nor an address; write one of version 6 as [::1]".to_owned())),
    }
}

/// `user@host` and `path`, if there is a colon before any slash: this is how Git tells this form from a path.
fn split_scp(text: &str) -> Option<(&str, &str)> {
    // The colons within the brackets of an address do not count.
    let from = text.find("]:").filter(|_| text.starts_with('[') || text.contains("@[")).unwrap_or(0);
    let colon = from + text[from..].find(':')?;
    Some((&text[..colon], &text[colon + 1..])).filter(|(host, _)| !host.contains('/'))
}

fn parse_scp(text: &str, host: &str, path: &str) -> Result<RepoUri, NotARepoUri> {
    if path.starts_with(':') {
        return Err(refused(format!("the URI of a repository names a remote helper (`::`), which is refused: {FORMS}")));
    }
    let (user, host) = host.rsplit_once('@').unwrap_or((USER, host));
    let is_user = !user.is_empty() && !user.starts_with('-') && !user.contains([' ', ':', '@']);
    if !is_user || host.starts_with('-') || path.is_empty() || path.starts_with('-') {
        return Err(refused(format!("the URI of a repository is not of the form user@host:path: {FORMS}")));
    }
    let (user, path) = (user.to_owned(), path.to_owned());
    Ok(RepoUri(Place::Ssh(Remote { text: text.to_owned(), user, host: check_host(host)?, port: SSH_PORT, path })))
}

impl fmt::Display for RepoUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Http(url) => f.write_str(url.as_str()),
            Place::Ssh(remote) | Place::Git(remote) => f.write_str(&remote.text),
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
            "git@[::1]:b",
            "ssh://git@[::1]:2222/b",
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
            "ssh://example.com",
            "ssh://example.com/",
            "ssh://example.com:0/canary",
            "git://example.com/a%00host=canary",
            "ssh://git@example.com/canary%ff",
            "ssh://gi%0at@example.com/canary",
            "ssh://canary%20example.com/a",
            "git@exam ple.com:canary",
            "git@[canary]:a",
            "git@[::1:canary",
            &format!("https://example.com/{}", "canary".repeat(1000)),
        ] {
            let error = RepoUri::parse(text).expect_err(text).to_string();
            assert!(!error.contains("canary"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn what_is_reached_over_ssh_or_tcp_is_read_as_git_reads_it() {
        let read = |text| match RepoUri::parse(text).unwrap().reach() {
            Reach::Ssh(to) => format!("ssh {} {} {} {}", to.user, to.host, to.port, to.path),
            Reach::Git(to) => format!("git {} {} {}", to.host, to.port, to.path),
            Reach::Http(_) | Reach::Local => panic!("{text}"),
        };
        for (text, expected) in [
            ("ssh://Example.com/a/b.git", "ssh git example.com 22 /a/b.git"),
            ("ssh://me@example.com:2222/~/a%20b", "ssh me example.com 2222 ~/a b"),
            ("ssh://example.com/~me/it's", "ssh git example.com 22 ~me/it's"),
            ("ssh://do%40main@[FE80::1]/a", "ssh do@main fe80::1 22 /a"),
            ("git@Example.com:a/b.git", "ssh git example.com 22 a/b.git"),
            ("me@example.com:/a%20b", "ssh me example.com 22 /a%20b"),
            ("me@[::1]:a:b", "ssh me ::1 22 a:b"),
            ("[::1]:a", "ssh git ::1 22 a"),
            ("example.com:~me/a", "ssh git example.com 22 ~me/a"),
            ("git://example.com/a", "git example.com 9418 /a"),
            ("git://[::1]:1/~me/a", "git ::1 1 ~me/a"),
        ] {
            assert_eq!(read(text), expected, "{text}");
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
    fn only_what_is_reached_in_the_same_way_on_the_same_host_and_port_is_on_the_same_server() {
        let same = |one: &str, other: &str| RepoUri::parse(one).unwrap().is_on_server_of(&RepoUri::parse(other).unwrap());
        for (one, other) in [
            ("https://example.com/a", "https://EXAMPLE.com:443/b"),
            ("git@example.com:a", "ssh://me@example.com:22/b"),
            ("git://example.com/a", "git://example.com:9418/b"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("https://example.com/a", "http://example.com/a"),
            ("https://example.com/a", "https://example.com:8443/a"),
            ("https://example.com/a", "https://example.com.evil.example/a"),
            ("https://example.com/a", "https://www.example.com/a"),
            ("https://example.com/a", "git@example.com:a"),
            ("git@example.com:a", "ssh://git@example.com:2222/a"),
            ("git@example.com:a", "git@example.org:a"),
            ("git://example.com/a", "git@example.com:a"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn the_same_repository_is_known_over_every_transport() {
        let same = |one: &str, other: &str| {
            let parse = |text| RepoUri::parse_with_local(text, Path::new("/")).unwrap();
            parse(one).is_same_repository(&parse(other))
        };
        for other in [
            "https://github.com/Team/app.git",
            "https://GitHub.com:443/team/app/",
            "http://github.com/team/%61pp",
            "git@github.com:team/app.git",
            "git@github.com:/team/APP",
            "ssh://me@github.com:2222/team/app.git",
            "ssh://git@ssh.github.com:443/team/app.git",
            "git://github.com/team/app",
        ] {
            assert!(same("https://github.com/team/app", other), "{other}");
            assert!(same(other, "git@github.com:team/app"), "{other}");
        }
        for other in [
            "https://github.com/team/app2",
            "https://github.com/team/app/app",
            "https://github.com/app",
            "https://github.com.example.com/team/app",
            "https://example.com/github.com/team/app",
            "https://github.com/team/app.git.git",
            "https://github.com/team/appgit",
            "/team/app",
        ] {
            assert!(!same("https://github.com/team/app", other), "{other}");
        }
        assert!(!same("/team/app", "/team/app"), "what is on disk has no host");
    }

    #[test]
    fn it_is_read_back_as_it_was_written() {
        for text in ["https://example.com/a", "git@example.com:a", "ssh://me@example.com:2222/~/a%20b", "git://[::1]/a", "/srv/ä b"] {
            let uri = RepoUri::parse_with_local(text, Path::new("/")).unwrap();
            let json = serde_json::to_string(&uri).unwrap();
            assert_eq!(serde_json::from_str::<RepoUri>(&json).unwrap(), uri);
        }
    }
}
