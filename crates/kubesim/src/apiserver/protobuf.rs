//! Bodies in Kubernetes' protobuf encoding, for the few types that `kubectl create` and `kubectl auth can-i` send so.
//!
//! Table-driven: a message is a list of field numbers with names and shapes. Kinds outside the table are refused with 415, which says to send JSON.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::status::ApiError;

/// What every encoded object begins with.
const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may nest.
const MAX_DEPTH: usize = 16;

#[derive(Clone, Copy)]
enum Shape {
    Text,
    Texts,
    Number,
    Truth,
    /// `map<string, string>`.
    TextMap,
    /// `map<string, bytes>`.
    BytesMap,
    One(&'static [Field]),
}

type Field = (u64, &'static str, Shape);

const METADATA: &[Field] = &[
    (1, "name", Shape::Text),
    (2, "generateName", Shape::Text),
    (3, "namespace", Shape::Text),
    (11, "labels", Shape::TextMap),
    (12, "annotations", Shape::TextMap),
    (14, "finalizers", Shape::Texts),
];
const META_ONLY: &[Field] = &[(1, "metadata", Shape::One(METADATA))];
const CONFIG_MAP: &[Field] = &[
    (1, "metadata", Shape::One(METADATA)),
    (2, "data", Shape::TextMap),
    (3, "binaryData", Shape::BytesMap),
    (4, "immutable", Shape::Truth),
];
const SECRET: &[Field] = &[
    (1, "metadata", Shape::One(METADATA)),
    (2, "data", Shape::BytesMap),
    (3, "type", Shape::Text),
    (4, "stringData", Shape::TextMap),
    (5, "immutable", Shape::Truth),
];
const RESOURCE_ATTRIBUTES: &[Field] = &[
    (1, "namespace", Shape::Text),
    (2, "verb", Shape::Text),
    (3, "group", Shape::Text),
    (4, "version", Shape::Text),
    (5, "resource", Shape::Text),
    (6, "subresource", Shape::Text),
    (7, "name", Shape::Text),
];
const PATH_ATTRIBUTES: &[Field] = &[(1, "path", Shape::Text), (2, "verb", Shape::Text)];
const ACCESS_SPEC: &[Field] = &[
    (1, "resourceAttributes", Shape::One(RESOURCE_ATTRIBUTES)),
    (2, "nonResourceAttributes", Shape::One(PATH_ATTRIBUTES)),
];
const ACCESS: &[Field] = &[
    (1, "metadata", Shape::One(METADATA)),
    (2, "spec", Shape::One(ACCESS_SPEC)),
];
const TOKEN_SPEC: &[Field] = &[(1, "audiences", Shape::Texts), (4, "expirationSeconds", Shape::Number)];
const TOKEN: &[Field] = &[
    (1, "metadata", Shape::One(METADATA)),
    (2, "spec", Shape::One(TOKEN_SPEC)),
];
const PRECONDITIONS: &[Field] = &[(1, "uid", Shape::Text), (2, "resourceVersion", Shape::Text)];
const DELETE_OPTIONS: &[Field] = &[
    (1, "gracePeriodSeconds", Shape::Number),
    (2, "preconditions", Shape::One(PRECONDITIONS)),
    (4, "propagationPolicy", Shape::Text),
    (5, "dryRun", Shape::Texts),
];
const EVICTION: &[Field] = &[
    (1, "metadata", Shape::One(METADATA)),
    (2, "deleteOptions", Shape::One(DELETE_OPTIONS)),
];
const TYPE: &[Field] = &[(1, "apiVersion", Shape::Text), (2, "kind", Shape::Text)];

fn table(kind: &str) -> Option<&'static [Field]> {
    match kind {
        "Namespace" | "ServiceAccount" => Some(META_ONLY),
        "ConfigMap" => Some(CONFIG_MAP),
        "Secret" => Some(SECRET),
        "SelfSubjectAccessReview" => Some(ACCESS),
        "TokenRequest" => Some(TOKEN),
        "DeleteOptions" => Some(DELETE_OPTIONS),
        "Eviction" => Some(EVICTION),
        _ => None,
    }
}

/// Decodes a body.
///
/// # Errors
///
/// 415 for a kind outside the table, 400 for bytes that are no message.
pub(crate) fn decode(body: &[u8]) -> Result<Value, ApiError> {
    let envelope = body.strip_prefix(MAGIC).ok_or_else(broken)?;
    let (mut kind, mut raw) = (Value::Null, None);
    for (number, wire) in fields(envelope)? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => kind = message(bytes, TYPE, 0)?,
            (2, Wire::Bytes(bytes)) => raw = Some(bytes),
            _ => {}
        }
    }
    let name = kind.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let table = table(&name).ok_or_else(|| {
        ApiError::unsupported_media_type("accepted media types include: application/json, application/yaml")
    })?;
    let mut object = message(raw.unwrap_or_default(), table, 0)?;
    if let (Some(object), Some(kind)) = (object.as_object_mut(), kind.as_object()) {
        object.extend(kind.clone());
    }
    Ok(object)
}

fn broken() -> ApiError {
    ApiError::bad_request("the body is not a Kubernetes protobuf message")
}

enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Wire<'a>)> {
    let key = varint(rest)?;
    let wire = match key & 7 {
        0 => Wire::Number(varint(rest)?),
        1 => take(rest, 8).map(|_| Wire::Other)?,
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Wire::Bytes(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| Wire::Other)?,
        _ => return None,
    };
    Some((key >> 3, wire))
}

fn fields(mut rest: &[u8]) -> Result<Vec<(u64, Wire<'_>)>, ApiError> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        found.push(field(&mut rest).ok_or_else(broken)?);
    }
    Ok(found)
}

fn text(bytes: &[u8]) -> Result<String, ApiError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| broken())
}

/// A message by its table; Go writes empty fields, which JSON leaves out.
fn message(bytes: &[u8], table: &[Field], depth: usize) -> Result<Value, ApiError> {
    if depth > MAX_DEPTH {
        return Err(broken());
    }
    let mut object = Map::new();
    for (number, wire) in fields(bytes)? {
        let Some((_, name, shape)) = table.iter().find(|(known, _, _)| *known == number) else {
            continue;
        };
        match (shape, wire) {
            (Shape::Text, Wire::Bytes(bytes)) if !bytes.is_empty() => {
                object.insert((*name).to_owned(), json!(text(bytes)?));
            }
            (Shape::Texts, Wire::Bytes(bytes)) => {
                if let Some(list) = object.entry(*name).or_insert_with(|| json!([])).as_array_mut() {
                    list.push(json!(text(bytes)?));
                }
            }
            (Shape::Number, Wire::Number(number)) => {
                object.insert((*name).to_owned(), json!(number.cast_signed()));
            }
            (Shape::Truth, Wire::Number(number)) => {
                object.insert((*name).to_owned(), json!(number != 0));
            }
            (Shape::TextMap | Shape::BytesMap, Wire::Bytes(bytes)) => {
                let (key, value) = entry(bytes)?;
                let value = if matches!(shape, Shape::BytesMap) {
                    STANDARD.encode(value)
                } else {
                    text(value)?
                };
                super::dig::object(object.entry(*name).or_insert(Value::Null)).insert(key, json!(value));
            }
            (Shape::One(table), Wire::Bytes(bytes)) => {
                let inner = message(bytes, table, depth + 1)?;
                if !super::dig::is_void(&inner) {
                    object.insert((*name).to_owned(), inner);
                }
            }
            _ => {}
        }
    }
    Ok(Value::Object(object))
}

fn entry(bytes: &[u8]) -> Result<(String, &[u8]), ApiError> {
    let (mut key, mut value): (String, &[u8]) = (String::new(), &[]);
    for (number, wire) in fields(bytes)? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend_from_slice(bytes);
        out
    }

    fn mk_body(kind: &str, raw: &[u8]) -> Vec<u8> {
        let kind = [tagged(1, b"v1"), tagged(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), tagged(1, &kind), tagged(2, raw)].concat()
    }

    #[test]
    fn a_secret_is_read_without_its_empty_fields() {
        let metadata = [tagged(1, b"s"), tagged(2, b"")].concat();
        let data = [tagged(1, b"k"), tagged(2, b"v")].concat();
        let body = mk_body(
            "Secret",
            &[tagged(1, &metadata), tagged(2, &data), tagged(3, b"")].concat(),
        );
        assert_eq!(
            decode(&body).unwrap(),
            json!({"metadata": {"name": "s"}, "data": {"k": "dg=="}, "apiVersion": "v1", "kind": "Secret"})
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert_eq!(decode(&mk_body("Deployment", b"")).unwrap_err().code, 415);
        for bad in [&b"{}"[..], b"k8s\0\x0a\xff", b"k8s\0\x0b"] {
            assert_eq!(decode(bad).unwrap_err().code, 400);
        }
    }
}
