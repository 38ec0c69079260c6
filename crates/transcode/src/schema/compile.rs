//! Descriptors into tables: what a message, a field and an enum of the schema are made from.

use ahash::AHashMap;
use prost_reflect::{
    Cardinality, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind as Reflected, MessageDescriptor, Value,
};

use super::tables::{DENSE, Enum, EnumId, Field, Kind, Message, MessageId, Shape, Traits, WellKnown};
use crate::behavior::Behavior;

/// The indices that types get.
pub(super) struct Ids {
    pub(super) messages: AHashMap<String, MessageId>,
    pub(super) enums: AHashMap<String, EnumId>,
}

impl Ids {
    fn kind(&self, kind: &Reflected, group: bool) -> Kind {
        match kind {
            Reflected::Double => Kind::Double,
            Reflected::Float => Kind::Float,
            Reflected::Int32 => Kind::Int32,
            Reflected::Int64 => Kind::Int64,
            Reflected::Uint32 => Kind::Uint32,
            Reflected::Uint64 => Kind::Uint64,
            Reflected::Sint32 => Kind::Sint32,
            Reflected::Sint64 => Kind::Sint64,
            Reflected::Fixed32 => Kind::Fixed32,
            Reflected::Fixed64 => Kind::Fixed64,
            Reflected::Sfixed32 => Kind::Sfixed32,
            Reflected::Sfixed64 => Kind::Sfixed64,
            Reflected::Bool => Kind::Bool,
            Reflected::String => Kind::String,
            Reflected::Bytes => Kind::Bytes,
            Reflected::Message(message) => {
                let id = self.messages.get(message.full_name()).copied().unwrap_or(MessageId(0));
                if group { Kind::Group(id) } else { Kind::Message(id) }
            }
            Reflected::Enum(enumeration) => {
                Kind::Enum(self.enums.get(enumeration.full_name()).copied().unwrap_or(EnumId(0)))
            }
        }
    }
}

pub(super) fn message(descriptor: &MessageDescriptor, ids: &Ids, traits: &Traits) -> Message {
    let mut fields: Vec<Field> = descriptor
        .fields()
        .map(|descriptor| field(&descriptor, ids, traits))
        .collect();
    fields.extend(
        descriptor
            .extensions()
            .map(|descriptor| extension(&descriptor, ids, traits)),
    );
    fields.sort_by_key(|field| field.number);
    let top = fields
        .iter()
        .map(|field| field.number)
        .filter(|number| *number < DENSE)
        .max()
        .unwrap_or(0);
    let mut dense = vec![0u16; top as usize + 1].into_boxed_slice();
    let mut names = AHashMap::new();
    for (field, index) in fields.iter().zip(0u16..) {
        if let Some(slot) = dense.get_mut(field.number as usize) {
            *slot = index + 1;
        }
        names.insert(field.json_name.clone(), index);
        names.entry(field.name.clone()).or_insert(index);
    }
    Message {
        full_name: descriptor.full_name().into(),
        fields: fields.into(),
        well_known: WellKnown::of(descriptor.full_name()),
        is_http_body: descriptor.full_name() == "google.api.HttpBody",
        dense,
        names,
    }
}

fn field(field: &FieldDescriptor, ids: &Ids, traits: &Traits) -> Field {
    let reflected = field.kind();
    // Entries of maps are never framed by tags, whatever the file says.
    let delimited = !field.is_map() && traits.delimited.contains(field.full_name());
    let mut kind = ids.kind(&reflected, field.is_group() || delimited);
    let shape = match &reflected {
        Reflected::Message(entry) if field.is_map() => {
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            kind = ids.kind(&value.kind(), value.is_group());
            Shape::Map {
                key: ids.kind(&key.kind(), false),
                value: kind,
            }
        }
        _ if field.cardinality() == Cardinality::Repeated => Shape::Repeated {
            packed: field.is_packed() || (traits.packed.contains(field.full_name()) && kind.packable()),
        },
        _ if kind.message().is_none() && traits.implicit.contains(field.full_name()) => Shape::Implicit,
        _ if field.supports_presence() => Shape::Explicit,
        _ => Shape::Implicit,
    };
    let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
    let oneof = oneof.and_then(|oneof| {
        let parent = field.parent_message();
        let position = parent.oneofs().position(|other| other.name() == oneof.name())?;
        u16::try_from(position).ok()
    });
    Field {
        number: field.number(),
        name: field.name().into(),
        json_name: field.json_name().into(),
        key: json_key(field.json_name()),
        kind,
        shape,
        oneof,
        // What only clients send is in no reply (AIP-203), so neither is its default.
        default_json: if Behavior::of(field).input_only {
            Box::default()
        } else {
            default_json(shape, &field.default_value(), &reflected)
        },
    }
}

fn extension(field: &ExtensionDescriptor, ids: &Ids, traits: &Traits) -> Field {
    let name: Box<str> = format!("[{}]", field.full_name()).into();
    let delimited = traits.delimited.contains(field.full_name());
    let kind = ids.kind(&field.kind(), field.is_group() || delimited);
    let shape = match field.cardinality() {
        Cardinality::Repeated => Shape::Repeated {
            packed: field.is_packed() || (traits.packed.contains(field.full_name()) && kind.packable()),
        },
        _ => Shape::Explicit,
    };
    Field {
        number: field.number(),
        key: json_key(&name),
        json_name: name.clone(),
        name,
        kind,
        shape,
        oneof: None,
        default_json: Box::default(),
    }
}

fn json_key(name: &str) -> Box<[u8]> {
    let mut key = Vec::with_capacity(name.len() + 3);
    crate::codec::text::write_string(&mut key, name);
    key.push(b':');
    key.into()
}

/// What an unset field looks like where defaults are written: scalars of implicit presence, lists and maps.
fn default_json(shape: Shape, default: &Value, kind: &Reflected) -> Box<[u8]> {
    let text: &[u8] = match shape {
        Shape::Explicit => b"",
        Shape::Repeated { .. } => b"[]",
        Shape::Map { .. } => b"{}",
        Shape::Implicit => match (kind, default) {
            (Reflected::Enum(e), Value::EnumNumber(number)) => {
                if e.full_name() == "google.protobuf.NullValue" {
                    return Box::from(b"null".as_slice());
                }
                let name = e
                    .get_value(*number)
                    .map(|value| value.name().to_owned())
                    .unwrap_or_default();
                return format!("\"{name}\"").into_bytes().into();
            }
            (Reflected::Bool, _) => b"false",
            (Reflected::String | Reflected::Bytes, _) => b"\"\"",
            (
                Reflected::Int64 | Reflected::Uint64 | Reflected::Sint64 | Reflected::Fixed64 | Reflected::Sfixed64,
                _,
            ) => b"\"0\"",
            (Reflected::Message(_), _) => b"",
            _ => b"0",
        },
    };
    text.into()
}

pub(super) fn enumeration(descriptor: &EnumDescriptor, traits: &Traits) -> Enum {
    let mut names = AHashMap::new();
    let mut numbers: Vec<(i32, Box<str>)> = Vec::new();
    for value in descriptor.values() {
        names.insert(value.name().into(), value.number());
        if numbers.iter().all(|(number, _)| *number != value.number()) {
            numbers.push((value.number(), value.name().into()));
        }
    }
    // `values()` is sorted by number in some pools, so the first declared name is looked up in the file itself.
    for (number, name) in &mut numbers {
        let declared = descriptor
            .enum_descriptor_proto()
            .value
            .iter()
            .find(|value| value.number() == *number);
        if let Some(first) = declared {
            *name = first.name().into();
        }
    }
    numbers.sort_by_key(|(number, _)| *number);
    Enum {
        full_name: descriptor.full_name().into(),
        is_null: descriptor.full_name() == "google.protobuf.NullValue",
        closed: descriptor.parent_file().syntax() == prost_reflect::Syntax::Proto2
            && !traits.open.contains(descriptor.full_name()),
        names,
        numbers: numbers.into(),
    }
}
