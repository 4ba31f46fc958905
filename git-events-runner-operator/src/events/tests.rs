use git_events_runner_core::{ObjectRef, Reference, RunKey};
use git_events_runner_tests::cluster::{Cluster, Mode};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event as Published;
use kube::Api;

use super::*;
use crate::docs;

fn request() -> RunRequest {
    let trigger = TriggerId { kind: String::new(), namespace: String::new(), name: String::new(), uid: String::new() };
    let source = ObjectRef::cluster("ClusterGitRepo", "repo");
    RunRequest::new(
        RunKey { trigger, source: source.clone(), reference: Reference::Branch("main".into()), sequence: 0 },
        source,
        CommitId::from_bytes([0; 20]),
        Timestamp::UNIX_EPOCH,
    )
}

/// One of each, but for failures.
fn one_of_each() -> Vec<Happening> {
    let (source, commit, run) = (String::new(), CommitId::from_bytes([0; 20]), RunRef { name: String::new(), uid: String::new() });
    let finished = |result| Happening::Finished { run: run.clone(), source: source.clone(), result };
    vec![
        Happening::Baseline { source: source.clone(), commit },
        Happening::Registered { run: run.clone(), request: Box::new(request()) },
        Happening::Released(run.clone()),
        Happening::Expired(run.clone()),
        Happening::Deleted(run.clone()),
        Happening::Held { source: source.clone(), why: String::new() },
        finished(RunResult::Succeeded),
        finished(RunResult::Failed),
        Happening::RequestsDropped(String::new()),
        Happening::Recovered(String::new()),
    ]
}

#[test]
fn the_docs_tell_of_all_reasons_of_events() {
    for happening in one_of_each() {
        // A new one does not compile before it is here, and there.
        match happening {
            Happening::Baseline { .. } | Happening::Registered { .. } | Happening::Released(_) | Happening::Expired(_) => {}
            Happening::Deleted(_) | Happening::Held { .. } | Happening::Finished { .. } | Happening::RequestsDropped(_) => {}
            Happening::Failing { .. } | Happening::Recovered(_) => {}
        }
    }
    assert_eq!(docs::listed("Events"), one_of_each().iter().map(Happening::reason).collect());
}

#[tokio::test]
async fn each_happening_is_an_event_of_its_object_with_a_note_of_its_own() {
    let cluster = Cluster::shared(Mode::ControlPlane).await.unwrap();
    let namespace = cluster.namespace().await.unwrap();
    let client = cluster.client().await.unwrap();
    let (events, publisher) = Events::new(client.clone(), "replica".to_owned());
    let id = TriggerId { kind: "ScheduleTrigger".into(), namespace: namespace.to_string(), name: "app".into(), uid: "1".into() };
    let run = RunRef { name: "app-1".into(), uid: "2".into() };
    let message = format!("the token is refused by {}", "é".repeat(1024));
    events.tell(trigger(&id), Happening::Failing { reason: Reason::AuthenticationFailed, message });
    for result in [RunResult::Failed, RunResult::Succeeded] {
        events.tell(trigger(&id), Happening::Finished { run: run.clone(), source: "repo".into(), result });
    }
    events.tell(trigger(&id), Happening::RequestsDropped("source a is gone".into()));
    events.tell(trigger(&id), Happening::RequestsDropped("source b is gone".into()));
    drop(events);
    publisher.publish().await;

    let published = Api::<Published>::namespaced(client, &namespace).list(&Default::default()).await.unwrap();
    let of_trigger = published.iter().filter(|event| event.regarding == Some(trigger(&id)));
    let mut told: Vec<_> = of_trigger.map(|event| [&event.type_, &event.reason, &event.note].map(|text| text.clone().unwrap())).collect();
    told.sort();
    let note = |place: usize| told[place][2].as_str();
    assert_eq!(
        told.iter().map(|[kind, reason, _]| format!("{kind} {reason}")).collect::<Vec<_>>(),
        ["Normal RunSucceeded", "Warning AuthenticationFailed", "Warning RequestsDropped", "Warning RequestsDropped", "Warning RunFailed",]
    );
    assert_eq!((note(2), note(3), note(4)), ("source a is gone", "source b is gone", "Job app-1 for repo is over: Failed"));
    assert!(note(1).len() <= MAX_NOTE && note(1).starts_with("the token is refused"));
    let related = published.iter().find(|event| event.reason.as_deref() == Some("RunFailed")).unwrap().related.clone().unwrap();
    assert_eq!((related.kind, related.name, related.uid), (Some("Job".into()), Some(run.name), Some(run.uid)));
}

#[tokio::test]
async fn what_cannot_be_published_holds_nobody_up() {
    let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let (events, publisher) = Events::new(config.try_into().unwrap(), "replica".to_owned());
    for _ in 0..2 * MAX_WAITING {
        events.tell(ObjectReference::default(), Happening::Recovered("it works".into()));
    }
    drop(events);
    publisher.publish().await;
}
