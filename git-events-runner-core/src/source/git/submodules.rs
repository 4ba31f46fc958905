//! Submodules: which there are, where they come from, and how many are too many.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use git2::Index;

use super::{
    Credentials, RepoUri, Repository,
    checkout::Part,
    error,
    gitmodules::{self, Described},
    packet::printable,
    store::Failure,
    uri::Reach,
    work_tree::SUBMODULE,
};
use crate::{CommitId, Reason, Retry, SourceError};

/// How deep submodules may be within one another.
const MAX_NESTING: usize = 10;

/// How many of them there may be in all: a few, each with a few of its own, and so on, become many.
const MAX_COUNT: usize = 1000;

/// The most bytes that `.gitmodules` may have.
const MAX_FILE: usize = 1 << 20;

/// What to do where a submodule needs credentials that it does not get.
pub(super) const ELSEWHERE: &str =
    "and `authConfig` goes to the repository's own server only: the submodule has to be open to everybody there";

/// A submodule of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Submodule {
    pub(super) name: String,
    /// Where it is in its repository, without a `.git` or `..` in it.
    pub(super) path: Vec<u8>,
    pub(super) commit: CommitId,
    /// Where it is fetched from, as a text of the repository's author.
    pub(super) url: String,
}

/// The submodules of the files that an index has.
pub(super) fn find(git: &git2::Repository, index: &Index, of: &RepoUri) -> Result<Vec<Submodule>, Failure> {
    let links: Vec<_> = index.iter().filter(|entry| entry.mode == SUBMODULE).collect();
    if links.is_empty() {
        return Ok(vec![]);
    }
    let described = read_file(git, index)?;
    let mut found = vec![];
    for link in links {
        let shown = printable(&link.path);
        // As Git does, the last one counts.
        let described = described.iter().rev().find(|described| described.path.as_deref() == Some(link.path.as_slice()));
        let Some(Described { name, url: Some(url), update, .. }) = described else {
            return Err(malformed(&format!("its submodule {shown} has no url in .gitmodules")));
        };
        if update.as_deref() == Some("none") {
            continue;
        }
        let url = resolve(of, url).ok_or_else(|| match of.local_path() {
            Some(_) => {
                let why = "is relative, and the repository is on disk, without a server: write the whole URL";
                malformed(&format!("the url of its submodule {shown} {why}"))
            }
            None => malformed(&format!("the url of its submodule {shown} leads out of its server")),
        })?;
        found.push(Submodule { name: name.clone(), path: link.path, commit: super::local::id(link.id), url });
    }
    Ok(found)
}

fn malformed(what: &str) -> Failure {
    Failure::Broken(git2::Error::from_str(what))
}

/// Reads `.gitmodules` of the commit, and nothing that it includes.
fn read_file(git: &git2::Repository, index: &Index) -> Result<Vec<Described>, Failure> {
    let is_file = |entry: &git2::IndexEntry| entry.mode & 0o170_000 == 0o100_000;
    let Some(entry) = index.iter().find(|entry| entry.path == b".gitmodules").filter(is_file) else { return Ok(vec![]) };
    let odb = git.odb().map_err(Failure::Broken)?;
    if odb.read_header(entry.id).map_err(Failure::Broken)?.0 > MAX_FILE {
        return Err(Failure::TooLarge("a larger file .gitmodules", MAX_FILE as u64));
    }
    let text = odb.read(entry.id).map_err(Failure::Broken)?;
    gitmodules::parse(text.data()).map_err(|line| malformed(&format!("line {line} of its .gitmodules makes no sense")))
}

pub(super) fn is_relative(url: &str) -> bool {
    url.starts_with("./") || url.starts_with("../")
}

/// The URI that a submodule's url stands for. One that begins with a dot is relative to that of its repository, within its server.
pub(super) fn resolve(of: &RepoUri, url: &str) -> Option<String> {
    if !is_relative(url) {
        return Some(url.to_owned());
    }
    if of.local_path().is_some() {
        return None;
    }
    let of = of.to_string();
    let start = match of.find("://") {
        Some(scheme) => of[scheme + 3..].find('/').map(|slash| scheme + 3 + slash + 1),
        None => of.rfind("]:").map(|end| end + 2).or_else(|| of.find(':').map(|colon| colon + 1)),
    };
    // Of a path that begins with a slash the first one stays.
    let start = start.map(|start| if of[start..].starts_with('/') { start + 1 } else { start });
    let (server, path) = of.split_at(start?);
    let mut path = path.trim_end_matches('/');
    let mut rest = url;
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            if path.is_empty() {
                return None;
            }
            path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            rest = after;
        } else {
            break;
        }
    }
    let slash = if path.is_empty() { "" } else { "/" };
    Some(format!("{server}{path}{slash}{}", rest.trim_end_matches('/')))
}

/// The submodules that are still to be checked out.
pub(super) struct Nested {
    top: Repository,
    /// Each with how deep it is.
    waiting: Vec<(Part, usize)>,
    current: usize,
    count: usize,
}

impl Nested {
    pub(super) fn of(top: &Repository) -> Self {
        Self { top: top.clone(), waiting: vec![], current: 0, count: 0 }
    }

    pub(super) fn next(&mut self) -> Option<Part> {
        let (part, depth) = self.waiting.pop()?;
        self.current = depth;
        Some(part)
    }

    /// Takes what was found in the part that was checked out last.
    pub(super) fn add(&mut self, within: &Part, found: Vec<Submodule>) -> Result<(), SourceError> {
        self.count += found.len();
        if self.count > MAX_COUNT {
            return Err(error::too_large(&self.top, "more submodules", MAX_COUNT as u64));
        }
        if self.current == MAX_NESTING && !found.is_empty() {
            return Err(error::too_large(&self.top, "submodules nested deeper", MAX_NESTING as u64));
        }
        // The first of them is taken next.
        for submodule in found.into_iter().rev() {
            let part = self.part(within, submodule)?;
            self.waiting.push((part, self.current + 1));
        }
        Ok(())
    }

    fn part(&self, within: &Part, Submodule { path, commit, url, .. }: Submodule) -> Result<Part, SourceError> {
        let shown = [within.path.as_str(), if within.path.is_empty() { "" } else { "/" }, &printable(&path)].concat();
        let refused = |why: &str| {
            let message = format!("the submodule {shown} of {} cannot be fetched: {why}", within.repository.uri);
            SourceError::new(Reason::ProtocolError, Retry::Backoff, message)
        };
        let uri = RepoUri::parse(&url).map_err(|error| refused(&error.to_string()))?;
        let mut repository = Repository { uri, ..self.top.clone() };
        if repository.proxy.is_some() && !matches!(repository.uri.reach(), Reach::Http(_)) {
            return Err(refused(&format!("it is at {}, and {}", repository.uri, error::AROUND_THE_PROXY)));
        }
        let is_elsewhere = !repository.uri.is_on_server_of(&self.top.uri);
        if is_elsewhere {
            if matches!(repository.uri.reach(), Reach::Ssh(_)) {
                return Err(refused(&format!("it is at {}, which needs a key, {ELSEWHERE}, for example over https", repository.uri)));
            }
            // Neither are the credentials shown to another server, nor is that one trusted blindly.
            repository.credentials = Credentials::None;
            repository.tls.no_verify = false;
        }
        let into = within.into.join(OsStr::from_bytes(&path));
        Ok(Part { repository, commit, name: String::new(), into, path: shown, is_elsewhere })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_url_starts_at_that_of_the_repository_and_stays_on_its_server() {
        let resolve = |of: &str, url: &str| super::resolve(&RepoUri::parse(of).unwrap(), url);
        for (of, url, expected) in [
            ("https://example.com/group/app.git", "../lib.git", Some("https://example.com/group/lib.git")),
            ("https://example.com/group/app.git/", "../lib.git/", Some("https://example.com/group/lib.git")),
            ("https://example.com/group/app.git", "./lib", Some("https://example.com/group/app.git/lib")),
            ("https://example.com/group/app.git", ".././../other/lib", Some("https://example.com/other/lib")),
            ("https://example.com/app.git", "../lib", Some("https://example.com/lib")),
            ("https://example.com/app.git", "../../lib", None),
            ("https://example.com/app.git", "../../evil.example.com/lib", None),
            ("git@example.com:group/app.git", "../lib.git", Some("git@example.com:group/lib.git")),
            ("git@example.com:group/app.git", "../../lib.git", Some("git@example.com:lib.git")),
            ("git@example.com:app.git", "../lib.git", Some("git@example.com:lib.git")),
            ("git@example.com:/app.git", "../lib.git", Some("git@example.com:/lib.git")),
            ("git@example.com:/group/app.git", "../../lib.git", Some("git@example.com:/lib.git")),
            ("git@example.com:/app.git", "./lib.git", Some("git@example.com:/app.git/lib.git")),
            ("git@example.com:/app.git", "../../lib.git", None),
            ("git@[::1]:/app.git", "../lib.git", Some("git@[::1]:/lib.git")),
            ("git@[::1]:app.git", "../lib.git", Some("git@[::1]:lib.git")),
            ("git@example.com:app.git", "../../lib.git", None),
            ("ssh://me@example.com:2222/~/app", "../lib", Some("ssh://me@example.com:2222/~/lib")),
            ("git://example.com/app", "../lib", Some("git://example.com/lib")),
            ("https://example.com/app.git", "https://example.org/lib", Some("https://example.org/lib")),
            ("https://example.com/app.git", "/etc", Some("/etc")),
        ] {
            assert_eq!(resolve(of, url).as_deref(), expected, "{of} {url}");
        }
    }
}
