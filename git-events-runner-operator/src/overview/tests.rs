use serde_json::{Value, json};

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn lines_of(trigger: Value) -> Vec<Line> {
    let trigger: Guarded<crd::ScheduleTrigger> = serde_json::from_value(trigger).unwrap();
    of_trigger(&trigger, at("2026-01-01T12:00:00Z"))
}

fn trigger(spec: Value, status: Value) -> Value {
    let mut trigger = json!({
        "apiVersion": "git-events-runner.rs/v1alpha1", "kind": "ScheduleTrigger",
        "metadata": { "name": "nightly", "namespace": "team", "uid": "uid" },
        "spec": { "sources": { "names": ["app", "lib"] }, "schedule": { "cron": "0 15 * * *" }, "action": { "kind": "Action", "name": "act" } },
        "status": status,
    });
    trigger["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    trigger
}

#[test]
fn each_source_of_a_trigger_has_a_line() {
    let lines = lines_of(trigger(
        json!({}),
        json!({
            "conditions": [{ "type": "Ready", "status": "True", "reason": "Watching", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
            "checkedSources": { "app": {
                "commitHash": "0123456789abcdef0123456789abcdef01234567", "sequence": 1,
                "lastJob": { "name": "nightly-abc", "uid": "1", "result": "Failed", "finished": "2026-01-01T11:47:30Z" },
            } },
        }),
    ));
    assert_eq!(
        table(&lines),
        "NAMESPACE   TRIGGER                   READY   REASON     SOURCE   COMMIT       JOB           RESULT   FINISHED      NEXT\n\
         team        scheduletrigger/nightly   True    Watching   app      0123456789   nightly-abc   Failed   12m 30s ago   in 3h\n\
         team        scheduletrigger/nightly   True    Watching   lib      -            -             -        -             in 3h\n"
    );
}

#[test]
fn what_is_suspended_or_malformed_does_not_come_next() {
    let next = |lines: Vec<Line>| lines.into_iter().map(|Line(cells)| cells[HEADINGS.len() - 1].clone()).collect::<Vec<_>>();
    assert_eq!(next(lines_of(trigger(json!({ "suspend": true }), json!({})))), ["-", "-"]);
    let malformed = lines_of(trigger(json!({ "schedule": 5 }), json!({})));
    assert_eq!(malformed[0].0[2..4], ["False", "InvalidSpec"]);
    assert_eq!(next(malformed), ["-"]);
}

#[test]
fn the_page_shows_names_as_text() {
    let mut cells = HEADINGS.map(|_| NOTHING.to_owned());
    cells[4] = "<script>&\"".to_owned();
    cells[7] = "Failed".to_owned();
    let page = page::html(&[Line(cells)]);
    assert!(page.contains("<td>&lt;script&gt;&amp;&quot;</td>") && page.contains("<td class=\"bad\">Failed</td>"), "{page}");
    assert!(page.contains("<th scope=\"col\">Namespace</th>") && !page.contains("<script"), "{page}");
    assert!(page::html(&[]).contains("no triggers yet"));
}
