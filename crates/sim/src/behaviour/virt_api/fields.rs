//! Reading JSON, and collecting what is wrong with it.

use serde_json::{Map, Value};
use steading_model::quantity::Quantity;

use steading_kubesim::{ApiError, Cause};

/// What is wrong with an object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Causes(Vec<Cause>);

impl Causes {
    pub(super) fn add(&mut self, reason: &str, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Cause::new(reason, field, message));
    }

    pub(super) fn invalid(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add("FieldValueInvalid", field, message);
    }

    pub(super) fn required(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add("FieldValueRequired", field, message);
    }

    /// A value that is not among those allowed, told with the field alone as subject.
    pub(super) fn unsupported(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add("FieldValueNotSupported", field, message);
    }

    /// Refuses in the name of a webhook if anything is wrong.
    ///
    /// # Errors
    /// 422 with the causes, of which there is at least one.
    pub(super) fn deny(self, webhook: &str) -> Result<(), ApiError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let all: Vec<&str> = self.0.iter().map(|cause| cause.message.as_str()).collect();
        let mut error = ApiError::new(422, "Invalid", said(webhook, &all.join(", ")));
        error.details.causes = self.0;
        Err(error)
    }

    #[cfg(test)]
    pub(super) fn messages(&self) -> Vec<&str> {
        self.0.iter().map(|cause| cause.message.as_str()).collect()
    }
}

/// A refusal without causes: virt-api gives it no reason either.
pub(super) fn refused(webhook: &str, message: &str) -> ApiError {
    ApiError::new(400, "", said(webhook, message))
}

fn said(webhook: &str, message: &str) -> String {
    format!("admission webhook \"{webhook}\" denied the request: {message}")
}

/// The text at a pointer, empty if there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a pointer, zero if there is none.
pub(super) fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

/// Whether there is something at a pointer.
pub(super) fn has(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).is_some_and(|found| !found.is_null())
}

/// Whether there is a `true` at a pointer.
pub(super) fn is(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer) == Some(&Value::Bool(true))
}

/// The list at a pointer, empty if there is none.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The list at a path of keys, to be changed; empty if there is none.
pub(super) fn list_mut<'a>(value: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    value
        .pointer_mut(pointer)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// The object at a path of keys; made where it is missing.
pub(super) fn object<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    path.iter().fold(map(value), |found, key| {
        map(found.entry((*key).to_owned()).or_insert(Value::Null))
    })
}

fn map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

/// The quantity at a pointer; none if there is none or it is no quantity.
pub(super) fn quantity(value: &Value, pointer: &str) -> Option<Quantity> {
    shown(value, pointer)?.parse().ok()
}

/// A quantity in thousandths, zero if there is none.
pub(super) fn millis(value: &Value, pointer: &str) -> i128 {
    let Some(quantity) = quantity(value, pointer) else {
        return 0;
    };
    if quantity.is_negative() {
        -i128::from(Quantity::ZERO.saturating_sub(quantity).millis())
    } else {
        i128::from(quantity.millis())
    }
}

/// A quantity as a message shows it.
pub(super) fn shown(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The index of the first of earlier list items with the same name.
pub(super) fn earlier(all: &[Value], index: usize) -> Option<usize> {
    let name = text(all.get(index)?, "/name");
    all.iter().take(index).position(|other| text(other, "/name") == name)
}

/// The item of a list that has a name.
pub(super) fn named<'a>(value: &'a Value, pointer: &str, name: &str) -> Option<&'a Value> {
    list(value, pointer).iter().find(|item| text(item, "/name") == name)
}
