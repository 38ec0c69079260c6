//! Kubernetes quantities: `500m`, `2`, `8Gi`, `1e3`.
//!
//! Held as a whole number of nano-units, so that sums and comparisons are exact. Numbers that would lose digits
//! below a nano are rounded up, as Kubernetes does; numbers too large for the type are refused, not wrapped.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Nano-units in one unit.
const NANO: i128 = 1_000_000_000;
/// Longest text that is looked at: far more than any honest quantity has, so that parsing is bounded.
const MAX_TEXT: usize = 64;

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The text breaks the form.
    #[error("{0:?} is not a quantity such as 500m, 2 or 8Gi")]
    Form(String),
    /// The number does not fit.
    #[error("{0:?} is too large")]
    TooLarge(String),
}

/// How a quantity is written: the family of its suffixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Notation {
    /// `Ki`, `Mi`, `Gi`, … : memory and disks.
    Binary,
    /// `m`, `k`, `M`, `G`, … : CPUs and counts.
    Decimal,
}

/// An exact amount with the notation that it was written in. Equal amounts are equal whatever their notation.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Quantity {
    nanos: i128,
    notation: Notation,
}

const BINARY: [(&str, u32); 6] = [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
const DECIMAL: [(&str, i32); 10] = [
    ("E", 18),
    ("P", 15),
    ("T", 12),
    ("G", 9),
    ("M", 6),
    ("k", 3),
    ("", 0),
    ("m", -3),
    ("u", -6),
    ("n", -9),
];

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        nanos: 0,
        notation: Notation::Decimal,
    };

    /// So many bytes, written with binary suffixes.
    pub fn from_bytes(bytes: u64) -> Self {
        Self {
            nanos: i128::from(bytes) * NANO,
            notation: Notation::Binary,
        }
    }

    /// So many whole units, such as CPUs.
    pub fn from_units(units: u64) -> Self {
        Self {
            nanos: i128::from(units) * NANO,
            notation: Notation::Decimal,
        }
    }

    /// So many thousandths, such as milli-CPUs.
    pub fn from_millis(millis: u64) -> Self {
        Self {
            nanos: i128::from(millis) * (NANO / 1000),
            notation: Notation::Decimal,
        }
    }

    /// Whole units, rounded up: bytes for sizes. Negative amounts are 0, too large ones the largest.
    pub fn bytes(self) -> u64 {
        self.ceil_to(NANO)
    }

    /// The bytes, if they are a whole number that fits.
    pub fn whole_bytes(self) -> Option<u64> {
        (self.nanos.rem_euclid(NANO) == 0)
            .then(|| u64::try_from(self.nanos / NANO).ok())
            .flatten()
    }

    /// Whole units, rounded up; the same as [`Self::bytes`] under the name that fits counts.
    pub fn units(self) -> u64 {
        self.ceil_to(NANO)
    }

    /// Thousandths, rounded up. Negative amounts are 0, too large ones the largest.
    pub fn millis(self) -> u64 {
        self.ceil_to(NANO / 1000)
    }

    /// Whether it is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// The sum in the notation of `self`; the largest amount if it does not fit.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
            ..self
        }
    }

    /// The difference in the notation of `self`; may be negative.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_sub(other.nanos),
            ..self
        }
    }

    fn ceil_to(self, step: i128) -> u64 {
        let whole = self.nanos.div_euclid(step) + i128::from(self.nanos.rem_euclid(step) != 0);
        u64::try_from(whole.max(0)).unwrap_or(u64::MAX)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let form = || QuantityError::Form(text.chars().take(MAX_TEXT).collect());
        if text.len() > MAX_TEXT {
            return Err(form());
        }
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(form());
        }
        let (scale, notation) = scale_of(suffix).ok_or_else(form)?;
        let nanos = scale
            .nanos(whole, fraction)
            .ok_or_else(|| QuantityError::TooLarge(text.to_owned()))?;
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            notation,
        })
    }
}

/// What a suffix multiplies by.
#[derive(Clone, Copy)]
enum Scale {
    Two(u32),
    Ten(i32),
}

fn scale_of(suffix: &str) -> Option<(Scale, Notation)> {
    if let Some((_, power)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        return Some((Scale::Two(*power), Notation::Binary));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Some((Scale::Ten(*power), Notation::Decimal));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    // Beyond these every digit is lost or the number is too large; the bound keeps the arithmetic small.
    (-30..=30)
        .contains(&exponent)
        .then_some((Scale::Ten(exponent), Notation::Decimal))
}

impl Scale {
    /// `whole.fraction` times the scale in nano-units, rounded up; `None` if it does not fit.
    fn nanos(self, whole: &str, fraction: &str) -> Option<i128> {
        let fraction = fraction.trim_end_matches('0');
        let digits = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        let mantissa: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        let places = i32::try_from(fraction.len()).ok()?;
        match self {
            Self::Ten(power) => shift(mantissa, power + 9 - places),
            Self::Two(power) => {
                let scaled = mantissa.checked_mul(1_i128.checked_shl(power)?)?;
                shift(scaled, 9 - places)
            }
        }
    }
}

/// `value * 10^power`, rounded up; `None` if it does not fit.
fn shift(value: i128, power: i32) -> Option<i128> {
    let factor = 10_i128.checked_pow(power.unsigned_abs());
    if value == 0 {
        return Some(0);
    }
    if power >= 0 {
        return value.checked_mul(factor?);
    }
    match factor {
        Some(factor) => Some(value / factor + i128::from(value % factor != 0)),
        None => Some(1),
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.nanos < 0 { "-" } else { "" };
        let nanos = self.nanos.unsigned_abs();
        let nano = NANO.unsigned_abs();
        if self.notation == Notation::Binary && nanos.is_multiple_of(nano) {
            let units = nanos / nano;
            let fits = BINARY
                .iter()
                .find(|(_, power)| units >= 1 << power && units.is_multiple_of(1 << power));
            return match fits {
                Some((suffix, power)) => write!(f, "{sign}{}{suffix}", units >> power),
                None => write!(f, "{sign}{units}"),
            };
        }
        for (suffix, power) in DECIMAL {
            let unit = 10_u128.pow(u32::try_from(power + 9).unwrap_or_default());
            if nanos >= unit && nanos.is_multiple_of(unit) {
                return write!(f, "{sign}{}{suffix}", nanos / unit);
            }
        }
        f.write_str("0")
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl std::hash::Hash for Quantity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl TryFrom<String> for Quantity {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        text.parse()
    }
}

impl From<Quantity> for String {
    fn from(quantity: Quantity) -> Self {
        quantity.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Quantity {
        text.parse().expect("a quantity")
    }

    #[test]
    fn texts_mean_what_kubernetes_says() {
        for (text, bytes, millis) in [
            ("0", 0, 0),
            ("1", 1, 1000),
            ("500m", 1, 500),
            ("1.5", 2, 1500),
            (".5", 1, 500),
            ("2k", 2000, 2_000_000),
            ("1Ki", 1024, 1_024_000),
            ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
            ("1e3", 1000, 1_000_000),
            ("1E3", 1000, 1_000_000),
            ("100n", 1, 1),
            ("-5", 0, 0),
            ("1Ei", 1 << 60, u64::MAX),
            ("3E", 3_000_000_000_000_000_000, u64::MAX),
        ] {
            let quantity = parsed(text);
            assert_eq!((quantity.bytes(), quantity.millis()), (bytes, millis), "{text}");
        }
    }

    #[test]
    fn odd_texts_are_refused() {
        for bad in [
            "",
            "Gi",
            "1 Gi",
            "1gi",
            "1.2.3",
            "--1",
            "1e",
            "1e99",
            "0x1",
            "1Gib",
            "٣",
            "999999999999999999999999999999999999999",
            &"1".repeat(65),
        ] {
            assert!(bad.parse::<Quantity>().is_err(), "{bad}");
        }
    }

    #[test]
    fn texts_are_canonical() {
        for (text, canonical) in [
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1500m", "1500m"),
            ("2000m", "2"),
            ("1000", "1k"),
            ("0.1", "100m"),
            ("-2Ki", "-2Ki"),
            ("0Gi", "0"),
            ("0.5Ki", "512"),
        ] {
            assert_eq!(parsed(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn amounts_compare_across_notations() {
        assert_eq!(parsed("1000m"), parsed("1"));
        assert!(parsed("1Gi") > parsed("1G"));
        assert_eq!(parsed("1Gi").saturating_sub(parsed("512Mi")).to_string(), "512Mi");
        assert!(parsed("1").saturating_sub(parsed("2")).is_negative());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bytes in any::<u64>(), millis in 0_u64..1 << 50) {
            prop_assert_eq!(parsed(&Quantity::from_bytes(bytes).to_string()).bytes(), bytes);
            prop_assert_eq!(parsed(&Quantity::from_millis(millis).to_string()).millis(), millis);
        }

        #[test]
        fn parsing_never_panics(text in "[-+0-9.eEKMGTPkmnui]{0,24}") {
            if let Ok(quantity) = text.parse::<Quantity>() {
                prop_assert_eq!(parsed(&quantity.to_string()), quantity);
            }
        }
    }
}
