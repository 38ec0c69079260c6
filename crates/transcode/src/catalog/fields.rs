//! The fields of requests and replies that rules name or that have a meaning of their own.

use smallvec::{SmallVec, smallvec};

use super::binding::{BodyRule, Bound};
use crate::codec::scalar;
use crate::schema::{Kind, Message, MessageId, Schema, Shape, WellKnown};
use crate::template::Variable;

/// The field that a variable is bound to.
pub(super) fn resolve(schema: &Schema, input: MessageId, variable: &Variable) -> Result<Bound, &'static str> {
    let mut message = schema.message(input);
    let mut numbers = Vec::new();
    let mut parts = variable.field_path.split('.').peekable();
    loop {
        let part = parts.next().ok_or("is empty")?;
        let field = message.field_by_name(part).ok_or("does not exist")?;
        if !field.is_singular() {
            return Err("is repeated");
        }
        numbers.push(field.number);
        let inner = field.kind.message().map(|id| schema.message(id));
        match (inner, parts.peek()) {
            (Some(inner), Some(_)) => message = inner,
            (None, Some(_)) => return Err("passes through a field that is not a message"),
            (Some(inner), None) if !takes_text(inner.well_known) => return Err("is a message"),
            (_, None) => {
                let variable = variable.clone();
                return Ok(Bound {
                    variable,
                    numbers: numbers.into(),
                    kind: field.kind,
                    presence: field.shape,
                });
            }
        }
    }
}

/// Messages that can be given as text, in a path or a query.
pub(crate) fn takes_text(kind: WellKnown) -> bool {
    matches!(
        kind,
        WellKnown::Timestamp | WellKnown::Duration | WellKnown::FieldMask | WellKnown::Wrapper
    )
}

/// The message type of a body field that is a single ordinary message.
fn body_message(schema: &Schema, input: MessageId, body: BodyRule) -> Option<(u32, MessageId)> {
    let BodyRule::Field(index) = body else { return None };
    let field = schema
        .message(input)
        .fields
        .get(index)
        .filter(|field| field.is_singular())?;
    let id = field.kind.message()?;
    (schema.message(id).well_known == WellKnown::No).then_some((field.number, id))
}

pub(super) fn mask_field(schema: &Schema, input: MessageId, body: BodyRule) -> Option<u32> {
    body_message(schema, input, body)?;
    let field = schema
        .message(input)
        .field_by_name("update_mask")
        .filter(|field| field.is_singular())?;
    let is_mask = schema.message(field.kind.message()?).well_known == WellKnown::FieldMask;
    is_mask.then_some(field.number)
}

pub(super) fn etag_field(schema: &Schema, input: MessageId, body: BodyRule) -> Option<Box<[u32]>> {
    let own = |id: MessageId| {
        let field = schema
            .message(id)
            .field_by_name("etag")
            .filter(|field| field.is_singular())?;
        (field.kind == Kind::String).then_some(field.number)
    };
    if let Some(number) = own(input) {
        return Some([number].into());
    }
    let (outer, id) = body_message(schema, input, body)?;
    own(id).map(|number| [outer, number].into())
}

/// The text of the reply's `etag`, if its type has one and it is set.
pub(crate) fn etag_of<'w>(
    schema: &Schema,
    output: MessageId,
    response_body: Option<usize>,
    wire: &'w [u8],
) -> Option<&'w str> {
    let message = schema.message(output);
    let own = |message: &Message| {
        let field = message.field_by_name("etag").filter(|field| field.is_singular())?;
        (field.kind == Kind::String).then_some(field.number)
    };
    let outer = response_body.and_then(|index| message.fields.get(index));
    let path: SmallVec<[u32; 2]> = if let Some(outer) = outer {
        let inner = outer.kind.message().filter(|_| outer.is_singular())?;
        [outer.number, own(schema.message(inner))?].into()
    } else {
        smallvec![own(message)?]
    };
    match crate::wire::find(wire, &path) {
        Ok(Some(crate::wire::Raw::Bytes(bytes))) if !bytes.is_empty() => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

/// Whether a scalar is left out because its field cannot tell it from "unset".
pub(crate) fn is_redundant(presence: Shape, value: &scalar::Scalar<'_>) -> bool {
    presence == Shape::Implicit && value.is_default()
}
