//! Hexadecimal digits of percent escapes. `u8::from_str_radix` takes signs, which no escape has.

/// The byte that two digits at the start of `text` say.
pub(crate) fn pair(text: &[u8]) -> Option<u8> {
    let [high, low, ..] = text else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
}

/// A digit for the lower half of `nibble`.
pub(crate) fn digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble & 15), 16)
        .unwrap_or('0')
        .to_ascii_uppercase()
}
