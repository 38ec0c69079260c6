//! JSON → wire.

use std::borrow::Cow;

use ahash::AHashSet;
use smallvec::SmallVec;

use super::lex::Lexer;
use super::options::{DecodeOptions, MAX_REQUEST_DEPTH, Unknown};
use super::scalar;
use super::special::{self, MaskText};
use crate::error::InvalidRequest;
use crate::schema::{Field, Kind, Message, MessageId, Schema, Shape, WellKnown};
use crate::wire;

/// Adds to an error where in the message it arose.
pub(crate) trait Within {
    /// The same result with its error below `field`.
    fn within(self, field: &str) -> Self;
}

impl<T> Within for Result<T, InvalidRequest> {
    fn within(self, field: &str) -> Self {
        self.map_err(|error| error.within(field))
    }
}

/// Indexes that were seen.
#[derive(Default)]
struct Seen(SmallVec<[u64; 2]>);

impl Seen {
    /// Marks an index and tells whether it was unmarked.
    fn insert(&mut self, index: usize) -> bool {
        let (word, bit) = (index / 64, 1u64 << (index % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let Some(word) = self.0.get_mut(word) else { return false };
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }
}

/// Whether a value equal to its type's default is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Defaults {
    Write,
    Skip,
}

pub(crate) struct Decoder<'s, 'j> {
    pub(super) schema: &'s Schema,
    pub(super) options: DecodeOptions,
    pub(super) lex: Lexer<'j>,
}

impl<'s, 'j> Decoder<'s, 'j> {
    pub(crate) fn new(schema: &'s Schema, options: DecodeOptions, text: &'j str) -> Self {
        Self {
            schema,
            options,
            lex: Lexer::new(text),
        }
    }

    /// Nothing may follow the value.
    pub(crate) fn finish(mut self) -> Result<(), InvalidRequest> {
        self.lex.finish()
    }

    /// Appends the content of a message.
    pub(crate) fn message(&mut self, id: MessageId, depth: usize, out: &mut Vec<u8>) -> Result<(), InvalidRequest> {
        check_depth(depth)?;
        let message = self.schema.message(id);
        match message.well_known {
            WellKnown::No => self.members(message, depth, false, out),
            WellKnown::Any => self.any(depth, out),
            WellKnown::Struct => self.json_object(depth, out),
            WellKnown::ListValue => self.json_list(depth, out),
            WellKnown::Value => self.json_value(depth, out),
            WellKnown::Wrapper => match message.fields.first() {
                Some(field) => self.one(field.kind, 1, Defaults::Skip, depth, out).map(drop),
                None => Ok(()),
            },
            WellKnown::Timestamp | WellKnown::Duration | WellKnown::FieldMask => {
                let text = self.lex.string()?;
                special::from_text(message, self.schema, &text, MaskText::Json, out)
                    .map_err(|reason| InvalidRequest::new("", reason))
            }
        }
    }

    /// The members of an ordinary message, with braces. `typed`: inside an `Any`, where `@type` is no field.
    pub(super) fn members(
        &mut self,
        message: &'s Message,
        depth: usize,
        typed: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), InvalidRequest> {
        check_depth(depth)?;
        self.lex.expect(b'{', "an object")?;
        let (mut first, mut typed) = (true, typed);
        let (mut fields, mut oneofs) = (Seen::default(), Seen::default());
        while self.lex.more(&mut first, b'}')? {
            let key = self.lex.key()?;
            if typed && key == "@type" {
                typed = false;
                self.lex.skip(0)?;
                continue;
            }
            let found = message
                .index_by_name(&key)
                .and_then(|index| Some((index, message.fields.get(index)?)));
            let Some((index, field)) = found else {
                self.unknown(&key)?;
                continue;
            };
            if !fields.insert(index) {
                return Err(InvalidRequest::new(key, "given twice"));
            }
            if self.is_null(field) {
                continue;
            }
            if let Some(oneof) = field.oneof
                && !oneofs.insert(usize::from(oneof))
            {
                return Err(InvalidRequest::new(key, "another field of the same oneof is set"));
            }
            self.field(field, depth, out).within(&field.json_name)?;
        }
        Ok(())
    }

    /// A member that no field has.
    pub(super) fn unknown(&mut self, key: &str) -> Result<(), InvalidRequest> {
        match self.options.unknown {
            Unknown::Refuse => {
                let shown: String = key.chars().take(100).collect();
                Err(InvalidRequest::new(shown, "no such field"))
            }
            Unknown::Ignore => self.lex.skip(0),
        }
    }

    /// Takes `null` where it stands for "unset".
    fn is_null(&mut self, field: &Field) -> bool {
        self.lex.peek() == Some(b'n') && (!field.is_singular() || !self.takes_null(field.kind)) && self.lex.word("null")
    }

    /// Types for which `null` is a value.
    fn takes_null(&self, kind: Kind) -> bool {
        match kind {
            Kind::Message(id) => self.schema.message(id).well_known == WellKnown::Value,
            Kind::Enum(id) => self.schema.enumeration(id).is_null,
            _ => false,
        }
    }

    /// A field that is the whole text.
    pub(crate) fn whole_field(&mut self, field: &'s Field, out: &mut Vec<u8>) -> Result<(), InvalidRequest> {
        if self.is_null(field) {
            Ok(())
        } else {
            self.field(field, 0, out)
        }
    }

    fn field(&mut self, field: &'s Field, depth: usize, out: &mut Vec<u8>) -> Result<(), InvalidRequest> {
        match field.shape {
            Shape::Implicit => self.one(field.kind, field.number, Defaults::Skip, depth, out).map(drop),
            Shape::Explicit => self
                .one(field.kind, field.number, Defaults::Write, depth, out)
                .map(drop),
            Shape::Repeated { packed } => self.list(field, packed, depth, out),
            Shape::Map { key, value } => self.map(field, key, value, depth, out),
        }
    }

    /// One value with its tag; tells whether it was written (an ignored enum name is not).
    fn one(
        &mut self,
        kind: Kind,
        number: u32,
        defaults: Defaults,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, InvalidRequest> {
        match kind {
            Kind::Message(id) => {
                let start = wire::open(out, number);
                self.message(id, depth + 1, out)?;
                wire::close(out, start);
            }
            Kind::Group(id) => {
                wire::put_tag(out, number, 3);
                self.message(id, depth + 1, out)?;
                wire::put_tag(out, number, 4);
            }
            // By far the most frequent kind, and the largest to pass on as a value.
            Kind::String => {
                let text = self.lex.string()?;
                if defaults == Defaults::Write || !text.is_empty() {
                    wire::put_bytes(out, number, text.as_bytes());
                }
            }
            _ => {
                let Some(value) = self.scalar(kind)? else {
                    return Ok(false);
                };
                if defaults == Defaults::Write || !value.is_default() {
                    value.put_field(number, kind, out);
                }
            }
        }
        Ok(true)
    }

    /// A scalar; `None` for an unknown enum name that is to be ignored.
    fn scalar(&mut self, kind: Kind) -> Result<Option<scalar::Scalar<'j>>, InvalidRequest> {
        let next = self.lex.peek();
        let refuse = |reason: scalar::Reason| InvalidRequest::new("", reason);
        match (kind, next) {
            (Kind::String, _) => self.lex.string().map(scalar::Scalar::Text).map(Some),
            (Kind::Bytes, Some(b'"')) => {
                let text = self.lex.string()?;
                scalar::bytes(&text)
                    .map(|bytes| Some(scalar::Scalar::Bytes(bytes)))
                    .map_err(refuse)
            }
            (Kind::Bytes, _) => Err(self.lex.unexpected("a string of base64")),
            (Kind::Bool, _) => match (self.lex.word("true"), self.lex.word("false")) {
                (true, _) => Ok(Some(scalar::Scalar::Varint(1))),
                (_, true) => Ok(Some(scalar::Scalar::Varint(0))),
                _ => Err(self.lex.unexpected("true or false")),
            },
            (Kind::Enum(id), Some(b'"')) => {
                let name = self.lex.string()?;
                match (scalar::enum_by_name(self.schema, id, &name), self.options.unknown) {
                    (Some(value), _) => scalar::enum_by_number(self.schema, id, value).map(Some).map_err(refuse),
                    (None, Unknown::Ignore) => Ok(None),
                    (None, Unknown::Refuse) => Err(refuse(scalar::unknown_enum(self.schema, id, &name))),
                }
            }
            (Kind::Enum(id), Some(b'n')) if self.schema.enumeration(id).is_null && self.lex.word("null") => {
                Ok(Some(scalar::Scalar::Varint(0)))
            }
            (Kind::Enum(id), _) => {
                let text = self.lex.number()?;
                let value = super::number::parse_i32(text).map_err(|reason| refuse(reason.into()))?;
                scalar::enum_by_number(self.schema, id, value).map(Some).map_err(refuse)
            }
            (_, Some(b'"')) => {
                let text = self.lex.string()?;
                scalar::from_text(self.schema, kind, text).map(Some).map_err(refuse)
            }
            _ => scalar::from_number(kind, self.lex.number()?).map(Some).map_err(refuse),
        }
    }

    fn list(&mut self, field: &'s Field, packed: bool, depth: usize, out: &mut Vec<u8>) -> Result<(), InvalidRequest> {
        self.lex.expect(b'[', "a list")?;
        let (mut first, mut index) = (true, 0usize);
        let mut block: Option<usize> = None;
        while self.lex.more(&mut first, b']')? {
            let wrap = |error: InvalidRequest| error.within(&format!("[{index}]"));
            if self.lex.peek() == Some(b'n') && !self.takes_null(field.kind) {
                return Err(wrap(self.lex.unexpected("a value that is not null")));
            }
            if packed && field.kind.packable() {
                if block.is_none() {
                    block = Some(wire::open(out, field.number));
                }
                if let Some(value) = self.scalar(field.kind).map_err(wrap)? {
                    value.put(out);
                }
            } else {
                self.one(field.kind, field.number, Defaults::Write, depth, out)
                    .map_err(wrap)?;
            }
            index += 1;
        }
        if let Some(start) = block {
            wire::close(out, start);
        }
        Ok(())
    }

    fn map(
        &mut self,
        field: &'s Field,
        key: Kind,
        value: Kind,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), InvalidRequest> {
        self.lex.expect(b'{', "an object")?;
        let mut first = true;
        let mut keys = Keys::default();
        while self.lex.more(&mut first, b'}')? {
            let text = self.lex.key()?;
            let wrap = |error: InvalidRequest| error.within(&format!("[{text:?}]"));
            if !keys.insert(text.clone()) {
                return Err(wrap(InvalidRequest::new("", "given twice")));
            }
            if self.lex.peek() == Some(b'n') && !self.takes_null(value) {
                return Err(wrap(self.lex.unexpected("a value that is not null")));
            }
            let before = out.len();
            let start = wire::open(out, field.number);
            if key == Kind::String {
                wire::put_bytes(out, 1, text.as_bytes());
            } else {
                let parsed = scalar::from_text(self.schema, key, Cow::Borrowed(&text));
                parsed
                    .map_err(|reason| wrap(InvalidRequest::new("", reason)))?
                    .put_field(1, key, out);
            }
            // The entry is a message, too.
            check_depth(depth + 1).map_err(wrap)?;
            if self.one(value, 2, Defaults::Write, depth + 1, out).map_err(wrap)? {
                wire::close(out, start);
            } else {
                out.truncate(before);
            }
        }
        Ok(())
    }

    /// The content of a `google.protobuf.Struct`.
    fn json_object(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), InvalidRequest> {
        check_depth(depth)?;
        self.lex.expect(b'{', "an object")?;
        let mut first = true;
        let mut keys = Keys::default();
        while self.lex.more(&mut first, b'}')? {
            let key = self.lex.key()?;
            if !keys.insert(key.clone()) {
                return Err(InvalidRequest::new(key, "given twice"));
            }
            let entry = wire::open(out, 1);
            wire::put_bytes(out, 1, key.as_bytes());
            let value = wire::open(out, 2);
            // Below the entry of the map.
            self.json_value(depth + 2, out).within(&key)?;
            wire::close(out, value);
            wire::close(out, entry);
        }
        Ok(())
    }

    /// The content of a `google.protobuf.ListValue`.
    fn json_list(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), InvalidRequest> {
        check_depth(depth)?;
        self.lex.expect(b'[', "a list")?;
        let (mut first, mut index) = (true, 0usize);
        while self.lex.more(&mut first, b']')? {
            let value = wire::open(out, 1);
            self.json_value(depth + 1, out)
                .map_err(|error| error.within(&format!("[{index}]")))?;
            wire::close(out, value);
            index += 1;
        }
        Ok(())
    }

    /// The content of a `google.protobuf.Value`.
    fn json_value(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), InvalidRequest> {
        check_depth(depth)?;
        match self.lex.peek() {
            Some(b'"') => wire::put_bytes(out, 3, self.lex.string()?.as_bytes()),
            Some(b'{') => {
                let start = wire::open(out, 5);
                self.json_object(depth + 1, out)?;
                wire::close(out, start);
            }
            Some(b'[') => {
                let start = wire::open(out, 6);
                self.json_list(depth + 1, out)?;
                wire::close(out, start);
            }
            Some(b'n') if self.lex.word("null") => out.extend_from_slice(&[1 << 3, 0]),
            Some(b't') if self.lex.word("true") => out.extend_from_slice(&[4 << 3, 1]),
            Some(b'f') if self.lex.word("false") => out.extend_from_slice(&[4 << 3, 0]),
            Some(b'-' | b'0'..=b'9') => {
                let parsed = scalar::from_number(Kind::Double, self.lex.number()?);
                parsed
                    .map_err(|reason| InvalidRequest::new("", reason))?
                    .put_field(2, Kind::Double, out);
            }
            _ => return Err(self.lex.unexpected("a value")),
        }
        Ok(())
    }
}

/// # Errors
/// A message at `depth` below the request nests too deep.
fn check_depth(depth: usize) -> Result<(), InvalidRequest> {
    if depth > MAX_REQUEST_DEPTH {
        return Err(InvalidRequest::new(
            "",
            format!("nested too deep: at most {MAX_REQUEST_DEPTH} levels of messages"),
        ));
    }
    Ok(())
}

/// The keys of an object; few are compared one by one, many are hashed.
#[derive(Default)]
struct Keys<'j> {
    few: SmallVec<[Cow<'j, str>; 8]>,
    many: AHashSet<Cow<'j, str>>,
}

impl<'j> Keys<'j> {
    /// Takes a key and tells whether it is new.
    fn insert(&mut self, key: Cow<'j, str>) -> bool {
        if self.many.is_empty() && self.few.len() < 8 {
            let fresh = !self.few.contains(&key);
            self.few.push(key);
            return fresh;
        }
        if self.many.is_empty() {
            self.many.reserve(32);
            self.many.extend(self.few.drain(..));
        }
        self.many.insert(key)
    }
}
