//! `google.api.field_behavior` of fields.

use prost_reflect::{FieldDescriptor, Value};

/// Field number of the extension of `google.protobuf.FieldOptions`.
const FIELD_BEHAVIOR: u32 = 1052;

/// What a field's annotation says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Behavior {
    pub(crate) required: bool,
    pub(crate) output_only: bool,
    pub(crate) input_only: bool,
    pub(crate) immutable: bool,
    identifier: bool,
}

impl Behavior {
    pub(crate) fn of(field: &FieldDescriptor) -> Self {
        let mut behavior = Self {
            required: field.cardinality() == prost_reflect::Cardinality::Required,
            ..Self::default()
        };
        let options = field.options();
        let values = options
            .extensions()
            .find(|(extension, _)| extension.number() == FIELD_BEHAVIOR);
        let values = values.and_then(|(_, value)| value.as_list()).unwrap_or_default();
        for value in values.iter().filter_map(Value::as_enum_number) {
            match value {
                2 => behavior.required = true,
                3 => behavior.output_only = true,
                4 => behavior.input_only = true,
                5 => behavior.immutable = true,
                8 => behavior.identifier = true,
                _ => {}
            }
        }
        behavior
    }

    /// Whether a client must send the field. A resource's name is given by the path or made by the service.
    pub(crate) fn wanted(self) -> bool {
        self.required && !self.output_only && !self.identifier
    }
}
