//! Where in a type one stands: which lists merge by key, which maps are one value. From a CRD's schema, or from the table of built-in types.

use serde_json::Value;

use super::{
    lists,
    resource::{Origin, ResourceDef, VersionDef},
};

pub(crate) use super::lists::ListType;

/// A place in a type.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    kind: Kind<'a>,
    path: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Kind<'a> {
    Schema(&'a Value),
    BuiltIn,
    /// A type without a schema here: lists are one value.
    Plain,
}

impl<'a> Cursor<'a> {
    /// The root of a resource's type.
    pub(crate) fn root(def: &ResourceDef, version: &'a VersionDef) -> Self {
        let kind = match (def.origin, &version.schema) {
            (Origin::BuiltIn, _) => Kind::BuiltIn,
            (_, Some(schema)) => Kind::Schema(schema.as_ref()),
            (_, None) => Kind::Plain,
        };
        Self { kind, path: Vec::new() }
    }

    #[cfg(test)]
    pub(crate) fn built_in() -> Self {
        Self {
            kind: Kind::BuiltIn,
            path: Vec::new(),
        }
    }

    /// The place of a field.
    pub(crate) fn field(&self, key: &str) -> Self {
        let kind = match self.kind {
            _ if self.path.is_empty() && key == "metadata" => Kind::BuiltIn,
            Kind::Schema(schema) => {
                let named = schema.get("properties").and_then(|properties| properties.get(key));
                named
                    .or_else(|| schema.get("additionalProperties").filter(|more| more.is_object()))
                    .map_or(Kind::Plain, Kind::Schema)
            }
            other => other,
        };
        let mut path = self.path.clone();
        path.push(key.to_owned());
        Self { kind, path }
    }

    /// The place of any element of the list here.
    pub(crate) fn element(&self) -> Self {
        let kind = match self.kind {
            Kind::Schema(schema) => schema.get("items").map_or(Kind::Plain, Kind::Schema),
            other => other,
        };
        Self {
            kind,
            path: self.path.clone(),
        }
    }

    /// How the list here merges.
    pub(crate) fn list_type(&self) -> ListType {
        match self.kind {
            Kind::BuiltIn => lists::built_in_list(&self.path),
            Kind::Plain if self.path.last().is_some_and(|name| name == "topologySpreadConstraints") => {
                lists::built_in_list(&self.path)
            }
            Kind::Plain => ListType::Atomic,
            Kind::Schema(schema) => match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
                Some("map") => {
                    let keys = schema
                        .get("x-kubernetes-list-map-keys")
                        .and_then(Value::as_array)
                        .into_iter()
                        .flatten();
                    ListType::Map(keys.filter_map(Value::as_str).map(str::to_owned).collect())
                }
                Some("set") => ListType::Set,
                _ => ListType::Atomic,
            },
        }
    }

    /// Whether the map here is a part that is never left out, so that nobody makes or removes it.
    pub(crate) fn is_always_there(&self) -> bool {
        matches!(self.kind, Kind::BuiltIn) && lists::always_there(&self.path)
    }

    /// Whether the map here is one value.
    pub(crate) fn is_atomic_map(&self) -> bool {
        match self.kind {
            Kind::BuiltIn => lists::built_in_atomic_map(&self.path),
            Kind::Plain => false,
            Kind::Schema(schema) => schema.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic"),
        }
    }
}
