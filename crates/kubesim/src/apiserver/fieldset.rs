//! Sets of fields: what `managedFields` records, and how two objects differ.
//!
//! A set is a tree whose steps are written as in `FieldsV1`: `f:name` for a field, `k:{…}` for an element of a keyed list, `v:…` for an element
//! of a set.

use std::collections::{BTreeMap, btree_map::Entry};

use serde_json::{Map, Value};

use super::types::{Cursor, ListType};

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    /// Whether the place itself belongs to the set.
    pub(crate) here: bool,
    /// What is below.
    pub(crate) below: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Only the place itself.
    pub(crate) fn leaf() -> Self {
        Self {
            here: true,
            below: BTreeMap::new(),
        }
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        !self.here && self.below.values().all(Self::is_empty)
    }

    /// Adds a set below a step.
    pub(crate) fn put(&mut self, step: String, set: Self) {
        if set.is_empty() {
            return;
        }
        match self.below.entry(step) {
            Entry::Vacant(slot) => {
                slot.insert(set);
            }
            Entry::Occupied(mut slot) => slot.get_mut().add(&set),
        }
    }

    /// Adds all of `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        self.here |= other.here;
        for (step, set) in &other.below {
            self.put(step.clone(), set.clone());
        }
    }

    /// What is in `self` but not in `other`.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        let mut rest = Self {
            here: self.here && !other.here,
            below: BTreeMap::new(),
        };
        for (step, set) in &self.below {
            let left = other
                .below
                .get(step)
                .map_or_else(|| set.clone(), |other| set.minus(other));
            rest.put(step.clone(), left);
        }
        rest
    }

    /// What is in both.
    pub(crate) fn common(&self, other: &Self) -> Self {
        let mut both = Self {
            here: self.here && other.here,
            below: BTreeMap::new(),
        };
        for (step, set) in &self.below {
            if let Some(other) = other.below.get(step) {
                both.put(step.clone(), set.common(other));
            }
        }
        both
    }

    /// All members as paths, as `.spec.containers[name="a"].image`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect(&mut String::new(), &mut paths);
        paths
    }

    fn collect(&self, path: &mut String, paths: &mut Vec<String>) {
        if self.here {
            paths.push(path.clone());
        }
        for (step, set) in &self.below {
            let length = path.len();
            path.push_str(&shown(step));
            set.collect(path, paths);
            path.truncate(length);
        }
    }

    /// `FieldsV1`.
    pub(crate) fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.here && !self.below.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (step, set) in self.below.iter().filter(|(_, set)| !set.is_empty()) {
            map.insert(step.clone(), set.to_json());
        }
        Value::Object(map)
    }

    /// Reads `FieldsV1`; what is not understood is left out.
    pub(crate) fn from_json(value: &Value) -> Self {
        let Some(map) = value.as_object() else {
            return Self::default();
        };
        let mut set = Self {
            here: map.contains_key("."),
            below: BTreeMap::new(),
        };
        for (step, value) in map.iter().filter(|(step, _)| *step != ".") {
            let mut below = Self::from_json(value);
            if value.as_object().is_some_and(Map::is_empty) {
                below.here = true;
            }
            set.below.insert(step.clone(), below);
        }
        set
    }

    /// All fields of a value.
    pub(crate) fn of(value: &Value, at: &Cursor<'_>) -> Self {
        Self::collected(value, at, Containers::Without)
    }

    /// All fields of a value that came or went as a whole, and the maps and lists themselves.
    fn whole(value: &Value, at: &Cursor<'_>) -> Self {
        Self::collected(value, at, Containers::With)
    }

    fn collected(value: &Value, at: &Cursor<'_>, containers: Containers) -> Self {
        let with = containers == Containers::With;
        match value {
            Value::Object(map) if !map.is_empty() && !at.is_atomic_map() => {
                let mut set = Self {
                    here: with && !at.is_always_there(),
                    below: BTreeMap::new(),
                };
                for (key, value) in map {
                    set.put(format!("f:{key}"), Self::collected(value, &at.field(key), containers));
                }
                set
            }
            Value::Array(list) if !list.is_empty() => match at.list_type() {
                ListType::Atomic => Self::leaf(),
                kind => {
                    let mut set = Self {
                        here: with,
                        below: BTreeMap::new(),
                    };
                    for item in list {
                        set.put(element_step(item, &kind), Self::of_element(item, &kind, at, containers));
                    }
                    set
                }
            },
            _ => Self::leaf(),
        }
    }

    fn of_element(item: &Value, kind: &ListType, at: &Cursor<'_>, containers: Containers) -> Self {
        match kind {
            ListType::Map(_) => {
                let mut set = Self::collected(item, &at.element(), containers);
                set.here = true;
                set
            }
            ListType::Set | ListType::Atomic => Self::leaf(),
        }
    }
}

/// Whether the maps and lists that hold fields count as fields too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Containers {
    With,
    Without,
}

/// The step to an element of a keyed list or a set.
pub(crate) fn element_step(item: &Value, kind: &ListType) -> String {
    match kind {
        ListType::Map(keys) => {
            let pairs: BTreeMap<&str, Value> = keys.iter().map(|key| (key.as_str(), key_value(item, key))).collect();
            format!("k:{}", serde_json::to_string(&pairs).unwrap_or_default())
        }
        ListType::Set | ListType::Atomic => format!("v:{item}"),
    }
}

/// A key's value; the one key that Kubernetes defaults is `protocol`.
fn key_value(item: &Value, key: &str) -> Value {
    match item.get(key) {
        Some(value) if !value.is_null() => value.clone(),
        _ if key == "protocol" => Value::from("TCP"),
        _ => Value::Null,
    }
}

fn shown(step: &str) -> String {
    match step.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("k:", keys)) => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let pairs: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", pairs.join(","))
        }
        Some((_, value)) => format!("[={value}]"),
        None => step.to_owned(),
    }
}

/// How an object became another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// New or with another value.
    pub(crate) changed: FieldSet,
    /// Gone.
    pub(crate) removed: FieldSet,
}

impl Difference {
    /// Between two values of one type.
    pub(crate) fn between(old: Option<&Value>, new: Option<&Value>, at: &Cursor<'_>) -> Self {
        match (old, new) {
            (None, None) => Self::default(),
            (None, Some(new)) => Self {
                changed: FieldSet::whole(new, at),
                removed: FieldSet::default(),
            },
            (Some(old), None) => Self {
                changed: FieldSet::default(),
                removed: FieldSet::whole(old, at),
            },
            (Some(old), Some(new)) if old == new => Self::default(),
            (Some(Value::Object(old)), Some(Value::Object(new))) if !at.is_atomic_map() => {
                let mut difference = Self::default();
                for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
                    let part = Self::between(old.get(key), new.get(key), &at.field(key));
                    difference.put(format!("f:{key}"), part);
                }
                difference
            }
            (Some(Value::Array(old)), Some(Value::Array(new))) if at.list_type() != ListType::Atomic => {
                Self::of_lists(old, new, at)
            }
            (Some(_), Some(_)) => Self {
                changed: FieldSet::leaf(),
                removed: FieldSet::default(),
            },
        }
    }

    fn of_lists(old: &[Value], new: &[Value], at: &Cursor<'_>) -> Self {
        let kind = at.list_type();
        let index = |list: &[Value]| -> BTreeMap<String, Value> {
            list.iter()
                .map(|item| (element_step(item, &kind), item.clone()))
                .collect()
        };
        let (old, new) = (index(old), index(new));
        let mut difference = Self::default();
        for (step, item) in &new {
            let part = match old.get(step) {
                Some(before) if matches!(kind, ListType::Map(_)) => {
                    Self::between(Some(before), Some(item), &at.element())
                }
                Some(_) => Self::default(),
                None => Self {
                    changed: FieldSet::of_element(item, &kind, at, Containers::With),
                    removed: FieldSet::default(),
                },
            };
            difference.put(step.clone(), part);
        }
        for (step, item) in old.iter().filter(|(step, _)| !new.contains_key(*step)) {
            let part = Self {
                changed: FieldSet::default(),
                removed: FieldSet::of_element(item, &kind, at, Containers::With),
            };
            difference.put(step.clone(), part);
        }
        difference
    }

    fn put(&mut self, step: String, part: Self) {
        self.changed.put(step.clone(), part.changed);
        self.removed.put(step, part.removed);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sets_survive_their_json_form() {
        let pod = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}], "nodeSelector": {"x": "y"}}});
        let set = FieldSet::of(&pod, &Cursor::built_in());
        assert_eq!(
            set.to_json(),
            json!({
                "f:metadata": {"f:labels": {"f:a": {}}},
                "f:spec": {
                    "f:containers": {"k:{\"name\":\"c\"}": {
                        ".": {}, "f:image": {}, "f:name": {},
                        "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                    }},
                    "f:nodeSelector": {},
                },
            })
        );
        assert_eq!(FieldSet::from_json(&set.to_json()), set);
    }

    #[test]
    fn differences_name_what_changed_and_what_went() {
        let at = Cursor::built_in();
        let old =
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b"}]}, "data": {"x": "1", "y": "1"}});
        let new = json!({"spec": {"containers": [{"name": "a", "image": "2"}]}, "data": {"x": "1", "z": "1"}});
        let difference = Difference::between(Some(&old), Some(&new), &at);
        assert_eq!(
            difference.changed.paths(),
            [".data.z", ".spec.containers[name=\"a\"].image"]
        );
        assert_eq!(
            difference.removed.paths(),
            [
                ".data.y",
                ".spec.containers[name=\"b\"]",
                ".spec.containers[name=\"b\"].name"
            ]
        );
    }

    #[test]
    fn set_algebra_holds() {
        let at = Cursor::built_in();
        let a = FieldSet::of(&json!({"x": 1, "y": {"z": 1}}), &at);
        let b = FieldSet::of(&json!({"y": {"z": 2, "w": 1}}), &at);
        assert_eq!(a.minus(&b).paths(), [".x"]);
        assert_eq!(a.common(&b).paths(), [".y.z"]);
        let mut all = a.clone();
        all.add(&b);
        assert!(all.minus(&a).minus(&b).is_empty());
    }
}
