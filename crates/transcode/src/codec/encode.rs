//! Wire → JSON.
//!
//! A message is scanned once; what was found is kept as a run of entries on a stack that all levels share. Fields
//! mostly arrive in order and whole, and are then written straight away; else the run is sorted (stable, so that the
//! last value of a scalar wins), displaced members of a oneof are dropped, and the pieces of a split message are
//! joined, which on the wire is the same as merging them.

mod map;

use smallvec::SmallVec;

use super::options::{EncodeError, EncodeOptions, EnumStyle, MAX_DEPTH, Unset};
use super::scalar;
use crate::schema::{Field, Kind, Message, MessageId, Schema, Shape, WellKnown};
use crate::wire::{self, Raw, Reader};

#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) field: u16,
    pub(super) raw: Raw<'a>,
}

/// Where one oneof's present member began to hold.
struct Holder {
    oneof: u16,
    field: u16,
    since: usize,
}

pub(crate) struct Encoder<'s, 'o, 'w> {
    pub(super) schema: &'s Schema,
    pub(super) options: EncodeOptions,
    pub(super) out: &'o mut Vec<u8>,
    pub(super) entries: Vec<Entry<'w>>,
}

impl<'s, 'w> Encoder<'s, '_, 'w> {
    pub(crate) fn new<'o>(schema: &'s Schema, options: EncodeOptions, out: &'o mut Vec<u8>) -> Encoder<'s, 'o, 'w> {
        Encoder {
            schema,
            options,
            out,
            entries: Vec::new(),
        }
    }

    /// Writes a message in whatever JSON its type has.
    pub(crate) fn message(&mut self, id: MessageId, bytes: &'w [u8], depth: usize) -> Result<(), EncodeError> {
        if depth > MAX_DEPTH {
            return Err(EncodeError::Depth);
        }
        let message = self.schema.message(id);
        if message.well_known != WellKnown::No {
            return self.special(message, bytes, depth);
        }
        self.out.push(b'{');
        self.members(message, bytes, depth, true)?;
        self.out.push(b'}');
        Ok(())
    }

    /// Writes one field's value, or what stands for its absence.
    pub(crate) fn only(&mut self, id: MessageId, field: usize, bytes: &'w [u8]) -> Result<(), EncodeError> {
        let message = self.schema.message(id);
        let base = self.scan(message, bytes)?;
        let (start, end) = self.run(base, field);
        let Some(field) = message.fields.get(field) else {
            return Ok(());
        };
        if start < end {
            self.field(field, start, end, 0)
        } else {
            let absent: &[u8] = if field.default_json.is_empty() {
                b"null"
            } else {
                &field.default_json
            };
            self.out.extend_from_slice(absent);
            Ok(())
        }
    }

    /// Writes the members of an ordinary message, without braces.
    pub(super) fn members(
        &mut self,
        message: &'s Message,
        bytes: &'w [u8],
        depth: usize,
        mut first: bool,
    ) -> Result<(), EncodeError> {
        let base = self.scan(message, bytes)?;
        let end = self.entries.len();
        let (mut at, mut next) = (base, 0usize);
        while at < end {
            let Some(index) = self.entries.get(at).map(|entry| entry.field) else {
                break;
            };
            let mut until = at + 1;
            while until < end && self.entries.get(until).is_some_and(|entry| entry.field == index) {
                until += 1;
            }
            let index = usize::from(index);
            self.defaults(message.fields.get(next..index).unwrap_or_default(), &mut first);
            if let Some(field) = message.fields.get(index)
                && !self.is_omitted(field, until)
            {
                let (length, was_first) = (self.out.len(), first);
                self.key(field, &mut first);
                let value = self.out.len();
                self.field(field, at, until, depth)?;
                // An empty packed block, or one of what a closed enum does not have: nothing is set.
                let is_empty = matches!(self.out.get(value..), Some(b"[]" | b"{}")) && !field.is_singular();
                if is_empty && self.options.unset == Unset::Omit {
                    self.out.truncate(length);
                    first = was_first;
                }
            }
            (at, next) = (until, index + 1);
        }
        self.defaults(message.fields.get(next..).unwrap_or_default(), &mut first);
        self.entries.truncate(base);
        Ok(())
    }

    /// A default that was put on the wire although its field has no presence.
    fn is_omitted(&self, field: &Field, until: usize) -> bool {
        self.options.unset == Unset::Omit
            && field.shape == Shape::Implicit
            && self
                .entries
                .get(until.wrapping_sub(1))
                .is_some_and(|entry| is_default(field.kind, &entry.raw))
    }

    fn key(&mut self, field: &Field, first: &mut bool) {
        if !std::mem::take(first) {
            self.out.push(b',');
        }
        self.out.extend_from_slice(&field.key);
    }

    fn defaults(&mut self, fields: &[Field], first: &mut bool) {
        if self.options.unset == Unset::Omit {
            return;
        }
        for field in fields.iter().filter(|field| !field.default_json.is_empty()) {
            self.key(field, first);
            if self.options.enums == EnumStyle::Numbers && matches!(field.kind, Kind::Enum(_)) && field.is_singular() {
                self.out.push(b'0');
            } else {
                self.out.extend_from_slice(&field.default_json);
            }
        }
    }

    /// Puts the known fields of a message on the stack, sorted by field, and tells where they begin.
    pub(super) fn scan(&mut self, message: &Message, bytes: &'w [u8]) -> Result<usize, EncodeError> {
        let base = self.entries.len();
        let (mut sorted, mut displaced, mut last) = (true, false, 0);
        let mut holders: SmallVec<[Holder; 4]> = SmallVec::new();
        let mut reader = Reader::new(bytes);
        while let Some((number, raw)) = reader.next_field()? {
            let Some(index) = message.index_of(number) else {
                continue;
            };
            let Some(field) = message.fields.get(index) else {
                continue;
            };
            if !fits(field, &raw) || self.is_foreign(field.kind, &raw) {
                continue;
            }
            let slot = u16::try_from(index).unwrap_or(u16::MAX);
            if let Some(oneof) = field.oneof {
                let since = self.entries.len();
                match holders.iter_mut().find(|holder| holder.oneof == oneof) {
                    Some(holder) if holder.field != slot => {
                        *holder = Holder {
                            oneof,
                            field: slot,
                            since,
                        };
                        displaced = true;
                    }
                    Some(_) => {}
                    None => holders.push(Holder {
                        oneof,
                        field: slot,
                        since,
                    }),
                }
            }
            sorted &= slot >= last;
            last = slot;
            self.entries.push(Entry { field: slot, raw });
        }
        if displaced {
            self.drop_displaced(message, base, &holders);
        }
        if !sorted && let Some(run) = self.entries.get_mut(base..) {
            run.sort_by_key(|entry| entry.field);
        }
        Ok(base)
    }

    /// Whether it is a number that a closed enum does not have: protobuf counts it among the unknown fields, which JSON does not have.
    fn is_foreign(&self, kind: Kind, raw: &Raw<'_>) -> bool {
        let (Kind::Enum(id), Raw::Varint(value)) = (kind, raw) else {
            return false;
        };
        let found = self.schema.enumeration(id);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_possible_wrap,
            reason = "enums keep the low 32 bits"
        )]
        let number = *value as i32;
        found.closed && found.name(number).is_none()
    }

    fn drop_displaced(&mut self, message: &Message, base: usize, holders: &[Holder]) {
        let mut position = 0;
        self.entries.retain(|entry| {
            let index = position;
            position += 1;
            let oneof = message
                .fields
                .get(usize::from(entry.field))
                .and_then(|field| field.oneof);
            index < base
                || !holders
                    .iter()
                    .any(|holder| Some(holder.oneof) == oneof && index < holder.since)
        });
    }

    /// The entries of one field above `base`.
    pub(super) fn run(&self, base: usize, field: usize) -> (usize, usize) {
        let entries = self.entries.get(base..).unwrap_or_default();
        let start = entries.partition_point(|entry| usize::from(entry.field) < field);
        let end = entries.partition_point(|entry| usize::from(entry.field) <= field);
        (base + start, base + end)
    }

    /// Writes one field's value from its entries.
    pub(super) fn field(
        &mut self,
        field: &'s Field,
        start: usize,
        end: usize,
        depth: usize,
    ) -> Result<(), EncodeError> {
        match field.shape {
            Shape::Map { key, value } => self.map(key, value, start, end, depth),
            Shape::Repeated { .. } => self.list(field.kind, start, end, depth),
            Shape::Implicit | Shape::Explicit => {
                let Some(Entry { raw, .. }) = self.entries.get(end.wrapping_sub(1)).copied() else {
                    return Ok(());
                };
                match field.kind.message() {
                    Some(id) if end - start > 1 => self.merged(id, start, end, depth),
                    _ => self.value(field.kind, raw, depth),
                }
            }
        }
    }

    /// Writes a message that came in pieces: joined, they are the merged message.
    fn merged(&mut self, id: MessageId, start: usize, end: usize, depth: usize) -> Result<(), EncodeError> {
        let mut joined = Vec::new();
        for entry in self.entries.get(start..end).unwrap_or_default() {
            if let Raw::Bytes(bytes) = entry.raw {
                joined.extend_from_slice(bytes);
            }
        }
        Encoder::new(self.schema, self.options, self.out).message(id, &joined, depth + 1)
    }

    /// Writes one value.
    pub(super) fn value(&mut self, kind: Kind, raw: Raw<'w>, depth: usize) -> Result<(), EncodeError> {
        match (kind, raw) {
            (Kind::Message(id) | Kind::Group(id), Raw::Bytes(bytes)) => self.message(id, bytes, depth + 1),
            _ => scalar::write(self.schema, self.options, kind, raw, self.out),
        }
    }

    pub(super) fn list(&mut self, kind: Kind, start: usize, end: usize, depth: usize) -> Result<(), EncodeError> {
        self.out.push(b'[');
        let mut first = true;
        for at in start..end {
            let Some(Entry { raw, .. }) = self.entries.get(at).copied() else {
                break;
            };
            match raw {
                Raw::Bytes(block) if kind.packable() => self.packed(kind, block, &mut first)?,
                raw => {
                    if !std::mem::take(&mut first) {
                        self.out.push(b',');
                    }
                    self.value(kind, raw, depth)?;
                }
            }
        }
        self.out.push(b']');
        Ok(())
    }

    fn packed(&mut self, kind: Kind, block: &[u8], first: &mut bool) -> Result<(), EncodeError> {
        let mut reader = Reader::new(block);
        while !reader.is_empty() {
            let raw = match kind.wire_type() {
                1 => Raw::Fixed64(reader.fixed64()?),
                5 => Raw::Fixed32(reader.fixed32()?),
                _ => Raw::Varint(reader.varint()?),
            };
            if self.is_foreign(kind, &raw) {
                continue;
            }
            if !std::mem::take(first) {
                self.out.push(b',');
            }
            scalar::write(self.schema, self.options, kind, raw, self.out)?;
        }
        Ok(())
    }
}

/// Whether a value on the wire can belong to a field; what cannot is treated as unknown, as protobuf's parsers do.
fn fits(field: &Field, raw: &Raw<'_>) -> bool {
    match field.shape {
        Shape::Map { .. } => matches!(raw, Raw::Bytes(_)),
        Shape::Repeated { .. } if field.kind.packable() && matches!(raw, Raw::Bytes(_)) => true,
        _ => wire::fits(raw, field.kind),
    }
}

/// Whether a value is written as its kind's default: kinds of 32 bits keep the low ones of a longer number.
fn is_default(kind: Kind, raw: &Raw<'_>) -> bool {
    match (kind, raw) {
        (Kind::Int32 | Kind::Uint32 | Kind::Sint32 | Kind::Enum(_), Raw::Varint(value)) => value.trailing_zeros() >= 32,
        _ => wire::is_default(raw),
    }
}
