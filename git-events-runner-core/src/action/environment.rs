use crate::{ObjectRef, RequestId, Revision, RunRequest};

/// The variables that tell an action what it runs for: names without a prefix, in a fixed order, and values.
///
/// `workdir` is where the files are checked out, `source_uri` where the trigger's source is; `overridden` is what is checked out
/// instead of the trigger's source, if the action says so. All names are always there: what there is nothing to say about is empty.
///
/// An action gets each of them twice, with the configured prefix and without. The values are other people's text (anybody may name
/// a branch): they are passed as environment and never become part of a command.
pub fn environment(
    run: &RunRequest,
    workdir: &str,
    source_uri: &str,
    overridden: Option<&(ObjectRef, Revision)>,
) -> Vec<(&'static str, String)> {
    let (key, trigger, source) = (&run.key, &run.key.trigger, &run.key.source);
    let request = run.owed_to.iter().chain(&run.requests).find(|id| **id != RequestId::scheduled());
    let mut variables = vec![
        ("WORKDIR", workdir.to_owned()),
        ("TRIGGER_KIND", trigger.kind.clone()),
        ("TRIGGER_NAMESPACE", trigger.namespace.clone()),
        ("TRIGGER_NAME", trigger.name.clone()),
        ("TRIGGER_SOURCE_KIND", source.kind.clone()),
        ("TRIGGER_SOURCE_NAMESPACE", source.namespace.clone().unwrap_or_default()),
        ("TRIGGER_SOURCE_NAME", source.name.clone()),
        ("TRIGGER_SOURCE_URI", source_uri.to_owned()),
        ("TRIGGER_SOURCE_COMMIT", run.commit.to_string()),
        ("TRIGGER_SOURCE_PREVIOUS_COMMIT", run.previous.map(|commit| commit.to_string()).unwrap_or_default()),
        ("TRIGGER_SOURCE_REF_TYPE", key.reference.kind().to_owned()),
        ("TRIGGER_SOURCE_REF_NAME", key.reference.name()),
        ("TRIGGER_REQUEST_ID", request.map(|id| id.to_string()).unwrap_or_default()),
    ];
    if let Some((source, revision)) = overridden {
        variables.extend([
            ("ACTION_SOURCE_KIND", source.kind.clone()),
            ("ACTION_SOURCE_NAMESPACE", source.namespace.clone().unwrap_or_default()),
            ("ACTION_SOURCE_NAME", source.name.clone()),
            ("ACTION_SOURCE_COMMIT", revision.commit.to_string()),
            ("ACTION_SOURCE_REF_TYPE", revision.reference.kind().to_owned()),
            ("ACTION_SOURCE_REF_NAME", revision.reference.name()),
        ]);
    }
    variables
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{CommitId, Reference, RunKey, TriggerId};

    fn request() -> RunRequest {
        RunRequest {
            previous: Some(CommitId::from_bytes([2; 20])),
            requests: ["first", "second"].map(|id| id.parse().unwrap()).into(),
            owed_to: Some("second".parse().unwrap()),
            ..RunRequest::new(
                RunKey {
                    trigger: TriggerId { kind: "WebhookTrigger".into(), namespace: "team".into(), name: "deploy".into(), uid: "1".into() },
                    source: ObjectRef::cluster("ClusterGitRepo", "app"),
                    reference: Reference::Branch("main; rm -rf /".into()),
                    sequence: 3,
                },
                ObjectRef::namespaced("Action", "team", "deploy"),
                CommitId::from_bytes([1; 20]),
                jiff::Timestamp::UNIX_EPOCH,
            )
        }
    }

    #[test]
    fn an_action_is_told_what_it_runs_for() {
        let variables: BTreeMap<_, _> = environment(&request(), "/work", "https://git.example.com/app.git", None).into_iter().collect();
        let expected = [
            ("TRIGGER_KIND", "WebhookTrigger"),
            ("TRIGGER_NAME", "deploy"),
            ("TRIGGER_NAMESPACE", "team"),
            ("TRIGGER_REQUEST_ID", "second"),
            ("TRIGGER_SOURCE_COMMIT", "0101010101010101010101010101010101010101"),
            ("TRIGGER_SOURCE_KIND", "ClusterGitRepo"),
            ("TRIGGER_SOURCE_NAME", "app"),
            ("TRIGGER_SOURCE_NAMESPACE", ""),
            ("TRIGGER_SOURCE_PREVIOUS_COMMIT", "0202020202020202020202020202020202020202"),
            ("TRIGGER_SOURCE_REF_NAME", "main; rm -rf /"),
            ("TRIGGER_SOURCE_REF_TYPE", "branch"),
            ("TRIGGER_SOURCE_URI", "https://git.example.com/app.git"),
            ("WORKDIR", "/work"),
        ];
        assert_eq!(variables.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn another_source_than_the_triggers_is_told_as_well() {
        let revision = Revision { reference: Reference::Tag("v1".into()), commit: CommitId::from_bytes([3; 20]) };
        let overridden = (ObjectRef::namespaced("GitRepo", "team", "tools"), revision);
        let variables = environment(&request(), "/work", "", Some(&overridden));
        let of_action: Vec<_> = variables.iter().filter(|(name, _)| name.starts_with("ACTION_")).map(|(n, v)| (*n, v.as_str())).collect();
        let expected = [
            ("ACTION_SOURCE_KIND", "GitRepo"),
            ("ACTION_SOURCE_NAMESPACE", "team"),
            ("ACTION_SOURCE_NAME", "tools"),
            ("ACTION_SOURCE_COMMIT", "0303030303030303030303030303030303030303"),
            ("ACTION_SOURCE_REF_TYPE", "tag"),
            ("ACTION_SOURCE_REF_NAME", "v1"),
        ];
        assert_eq!(of_action, expected);
    }
}
