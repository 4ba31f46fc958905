//! The port to what decides when.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{OnFirstCheck, Plan, TriggerId, TriggerState};

mod schedule;
mod webhook;

pub use schedule::ScheduleTrigger;
pub use webhook::WebhookTrigger;

/// Decides when to look, and nothing else: it has no memory and no clock of its own.
///
/// # Contract
///
/// - `due` is a pure function: the same arguments give the same answer.
/// - It never answers a firing at or before `since.handled` or after `now`, nor a `next` that is not after `now`.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Trigger: Send + Sync {
    /// Which trigger this is.
    fn id(&self) -> &TriggerId;

    /// What it wants done.
    fn plan(&self) -> &Plan;

    /// What is due now.
    fn due(&self, state: &TriggerState, since: Since, now: Timestamp) -> Due;
}

/// What an evaluator has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// All firings up to here were handled.
    pub handled: Timestamp,
    /// True: it has not evaluated the trigger before, or not since the trigger was suspended.
    pub fresh: bool,
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The latest instant of the schedule that is not handled; all sources are to be checked.
    pub firing: Option<Timestamp>,
    /// True: a firing that a source cannot serve now must outlive this process.
    pub durable: bool,
    /// The names of sources to check although no firing is due. They run only if they changed.
    pub check: BTreeSet<String>,
    /// Firings before this instant are too late to be served.
    pub not_before: Option<Timestamp>,
    /// Whether what is pending may be served.
    pub requests: bool,
    /// When to ask again, if nothing happens before.
    pub next: Option<Timestamp>,
}

/// The names of the sources of which this is true, given whether the trigger has a state of them where it watches now.
fn sources_that(plan: &Plan, state: &TriggerState, check: impl Fn(bool) -> bool) -> BTreeSet<String> {
    let known = |name: &String| state.sources.get(name).is_some_and(|state| state.reference == plan.watch.reference);
    plan.sources.iter().map(|source| &source.name).filter(|name| check(known(name))).cloned().collect()
}

/// Whether the first look at a source only takes the baseline for what comes later, and so is due at once.
fn takes_baseline(plan: &Plan) -> bool {
    plan.on_first_check == OnFirstCheck::Record
}

#[cfg(test)]
mod tests;
