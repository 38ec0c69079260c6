//! Messages, fields and enums as dense tables.

use ahash::{AHashMap, AHashSet};

/// Index of a message type in its [`Schema`](super::Schema).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub(super) u32);

/// Index of an enum type in its [`Schema`](super::Schema).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnumId(pub(super) u32);

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
    pub(super) fn of(full_name: &str) -> Self {
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
    pub(super) dense: Box<[u16]>,
    pub(super) names: AHashMap<Box<str>, u16>,
}

/// Field numbers below this are found by one table look-up; it covers nearly every real message at 2 bytes an entry.
pub(super) const DENSE: u32 = 256;

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
    pub(super) names: AHashMap<Box<str>, i32>,
    /// First name of each number, by ascending number.
    pub(super) numbers: Box<[(i32, Box<str>)]>,
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
