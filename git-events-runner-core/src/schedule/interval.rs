use std::time::Duration;

use jiff::Timestamp;

use super::{ScheduleError, share_of};

/// Instants that are one interval apart, in nanoseconds since 1970.
#[derive(Clone, Debug)]
pub struct Interval {
    every: i128,
    phase: i128,
}

impl Interval {
    pub fn new(every: Duration, uid: &str) -> Result<Self, ScheduleError> {
        if every < Duration::from_secs(1) {
            return Err(ScheduleError::IntervalTooShort(every));
        }
        Ok(Self { every: nanoseconds(every), phase: nanoseconds(share_of(every, uid)) })
    }

    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        Timestamp::from_nanosecond(self.reached(after) + self.every).ok()
    }

    pub fn latest(&self, until: Timestamp) -> Option<Timestamp> {
        Timestamp::from_nanosecond(self.reached(until)).ok()
    }

    fn reached(&self, until: Timestamp) -> i128 {
        let until = until.as_nanosecond();
        until - (until - self.phase).rem_euclid(self.every)
    }
}

fn nanoseconds(duration: Duration) -> i128 {
    i128::from(duration.as_secs()) * 1_000_000_000 + i128::from(duration.subsec_nanos())
}
