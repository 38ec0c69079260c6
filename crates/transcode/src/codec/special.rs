//! Well-known types → JSON and their text forms → wire.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the wire format carries narrower numbers in the low bits of wider ones"
)]

use super::encode::{Encoder, Entry};
use super::options::EncodeError;
use super::{scalar, text, time};
use crate::schema::{Kind, Message, WellKnown};
use crate::wire::{self, Raw};

impl<'s, 'w> Encoder<'s, '_, 'w> {
    /// Writes a message of a well-known type.
    pub(super) fn special(&mut self, message: &'s Message, bytes: &'w [u8], depth: usize) -> Result<(), EncodeError> {
        let base = self.scan(message, bytes)?;
        let result = match message.well_known {
            WellKnown::No => Ok(()),
            WellKnown::Any => self.any(base, depth),
            WellKnown::Timestamp => self.seconds_and_nanos(base, time::format_timestamp, "timestamp"),
            WellKnown::Duration => self.seconds_and_nanos(base, time::format_duration, "duration"),
            WellKnown::FieldMask => self.field_mask(base),
            WellKnown::Struct | WellKnown::ListValue | WellKnown::Wrapper => self.first_field(message, base, depth),
            WellKnown::Value => self.json_value(message, base, depth),
        };
        self.entries.truncate(base);
        result
    }

    fn seconds_and_nanos(
        &mut self,
        base: usize,
        format: fn(i64, i32) -> Option<String>,
        what: &'static str,
    ) -> Result<(), EncodeError> {
        let (mut seconds, mut nanos) = (0i64, 0i32);
        for entry in self.entries.get(base..).unwrap_or_default() {
            match (entry.field, entry.raw) {
                (0, Raw::Varint(value)) => seconds = value as i64,
                (1, Raw::Varint(value)) => nanos = value as i32,
                _ => {}
            }
        }
        let text = format(seconds, nanos).ok_or(EncodeError::Unrepresentable(what))?;
        text::write_string(self.out, &text);
        Ok(())
    }

    fn field_mask(&mut self, base: usize) -> Result<(), EncodeError> {
        let mut joined = String::new();
        for entry in self.entries.get(base..).unwrap_or_default() {
            let Raw::Bytes(bytes) = entry.raw else { continue };
            let path = std::str::from_utf8(bytes).map_err(|_| EncodeError::Utf8)?;
            if !joined.is_empty() {
                joined.push(',');
            }
            joined.push_str(&lower_camel(path).ok_or(EncodeError::Unrepresentable("field mask"))?);
        }
        text::write_string(self.out, &joined);
        Ok(())
    }

    /// Writes field 1 in place of the message: structs, lists and wrappers.
    fn first_field(&mut self, message: &'s Message, base: usize, depth: usize) -> Result<(), EncodeError> {
        let Some(field) = message.fields.first() else {
            return Err(EncodeError::Malformed);
        };
        let (start, end) = self.run(base, 0);
        if start == end {
            self.out.extend_from_slice(&field.default_json);
            return Ok(());
        }
        self.field(field, start, end, depth)
    }

    fn json_value(&mut self, message: &'s Message, base: usize, depth: usize) -> Result<(), EncodeError> {
        let Some(Entry { field: index, raw }) = self.entries.last().copied().filter(|_| self.entries.len() > base)
        else {
            self.out.extend_from_slice(b"null");
            return Ok(());
        };
        if let Raw::Fixed64(bits) = raw
            && !f64::from_bits(bits).is_finite()
        {
            return Err(EncodeError::Unrepresentable(
                "a number that is not finite, as google.protobuf.Value",
            ));
        }
        let Some(field) = message.fields.get(usize::from(index)) else {
            return Err(EncodeError::Malformed);
        };
        let (start, end) = self.run(base, usize::from(index));
        self.field(field, start, end, depth)
    }
}

/// `foo_bar.baz` as `fooBar.baz`, with map keys between backticks as they are; `None` if it would not read back as it was.
pub(super) fn lower_camel(path: &str) -> Option<String> {
    let mut camel = String::with_capacity(path.len());
    let (mut upper, mut quoted) = (false, false);
    for c in path.chars() {
        match c {
            '`' if !upper => {
                quoted = !quoted;
                camel.push(c);
            }
            c if quoted => camel.push(c),
            '_' if upper => return None,
            '_' => upper = true,
            'a'..='z' if upper => {
                camel.push(c.to_ascii_uppercase());
                upper = false;
            }
            _ if upper => return None,
            'A'..='Z' => return None,
            c if is_of_path(c) => camel.push(c),
            _ => return None,
        }
    }
    (!upper && !quoted && !camel.is_empty()).then_some(camel)
}

/// Whether a path of a field mask may have this character: of names, map keys and wildcards.
fn is_of_path(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '*' | '`' | '-' | '/')
}

/// Whether underscores are taken as they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MaskText {
    /// JSON: `lowerCamel` only.
    Json,
    /// Query parameters: both spellings, since clients use both.
    Query,
}

/// Paths of a field mask from its text; `None` if it has a character that no path has. What stands between backticks is the key of
/// a map (AIP-161) and is taken as it is.
pub(crate) fn mask_paths(text: &str, style: MaskText) -> Option<Vec<String>> {
    let mut paths = Vec::new();
    let mut path = String::with_capacity(text.len() + 4);
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '`' => {
                quoted = !quoted;
                path.push(c);
            }
            c if quoted => path.push(c),
            ',' => paths.push(std::mem::take(&mut path)),
            c if style == MaskText::Query && c.is_whitespace() => {
                // Only around a path; inside one it is no character of a path.
                path.push(' ');
            }
            '_' if style == MaskText::Json => return None,
            'A'..='Z' => {
                path.push('_');
                path.push(c.to_ascii_lowercase());
            }
            c if is_of_path(c) => path.push(c),
            _ => return None,
        }
    }
    if quoted {
        return None;
    }
    if !text.is_empty() {
        paths.push(path);
    }
    for path in &mut paths {
        if style == MaskText::Query {
            *path = path.trim_matches(' ').to_owned();
        }
        if path.is_empty() || has_space(path) {
            return None;
        }
    }
    Some(paths)
}

/// Whether a path has a space outside backticks.
fn has_space(path: &str) -> bool {
    path.split('`').step_by(2).any(|part| part.contains(' '))
}

/// Appends the content of a message of a well-known type from its text form.
pub(crate) fn from_text(
    message: &Message,
    schema: &crate::schema::Schema,
    value: &str,
    style: MaskText,
    out: &mut Vec<u8>,
) -> Result<(), scalar::Reason> {
    match message.well_known {
        WellKnown::Timestamp => {
            let parts = time::parse_timestamp(value)
                .ok_or("not a timestamp: must be RFC 3339, such as 2026-01-31T12:00:00Z")?;
            put_seconds_and_nanos(parts, out);
        }
        WellKnown::Duration => {
            let parts =
                time::parse_duration(value).ok_or("not a duration: must be seconds with suffix s, such as 1.5s")?;
            put_seconds_and_nanos(parts, out);
        }
        WellKnown::FieldMask => {
            for path in mask_paths(value, style).ok_or("not a field mask: must be paths separated by commas")? {
                wire::put_bytes(out, 1, path.as_bytes());
            }
        }
        WellKnown::Wrapper => {
            let kind = message.fields.first().map_or(Kind::String, |field| field.kind);
            let parsed = scalar::from_text(schema, kind, value.into())?;
            if !parsed.is_default() {
                parsed.put_field(1, kind, out);
            }
        }
        _ => return Err(format!("{} cannot be given as text", message.full_name).into()),
    }
    Ok(())
}

fn put_seconds_and_nanos((seconds, nanos): (i64, i32), out: &mut Vec<u8>) {
    if seconds != 0 {
        wire::put_tag(out, 1, 0);
        wire::put_varint(out, seconds as u64);
    }
    if nanos != 0 {
        wire::put_tag(out, 2, 0);
        wire::put_varint(out, i64::from(nanos) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_written_only_if_it_reads_back() {
        for path in ["foo_bar.baz", "_a", "*", "labels.`k`", "labels.`my_Team,x y`.a_b"] {
            let text = lower_camel(path).unwrap();
            assert_eq!(mask_paths(&text, MaskText::Json), Some(vec![path.to_owned()]), "{path}");
        }
        for path in ["", "fooBar", "a_", "a__b", "a_1", "a,b", "a b", "\u{13}.b", "é"] {
            assert_eq!(lower_camel(path), None, "{path:?}");
        }
    }

    #[test]
    fn the_key_of_a_map_between_backticks_is_taken_as_it_is() {
        let key = "nodeLabels.`app.kubernetes.io/myName_x`";
        let read = Some(vec!["node_labels.`app.kubernetes.io/myName_x`".to_owned()]);
        assert_eq!(mask_paths(key, MaskText::Json), read);
        assert_eq!(mask_paths(key, MaskText::Query), read);
        let two = Some(vec!["a.`b, c`".to_owned(), "d".to_owned()]);
        assert_eq!(mask_paths("a.`b, c`, d", MaskText::Query), two);
        for wrong in ["a.`b", "a b", "a,,b", "a,"] {
            assert_eq!(mask_paths(wrong, MaskText::Query), None, "{wrong}");
        }
    }
}
