//! Strategic merge patches: lists of built-in types merge by key, with the directives that `kubectl apply` sends.

use serde_json::{Map, Value};

use super::{dig, lists, status::ApiError};

/// Merges `patch` into `object`.
///
/// # Errors
///
/// 400 for what is no object, 500 for a directive or an element that makes no sense.
pub(crate) fn merge(object: &mut Value, patch: &Value) -> Result<(), ApiError> {
    let Value::Object(patch) = patch else {
        return Err(ApiError::bad_request("a strategic merge patch must be an object"));
    };
    merge_map(dig::object(object), patch, &mut Vec::new())
}

fn merge_map(
    object: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    place: &mut Vec<String>,
) -> Result<(), ApiError> {
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *object = patch
                .iter()
                .filter(|(key, _)| !key.starts_with('$'))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            return Ok(());
        }
        Some("delete") => {
            object.clear();
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => {
            let message = format!("unknown patch type: {other} in map: {}", Value::Object(patch.clone()));
            return Err(ApiError::new(500, "", message));
        }
    }
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        place.push(key.clone());
        merge_field(object, key, value, place)?;
        place.pop();
    }
    for (directive, value) in patch {
        if let Some(key) = directive.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().cloned().unwrap_or_default();
            if let Some(list) = object.get_mut(key).and_then(Value::as_array_mut) {
                list.retain(|item| !gone.contains(item));
            }
        } else if let Some(key) = directive.strip_prefix("$setElementOrder/") {
            place.push(key.to_owned());
            if let Some(list) = object.get_mut(key).and_then(Value::as_array_mut) {
                reorder(
                    list,
                    value.as_array().map(Vec::as_slice).unwrap_or_default(),
                    merge_key(place),
                );
            }
            place.pop();
        } else if directive == "$retainKeys" {
            let keep: Vec<&str> = value
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            object.retain(|key, _| keep.contains(&key.as_str()));
        }
    }
    Ok(())
}

fn merge_field(
    object: &mut Map<String, Value>,
    key: &str,
    value: &Value,
    place: &mut Vec<String>,
) -> Result<(), ApiError> {
    match value {
        Value::Null => {
            object.remove(key);
        }
        Value::Object(patch) => {
            if patch.get("$patch").and_then(Value::as_str) == Some("delete") {
                object.remove(key);
            } else {
                let slot = object.entry(key.to_owned()).or_insert(Value::Null);
                merge_map(dig::object(slot), patch, place)?;
            }
        }
        Value::Array(patch) => {
            let slot = object.entry(key.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
            merge_list(slot, patch, place)?;
        }
        scalar => {
            object.insert(key.to_owned(), scalar.clone());
        }
    }
    Ok(())
}

fn merge_list(slot: &mut Value, patch: &[Value], place: &mut Vec<String>) -> Result<(), ApiError> {
    let key = merge_key(place);
    let replaces = patch
        .iter()
        .any(|item| item.get("$patch").and_then(Value::as_str) == Some("replace"));
    let Some(key) = key.filter(|_| !replaces) else {
        if lists::is_primitive_merge(place) && !replaces {
            let list = as_list(slot);
            let before = list.clone();
            for item in patch {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
            in_patch_order(list, &before, patch, |one, other| one == other);
        } else {
            *slot = Value::Array(
                patch
                    .iter()
                    .filter(|item| item.get("$patch").is_none())
                    .cloned()
                    .collect(),
            );
        }
        return Ok(());
    };
    let list = as_list(slot);
    let before = list.clone();
    for item in patch {
        let Value::Object(fields) = item else {
            return Err(ApiError::bad_request(format!(
                "{}: a list of objects is expected",
                place.join(".")
            )));
        };
        let Some(wanted) = fields.get(key) else {
            let message = format!("map: {item} does not contain declared merge key: {key}");
            return Err(ApiError::new(500, "", message));
        };
        let position = list.iter().position(|have| have.get(key) == Some(wanted));
        match (fields.get("$patch").and_then(Value::as_str), position) {
            (Some("delete"), Some(index)) => {
                list.remove(index);
            }
            (Some("delete"), None) => {}
            (_, Some(index)) => {
                if let Some(have) = list.get_mut(index) {
                    merge_map(dig::object(have), fields, place)?;
                }
            }
            (_, None) => {
                let mut fresh = Map::new();
                merge_map(&mut fresh, fields, place)?;
                list.push(Value::Object(fresh));
            }
        }
    }
    in_patch_order(list, &before, patch, |one, other| one.get(key) == other.get(key));
    Ok(())
}

/// Orders a merged list: what the patch names in its order, the rest in its own; a rest goes first only before what it stood before.
fn in_patch_order(list: &mut Vec<Value>, before: &[Value], patch: &[Value], same: impl Fn(&Value, &Value) -> bool) {
    let place = |item: &Value, of: &[Value]| of.iter().position(|other| same(item, other));
    let (mut named, rest): (Vec<Value>, Vec<Value>) = list.drain(..).partition(|item| place(item, patch).is_some());
    named.sort_by_key(|item| place(item, patch));
    let mut rest = rest.into_iter().peekable();
    for item in named {
        let at = place(&item, before);
        while let Some(other) =
            rest.next_if(|other| at.is_some_and(|at| place(other, before).is_some_and(|place| place < at)))
        {
            list.push(other);
        }
        list.push(item);
    }
    list.extend(rest);
}

fn as_list(slot: &mut Value) -> &mut Vec<Value> {
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    match slot {
        Value::Array(list) => list,
        _ => unreachable!("made a list just above"),
    }
}

/// The field by which a strategic merge finds the element, for the list at `place`.
fn merge_key(place: &[String]) -> Option<&'static str> {
    lists::strategic_key(place)
}

fn reorder(list: &mut [Value], order: &[Value], key: Option<&str>) {
    let rank = |item: &Value| {
        order.iter().position(|wanted| match key {
            Some(key) => wanted.get(key) == item.get(key),
            None => wanted == item,
        })
    };
    // Elements that the order does not name stay behind the ones before which they stood.
    let mut position = 0;
    let mut ranked: Vec<(usize, usize, Value)> = list
        .iter()
        .enumerate()
        .map(|(index, item)| {
            position = rank(item).unwrap_or(position);
            (position, index, item.clone())
        })
        .collect();
    ranked.sort_by_key(|(rank, index, _)| (*rank, *index));
    for (slot, (_, _, item)) in list.iter_mut().zip(ranked) {
        *slot = item;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(mut object: Value, patch: &Value) -> Value {
        merge(&mut object, patch).unwrap();
        object
    }

    #[test]
    fn containers_merge_by_name_and_keep_the_order_that_kubectl_sends() {
        let pod = json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1", "env": [{"name": "X", "value": "1"}]}]}});
        let patch = json!({"spec": {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}],
            "containers": [{"name": "b", "image": "2", "env": [{"name": "Y", "value": "2"}]}, {"name": "a", "$patch": "delete"}, {"name": "c", "image": "3"}],
        }});
        assert_eq!(
            merged(pod, &patch),
            json!({"spec": {"containers": [
                {"name": "c", "image": "3"},
                {"name": "b", "image": "2", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
            ]}})
        );
    }

    #[test]
    fn null_removes_and_directives_replace() {
        let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}, "finalizers": ["x"]}, "spec": {"strategy": {"type": "A", "rolling": {}}}});
        let patch = json!({
            "metadata": {"labels": {"a": null}, "finalizers": ["y"]},
            "spec": {"strategy": {"$retainKeys": ["type"], "type": "B"}},
        });
        assert_eq!(
            merged(object, &patch),
            json!({"metadata": {"labels": {"b": "2"}, "finalizers": ["y", "x"]}, "spec": {"strategy": {"type": "B"}}})
        );
    }

    #[test]
    fn primitive_lists_lose_what_the_directive_names() {
        let object = json!({"metadata": {"finalizers": ["y", "x"]}});
        assert_eq!(
            merged(
                object,
                &json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"]}})
            ),
            json!({"metadata": {"finalizers": ["y"]}})
        );
    }
}
