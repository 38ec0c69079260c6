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
mod options;
pub(crate) mod scalar;
mod special;
pub(crate) mod text;
mod time;

use crate::error::InvalidRequest;
use crate::schema::{Field, MessageId, Schema};

pub(crate) use lex::Lexer;
pub use options::{
    DecodeOptions, EncodeError, EncodeOptions, EnumStyle, MAX_DEPTH, MAX_REQUEST_DEPTH, Unknown, UnknownAny, Unset,
};

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
