//! Descriptors compiled into what the codec asks for per byte: dense tables instead of reference-counted handles.
//!
//! Built once from a [`DescriptorPool`]; afterwards immutable and shared.

mod compile;
mod tables;

use ahash::AHashMap;
use prost_reflect::{DescriptorPool, EnumDescriptor, MessageDescriptor};

use compile::Ids;
pub(crate) use tables::Traits;
pub use tables::{Enum, EnumId, Field, Kind, Message, MessageId, Shape, WellKnown};

/// All message and enum types of a descriptor pool.
#[derive(Debug)]
pub struct Schema {
    messages: Box<[Message]>,
    enums: Box<[Enum]>,
    by_name: AHashMap<Box<str>, MessageId>,
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
            messages: all.iter().map(|m| compile::message(m, &ids, traits)).collect(),
            enums: enums.iter().map(|e| compile::enumeration(e, traits)).collect(),
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
