//! The conformance suites: on every implementation that needs nothing from outside, and on broken ones, which they must refuse.
#![cfg(all(feature = "testing", feature = "file"))]
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

#[path = "conformance/broken.rs"]
mod broken;
#[path = "conformance/harness.rs"]
mod harness;

use std::collections::BTreeSet;

use git_events_runner_core::*;
use harness::*;
use jiff::{SignedDuration, Timestamp};

#[tokio::test]
async fn a_store_in_memory_conforms() {
    testing::state_store(|| async { Store::default() }).await;
}

#[tokio::test]
async fn a_store_of_files_conforms() {
    testing::state_store(|| async { Files::new() }).await;
}

#[tokio::test]
async fn an_action_in_memory_conforms() {
    testing::action(|| async { InMemory::new() }).await;
}

#[tokio::test]
async fn a_source_in_memory_conforms() {
    testing::repository(|| async { Repository::new() }).await;
}

#[tokio::test]
async fn a_catalog_in_memory_conforms() {
    testing::catalog(|| async { Objects::default() }).await;
}

#[test]
fn a_policy_conforms() {
    testing::trigger(|| EachMinute::new(|due| due), &instants());
}

#[test]
fn schedules_and_webhooks_conform() {
    let EachMinute { id, plan, .. } = EachMinute::new(|due| due);
    let minute = std::time::Duration::from_secs(60);
    let schedules = [
        Schedule::interval(minute, &id.uid).unwrap(),
        Schedule::cron("* * * * *", Some("Europe/London"), Some(minute / 2), &id.uid).unwrap(),
        Schedule::cron("*/20 * * * * *", None, None, &id.uid).unwrap(),
    ];
    for schedule in schedules {
        let trigger = || ScheduleTrigger::new(id.clone(), plan.clone(), schedule.clone());
        testing::trigger(trigger, &instants());
        testing::trigger(|| trigger().with_starting_deadline(minute / 4), &instants());
    }
    testing::trigger(|| WebhookTrigger::new(id.clone(), plan.clone()), &instants());
    testing::trigger(|| WebhookTrigger::new(id.clone(), plan.clone()).with_recheck(minute).unwrap(), &instants());
}

#[test]
fn a_broken_policy_does_not() {
    let breaks: [fn(Due) -> Due; 4] = [
        |due| Due { firing: due.firing.and_then(|firing| firing.checked_add(SignedDuration::from_mins(1)).ok()), ..due },
        |due| Due { firing: Some(Timestamp::UNIX_EPOCH), ..due },
        |due| Due { next: due.firing, ..due },
        |due| Due { check: BTreeSet::from(["nobody".to_owned()]), ..due },
    ];
    for broken in breaks {
        let checked = std::panic::catch_unwind(|| testing::trigger(|| EachMinute::new(broken), &instants()));
        assert!(checked.is_err());
    }
}

fn instants() -> Vec<Timestamp> {
    (0..12).map(|n| Timestamp::from_second(n * 20).unwrap()).collect()
}
