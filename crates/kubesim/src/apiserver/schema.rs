//! Structural schemas: unknown fields, defaults.

use serde_json::Value;

/// Fields of every object that no schema needs to name.
const ROOT_FIELDS: &[&str] = &["apiVersion", "kind", "metadata"];
/// What metadata can hold.
const METADATA_FIELDS: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

fn truthy(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn property<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    schema.get("properties").and_then(|properties| properties.get(key))
}

fn additional(schema: &Value) -> Option<&Value> {
    schema.get("additionalProperties")
}

fn is_root(path: &str, schema: &Value) -> bool {
    path.is_empty() || truthy(schema, "x-kubernetes-embedded-resource")
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Takes out fields that the schema does not know, and names them.
pub(crate) fn prune(value: &mut Value, schema: &Value, path: &str, unknown: &mut Vec<String>) {
    let preserves = truthy(schema, "x-kubernetes-preserve-unknown-fields");
    match value {
        Value::Object(map) => {
            let root = is_root(path, schema);
            let closed = match additional(schema) {
                None => true,
                Some(more) => more == &Value::Bool(false),
            };
            // Without a type there is nothing to prune by.
            let prunes = closed && !preserves && (schema.get("type").is_some() || schema.get("properties").is_some());
            map.retain(|key, value| {
                if root && ROOT_FIELDS.contains(&key.as_str()) {
                    if key == "metadata" {
                        prune_metadata(value, &join(path, key), unknown);
                    }
                    return true;
                }
                let known = property(schema, key);
                if prunes && known.is_none() {
                    unknown.push(join(path, key));
                    return false;
                }
                if let Some(schema) = known.or_else(|| additional(schema).filter(|more| more.is_object())) {
                    prune(value, schema, &join(path, key), unknown);
                }
                true
            });
        }
        Value::Array(list) => {
            if let Some(items) = schema.get("items") {
                for (index, item) in list.iter_mut().enumerate() {
                    prune(item, items, &format!("{path}[{index}]"), unknown);
                }
            }
        }
        _ => {}
    }
}

fn prune_metadata(metadata: &mut Value, path: &str, unknown: &mut Vec<String>) {
    let Value::Object(map) = metadata else { return };
    map.retain(|key, _| {
        let known = METADATA_FIELDS.contains(&key.as_str());
        if !known {
            unknown.push(join(path, key));
        }
        known
    });
}

/// Takes out nulls where the schema allows none and has no default instead.
pub(crate) fn drop_nulls(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            let of = |key: &str| property(schema, key).or_else(|| additional(schema).filter(|more| more.is_object()));
            let kept = |schema: &Value| truthy(schema, "nullable") || schema.get("default").is_some();
            map.retain(|key, value| !value.is_null() || of(key).is_none_or(kept));
            for (key, value) in map.iter_mut() {
                if let Some(schema) = of(key) {
                    drop_nulls(value, schema);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.get("items") {
                for item in list {
                    drop_nulls(item, items);
                }
            }
        }
        _ => {}
    }
}

/// Fills in the schema's defaults.
pub(crate) fn default(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
                for (key, schema) in properties {
                    let Some(preset) = schema.get("default") else {
                        continue;
                    };
                    let missing = match map.get(key) {
                        None => true,
                        Some(Value::Null) => !truthy(schema, "nullable"),
                        Some(_) => false,
                    };
                    if missing {
                        map.insert(key.clone(), preset.clone());
                    }
                }
            }
            for (key, value) in map.iter_mut() {
                if let Some(schema) =
                    property(schema, key).or_else(|| additional(schema).filter(|more| more.is_object()))
                {
                    default(value, schema);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.get("items") {
                for item in list {
                    default(item, items);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pruning_stops_where_unknown_fields_are_preserved() {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}},
                "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"known": {"type": "object", "properties": {}}}},
                "list": {"type": "array", "items": {"type": "object", "properties": {"a": {}}}},
            }},
        }});
        let mut object = json!({"apiVersion": "v1", "kind": "K", "metadata": {"x": 1}, "junk": 1, "spec": {
            "map": {"k": {"a": "1", "b": 1}}, "open": {"x": {"y": 1}, "known": {"z": 1}}, "list": [{"a": 1, "c": 1}],
        }});
        let mut unknown = Vec::new();
        prune(&mut object, &schema, "", &mut unknown);
        unknown.sort();
        assert_eq!(
            unknown,
            [
                "junk",
                "metadata.x",
                "spec.list[0].c",
                "spec.map.k.b",
                "spec.open.known.z"
            ]
        );
        assert_eq!(
            object["spec"],
            json!({"map": {"k": {"a": "1"}}, "open": {"x": {"y": 1}, "known": {}}, "list": [{"a": 1}]})
        );
    }

    #[test]
    fn defaults_fill_objects_that_are_there() {
        let schema = json!({"properties": {
            "a": {"type": "object", "properties": {"x": {"default": 1}}},
            "b": {"type": "object", "default": {}, "properties": {"y": {"default": 2}}},
            "c": {"default": 3, "nullable": true},
        }});
        let mut value = json!({"a": {}, "c": null});
        default(&mut value, &schema);
        assert_eq!(value, json!({"a": {"x": 1}, "c": null, "b": {"y": 2}}));
        let mut value = json!({});
        default(&mut value, &schema);
        assert_eq!(value, json!({"b": {"y": 2}, "c": 3}));
    }
}
