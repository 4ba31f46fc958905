//! When a trigger fires: intervals and cron patterns, as pure functions of time.

use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

mod cron;
mod fields;
mod interval;

use cron::Cron;
use interval::Interval;

/// The instants at which a trigger fires. It knows no present: whoever asks says what time it is.
///
/// Clones are cheap, and equal cron patterns share what they were parsed to.
///
/// ```
/// use git_events_runner_core::{Schedule, parse_duration};
/// use jiff::Timestamp;
///
/// let at = |text: &str| text.parse::<Timestamp>();
/// let nine = Schedule::cron("0 9 * * MON-FRI", Some("Europe/London"), None, "uid")?;
/// assert_eq!(nine.next_after(at("2026-03-27T12:00:00Z")?), Some(at("2026-03-30T08:00:00Z")?));
/// assert_eq!(nine.latest(at("2026-03-01T00:00:00Z")?, at("2026-03-29T00:00:00Z")?), Some(at("2026-03-27T09:00:00Z")?));
///
/// let steady = Schedule::interval(parse_duration("1h 30m")?, "uid")?;
/// let first = steady.next_after(at("2026-01-01T00:00:00Z")?).expect("time goes on");
/// assert_eq!(steady.next_after(first), Some(first + parse_duration("90m")?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Schedule(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Interval(Interval),
    Cron(Cron),
}

impl Schedule {
    /// Fires each time so much time has passed.
    ///
    /// The instants are fixed: they depend on the interval and the uid, and on nothing else. So a restart moves none of them, and triggers
    /// of one interval are spread over it.
    ///
    /// # Errors
    ///
    /// [`ScheduleError::IntervalTooShort`] below one second.
    pub fn interval(every: Duration, uid: &str) -> Result<Self, ScheduleError> {
        Interval::new(every, uid).map(Kind::Interval).map(Self)
    }

    /// Fires when the clock of a time zone shows what a pattern says.
    ///
    /// - The pattern has five fields: minute, hour, day of month, month, day of week. With six, the first is the second; with seven, the last
    ///   is the year. Each is `*`, a value, a range `a-b`, a step `*/n`, `a/n` or `a-b/n`, or a list of these. Months and days of the week have
    ///   names. Days of the month may be `?`, `L` (the last), `15W` (the weekday nearest to the 15th) and `LW` (the last weekday);
    ///   days of the week `?`, `5L` (the last Friday) and `5#2` (the second Friday). When both kinds of day are given, either is enough.
    /// - `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight` and `@hourly` stand for what they say.
    /// - The zone is an IANA name, given apart or in front of the pattern as `TZ=Area/City `, but not both; without one it is UTC.
    /// - With a jitter, everything is late by a part of it that depends on the uid alone.
    ///
    /// When the clock is put forward, what falls into the gap fires once at the first instant after it. When it is put back, what the clock
    /// shows twice fires the first time only: also `*/5 * * * *` rests meanwhile. [`interval`](Self::interval) knows no clock changes.
    ///
    /// # Errors
    ///
    /// Which part is wrong, and what is allowed there; [`ScheduleError::Never`] for a pattern without any instant, such as 30 February.
    pub fn cron(pattern: &str, zone: Option<&str>, jitter: Option<Duration>, uid: &str) -> Result<Self, ScheduleError> {
        Cron::new(pattern, zone, jitter, uid).map(Kind::Cron).map(Self)
    }

    /// The first instant after this one at which it fires; None when there is none any more.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.0 {
            Kind::Interval(interval) => interval.next_after(after),
            Kind::Cron(cron) => cron.next_after(after),
        }
    }

    /// The last instant after `after` and not after `until` at which it fires, if there is one. It takes no longer for a long time than
    /// for a short one.
    pub fn latest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let latest = match &self.0 {
            Kind::Interval(interval) => interval.latest(until),
            Kind::Cron(cron) => cron.latest(until),
        };
        latest.filter(|latest| *latest > after)
    }

    /// Whether it was made by [`interval`](Self::interval).
    pub fn is_interval(&self) -> bool {
        matches!(self.0, Kind::Interval(_))
    }
}

/// What is wrong with a schedule, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// An interval is shorter than one second.
    #[error("an interval of {0:?} is too short: the shortest is `1s`")]
    IntervalTooShort(Duration),
    /// There is no such time zone.
    #[error("there is no time zone `{0}`: use an IANA name such as `Europe/London` or `UTC`")]
    UnknownZone(String),
    /// A time zone is given twice.
    #[error("the pattern has its own time zone `TZ={in_pattern}` beside the time zone `{apart}`: give only one of them")]
    TwoZones {
        /// The one in front of the pattern.
        in_pattern: String,
        /// The other one.
        apart: String,
    },
    /// There is no such `@name`.
    #[error("`{0}` is not known: use `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight` or `@hourly`{hint}", hint = hint(.0))]
    UnknownName(String),
    /// The pattern has too many or too few fields.
    #[error(
        "`{pattern}` has {count} fields: a cron pattern has 5 (minute, hour, day of month, month, day of week), \
         6 (a second before them) or 7 (a year after them)"
    )]
    FieldCount {
        /// The pattern, without a time zone.
        pattern: String,
        /// How many it has.
        count: usize,
    },
    /// Something in a field is not allowed there.
    #[error("`{part}` is not a {field}: allowed are {allowed}, ranges `a-b`, steps `*/n`, `a/n` and `a-b/n`, and lists of these")]
    Field {
        /// Which field: `second`, `minute`, `hour`, `day of month`, `month`, `day of week` or `year`.
        field: &'static str,
        /// The item of its list that is wrong.
        part: String,
        /// The values that the field may have.
        allowed: &'static str,
    },
    /// There is no instant that matches the pattern.
    #[error("`{0}` never fires: no date matches all of its fields")]
    Never(String),
}

fn hint(name: &str) -> &'static str {
    if name.to_ascii_lowercase().starts_with("@every") { ", or an interval in place of `@every`" } else { "" }
}

/// A text is not a duration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{text}` is not a duration such as `90s`, `5m`, `1h 30m` or `1day`: {cause}")]
pub struct NotADuration {
    text: String,
    cause: humantime::DurationError,
}

/// Reads a duration as every field of the API has it: `10s`, `5h30m25s`, `1h 30m`, `1day`, `250ms`.
///
/// # Errors
///
/// [`NotADuration`], also for a number without a unit.
pub fn parse_duration(text: &str) -> Result<Duration, NotADuration> {
    humantime::parse_duration(text).map_err(|cause| NotADuration { text: text.chars().take(64).collect(), cause })
}

/// A part of a duration that depends on the uid alone, in whole milliseconds.
fn share_of(whole: Duration, uid: &str) -> Duration {
    let mut hash = [0; 8];
    hash.copy_from_slice(&Sha256::digest(uid)[..8]);
    let milliseconds = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(u64::from_be_bytes(hash).checked_rem(milliseconds).unwrap_or_default())
}

#[cfg(test)]
mod tests;
