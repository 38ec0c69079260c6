//! What reading and writing may do, how deep they go, and why writing fails.

/// How deep messages of replies may nest: the limit of protobuf's own parsers.
pub const MAX_DEPTH: usize = 100;

/// How deep messages of requests may nest below the request itself, as they are on the wire: a JSON list in a `Value` is two levels, an entry
/// of a map is one of its own. Parsers agree on a limit of 100, but not on whether the request and the last level count; this is what all of
/// them take.
pub const MAX_REQUEST_DEPTH: usize = 98;

/// What happens to fields that are not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unset {
    /// Scalars without presence, lists and maps are written with their default; messages are left out.
    #[default]
    Emit,
    /// Nothing that is unset is written.
    Omit,
}

/// How enum values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EnumStyle {
    /// By name; a number without a name by number.
    #[default]
    Names,
    /// By number.
    Numbers,
}

/// What [`encode`](super::encode()) does with an `Any` whose type the schema does not have, or whose bytes do not fit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownAny {
    /// `{"@type": …, "value": "<base64>"}`.
    #[default]
    Opaque,
    /// An error.
    Refuse,
}

/// Options of [`encode`](super::encode()).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncodeOptions {
    /// Unset fields.
    pub unset: Unset,
    /// Enum values.
    pub enums: EnumStyle,
    /// `Any` of unknown type.
    pub unknown_any: UnknownAny,
}

/// What [`decode`](super::decode()), and a query, do with a field that the schema does not have; [`decode`](super::decode()) also with an enum's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    /// Refuses the request.
    #[default]
    Refuse,
    /// Drops the value.
    Ignore,
}

/// Options of [`decode`](super::decode()).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecodeOptions {
    /// Unknown fields and enum names.
    pub unknown: Unknown,
}

/// Wire bytes that cannot be written as JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Not protobuf.
    #[error("malformed protobuf message")]
    Malformed,
    /// A string field that is not UTF-8.
    #[error("string field is not valid UTF-8")]
    Utf8,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("message nests too deep")]
    Depth,
    /// A value that the type has but its JSON has not.
    #[error("{0} has no JSON form")]
    Unrepresentable(&'static str),
    /// An `Any` of unknown type, where that is refused.
    #[error("type of an Any is unknown: {0}")]
    UnknownAny(String),
}

impl From<crate::wire::Malformed> for EncodeError {
    fn from(_: crate::wire::Malformed) -> Self {
        Self::Malformed
    }
}
