//! In which shape objects are answered: whole, metadata only, or as a table; and in which version.

use std::{borrow::Cow, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value, json};

use super::{
    convert, dig,
    exchange::{Answer, Target},
    request::RequestInfo,
    resource::{ResourceDef, VersionDef},
    status::ApiError,
    store::Object,
    table,
};

/// The shape that the client asks for by `Accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Full,
    Metadata,
    Table,
}

impl Shape {
    /// The first shape in `Accept` that is ours.
    pub(crate) fn of(info: &RequestInfo) -> Result<Self, ApiError> {
        if info.accept.trim().is_empty() {
            return Ok(Self::Full);
        }
        for option in info.accept.split(',') {
            let mut parts = option.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            if !matches!(media, "application/json" | "application/*" | "*/*") {
                continue;
            }
            let shape = parts.find_map(|part| part.strip_prefix("as="));
            match shape {
                None => return Ok(Self::Full),
                Some("Table") => return Ok(Self::Table),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => return Ok(Self::Metadata),
                Some(_) => {}
            }
        }
        Err(ApiError::not_acceptable(
            "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        ))
    }
}

/// How the objects of one request are written.
#[derive(Clone)]
pub(crate) struct Writer {
    def: Arc<ResourceDef>,
    version: String,
    shape: Shape,
    include: Include,
    now: jiff::Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Include {
    Nothing,
    Metadata,
    Object,
}

impl Writer {
    pub(crate) fn new(target: &Target<'_>) -> Result<Self, ApiError> {
        let include = match target.info.query.get("includeObject") {
            Some("None") => Include::Nothing,
            Some("Object") => Include::Object,
            Some("Metadata") | None => Include::Metadata,
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', 'Object', 'None', or empty"
                )));
            }
        };
        Ok(Self {
            def: target.def.clone(),
            version: target.version.name.clone(),
            shape: Shape::of(target.info)?,
            include,
            now: target.server.time().now(),
        })
    }

    fn version(&self) -> Option<&VersionDef> {
        self.def.version(&self.version)
    }

    fn in_version<'a>(&self, value: &'a Value) -> Cow<'a, Value> {
        if self.version == self.def.storage && !convert::needs_conversion(&self.def) {
            Cow::Borrowed(value)
        } else {
            Cow::Owned(convert::from_storage(&self.def, &self.version, value))
        }
    }

    /// One stored state.
    pub(crate) fn object(&self, object: &Object) -> Bytes {
        if self.shape == Shape::Full && self.version == self.def.storage && !convert::needs_conversion(&self.def) {
            return object.json();
        }
        self.value(&object.value)
    }

    /// One value in the storage version.
    pub(crate) fn value(&self, value: &Value) -> Bytes {
        let value = self.in_version(value);
        match self.shape {
            Shape::Full => Bytes::from(value.to_string()),
            Shape::Metadata => Bytes::from(partial(&value).to_string()),
            Shape::Table => Bytes::from(
                self.table([value.as_ref()].into_iter(), true, &list_meta(&value))
                    .to_string(),
            ),
        }
    }

    /// One value as an element of a watch; the header of a table goes only with the first.
    pub(crate) fn event(&self, value: &Value, first: bool) -> Bytes {
        let value = self.in_version(value);
        match self.shape {
            Shape::Table => Bytes::from(
                self.table([value.as_ref()].into_iter(), first, &list_meta(&value))
                    .to_string(),
            ),
            _ => self.value(value.as_ref()),
        }
    }

    /// Whether an event is the stored JSON as it is.
    pub(crate) fn is_verbatim(&self) -> bool {
        self.shape == Shape::Full && self.version == self.def.storage && !convert::needs_conversion(&self.def)
    }

    /// A bookmark's object.
    pub(crate) fn bookmark(&self, revision: u64, initial_end: bool) -> Value {
        let mut metadata = Map::new();
        metadata.insert("resourceVersion".to_owned(), json!(revision.to_string()));
        metadata.insert("creationTimestamp".to_owned(), Value::Null);
        if initial_end {
            metadata.insert("annotations".to_owned(), json!({"k8s.io/initial-events-end": "true"}));
        }
        match self.shape {
            Shape::Full => {
                let mut object = json!({"kind": self.def.kind, "apiVersion": self.def.api_version(&self.version), "metadata": metadata});
                if self.def.group.is_empty() && self.def.plural == "pods" {
                    dig::object(&mut object).insert("spec".to_owned(), json!({"containers": null}));
                }
                object
            }
            Shape::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            Shape::Table => {
                json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": null, "rows": []})
            }
        }
    }

    /// A list.
    pub(crate) fn list(&self, objects: &[Arc<Object>], meta: &Value) -> Answer {
        if self.shape == Shape::Table {
            let values: Vec<Cow<'_, Value>> = objects.iter().map(|object| self.in_version(&object.value)).collect();
            return Answer::json(200, &self.table(values.iter().map(AsRef::as_ref), true, meta));
        }
        let (kind, api_version) = match self.shape {
            Shape::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
            _ => (self.def.list_kind.clone(), self.def.api_version(&self.version)),
        };
        let mut body = BytesMut::new();
        let mut meta = meta.clone();
        if self.shape == Shape::Full && self.def.origin != super::Origin::BuiltIn {
            dig::object(&mut meta).entry("continue").or_insert_with(|| json!(""));
        }
        let head = json!({"kind": kind, "apiVersion": api_version, "metadata": meta}).to_string();
        body.put_slice(head.trim_end_matches('}').as_bytes());
        // The metadata object's own brace went with the trim; it is put back here.
        body.put_slice(b"},\"items\":[");
        for (index, object) in objects.iter().enumerate() {
            if index > 0 {
                body.put_u8(b',');
            }
            body.put_slice(&self.object(object));
        }
        body.put_slice(b"]}");
        Answer::bytes(200, body.freeze())
    }

    fn table<'a>(&self, values: impl Iterator<Item = &'a Value>, header: bool, meta: &Value) -> Value {
        let columns = table::columns(&self.def, self.version());
        let custom = self.def.origin != super::Origin::BuiltIn;
        let rows: Vec<Value> = values
            .map(|value| {
                let mut row = json!({"cells": table::cells(&columns, self.now, value, custom)});
                let object = match self.include {
                    Include::Nothing => None,
                    Include::Metadata => Some(partial(value)),
                    Include::Object => Some(value.clone()),
                };
                if let Some(object) = object {
                    dig::object(&mut row).insert("object".to_owned(), object);
                }
                row
            })
            .collect();
        let definitions = if header {
            table::definitions(&columns, custom)
        } else {
            Value::Null
        };
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "columnDefinitions": definitions, "rows": rows})
    }
}

fn list_meta(value: &Value) -> Value {
    json!({"resourceVersion": dig::meta(value, "resourceVersion")})
}

fn partial(value: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": value.get("metadata").cloned().unwrap_or_default(),
    })
}
