//! The schedule against a walk from one second to the next, with a reading of the fields of its own.

use std::fmt;

use chrono::{DateTime, Datelike as _, Days, NaiveDate, NaiveDateTime, TimeDelta, TimeZone as _, Timelike as _, Utc};
use chrono_tz::Tz;
use jiff::Timestamp;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{RngSeed, TestCaseResult, TestRunner},
};

use crate::{Schedule, ScheduleError};

/// One item of the list that a field is.
#[derive(Clone, Copy, Debug)]
enum Item {
    All,
    One(u32),
    Range(u32, u32),
    AllBy(u32),
    FromBy(u32, u32),
    RangeBy(u32, u32, u32),
    /// Of the month: `L`, `LW`, `15W`.
    Last,
    LastWeekday,
    Nearest(u32),
    /// Of the week: `5L`, `5#2`.
    LastOf(u32),
    Nth(u32, u32),
}

use Item::*;

impl Item {
    fn text(self) -> String {
        match self {
            All => "*".into(),
            One(value) => value.to_string(),
            Range(first, last) => format!("{first}-{last}"),
            AllBy(step) => format!("*/{step}"),
            FromBy(first, step) => format!("{first}/{step}"),
            RangeBy(first, last, step) => format!("{first}-{last}/{step}"),
            Last => "L".into(),
            LastWeekday => "LW".into(),
            Nearest(day) => format!("{day}W"),
            LastOf(day) => format!("{day}L"),
            Nth(day, nth) => format!("{day}#{nth}"),
        }
    }

    fn has(self, min: u32, value: u32) -> bool {
        match self {
            All => true,
            One(one) => value == one,
            Range(first, last) => (first..=last).contains(&value),
            AllBy(step) => (value - min).is_multiple_of(step),
            FromBy(first, step) => value >= first && (value - first).is_multiple_of(step),
            RangeBy(first, last, step) => (first..=last).contains(&value) && (value - first).is_multiple_of(step),
            _ => false,
        }
    }

    fn has_date(self, date: NaiveDate) -> bool {
        let month = |day: NaiveDate| day.month() == date.month();
        let mut days = (1..=31).filter_map(|day| date.with_day(day));
        let is_weekday = |day: &NaiveDate| day.weekday().num_days_from_monday() < 5;
        match self {
            Last => !month(date + Days::new(1)),
            LastWeekday => days.rfind(is_weekday) == Some(date),
            Nearest(to) => date.with_day(to).is_some() && days.filter(is_weekday).min_by_key(|day| day.day().abs_diff(to)) == Some(date),
            LastOf(day) => date.weekday().num_days_from_sunday() == day && !month(date + Days::new(7)),
            Nth(day, nth) => date.weekday().num_days_from_sunday() == day && date.day().div_ceil(7) == nth,
            _ => false,
        }
    }
}

#[derive(Clone)]
struct Pattern {
    second: Vec<Item>,
    minute: Vec<Item>,
    hour: Vec<Item>,
    day: Vec<Item>,
    month: Vec<Item>,
    weekday: Vec<Item>,
    year: Vec<Item>,
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl Pattern {
    fn text(&self) -> String {
        let fields = [&self.second, &self.minute, &self.hour, &self.day, &self.month, &self.weekday, &self.year];
        let text = |items: &Vec<Item>| items.iter().map(|item| item.text()).collect::<Vec<_>>().join(",");
        fields.map(text).join(" ")
    }

    fn has_time(&self, time: NaiveDateTime) -> bool {
        let has = |items: &[Item], value| items.iter().any(|item| item.has(0, value));
        has(&self.second, time.second()) && has(&self.minute, time.minute()) && has(&self.hour, time.hour())
    }

    fn has_date(&self, date: NaiveDate) -> bool {
        let has = |items: &[Item], min, value| items.iter().any(|item| item.has(min, value) || item.has_date(date));
        let any = |items: &[Item]| items.iter().any(|item| matches!(item, All | AllBy(1)));
        let day = has(&self.day, 1, date.day());
        let weekday = has(&self.weekday, 0, date.weekday().num_days_from_sunday());
        let (any_day, any_weekday) = (any(&self.day), any(&self.weekday));
        let right_day = if any_day || any_weekday { day && weekday } else { day || weekday };
        right_day && has(&self.month, 1, date.month()) && has(&self.year, 1970, date.year().unsigned_abs())
    }
}

fn item(min: u32, max: u32) -> impl Strategy<Value = Item> {
    let bounds = (min..=max, min..=max).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![
        4 => (min..=max).prop_map(One),
        1 => bounds.clone().prop_map(|(first, last)| Range(first, last)),
        1 => (1..=max - min + 3).prop_map(AllBy),
        1 => (min..=max, 1..=max - min + 3).prop_map(|(first, step)| FromBy(first, step)),
        1 => (bounds, 1..=9_u32).prop_map(|((first, last), step)| RangeBy(first, last, step)),
    ]
}

fn field(all: u32, item: impl Strategy<Value = Item> + 'static) -> impl Strategy<Value = Vec<Item>> {
    prop_oneof![all => Just(vec![All]), 8 => vec(item, 1..4)]
}

fn days(all: u32) -> impl Strategy<Value = Vec<Item>> {
    let day = prop_oneof![3 => item(1, 31), 1 => select(vec![Last, LastWeekday]), 1 => (1..=31_u32).prop_map(Nearest)];
    let both = |days: &Vec<Item>| days.iter().any(|day| matches!(day, Last)) && days.iter().any(|day| matches!(day, LastWeekday));
    field(all, day).prop_filter("`L` is refused beside `LW`", move |days| !both(days))
}

fn weekday() -> impl Strategy<Value = Item> {
    prop_oneof![3 => item(0, 6), 1 => (0..=6_u32).prop_map(LastOf), 1 => (0..=6_u32, 1..=5_u32).prop_map(|(day, nth)| Nth(day, nth))]
}

/// Patterns that often fire on a given day, around midnight.
fn times() -> impl Strategy<Value = Pattern> {
    let hour = prop_oneof![3 => select(vec![0, 1, 2, 3, 22, 23]).prop_map(One), 1 => item(0, 23)];
    let fields = (field(1, item(0, 59)), field(3, item(0, 59)), field(4, hour), days(40), field(40, weekday()));
    fields.prop_map(|(second, minute, hour, day, weekday)| Pattern {
        second,
        minute,
        hour,
        day,
        month: vec![All],
        weekday,
        year: vec![All],
    })
}

/// Patterns of dates, at noon.
fn dates() -> impl Strategy<Value = Pattern> {
    let fields = (days(8), field(8, item(1, 12)), field(8, weekday()), field(20, item(2019, 2031)));
    fields.prop_map(|(day, month, weekday, year)| Pattern {
        second: vec![One(0)],
        minute: vec![One(0)],
        hour: vec![One(12)],
        day,
        month,
        weekday,
        year,
    })
}

/// Zones, and instants at which their clocks change. The last ones do not change theirs.
const CHANGES: &[(Tz, &str)] = &[
    (Tz::Europe__London, "2026-03-29T01:00:00Z"),
    (Tz::Europe__London, "2026-10-25T01:00:00Z"),
    (Tz::Europe__Dublin, "2026-10-25T01:00:00Z"),
    (Tz::America__New_York, "2026-03-08T07:00:00Z"),
    (Tz::America__New_York, "2026-11-01T06:00:00Z"),
    (Tz::Australia__Lord_Howe, "2026-04-04T15:00:00Z"),
    (Tz::Australia__Lord_Howe, "2026-10-03T15:30:00Z"),
    (Tz::America__Santiago, "2026-04-05T03:00:00Z"),
    (Tz::America__Santiago, "2026-09-06T04:00:00Z"),
    (Tz::America__Havana, "2026-03-08T05:00:00Z"),
    (Tz::America__Havana, "2026-11-01T05:00:00Z"),
    (Tz::Pacific__Apia, "2011-12-30T10:00:00Z"),
    (Tz::Asia__Kolkata, "2026-03-29T18:30:00Z"),
    (Tz::UTC, "2026-12-31T23:59:59Z"),
];

const BEFORE: i64 = 5000;
const AFTER: i64 = 9000;

/// Walks over the instants around a change. What the clock shows for the first time counts, and what it leaves out counts with what it shows next.
fn walk(pattern: &Pattern, zone: Tz, change: DateTime<Utc>) -> Vec<Timestamp> {
    let shown = |instant: DateTime<Utc>| zone.from_utc_datetime(&instant.naive_utc()).naive_local();
    let mut reached = shown(change - TimeDelta::seconds(BEFORE));
    let mut last_date = (reached.date(), pattern.has_date(reached.date()));
    let mut firings = vec![];
    for second in 1 - BEFORE..=AFTER {
        let instant = change + TimeDelta::seconds(second);
        let mut fires = false;
        while reached < shown(instant) {
            reached += TimeDelta::seconds(1);
            if last_date.0 != reached.date() {
                last_date = (reached.date(), pattern.has_date(reached.date()));
            }
            fires |= last_date.1 && pattern.has_time(reached);
        }
        firings.extend(fires.then(|| Timestamp::from_second(instant.timestamp()).unwrap()));
    }
    firings
}

/// Some two seconds' worth of the same cases each time, or as many others as `PROPTEST_CASES` says.
fn check<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value) -> TestCaseResult) {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        (config.cases, config.rng_seed) = (cases, RngSeed::Fixed(3));
    }
    TestRunner::new(config).run(&strategy, test).unwrap_or_else(|failed| panic!("{failed}"));
}

#[test]
fn around_a_clock_change_the_schedule_fires_as_a_walk_over_each_second_says() {
    let cases = (times(), select(CHANGES), vec((any::<Index>(), any::<Index>()), 20));
    check(60, cases, |(pattern, (zone, change), asked)| {
        let change: DateTime<Utc> = change.parse().unwrap();
        let schedule = Schedule::cron(&pattern.text(), Some(zone.name()), None, "uid").unwrap();
        let firings = walk(&pattern, zone, change);
        let first = Timestamp::from_second(change.timestamp() - BEFORE).unwrap();
        let half_seconds = usize::try_from(BEFORE + AFTER).unwrap() * 2 + 1;
        let at = |index: &Index| first + jiff::SignedDuration::from_millis(i64::try_from(index.index(half_seconds)).unwrap() * 500);
        let last = first + jiff::SignedDuration::from_secs(BEFORE + AFTER);
        for (one, other) in &asked {
            let (from, to) = (at(one).min(at(other)), at(one).max(at(other)));
            let next = schedule.next_after(from).filter(|next| *next <= last);
            prop_assert_eq!(next, firings.iter().copied().find(|firing| *firing > from), "next after {}", from);
            let latest = firings.iter().copied().rfind(|firing| *firing <= to).filter(|firing| *firing > from);
            prop_assert_eq!(schedule.latest(from, to), latest, "latest in {} to {}", from, to);
        }
        Ok(())
    });
}

#[test]
fn the_schedule_fires_on_the_dates_that_a_walk_over_each_day_says() {
    check(150, (dates(), 0..4000_u64), |(pattern, days)| {
        let start = NaiveDate::from_ymd_opt(2019, 1, 1).unwrap() + Days::new(days);
        let walked: Vec<_> = start.iter_days().take(500).filter(|date| pattern.has_date(*date)).collect();
        let schedule = match Schedule::cron(&pattern.text(), None, None, "uid") {
            Err(ScheduleError::Never(_)) => {
                prop_assert_eq!(walked, []);
                return Ok(());
            }
            schedule => schedule.unwrap(),
        };
        let noon = |date: NaiveDate| Timestamp::from_second(date.and_hms_opt(12, 0, 0).unwrap().and_utc().timestamp()).unwrap();
        let before = noon(start) - jiff::SignedDuration::from_secs(1);
        let mut last = before;
        for firing in walked.into_iter().map(noon) {
            prop_assert_eq!(schedule.next_after(last), Some(firing));
            let just_before = firing - jiff::SignedDuration::from_secs(1);
            prop_assert_eq!(schedule.latest(before, just_before), Some(last).filter(|last| *last != before));
            last = firing;
        }
        prop_assert!(schedule.next_after(last).is_none_or(|next| next > noon(start + Days::new(499))));
        Ok(())
    });
}
