//! `grpc-timeout`: how much time a caller leaves.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries the time that is left.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Most digits that the gRPC protocol allows in the value.
const MAX_DIGITS: u32 = 8;

/// The time that the caller leaves; `None` if it does not say, or not in the protocol's form.
pub fn parse(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > MAX_DIGITS as usize || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// The header's value for a time, in the finest unit that has room; never more than `left`.
pub fn format(left: Duration) -> HeaderValue {
    let units: [(u128, &str); 6] = [
        (left.as_nanos(), "n"),
        (left.as_micros(), "u"),
        (left.as_millis(), "m"),
        (u128::from(left.as_secs()), "S"),
        (u128::from(left.as_secs() / 60), "M"),
        (u128::from(left.as_secs() / 3600), "H"),
    ];
    let fits = units.iter().find(|(value, _)| *value < 10_u128.pow(MAX_DIGITS));
    let text = fits.map_or_else(|| "99999999H".to_owned(), |(value, unit)| format!("{value}{unit}"));
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("0n"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_str(text).ok()?);
        parse(&headers)
    }

    #[test]
    fn texts_are_read_as_the_protocol_says() {
        for (text, time) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("123456789n", None),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("1.5S", None),
        ] {
            assert_eq!(parsed(text), time, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_and_never_grows(nanos in any::<u64>()) {
            let left = Duration::from_nanos(nanos);
            let back = parsed(format(left).to_str()?).ok_or(TestCaseError::fail("unreadable"))?;
            prop_assert!(back <= left);
            prop_assert!(left.saturating_sub(back) <= left / 1000);
        }
    }
}
