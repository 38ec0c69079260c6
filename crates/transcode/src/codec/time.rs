//! `google.protobuf.Timestamp` and `Duration` as text (RFC 3339 with `Z`; seconds with suffix `s`).

/// 0001-01-01T00:00:00Z, the least timestamp.
const MIN_SECONDS: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z, the greatest.
const MAX_SECONDS: i64 = 253_402_300_799;
/// Ten thousand years, the greatest whole seconds of a duration; a fraction may follow.
const MAX_DURATION: i64 = 315_576_000_000;

/// The text of a timestamp, `None` if it is out of range.
pub(crate) fn format_timestamp(seconds: i64, nanos: i32) -> Option<String> {
    if !(MIN_SECONDS..=MAX_SECONDS).contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        return None;
    }
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let mut text = String::with_capacity("9999-12-31T23:59:59.999999999Z".len());
    for (before, number, digits) in [
        ("", year, 4),
        ("-", month, 2),
        ("-", day, 2),
        ("T", hour, 2),
        (":", minute, 2),
        (":", second, 2),
    ] {
        text.push_str(before);
        push_digits(&mut text, number.unsigned_abs(), digits);
    }
    push_fraction(&mut text, nanos.unsigned_abs());
    text.push('Z');
    Some(text)
}

/// The text of a duration, `None` if it is out of range or its parts differ in sign.
pub(crate) fn format_duration(seconds: i64, nanos: i32) -> Option<String> {
    let mixed = (seconds < 0 && nanos > 0) || (seconds > 0 && nanos < 0);
    if mixed || seconds.abs() > MAX_DURATION || nanos.unsigned_abs() > 999_999_999 {
        return None;
    }
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let mut text = format!("{sign}{}", seconds.unsigned_abs());
    push_fraction(&mut text, nanos.unsigned_abs());
    text.push('s');
    Some(text)
}

/// Appends `.`, then three, six or nine digits; nothing for zero.
fn push_fraction(text: &mut String, nanos: u32) {
    let (number, digits) = match nanos {
        0 => return,
        n if n % 1_000_000 == 0 => (n / 1_000_000, 3),
        n if n % 1_000 == 0 => (n / 1_000, 6),
        n => (n, 9),
    };
    text.push('.');
    push_digits(text, number.into(), digits);
}

/// Appends the last `count` decimal digits of a number: a good deal faster than `format!`.
fn push_digits(text: &mut String, number: u64, count: u32) {
    for place in (0..count).rev() {
        let digit = u8::try_from(number / 10u64.pow(place) % 10).unwrap_or_default();
        text.push(char::from(b'0' + digit));
    }
}

/// Seconds and nanoseconds of a timestamp's text.
pub(crate) fn parse_timestamp(text: &str) -> Option<(i64, i32)> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix('T')?;
    let (year, month, day) = (digits(date, 0, 4)?, digits(date, 5, 2)?, digits(date, 8, 2)?);
    let separators = (date.as_bytes().get(4), date.as_bytes().get(7));
    if separators != (Some(&b'-'), Some(&b'-')) || year == 0 || day == 0 || day > days_in_month(year, month)? {
        return None;
    }
    let (clock, rest) = rest.split_at_checked(8)?;
    let (hour, minute, second) = (digits(clock, 0, 2)?, digits(clock, 3, 2)?, digits(clock, 6, 2)?);
    let separators = (clock.as_bytes().get(2), clock.as_bytes().get(5));
    if separators != (Some(&b':'), Some(&b':')) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            let (number, zone) = rest.split_at_checked(end)?;
            (parse_fraction(number)?, zone)
        }
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset(zone)?;
    (MIN_SECONDS..=MAX_SECONDS)
        .contains(&seconds)
        .then_some((seconds, nanos))
}

/// Seconds and nanoseconds of a duration's text.
pub(crate) fn parse_duration(text: &str) -> Option<(i64, i32)> {
    let number = text.strip_suffix('s')?;
    let (negative, number) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
    let (whole, part) = number
        .split_once('.')
        .map_or((number, None), |(whole, part)| (whole, Some(part)));
    if whole.is_empty() || whole.len() > 12 || !whole.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos = part.map_or(Some(0), parse_fraction)?;
    if seconds > MAX_DURATION {
        return None;
    }
    Some(if negative { (-seconds, -nanos) } else { (seconds, nanos) })
}

fn parse_fraction(number: &str) -> Option<i32> {
    if number.is_empty() || number.len() > 9 || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let scale = 10i32.checked_pow(u32::try_from(9 - number.len()).ok()?)?;
    number.parse::<i32>().ok()?.checked_mul(scale)
}

/// Seconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = (digits(zone, 1, 2)?, digits(zone, 4, 2)?);
    let well_formed = zone.len() == 6 && zone.as_bytes().get(3) == Some(&b':') && hours < 24 && minutes < 60;
    well_formed.then_some(sign * (hours * 3600 + minutes * 60))
}

fn digits(text: &str, start: usize, count: usize) -> Option<i64> {
    let part = text.get(start..start + count)?;
    if part.bytes().all(|b| b.is_ascii_digit()) {
        part.parse().ok()
    } else {
        None
    }
}

fn days_in_month(year: i64, month: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        _ => None,
    }
}

/// Days since 1970-01-01 of a proleptic Gregorian date. Years are counted from March, so that the leap day is the
/// last of its year, and in eras of 400 years, which all have the same length.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Inverse of [`days_from_civil`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_read_back_as_written() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (-1, 999_999_999, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400, 500_000_000, "2000-02-29T00:00:00.500Z"),
            (MIN_SECONDS, 0, "0001-01-01T00:00:00Z"),
            (MAX_SECONDS, 1000, "9999-12-31T23:59:59.000001Z"),
        ] {
            assert_eq!(format_timestamp(seconds, nanos).as_deref(), Some(text));
            assert_eq!(parse_timestamp(text), Some((seconds, nanos)), "{text}");
        }
        assert_eq!(parse_timestamp("1970-01-01T02:00:00+02:00"), Some((0, 0)));
    }

    #[test]
    fn impossible_timestamps_are_refused() {
        for text in [
            "",
            "1970-01-01",
            "1970-01-01t00:00:00Z",
            "1970-01-01T00:00:00z",
            "1970-01-01T00:00:00",
            "1970-02-29T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:60Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00.0000000001Z",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+01:00",
            "1970-01-01T00:00:00+0100",
            "1970-01-01T00:00:00.5",
            "1970-01-01 00:00:00Z",
            "é970-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
        assert_eq!(format_timestamp(MAX_SECONDS + 1, 0), None);
    }

    #[test]
    fn durations_keep_their_sign_and_digits() {
        assert_eq!(parse_duration("-0.5s"), Some((0, -500_000_000)));
        assert_eq!(format_duration(0, -500_000_000).as_deref(), Some("-0.500s"));
        assert_eq!(parse_duration("315576000000s"), Some((MAX_DURATION, 0)));
        for (text, sign) in [("315576000000.999999999s", 1), ("-315576000000.999999999s", -1)] {
            let nanos = 999_999_999 * i32::try_from(sign).unwrap_or_default();
            assert_eq!(parse_duration(text), Some((MAX_DURATION * sign, nanos)));
            assert_eq!(format_duration(MAX_DURATION * sign, nanos).as_deref(), Some(text));
        }
        for text in [
            "",
            "s",
            "1",
            "1.s",
            ".5s",
            "+1s",
            "1e3s",
            "315576000001s",
            "1.0000000001s",
            " 1s",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(format_duration(1, -1), None);
    }
}
