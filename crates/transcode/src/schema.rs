//! Descriptors compiled into what the codec asks for per byte: dense tables instead of reference-counted handles.
//!
//! Built once from a [`DescriptorPool`]; afterwards immutable and shared.

use ahash::{AHashMap, AHashSet};
use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind as Reflected,
    MessageDescriptor, Value,
};

use crate::behavior::Behavior;

/// Index of a message type in its [`Schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(u32);

/// Index of an enum type in its [`Schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnumId(u32);

/// Types whose JSON is not that of an ordinary message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WellKnown {
    /// An ordinary message.
    No,
    /// `google.protobuf.Any`.
    Any,
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// `google.protobuf.Duration`.
    Duration,
    /// `google.protobuf.FieldMask`.
    FieldMask,
    /// `google.protobuf.Struct`.
    Struct,
    /// `google.protobuf.Value`.
    Value,
    /// `google.protobuf.ListValue`.
    ListValue,
    /// `google.protobuf.Int32Value` and its siblings: field 1 is the value.
    Wrapper,
}

impl WellKnown {
    fn of(full_name: &str) -> Self {
        match full_name {
            "google.protobuf.Any" => Self::Any,
            "google.protobuf.Timestamp" => Self::Timestamp,
            "google.protobuf.Duration" => Self::Duration,
            "google.protobuf.FieldMask" => Self::FieldMask,
            "google.protobuf.Struct" => Self::Struct,
            "google.protobuf.Value" => Self::Value,
            "google.protobuf.ListValue" => Self::ListValue,
            "google.protobuf.DoubleValue"
            | "google.protobuf.FloatValue"
            | "google.protobuf.Int64Value"
            | "google.protobuf.UInt64Value"
            | "google.protobuf.Int32Value"
            | "google.protobuf.UInt32Value"
            | "google.protobuf.BoolValue"
            | "google.protobuf.StringValue"
            | "google.protobuf.BytesValue" => Self::Wrapper,
            _ => Self::No,
        }
    }
}

/// Type of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are protobuf's own type names")]
pub enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Enum(EnumId),
    Message(MessageId),
    /// A message framed by start and end tags instead of a length.
    Group(MessageId),
}

impl Kind {
    /// Wire type of one unpacked value.
    pub fn wire_type(self) -> u8 {
        match self {
            Self::Double | Self::Fixed64 | Self::Sfixed64 => 1,
            Self::Float | Self::Fixed32 | Self::Sfixed32 => 5,
            Self::String | Self::Bytes | Self::Message(_) => 2,
            Self::Group(_) => 3,
            _ => 0,
        }
    }

    /// Whether repeated values of it may be packed.
    pub fn packable(self) -> bool {
        matches!(self.wire_type(), 0 | 1 | 5)
    }

    /// The message type, if it is one.
    pub fn message(self) -> Option<MessageId> {
        match self {
            Self::Message(id) | Self::Group(id) => Some(id),
            _ => None,
        }
    }
}

/// How many values a field holds, and whether "unset" differs from "default".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One value that is always there: proto3 without `optional`.
    Implicit,
    /// One value that may be absent.
    Explicit,
    /// A list; `packed` tells how it is written.
    Repeated {
        /// Written as one length-delimited block.
        packed: bool,
    },
    /// A map; the types of its entries' two fields.
    Map {
        /// Key type: integer, bool or string.
        key: Kind,
        /// Value type.
        value: Kind,
    },
}

/// A field of a message.
#[derive(Debug)]
pub struct Field {
    /// Field number.
    pub number: u32,
    /// Name as in the `.proto` file; `[full.name]` for an extension.
    pub name: Box<str>,
    /// Name in JSON.
    pub json_name: Box<str>,
    /// `"jsonName":`, ready to be written.
    pub(crate) key: Box<[u8]>,
    /// Type of a value; for a map, of its values.
    pub kind: Kind,
    /// Cardinality and presence.
    pub shape: Shape,
    /// The oneof it belongs to, if not a synthetic one.
    pub oneof: Option<u16>,
    /// JSON of the default value where unset scalars are written; empty where none is.
    pub(crate) default_json: Box<[u8]>,
}

impl Field {
    /// Neither a list nor a map.
    pub fn is_singular(&self) -> bool {
        matches!(self.shape, Shape::Implicit | Shape::Explicit)
    }
}

/// A message type.
#[derive(Debug)]
pub struct Message {
    /// Full name without a leading dot.
    pub full_name: Box<str>,
    /// Fields by ascending number, extensions included.
    pub fields: Box<[Field]>,
    /// Which special JSON it has.
    pub well_known: WellKnown,
    /// Whether it is `google.api.HttpBody`.
    pub is_http_body: bool,
    dense: Box<[u16]>,
    names: AHashMap<Box<str>, u16>,
}

/// Field numbers below this are found by one table look-up; it covers nearly every real message at 2 bytes an entry.
const DENSE: u32 = 256;

impl Message {
    /// Index of the field with this number.
    pub fn index_of(&self, number: u32) -> Option<usize> {
        if number < DENSE {
            return match self.dense.get(number as usize) {
                Some(&slot) if slot > 0 => Some(usize::from(slot) - 1),
                _ => None,
            };
        }
        self.fields.binary_search_by_key(&number, |field| field.number).ok()
    }

    /// Index of the field with this JSON or proto name.
    pub fn index_by_name(&self, name: &str) -> Option<usize> {
        self.names.get(name).map(|&index| usize::from(index))
    }

    /// The field with this JSON or proto name.
    pub fn field_by_name(&self, name: &str) -> Option<&Field> {
        self.index_by_name(name).and_then(|index| self.fields.get(index))
    }

    /// The field with this number.
    pub fn field(&self, number: u32) -> Option<&Field> {
        self.index_of(number).and_then(|index| self.fields.get(index))
    }
}

/// An enum type.
#[derive(Debug)]
pub struct Enum {
    /// Full name without a leading dot.
    pub full_name: Box<str>,
    /// `google.protobuf.NullValue`, which is `null` in JSON.
    pub is_null: bool,
    /// Whether numbers without a name are refused (proto2).
    pub closed: bool,
    names: AHashMap<Box<str>, i32>,
    /// First name of each number, by ascending number.
    numbers: Box<[(i32, Box<str>)]>,
}

impl Enum {
    /// Number of a value by its name.
    pub fn number(&self, name: &str) -> Option<i32> {
        self.names.get(name).copied()
    }

    /// The first name declared for a number.
    pub fn name(&self, number: i32) -> Option<&str> {
        // Most enums count from zero without gaps, so the number is the index.
        if let Some((found, name)) = usize::try_from(number).ok().and_then(|index| self.numbers.get(index))
            && *found == number
        {
            return Some(name);
        }
        let index = self.numbers.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.numbers.get(index).map(|(_, name)| name.as_ref())
    }
}

/// All message and enum types of a descriptor pool.
#[derive(Debug)]
pub struct Schema {
    messages: Box<[Message]>,
    enums: Box<[Enum]>,
    by_name: AHashMap<Box<str>, MessageId>,
}

/// What files of editions say of their elements and a pool cannot, by full names.
#[derive(Debug, Default)]
pub(crate) struct Traits {
    /// Fields that cannot tell "unset" from "default".
    pub(crate) implicit: AHashSet<String>,
    /// Lists that are written as one block.
    pub(crate) packed: AHashSet<String>,
    /// Messages that are framed by tags.
    pub(crate) delimited: AHashSet<String>,
    /// Enums that take any number.
    pub(crate) open: AHashSet<String>,
}

impl Schema {
    /// Compiles every type of `pool`.
    pub fn new(pool: &DescriptorPool) -> Self {
        Self::with_traits(pool, &Traits::default())
    }

    pub(crate) fn with_traits(pool: &DescriptorPool, traits: &Traits) -> Self {
        let all: Vec<MessageDescriptor> = pool.all_messages().collect();
        let enums: Vec<EnumDescriptor> = pool.all_enums().collect();
        let ids = Ids {
            messages: all
                .iter()
                .zip(0u32..)
                .map(|(m, i)| (m.full_name().to_owned(), MessageId(i)))
                .collect(),
            enums: enums
                .iter()
                .zip(0u32..)
                .map(|(e, i)| (e.full_name().to_owned(), EnumId(i)))
                .collect(),
        };
        Self {
            messages: all.iter().map(|m| compile_message(m, &ids, traits)).collect(),
            enums: enums.iter().map(|e| compile_enum(e, traits)).collect(),
            by_name: ids
                .messages
                .iter()
                .map(|(name, id)| (name.as_str().into(), *id))
                .collect(),
        }
    }

    /// The message type with this full name.
    pub fn find(&self, full_name: &str) -> Option<MessageId> {
        self.by_name.get(full_name).copied()
    }

    /// The message type of an id of this schema.
    #[allow(
        clippy::indexing_slicing,
        reason = "ids are only made by this schema and never outlive it"
    )]
    pub fn message(&self, id: MessageId) -> &Message {
        &self.messages[id.0 as usize]
    }

    /// The enum type of an id of this schema.
    #[allow(
        clippy::indexing_slicing,
        reason = "ids are only made by this schema and never outlive it"
    )]
    pub fn enumeration(&self, id: EnumId) -> &Enum {
        &self.enums[id.0 as usize]
    }
}

struct Ids {
    messages: AHashMap<String, MessageId>,
    enums: AHashMap<String, EnumId>,
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

fn compile_message(descriptor: &MessageDescriptor, ids: &Ids, traits: &Traits) -> Message {
    let mut fields: Vec<Field> = descriptor
        .fields()
        .map(|field| compile_field(&field, ids, traits))
        .collect();
    fields.extend(
        descriptor
            .extensions()
            .map(|extension| compile_extension(&extension, ids, traits)),
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

fn compile_field(field: &FieldDescriptor, ids: &Ids, traits: &Traits) -> Field {
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

fn compile_extension(field: &ExtensionDescriptor, ids: &Ids, traits: &Traits) -> Field {
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

fn compile_enum(descriptor: &EnumDescriptor, traits: &Traits) -> Enum {
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
