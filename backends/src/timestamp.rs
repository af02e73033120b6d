//! Times as metadata writes them: ISO 8601 in UTC with milliseconds.

use s3s::dto::{Timestamp, TimestampFormat};
use std::time::{SystemTime, UNIX_EPOCH};

const MS_PER_DAY: u64 = 86_400_000;

/// Milliseconds since the epoch by the system's clock.
pub(crate) fn system_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// `2026-11-20T16:26:14.965Z`.
pub(crate) fn iso(ms: u64) -> String {
    let (year, month, day) = civil(ms / MS_PER_DAY);
    let of_day = ms % MS_PER_DAY;
    let (hours, minutes) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (seconds, millis) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

/// Year, month and day of a day after 1970-01-01: counts in eras of 400 years that start on the first of March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// The day after 1970-01-01 that a date is: the other direction of [`civil`].
pub(crate) fn day(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(1970..=9999).contains(&year) {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// The time of an ISO 8601 text in UTC, with or without a fraction of seconds.
pub(crate) fn parse_iso(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?;
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok())?
    };
    let separator = |at: usize, byte: u8| (text.as_bytes().get(at) == Some(&byte)).then_some(());
    for (at, byte) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        separator(at, byte)?;
    }
    let (hours, minutes, seconds) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let millis = match text.get(19..)? {
        "" => 0,
        fraction => {
            let digits = fraction.strip_prefix('.')?;
            if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            format!("{digits:0<3}")[..3].parse().ok()?
        }
    };
    let days = day(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
    Some(days * MS_PER_DAY + hours * 3_600_000 + minutes * 60_000 + seconds * 1000 + millis)
}

/// The time that a `Date` or `x-amz-date` header says, in milliseconds since the epoch: as in mail and HTTP, or ISO 8601 with or
/// without its marks.
pub(crate) fn parse_date(text: &str) -> Option<u64> {
    parse_mail(text).or_else(|| parse_basic(text)).or_else(|| parse_iso(text))
}

/// The time of `20261120T163825Z` in milliseconds since the epoch.
pub(crate) fn parse_basic(text: &str) -> Option<u64> {
    if text.len() != 16 || text.as_bytes()[8] != b'T' || !text.ends_with('Z') {
        return None;
    }
    let number = |from: usize, to: usize| digits(text.get(from..to)?);
    let days = day(number(0, 4)?, number(4, 6)?, number(6, 8)?)?;
    Some(days * MS_PER_DAY + of_day(number(9, 11)?, number(11, 13)?, number(13, 15)?)?)
}

/// The time of `Fri, 20 Nov 2026 16:38:25 GMT` in milliseconds since the epoch; other zones are written as `+0100`.
fn parse_mail(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // The day of the week says nothing.
    let date = text.split_once(',').map_or(text, |(_, date)| date);
    let mut fields = date.split_ascii_whitespace();
    let (of_month, month, year) = (fields.next()?, fields.next()?, fields.next()?);
    let (time, zone) = (fields.next()?, fields.next()?);
    if fields.next().is_some() {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let days = day(digits(year)?, month, digits(of_month)?)?;
    let mut time = time.split(':').map(digits);
    let (hours, minutes, seconds) = (time.next()??, time.next()??, time.next()??);
    if time.next().is_some() {
        return None;
    }
    let ms = days * MS_PER_DAY + of_day(hours, minutes, seconds)?;
    if matches!(zone, "GMT" | "UTC" | "Z") {
        return Some(ms);
    }
    let is_west = zone.starts_with('-');
    let offset = zone.strip_prefix(['+', '-']).filter(|offset| offset.len() == 4)?;
    let offset = of_day(digits(offset.get(..2)?)?, digits(offset.get(2..)?)?, 0)?;
    if is_west { ms.checked_add(offset) } else { ms.checked_sub(offset) }
}

/// A number of a few digits and nothing else.
fn digits(text: &str) -> Option<u64> {
    let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// Milliseconds since midnight. A leap second counts as the next one.
fn of_day(hours: u64, minutes: u64, seconds: u64) -> Option<u64> {
    let is_time = hours <= 23 && minutes <= 59 && seconds <= 60;
    is_time.then_some((hours * 3600 + minutes * 60 + seconds) * 1000)
}

/// A stored time for the protocol library.
pub(crate) fn timestamp(iso: &str) -> Option<Timestamp> {
    Timestamp::parse(TimestampFormat::DateTime, iso).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_signed() {
        assert_eq!(parse_basic("19700101T000000Z"), Some(0));
        assert_eq!(parse_basic("20000229T000001Z"), Some(951_782_401_000));
        assert_eq!(parse_basic("20261120T163825Z"), Some(1_795_192_705_000));
        for wrong in ["", "20261120T163825", "20261320T163825Z", "2026112OT163825Z", "20261120 163825Z"] {
            assert_eq!(parse_basic(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn dates_of_requests_come_in_many_forms() {
        for same in [
            "Fri, 20 Nov 2026 16:38:25 GMT",
            "Fri, 20 Nov 2026 16:38:25 +0000",
            "20 Nov 2026 17:38:25 +0100",
            "Fri,  20 Nov 2026 08:08:25 -0830",
            "20261120T163825Z",
            "2026-11-20T16:38:25Z",
        ] {
            assert_eq!(parse_date(same), Some(1_795_192_705_000), "{same}");
        }
        for wrong in [
            "",
            "Fri, 20 Nov 2026 16:38:25",
            "Fri, 20 Nov 2026 16:38 GMT",
            "Fri, 20 Nov 2026 16:38:25 CET",
            "Fri, 20 Nov 2026 24:38:25 GMT",
            "Fri, 32 Nov 2026 16:38:25 GMT",
            "Fri, 20 nov 20266 16:38:25 GMT",
            "Fri, 20 Nov 2026 16:38:25 GMT GMT",
            "Fri, 20 Nov 2026 16:38:25 +é00",
            "Thu, 01 Jan 1970 00:00:00 +0001",
            "20261120T163825",
            "20261120T2538250",
            "2026112éT163825Z",
            "+0261120T163825Z",
        ] {
            assert_eq!(parse_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_written_as_upstream_writes_them() {
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(iso(1_795_192_705_760), "2026-11-20T16:38:25.760Z");
        assert_eq!(iso(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
    }

    #[test]
    fn days_go_there_and_back() {
        for number in (0..60_000).step_by(7) {
            let (year, month, of_month) = civil(number);
            assert_eq!(day(year, month, of_month), Some(number));
        }
        assert_eq!(day(2026, 13, 1), None);
    }

    #[test]
    fn times_are_read_back_as_they_were_written() {
        for ms in [0, 951_782_400_000, 1_795_192_705_760, 4_107_542_399_999] {
            assert_eq!(parse_iso(&iso(ms)), Some(ms));
        }
        assert_eq!(parse_iso("2026-11-20T16:38:25Z"), Some(1_795_192_705_000));
        assert_eq!(parse_iso("2026-11-20T16:38:25.7+00:00"), Some(1_795_192_705_700));
        for wrong in [
            "",
            "2026-11-20",
            "2026-11-20T16:38:25",
            "2026-11-20T25:38:25Z",
            "2026-11-20T16:38:25.Z",
            "2026-é1-20T16:38:25Z",
        ] {
            assert_eq!(parse_iso(wrong), None, "{wrong}");
        }
    }
}
