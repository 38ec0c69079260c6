//! Update masks (AIP-134, AIP-161).

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, MapKey, ReflectMessage, Value};

use super::descriptor::{NOT_WRITABLE, dynamic, is};
use crate::{error::RpcError, types::v1::ErrorReason};

/// INPUT_ONLY.
const INPUT_ONLY: i32 = 4;
/// IMMUTABLE.
const IMMUTABLE: i32 = 5;

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
            let copied = segments(path).and_then(|segments| copy(&mut after, &wanted, &segments));
            copied.map_err(|fault| {
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
        .find(|f| is(f, &[IMMUTABLE]) && stored(&before, f) != stored(&after, f))
    {
        let path = format!("{field}.{}", changed.name());
        return Err(
            RpcError::new(ErrorReason::ImmutableField, format!("{path} cannot be changed"))
                .with_field(path, "cannot be changed after creation"),
        );
    }
    after.transcode_to().map_err(|_| RpcError::internal())
}

/// The value of a field without what only clients send, such as a kubeconfig: that is never read back, so it always differs.
fn stored(message: &DynamicMessage, field: &FieldDescriptor) -> Value {
    let mut value = message.get_field(field).into_owned();
    if let Some(inner) = value.as_message_mut() {
        let sent: Vec<_> = inner.descriptor().fields().filter(|f| is(f, &[INPUT_ONLY])).collect();
        for each in &sent {
            inner.clear_field(each);
        }
    }
    value
}

/// A segment of a mask's path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment<'a> {
    /// As it is written.
    Plain(&'a str),
    /// Between backticks, as AIP-161 wants map keys that are no identifiers.
    Quoted(&'a str),
}

impl<'a> Segment<'a> {
    fn text(&self) -> &'a str {
        match self {
            Self::Plain(text) | Self::Quoted(text) => text,
        }
    }
}

/// The segments of a path: separated by dots, but for those between backticks.
fn segments(path: &str) -> Result<Vec<Segment<'_>>, &'static str> {
    const UNBALANCED: &str = "has a backtick without its counterpart";
    let mut segments = Vec::new();
    let mut rest = path;
    loop {
        let after = if let Some(quoted) = rest.strip_prefix('`') {
            let (text, after) = quoted.split_once('`').ok_or(UNBALANCED)?;
            segments.push(Segment::Quoted(text));
            after
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            let (text, after) = rest.split_at(end);
            if text.contains('`') {
                return Err(UNBALANCED);
            }
            segments.push(Segment::Plain(text));
            after
        };
        if after.is_empty() {
            return Ok(segments);
        }
        rest = after.strip_prefix('.').ok_or("has something behind a backtick")?;
    }
}

/// The key that the rest of a path means: one quoted segment, or all of it with its dots, as labels have them.
fn map_key(path: &[Segment<'_>]) -> Result<String, &'static str> {
    match path {
        [Segment::Quoted("")] => Err("has an empty map key"),
        [Segment::Quoted(key)] => Ok((*key).to_owned()),
        plain if plain.iter().all(|s| matches!(s, Segment::Plain(_))) => {
            Ok(plain.iter().map(Segment::text).collect::<Vec<_>>().join("."))
        }
        _ => Err("goes into the value of a map"),
    }
}

fn copy(target: &mut DynamicMessage, source: &DynamicMessage, path: &[Segment<'_>]) -> Result<(), &'static str> {
    let Some((first, rest)) = path.split_first() else {
        return Err("is empty");
    };
    let first = first.text();
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
        let key = MapKey::String(map_key(rest)?);
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::lifecycle::v1::{Cluster, ExternalControlPlane, cluster::ControlPlane};
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
    fn a_map_key_in_backticks_is_the_key_between_them() {
        let wanted = Image {
            labels: HashMap::from([("example.com/team".to_owned(), "z".to_owned())]),
            ..Image::default()
        };
        for path in [
            "labels.`example.com/team`",
            "labels.example.com/team",
            "`labels`.`example.com/team`",
        ] {
            let after = update(IMAGE, "image", &mk_image(), &wanted, Some(&mask(&[path]))).expect("valid");
            assert_eq!(
                after.labels.get("example.com/team").map(String::as_str),
                Some("z"),
                "{path}"
            );
            assert_eq!(after.labels.len(), 2, "{path}");
        }
        let after = update(
            IMAGE,
            "image",
            &mk_image(),
            &Image::default(),
            Some(&mask(&["labels.`b`"])),
        );
        assert!(!after.expect("valid").labels.contains_key("b"));
    }

    #[test]
    fn backticks_that_mean_nothing_are_refused() {
        for path in [
            "labels.`b",
            "labels.b`",
            "labels.`b`c",
            "labels.``",
            "labels.`b`.c",
            "`",
            "labels.a`b`",
        ] {
            let result = update(IMAGE, "image", &mk_image(), &mk_image(), Some(&mask(&[path])));
            assert_eq!(reason(result), ErrorReason::InvalidUpdateMask, "{path}");
        }
    }

    #[test]
    fn what_only_clients_send_changes_no_immutable_field() {
        let mk = |secret: &str, kubeconfig: &[u8]| Cluster {
            control_plane: Some(ControlPlane::External(ExternalControlPlane {
                kubeconfig_secret: secret.into(),
                kubeconfig: kubeconfig.to_vec(),
            })),
            ..Cluster::default()
        };
        let change = |wanted: &Cluster, path: &str| {
            let name = "steading.lifecycle.v1.Cluster";
            update(name, "cluster", &mk("kubeconfig", b""), wanted, Some(&mask(&[path])))
        };
        let sent = mk("other", b"new");
        assert_eq!(change(&sent, "external.kubeconfig").unwrap(), mk("kubeconfig", b"new"));
        for path in ["external", "external.kubeconfig_secret"] {
            let refused = change(&sent, path).unwrap_err();
            assert_eq!(refused.reason(), ErrorReason::ImmutableField, "{path}");
        }
    }
}
