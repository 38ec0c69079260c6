//! Writing JSON's strings and numbers.

use base64::Engine as _;

/// For each byte: 0 = copied, `u` = `\u00XX`, anything else = the letter after the backslash.
const ESCAPE: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// How many of the first bytes stand for themselves in a JSON string: all before a quote, backslash or control
/// character. Eight are looked at together.
pub(crate) fn plain_run(bytes: &[u8]) -> usize {
    let (chunks, tail) = bytes.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let marks = special_bytes(u64::from_le_bytes(*chunk));
        if marks != 0 {
            return index * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    let end = tail.iter().position(|&byte| ESCAPE[byte as usize] != 0);
    bytes.len() - tail.len() + end.unwrap_or(tail.len())
}

/// Marks the lowest byte that needs an escape by its top bit; zero if none does. Bytes above that one may be marked
/// wrongly, by the borrow of the subtractions.
const fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const TOPS: u64 = ONES << 7;
    // `(x - n) & !x` has its top bit where a byte of ASCII is below n.
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = word ^ (ONES * b'"' as u64);
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = word ^ (ONES * b'\\' as u64);
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    (control | quote | backslash) & TOPS
}

/// Appends `text` as a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at_checked(plain_run(rest)).unwrap_or((rest, &[]));
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else {
            break;
        };
        write_escape(out, byte);
        rest = after;
    }
    out.push(b'"');
}

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let letter = ESCAPE[byte as usize];
    out.extend_from_slice(&[b'\\', letter]);
    if letter == b'u' {
        let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        out.extend_from_slice(b"00");
        out.extend_from_slice(&digits);
    }
}

/// Appends `bytes` as a JSON string of base64.
pub(crate) fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    if let Some(room) = out.get_mut(start..) {
        // The room is exactly what the encoder needs, so it cannot fail.
        let _ = base64::engine::general_purpose::STANDARD.encode_slice(bytes, room);
    }
    out.push(b'"');
}

/// Appends a decimal number.
pub(crate) fn write_u64(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        at -= 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Appends a decimal number.
pub(crate) fn write_i64(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    write_u64(out, value.unsigned_abs());
}

/// Appends the shortest text that reads back as `value`; the three without digits as strings.
pub(crate) fn write_f64(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        write_finite(out, zmij::Buffer::new().format_finite(value));
    } else {
        write_not_finite(out, value);
    }
}

/// Appends the shortest text that reads back as `value`; the three without digits as strings.
pub(crate) fn write_f32(out: &mut Vec<u8>, value: f32) {
    if value.is_finite() {
        write_finite(out, zmij::Buffer::new().format_finite(value));
    } else {
        write_not_finite(out, f64::from(value));
    }
}

fn write_finite(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
}

fn write_not_finite(out: &mut Vec<u8>, value: f64) {
    let text: &[u8] = match (value.is_nan(), value > 0.0) {
        (true, _) => b"\"NaN\"",
        (false, true) => b"\"Infinity\"",
        (false, false) => b"\"-Infinity\"",
    };
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_run_ends_at_the_first_byte_that_needs_an_escape() {
        for length in 0..20 {
            for at in 0..length {
                for byte in 0..=255u8 {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = byte;
                    let wanted = if byte < 0x20 || byte == b'"' || byte == b'\\' {
                        at
                    } else {
                        length
                    };
                    assert_eq!(plain_run(&bytes), wanted, "{byte:#04x} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn a_plain_run_ends_at_the_first_of_two() {
        // The neighbours of what is searched for, which a borrow could mark.
        let bytes = [
            0x00, 0x1f, 0x20, 0x21, b'"', 0x23, 0x5b, b'\\', 0x5d, 0x7f, 0x80, 0xa2, 0xdc, 0xff,
        ];
        for first in bytes {
            for second in bytes {
                let text = [b'a', first, second, b'a', b'a', b'a', b'a', b'a'];
                let wanted = text
                    .iter()
                    .position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\')
                    .unwrap_or(text.len());
                assert_eq!(plain_run(&text), wanted, "{first:#04x} {second:#04x}");
            }
        }
    }
}
