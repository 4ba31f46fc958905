//! Conditions by the rules of kstatus: Ready says whether an object works, Reconciling that it is being tried again, Stalled that it
//! cannot work before somebody changes something. The latter two are there only while they are true.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The most of a message that is kept, in bytes: an API server takes no more than 32,768.
const MAX_MESSAGE: usize = 1024;

/// How an object is, in one of three ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It works.
    Ready,
    /// It does not work now, and is tried again.
    Retrying,
    /// It does not work before somebody changes something.
    Stalled,
}

/// Why an object is as it is, where that is no failure's [`Reason`](git_events_runner_core::Reason).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The last run of a trigger has waited too long, and was given up.
    Expired,
    /// A repository can be reached.
    Reachable,
    /// A trigger is suspended.
    Suspended,
    /// Nothing is wrong with it, as far as can be seen without a trigger.
    Valid,
    /// The sources of a trigger are watched.
    Watching,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How an object is, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub level: Level,
    /// A word in the form of a constant.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl Health {
    pub fn new(level: Level, reason: impl ToString, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE - "…".len()));
            message.push('…');
        }
        Self { level, reason: reason.to_string(), message }
    }

    pub fn ready(reason: impl ToString, message: impl Into<String>) -> Self {
        Self::new(Level::Ready, reason, message)
    }

    /// The conditions that say this of a generation. One that has not changed keeps the time since when it is so.
    pub fn conditions(&self, generation: Option<i64>, before: &[Condition], now: Timestamp) -> Vec<Condition> {
        let condition = |kind: &str, holds: bool| {
            let status = if holds { "True" } else { "False" };
            let since = before.iter().find(|before| before.type_ == kind && before.status == status);
            Condition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: self.reason.clone(),
                message: self.message.clone(),
                observed_generation: generation,
                last_transition_time: since.map_or(Time(now), |since| since.last_transition_time.clone()),
            }
        };
        let ready = condition("Ready", self.level == Level::Ready);
        let abnormal = match self.level {
            Level::Ready => None,
            Level::Retrying => Some(condition("Reconciling", true)),
            Level::Stalled => Some(condition("Stalled", true)),
        };
        [ready].into_iter().chain(abnormal).collect()
    }

    /// What conditions say, if they are of this generation.
    pub fn said_by(conditions: &[Condition], generation: Option<i64>) -> Option<Self> {
        let find = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
        let ready = find("Ready").filter(|ready| ready.observed_generation == generation)?;
        let is_true = |kind: &str| find(kind).is_some_and(|condition| condition.status == "True");
        let level = match ready.status.as_str() {
            "True" => Level::Ready,
            _ if is_true("Stalled") => Level::Stalled,
            _ => Level::Retrying,
        };
        Some(Self { level, reason: ready.reason.clone(), message: ready.message.clone() })
    }
}

#[cfg(test)]
mod tests {
    use git_events_runner_core::Reason;

    use super::*;
    use crate::docs;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn told(conditions: &[Condition]) -> Vec<(&str, &str, &str, i64)> {
        let seconds = |condition: &Condition| condition.last_transition_time.0.as_second();
        conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str(), seconds(c))).collect()
    }

    #[test]
    fn the_docs_tell_of_all_reasons_and_of_no_others() {
        let words = [Word::Expired, Word::Reachable, Word::Suspended, Word::Valid, Word::Watching];
        // A new one does not compile before it is here, and there.
        for word in words {
            match word {
                Word::Expired | Word::Reachable | Word::Suspended | Word::Valid | Word::Watching => {}
            }
        }
        let words = words.iter().map(Word::to_string);
        assert_eq!(docs::listed("Reasons of Ready"), words.chain(Reason::ALL.iter().map(Reason::to_string)).collect());
    }

    #[test]
    fn what_works_is_ready_and_nothing_else() {
        let conditions = Health::ready("Watching", "all is well").conditions(Some(2), &[], at(1));
        assert_eq!(told(&conditions), [("Ready", "True", "Watching", 1)]);
        assert_eq!(conditions[0].observed_generation, Some(2));
    }

    #[test]
    fn what_does_not_work_says_whether_it_is_tried_again() {
        let retrying = Health::new(Level::Retrying, "Timeout", "no answer").conditions(None, &[], at(1));
        assert_eq!(told(&retrying), [("Ready", "False", "Timeout", 1), ("Reconciling", "True", "Timeout", 1)]);
        let stalled = Health::new(Level::Stalled, "InvalidSpec", "spec.x").conditions(None, &retrying, at(2));
        assert_eq!(told(&stalled), [("Ready", "False", "InvalidSpec", 1), ("Stalled", "True", "InvalidSpec", 2)]);
    }

    #[test]
    fn the_time_is_that_of_the_last_change_of_status() {
        let ready = Health::ready("Watching", "").conditions(Some(1), &[], at(1));
        let still = Health::ready("Suspended", "").conditions(Some(2), &ready, at(5));
        assert_eq!(told(&still), [("Ready", "True", "Suspended", 1)]);
    }

    #[test]
    fn conditions_can_be_read_back_for_their_own_generation() {
        for level in [Level::Ready, Level::Retrying, Level::Stalled] {
            let health = Health::new(level, "Why", "message");
            let conditions = health.conditions(Some(3), &[], at(1));
            assert_eq!(Health::said_by(&conditions, Some(3)), Some(health));
            assert_eq!(Health::said_by(&conditions, Some(4)), None);
        }
        assert_eq!(Health::said_by(&[], None), None);
    }

    #[test]
    fn a_long_message_is_cut() {
        let message = Health::ready("Why", "ä".repeat(2000)).message;
        assert!(message.len() <= MAX_MESSAGE && message.ends_with('…'));
    }
}
