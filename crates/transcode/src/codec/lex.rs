//! JSON's tokens: a cursor that is asked for what the schema expects next.

use std::borrow::Cow;

use super::{number, text};
use crate::error::InvalidRequest;

/// How deep values may nest that are only skipped.
const MAX_SKIP_DEPTH: usize = 100;

/// The text of a body.
///
/// # Errors
/// It is not UTF-8.
pub(crate) fn utf8(json: &[u8]) -> Result<&str, InvalidRequest> {
    std::str::from_utf8(json)
        .map_err(|error| InvalidRequest::new("", format!("body is not valid UTF-8 at byte {}", error.valid_up_to())))
}

/// A cursor over JSON text.
#[derive(Clone)]
pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// The next byte that is not white space, without taking it.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// A complaint about what comes next.
    pub(crate) fn unexpected(&mut self, wanted: &str) -> InvalidRequest {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(byte) if byte.is_ascii_graphic() => format!("`{}`", char::from(byte)),
            Some(byte) => format!("byte {byte:#04x}"),
        };
        InvalidRequest::new("", format!("expected {wanted}, found {found} at byte {}", self.at))
    }

    /// Takes `byte` if it is next.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn expect(&mut self, byte: u8, wanted: &str) -> Result<(), InvalidRequest> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(self.unexpected(wanted))
        }
    }

    /// After `{` or `[`: whether another member follows; takes commas and the closing byte.
    pub(crate) fn more(&mut self, first: &mut bool, close: u8) -> Result<bool, InvalidRequest> {
        if std::mem::take(first) {
            return Ok(!self.take(close));
        }
        if self.take(close) {
            return Ok(false);
        }
        self.expect(b',', "a comma or the end of the list")?;
        Ok(true)
    }

    /// The key of the next member and its colon.
    pub(crate) fn key(&mut self) -> Result<Cow<'a, str>, InvalidRequest> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key"));
        }
        let key = self.string()?;
        self.expect(b':', "a colon")?;
        Ok(key)
    }

    /// Takes `null`, `true` or `false` if it is next.
    pub(crate) fn word(&mut self, word: &str) -> bool {
        self.peek();
        let Some(after) = self.rest().strip_prefix(word.as_bytes()) else {
            return false;
        };
        if after.first().is_some_and(u8::is_ascii_alphanumeric) {
            return false;
        }
        self.at += word.len();
        true
    }

    /// A number's text.
    pub(crate) fn number(&mut self) -> Result<&'a str, InvalidRequest> {
        self.peek();
        let start = self.at;
        let length = number::scan(self.rest()).ok_or_else(|| self.unexpected("a number"))?;
        self.at += length;
        if self
            .rest()
            .first()
            .is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+'))
        {
            return Err(self.unexpected("the end of a number"));
        }
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    /// A string's content.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, InvalidRequest> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        let plain = text::plain_run(self.rest());
        self.at += plain;
        if self.rest().first() == Some(&b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(self.text.get(start..start + plain).unwrap_or_default()));
        }
        let mut owned = String::from(self.text.get(start..start + plain).unwrap_or_default());
        loop {
            match self.rest().first() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(owned));
                }
                Some(b'\\') => {
                    self.at += 1;
                    owned.push(self.escape()?);
                }
                Some(byte) if *byte < 0x20 => return Err(self.fault("control character in a string")),
                None => return Err(self.fault("string does not end")),
                Some(_) => {
                    let run = text::plain_run(self.rest());
                    owned.push_str(self.text.get(self.at..self.at + run).unwrap_or_default());
                    self.at += run;
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, InvalidRequest> {
        let letter = self.rest().first().copied();
        self.at += 1;
        Ok(match letter {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => {
                self.at -= 1;
                return Err(self.fault("unknown escape in a string"));
            }
        })
    }

    fn unicode(&mut self) -> Result<char, InvalidRequest> {
        let high = self.hex()?;
        if !(0xd800..0xe000).contains(&high) {
            return char::from_u32(high).ok_or_else(|| self.fault("not a character"));
        }
        if high < 0xdc00 && self.rest().starts_with(b"\\u") {
            self.at += 2;
            let low = self.hex()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return char::from_u32(code).ok_or_else(|| self.fault("not a character"));
            }
        }
        Err(self.fault("lone surrogate in a string"))
    }

    fn hex(&mut self) -> Result<u32, InvalidRequest> {
        let digits = self
            .text
            .get(self.at..self.at + 4)
            .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let code = code.ok_or_else(|| self.fault("unknown escape in a string"))?;
        self.at += 4;
        Ok(code)
    }

    fn fault(&self, what: &str) -> InvalidRequest {
        InvalidRequest::new("", format!("{what} at byte {}", self.at))
    }

    /// Passes over one value of any kind.
    pub(crate) fn skip(&mut self, depth: usize) -> Result<(), InvalidRequest> {
        if depth > MAX_SKIP_DEPTH {
            return Err(self.fault("nested too deep"));
        }
        let mut first = true;
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => {
                self.at += 1;
                while self.more(&mut first, b'}')? {
                    self.key()?;
                    self.skip(depth + 1)?;
                }
                Ok(())
            }
            Some(b'[') => {
                self.at += 1;
                while self.more(&mut first, b']')? {
                    self.skip(depth + 1)?;
                }
                Ok(())
            }
            Some(b't') if self.word("true") => Ok(()),
            Some(b'f') if self.word("false") => Ok(()),
            Some(b'n') if self.word("null") => Ok(()),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// Nothing but white space may be left.
    pub(crate) fn finish(&mut self) -> Result<(), InvalidRequest> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.fault("more text after the end of the JSON value")),
        }
    }
}
