//! Digests of messages: etags, and what tells a repeated request from another one.

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Value};
use sha2::{Digest, Sha256};

use super::descriptor::{NOT_WRITABLE, dynamic, is};
use crate::{error::RpcError, standard::Resource};

/// The version of what a client may change of a resource: the same as long as nobody changes a field that can be written. What
/// is only shown (state, conditions, times) does not count. `more` is what counts besides.
///
/// # Errors
/// `INTERNAL` if the message has no descriptor.
pub fn etag<R: Resource>(resource: &R, more: &str) -> Result<String, RpcError> {
    let message = dynamic(R::MESSAGE, resource)?;
    let mut hash = Sha256::new();
    for part in [resource.uid(), more] {
        text_into(&mut hash, part);
    }
    canonical(&mut hash, &message, &|field| {
        field.name() != "etag" && !is(field, &NOT_WRITABLE)
    });
    Ok(hex(hash))
}

/// Digest of what a request asks for: everything but the request id and whether it only checks.
///
/// # Errors
/// `INTERNAL` if `full_name` is not that of the request.
pub fn request_hash<M: Message>(full_name: &str, request: &M) -> Result<String, RpcError> {
    let message = dynamic(full_name, request)?;
    let mut hash = Sha256::new();
    text_into(&mut hash, full_name);
    canonical(&mut hash, &message, &|field| {
        !matches!(field.name(), "request_id" | "validate_only")
    });
    Ok(hex(hash))
}

/// Bytes of a digest that are kept: these guard against mistakes, not against forgery.
const DIGEST: usize = 12;

fn hex(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .take(DIGEST)
        .fold(String::new(), |mut text, byte| {
            use std::fmt::Write;
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn text_into(hash: &mut Sha256, text: &str) {
    hash.update(text.len().to_be_bytes());
    hash.update(text);
}

/// A message as bytes that are the same for the same content: fields by number, map entries by key.
fn canonical(hash: &mut Sha256, message: &DynamicMessage, counts: &dyn Fn(&FieldDescriptor) -> bool) {
    let mut fields: Vec<_> = message.fields().filter(|(field, _)| counts(field)).collect();
    fields.sort_by_key(|(field, _)| field.number());
    hash.update(fields.len().to_be_bytes());
    for (field, value) in fields {
        hash.update(field.number().to_be_bytes());
        canonical_value(hash, value, counts);
    }
}

fn canonical_value(hash: &mut Sha256, value: &Value, counts: &dyn Fn(&FieldDescriptor) -> bool) {
    match value {
        Value::Message(message) => canonical(hash, message, counts),
        Value::List(items) => {
            hash.update(items.len().to_be_bytes());
            for item in items {
                canonical_value(hash, item, counts);
            }
        }
        Value::Map(map) => {
            let mut entries: Vec<(String, &Value)> = map.iter().map(|(key, v)| (format!("{key:?}"), v)).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            hash.update(entries.len().to_be_bytes());
            for (key, value) in entries {
                text_into(hash, &key);
                canonical_value(hash, value, counts);
            }
        }
        Value::String(text) => text_into(hash, text),
        Value::Bytes(bytes) => {
            hash.update(bytes.len().to_be_bytes());
            hash.update(bytes);
        }
        scalar => text_into(hash, &format!("{scalar:?}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{
        standard::Create,
        templating::v1::{CreateImageRequest, Image, image::State},
    };

    fn mk_image() -> Image {
        Image {
            name: "images/ubuntu".into(),
            uid: "u".into(),
            size: "10Gi".into(),
            labels: (0..20).map(|n| (format!("k{n}"), n.to_string())).collect(),
            ..Image::default()
        }
    }

    fn of(image: &Image) -> String {
        etag(image, "").expect("an etag")
    }

    #[test]
    fn an_etag_follows_what_can_be_written_and_nothing_else() {
        let (before, image) = (of(&mk_image()), mk_image());
        let same = [
            Image {
                state: State::Failed.into(),
                ..image.clone()
            },
            Image {
                etag: "other".into(),
                ..image.clone()
            },
            Image {
                update_time: Some(prost_types::Timestamp::default()),
                reconciling: true,
                ..image.clone()
            },
            Image {
                labels: image.labels.clone().into_iter().collect(),
                ..image.clone()
            },
        ];
        for image in same {
            assert_eq!(of(&image), before);
        }
        let others = [
            Image {
                size: "11Gi".into(),
                ..image.clone()
            },
            Image {
                uid: "v".into(),
                ..image.clone()
            },
            Image {
                labels: HashMap::new(),
                ..image.clone()
            },
            Image {
                annotations: HashMap::from([("a".to_owned(), String::new())]),
                ..image.clone()
            },
        ];
        for image in others {
            assert_ne!(of(&image), before);
        }
        assert_ne!(etag(&mk_image(), "drain").expect("an etag"), before);
    }

    #[test]
    fn a_request_is_known_again_by_what_it_asks_for() {
        let request = CreateImageRequest {
            image_id: "ubuntu".into(),
            image: Some(mk_image()),
            request_id: "a".into(),
            ..CreateImageRequest::default()
        };
        let hash = |r: &CreateImageRequest| request_hash(CreateImageRequest::MESSAGE, r).expect("a hash");
        let again = CreateImageRequest {
            request_id: "b".into(),
            validate_only: true,
            ..request.clone()
        };
        assert_eq!(hash(&again), hash(&request));
        let other = CreateImageRequest {
            parent: "projects/a".into(),
            ..request.clone()
        };
        assert_ne!(hash(&other), hash(&request));
    }
}
