//! A schedule written as a cron rule with seconds, as a pure function of wall time in UTC (replication reference 2.5).
//!
//! Six fields: second, minute, hour, day of month, month, day of week. Five fields leave the second out: it is 0. A
//! field is `*`, or a comma-separated list of numbers, ranges `a-b` and steps `*/n`, `a-b/n`, `a/n` (from `a` to the
//! end). Months and days of the week have names of three letters; Sunday is 0 and 7. If both days are restricted,
//! either suffices.

use crate::time::WallTime;

/// Why a rule was not understood. It names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The rule does not have five or six fields.
    #[error(
        "cron rule \"{rule}\" has {found} fields: write 6 (second minute hour day-of-month month day-of-week), or 5 without the second"
    )]
    FieldCount {
        /// The rule.
        rule: String,
        /// How many fields it has.
        found: usize,
    },
    /// An item of a field is not understood or not in range.
    #[error("{field} \"{item}\" of the cron rule: {problem}")]
    Field {
        /// The name of the field.
        field: &'static str,
        /// The item of the list that is wrong.
        item: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The rule is well-formed and names a day that no calendar has, such as 30 February.
    #[error("cron rule \"{rule}\" never comes true: no month it names has a day it names")]
    Never {
        /// The rule.
        rule: String,
    },
}

struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    /// Names of the values from `min` on.
    names: &'static [&'static str],
}

const SECOND: Field = Field { name: "second", min: 0, max: 59, names: &[] };
const MINUTE: Field = Field { name: "minute", min: 0, max: 59, names: &[] };
const HOUR: Field = Field { name: "hour", min: 0, max: 23, names: &[] };
const DAY: Field = Field { name: "day-of-month", min: 1, max: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Field =
    Field { name: "day-of-week", min: 0, max: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

impl Field {
    /// The values of a field as a set of bits.
    fn parse(&self, text: &str) -> Result<u64, ScheduleError> {
        text.split(',').try_fold(0, |set, item| {
            let bits = self.item(item).map_err(|problem| ScheduleError::Field {
                field: self.name,
                item: item.to_owned(),
                problem,
            })?;
            Ok(set | bits)
        })
    }

    fn item(&self, item: &str) -> Result<u64, String> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" || range == "?" => (self.min, self.max),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            None => {
                let first = self.value(range)?;
                (first, if step.is_some() { self.max } else { first })
            }
        };
        if first > last {
            return Err(format!("the range ends before it begins, write {last}-{first}"));
        }
        let step = match step.map(str::parse::<u32>) {
            None => 1,
            Some(Ok(step)) if step > 0 => step,
            Some(_) => return Err("the step after / is not a number above 0".to_owned()),
        };
        let step = usize::try_from(step).map_err(|_| "the step after / is too large".to_owned())?;
        Ok((first..=last).step_by(step).fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let named = self.names.iter().zip(self.min..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        let number = || {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        let value = named.map(|(_, value)| value).or_else(number);
        value.filter(|value| (self.min..=self.max).contains(value)).ok_or_else(|| {
            let names = if self.names.is_empty() { "" } else { " or a name of three letters" };
            format!("\"{text}\" is not a number from {} to {}{names}", self.min, self.max)
        })
    }

    const fn all(&self) -> u64 {
        ((1 << (self.max + 1)) - 1) & !((1 << self.min) - 1)
    }
}

/// The points in time at which a rule comes true, to the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
}

/// Longer than any two leap days are apart (2096 and 2104), in days.
const DAYS_SEARCHED: i64 = 366 * 9;
const SECONDS_PER_DAY: i64 = 86_400;
/// The seven days without the second Sunday.
const WEEK: u64 = 0x7f;

impl Schedule {
    /// The schedule that `rule` describes.
    pub fn parse(rule: &str) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = rule.split_ascii_whitespace().collect();
        let (second, rest) = match fields.as_slice() {
            [second, rest @ ..] if rest.len() == 5 => (*second, rest),
            rest if rest.len() == 5 => ("0", rest),
            other => return Err(ScheduleError::FieldCount { rule: rule.to_owned(), found: other.len() }),
        };
        let weekdays = WEEKDAY.parse(rest[4])?;
        let schedule = Self {
            seconds: SECOND.parse(second)?,
            minutes: MINUTE.parse(rest[0])?,
            hours: HOUR.parse(rest[1])?,
            days: DAY.parse(rest[2])?,
            months: MONTH.parse(rest[3])?,
            weekdays: (weekdays | weekdays >> 7) & WEEK,
        };
        if schedule.next_after(WallTime::from_millis(0)).is_none() {
            return Err(ScheduleError::Never { rule: rule.to_owned() });
        }
        Ok(schedule)
    }

    /// The first point in time after `time`, and not at it, at which the rule comes true. `None` only for times beyond
    /// what the clock can hold.
    pub fn next_after(&self, time: WallTime) -> Option<WallTime> {
        let from = time.as_millis().div_euclid(1_000) + 1;
        let first_day = from.div_euclid(SECONDS_PER_DAY);
        let mut second_of_day = from.rem_euclid(SECONDS_PER_DAY);
        for day in first_day..first_day + DAYS_SEARCHED {
            if self.has_day(day)
                && let Some(second) = self.second_from(second_of_day)
            {
                let seconds = day.checked_mul(SECONDS_PER_DAY)?.checked_add(second)?;
                return seconds.checked_mul(1_000).map(WallTime::from_millis);
            }
            second_of_day = 0;
        }
        None
    }

    fn has_day(&self, day: i64) -> bool {
        let (month, day_of_month) = month_and_day(day);
        // 1 January 1970 was a Thursday.
        let weekday = (day + 4).rem_euclid(7);
        let by_day = self.days >> day_of_month & 1 == 1;
        let by_weekday = self.weekdays >> weekday & 1 == 1;
        let either = self.days != DAY.all() && self.weekdays != WEEK;
        self.months >> month & 1 == 1 && if either { by_day || by_weekday } else { by_day && by_weekday }
    }

    /// The first second of the day at or after `from` that the rule has.
    fn second_from(&self, from: i64) -> Option<i64> {
        let (hour, minute, second) = (from / 3_600, from / 60 % 60, from % 60);
        let start_of = |hour: i64, minute: i64, second: i64| Some(hour * 3_600 + minute * 60 + second);
        let first_minute = lowest_from(self.minutes, 0)?;
        let first_second = lowest_from(self.seconds, 0)?;
        if self.hours >> hour & 1 == 1 {
            if self.minutes >> minute & 1 == 1
                && let Some(second) = lowest_from(self.seconds, second)
            {
                return start_of(hour, minute, second);
            }
            if let Some(minute) = lowest_from(self.minutes, minute + 1) {
                return start_of(hour, minute, first_second);
            }
        }
        start_of(lowest_from(self.hours, hour + 1)?, first_minute, first_second)
    }
}

/// The lowest value in `set` that is not below `from`.
fn lowest_from(set: u64, from: i64) -> Option<i64> {
    let rest = set >> from;
    (rest != 0).then(|| from + i64::from(rest.trailing_zeros()))
}

/// The month and the day of month of a day counted from 1 January 1970, in the Gregorian calendar. Years are taken to
/// begin in March, so that the leap day is the last of its year.
fn month_and_day(day: i64) -> (i64, i64) {
    let of_era = (day + 719_468).rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (month, day_of_month)
}
