use super::{super::recorded::recorded, *};

fn read(name: &str) -> Said {
    let forge = match name.split('-').next() {
        Some("github") => Forge::Github,
        Some("gitlab") => Forge::Gitlab,
        Some("gitea" | "forgejo" | "gogs") => Forge::Gitea,
        _ => Forge::Bitbucket,
    };
    let (headers, body) = recorded(name);
    forge.read(&headers, &body).unwrap()
}

/// What is said to have moved, in one line each: reference, commit, and files.
fn moved(name: &str) -> Option<Vec<String>> {
    let text = |moved: &Moved| {
        let to = match moved.commit {
            Some(commit) => commit.to_string()[..7].to_owned(),
            None if moved.is_deleted => "deleted".to_owned(),
            None => "unknown".to_owned(),
        };
        let files = moved.files.as_ref().map(|files| {
            let sign = if files.may_be_forced { "?" } else { "" };
            format!(" {}{sign}", files.paths.join(" "))
        });
        format!("{} {to}{}", moved.reference, files.unwrap_or_default())
    };
    read(name).moved.map(|all| all.iter().map(text).collect())
}

#[test]
fn pushes_of_every_forge_are_read() {
    for (name, event, expected) in [
        ("github-push", "push", "branch main 0d1a26e charts/app/values.yaml docs/logo.png docs/logo.svg"),
        ("github-form", "push", "branch main 0d1a26e charts/app/values.yaml docs/logo.png docs/logo.svg"),
        ("github-forced", "push", "branch main 0d1a26e"),
        ("github-tag", "push", "tag v1.0.0 0d1a26e"),
        ("github-deleted", "push", "branch main deleted"),
        ("gitlab-push", "push", "branch main da15608 README.md locales/uk.yaml?"),
        ("gitlab-signed", "push", "branch main da15608 README.md locales/uk.yaml?"),
        ("gitlab-system", "push", "branch main da15608 README.md locales/uk.yaml?"),
        ("gitlab-many", "push", "branch main da15608"),
        ("gitlab-tag", "tag_push", "tag v1.0.0 82b3d5a"),
        ("gitlab-deleted", "push", "branch main deleted"),
        ("gitea-push", "push", "branch main 02c3765 charts/app/values.yaml src/main.rs?"),
        ("gitea-forced", "push", "branch main d1c6e92 x?"),
        ("gitea-tag", "push", "tag v1 02c3765"),
        ("gitea-annotated-tag", "push", "tag v2 1b78e6b"),
        ("gitea-deleted-tag", "push", "tag v1 deleted"),
        ("gitea-test", "push", "branch main d1c6e92"),
        ("forgejo-push", "push", "branch main c0ffee1 README.md charts/app/values.yaml?"),
        ("gogs-push", "push", "branch main c0ffee1"),
        ("gogs-create", "create", "tag v1.0.0 unknown"),
        ("bitbucket-tag", "repo:push", "tag v1.0.0 709d658"),
        ("bitbucket-deleted", "repo:push", "branch main deleted"),
        ("bitbucket-data-center-push", "repo:refs_changed", "branch main 178864a"),
        ("bitbucket-data-center-tag", "repo:refs_changed", "tag v1.0.0 178864a"),
        ("bitbucket-data-center-deleted", "repo:refs_changed", "branch main deleted"),
    ] {
        assert_eq!(moved(name), Some(vec![expected.to_owned()]), "{name}");
        assert_eq!(read(name).event.as_deref(), Some(event), "{name}");
    }
    assert_eq!(moved("bitbucket-push").unwrap(), ["branch topic 1111111", "branch main 709d658"]);
}

#[test]
fn what_is_no_push_moves_nothing() {
    for (name, event) in [
        ("github-ping", "ping"),
        ("github-pull-request", "pull_request"),
        ("gitlab-merge-request", "merge_request"),
        ("gitea-pull-request", "pull_request"),
        // Gitea sends a push for the tag as well.
        ("gitea-create", "create"),
        ("bitbucket-pull-request", "pullrequest:created"),
        ("bitbucket-data-center-ping", "diagnostics:ping"),
        ("bitbucket-data-center-pull-request", "pr:opened"),
    ] {
        assert_eq!((moved(name), read(name).event.as_deref()), (None, Some(event)), "{name}");
    }
}

#[test]
fn the_repository_is_known_by_each_way_to_it() {
    for (name, uris) in [
        ("github-push", ["https://github.com/team/app", "git@github.com:team/app.git"]),
        ("github-pull-request", ["https://github.com/team/app", "ssh://git@ssh.github.com:443/team/app"]),
        ("gitlab-push", ["https://gitlab.example.com/team/app.git", "git@gitlab.example.com:Team/app.git"]),
        ("gitlab-merge-request", ["https://gitlab.example.com/team/app.git", "git@gitlab.example.com:team/app.git"]),
        ("gitea-push", ["http://127.0.0.1:3000/dev/app", "ssh://git@127.0.0.1:2222/dev/app.git"]),
        ("forgejo-push", ["https://forgejo.example.com/team/app", "git@forgejo.example.com:team/app.git"]),
        ("gogs-push", ["https://gogs.example.com/team/app", "git@gogs.example.com:team/app.git"]),
        ("gogs-create", ["https://gogs.example.com/team/app", "git@gogs.example.com:team/app.git"]),
        ("bitbucket-push", ["https://bitbucket.org/team/app", "git@bitbucket.org:team/app.git"]),
        ("bitbucket-data-center-tag", ["https://bitbucket.example.com/scm/team/app.git", "ssh://bitbucket.example.com/team/app"]),
        ("bitbucket-data-center-push", ["https://bitbucket.example.com/scm/team/app", "ssh://git@bitbucket.example.com:7999/team/app.git"]),
    ] {
        let named = read(name).repository;
        for uri in uris.map(|uri| RepoUri::parse(uri).unwrap()) {
            assert!(named.iter().any(|named| named.is_same_repository(&uri)), "{name}: {uri} in {named:?}");
        }
        let other = RepoUri::parse("https://github.com/team/website").unwrap();
        assert!(!named.iter().any(|named| named.is_same_repository(&other)), "{name}");
    }
    assert!(read("bitbucket-data-center-ping").repository.is_empty());
}

#[test]
fn deliveries_are_told_apart() {
    for (forge, name, expected) in [
        (Forge::Github, "github-push", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        (Forge::Gitlab, "gitlab-push", "f5e5f430-f57b-4e6e-9fac-c58cd7f5bd0a"),
        (Forge::Gitlab, "gitlab-signed", "f5e5f430-f57b-4e6e-9fac-c58cd7f5bd0b"),
        (Forge::Gitea, "gitea-push", "719e992c-5404-4c30-9561-a058270a219e"),
        (Forge::Gitea, "forgejo-push", "7c9d2b1e-3a44-4d0b-8a1f-5e6f7a8b9c02"),
        (Forge::Gitea, "gogs-push", "0b5f1c52-6f0e-4c0e-9a53-2f7a9d6c1e01"),
        (Forge::Gitea, "gogs-create", "f6266f16-1bf3-46a5-9ea4-602e06ead473"),
        (Forge::Bitbucket, "bitbucket-push", "3f1c6a0e-7f0b-4a8e-8d0c-5f3f5a1b0001"),
        (Forge::Bitbucket, "bitbucket-data-center-push", "3f1c6a0e-7f0b-4a8e-8d0c-5f3f5a1b0005"),
    ] {
        assert_eq!(forge.delivery(&recorded(name).0), Some(expected.as_bytes()), "{name}");
        assert_eq!(forge.delivery(&HeaderMap::new()), None);
    }
}

/// What GitHub's push says after its body was changed.
fn changed(change: impl FnOnce(&mut Value)) -> Said {
    let (headers, body) = recorded("github-push");
    let mut body: Value = serde_json::from_slice(&body).unwrap();
    change(&mut body);
    Forge::Github.read(&headers, body.to_string().as_bytes()).unwrap()
}

fn only(said: Said) -> Moved {
    said.moved.unwrap().pop().unwrap()
}

#[test]
fn what_cannot_be_read_is_left_out_and_the_rest_is_read() {
    assert_eq!(changed(|body| body["ref"] = 1.into()).moved, None);
    assert_eq!(changed(|body| body["ref"] = "refs/pull/1/head".into()).moved, Some(vec![]), "nobody watches that");
    for commit in [Value::Null, 1.into(), "0d1a26e".into(), "".into(), "x".repeat(40).into(), "0".repeat(64).replace('0', "a").into()] {
        let moved = only(changed(|body| body["after"] = commit.clone()));
        assert_eq!((moved.commit, moved.is_deleted), (None, false), "{commit}");
        assert!(moved.files.is_some());
    }
    assert!(changed(|body| body["repository"] = "team/app".into()).repository.is_empty());
    assert_eq!(changed(|body| body["repository"]["clone_url"] = "https://me:token@github.com/team/app".into()).repository.len(), 4);
}

#[test]
fn a_list_of_files_that_may_not_be_whole_is_none() {
    let whole = |change: &dyn Fn(&mut Value)| only(changed(|body| change(body))).files.is_some();
    assert!(whole(&|_| {}));
    assert!(!whole(&|body| body["commits"] = Value::Null));
    assert!(!whole(&|body| body["commits"] = Value::Array(vec![])));
    assert!(!whole(&|body| body["commits"][0]["removed"] = Value::Null));
    assert!(!whole(&|body| body["commits"][1]["added"] = vec![1].into()));
    assert!(!whole(&|body| body["before"] = "0".repeat(40).into()));
    assert!(!whole(&|body| body["before"] = Value::Null));
    assert!(!whole(&|body| body["commits"] = vec![body["commits"][0].clone(); MAX_COMMITS].into()));
    let paths = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
    assert!(whole(&|body| body["commits"][0]["added"] = paths(MAX_PATHS - 4).into()));
    assert!(!whole(&|body| body["commits"][0]["added"] = paths(MAX_PATHS).into()));
    assert!(!whole(&|body| body["forced"] = Value::Null), "Gogs lists five, and does not say of how many");
}

#[test]
fn what_a_file_was_called_before_gitlab_does_not_list() {
    let (headers, body) = recorded("gitlab-push");
    let mut body: Value = serde_json::from_slice(&body).unwrap();
    body["commits"][0]["added"] = vec!["new-name"].into();
    let moved = only(Forge::Gitlab.read(&headers, body.to_string().as_bytes()).unwrap());
    assert_eq!(moved.files, None);
}

#[test]
fn a_system_hook_of_gitlab_has_the_event_in_one_of_two_fields() {
    let (headers, body) = recorded("gitlab-system");
    let mut body: Value = serde_json::from_slice(&body).unwrap();
    body.as_object_mut().unwrap().remove("event_name");
    body["object_kind"] = "merge_request".into();
    let said = Forge::Gitlab.read(&headers, body.to_string().as_bytes()).unwrap();
    assert_eq!((said.event.as_deref(), said.moved), (Some("merge_request"), None));
}

#[test]
fn a_body_that_is_no_json_object_is_refused() {
    let (headers, _) = recorded("github-push");
    let (form, _) = recorded("github-form");
    for body in ["", "push", "[]", "\"push\"", "1", "null", "{", "{}{}", "\u{0}", &"[".repeat(3 << 20), &"{\"a\":".repeat(1 << 20)] {
        assert!(Forge::Github.read(&headers, body.as_bytes()).is_err(), "{:.20}", body);
        assert!(Forge::Github.read(&form, format!("payload={body}").as_bytes()).is_err());
    }
    assert!(Forge::Github.read(&form, b"{}").is_err(), "the field payload is missing");
    assert!(Forge::Github.read(&headers, b"\xff{}").is_err());
    let empty = Said { event: Some("push".to_owned()), repository: vec![], moved: None };
    assert_eq!(Forge::Github.read(&headers, b"{}").unwrap(), empty);
    assert_eq!(Forge::Github.read(&form, b"other=1&payload=%7B%7D").unwrap(), empty);
}

#[test]
fn a_body_that_is_cut_off_is_refused_and_one_with_another_byte_anywhere_is_read_or_refused() {
    for (forge, name) in
        [(Forge::Github, "github-push"), (Forge::Gitlab, "gitlab-push"), (Forge::Gitea, "gitea-push"), (Forge::Bitbucket, "bitbucket-push")]
    {
        let (headers, body) = recorded(name);
        for end in (0..body.len()).step_by(31) {
            assert!(forge.read(&headers, &body[..end]).is_err(), "{name}: {end} bytes");
            for byte in *b"\"{0\xff" {
                let mut other = body.clone();
                other[end] = byte;
                let _ = forge.read(&headers, &other);
            }
        }
    }
}

#[test]
fn an_event_is_the_same_by_each_of_its_names() {
    for (name, expected) in [
        ("push", "push"),
        ("Push Hook", "push"),
        ("Merge Request Hook", "merge_request"),
        ("merge_request", "merge_request"),
        ("repo:push", "repo:push"),
    ] {
        assert_eq!(event_name(name), expected);
    }
}

#[test]
fn a_body_with_more_in_it_than_any_push_has_is_not_taken_apart() {
    let (headers, body) = recorded("github-push");
    let body = String::from_utf8(body).unwrap();
    for (more, is_read) in [("[],".repeat(1000), true), ("[],".repeat(MAX_OBJECTS), false), ("0,".repeat(MAX_VALUES), false)] {
        let body = body.replacen('{', &format!("{{\"more\":[{more}0],"), 1);
        let said = Forge::Github.read(&headers, body.as_bytes()).unwrap();
        assert_eq!(said.event.as_deref(), Some("push"));
        assert_eq!((said.moved.is_some(), !said.repository.is_empty()), (is_read, is_read));
    }
    let (headers, body) = recorded("gitlab-system");
    let body = String::from_utf8(body).unwrap().replacen('{', &format!("{{\"more\":[{}0],", "0,".repeat(MAX_VALUES)), 1);
    assert_eq!(Forge::Gitlab.read(&headers, body.as_bytes()).unwrap().event, None, "which is not known counts as one that is listened to");
}
