//! What can be done to every resource alike, because its descriptor says how: update masks and filters.

use std::{borrow::Cow, sync::LazyLock};

use prost::Message;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage,
    Value,
};
use steading_model::filter::{FieldValue, Fields};

use crate::{FILE_DESCRIPTOR_SET, error::RpcError, types::v1::ErrorReason};

/// `google.api.field_behavior`.
const FIELD_BEHAVIOR: &str = "google.api.field_behavior";
/// Values of it that mean that a client cannot write the field: OUTPUT_ONLY and IDENTIFIER.
const NOT_WRITABLE: [i32; 2] = [3, 8];
/// IMMUTABLE.
const IMMUTABLE: i32 = 5;

static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());

/// Descriptor of a message by its full name. `None` only if the name is wrong.
pub fn descriptor(full_name: &str) -> Option<MessageDescriptor> {
    POOL.as_ref()?.get_message_by_name(full_name)
}

/// A message with its descriptor.
///
/// # Errors
/// `INTERNAL` if the name is not that of the message.
pub fn dynamic<M: Message>(full_name: &str, message: &M) -> Result<DynamicMessage, RpcError> {
    let descriptor = descriptor(full_name).ok_or_else(RpcError::internal)?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).map_err(|_| RpcError::internal())?;
    Ok(dynamic)
}

/// Applies an update (AIP-134): the fields of `mask` go from `wanted` into a copy of `current`. No mask, or an empty one,
/// means the fields that are set in `wanted`, `*` every field that can be written. `field` is the name of the
/// resource in the request, for paths in errors.
///
/// # Errors
/// `INVALID_UPDATE_MASK` if a path does not exist or cannot be written, `IMMUTABLE_FIELD` if an immutable field would change.
pub fn update<M: Message + Default>(
    full_name: &str,
    field: &str,
    current: &M,
    wanted: &M,
    mask: Option<&prost_types::FieldMask>,
) -> Result<M, RpcError> {
    let before = dynamic(full_name, current)?;
    let wanted = dynamic(full_name, wanted)?;
    let mut after = before.clone();
    let paths = mask.map(|m| m.paths.as_slice()).unwrap_or_default();
    if paths.is_empty() || paths.iter().any(|path| path == "*") {
        let everything = !paths.is_empty();
        let descriptor = before.descriptor();
        let writable = || {
            descriptor
                .fields()
                .filter(|f| f.name() != "etag" && !is(f, &NOT_WRITABLE))
        };
        if everything {
            writable().for_each(|f| after.clear_field(&f));
        }
        for each in writable().filter(|f| wanted.has_field(f)) {
            after.set_field(&each, wanted.get_field(&each).into_owned());
        }
    } else {
        for path in paths {
            let segments: Vec<&str> = path.split('.').collect();
            copy(&mut after, &wanted, &segments).map_err(|fault| {
                RpcError::new(
                    ErrorReason::InvalidUpdateMask,
                    format!("update_mask path {path:?} {fault}"),
                )
                .with_field("update_mask", format!("{path:?} {fault}"))
            })?;
        }
    }
    if let Some(changed) = before
        .descriptor()
        .fields()
        .find(|f| is(f, &[IMMUTABLE]) && before.get_field(f).as_ref() != after.get_field(f).as_ref())
    {
        let path = format!("{field}.{}", changed.name());
        return Err(
            RpcError::new(ErrorReason::ImmutableField, format!("{path} cannot be changed"))
                .with_field(path, "cannot be changed after creation"),
        );
    }
    after.transcode_to().map_err(|_| RpcError::internal())
}

fn is(field: &FieldDescriptor, behaviors: &[i32]) -> bool {
    let Some(extension) = field.parent_pool().get_extension_by_name(FIELD_BEHAVIOR) else {
        return false;
    };
    let options = field.options();
    let value = options.get_extension(&extension);
    value.as_list().is_some_and(|list| {
        list.iter()
            .filter_map(Value::as_enum_number)
            .any(|n| behaviors.contains(&n))
    })
}

fn copy(target: &mut DynamicMessage, source: &DynamicMessage, path: &[&str]) -> Result<(), &'static str> {
    let Some((first, rest)) = path.split_first() else {
        return Err("is empty");
    };
    let descriptor = source.descriptor();
    let field = descriptor
        .get_field_by_name(first)
        .or_else(|| descriptor.get_field_by_json_name(first))
        .ok_or("does not exist")?;
    if field.name() == "etag" || is(&field, &NOT_WRITABLE) {
        return Err("cannot be written");
    }
    if rest.is_empty() {
        if source.has_field(&field) {
            target.set_field(&field, source.get_field(&field).into_owned());
        } else {
            target.clear_field(&field);
        }
        return Ok(());
    }
    let from = source.get_field(&field);
    if field.is_map() {
        // Keys of labels contain dots.
        let key = MapKey::String(rest.join("."));
        let value = from.as_map().and_then(|map| map.get(&key)).cloned();
        let map = target.get_field_mut(&field).as_map_mut().ok_or("is not a map")?;
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
        return Ok(());
    }
    let inner = from
        .as_message()
        .filter(|_| !field.is_list())
        .ok_or("goes into a field that is not a message")?;
    copy(
        target
            .get_field_mut(&field)
            .as_message_mut()
            .ok_or("is not a message")?,
        inner,
        rest,
    )
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
    // The zero value is <PREFIX>_UNSPECIFIED by our lint rules.
    let prefix = kind
        .default_value()
        .name()
        .strip_suffix("UNSPECIFIED")
        .unwrap_or_default()
        .to_owned();
    let full = value.name().to_owned();
    let short = full.strip_prefix(&prefix).unwrap_or(&full).to_owned();
    FieldValue::List(vec![Cow::Owned(short), Cow::Owned(full)])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use steading_model::filter::Filter;

    use super::*;
    use crate::templating::v1::{
        HttpSource, Image, RegistrySource,
        image::{Source, State},
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
            source: Some(Source::Http(HttpSource {
                url: "https://a".into(),
                ..HttpSource::default()
            })),
            ..Image::default()
        }
    }

    fn mask(paths: &[&str]) -> prost_types::FieldMask {
        prost_types::FieldMask {
            paths: paths.iter().map(ToString::to_string).collect(),
        }
    }

    fn reason(result: Result<Image, RpcError>) -> ErrorReason {
        result.expect_err("an error").reason()
    }

    #[test]
    fn without_a_mask_what_is_set_is_written_and_output_stays() {
        let wanted = Image {
            size: "20Gi".into(),
            state: State::Failed.into(),
            uid: "forged".into(),
            ..Image::default()
        };
        let after = update(IMAGE, "image", &mk_image(), &wanted, None).expect("valid");
        assert_eq!(
            after,
            Image {
                size: "20Gi".into(),
                ..mk_image()
            }
        );
    }

    #[test]
    fn the_star_clears_what_is_not_set() {
        let wanted = Image {
            size: "20Gi".into(),
            ..Image::default()
        };
        let after = update(IMAGE, "image", &mk_image(), &wanted, Some(&mask(&["*"]))).expect("valid");
        assert_eq!(
            (after.os.as_str(), after.state(), after.labels.len()),
            ("", State::Ready, 0)
        );
        assert_eq!(after.source, None);
        assert_eq!(after.name, "images/ubuntu");
    }

    #[test]
    fn paths_reach_into_messages_and_maps() {
        let wanted = Image {
            source: Some(Source::Http(HttpSource {
                url: "https://b".into(),
                checksum: "sha256:x".into(),
                ..HttpSource::default()
            })),
            labels: HashMap::from([("example.com/team".to_owned(), "z".to_owned())]),
            ..Image::default()
        };
        let paths = mask(&["http.url", "labels.example.com/team", "labels.b"]);
        let after = update(IMAGE, "image", &mk_image(), &wanted, Some(&paths)).expect("valid");
        let Some(Source::Http(http)) = after.source else {
            panic!("http stays")
        };
        assert_eq!((http.url.as_str(), http.checksum.as_str()), ("https://b", ""));
        assert_eq!(
            after.labels,
            HashMap::from([("example.com/team".to_owned(), "z".to_owned())])
        );
    }

    #[test]
    fn another_member_of_a_oneof_replaces_the_first() {
        let wanted = Image {
            source: Some(Source::Registry(RegistrySource {
                url: "docker://x".into(),
                ..RegistrySource::default()
            })),
            ..Image::default()
        };
        let after = update(IMAGE, "image", &mk_image(), &wanted, Some(&mask(&["registry"]))).expect("valid");
        assert!(matches!(after.source, Some(Source::Registry(_))));
    }

    #[test]
    fn wrong_paths_are_refused() {
        for path in ["nothing", "state", "name", "etag", "size.x", "conditions.type", ""] {
            let result = update(IMAGE, "image", &mk_image(), &mk_image(), Some(&mask(&[path])));
            assert_eq!(reason(result), ErrorReason::InvalidUpdateMask, "{path}");
        }
    }

    #[test]
    fn filters_look_into_every_kind_of_field() {
        let fields = filter_fields(IMAGE);
        let known: Vec<&str> = fields.iter().map(String::as_str).collect();
        let image = Filterable(dynamic(IMAGE, &mk_image()).expect("an image"));
        for (filter, expected) in [
            ("state=READY", true),
            ("state=STATE_READY AND os=ubuntu", true),
            ("state!=READY", false),
            ("labels.\"example.com/team\"=a", true),
            ("labels.b=2", false),
            ("reconciling=false", true),
            ("os_version:*", false),
        ] {
            let parsed = Filter::parse(filter, &known).expect(filter);
            assert_eq!(parsed.matches(&image), expected, "{filter}");
        }
        assert!(Filter::parse("http=x", &known).is_err());
    }
}
