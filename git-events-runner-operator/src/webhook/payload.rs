//! What a forge says in a webhook. Pure: headers and a body in, and out what moved where, as far as it can be read.

use std::{borrow::Cow, collections::BTreeSet};

use git_events_runner_core::{CommitId, Reference, crd, git::RepoUri};
use serde::de::IgnoredAny;
use serde_json::Value;
use warp::http::{HeaderMap, HeaderName, header};

use super::proof::WEBHOOK_ID;

/// How many changed files are taken for a whole list: GitHub shows no more of a commit in some places.
const MAX_PATHS: usize = 300;

/// How many commits GitHub lists at most.
const MAX_COMMITS: usize = 2048;

/// How many repositories, and how many references, are looked for in a body. No forge names so many.
const MAX_NAMED: usize = 1024;

/// How many objects and lists, and how many values, a body may hold to be taken apart: no push of a forge has so many, and one of 3 MiB that is
/// made for it would take hundreds of times as much memory.
const MAX_OBJECTS: usize = 50_000;
const MAX_VALUES: usize = 250_000;

/// Whose webhook it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forge {
    Github,
    Gitlab,
    Gitea,
    Bitbucket,
}

/// A body is not what the forge sends.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAPayload(&'static str);

/// What a webhook says.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// What happened, as [`event_name`] has it. None: that cannot be read.
    pub event: Option<String>,
    /// The repository, by each way to it that is named. Empty: that cannot be read.
    pub repository: Vec<RepoUri>,
    /// The branches and tags that have moved. None: it is no push, or that cannot be read.
    pub moved: Option<Vec<Moved>>,
}

/// A branch or tag that points at something else now.
#[derive(Debug, PartialEq, Eq)]
pub struct Moved {
    pub reference: Reference,
    /// What it points at: a commit, or the object of an annotated tag. None: that cannot be read.
    pub commit: Option<CommitId>,
    pub is_deleted: bool,
    /// The files that have changed. None: they are not all listed.
    pub files: Option<Files>,
}

/// The files that a push has changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Files {
    pub paths: Vec<String>,
    /// It is not said whether commits were taken away as well. What they had changed would not be listed.
    pub may_be_forced: bool,
}

impl Forge {
    /// The forge whose webhooks are of this type.
    pub fn of(auth_type: crd::WebhookAuthType) -> Option<Self> {
        match auth_type {
            crd::WebhookAuthType::Github => Some(Self::Github),
            crd::WebhookAuthType::Gitlab => Some(Self::Gitlab),
            crd::WebhookAuthType::Gitea => Some(Self::Gitea),
            crd::WebhookAuthType::Bitbucket => Some(Self::Bitbucket),
            crd::WebhookAuthType::Header | crd::WebhookAuthType::Hmac => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Gitea => "gitea",
            Self::Bitbucket => "bitbucket",
        }
    }

    /// By what the forge tells deliveries apart. One that it repeats has the same.
    pub fn delivery(self, headers: &HeaderMap) -> Option<&[u8]> {
        let names: &[HeaderName] = match self {
            Self::Github => &[HeaderName::from_static("x-github-delivery")],
            Self::Gitlab => &[WEBHOOK_ID, HeaderName::from_static("idempotency-key"), HeaderName::from_static("x-gitlab-event-uuid")],
            Self::Gitea => &[HeaderName::from_static("x-gitea-delivery"), HeaderName::from_static("x-gogs-delivery")],
            Self::Bitbucket => &[HeaderName::from_static("x-request-uuid"), HeaderName::from_static("x-request-id")],
        };
        names.iter().find_map(|name| headers.get(name)).map(header::HeaderValue::as_bytes).filter(|id| !id.is_empty())
    }

    /// Whether the body is what the forge has signed.
    pub fn can_sign(self, headers: &HeaderMap) -> bool {
        self != Self::Gitea || !is_form(headers)
    }

    fn event(self, headers: &HeaderMap) -> Option<String> {
        let names: &[&str] = match self {
            Self::Github => &["x-github-event"],
            Self::Gitlab => &["x-gitlab-event"],
            Self::Gitea => &["x-gitea-event", "x-gogs-event"],
            Self::Bitbucket => &["x-event-key"],
        };
        names.iter().find_map(|name| headers.get(*name)?.to_str().ok()).map(event_name)
    }

    /// Reads a webhook. What cannot be read of it is left out.
    ///
    /// # Errors
    ///
    /// The body is no JSON object.
    pub fn read(self, headers: &HeaderMap, body: &[u8]) -> Result<Said, NotAPayload> {
        let json = json_of(headers, body)?;
        let mut event = self.event(headers);
        // A hook of the whole server has the kind of event in the body only.
        let is_in_body = self == Self::Gitlab && event.as_deref() == Some("system");
        if is_too_much(&json) {
            serde_json::from_slice::<IgnoredAny>(&json).map_err(|_malformed| NotAPayload("the body is not JSON"))?;
            if !json.trim_ascii_start().starts_with(b"{") {
                return Err(NotAPayload("the body is not a JSON object"));
            }
            return Ok(Said { event: event.filter(|_| !is_in_body), repository: vec![], moved: None });
        }
        let body: Value = serde_json::from_slice(&json).map_err(|_malformed| NotAPayload("the body is not JSON"))?;
        if !body.is_object() {
            return Err(NotAPayload("the body is not a JSON object"));
        }
        if is_in_body {
            // That of a merge request is in another field than the others.
            event = ["event_name", "object_kind"].iter().find_map(|field| body[*field].as_str()).map(event_name);
        }
        let moved = match (self, event.as_deref()) {
            (Self::Bitbucket, Some("repo:push")) => moved_at_bitbucket(&body),
            (Self::Bitbucket, Some("repo:refs_changed")) => moved_at_bitbucket_data_center(&body),
            (Self::Github | Self::Gitea, Some("push")) | (Self::Gitlab, Some("push" | "tag_push")) => moved_by_push(&body),
            // Gogs tells of a new tag in no other way. Gitea also sends a push.
            (Self::Gitea, Some("create")) if !headers.contains_key("x-gitea-event") => created_at_gogs(&body),
            _ => None,
        };
        Ok(Said { event, repository: repository(&body), moved })
    }
}

/// What an event is called, whichever of its names is used: in lower case, `Merge Request Hook` as `merge_request`.
pub fn event_name(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase().replace(' ', "_");
    name.strip_suffix("_hook").map(str::to_owned).unwrap_or(name)
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("application/x-www-form-urlencoded")
}

/// By the characters between values, those within strings as well.
fn is_too_much(json: &[u8]) -> bool {
    let count = |is: fn(&u8) -> bool| json.iter().filter(|byte| is(byte)).count();
    count(|byte| matches!(byte, b'{' | b'[')) > MAX_OBJECTS || count(|byte| *byte == b',') > MAX_VALUES
}

/// The JSON, which may be in the field of a form.
fn json_of<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<Cow<'a, [u8]>, NotAPayload> {
    if !is_form(headers) {
        return Ok(Cow::Borrowed(body));
    }
    let payload = form_urlencoded::parse(body).find(|(name, _)| name == "payload");
    let (_, payload) = payload.ok_or(NotAPayload("the body is a form without the field payload"))?;
    Ok(Cow::Owned(payload.into_owned().into_bytes()))
}

/// Where the repository is: forges name the same thing differently, and no name means two things.
fn repository(body: &Value) -> Vec<RepoUri> {
    let fields = ["clone_url", "ssh_url", "git_url", "html_url", "git_http_url", "git_ssh_url", "http_url", "web_url", "url"];
    let named = ["repository", "project"].iter().flat_map(|object| fields.map(|field| &body[object][field]));
    let links = &body["repository"]["links"];
    let cloned = links["clone"].as_array().into_iter().flatten().take(MAX_NAMED).map(|link| &link["href"]);
    let uris = named.chain([&links["html"]["href"]]).chain(cloned);
    uris.filter_map(|uri| RepoUri::parse(uri.as_str()?).ok()).collect()
}

/// What GitHub, GitLab, Gitea, Forgejo and Gogs send for a push.
fn moved_by_push(body: &Value) -> Option<Vec<Moved>> {
    let name = body["ref"].as_str()?;
    // Neither a branch nor a tag: nobody watches it.
    let Some(reference) = reference(name) else { return Some(vec![]) };
    let after = body["after"].as_str();
    let is_deleted = body["deleted"].as_bool().unwrap_or_default() || after.is_some_and(is_nothing);
    let commit = after.filter(|_| !is_deleted).and_then(|commit| commit.parse().ok());
    Some(vec![Moved { reference, commit, is_deleted, files: files(body) }])
}

fn reference(name: &str) -> Option<Reference> {
    let branch = || Some(Reference::Branch(name.strip_prefix("refs/heads/")?.to_owned()));
    let tag = || Some(Reference::Tag(name.strip_prefix("refs/tags/")?.to_owned()));
    branch().or_else(tag)
}

/// The id that stands where there is no commit, before a branch is made and after it is deleted.
fn is_nothing(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|digit| digit == b'0')
}

/// The files that the commits of a push have changed, if all of them are listed.
fn files(body: &Value) -> Option<Files> {
    let commits = body["commits"].as_array()?;
    // Of a new branch it is not known what is new to it, and of one that goes back nothing is listed.
    if commits.is_empty() || body["before"].as_str().is_none_or(is_nothing) || body["forced"] == true {
        return None;
    }
    // GitLab lists 20 of a push, and Gitea as few as it is told to; both say how many there are. Of the others only GitHub, which says whether
    // it was forced, lists all.
    let may_be_forced = body["forced"].as_bool().is_none();
    let total = [&body["total_commits_count"], &body["total_commits"]].into_iter().find_map(Value::as_u64);
    let are_all = total.map_or(!may_be_forced && commits.len() < MAX_COMMITS, |total| total == commits.len() as u64);
    // GitLab lists a file that was renamed as one that was added, and not what it was called before.
    let may_be_renamed = body["total_commits_count"].is_u64() && commits.iter().any(|commit| commit["added"][0].is_string());
    if !are_all || may_be_renamed {
        return None;
    }
    let mut paths = BTreeSet::new();
    for commit in commits {
        for list in ["added", "removed", "modified"] {
            for path in commit[list].as_array()? {
                paths.insert(path.as_str()?);
            }
        }
        if paths.len() >= MAX_PATHS {
            return None;
        }
    }
    Some(Files { paths: paths.into_iter().map(str::to_owned).collect(), may_be_forced })
}

fn created_at_gogs(body: &Value) -> Option<Vec<Moved>> {
    let name = body["ref"].as_str()?.to_owned();
    // A branch that is made is pushed to as well.
    let is_tag = body["ref_type"].as_str()? == "tag";
    let moved = Moved { reference: Reference::Tag(name), commit: None, is_deleted: false, files: None };
    Some(if is_tag { vec![moved] } else { vec![] })
}

/// What bitbucket.org sends: it lists changes of any number of branches and tags, and no files.
fn moved_at_bitbucket(body: &Value) -> Option<Vec<Moved>> {
    let moved = |change: &Value| {
        let is_deleted = change["new"].is_null() && change["old"].is_object();
        let side = if is_deleted { &change["old"] } else { &change["new"] };
        let name = side["name"].as_str()?.to_owned();
        let reference = match side["type"].as_str()? {
            "tag" | "annotated_tag" => Reference::Tag(name),
            "branch" | "named_branch" => Reference::Branch(name),
            _ => return None,
        };
        let commit = side["target"]["hash"].as_str().filter(|_| !is_deleted).and_then(|commit| commit.parse().ok());
        Some(Moved { reference, commit, is_deleted, files: None })
    };
    all(&body["push"]["changes"], moved)
}

/// What Bitbucket Data Center sends.
fn moved_at_bitbucket_data_center(body: &Value) -> Option<Vec<Moved>> {
    let moved = |change: &Value| {
        let name = [&change["refId"], &change["ref"]["id"]].into_iter().find_map(Value::as_str)?;
        let is_deleted = change["type"].as_str() == Some("DELETE");
        let commit = change["toHash"].as_str().filter(|_| !is_deleted).and_then(|commit| commit.parse().ok());
        Some(Moved { reference: reference(name)?, commit, is_deleted, files: None })
    };
    all(&body["changes"], moved)
}

/// All changes of a list. None: there are none, or not all of them can be read.
fn all(changes: &Value, moved: impl FnMut(&Value) -> Option<Moved>) -> Option<Vec<Moved>> {
    let changes = changes.as_array().filter(|changes| !changes.is_empty() && changes.len() <= MAX_NAMED)?;
    changes.iter().map(moved).collect()
}

#[cfg(test)]
mod tests;
