//! Percent-decoding, exactly once.

use std::borrow::Cow;

/// Why an escaped text is not a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadEscape {
    /// `%` without two hexadecimal digits.
    #[error("malformed percent escape")]
    Malformed,
    /// Escapes that do not make UTF-8.
    #[error("percent escapes are not valid UTF-8")]
    Utf8,
}

/// What happens to an escaped slash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slash {
    /// `%2F` becomes `/`.
    Decode,
    /// `%2F` stays as it is: in a variable of several segments it is not a separator.
    Keep,
}

/// Decodes the escapes of a path part.
pub(crate) fn decode(text: &str, slash: Slash) -> Result<Cow<'_, str>, BadEscape> {
    if text.contains('%') {
        unescape(text, slash, false)
    } else {
        Ok(Cow::Borrowed(text))
    }
}

/// Decodes the escapes of a query part, where `+` is a space.
pub(crate) fn decode_query(text: &str) -> Result<Cow<'_, str>, BadEscape> {
    if text.contains(['%', '+']) {
        unescape(text, Slash::Decode, true)
    } else {
        Ok(Cow::Borrowed(text))
    }
}

fn unescape(text: &str, slash: Slash, plus: bool) -> Result<Cow<'_, str>, BadEscape> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let (Some(high), Some(low)) = (bytes.next(), bytes.next()) else {
                    return Err(BadEscape::Malformed);
                };
                let value = nibble(high)? << 4 | nibble(low)?;
                if value == b'/' && slash == Slash::Keep {
                    out.extend_from_slice(&[b'%', high, low]);
                } else {
                    out.push(value);
                }
            }
            b'+' if plus => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| BadEscape::Utf8)
}

fn nibble(digit: u8) -> Result<u8, BadEscape> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(BadEscape::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_once() {
        assert_eq!(decode("a%2525b", Slash::Decode).as_deref(), Ok("a%25b"));
        assert_eq!(decode("a%2Fb%2fc%3A", Slash::Keep).as_deref(), Ok("a%2Fb%2fc:"));
        assert_eq!(decode("a%2Fb+c", Slash::Decode).as_deref(), Ok("a/b+c"));
        assert_eq!(decode_query("a+b%2B").as_deref(), Ok("a b+"));
    }

    #[test]
    fn bad_escapes_are_refused() {
        for text in ["%", "%2", "%zz", "a%", "%é"] {
            assert_eq!(decode(text, Slash::Decode), Err(BadEscape::Malformed), "{text}");
        }
        assert_eq!(decode("%ff", Slash::Decode), Err(BadEscape::Utf8));
    }
}
