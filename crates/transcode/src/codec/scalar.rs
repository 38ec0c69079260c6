//! Scalars: from text (map keys, query parameters, path variables, quoted JSON) to the wire and back to JSON.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the wire format carries narrower numbers in the low bits of wider ones"
)]

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::options::{EncodeError, EncodeOptions, EnumStyle};
use super::{number, text};
use crate::schema::{EnumId, Kind, Schema};
use crate::wire::{self, Raw};

/// ProtoJSON takes both alphabets, with and without padding.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A scalar ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scalar<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Text(Cow<'a, str>),
    Bytes(Vec<u8>),
}

/// Why a text is not a value of its type.
pub(crate) type Reason = Cow<'static, str>;

impl Scalar<'_> {
    pub(crate) fn is_default(&self) -> bool {
        match self {
            Self::Varint(value) | Self::Fixed64(value) => *value == 0,
            Self::Fixed32(value) => *value == 0,
            Self::Text(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
        }
    }

    /// Appends the value without a tag.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Varint(value) => wire::put_varint(out, *value),
            Self::Fixed64(value) => out.extend_from_slice(&value.to_le_bytes()),
            Self::Fixed32(value) => out.extend_from_slice(&value.to_le_bytes()),
            Self::Text(text) => {
                wire::put_varint(out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
            Self::Bytes(bytes) => {
                wire::put_varint(out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
        }
    }

    /// Appends the value with its tag.
    pub(crate) fn put_field(&self, number: u32, kind: Kind, out: &mut Vec<u8>) {
        wire::put_tag(out, number, kind.wire_type());
        self.put(out);
    }

    /// Whether this is the value that stands at `raw`.
    pub(crate) fn equals(&self, raw: &Raw<'_>) -> bool {
        match (self, raw) {
            (Self::Varint(a), Raw::Varint(b)) | (Self::Fixed64(a), Raw::Fixed64(b)) => a == b,
            (Self::Fixed32(a), Raw::Fixed32(b)) => a == b,
            (Self::Text(a), Raw::Bytes(b)) => a.as_bytes() == *b,
            (Self::Bytes(a), Raw::Bytes(b)) => a == b,
            _ => false,
        }
    }
}

fn narrow(value: i32) -> Scalar<'static> {
    Scalar::Varint(i64::from(value) as u64)
}

/// A number of `kind`, in JSON's notation.
pub(crate) fn from_number(kind: Kind, text: &str) -> Result<Scalar<'static>, Reason> {
    Ok(match kind {
        Kind::Double => Scalar::Fixed64(number::parse_f64(text)?.to_bits()),
        Kind::Float => Scalar::Fixed32(number::parse_f32(text)?.to_bits()),
        Kind::Int32 => narrow(number::parse_i32(text)?),
        Kind::Int64 => Scalar::Varint(number::parse_i64(text)? as u64),
        Kind::Uint32 => Scalar::Varint(u64::from(number::parse_u32(text)?)),
        Kind::Uint64 => Scalar::Varint(number::parse_u64(text)?),
        Kind::Sint32 => Scalar::Varint(wire::zigzag(i64::from(number::parse_i32(text)?)) & 0xffff_ffff),
        Kind::Sint64 => Scalar::Varint(wire::zigzag(number::parse_i64(text)?)),
        Kind::Fixed32 => Scalar::Fixed32(number::parse_u32(text)?),
        Kind::Fixed64 => Scalar::Fixed64(number::parse_u64(text)?),
        Kind::Sfixed32 => Scalar::Fixed32(number::parse_i32(text)? as u32),
        Kind::Sfixed64 => Scalar::Fixed64(number::parse_i64(text)? as u64),
        _ => return Err("a number is not a value of this type".into()),
    })
}

/// A value of `kind` from text: numbers in digits, enums by name or number, bytes in base64.
pub(crate) fn from_text<'a>(schema: &Schema, kind: Kind, text: Cow<'a, str>) -> Result<Scalar<'a>, Reason> {
    match kind {
        Kind::String => Ok(Scalar::Text(text)),
        Kind::Bytes => bytes(&text).map(Scalar::Bytes),
        Kind::Bool => match text.as_ref() {
            "true" => Ok(Scalar::Varint(1)),
            "false" => Ok(Scalar::Varint(0)),
            _ => Err("not a bool: must be true or false".into()),
        },
        Kind::Double => match text.as_ref() {
            "NaN" => Ok(Scalar::Fixed64(f64::NAN.to_bits())),
            "Infinity" => Ok(Scalar::Fixed64(f64::INFINITY.to_bits())),
            "-Infinity" => Ok(Scalar::Fixed64(f64::NEG_INFINITY.to_bits())),
            digits => from_number(kind, digits),
        },
        Kind::Float => match text.as_ref() {
            "NaN" => Ok(Scalar::Fixed32(f32::NAN.to_bits())),
            "Infinity" => Ok(Scalar::Fixed32(f32::INFINITY.to_bits())),
            "-Infinity" => Ok(Scalar::Fixed32(f32::NEG_INFINITY.to_bits())),
            digits => from_number(kind, digits),
        },
        Kind::Enum(id) => match enum_by_name(schema, id, &text) {
            Some(value) => Ok(narrow(value)),
            None => number::parse_i32(&text)
                .map_err(|_| unknown_enum(schema, id, &text))
                .and_then(|value| enum_by_number(schema, id, value)),
        },
        Kind::Message(_) | Kind::Group(_) => Err("a message cannot be given as text".into()),
        _ => from_number(kind, &text),
    }
}

/// Number of an enum value by its name.
pub(crate) fn enum_by_name(schema: &Schema, id: EnumId, name: &str) -> Option<i32> {
    schema.enumeration(id).number(name)
}

/// An enum value by its number, which must have a name if the enum is closed.
pub(crate) fn enum_by_number(schema: &Schema, id: EnumId, value: i32) -> Result<Scalar<'static>, Reason> {
    let enumeration = schema.enumeration(id);
    if enumeration.closed && enumeration.name(value).is_none() {
        return Err(format!("{value} is not a value of {}", enumeration.full_name).into());
    }
    Ok(narrow(value))
}

/// The complaint about an enum name that nobody declared.
pub(crate) fn unknown_enum(schema: &Schema, id: EnumId, name: &str) -> Reason {
    let shown: String = name.chars().take(100).collect();
    format!("{shown:?} is not a value of {}", schema.enumeration(id).full_name).into()
}

/// Base64 of either alphabet.
pub(crate) fn bytes(text: &str) -> Result<Vec<u8>, Reason> {
    let engine = if text.contains(['-', '_']) {
        &URL_SAFE
    } else {
        &STANDARD
    };
    engine.decode(text).map_err(|_| "not base64".into())
}

/// Appends the JSON of one scalar.
pub(crate) fn write(
    schema: &Schema,
    options: EncodeOptions,
    kind: Kind,
    raw: Raw<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    match (kind, raw) {
        (Kind::String, Raw::Bytes(bytes)) => {
            text::write_string(out, std::str::from_utf8(bytes).map_err(|_| EncodeError::Utf8)?);
        }
        (Kind::Bytes, Raw::Bytes(bytes)) => text::write_base64(out, bytes),
        (Kind::Int32, Raw::Varint(value)) => text::write_i64(out, i64::from(value as i32)),
        (Kind::Uint32, Raw::Varint(value)) => text::write_u64(out, u64::from(value as u32)),
        (Kind::Sint32, Raw::Varint(value)) => {
            text::write_i64(out, i64::from(wire::unzigzag(u64::from(value as u32)) as i32));
        }
        (Kind::Int64, Raw::Varint(value)) => quoted(out, |out| text::write_i64(out, value as i64)),
        (Kind::Uint64, Raw::Varint(value)) => quoted(out, |out| text::write_u64(out, value)),
        (Kind::Sint64, Raw::Varint(value)) => quoted(out, |out| text::write_i64(out, wire::unzigzag(value))),
        (Kind::Bool, Raw::Varint(value)) => out.extend_from_slice(if value == 0 { b"false" } else { b"true" }),
        (Kind::Enum(id), Raw::Varint(value)) => write_enum(schema, options, id, value as i32, out),
        (Kind::Fixed64, Raw::Fixed64(value)) => quoted(out, |out| text::write_u64(out, value)),
        (Kind::Sfixed64, Raw::Fixed64(value)) => quoted(out, |out| text::write_i64(out, value as i64)),
        (Kind::Double, Raw::Fixed64(value)) => text::write_f64(out, f64::from_bits(value)),
        (Kind::Fixed32, Raw::Fixed32(value)) => text::write_u64(out, u64::from(value)),
        (Kind::Sfixed32, Raw::Fixed32(value)) => text::write_i64(out, i64::from(value as i32)),
        (Kind::Float, Raw::Fixed32(value)) => text::write_f32(out, f32::from_bits(value)),
        _ => return Err(EncodeError::Malformed),
    }
    Ok(())
}

fn write_enum(schema: &Schema, options: EncodeOptions, id: EnumId, value: i32, out: &mut Vec<u8>) {
    let enumeration = schema.enumeration(id);
    match enumeration.name(value) {
        _ if enumeration.is_null => out.extend_from_slice(b"null"),
        Some(name) if options.enums == EnumStyle::Names => {
            quoted(out, |out| out.extend_from_slice(name.as_bytes()));
        }
        _ => text::write_i64(out, i64::from(value)),
    }
}

/// Appends the JSON of a map key, which is always a string.
pub(crate) fn write_key(
    schema: &Schema,
    options: EncodeOptions,
    kind: Kind,
    raw: Raw<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = out.len();
    write(schema, options, kind, raw, out)?;
    if out.get(start) != Some(&b'"') {
        out.insert(start, b'"');
        out.push(b'"');
    }
    Ok(())
}

fn quoted(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    body(out);
    out.push(b'"');
}

/// The raw form of a kind's default, for map entries that leave key or value out.
pub(crate) fn default_raw(kind: Kind) -> Raw<'static> {
    match kind.wire_type() {
        0 => Raw::Varint(0),
        1 => Raw::Fixed64(0),
        5 => Raw::Fixed32(0),
        _ => Raw::Bytes(&[]),
    }
}
