//! Validation by a structural schema, with Kubernetes' reasons, messages and field paths.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use regex::Regex;
use serde_json::Value;

use super::{fieldset::element_step, status::Cause, types::ListType};

/// How many causes are told at most; a hostile object must not make a hostile answer.
const MAX_CAUSES: usize = 64;
/// How many compiled patterns are kept.
const MAX_PATTERNS: usize = 512;

/// Finds what is wrong with `value` by `schema`.
pub(crate) fn validate(value: &Value, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    if causes.len() >= MAX_CAUSES {
        return;
    }
    if value.is_null() && schema.get("nullable").and_then(Value::as_bool).unwrap_or(false) {
        return;
    }
    if !type_fits(value, schema) {
        let kind = schema.get("type").and_then(Value::as_str).unwrap_or("integer,string");
        let got = type_name(value);
        causes.push(Cause::new(
            "FieldValueTypeInvalid",
            path,
            format!("Invalid value: \"{got}\": {path} in body must be of type {kind}: \"{got}\""),
        ));
        if kind == "integer" && got == "number" {
            causes.push(unplaced(&format!(
                "Checked value must be of type integer (default format) in {path}"
            )));
        }
        return;
    }
    enumerated(value, schema, path, causes);
    match value {
        Value::String(text) => string(text, schema, path, causes),
        Value::Number(_) => number(value, schema, path, causes),
        Value::Array(list) => array(list, schema, path, causes),
        Value::Object(map) => object(map, schema, path, causes),
        Value::Null | Value::Bool(_) => {}
    }
    combined(value, schema, path, causes);
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn type_fits(value: &Value, schema: &Value) -> bool {
    if schema
        .get("x-kubernetes-int-or-string")
        .and_then(Value::as_bool)
        .unwrap_or(false)
    {
        return matches!(type_name(value), "integer" | "string");
    }
    let whole = || value.as_f64().is_some_and(|number| number.fract() == 0.0);
    match (schema.get("type").and_then(Value::as_str), type_name(value)) {
        (None, _) | (Some("number"), "integer" | "number") => true,
        (Some("integer"), "number") => whole(),
        (Some(wanted), got) => wanted == got,
    }
}

fn enumerated(value: &Value, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(allowed) = schema.get("enum").and_then(Value::as_array) else {
        return;
    };
    if !allowed.contains(value) {
        let list: Vec<String> = allowed.iter().map(Value::to_string).collect();
        causes.push(Cause::new(
            "FieldValueNotSupported",
            path,
            format!("Unsupported value: {value}: supported values: {}", list.join(", ")),
        ));
    }
}

/// What Kubernetes says without a field.
fn unplaced(rule: &str) -> Cause {
    Cause::new("FieldValueInvalid", "<nil>", format!("Invalid value: \"\": {rule}"))
}

fn wrong(path: &str, value: &str, rule: &str) -> Cause {
    Cause::new(
        "FieldValueInvalid",
        path,
        format!("Invalid value: {value}: {path} in body {rule}"),
    )
}

fn string(text: &str, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let limit = |key: &str| schema.get(key).and_then(Value::as_u64);
    let length = text.chars().count() as u64;
    let shown = Value::from(text).to_string();
    if let Some(max) = limit("maxLength").filter(|max| length > *max) {
        causes.push(Cause::new(
            "FieldValueTooLong",
            path,
            format!("Too long: may not be more than {max} bytes"),
        ));
    }
    if let Some(min) = limit("minLength").filter(|min| length < *min) {
        causes.push(wrong(path, &shown, &format!("should be at least {min} chars long")));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && compiled(pattern).is_some_and(|regex| !regex.is_match(text))
    {
        causes.push(wrong(path, &shown, &format!("should match '{pattern}'")));
    }
    if schema.get("format").and_then(Value::as_str) == Some("date-time") && text.parse::<jiff::Timestamp>().is_err() {
        causes.push(Cause::new(
            "FieldValueTypeInvalid",
            path,
            format!("Invalid value: {shown}: {path} in body must be of type date-time: {shown}"),
        ));
    }
}

/// Patterns are compiled once; one that Rust's engine cannot take (look-around) holds nothing.
fn compiled(pattern: &str) -> Option<Arc<Regex>> {
    static KNOWN: Mutex<Vec<(String, Option<Arc<Regex>>)>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock();
    if let Some((_, regex)) = known.iter().find(|(text, _)| text == pattern) {
        return regex.clone();
    }
    let regex = Regex::new(pattern).ok().map(Arc::new);
    if known.len() < MAX_PATTERNS {
        known.push((pattern.to_owned(), regex.clone()));
    }
    regex
}

fn number(value: &Value, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
    let exclusive = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
    let number = value.as_f64().unwrap_or_default();
    let shown = value.to_string();
    let format = schema.get("format").and_then(Value::as_str);
    if format == Some("int32") && value.as_i64().is_none_or(|number| i32::try_from(number).is_err()) {
        causes.push(unplaced(&format!(
            "Checked value must be of type integer with format int32 in {path}"
        )));
    }
    if let Some(max) = limit("maximum") {
        if exclusive("exclusiveMaximum") && number >= max {
            causes.push(wrong(path, &shown, &format!("should be less than {max}")));
        } else if number > max {
            causes.push(wrong(path, &shown, &format!("should be less than or equal to {max}")));
        }
    }
    if let Some(min) = limit("minimum") {
        if exclusive("exclusiveMinimum") && number <= min {
            causes.push(wrong(path, &shown, &format!("should be greater than {min}")));
        } else if number < min {
            causes.push(wrong(
                path,
                &shown,
                &format!("should be greater than or equal to {min}"),
            ));
        }
    }
    if let Some(step) = limit("multipleOf").filter(|step| *step != 0.0 && (number / step).fract() != 0.0) {
        causes.push(wrong(path, &shown, &format!("should be a multiple of {step}")));
    }
}

fn array(list: &[Value], schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let limit = |key: &str| schema.get(key).and_then(Value::as_u64);
    let length = list.len() as u64;
    if let Some(max) = limit("maxItems").filter(|max| length > *max) {
        causes.push(Cause::new(
            "FieldValueTooMany",
            path,
            format!("Too many: {length}: must have at most {max} items"),
        ));
    }
    if let Some(min) = limit("minItems").filter(|min| length < *min) {
        causes.push(wrong(
            path,
            &length.to_string(),
            &format!("should have at least {min} items"),
        ));
    }
    let kind = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("map") => {
            let keys = schema
                .get("x-kubernetes-list-map-keys")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            Some(ListType::Map(
                keys.filter_map(Value::as_str).map(str::to_owned).collect(),
            ))
        }
        Some("set") => Some(ListType::Set),
        _ => None,
    };
    let (mut seen, mut told) = (BTreeSet::new(), BTreeSet::new());
    for (index, item) in list.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if let Some(kind) = &kind {
            let step = element_step(item, kind);
            let shown = step.get(2..).unwrap_or_default().to_owned();
            if !seen.insert(step.clone()) && told.insert(step) {
                causes.push(Cause::new(
                    "FieldValueDuplicate",
                    path.clone(),
                    format!("Duplicate value: {shown}"),
                ));
            }
        }
        if let Some(items) = schema.get("items") {
            validate(item, items, &path, causes);
        }
    }
}

fn object(map: &serde_json::Map<String, Value>, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let join = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    for key in schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !map.contains_key(key) {
            causes.push(Cause::new("FieldValueRequired", join(key), "Required value"));
        }
    }
    let limit = |key: &str| schema.get(key).and_then(Value::as_u64);
    let length = map.len() as u64;
    if let Some(max) = limit("maxProperties").filter(|max| length > *max) {
        causes.push(Cause::new(
            "FieldValueTooMany",
            path,
            format!("Too many: {length}: must have at most {max} items"),
        ));
    }
    if let Some(min) = limit("minProperties").filter(|min| length < *min) {
        causes.push(wrong(
            path,
            &length.to_string(),
            &format!("should have at least {min} properties"),
        ));
    }
    let embedded = path.is_empty()
        || schema
            .get("x-kubernetes-embedded-resource")
            .and_then(Value::as_bool)
            .unwrap_or(false);
    if embedded && !path.is_empty() {
        for key in ["apiVersion", "kind"] {
            let named = map
                .get(key)
                .and_then(Value::as_str)
                .is_some_and(|text| !text.is_empty());
            if !named {
                causes.push(Cause::new("FieldValueRequired", join(key), "Required value"));
            }
        }
    }
    for (key, value) in map {
        if embedded && key == "metadata" {
            continue;
        }
        let named = schema.get("properties").and_then(|properties| properties.get(key));
        if let Some(schema) = named.or_else(|| schema.get("additionalProperties").filter(|more| more.is_object())) {
            validate(value, schema, &join(key), causes);
        }
    }
}

fn combined(value: &Value, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let parts = |key: &str| {
        schema
            .get(key)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
    };
    let fits = |part: &Value| {
        let mut found = Vec::new();
        validate(value, part, path, &mut found);
        found.is_empty()
    };
    // Why the first of several possibilities was none.
    let explain = |parts: &[Value], causes: &mut Vec<Cause>| {
        if let Some(first) = parts.first() {
            validate(value, first, path, causes);
        }
    };
    for part in parts("allOf") {
        validate(value, part, path, causes);
    }
    let (any, one) = (parts("anyOf"), parts("oneOf"));
    if !any.is_empty() && !any.iter().any(fits) {
        causes.push(unplaced(&format!(
            "\"{path}\" must validate at least one schema (anyOf)"
        )));
        explain(any, causes);
    }
    let fitting = one.iter().filter(|part| fits(part)).count();
    let only = format!("\"{path}\" must validate one and only one schema (oneOf)");
    match fitting {
        0 if !one.is_empty() => {
            causes.push(unplaced(&format!("{only}. Found none valid")));
            explain(one, causes);
        }
        0 | 1 => {}
        many => causes.push(unplaced(&format!("{only}. Found {many} valid alternatives"))),
    }
    if schema.get("not").is_some_and(fits) {
        causes.push(unplaced(&format!("\"{path}\" must not validate the schema (not)")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(value: &Value, schema: &Value) -> Vec<(String, String)> {
        let mut causes = Vec::new();
        validate(value, schema, "f", &mut causes);
        causes.into_iter().map(|cause| (cause.reason, cause.field)).collect()
    }

    #[test]
    fn each_rule_refuses_with_its_reason() {
        let one = |reason: &str, field: &str| vec![(reason.to_owned(), field.to_owned())];
        for (value, schema, expected) in [
            (
                json!("x"),
                json!({"type": "integer"}),
                one("FieldValueTypeInvalid", "f"),
            ),
            (json!(1.0), json!({"type": "integer"}), vec![]),
            (json!(null), json!({"type": "string", "nullable": true}), vec![]),
            (
                json!(null),
                json!({"type": "string"}),
                one("FieldValueTypeInvalid", "f"),
            ),
            (json!("50%"), json!({"x-kubernetes-int-or-string": true}), vec![]),
            (
                json!(true),
                json!({"x-kubernetes-int-or-string": true}),
                one("FieldValueTypeInvalid", "f"),
            ),
            (
                json!("abc"),
                json!({"type": "string", "maxLength": 2}),
                one("FieldValueTooLong", "f"),
            ),
            (
                json!("abc"),
                json!({"type": "string", "pattern": "^[a-b]+$"}),
                one("FieldValueInvalid", "f"),
            ),
            (
                json!(3),
                json!({"type": "integer", "exclusiveMinimum": true, "minimum": 3}),
                one("FieldValueInvalid", "f"),
            ),
            (
                json!({}),
                json!({"type": "object", "required": ["a"]}),
                one("FieldValueRequired", "f.a"),
            ),
            (
                json!([{"n": 1}, {"n": 1}]),
                json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"]}),
                one("FieldValueDuplicate", "f[1]"),
            ),
            (
                json!([1, 1]),
                json!({"type": "array", "x-kubernetes-list-type": "set"}),
                one("FieldValueDuplicate", "f[1]"),
            ),
            (
                json!({"a": 1}),
                json!({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
                vec![],
            ),
            (
                json!({"a": 1, "b": 1}),
                json!({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
                one("FieldValueInvalid", "<nil>"),
            ),
            (
                json!({"k": 1}),
                json!({"additionalProperties": {"type": "string"}}),
                one("FieldValueTypeInvalid", "f.k"),
            ),
        ] {
            assert_eq!(found(&value, &schema), expected, "{value} by {schema}");
        }
    }
}
