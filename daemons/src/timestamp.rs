//! ISO 8601 times in UTC with milliseconds, as the API and the state of pauses write and read them.

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

/// Reads every form in which installations store dates: what [`parse`] reads, the same with an offset from UTC, and what a
/// JavaScript date becomes as text (`Tue Feb 11 2025 07:30:00 GMT+0000 (UTC)`).
pub fn parse_any(text: &str) -> Option<WallTime> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    if let Some(time) = parse(text) {
        return Some(time);
    }
    if let Some((local, hours, minutes)) = text.rsplit_once(':').and_then(|(rest, minutes)| {
        let at = rest.len().checked_sub(3)?;
        Some((rest.get(..at)?, rest.get(at..)?, minutes))
    }) && local.starts_with(|first: char| first.is_ascii_digit())
    {
        return shifted(&format!("{local}Z"), hours, minutes);
    }
    let mut words = text.split_ascii_whitespace();
    let (_, month, day, year, time, zone) =
        (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let offset = zone.strip_prefix("GMT")?;
    let (hours, minutes) =
        if offset.is_empty() { ("+00", "00") } else { (offset.get(..3)?, offset.get(3..)?) };
    shifted(&format!("{year}-{month:02}-{day}T{time}Z"), hours, minutes)
}

/// A local time as the UTC time that it is, so many signed hours and minutes away.
fn shifted(local: &str, hours: &str, minutes: &str) -> Option<WallTime> {
    let sign = match hours.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i64>().ok())?;
    let minutes = number(hours.get(1..)?)? * 60 + number(minutes)?;
    Some(WallTime::from_millis(parse(local)?.as_millis() - sign * minutes * 60_000))
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

    #[test]
    fn dates_are_read_in_every_form_that_is_stored_somewhere() {
        for text in [
            "2025-02-11T07:30:00.000Z",
            "2025-02-11T07:30:00+00:00",
            "2025-02-11T08:30:00.000+01:00",
            "2025-02-11T02:00:00-05:30",
            "Tue Feb 11 2025 07:30:00 GMT+0000 (Coordinated Universal Time)",
            "Tue Feb 11 2025 09:30:00 GMT+0200",
            "Tue Feb 11 2025 07:30:00 GMT",
        ] {
            assert_eq!(parse_any(text), Some(WallTime::from_millis(1_739_259_000_000)), "{text}");
        }
        for text in [
            "",
            "soon",
            "2025-02-11",
            "2025-02-11T07:30:00",
            "Tue Feb 11 2025",
            ":\u{e9}:",
            "T\u{e9}\u{e9}:0",
        ] {
            assert_eq!(parse_any(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC*") {
            parse_any(&text);
        }

        #[test]
        fn what_is_written_is_read(ms in -62_000_000_000_000_i64..253_000_000_000_000) {
            let time = WallTime::from_millis(ms);
            prop_assert_eq!(parse(&format(time)), Some(time));
        }
    }
}
