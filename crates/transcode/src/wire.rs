//! Reading and writing protobuf's wire format, the few operations that the codec needs.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the wire format is defined by two's complement and by the low bits of wider numbers"
)]

use crate::schema::Kind;

/// Bytes that are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed protobuf message")]
pub struct Malformed;

/// One value as it stands on the wire.
#[derive(Debug, Clone, Copy)]
pub enum Raw<'a> {
    /// Varint.
    Varint(u64),
    /// Eight bytes, little endian.
    Fixed64(u64),
    /// Four bytes, little endian.
    Fixed32(u32),
    /// Length-delimited, or the inside of a group.
    Bytes(&'a [u8]),
}

/// A cursor over a message.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// How deep groups that nobody knows may nest before the message is refused; the same as the codec's limit.
const MAX_SKIP_DEPTH: usize = 100;

impl<'a> Reader<'a> {
    /// Reads `bytes` from the start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field's number and value, `None` at the end.
    pub fn next_field(&mut self) -> Result<Option<(u32, Raw<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.tag()?;
        self.value(number, wire_type, 0).map(|raw| Some((number, raw)))
    }

    fn tag(&mut self) -> Result<(u32, u8), Malformed> {
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        let number = tag >> 3;
        if number == 0 {
            return Err(Malformed);
        }
        Ok((number, (tag & 7) as u8))
    }

    fn value(&mut self, number: u32, wire_type: u8, depth: usize) -> Result<Raw<'a>, Malformed> {
        match wire_type {
            0 => Ok(Raw::Varint(self.varint()?)),
            1 => Ok(Raw::Fixed64(self.fixed64()?)),
            2 => Ok(Raw::Bytes(self.delimited()?)),
            3 => Ok(Raw::Bytes(self.group(number, depth)?)),
            5 => Ok(Raw::Fixed32(self.fixed32()?)),
            _ => Err(Malformed),
        }
    }

    fn group(&mut self, number: u32, depth: usize) -> Result<&'a [u8], Malformed> {
        if depth >= MAX_SKIP_DEPTH {
            return Err(Malformed);
        }
        let start = self.rest;
        loop {
            let before = self.rest.len();
            let (inner, wire_type) = self.tag()?;
            if wire_type == 4 {
                if inner != number {
                    return Err(Malformed);
                }
                return start.get(..start.len() - before).ok_or(Malformed);
            }
            self.value(inner, wire_type, depth + 1)?;
        }
    }

    /// A varint, at most ten bytes.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (index, &byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (index * 7);
            if byte < 0x80 {
                self.rest = self.rest.get(index + 1..).ok_or(Malformed)?;
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// Four bytes.
    pub fn fixed32(&mut self) -> Result<u32, Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<4>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*head))
    }

    /// Eight bytes.
    pub fn fixed64(&mut self) -> Result<u64, Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<8>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*head))
    }

    fn delimited(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(head)
    }
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a tag.
pub fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

/// Appends a length-delimited field.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Opens a length-delimited field whose length is not known yet; hand the result to [`close`].
#[must_use]
pub fn open(out: &mut Vec<u8>, number: u32) -> usize {
    put_tag(out, number, 2);
    out.push(0);
    out.len()
}

/// Fills in the length of what was written since [`open`].
pub fn close(out: &mut Vec<u8>, start: usize) {
    let length = out.len().saturating_sub(start);
    let Some(slot) = start.checked_sub(1) else { return };
    if length < 0x80 {
        if let Some(byte) = out.get_mut(slot) {
            *byte = length as u8;
        }
        return;
    }
    let mut prefix = Vec::with_capacity(5);
    put_varint(&mut prefix, length as u64);
    out.splice(slot..start, prefix);
}

/// A number as a varint of this kind would carry it.
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Inverse of [`zigzag`].
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The last value of the singular field at `path`, as written.
pub fn find<'a>(message: &'a [u8], path: &[u32]) -> Result<Option<Raw<'a>>, Malformed> {
    let Some((&number, rest)) = path.split_first() else {
        return Ok(None);
    };
    let mut reader = Reader::new(message);
    let mut found = None;
    while let Some((field, raw)) = reader.next_field()? {
        if field != number {
            continue;
        }
        if rest.is_empty() {
            found = Some(raw);
        } else if let Raw::Bytes(inner) = raw {
            found = find(inner, rest)?.or(found);
        }
    }
    Ok(found)
}

/// Whether a raw value is the default of its kind.
pub fn is_default(raw: &Raw<'_>) -> bool {
    match raw {
        Raw::Varint(value) | Raw::Fixed64(value) => *value == 0,
        Raw::Fixed32(value) => *value == 0,
        Raw::Bytes(bytes) => bytes.is_empty(),
    }
}

/// Whether a raw value has the wire type of `kind`.
pub fn fits(raw: &Raw<'_>, kind: Kind) -> bool {
    match raw {
        Raw::Varint(_) => kind.wire_type() == 0,
        Raw::Fixed64(_) => kind.wire_type() == 1,
        Raw::Bytes(_) => matches!(kind.wire_type(), 2 | 3),
        Raw::Fixed32(_) => kind.wire_type() == 5,
    }
}
