//! JSON numbers as protobuf numbers, exactly.

/// Why a number is not one of the type.
pub(crate) type Reason = &'static str;

const NOT_A_NUMBER: Reason = "not a number";
const NOT_AN_INTEGER: Reason = "not an integer";
const OUT_OF_RANGE: Reason = "out of range";

/// Length of the number at the start of `text` by JSON's grammar; `None` if there is none.
pub(crate) fn scan(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| text.iter().skip(from).take_while(|b| b.is_ascii_digit()).count();
    let mut at = usize::from(text.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && text.get(at) == Some(&b'0')) {
        return None;
    }
    at += whole;
    if text.get(at) == Some(&b'.') {
        let part = digits(at + 1);
        if part == 0 {
            return None;
        }
        at += part + 1;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        if exponent == 0 {
            return None;
        }
        at += 1 + sign + exponent;
    }
    Some(at)
}

fn whole(text: &str) -> Result<(), Reason> {
    if scan(text.as_bytes()) == Some(text.len()) {
        Ok(())
    } else {
        Err(NOT_A_NUMBER)
    }
}

/// Sign and magnitude of an integer in any JSON notation: `100000`, `1e5` and `100000.0` are the same number.
fn integer(text: &str) -> Result<(bool, u64), Reason> {
    whole(text)?;
    let (negative, number) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    if number.bytes().all(|b| b.is_ascii_digit()) {
        return number
            .parse()
            .map(|magnitude| (negative, magnitude))
            .map_err(|_| OUT_OF_RANGE);
    }
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, saturating_exponent(exponent)),
        None => (number, 0),
    };
    let (head, tail) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{head}{tail}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Ok((negative, 0));
    }
    let dropped = digits.len() - digits.trim_end_matches('0').len();
    let scale =
        exponent + i64::try_from(dropped).unwrap_or(i64::MAX / 4) - i64::try_from(tail.len()).unwrap_or(i64::MAX / 4);
    if scale < 0 {
        return Err(NOT_AN_INTEGER);
    }
    // 2^64 has twenty digits.
    let zeros = u32::try_from(scale)
        .ok()
        .filter(|zeros| *zeros <= 20)
        .ok_or(OUT_OF_RANGE)?;
    let base: u64 = significant.parse().map_err(|_| OUT_OF_RANGE)?;
    let magnitude = 10u64
        .checked_pow(zeros)
        .and_then(|power| base.checked_mul(power))
        .ok_or(OUT_OF_RANGE)?;
    Ok((negative, magnitude))
}

/// The exponent, held within bounds that no later sum can leave.
fn saturating_exponent(text: &str) -> i64 {
    let negative = text.starts_with('-');
    let magnitude = text
        .trim_start_matches(['+', '-'])
        .parse::<i64>()
        .unwrap_or(i64::MAX)
        .min(i64::MAX / 4);
    if negative { -magnitude } else { magnitude }
}

pub(crate) fn parse_i64(text: &str) -> Result<i64, Reason> {
    let (negative, magnitude) = integer(text)?;
    if negative {
        0i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
    .ok_or(OUT_OF_RANGE)
}

pub(crate) fn parse_i32(text: &str) -> Result<i32, Reason> {
    i32::try_from(parse_i64(text)?).map_err(|_| OUT_OF_RANGE)
}

pub(crate) fn parse_u64(text: &str) -> Result<u64, Reason> {
    match integer(text)? {
        (true, magnitude) if magnitude > 0 => Err(OUT_OF_RANGE),
        (_, magnitude) => Ok(magnitude),
    }
}

pub(crate) fn parse_u32(text: &str) -> Result<u32, Reason> {
    u32::try_from(parse_u64(text)?).map_err(|_| OUT_OF_RANGE)
}

/// A double; rounded to the nearest, never to infinity.
pub(crate) fn parse_f64(text: &str) -> Result<f64, Reason> {
    whole(text)?;
    let value: f64 = text.parse().map_err(|_| NOT_A_NUMBER)?;
    if value.is_finite() {
        Ok(value)
    } else {
        Err(OUT_OF_RANGE)
    }
}

/// A float; rounded once, from the text.
pub(crate) fn parse_f32(text: &str) -> Result<f32, Reason> {
    whole(text)?;
    let value: f32 = text.parse().map_err(|_| NOT_A_NUMBER)?;
    if value.is_finite() {
        Ok(value)
    } else {
        Err(OUT_OF_RANGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_exact_in_every_notation() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("1e5", 100_000),
            ("1E+5", 100_000),
            ("100000.000", 100_000),
            ("1.5e1", 15),
            ("0.0e99999999999999999999", 0),
            ("-9223372036854775808", i64::MIN),
            ("9.223372036854775807e18", i64::MAX),
            ("120e-1", 12),
            ("-1.20e2", -120),
        ] {
            assert_eq!(parse_i64(text), Ok(value), "{text}");
        }
        assert_eq!(parse_u64("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse_u64("1.8446744073709551615e19"), Ok(u64::MAX));
    }

    #[test]
    fn what_is_not_an_integer_of_the_type_is_refused() {
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-01",
            "1.",
            ".5",
            "0.5",
            "1e-1",
            "1e",
            "0x1",
            "1 ",
            " 1",
            "1e99999999999999999999",
            "9223372036854775808",
            "٣",
        ] {
            assert!(parse_i64(text).is_err(), "{text}");
        }
        assert!(parse_u64("-1").is_err());
        assert!(parse_i32("2147483648").is_err());
        assert!(parse_u32("4294967296").is_err());
    }

    #[test]
    fn the_greatest_float_is_one_and_the_next_is_not() {
        assert_eq!(parse_f32("3.4028235e38"), Ok(f32::MAX));
        assert!(parse_f32("3.5e38").is_err());
        assert!(parse_f64("1.8e308").is_err());
        assert!(parse_f64("inf").is_err());
    }
}
