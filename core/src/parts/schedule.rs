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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

    const fn days_in(year: i64, month: i64) -> i64 {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// Days from the epoch to a date, by walking.
    fn days_to(year: i64, month: i64, day: i64) -> i64 {
        let years: i64 = (1970..year).flat_map(|year| (1..=12).map(move |month| days_in(year, month))).sum();
        years + (1..month).map(|month| days_in(year, month)).sum::<i64>() + day - 1
    }

    /// "2026-02-28 23:59:59"
    fn time(text: &str) -> WallTime {
        let n: Vec<i64> = text.split([' ', '-', ':']).map(|part| part.parse().expect("a number")).collect();
        let [year, month, day, hour, minute, second] = n[..] else { panic!("six numbers: {text}") };
        let seconds = days_to(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
        WallTime::from_millis(seconds * 1_000)
    }

    fn check(rule: &str, from: &str, expected: &[&str]) {
        let schedule = Schedule::parse(rule).expect("a good rule");
        let mut now = time(from);
        for expected in expected {
            now = schedule.next_after(now).expect("it comes true");
            assert_eq!(now, time(expected), "{rule} after {from}");
        }
    }

    #[test]
    fn every_five_seconds() {
        check(
            "*/5 * * * * *",
            "2026-12-31 23:59:52",
            &["2026-12-31 23:59:55", "2027-01-01 00:00:00", "2027-01-01 00:00:05"],
        );
    }

    #[test]
    fn a_rule_of_five_fields_is_at_second_zero() {
        check("30 4 * * *", "2026-03-01 04:30:00", &["2026-03-02 04:30:00", "2026-03-03 04:30:00"]);
    }

    #[test]
    fn lists_ranges_steps_and_names() {
        check(
            "0 0,30 9-17/4 * JAN-mar,Dec Mon-FRI",
            "2026-11-20 00:00:00",
            &["2026-12-01 09:00:00", "2026-12-01 09:30:00", "2026-12-01 13:00:00"],
        );
        check("7/20 0 0 1 1 *", "2026-01-01 00:00:07", &["2026-01-01 00:00:27", "2026-01-01 00:00:47"]);
        check("0 0 0 ? * 7", "2026-11-20 00:00:00", &["2026-11-22 00:00:00", "2026-11-29 00:00:00"]);
    }

    #[test]
    fn either_day_suffices_when_both_are_restricted() {
        check(
            "0 0 0 13 * fri",
            "2026-11-06 00:00:00",
            &["2026-11-13 00:00:00", "2026-11-20 00:00:00", "2026-11-27 00:00:00", "2026-12-04 00:00:00"],
        );
        check("0 0 0 13 * *", "2026-11-06 00:00:00", &["2026-11-13 00:00:00", "2026-12-13 00:00:00"]);
    }

    #[test]
    fn leap_days_are_found_across_a_century_without_one() {
        check("0 0 0 29 2 *", "2096-02-29 00:00:00", &["2104-02-29 00:00:00"]);
        check("0 0 0 31 * *", "2026-08-31 00:00:00", &["2026-10-31 00:00:00"]);
    }

    #[test]
    fn parts_of_a_second_and_times_before_the_epoch_round_up() {
        let schedule = Schedule::parse("* * * * * *").expect("a good rule");
        let after = |millis| schedule.next_after(WallTime::from_millis(millis)).map(WallTime::as_millis);
        assert_eq!(after(999), Some(1_000));
        assert_eq!(after(1_000), Some(2_000));
        assert_eq!(after(-1), Some(0));
        assert_eq!(after(-1_500), Some(-1_000));
        assert_eq!(after(i64::MAX), None);
        assert!(after(i64::MIN).is_some());
    }

    #[test]
    fn errors_name_the_field_and_what_would_be_right() {
        let error = |rule| Schedule::parse(rule).expect_err("a bad rule").to_string();
        assert_eq!(
            error("60 * * * * *"),
            "second \"60\" of the cron rule: \"60\" is not a number from 0 to 59"
        );
        assert_eq!(
            error("* * * * foo *"),
            "month \"foo\" of the cron rule: \"foo\" is not a number from 1 to 12 or a name of three letters"
        );
        assert_eq!(
            error("* 1,9-3 * * * *"),
            "minute \"9-3\" of the cron rule: the range ends before it begins, write 3-9"
        );
        assert_eq!(
            error("* * */0 * * *"),
            "hour \"*/0\" of the cron rule: the step after / is not a number above 0"
        );
        assert!(error("* * * 0 * *").starts_with("day-of-month \"0\""));
        assert!(error("* * * * * 8").starts_with("day-of-week \"8\""));
        assert!(error("* * * 1,,2 * *").starts_with("day-of-month \"\""));
        assert!(error("* * * +1 * *").starts_with("day-of-month \"+1\""));
        assert!(error("* * 1-2-3 * * *").starts_with("hour \"1-2-3\""));
        assert!(error("* * 99999999999999999999 * * *").starts_with("hour"));
        assert!(error("").contains("has 0 fields"));
        assert!(error("* * * *").contains("has 4 fields"));
        assert!(error("* * * * * * *").contains("has 7 fields"));
        assert!(error("0 0 0 30 2 *").contains("never comes true"));
    }

    /// A field as text and as the values it stands for.
    fn field(min: u32, max: u32) -> impl Strategy<Value = (String, Vec<u32>)> {
        let item = prop_oneof![
            2 => Just(("*".to_owned(), (min..=max).collect::<Vec<_>>())),
            3 => (min..=max).prop_map(|value| (value.to_string(), vec![value])),
            2 => (min..=max, min..=max).prop_map(|(a, b)| {
                let (a, b) = (a.min(b), a.max(b));
                (format!("{a}-{b}"), (a..=b).collect())
            }),
            1 => (1u32..40).prop_map(move |step| {
                (format!("*/{step}"), (min..=max).filter(|value| (value - min).is_multiple_of(step)).collect())
            }),
        ];
        prop::collection::vec(item, 1..3).prop_map(|items| {
            let (texts, values): (Vec<_>, Vec<_>) = items.into_iter().unzip();
            (texts.join(","), values.concat())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Walks the calendar day by day and each day second by second.
        #[test]
        fn agrees_with_walking_through_the_calendar(
            second in field(0, 59), minute in field(0, 59), hour in field(0, 23),
            day in field(1, 28), month in field(1, 12), weekday in field(0, 6),
            from_year in 1970i64..2110, from_month in 1i64..=12, from_day in 1i64..=28, from_second in 0i64..86_400,
        ) {
            let rule = [&second, &minute, &hour, &day, &month, &weekday].map(|(text, _)| text.as_str()).join(" ");
            let schedule = Schedule::parse(&rule).expect("a good rule");
            let has = |values: &[u32], value: i64| values.iter().any(|&other| i64::from(other) == value);
            let start = days_to(from_year, from_month, from_day);
            let (mut year, mut of_year, mut of_month) = (from_year, from_month, from_day);
            let mut days = start;
            let mut expected = None;
            while expected.is_none() {
                let day_restricted = (1..=31).any(|value| !has(&day.1, value));
                let weekday_restricted = (0..=6).any(|value| !has(&weekday.1, value));
                // The strategy stops at 28, so `*` has to be told apart.
                let day_all = day.0.split(',').any(|item| item == "*" || item == "*/1");
                let by_day = day_all || has(&day.1, of_month)
                    || day.0.split(',').filter_map(|item| item.strip_prefix("*/")).any(|step| {
                        let step: i64 = step.parse().expect("a step");
                        (of_month - 1) % step == 0
                    });
                let by_weekday = has(&weekday.1, (days + 4) % 7);
                let day_ok = match (day_restricted && !day_all, weekday_restricted) {
                    (true, true) => by_day || by_weekday,
                    _ => by_day && by_weekday,
                };
                if day_ok && has(&month.1, of_year) {
                    let from = if days == start { from_second + 1 } else { 0 };
                    expected = (from..86_400)
                        .find(|at| {
                            has(&hour.1, at / 3_600) && has(&minute.1, at / 60 % 60) && has(&second.1, at % 60)
                        })
                        .map(|at| days * 86_400 + at);
                }
                days += 1;
                of_month += 1;
                if of_month > days_in(year, of_year) {
                    (of_month, of_year) = (1, of_year + 1);
                }
                if of_year > 12 {
                    (of_year, year) = (1, year + 1);
                }
            }
            let from = WallTime::from_millis((start * 86_400 + from_second) * 1_000);
            let found = schedule.next_after(from).map(|time| time.as_millis() / 1_000);
            prop_assert_eq!(found, expected, "{} from {:?}", rule, from);
        }

        #[test]
        fn never_panics_on_any_text(rule in "[-0-9a-z*/,? ]{0,40}") {
            let parsed = Schedule::parse(&rule);
            prop_assert!(parsed.is_ok() || parsed.is_err_and(|error| !error.to_string().is_empty()));
        }

        #[test]
        fn months_are_the_same_by_name_and_by_number(month in 1usize..=12) {
            let by_name = Schedule::parse(&format!("0 0 0 1 {} *", MONTHS[month - 1]));
            prop_assert_eq!(by_name, Schedule::parse(&format!("0 0 0 1 {month} *")));
        }
    }
}
