//! `google.protobuf.Any` in both directions.

use super::decode::{Decoder, Within};
use super::encode::Encoder;
use super::options::{EncodeError, MAX_DEPTH, UnknownAny};
use super::text;
use crate::error::InvalidRequest;
use crate::schema::{MessageId, WellKnown};
use crate::wire::{self, Raw};

fn type_name(url: &str) -> &str {
    url.rsplit_once('/').map_or(url, |(_, name)| name)
}

impl Encoder<'_, '_, '_> {
    pub(super) fn any(&mut self, base: usize, depth: usize) -> Result<(), EncodeError> {
        let (mut url, mut value): (&[u8], &[u8]) = (&[], &[]);
        for entry in self.entries.get(base..).unwrap_or_default() {
            match (entry.field, entry.raw) {
                (0, Raw::Bytes(bytes)) => url = bytes,
                (1, Raw::Bytes(bytes)) => value = bytes,
                _ => {}
            }
        }
        let url = std::str::from_utf8(url).map_err(|_| EncodeError::Utf8)?;
        if url.is_empty() && value.is_empty() {
            self.out.extend_from_slice(b"{}");
            return Ok(());
        }
        let start = self.out.len();
        self.out.extend_from_slice(b"{\"@type\":");
        text::write_string(self.out, url);
        let head = self.out.len();
        let written = match self.schema.find(type_name(url)) {
            Some(id) => self.any_content(id, value, depth),
            None => Err(EncodeError::UnknownAny(url.to_owned())),
        };
        match (written, self.options.unknown_any) {
            (Ok(()), _) => {}
            (Err(error), UnknownAny::Refuse) => {
                self.out.truncate(start);
                return Err(error);
            }
            (Err(EncodeError::Depth), UnknownAny::Opaque) => return Err(EncodeError::Depth),
            (Err(_), UnknownAny::Opaque) => {
                self.out.truncate(head);
                self.out.extend_from_slice(b",\"value\":");
                text::write_base64(self.out, value);
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    fn any_content(&mut self, id: MessageId, value: &[u8], depth: usize) -> Result<(), EncodeError> {
        let message = self.schema.message(id);
        let mut inner = Encoder::new(self.schema, self.options, self.out);
        if message.well_known == WellKnown::No {
            if depth >= MAX_DEPTH {
                return Err(EncodeError::Depth);
            }
            inner.members(message, value, depth + 1, false)
        } else {
            inner.out.extend_from_slice(b",\"value\":");
            inner.message(id, value, depth + 1)
        }
    }
}

impl Decoder<'_, '_> {
    /// The content of an `Any`; its type may stand anywhere in the object.
    pub(super) fn any(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), InvalidRequest> {
        if self.lex.peek() != Some(b'{') {
            return Err(self.lex.unexpected("an object"));
        }
        let Some(url) = self.type_url()? else {
            let mut ahead = self.lex.clone();
            if ahead.take(b'{') && ahead.take(b'}') {
                self.lex = ahead;
                return Ok(());
            }
            return Err(InvalidRequest::new("@type", "required in an Any"));
        };
        let known = if url.contains('/') {
            self.schema.find(type_name(&url))
        } else {
            None
        };
        let Some(id) = known else {
            return Err(InvalidRequest::new("@type", "not the URL of a known type"));
        };
        wire::put_bytes(out, 1, url.as_bytes());
        let start = wire::open(out, 2);
        let message = self.schema.message(id);
        if message.well_known == WellKnown::No && &*message.full_name != "google.protobuf.Empty" {
            self.members(message, depth + 1, true, out)?;
        } else {
            self.any_value(id, depth, out)?;
        }
        wire::close(out, start);
        Ok(())
    }

    /// `{"@type": …, "value": …}`, for types whose JSON is not an ordinary object.
    fn any_value(&mut self, id: MessageId, depth: usize, out: &mut Vec<u8>) -> Result<(), InvalidRequest> {
        self.lex.expect(b'{', "an object")?;
        let (mut first, mut seen_type, mut seen_value) = (true, false, false);
        while self.lex.more(&mut first, b'}')? {
            let key = self.lex.key()?;
            match key.as_ref() {
                "@type" if !seen_type => {
                    seen_type = true;
                    self.lex.skip(0)?;
                }
                "value" if !seen_value => {
                    seen_value = true;
                    self.message(id, depth + 1, out).within("value")?;
                }
                "@type" | "value" => return Err(InvalidRequest::new(key, "given twice")),
                _ => self.unknown(&key)?,
            }
        }
        if seen_value || self.schema.message(id).well_known == WellKnown::No {
            Ok(())
        } else {
            Err(InvalidRequest::new("value", "required in an Any of this type"))
        }
    }

    fn type_url(&self) -> Result<Option<String>, InvalidRequest> {
        let mut ahead = self.lex.clone();
        ahead.expect(b'{', "an object")?;
        let mut first = true;
        while ahead.more(&mut first, b'}')? {
            if ahead.key()? == "@type" {
                return Ok(Some(ahead.string().within("@type")?.into_owned()));
            }
            ahead.skip(0)?;
        }
        Ok(None)
    }
}
