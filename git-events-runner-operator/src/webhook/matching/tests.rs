use std::collections::BTreeMap;

use git_events_runner_core::ObjectRef;
use serde_json::json;

use super::{super::recorded::recorded, *};

const GITHUB: &str = "git@github.com:team/app.git";
const GITLAB: &str = "https://gitlab.example.com/team/app";
const GITEA: &str = "http://127.0.0.1:3000/dev/app";
const GOGS: &str = "https://gogs.example.com/team/app";
const BITBUCKET: &str = "https://bitbucket.org/team/app.git";
const DATA_CENTER: &str = "https://bitbucket.example.com/scm/team/app.git";

/// A trigger with a source `app` at a place, and what it watches.
struct Trigger {
    spec: serde_json::Value,
    places: BTreeMap<String, RepoUri>,
}

fn trigger(auth_type: &str, place: &str) -> Trigger {
    let spec = json!({
        "sources": { "names": ["app"] },
        "action": { "kind": "Action", "name": "build" },
        "webhook": { "authConfig": { "type": auth_type, "secretRef": { "name": "hook" }, "key": "token" } },
    });
    Trigger { spec, places: [("app".to_owned(), RepoUri::parse(place).unwrap())].into() }
}

impl Trigger {
    fn watch(mut self, watch: serde_json::Value) -> Self {
        self.spec["sources"]["watchOn"] = watch;
        self
    }

    fn events(mut self, events: &[&str]) -> Self {
        self.spec["webhook"]["events"] = json!(events);
        self
    }

    fn source(mut self, name: &str, place: Option<&str>) -> Self {
        self.spec["sources"]["names"].as_array_mut().unwrap().push(name.into());
        self.places.extend(place.map(|place| (name.to_owned(), RepoUri::parse(place).unwrap())));
        self
    }

    fn look(&self, name: &str) -> Result<Look, &'static str> {
        self.look_after(name, |_| {})
    }

    fn look_after(&self, name: &str, change: impl FnOnce(&mut Said)) -> Result<Look, &'static str> {
        let spec: crd::WebhookTriggerSpec = serde_json::from_value(self.spec.clone()).unwrap();
        let plan = spec.common.plan("default", 1).unwrap();
        let places = self.places.clone();
        let listening = Listening::new(&spec.webhook, &plan, move |source: &ObjectRef| places.get(&source.name).cloned()).unwrap();
        let (headers, body) = recorded(name);
        let mut said = listening.forge.read(&headers, &body).unwrap();
        change(&mut said);
        listening.matching(&said, &plan.sources.iter().map(|source| source.name.clone()).collect())
    }

    /// The start of the commit that is looked for.
    fn commit(&self, name: &str) -> Result<String, &'static str> {
        let look = self.look(name)?;
        assert_eq!(look.sources, ["app".to_owned()].into());
        Ok(look.commit.map(|commit| commit.to_string()[..7].to_owned()).unwrap_or_default())
    }
}

const OTHER_REF: Result<String, &str> = Err("what has moved is neither a branch nor a tag that is watched");
const OTHER_EVENT: Result<String, &str> = Err("the trigger does not listen to this event");
const DELETED: Result<String, &str> = Err("what is watched was deleted");
const OTHER_FILES: Result<String, &str> = Err("no file that is watched has changed");

/// Type, place of the source, and the names of a push, of a tag, and of the tag itself.
const FORGES: [(&str, &str, &str, &str, &str); 6] = [
    ("github", GITHUB, "github-push", "github-tag", "v1.0.0"),
    ("gitlab", GITLAB, "gitlab-push", "gitlab-tag", "v1.0.0"),
    ("gitea", GITEA, "gitea-push", "gitea-tag", "v1"),
    ("bitbucket", BITBUCKET, "bitbucket-push", "bitbucket-tag", "v1.0.0"),
    ("bitbucket", DATA_CENTER, "bitbucket-data-center-push", "bitbucket-data-center-tag", "v1.0.0"),
    ("gitea", GOGS, "gogs-push", "gogs-create", "v1.0.0"),
];

#[test]
fn a_push_to_the_watched_branch_matches_and_so_does_a_watched_tag() {
    for (auth_type, place, push, tag, tag_name) in FORGES {
        assert!(trigger(auth_type, place).commit(push).is_ok_and(|commit| commit.len() == 7), "{push}");
        assert_eq!(trigger(auth_type, place).commit(tag), OTHER_REF, "{tag}");
        let watching = || trigger(auth_type, place).watch(json!({ "reference": { "tag": tag_name } }));
        watching().commit(tag).unwrap_or_else(|why| panic!("{tag}: {why}"));
        assert_eq!(trigger(auth_type, place).watch(json!({ "reference": { "branch": tag_name } })).commit(tag), OTHER_REF, "{tag}");
        assert_eq!(watching().events(&["push"]).commit(tag), OTHER_EVENT, "{tag}");
        watching().events(&["Tag"]).commit(tag).unwrap();
        assert_eq!(watching().watch(json!({ "reference": { "tag": "v2.0.0" } })).commit(tag), OTHER_REF, "{tag}");
        let branch = trigger(auth_type, place).events(&["tag"]);
        assert_eq!(branch.commit(push), OTHER_EVENT, "{push}");
        assert_eq!(trigger(auth_type, place).watch(json!({ "reference": { "branch": "other" } })).commit(push), OTHER_REF, "{push}");
    }
}

#[test]
fn what_is_deleted_is_nothing_to_look_at() {
    assert_eq!(trigger("github", GITHUB).commit("github-deleted"), DELETED);
    assert_eq!(trigger("gitlab", GITLAB).commit("gitlab-deleted"), DELETED);
    assert_eq!(trigger("bitbucket", BITBUCKET).commit("bitbucket-deleted"), DELETED);
    assert_eq!(trigger("bitbucket", DATA_CENTER).commit("bitbucket-data-center-deleted"), DELETED);
    let tag = trigger("gitea", GITEA).watch(json!({ "reference": { "tag": "v1" } }));
    assert_eq!(tag.commit("gitea-deleted-tag"), DELETED);
}

#[test]
fn pings_never_count_and_other_events_only_if_they_are_listed() {
    for (auth_type, place, name, own_name) in [
        ("github", GITHUB, "github-pull-request", "pull_request"),
        ("gitlab", GITLAB, "gitlab-merge-request", "Merge Request Hook"),
        ("gitea", GITEA, "gitea-pull-request", "pull_request"),
        ("bitbucket", BITBUCKET, "bitbucket-pull-request", "pullrequest:created"),
        ("gitea", GITEA, "gitea-create", "create"),
    ] {
        assert_eq!(trigger(auth_type, place).commit(name), OTHER_EVENT, "{name}");
        assert_eq!(trigger(auth_type, place).events(&["push", own_name]).commit(name), Ok(String::new()), "{name}");
        let elsewhere = trigger(auth_type, "https://example.com/team/app").events(&[own_name]);
        assert!(elsewhere.commit(name).is_err(), "{name}");
    }
    let data_center = || trigger("bitbucket", DATA_CENTER);
    assert_eq!(data_center().commit("bitbucket-data-center-pull-request"), OTHER_EVENT);
    assert_eq!(data_center().events(&["pr:opened"]).commit("bitbucket-data-center-pull-request"), Ok(String::new()));
    for (auth_type, name) in [("github", "github-ping"), ("bitbucket", "bitbucket-data-center-ping")] {
        assert_eq!(trigger(auth_type, GITHUB).events(&["ping", "push", "diagnostics:ping"]).commit(name), Err("it is a ping"), "{name}");
    }
}

#[test]
fn the_names_that_forges_have_for_pushes_count_as_well() {
    for (auth_type, place, name, own_name) in [
        ("gitlab", GITLAB, "gitlab-push", "Push Hook"),
        ("bitbucket", BITBUCKET, "bitbucket-push", "repo:push"),
        ("github", GITHUB, "github-push", "Push"),
    ] {
        trigger(auth_type, place).events(&[own_name]).commit(name).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
    let tag = json!({ "reference": { "tag": "v1.0.0" } });
    for (auth_type, place, name, own_name) in
        [("gitlab", GITLAB, "gitlab-tag", "Tag Push Hook"), ("bitbucket", BITBUCKET, "bitbucket-tag", "repo:push")]
    {
        trigger(auth_type, place).watch(tag.clone()).events(&[own_name]).commit(name).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

#[test]
fn only_the_sources_of_this_repository_are_looked_at() {
    let other_repository = Err("it is about another repository than the source's repoUri");
    for (auth_type, place, push, ..) in FORGES {
        assert_eq!(trigger(auth_type, "https://example.com/team/app").look(push), other_repository, "{push}");
        assert_eq!(trigger(auth_type, &format!("{place}-2")).look(push), other_repository, "{push}");
    }
    let several = trigger("github", GITHUB)
        .source("website", Some("https://github.com/team/website"))
        .source("again", Some("https://github.com/Team/App"));
    let look = several.look("github-push").unwrap();
    assert_eq!(look.sources, ["again", "app"].map(str::to_owned).into());
    assert!(look.commit.is_some());
    // Which of them it is about is not known, so that none may be kept waiting for its commit.
    let look = several.look_after("github-push", |said| said.repository.clear()).unwrap();
    assert_eq!((look.sources.len(), look.commit), (3, None));
    let unknown = trigger("github", GITHUB).source("away", None).look("github-push").unwrap();
    assert_eq!((unknown.sources.len(), unknown.commit), (2, None));
    let look = trigger("github", GITHUB).look_after("github-push", |said| said.repository.clear()).unwrap();
    assert!(look.commit.is_some(), "there is no other source");
}

#[test]
fn what_cannot_be_read_is_no_reason_against_it() {
    for event in [Some("push".to_owned()), None] {
        let look = trigger("github", GITHUB).events(&["tag"]).look_after("github-push", |said| (said.event, said.moved) = (event, None));
        assert_eq!(look, Ok(Look { sources: ["app".to_owned()].into(), commit: None }));
    }
    let commit = json!({ "reference": { "commit": "0123456789abcdef0123456789abcdef01234567" } });
    let look = trigger("github", GITHUB).watch(commit).look("github-push").unwrap();
    assert_eq!(look.commit, None, "what never moves is not waited for");
}

#[test]
fn changed_files_are_compared_where_all_of_them_are_listed() {
    let github = |files: serde_json::Value| trigger("github", GITHUB).watch(json!({ "files": files }));
    github(json!(["/charts/"])).commit("github-push").unwrap();
    github(json!(["*.png"])).commit("github-push").unwrap();
    assert_eq!(github(json!(["/src/"])).commit("github-push"), OTHER_FILES);
    assert_eq!(github(json!(["*", "!/charts/", "!/docs/"])).commit("github-push"), OTHER_FILES);
    github(json!(["/src/"])).commit("github-forced").unwrap();

    // Gitea and GitLab do not say whether it was forced. Of this one, which was, `src/main.rs` is not listed, which it took away.
    let gitea = |always: bool| trigger("gitea", GITEA).watch(json!({ "files": ["/src/"], "onChangeOnly": !always }));
    gitea(false).commit("gitea-forced").unwrap();
    assert_eq!(gitea(true).commit("gitea-forced"), OTHER_FILES);
    gitea(true).commit("gitea-push").unwrap();
    let gitlab = |always: bool| trigger("gitlab", GITLAB).watch(json!({ "files": ["/src/"], "onChangeOnly": !always }));
    gitlab(false).commit("gitlab-push").unwrap();
    assert_eq!(gitlab(true).commit("gitlab-push"), OTHER_FILES);
    gitlab(true).commit("gitlab-many").unwrap();
    trigger("bitbucket", BITBUCKET).watch(json!({ "files": ["/src/"], "onChangeOnly": false })).commit("bitbucket-push").unwrap();
}

#[test]
fn types_without_a_payload_take_any_body() {
    for auth_type in ["header", "hmac"] {
        let spec: crd::WebhookTriggerSpec = serde_json::from_value(trigger(auth_type, GITHUB).spec).unwrap();
        let plan = spec.common.plan("default", 1).unwrap();
        assert!(Listening::new(&spec.webhook, &plan, |_: &ObjectRef| None).is_none());
    }
}
