//! ISO 8601 times in UTC with milliseconds, as the API writes and reads them.

use backbeat_core::time::WallTime;

const DAY_MS: i64 = 86_400_000;

/// `2025-02-11T07:30:00.000Z`.
pub fn format(time: WallTime) -> String {
    let (days, ms) = (time.as_millis().div_euclid(DAY_MS), time.as_millis().rem_euclid(DAY_MS));
    // Days are counted from the first of March of the year 0 on, so that a leap day ends its year.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

/// Reads what [`format`] writes; milliseconds may be left out.
pub fn parse(text: &str) -> Option<WallTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let (time, ms) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':')?;
    let ms: i64 = format!("{ms:0<3}").get(..3)?.parse().ok()?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (year, month_from_march) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + of_era - 719_468;
    let seconds = hour * 3_600 + minute * 60 + second;
    Some(WallTime::from_millis(days * DAY_MS + seconds * 1_000 + ms))
}

fn numbers(text: &str, between: char) -> Option<[i64; 3]> {
    let mut parts = text.split(between).map(|part| {
        let digits = !part.is_empty() && part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    });
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times_are_written_as_they_are_known() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_739_259_000_120, "2025-02-11T07:30:00.120Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format(WallTime::from_millis(ms)), text);
        }
        assert_eq!(parse("2025-02-11T07:30:00Z"), Some(WallTime::from_millis(1_739_259_000_000)));
        for text in ["", "2025-02-11", "2025-13-11T07:30:00Z", "2025-02-11T07:30Z", "x-02-11T07:30:00Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(ms in -62_000_000_000_000_i64..253_000_000_000_000) {
            let time = WallTime::from_millis(ms);
            prop_assert_eq!(parse(&format(time)), Some(time));
        }
    }
}
