//! Whether the fields of a document fit the contract.

use std::fmt::Write as _;

use prost_reflect::{FieldDescriptor, MessageDescriptor};
use serde_json::{Map, Value};
use steading_transcode::{
    Catalog,
    codec::{self, DecodeOptions},
};

use super::{fault::Fault, locate::value_at};
use crate::{client::decode_json, kinds::texts};

/// Longest value that is shown in an error.
const SHOWN: usize = 60;

/// Writes whole numbers as text in fields whose text says an amount or a count: YAML reads `maxSurge: 1` as a number, and so do people.
pub(super) fn write_numbers_as_text(message: &MessageDescriptor, fields: &mut Map<String, Value>) {
    for (key, value) in fields {
        let field = message
            .get_field_by_json_name(key)
            .or_else(|| message.get_field_by_name(key));
        if let Some(field) = field {
            in_field(&field, value);
        }
    }
}

fn in_field(field: &FieldDescriptor, value: &mut Value) {
    match value {
        Value::Number(number) if texts::of(field).is_some() && (number.is_i64() || number.is_u64()) => {
            *value = Value::String(number.to_string());
        }
        Value::Array(items) if field.is_list() => items.iter_mut().for_each(|item| in_field(field, item)),
        Value::Object(fields) => {
            let kind = field.kind();
            let Some(message) = kind.as_message() else { return };
            if field.is_map() {
                let values = message.map_entry_value_field();
                fields.values_mut().for_each(|value| in_field(&values, value));
            } else {
                write_numbers_as_text(message, fields);
            }
        }
        _ => {}
    }
}

/// # Errors
/// The first field that does not fit, with its value.
pub(super) fn check(message: &MessageDescriptor, fields: &Map<String, Value>) -> Result<(), Fault> {
    let value = Value::Object(fields.clone());
    match decode_json(message.clone(), value.clone()) {
        Ok(_) => Ok(()),
        Err(error) => Err(explained(message, &value).unwrap_or_else(|| Fault::new("", error.to_string()))),
    }
}

/// Decodes again with the gateway's codec, which knows where it is. It needs the contracts compiled, which takes longer.
fn explained(message: &MessageDescriptor, value: &Value) -> Option<Fault> {
    let catalog = Catalog::new(&[steading_api::FILE_DESCRIPTOR_SET], &[], |_| true).ok()?;
    let id = catalog.schema().find(message.full_name())?;
    let (text, options) = (value.to_string(), DecodeOptions::default());
    let refused = codec::decode(catalog.schema(), id, text.as_bytes(), &options, &mut Vec::new()).err()?;
    let violation = refused.violations.into_iter().next()?;
    // The position is one in what was decoded here, not in the user's file.
    let mut text = match violation.description.rsplit_once(" at byte ") {
        Some((before, _)) => before.to_owned(),
        None => violation.description,
    };
    if let Some(value) = value_at(value, &violation.field) {
        let shown = value.to_string();
        let cut: String = shown.chars().take(SHOWN).collect();
        let dots = if cut.len() < shown.len() { "…" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(text, ", got {cut}{dots}");
    }
    Some(Fault::new(&violation.field, text))
}
