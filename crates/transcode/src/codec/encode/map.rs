//! Maps as JSON objects.

use super::{EncodeError, Encoder};
use crate::codec::scalar;
use crate::schema::Kind;
use crate::wire::{self, Raw, Reader};

/// One entry on the wire.
struct MapEntry<'w> {
    key: Raw<'w>,
    value: Option<Raw<'w>>,
    /// A message that came in pieces: joined, they are the merged message.
    joined: Option<Vec<u8>>,
}

impl<'w> Encoder<'_, '_, 'w> {
    /// Writes a map, sorted by key so that equal messages have equal text; the last of equal keys wins.
    pub(in crate::codec) fn map(
        &mut self,
        key: Kind,
        value: Kind,
        start: usize,
        end: usize,
        depth: usize,
    ) -> Result<(), EncodeError> {
        let mut entries: Vec<MapEntry<'w>> = Vec::with_capacity(end - start);
        for entry in self.entries.get(start..end).unwrap_or_default() {
            if let Raw::Bytes(bytes) = entry.raw {
                let entry = map_entry(key, value, bytes)?;
                if !entry.value.is_some_and(|raw| self.is_foreign(value, &raw)) {
                    entries.push(entry);
                }
            }
        }
        if entries.len() > 1 {
            entries.sort_by(|a, b| compare(key, &a.key, &b.key));
        }
        self.out.push(b'{');
        let mut first = true;
        for (index, entry) in entries.iter().enumerate() {
            let next = entries.get(index + 1).map(|next| compare(key, &entry.key, &next.key));
            if next == Some(std::cmp::Ordering::Equal) {
                continue;
            }
            if !std::mem::take(&mut first) {
                self.out.push(b',');
            }
            scalar::write_key(self.schema, self.options, key, entry.key, self.out)?;
            self.out.push(b':');
            match (&entry.joined, value.message()) {
                (Some(joined), Some(id)) => {
                    Encoder::new(self.schema, self.options, self.out).message(id, joined, depth + 1)?;
                }
                _ => self.value(value, entry.value.unwrap_or(scalar::default_raw(value)), depth)?,
            }
        }
        self.out.push(b'}');
        Ok(())
    }
}

fn map_entry(key: Kind, value: Kind, bytes: &[u8]) -> Result<MapEntry<'_>, EncodeError> {
    let mut entry = MapEntry {
        key: scalar::default_raw(key),
        value: None,
        joined: None,
    };
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.next_field()? {
        match number {
            1 if wire::fits(&raw, key) => entry.key = raw,
            2 if wire::fits(&raw, value) => {
                if let (Some(Raw::Bytes(first)), Raw::Bytes(next), Some(_)) = (entry.value, raw, value.message()) {
                    let joined = entry.joined.get_or_insert_with(|| first.to_vec());
                    joined.extend_from_slice(next);
                }
                entry.value = Some(raw);
            }
            _ => {}
        }
    }
    Ok(entry)
}

/// Order of two keys as the values that are written: senders may spell one value in several ways.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "keys are ordered as the numbers they stand for, and narrow kinds keep the low bits"
)]
fn compare(kind: Kind, a: &Raw<'_>, b: &Raw<'_>) -> std::cmp::Ordering {
    match (a, b) {
        (Raw::Bytes(a), Raw::Bytes(b)) => a.cmp(b),
        (Raw::Varint(a), Raw::Varint(b)) | (Raw::Fixed64(a), Raw::Fixed64(b)) => match kind {
            Kind::Bool => (*a != 0).cmp(&(*b != 0)),
            Kind::Int32 => (*a as i32).cmp(&(*b as i32)),
            Kind::Uint32 => (*a as u32).cmp(&(*b as u32)),
            Kind::Sint32 => wire::unzigzag(u64::from(*a as u32)).cmp(&wire::unzigzag(u64::from(*b as u32))),
            Kind::Int64 | Kind::Sfixed64 => (*a as i64).cmp(&(*b as i64)),
            Kind::Sint64 => wire::unzigzag(*a).cmp(&wire::unzigzag(*b)),
            _ => a.cmp(b),
        },
        (Raw::Fixed32(a), Raw::Fixed32(b)) if kind == Kind::Sfixed32 => (*a as i32).cmp(&(*b as i32)),
        (Raw::Fixed32(a), Raw::Fixed32(b)) => a.cmp(b),
        _ => std::cmp::Ordering::Equal,
    }
}
