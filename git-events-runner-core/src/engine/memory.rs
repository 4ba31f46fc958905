use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{EvaluateError, Outcome};
use crate::{Plan, Retry, Since};

/// The longest time between two attempts at what fails, unless the other side asks for more.
const MAX_BACKOFF: Duration = Duration::from_secs(300);

/// The longest time that is waited because the other side asked for it.
const MAX_ASKED: Duration = Duration::from_secs(24 * 3600);

/// What an evaluator remembers of one trigger from one evaluation to the next. Losing it loses no event.
#[derive(Clone, Debug)]
pub struct Memory {
    pub(super) since: Since,
    /// There may be registered runs that no state names.
    pub(super) may_have_leftovers: bool,
    failing: BTreeMap<String, Failing>,
    failing_whole: Option<Failing>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    times: u32,
    since: Timestamp,
    not_before: Timestamp,
}

impl Memory {
    /// Nothing but that all firings up to an instant were handled: by an earlier evaluator, or because the trigger is younger.
    pub fn new(handled: Timestamp) -> Self {
        Self { since: Since { handled, fresh: true }, may_have_leftovers: true, failing: BTreeMap::new(), failing_whole: None }
    }

    /// When to try again after an evaluation that came to nothing, or of which nothing could be settled: later each time.
    pub fn failed(&mut self, error: &EvaluateError, now: Timestamp) -> Timestamp {
        let failing = Failing::again(self.failing_whole, error.retry(), now);
        self.failing_whole = Some(failing);
        self.may_have_leftovers = true;
        failing.not_before
    }

    /// Has everything that has failed tried again at the next evaluation: something that it depends on is another by now.
    pub fn try_again(&mut self) {
        for failing in self.failing.values_mut() {
            failing.not_before = Timestamp::MIN;
        }
    }

    pub(super) fn is_blocked(&self, source: &str, now: Timestamp) -> bool {
        self.failing.get(source).is_some_and(|failing| !failing.is_due(now))
    }

    /// The sources that failed, and whose time has come.
    pub(super) fn due_again(&self, now: Timestamp) -> BTreeSet<String> {
        self.failing.iter().filter(|(_, failing)| failing.is_due(now)).map(|(name, _)| name.clone()).collect()
    }

    /// Has a source looked at again, even if nothing else asks for it.
    pub(super) fn look_again(&mut self, source: &str, at: Timestamp) {
        self.failing.insert(source.to_owned(), Failing { times: 0, since: Timestamp::MIN, not_before: at });
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.failing.values().map(|failing| failing.not_before).min()
    }

    /// Says that everything is settled but runs that may still be registered. Whatever fails before that has it settled again.
    pub(super) fn settled(&mut self, may_have_leftovers: bool) {
        self.may_have_leftovers = may_have_leftovers;
        self.failing_whole = None;
    }

    pub(super) fn evaluated(&mut self, plan: &Plan, outcomes: &BTreeMap<String, Outcome>, now: Timestamp) {
        self.since = Since { handled: now, fresh: false };
        self.failing.retain(|source, _| plan.source(source).is_some());
        for (source, outcome) in outcomes {
            let failed_before = self.failing.remove(source);
            if let Outcome::Failed(failure) = outcome {
                self.may_have_leftovers = true;
                self.failing.insert(source.clone(), Failing::again(failed_before, failure.retry(), now));
            }
        }
    }
}

impl Failing {
    /// Also when the clock was put back: what was to come soon might be hours away.
    fn is_due(&self, now: Timestamp) -> bool {
        self.not_before <= now || now < self.since
    }

    fn again(before: Option<Self>, retry: Retry, now: Timestamp) -> Self {
        let times = before.map_or(0, |before| before.times.saturating_add(1));
        let backoff = Duration::from_secs(1 << times.min(9)).min(MAX_BACKOFF);
        let wait = if retry == Retry::Never { MAX_BACKOFF } else { retry.wait(backoff).min(MAX_ASKED) };
        Self { times, since: now, not_before: now.saturating_add(wait).unwrap_or(Timestamp::MAX) }
    }
}
