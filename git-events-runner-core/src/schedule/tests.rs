use super::*;

mod walk;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(pattern: &str, zone: &str) -> Schedule {
    Schedule::cron(pattern, Some(zone), None, "uid").unwrap()
}

/// The first firings after an instant, and a check that going back finds the same ones.
fn firings(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
    let after = at(after);
    let all: Vec<_> = std::iter::successors(schedule.next_after(after), |last| schedule.next_after(*last)).take(count).collect();
    for (index, firing) in all.iter().enumerate() {
        assert_eq!(schedule.latest(after, *firing), Some(*firing));
        let just_before = *firing - Duration::from_nanos(1);
        assert_eq!(schedule.latest(after, just_before), index.checked_sub(1).map(|before| all[before]));
        assert_eq!(schedule.next_after(just_before), Some(*firing));
    }
    all.iter().map(Timestamp::to_string).collect()
}

fn assert_fires(zone: &str, pattern: &str, after: &str, expected: &[&str]) {
    let expected: Vec<_> = expected.iter().map(|text| at(text).to_string()).collect();
    assert_eq!(firings(&cron(pattern, zone), after, expected.len()), expected, "{zone} {pattern}");
}

/// Patterns, an instant, and when they fire first after it.
fn assert_all_fire(table: &[(&str, &str, &[&str])]) {
    for (pattern, after, expected) in table {
        assert_fires("UTC", pattern, after, expected);
    }
}

#[test]
fn a_time_that_does_not_exist_fires_at_the_first_instant_after_the_gap() {
    #[rustfmt::skip]
    let table: &[(&str, &str, &str, &[&str])] = &[
        // 01:00 becomes 02:00.
        ("Europe/London", "30 1 * * *", "2026-03-28T12:00Z", &["2026-03-29T01:00Z", "2026-03-30T00:30Z"]),
        ("Europe/London", "0 0 * * *", "2026-03-28T12:00Z", &["2026-03-29T00:00Z", "2026-03-29T23:00Z"]),
        ("Europe/London", "0 1 * * *", "2026-03-28T12:00Z", &["2026-03-29T01:00Z", "2026-03-30T00:00Z"]),
        ("Europe/London", "0 2 * * *", "2026-03-28T12:00Z", &["2026-03-29T01:00Z", "2026-03-30T01:00Z"]),
        ("Europe/London", "15 1,2 * * *", "2026-03-28T12:00Z", &["2026-03-29T01:00Z", "2026-03-29T01:15Z", "2026-03-30T00:15Z"]),
        ("Europe/London", "*/30 * * * *", "2026-03-29T00:00Z", &["2026-03-29T00:30Z", "2026-03-29T01:00Z", "2026-03-29T01:30Z"]),
        ("Europe/London", "30 * * * *", "2026-03-29T00:00Z", &["2026-03-29T00:30Z", "2026-03-29T01:00Z", "2026-03-29T01:30Z"]),
        ("Europe/London", "59 59 0,1 * * *", "2026-03-29T00:00Z", &["2026-03-29T00:59:59Z", "2026-03-29T01:00Z", "2026-03-29T23:59:59Z"]),
        ("Europe/London", "* * * * * *", "2026-03-29T00:59:58Z", &["2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z", "2026-03-29T01:00:01Z"]),
        // 02:00 becomes 03:00.
        ("America/New_York", "30 2 * * *", "2026-03-07T12:00Z", &["2026-03-08T07:00Z", "2026-03-09T06:30Z"]),
        ("America/New_York", "0 2,3 * * *", "2026-03-08T06:00Z", &["2026-03-08T07:00Z", "2026-03-09T06:00Z", "2026-03-09T07:00Z"]),
        ("America/New_York", "30 2 * * SUN", "2026-03-07T12:00Z", &["2026-03-08T07:00Z", "2026-03-15T06:30Z"]),
        // 02:00 becomes 02:30.
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00Z", &["2026-10-03T15:30Z", "2026-10-04T15:15Z"]),
        ("Australia/Lord_Howe", "45 1,2 * * *", "2026-10-03T12:00Z", &["2026-10-03T15:15Z", "2026-10-03T15:45Z", "2026-10-04T14:45Z"]),
        // Midnight becomes 01:00.
        ("America/Santiago", "0 0 * * *", "2026-09-05T12:00Z", &["2026-09-06T04:00Z", "2026-09-07T03:00Z"]),
        ("America/Santiago", "30 0 * * SUN", "2026-09-05T12:00Z", &["2026-09-06T04:00Z", "2026-09-13T03:30Z"]),
        ("America/Santiago", "30 23 * * *", "2026-09-05T12:00Z", &["2026-09-06T03:30Z", "2026-09-07T02:30Z"]),
        // A whole day that never was.
        ("Pacific/Apia", "0 12 30 12 *", "2011-01-01T00:00Z", &["2011-12-30T10:00Z", "2012-12-29T22:00Z"]),
        // None.
        ("Asia/Kolkata", "30 2 * * *", "2026-03-28T00:00Z", &["2026-03-28T21:00Z", "2026-03-29T21:00Z"]),
        ("UTC", "30 1 * * *", "2026-03-28T12:00Z", &["2026-03-29T01:30Z", "2026-03-30T01:30Z"]),
    ];
    for (zone, pattern, after, expected) in table {
        assert_fires(zone, pattern, after, expected);
    }
}

#[test]
fn a_time_that_exists_twice_fires_the_first_time_only() {
    #[rustfmt::skip]
    let table: &[(&str, &str, &str, &[&str])] = &[
        // 02:00 becomes 01:00.
        ("Europe/London", "30 1 * * *", "2026-10-24T12:00Z", &["2026-10-25T00:30Z", "2026-10-26T01:30Z"]),
        ("Europe/London", "0 1 * * *", "2026-10-24T12:00Z", &["2026-10-25T00:00Z", "2026-10-26T01:00Z"]),
        ("Europe/London", "0 2 * * *", "2026-10-24T12:00Z", &["2026-10-25T02:00Z", "2026-10-26T02:00Z"]),
        ("Europe/London", "0 * * * *", "2026-10-24T23:30Z", &["2026-10-25T00:00Z", "2026-10-25T02:00Z", "2026-10-25T03:00Z"]),
        ("Europe/London", "* * * * * *", "2026-10-25T00:59:58Z", &["2026-10-25T00:59:59Z", "2026-10-25T02:00:00Z"]),
        // Asked in the hour that is there for the second time.
        ("Europe/London", "30 1 * * *", "2026-10-25T01:15Z", &["2026-10-26T01:30Z"]),
        ("Europe/London", "*/20 * * * *", "2026-10-25T01:00Z", &["2026-10-25T02:00Z", "2026-10-25T02:20Z"]),
        // 02:00 becomes 01:00.
        ("America/New_York", "30 1 * * *", "2026-10-31T12:00Z", &["2026-11-01T05:30Z", "2026-11-02T06:30Z"]),
        ("America/New_York", "0 1-2 * * *", "2026-10-31T12:00Z", &["2026-11-01T05:00Z", "2026-11-01T07:00Z", "2026-11-02T06:00Z"]),
        // 02:00 becomes 01:30.
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T00:00Z", &["2026-04-04T14:45Z", "2026-04-05T15:15Z"]),
        ("Australia/Lord_Howe", "*/15 1 * * *", "2026-04-04T13:59Z",
         &["2026-04-04T14:00Z", "2026-04-04T14:15Z", "2026-04-04T14:30Z", "2026-04-04T14:45Z", "2026-04-05T14:30Z"]),
        // Midnight becomes 23:00 of the day before.
        ("America/Santiago", "30 23 * * *", "2026-04-04T12:00Z", &["2026-04-05T02:30Z", "2026-04-06T03:30Z"]),
        ("America/Santiago", "0 0 * * *", "2026-04-04T12:00Z", &["2026-04-05T04:00Z", "2026-04-06T04:00Z"]),
        ("America/Santiago", "30 23 * * SAT", "2026-04-04T12:00Z", &["2026-04-05T02:30Z", "2026-04-12T03:30Z"]),
        // None.
        ("Asia/Kolkata", "30 1 * * *", "2026-10-25T00:00Z", &["2026-10-25T20:00Z", "2026-10-26T20:00Z"]),
        ("UTC", "30 1 * * *", "2026-10-25T00:00Z", &["2026-10-25T01:30Z", "2026-10-26T01:30Z"]),
    ];
    for (zone, pattern, after, expected) in table {
        assert_fires(zone, pattern, after, expected);
    }
    let half_past_one = cron("30 1 * * *", "Europe/London");
    let in_the_second_hour = at("2026-10-25T01:45:00Z");
    assert_eq!(half_past_one.latest(at("2026-10-25T00:00:00Z"), in_the_second_hour), Some(at("2026-10-25T00:30:00Z")));
    assert_eq!(half_past_one.latest(at("2026-10-25T01:00:00Z"), in_the_second_hour), None);
}

#[test]
fn times_fire_as_values_ranges_steps_and_lists_say() {
    #[rustfmt::skip]
    assert_all_fire(&[
        ("* * * * *", "2026-01-01T00:00:30Z", &["2026-01-01T00:01Z", "2026-01-01T00:02Z"]),
        ("10/5 * * * *", "2026-01-01T00:50Z", &["2026-01-01T00:55Z", "2026-01-01T01:10Z", "2026-01-01T01:15Z"]),
        ("5-20/10,*/30 * * * *", "2026-01-01T00:00Z", &["2026-01-01T00:05Z", "2026-01-01T00:15Z", "2026-01-01T00:30Z", "2026-01-01T01:00Z"]),
        ("0 8-18/5 * * *", "2026-01-01T00:00Z", &["2026-01-01T08:00Z", "2026-01-01T13:00Z", "2026-01-01T18:00Z", "2026-01-02T08:00Z"]),
        ("*/20 0 12 * * *", "2026-01-01T00:00Z", &["2026-01-01T12:00Z", "2026-01-01T12:00:20Z", "2026-01-01T12:00:40Z", "2026-01-02T12:00Z"]),
        ("0 0 12 1 1 ? 2027-2029/2", "2026-01-01T00:00Z", &["2027-01-01T12:00Z", "2029-01-01T12:00Z"]),
    ]);
}

#[test]
fn days_of_the_month_may_be_the_last_and_the_nearest_weekday() {
    #[rustfmt::skip]
    assert_all_fire(&[
        ("0 0 L * *", "2026-01-30T00:00Z", &["2026-01-31T00:00Z", "2026-02-28T00:00Z", "2026-03-31T00:00Z"]),
        ("0 0 L 2 *", "2026-01-01T00:00Z", &["2026-02-28T00:00Z", "2027-02-28T00:00Z", "2028-02-29T00:00Z"]),
        ("0 0 15,L * *", "2026-01-01T00:00Z", &["2026-01-15T00:00Z", "2026-01-31T00:00Z", "2026-02-15T00:00Z"]),
        ("0 0 LW * *", "2026-01-01T00:00Z", &["2026-01-30T00:00Z", "2026-02-27T00:00Z", "2026-03-31T00:00Z"]),
        ("0 0 15W * *", "2026-01-01T00:00Z", &["2026-01-15T00:00Z", "2026-02-16T00:00Z", "2026-03-16T00:00Z"]),
        ("0 0 15w 8 *", "2026-01-01T00:00Z", &["2026-08-14T00:00Z"]),
        ("0 0 1W 8 *", "2026-01-01T00:00Z", &["2026-08-03T00:00Z"]),
        ("0 0 31W * *", "2026-01-01T00:00Z", &["2026-01-30T00:00Z", "2026-03-31T00:00Z", "2026-05-29T00:00Z"]),
    ]);
}

#[test]
fn days_of_the_week_may_be_the_last_and_the_nth_of_the_month() {
    #[rustfmt::skip]
    assert_all_fire(&[
        ("0 0 * * 5L", "2026-01-01T00:00Z", &["2026-01-30T00:00Z", "2026-02-27T00:00Z", "2026-03-27T00:00Z"]),
        ("0 0 * * sunL", "2026-01-01T00:00Z", &["2026-01-25T00:00Z", "2026-02-22T00:00Z"]),
        ("0 0 * * FRI#2", "2026-01-01T00:00Z", &["2026-01-09T00:00Z", "2026-02-13T00:00Z", "2026-03-13T00:00Z"]),
        ("0 0 * * 1#5", "2026-01-01T00:00Z", &["2026-03-30T00:00Z", "2026-06-29T00:00Z", "2026-08-31T00:00Z"]),
        ("0 0 * * 7#1,1#1", "2026-01-01T00:00Z", &["2026-01-04T00:00Z", "2026-01-05T00:00Z", "2026-02-01T00:00Z"]),
    ]);
}

#[test]
fn months_and_days_of_the_week_have_names_and_sunday_two_numbers() {
    #[rustfmt::skip]
    assert_all_fire(&[
        ("0 0 1 jan,MAR *", "2026-01-01T00:00Z", &["2026-03-01T00:00Z", "2027-01-01T00:00Z"]),
        ("0 0 1 Nov-Dec *", "2026-01-01T00:00Z", &["2026-11-01T00:00Z", "2026-12-01T00:00Z", "2027-11-01T00:00Z"]),
        ("0 0 * * Fri-Sun", "2026-01-01T00:00Z", &["2026-01-02T00:00Z", "2026-01-03T00:00Z", "2026-01-04T00:00Z", "2026-01-09T00:00Z"]),
        ("0 0 * * 5-7", "2026-01-01T00:00Z", &["2026-01-02T00:00Z", "2026-01-03T00:00Z", "2026-01-04T00:00Z", "2026-01-09T00:00Z"]),
        ("0 0 ? * 7", "2026-01-01T00:00Z", &["2026-01-04T00:00Z", "2026-01-11T00:00Z"]),
        ("0 0 * * 0", "2026-01-01T00:00Z", &["2026-01-04T00:00Z", "2026-01-11T00:00Z"]),
        ("0 0 13 * ?", "2026-01-01T00:00Z", &["2026-01-13T00:00Z", "2026-02-13T00:00Z"]),
        ("  0   12\t* * *  ", "2026-01-01T00:00Z", &["2026-01-01T12:00Z"]),
    ]);
}

#[test]
fn names_stand_for_whole_patterns() {
    #[rustfmt::skip]
    assert_all_fire(&[
        ("@yearly", "2026-01-01T00:00Z", &["2027-01-01T00:00Z"]),
        ("@annually", "2026-01-01T00:00Z", &["2027-01-01T00:00Z"]),
        ("@monthly", "2026-01-01T00:00Z", &["2026-02-01T00:00Z"]),
        ("@weekly", "2026-01-01T00:00Z", &["2026-01-04T00:00Z"]),
        ("@daily", "2026-01-01T00:00Z", &["2026-01-02T00:00Z"]),
        ("@midnight", "2026-01-01T00:00Z", &["2026-01-02T00:00Z"]),
        ("@Hourly", "2026-01-01T00:00Z", &["2026-01-01T01:00Z"]),
    ]);
}

#[test]
fn of_day_of_month_and_day_of_week_either_is_enough_when_both_are_given() {
    let from = "2026-01-01T00:00Z";
    assert_fires("UTC", "0 0 15 * MON", from, &["2026-01-05T00:00Z", "2026-01-12T00:00Z", "2026-01-15T00:00Z", "2026-01-19T00:00Z"]);
    assert_fires("UTC", "0 0 L * 1#1", from, &["2026-01-05T00:00Z", "2026-01-31T00:00Z", "2026-02-02T00:00Z", "2026-02-28T00:00Z"]);
    assert_fires("UTC", "0 0 */1 * MON", from, &["2026-01-05T00:00Z", "2026-01-12T00:00Z"]);
    assert_fires("UTC", "0 0 15 * */1", from, &["2026-01-15T00:00Z", "2026-02-15T00:00Z"]);
    assert_fires("UTC", "0 0 */10 * MON", from, &["2026-01-05T00:00Z", "2026-01-11T00:00Z", "2026-01-12T00:00Z", "2026-01-19T00:00Z"]);
}

#[test]
fn a_time_zone_may_lead_the_pattern() {
    for pattern in ["TZ=Asia/Tokyo 0 9 * * *", " TZ=Asia/Tokyo\t 0 0 9 * * *"] {
        let tokyo = Schedule::cron(pattern, None, None, "uid").unwrap();
        assert_eq!(firings(&tokyo, "2026-01-01T00:00:00Z", 1), ["2026-01-02T00:00:00Z"]);
    }
    let utc = Schedule::cron("TZ=UTC @daily", None, None, "uid").unwrap();
    assert_eq!(firings(&utc, "2026-01-01T00:00:00Z", 1), ["2026-01-02T00:00:00Z"]);
}

#[test]
fn a_pattern_whose_years_are_over_fires_no_more() {
    let over = cron("0 0 12 1 1 ? 2020", "UTC");
    assert_eq!(over.next_after(at("2026-01-01T00:00:00Z")), None);
    assert_eq!(over.latest(at("2019-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z")), Some(at("2020-01-01T12:00:00Z")));
}

#[test]
fn the_latest_of_many_missed_firings_is_found_at_once() {
    let each_second = cron("* * * * * *", "Europe/London");
    let (long_ago, now) = (at("1990-06-01T12:00:00Z"), at("2026-07-01T12:00:00.5Z"));
    assert_eq!(each_second.latest(long_ago, now), Some(at("2026-07-01T12:00:00Z")));
    let leap_days = cron("0 0 29 2 *", "UTC");
    assert_eq!(leap_days.latest(long_ago, now), Some(at("2024-02-29T00:00:00Z")));
    assert_eq!(leap_days.latest(at("2024-02-29T00:00:00Z"), now), None);
    assert_eq!(leap_days.latest(now, long_ago), None);
}

#[test]
fn the_ends_of_time_are_no_trouble() {
    for schedule in [cron("@daily", "Europe/London"), Schedule::interval(Duration::from_secs(7), "uid").unwrap()] {
        assert_eq!(schedule.next_after(Timestamp::MAX), None);
        assert!(schedule.next_after(Timestamp::MIN).is_some());
        assert!(schedule.latest(Timestamp::MIN, Timestamp::MAX).is_some());
        assert_eq!(schedule.latest(Timestamp::MIN, Timestamp::MIN), None);
    }
    let eternal = Schedule::interval(Duration::MAX, "uid").unwrap();
    assert_eq!(eternal.latest(Timestamp::MIN, at("2026-01-01T00:00:00Z")), None);
    let late = Schedule::cron("@daily", None, Some(Duration::MAX), "uid").unwrap();
    assert_eq!(late.next_after(at("2026-01-01T00:00:00Z")), None);
}

#[test]
fn an_interval_neither_drifts_nor_moves_with_a_restart() {
    let schedule = Schedule::interval(parse_duration("1m 30s").unwrap(), "uid").unwrap();
    let first = schedule.next_after(at("2026-01-01T00:00:00Z")).unwrap();
    for times in 0..100 {
        let just_before_next = first + Duration::from_millis(90_000 * times + 89_999);
        assert_eq!(schedule.next_after(just_before_next), Some(first + Duration::from_secs(90 * (times + 1))));
    }
    let again = Schedule::interval(Duration::from_secs(90), "uid").unwrap();
    assert_eq!(again.next_after(at("1969-12-31T00:00:00Z")).map(|t| (first - t).total(jiff::Unit::Second).unwrap() % 90.0), Some(0.0));
    assert_eq!(firings(&schedule, "2026-01-01T00:00:00Z", 20).len(), 20);
}

#[test]
fn intervals_are_spread_over_their_length() {
    let start = at("2026-01-01T00:00:00Z");
    let mut tenths = [0; 10];
    for uid in 0..300 {
        let schedule = Schedule::interval(Duration::from_secs(100), &uid.to_string()).unwrap();
        let wait = schedule.next_after(start).unwrap().duration_since(start).as_secs();
        tenths[usize::try_from(wait / 10).unwrap()] += 1;
    }
    assert!(tenths.iter().all(|count| (15..45).contains(count)), "{tenths:?}");
}

#[test]
fn each_trigger_is_late_by_its_own_part_of_the_jitter() {
    let (start, hour) = (at("2026-01-01T12:00:00Z"), Duration::from_secs(3600));
    let mut lateness = std::collections::BTreeSet::new();
    let _parsed_once = cron("@daily", "UTC");
    for uid in 0..20 {
        let schedule = Schedule::cron("@daily", None, Some(hour), &uid.to_string()).unwrap();
        let first = schedule.next_after(start).unwrap();
        let late = first.duration_since(at("2026-01-02T00:00:00Z"));
        assert!(!late.is_negative() && late.unsigned_abs() < hour);
        assert_eq!(schedule.next_after(first), Some(first + Duration::from_secs(86_400)));
        assert_eq!(firings(&schedule, "2026-01-01T12:00:00Z", 3).len(), 3);
        lateness.insert(late);
    }
    assert!(lateness.len() > 18, "{lateness:?}");
}

#[test]
fn durations_are_read_as_people_write_them() {
    let seconds = |text| parse_duration(text).map(|duration| duration.as_secs());
    for (text, expected) in [("10s", 10), ("5m", 300), ("5h30m25s", 19_825), ("1h 30m", 5400), ("1day", 86_400), ("2 hours 1 min", 7260)] {
        assert_eq!(seconds(text), Ok(expected), "{text}");
    }
    let message = |text| parse_duration(text).unwrap_err().to_string();
    assert_eq!(message("5"), "`5` is not a duration such as `90s`, `5m`, `1h 30m` or `1day`: time unit needed, for example 5sec or 5ms");
    assert_eq!(message(""), "`` is not a duration such as `90s`, `5m`, `1h 30m` or `1day`: value was empty");
    assert!(message("5 lightyears").contains("unknown time unit \"lightyears\""));
}

#[test]
fn a_mistake_is_named_together_with_what_is_allowed() {
    let message = |pattern: &str, zone| Schedule::cron(pattern, zone, None, "uid").unwrap_err().to_string();
    assert_eq!(
        Schedule::interval(Duration::from_millis(999), "uid").unwrap_err().to_string(),
        "an interval of 999ms is too short: the shortest is `1s`"
    );
    let no_zone = "there is no time zone `Mars/Olympus`: use an IANA name such as `Europe/London` or `UTC`";
    assert_eq!(message("@daily", Some("Mars/Olympus")), no_zone);
    assert_eq!(message("TZ=Mars/Olympus @daily", None), no_zone);
    assert_eq!(message("TZ= @daily", None), "there is no time zone ``: use an IANA name such as `Europe/London` or `UTC`");
    assert_eq!(
        message("TZ=Europe/London @daily", Some("UTC")),
        "the pattern has its own time zone `TZ=Europe/London` beside the time zone `UTC`: give only one of them"
    );
    let names = "use `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight` or `@hourly`";
    assert_eq!(message("@reboot", None), format!("`@reboot` is not known: {names}"));
    assert_eq!(message("@every 5m", None), format!("`@every 5m` is not known: {names}, or an interval in place of `@every`"));
    let fields = "a cron pattern has 5 (minute, hour, day of month, month, day of week), 6 (a second before them) or 7 (a year after them)";
    assert_eq!(message("* * * *", None), format!("`* * * *` has 4 fields: {fields}"));
    assert_eq!(message("* * * * * * * *", None), format!("`* * * * * * * *` has 8 fields: {fields}"));
    assert_eq!(message("", None), format!("`` has 0 fields: {fields}"));
    assert_eq!(message("TZ=Europe/London", None), format!("`` has 0 fields: {fields}"));
}

#[test]
fn a_pattern_that_never_fires_is_refused() {
    for pattern in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 0 29 2 ? 2027", "0 0 31W 4 *"] {
        assert_eq!(
            Schedule::cron(pattern, None, None, "uid").unwrap_err().to_string(),
            format!("`{pattern}` never fires: no date matches all of its fields")
        );
    }
    assert!(Schedule::cron("0 0 * 2 5#5", None, None, "uid").is_ok(), "there is such a leap year");
}

#[test]
fn a_wrong_field_is_named_with_what_it_may_be() {
    let wrong = [
        ("60 * * * *", "minute", "60", "`*`, 0 to 59"),
        ("-1 * * * *", "minute", "-1", "`*`, 0 to 59"),
        ("5, * * * *", "minute", "", "`*`, 0 to 59"),
        ("*/0 * * * *", "minute", "*/0", "`*`, 0 to 59"),
        ("/5 * * * *", "minute", "/5", "`*`, 0 to 59"),
        ("30-10 * * * *", "minute", "30-10", "`*`, 0 to 59"),
        ("1-2-3 * * * *", "minute", "1-2-3", "`*`, 0 to 59"),
        ("JAN * * * *", "minute", "JAN", "`*`, 0 to 59"),
        ("? * * * *", "minute", "?", "`*`, 0 to 59"),
        ("+5 * * * *", "minute", "+5", "`*`, 0 to 59"),
        ("61 * * * * *", "second", "61", "`*`, 0 to 59"),
        ("0 24 * * *", "hour", "24", "`*`, 0 to 23"),
        ("0 1,25 * * *", "hour", "25", "`*`, 0 to 23"),
        ("0 0 0 * *", "day of month", "0", "`L` (the last)"),
        ("0 0 32 * *", "day of month", "32", "`L` (the last)"),
        ("0 0 L-3 * *", "day of month", "L-3", "`L` (the last)"),
        ("0 0 15W3 * *", "day of month", "15W3", "`15W`"),
        ("0 0 L,LW * *", "day of month", "LW", "not beside `L`"),
        ("0 0 * 13 *", "month", "13", "`JAN` to `DEC`"),
        ("0 0 * Monday *", "month", "Monday", "`JAN` to `DEC`"),
        ("0 0 * JAN1 *", "month", "JAN1", "`JAN` to `DEC`"),
        ("0 0 * * 8", "day of week", "8", "`SUN` to `SAT`"),
        ("0 0 * * MAR", "day of week", "MAR", "`SUN` to `SAT`"),
        ("0 0 * * L", "day of week", "L", "`5L` (the last Friday)"),
        ("0 0 * * 5#6", "day of week", "5#6", "`5#2` (the second Friday)"),
        ("0 0 * * 5#L", "day of week", "5#L", "`5#2` (the second Friday)"),
        ("0 0 * * +MON", "day of week", "+MON", "`SUN` to `SAT`"),
        ("0 0 0 1 1 ? 1969", "year", "1969", "`*`, 1970 to 2099"),
        ("CRON_TZ=UTC 0 0 * * *", "second", "CRON_TZ=UTC", "`*`, 0 to 59"),
    ];
    for (pattern, field, part, allowed) in wrong {
        let message = Schedule::cron(pattern, None, None, "uid").map(|schedule| format!("{schedule:?}")).unwrap_err().to_string();
        assert!(message.starts_with(&format!("`{part}` is not a {field}: allowed are ")), "{pattern}: {message}");
        assert!(message.contains(allowed), "{pattern}: {message}");
        assert!(message.ends_with(", ranges `a-b`, steps `*/n`, `a/n` and `a-b/n`, and lists of these"), "{message}");
    }
}
