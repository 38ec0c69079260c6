//! JSON ⇄ protobuf wire format, driven by a [`Schema`], without a message object in between.
//!
//! [`encode`] takes wire bytes to JSON, [`decode`] takes JSON to wire bytes. Both follow the ProtoJSON mapping;
//! where the mapping leaves room, `decode` is strict (unknown fields and enum names, duplicate keys and trailing
//! bytes are refused) and `encode` is forgiving (an `Any` of unknown type is written opaquely).

mod any;
mod decode;
mod encode;
mod lex;
mod number;
pub(crate) mod scalar;
mod special;
pub(crate) mod text;
mod time;

use crate::error::InvalidRequest;
use crate::schema::{Field, MessageId, Schema};

pub(crate) use lex::Lexer;

/// How deep messages of replies may nest: the limit of protobuf's own parsers.
pub const MAX_DEPTH: usize = 100;
/// How deep messages of requests may nest below the request itself, as they are on the wire: a JSON list in a `Value` is two levels, an entry
/// of a map is one of its own. Parsers agree on a limit of 100, but not on whether the request and the last level count; this is what all of
/// them take.
pub const MAX_REQUEST_DEPTH: usize = 98;

/// What happens to fields that are not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unset {
    /// Scalars without presence, lists and maps are written with their default; messages are left out.
    #[default]
    Emit,
    /// Nothing that is unset is written.
    Omit,
}

/// How enum values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EnumStyle {
    /// By name; a number without a name by number.
    #[default]
    Names,
    /// By number.
    Numbers,
}

/// What [`encode`] does with an `Any` whose type the schema does not have, or whose bytes do not fit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownAny {
    /// `{"@type": …, "value": "<base64>"}`.
    #[default]
    Opaque,
    /// An error.
    Refuse,
}

/// Options of [`encode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncodeOptions {
    /// Unset fields.
    pub unset: Unset,
    /// Enum values.
    pub enums: EnumStyle,
    /// `Any` of unknown type.
    pub unknown_any: UnknownAny,
}

/// What [`decode`], and a query, do with a field that the schema does not have; [`decode`] also with an enum's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    /// Refuses the request.
    #[default]
    Refuse,
    /// Drops the value.
    Ignore,
}

/// Options of [`decode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecodeOptions {
    /// Unknown fields and enum names.
    pub unknown: Unknown,
}

/// Wire bytes that cannot be written as JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Not protobuf.
    #[error("malformed protobuf message")]
    Malformed,
    /// A string field that is not UTF-8.
    #[error("string field is not valid UTF-8")]
    Utf8,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("message nests too deep")]
    Depth,
    /// A value that the type has but its JSON has not.
    #[error("{0} has no JSON form")]
    Unrepresentable(&'static str),
    /// An `Any` of unknown type, where that is refused.
    #[error("type of an Any is unknown: {0}")]
    UnknownAny(String),
}

impl From<crate::wire::Malformed> for EncodeError {
    fn from(_: crate::wire::Malformed) -> Self {
        Self::Malformed
    }
}

/// Appends the JSON of a message to `out`.
///
/// # Errors
/// The bytes are not a message of this type, or hold a value that JSON cannot carry; `out` then ends in the middle.
pub fn encode(
    schema: &Schema,
    message: MessageId,
    wire: &[u8],
    options: &EncodeOptions,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    encode::Encoder::new(schema, *options, out).message(message, wire, 0)
}

/// Appends the JSON of one field of a message to `out`; `null` if it is an unset message, else its default.
///
/// # Errors
/// As [`encode`].
pub fn encode_field(
    schema: &Schema,
    message: MessageId,
    field: usize,
    wire: &[u8],
    options: &EncodeOptions,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    encode::Encoder::new(schema, *options, out).only(message, field, wire)
}

/// Appends the wire bytes of a message to `out`.
///
/// # Errors
/// What is wrong with the text, and at which field; `out` then ends in the middle.
pub fn decode(
    schema: &Schema,
    message: MessageId,
    json: &[u8],
    options: &DecodeOptions,
    out: &mut Vec<u8>,
) -> Result<(), InvalidRequest> {
    let mut decoder = decode::Decoder::new(schema, *options, lex::utf8(json)?);
    decoder.message(message, 0, out)?;
    decoder.finish()
}

/// Appends one field with tag, its JSON being the whole text.
///
/// # Errors
/// As [`decode`].
pub fn decode_field(
    schema: &Schema,
    field: &Field,
    json: &[u8],
    options: &DecodeOptions,
    out: &mut Vec<u8>,
) -> Result<(), InvalidRequest> {
    let mut decoder = decode::Decoder::new(schema, *options, lex::utf8(json)?);
    decoder.whole_field(field, out)?;
    decoder.finish()
}

/// Appends a singular or repeated scalar field with tag, from text.
pub(crate) fn put_text(
    schema: &Schema,
    field: &Field,
    text: std::borrow::Cow<'_, str>,
    out: &mut Vec<u8>,
) -> Result<(), scalar::Reason> {
    let value = scalar::from_text(schema, field.kind, text)?;
    if field.shape != crate::schema::Shape::Implicit || !value.is_default() {
        value.put_field(field.number, field.kind, out);
    }
    Ok(())
}

/// Appends the content of a well-known message that has a text form.
pub(crate) fn put_text_message(
    schema: &Schema,
    message: MessageId,
    text: &str,
    out: &mut Vec<u8>,
) -> Result<(), scalar::Reason> {
    special::from_text(schema.message(message), schema, text, special::MaskText::Query, out)
}
