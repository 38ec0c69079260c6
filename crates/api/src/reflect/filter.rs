//! Filters over resources (AIP-160).

use std::borrow::Cow;

use prost_reflect::{
    Cardinality, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, ReflectMessage, Value,
};
use steading_model::filter::{FieldValue, Fields, Filter, FilterError, Operator};

use super::descriptor::descriptor;
use crate::error::RpcError;

/// Parses a filter over the fields of a message, named as in the `.proto` file or as in JSON. A value that the field never
/// has, such as an unknown enum value, is refused: it would match nothing, which looks like an answer.
///
/// # Errors
/// `INVALID_FILTER`.
pub fn filter(full_name: &str, text: &str) -> Result<Filter, RpcError> {
    let fields = filter_fields(full_name);
    let known: Vec<&str> = fields.iter().map(String::as_str).collect();
    let filter = Filter::parse(text, &known)?;
    if let Some(descriptor) = descriptor(full_name) {
        for comparison in filter.comparisons().iter().filter(|c| c.operator != Operator::Present) {
            let Some(field) = descriptor.get_field_by_name(&comparison.field).filter(|f| !f.is_map()) else {
                continue;
            };
            check_value(&field, &comparison.value)?;
        }
    }
    Ok(filter)
}

fn check_value(field: &FieldDescriptor, value: &str) -> Result<(), FilterError> {
    let (possible, known) = match field.kind() {
        Kind::Enum(kind) => {
            let names: Vec<String> = kind.values().map(|v| short_name(&kind, v.name())).collect();
            let possible = kind.values().any(|v| v.name() == value) || names.iter().any(|name| name == value);
            (possible, names.join(", "))
        }
        Kind::Bool => (matches!(value, "true" | "false"), "true, false".to_owned()),
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 => {
            (value.parse::<i128>().is_ok(), "whole numbers".to_owned())
        }
        _ => return Ok(()),
    };
    if possible {
        return Ok(());
    }
    Err(FilterError::UnknownValue {
        field: field.name().to_owned(),
        value: value.to_owned(),
        known,
    })
}

/// An enum value's name without the prefix that all have; the zero value is `<PREFIX>_UNSPECIFIED` by our lint rules.
fn short_name(kind: &EnumDescriptor, name: &str) -> String {
    let default = kind.default_value();
    let prefix = default.name().strip_suffix("UNSPECIFIED").unwrap_or_default();
    name.strip_prefix(prefix).unwrap_or(name).to_owned()
}

/// Fields of a resource by which lists can be filtered: scalars, enums and lists of text at the top, and the keys of maps of text.
pub fn filter_fields(full_name: &str) -> Vec<String> {
    let Some(descriptor) = descriptor(full_name) else {
        return Vec::new();
    };
    let name = |field: FieldDescriptor| {
        if field.is_map() {
            Some(format!("{}.*", field.name()))
        } else if matches!(field.kind(), Kind::Message(_) | Kind::Bytes) {
            None
        } else {
            Some(field.name().to_owned())
        }
    };
    descriptor.fields().filter_map(name).collect()
}

/// A resource that a filter can look into. Enum values can be written with and without their prefix.
#[derive(Debug)]
pub struct Filterable(pub DynamicMessage);

impl Fields for Filterable {
    fn field(&self, field: &str, key: Option<&str>) -> FieldValue<'_> {
        let Some(descriptor) = self.0.descriptor().get_field_by_name(field) else {
            return FieldValue::Absent;
        };
        let value = self.0.get_field(&descriptor).into_owned();
        match (value, key) {
            (Value::Map(map), Some(key)) => map
                .get(&MapKey::String(key.to_owned()))
                .map_or(FieldValue::Absent, |v| text(&descriptor, v)),
            (Value::List(items), _) => {
                let texts = items.iter().filter_map(|item| match text(&descriptor, item) {
                    FieldValue::Text(text) => Some(Cow::Owned(text.into_owned())),
                    FieldValue::List(_) | FieldValue::Absent => None,
                });
                FieldValue::List(texts.collect())
            }
            (value, _) => text(&descriptor, &value),
        }
    }
}

fn text<'a>(field: &FieldDescriptor, value: &Value) -> FieldValue<'a> {
    match value {
        Value::String(text) if text.is_empty() && field.cardinality() != Cardinality::Repeated => FieldValue::Absent,
        Value::String(text) => FieldValue::Text(Cow::Owned(text.clone())),
        Value::Bool(value) => FieldValue::Text(Cow::Owned(value.to_string())),
        Value::I32(value) => FieldValue::Text(Cow::Owned(value.to_string())),
        Value::I64(value) => FieldValue::Text(Cow::Owned(value.to_string())),
        Value::U32(value) => FieldValue::Text(Cow::Owned(value.to_string())),
        Value::U64(value) => FieldValue::Text(Cow::Owned(value.to_string())),
        Value::F32(value) => FieldValue::Text(Cow::Owned(value.to_string())),
        Value::F64(value) => FieldValue::Text(Cow::Owned(value.to_string())),
        Value::EnumNumber(number) => enum_names(field, *number),
        Value::Bytes(_) | Value::Message(_) | Value::List(_) | Value::Map(_) => FieldValue::Absent,
    }
}

fn enum_names<'a>(field: &FieldDescriptor, number: i32) -> FieldValue<'a> {
    let Kind::Enum(kind) = field.kind() else {
        return FieldValue::Absent;
    };
    let Some(value) = kind.get_value(number) else {
        return FieldValue::Absent;
    };
    let short = short_name(&kind, value.name());
    FieldValue::List(vec![Cow::Owned(short), Cow::Owned(value.name().to_owned())])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{
        reflect::dynamic,
        templating::v1::{Image, image::State},
        types::v1::ErrorReason,
    };

    const IMAGE: &str = "steading.templating.v1.Image";

    fn mk_image() -> Image {
        Image {
            name: "images/ubuntu".into(),
            size: "10Gi".into(),
            os: "ubuntu".into(),
            state: State::Ready.into(),
            labels: HashMap::from([
                ("example.com/team".to_owned(), "a".to_owned()),
                ("b".to_owned(), "1".to_owned()),
            ]),
            ..Image::default()
        }
    }

    #[test]
    fn filters_look_into_every_kind_of_field() {
        let image = Filterable(dynamic(IMAGE, &mk_image()).expect("an image"));
        for (text, expected) in [
            ("state=READY", true),
            ("state=STATE_READY AND os=ubuntu", true),
            ("state!=READY", false),
            ("labels.\"example.com/team\"=a", true),
            ("labels.b=2", false),
            ("reconciling=false", true),
            ("os_version:*", false),
            ("osVersion:*", false),
            ("displayName!=x", true),
        ] {
            let parsed = filter(IMAGE, text).expect(text);
            assert_eq!(parsed.matches(&image), expected, "{text}");
        }
        assert!(filter(IMAGE, "http=x").is_err());
    }

    #[test]
    fn a_value_that_the_field_never_has_is_refused() {
        for text in [
            "state=BANANA",
            "state!=BANANA",
            "state:BANANA",
            "state=ready",
            "reconciling=maybe",
        ] {
            let error = filter(IMAGE, text).expect_err(text);
            assert_eq!(error.reason(), ErrorReason::InvalidFilter, "{text}");
        }
        assert!(filter(IMAGE, "labels.state=BANANA").is_ok());
    }
}
