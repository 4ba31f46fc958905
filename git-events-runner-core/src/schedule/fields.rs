//! The dialect of cron patterns, and the one form in which the search gets them.

use std::{collections::BTreeSet, ops::RangeInclusive};

use super::ScheduleError;

/// A field of a pattern.
struct Field {
    name: &'static str,
    values: RangeInclusive<u16>,
    /// Of the values, from the first on.
    names: &'static [&'static str],
    allowed: &'static str,
}

pub const FIRST_YEAR: i32 = 1970;

const DAY_OF_MONTH: usize = 3;
const DAY_OF_WEEK: usize = 5;

const FIELDS: [Field; 7] = [
    Field { name: "second", values: 0..=59, names: &[], allowed: "`*`, 0 to 59" },
    Field { name: "minute", values: 0..=59, names: &[], allowed: "`*`, 0 to 59" },
    Field { name: "hour", values: 0..=23, names: &[], allowed: "`*`, 0 to 23" },
    Field {
        name: "day of month",
        values: 1..=31,
        names: &[],
        allowed: "`*`, `?`, 1 to 31, `L` (the last), `15W` (the weekday nearest to the 15th), `LW` (the last weekday, not beside `L`)",
    },
    Field {
        name: "month",
        values: 1..=12,
        names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
        allowed: "`*`, 1 to 12, `JAN` to `DEC`",
    },
    Field {
        name: "day of week",
        values: 0..=6,
        names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
        allowed: "`*`, `?`, 0 to 7 (0 and 7 are Sunday), `SUN` to `SAT`, `5L` (the last Friday), `5#2` (the second Friday)",
    },
    Field { name: "year", values: 1970..=2099, names: &[], allowed: "`*`, 1970 to 2099" },
];

/// A pattern as seven fields of `*` or lists of single numbers, so that patterns of the same meaning are the same text.
pub fn normalize(pattern: &str) -> Result<String, ScheduleError> {
    let pattern = if pattern.starts_with('@') { named(pattern)? } else { pattern };
    let mut fields: Vec<_> = pattern.split_whitespace().collect();
    let count = fields.len();
    if !(5..=7).contains(&count) {
        return Err(ScheduleError::FieldCount { pattern: pattern.to_owned(), count });
    }
    if count == 5 {
        fields.insert(0, "0");
    }
    if count < 7 {
        fields.push("*");
    }
    let normal = FIELDS.iter().enumerate().zip(fields).map(|((index, field), text)| field.normalize(index, text));
    Ok(normal.collect::<Result<Vec<_>, _>>()?.join(" "))
}

fn named(name: &str) -> Result<&'static str, ScheduleError> {
    match name.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        "@monthly" => Ok("0 0 1 * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@hourly" => Ok("0 * * * *"),
        _ => Err(ScheduleError::UnknownName(name.to_owned())),
    }
}

impl Field {
    fn normalize(&self, index: usize, text: &str) -> Result<String, ScheduleError> {
        let (mut all, mut values, mut special) = (false, BTreeSet::new(), BTreeSet::new());
        for written in text.split(',') {
            let part = &*written.to_ascii_uppercase();
            let understood = if is_all(index, part.strip_suffix("/1").unwrap_or(part)) {
                all = true;
                Some(())
            } else if let Some(day) = self.special_day(index, part) {
                special.insert(day);
                Some(())
            } else {
                self.range(index, part).map(|range| values.extend(range))
            };
            // The search takes `L` beside `LW` for `LW`.
            if understood.is_none() || (special.contains("L") && special.contains("LW")) {
                return Err(ScheduleError::Field { field: self.name, part: written.to_owned(), allowed: self.allowed });
            }
        }
        let listed = special.into_iter().chain(values.iter().map(u16::to_string));
        Ok(if all { "*".to_owned() } else { listed.collect::<Vec<_>>().join(",") })
    }

    /// The days that are another date in each month.
    fn special_day(&self, index: usize, part: &str) -> Option<String> {
        match index {
            DAY_OF_MONTH if part == "L" || part == "LW" => Some(part.to_owned()),
            DAY_OF_MONTH => Some(format!("{}W", self.value(index, part.strip_suffix('W')?)?)),
            DAY_OF_WEEK => {
                let (day, which) = match part.split_once('#') {
                    Some((day, nth @ ("1" | "2" | "3" | "4" | "5"))) => (day, nth),
                    Some(_) => return None,
                    None => (part.strip_suffix('L')?, "L"),
                };
                Some(format!("{}#{which}", self.value(index, day)? % 7))
            }
            _ => None,
        }
    }

    fn range(&self, index: usize, part: &str) -> Option<Vec<u16>> {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let (first, last) = if is_all(index, range) {
            (*self.values.start(), *self.values.end())
        } else if let Some((first, last)) = range.split_once('-') {
            match (self.value(index, first)?, self.value(index, last)?) {
                (first @ 1.., 0) if index == DAY_OF_WEEK => (first, 7),
                bounds => bounds,
            }
        } else {
            let first = self.value(index, range)?;
            (first, if step.is_some() { *self.values.end() } else { first })
        };
        let step = step.map_or(Some(1), number).filter(|step| *step > 0 && first <= last)?;
        let week = |value| if index == DAY_OF_WEEK { value % 7 } else { value };
        Some((first..=last).step_by(usize::from(step)).map(week).collect())
    }

    fn value(&self, index: usize, text: &str) -> Option<u16> {
        let named = self.names.iter().zip(self.values.clone()).find(|(name, _)| **name == text);
        let sunday = |value: &u16| index == DAY_OF_WEEK && *value == 7;
        named.map(|(_, value)| value).or_else(|| number(text).filter(|value| self.values.contains(value) || sunday(value)))
    }
}

fn is_all(index: usize, text: &str) -> bool {
    text == "*" || text == "?" && matches!(index, DAY_OF_MONTH | DAY_OF_WEEK)
}

fn number(text: &str) -> Option<u16> {
    text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse().ok())?
}
