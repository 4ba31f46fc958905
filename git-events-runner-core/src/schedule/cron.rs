use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use chrono::{DateTime, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::{GapInfo, Tz};
use jiff::Timestamp;

use super::{ScheduleError, fields, share_of};

/// Longer than any clock was ever put back.
const LONGEST_OVERLAP: i64 = 25 * 60 * 60;

/// After so many years every date has been each day of the week. The search for a date ends at its last year, so to look at no more
/// than these is to start so long before it.
const ALL_CALENDARS: i32 = 28;

/// Instants at which the clock of a zone shows what a pattern says, all late by `offset`.
///
/// The search knows no zone: it runs over what a clock that nobody changes would show, and what it finds is then looked up in the zone.
/// (The library's own search of a zone fires some patterns twice when the clock is put back, and others not at all in a gap.)
#[derive(Clone, Debug)]
pub struct Cron {
    pattern: Arc<Pattern>,
    zone: Tz,
    offset: Duration,
}

impl Cron {
    pub fn new(pattern: &str, zone: Option<&str>, jitter: Option<Duration>, uid: &str) -> Result<Self, ScheduleError> {
        let pattern = pattern.trim();
        let (zone, pattern) = match (pattern.strip_prefix("TZ="), zone) {
            (None, zone) => (zone.unwrap_or("UTC"), pattern),
            (Some(led), zone) => {
                let (own, rest) = led.split_once(char::is_whitespace).unwrap_or((led, ""));
                if let Some(apart) = zone {
                    return Err(ScheduleError::TwoZones { in_pattern: own.to_owned(), apart: apart.to_owned() });
                }
                (own, rest.trim_start())
            }
        };
        let offset = share_of(jitter.unwrap_or_default(), uid);
        let zone = Tz::from_str(zone).map_err(|_unknown| ScheduleError::UnknownZone(zone.to_owned()))?;
        Ok(Self { pattern: Pattern::shared(pattern)?, zone, offset })
    }

    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let reached = self.reached(self.undelayed(after)?)?;
        let next = self.pattern.cron.find_next_occurrence(&reached.and_utc(), false).ok()?;
        self.delayed(next.naive_utc())
    }

    pub fn latest(&self, until: Timestamp) -> Option<Timestamp> {
        let reached = self.reached(self.undelayed(until)?)?;
        let latest = self.pattern.cron.find_previous_occurrence(&reached.and_utc(), true).ok()?;
        self.delayed(latest.naive_utc())
    }

    /// The whole second of the schedule without its jitter.
    fn undelayed(&self, instant: Timestamp) -> Option<DateTime<Utc>> {
        let seconds = instant.checked_sub(self.offset).ok()?.as_nanosecond().div_euclid(1_000_000_000);
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)
    }

    fn delayed(&self, wall: NaiveDateTime) -> Option<Timestamp> {
        Timestamp::from_second(self.instant(wall)?.timestamp()).ok()?.checked_add(self.offset).ok()
    }

    /// When the clock shows this for the first time, or would, were it not in a gap: then the first instant after the gap.
    /// A later time never has an earlier instant.
    fn instant(&self, wall: NaiveDateTime) -> Option<DateTime<Tz>> {
        match self.zone.from_local_datetime(&wall) {
            MappedLocalTime::None => GapInfo::new(&wall, &self.zone)?.end,
            shown => shown.earliest(),
        }
    }

    /// The latest time whose instant is not after this one.
    fn reached(&self, instant: DateTime<Utc>) -> Option<NaiveDateTime> {
        let shown = self.zone.from_utc_datetime(&instant.naive_utc()).naive_local();
        if self.instant(shown)? == instant {
            return Some(shown);
        }
        // The clock was put back and shows this for the second time. What it reached before that is found by halving.
        let ahead = |seconds: i64| shown.checked_add_signed(TimeDelta::seconds(seconds));
        let (mut reached, mut beyond) = (0, LONGEST_OVERLAP);
        while beyond - reached > 1 {
            let middle = i64::midpoint(reached, beyond);
            let is_reached = self.instant(ahead(middle)?)? <= instant;
            *(if is_reached { &mut reached } else { &mut beyond }) = middle;
        }
        ahead(reached)
    }
}

/// A parsed pattern. It takes some 6 KB, so there is one of each in the process, for as long as a schedule uses it.
struct Pattern {
    normal: String,
    cron: croner::Cron,
}

static SHARED: Mutex<BTreeMap<String, Weak<Pattern>>> = Mutex::new(BTreeMap::new());

fn shared() -> MutexGuard<'static, BTreeMap<String, Weak<Pattern>>> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pattern {
    fn shared(text: &str) -> Result<Arc<Self>, ScheduleError> {
        let normal = fields::normalize(text)?;
        let known = shared().get(&normal).and_then(Weak::upgrade);
        if let Some(known) = known {
            return Ok(known);
        }
        let never = |_| ScheduleError::Never(text.to_owned());
        let cron = croner::Cron::from_str(&normal).map_err(never)?;
        let first_year = if normal.ends_with('*') { croner::YEAR_UPPER_LIMIT - ALL_CALENDARS } else { fields::FIRST_YEAR };
        let start = NaiveDate::from_yo_opt(first_year, 1).unwrap_or_default().and_time(NaiveTime::MIN);
        cron.find_next_occurrence(&start.and_utc(), true).map_err(never)?;
        let pattern = Arc::new(Self { normal: normal.clone(), cron });
        shared().insert(normal, Arc::downgrade(&pattern));
        Ok(pattern)
    }
}

impl Drop for Pattern {
    fn drop(&mut self) {
        let mut shared = shared();
        if shared.get(&self.normal).is_some_and(|known| known.strong_count() == 0) {
            shared.remove(&self.normal);
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.normal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_the_same_meaning_are_parsed_once_and_kept_while_they_are_used() {
        let schedule = |pattern| Cron::new(pattern, Some("Asia/Kolkata"), None, "uid").unwrap();
        let [one, other] = ["7 9 * JAN mon-wed", "0 07 9 ? 1 1,2,3 *"].map(schedule);
        assert!(Arc::ptr_eq(&one.pattern, &other.pattern));
        let normal = one.pattern.normal.clone();
        drop(one);
        assert!(shared().contains_key(&normal));
        drop(other);
        assert!(!shared().contains_key(&normal));
    }
}
