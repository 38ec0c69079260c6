//! Server-side apply: merge what a manager declares, let go of what it no longer declares, refuse to take what others declared.

use std::collections::VecDeque;

use serde_json::Value;

use super::{
    crd, dig,
    exchange::{Answer, Target},
    fieldset::{FieldSet, element_step},
    managed::{self, Intent, Manager},
    status::{ApiError, Cause},
    store::Key,
    types::{Cursor, ListType},
    write,
};

/// Applies a configuration to one object, which is made if it is not there.
pub(crate) async fn answer(target: &Target<'_>, key: &Key, mut config: Value, force: bool) -> Result<Answer, ApiError> {
    drop_nulls(&mut config);
    let is_status = target.info.subresource.is_some();
    if target.version.status && !is_status {
        dig::object(&mut config).remove("status");
    } else if is_status {
        dig::object(&mut config).retain(|key, _| matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
    }
    if let Some(field) = crd::undeclared(target, &config) {
        let (kind, version) = (&target.def.kind, target.def.api_version(&target.version.name));
        let message = format!(
            "failed to create typed patch object ({}/{}; {version}, Kind={kind}): .{field}: field not declared in schema",
            key.namespace, key.name
        );
        return Err(ApiError::new(500, "", message));
    }
    let intent = || Intent::Apply { config: config.clone() };
    if target.collection.get(key).is_none() && !is_status {
        let mut fresh = config.clone();
        let uid = dig::meta(&fresh, "uid").to_owned();
        if !uid.is_empty() {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(ApiError::conflict(target.def, &key.name, &why));
        }
        dig::metadata(&mut fresh).remove("resourceVersion");
        dig::metadata(&mut fresh).remove("managedFields");
        match write::create_object(target, fresh, intent()).await {
            Err(error) if error.reason == "AlreadyExists" => {}
            other => return other,
        }
    }
    write::modify(target, key, intent(), |live| merged(target, live, &config, force)).await
}

/// The object after the configuration; refuses on conflicts unless forced.
fn merged(target: &Target<'_>, live: &Value, config: &Value, force: bool) -> Result<Value, ApiError> {
    let at = Cursor::root(target.def, target.version);
    let me = managed::writer(target, true);
    let scope = managed::Scope::of(target);
    let mut next = live.clone();
    merge(&mut next, config, &at);
    let (own, others): (Vec<Manager>, Vec<Manager>) = managed::before_apply(target, live)
        .into_iter()
        .partition(|manager| manager.applies && manager.name == me.name && manager.subresource == me.subresource);
    let declared = managed::fields_of(config, scope, &at);
    let mut kept = declared.clone();
    for manager in &others {
        kept.add(&manager.fields);
    }
    for manager in own {
        prune(&mut next, &manager.fields, &kept, &at);
    }
    if !force {
        let changed = managed::difference(Some(live), &next, scope, &at).changed;
        check_conflicts(&changed, &others)?;
    }
    Ok(next)
}

fn check_conflicts(changed: &FieldSet, others: &[Manager]) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    for manager in others {
        for path in changed.common(&manager.fields).paths() {
            let how = if manager.applies {
                String::new()
            } else {
                format!(" using {}", manager.api_version)
            };
            causes.push(Cause::new(
                "FieldManagerConflict",
                path,
                format!("conflict with \"{}\"{how}", manager.name),
            ));
        }
    }
    if causes.is_empty() {
        return Ok(());
    }
    let message = format!("Apply failed with {}", listed(&causes));
    let mut error = ApiError::new(409, "Conflict", message);
    error.details.causes = causes;
    Err(error)
}

/// One conflict on a line of its own; several by manager.
fn listed(causes: &[Cause]) -> String {
    if let [cause] = causes {
        return format!("1 conflict: {}: {}", cause.message, cause.field);
    }
    let mut lines = vec![format!("{} conflicts:", causes.len())];
    let mut last = "";
    for cause in causes {
        if cause.message != last {
            lines.push(format!(
                "{}:",
                cause.message.replacen("conflict with", "conflicts with", 1)
            ));
            last = &cause.message;
        }
        lines.push(format!("- {}", cause.field));
    }
    let text = lines.join("\n");
    text.replacen(":\n", ": ", 1)
}

/// A declared null is as good as a field left out.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn merge(live: &mut Value, config: &Value, at: &Cursor<'_>) {
    match config {
        Value::Object(fields) if live.is_object() && !at.is_atomic_map() => {
            let map = dig::object(live);
            for (key, value) in fields {
                match map.get_mut(key) {
                    Some(slot) => merge(slot, value, &at.field(key)),
                    None => {
                        map.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        Value::Array(items) => match (at.list_type(), live) {
            (kind @ (ListType::Map(_) | ListType::Set), Value::Array(list)) => merge_list(list, items, &kind, at),
            (_, live) => live.clone_from(config),
        },
        _ => live.clone_from(config),
    }
}

/// The declared order counts for what is declared; what is not keeps its place before the declared element that it stood before.
fn merge_list(list: &mut Vec<Value>, items: &[Value], kind: &ListType, at: &Cursor<'_>) {
    let declared: Vec<String> = items.iter().map(|item| element_step(item, kind)).collect();
    let mut live: VecDeque<(String, Value)> = list.drain(..).map(|item| (element_step(&item, kind), item)).collect();
    for (item, step) in items.iter().zip(&declared) {
        while live.front().is_some_and(|(step, _)| !declared.contains(step)) {
            list.extend(live.pop_front().map(|(_, item)| item));
        }
        let have = live.iter().position(|(have, _)| have == step);
        match have.and_then(|place| live.remove(place)) {
            Some((_, mut have)) => {
                merge(&mut have, item, &at.element());
                list.push(have);
            }
            None => list.push(item.clone()),
        }
    }
    list.extend(live.into_iter().map(|(_, item)| item));
}

/// Takes out what is in `had` but in nobody's `kept`; containers that it empties go too.
fn prune(value: &mut Value, had: &FieldSet, kept: &FieldSet, at: &Cursor<'_>) {
    let none = FieldSet::default();
    match value {
        Value::Object(map) => {
            for (step, set) in &had.below {
                let Some(key) = step.strip_prefix("f:") else {
                    continue;
                };
                let keeps = kept.below.get(step).unwrap_or(&none);
                let gone = map.get_mut(key).is_some_and(|slot| {
                    if set.here && set.below.is_empty() {
                        return keeps.is_empty();
                    }
                    let was_void = dig::is_void(slot);
                    prune(slot, set, keeps, &at.field(key));
                    dig::is_void(slot) && !was_void && keeps.is_empty()
                });
                if gone {
                    map.remove(key);
                }
            }
        }
        Value::Array(list) => {
            let kind = at.list_type();
            list.retain_mut(|item| {
                let step = element_step(item, &kind);
                let Some(set) = had.below.get(&step) else {
                    return true;
                };
                let keeps = kept.below.get(&step).unwrap_or(&none);
                if keeps.is_empty() {
                    return false;
                }
                prune(item, set, keeps, &at.element());
                true
            });
        }
        _ => {}
    }
}

/// An object without its record, as a test compares it.
#[cfg(test)]
fn bare(value: &Value) -> Value {
    let mut value = value.clone();
    dig::metadata(&mut value).remove("managedFields");
    value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merging_keeps_other_elements_and_replaces_atomic_ones() {
        let at = Cursor::built_in();
        let mut live = json!({"metadata": {}, "spec": {"containers": [{"name": "a", "image": "1"}], "nodeSelector": {"x": "1"}, "tolerations": [{"key": "a"}]}});
        let config = json!({"spec": {"containers": [{"name": "b"}, {"name": "a", "image": "2"}], "nodeSelector": {"y": "1"}, "tolerations": [{"key": "b"}]}});
        merge(&mut live, &config, &at);
        assert_eq!(
            bare(&live),
            json!({"metadata": {}, "spec": {
                "containers": [{"name": "b"}, {"name": "a", "image": "2"}], "nodeSelector": {"y": "1"}, "tolerations": [{"key": "b"}],
            }})
        );
    }

    #[test]
    fn pruning_takes_what_nobody_else_keeps() {
        let at = Cursor::built_in();
        let mut value = json!({"metadata": {"labels": {"a": "1"}, "annotations": {"b": "1", "c": "1"}}});
        let had = FieldSet::of(
            &json!({"metadata": {"labels": {"a": "1"}, "annotations": {"b": "1", "c": "1"}}}),
            &at,
        );
        let kept = FieldSet::of(&json!({"metadata": {"annotations": {"c": "1"}}}), &at);
        prune(&mut value, &had, &kept, &at);
        assert_eq!(value, json!({"metadata": {"annotations": {"c": "1"}}}));
    }
}
