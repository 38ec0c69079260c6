//! What the descriptors say of a message and its fields.

use std::{collections::HashMap, sync::LazyLock};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, Value};

use crate::{FILE_DESCRIPTOR_SET, error::RpcError};

/// `google.api.field_behavior`.
const FIELD_BEHAVIOR: &str = "google.api.field_behavior";
/// Values of it that mean that a client cannot write the field: OUTPUT_ONLY and IDENTIFIER.
pub(super) const NOT_WRITABLE: [i32; 2] = [3, 8];
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

/// The behaviors of every field that has some, by its full name: reading an option decodes it, and etags ask for many.
static BEHAVIORS: LazyLock<HashMap<String, Vec<i32>>> = LazyLock::new(|| {
    let Some(pool) = POOL.as_ref() else {
        return HashMap::new();
    };
    let Some(extension) = pool.get_extension_by_name(FIELD_BEHAVIOR) else {
        return HashMap::new();
    };
    let of = |field: &FieldDescriptor| -> Vec<i32> {
        let options = field.options();
        let value = options.get_extension(&extension);
        let list = value.as_list().unwrap_or_default();
        list.iter().filter_map(Value::as_enum_number).collect()
    };
    let fields = pool
        .all_messages()
        .flat_map(|message| message.fields().collect::<Vec<_>>());
    fields.map(|field| (field.full_name().to_owned(), of(&field))).collect()
});

/// Whether a field has one of these behaviors.
pub(super) fn is(field: &FieldDescriptor, behaviors: &[i32]) -> bool {
    let own = BEHAVIORS.get(field.full_name());
    own.is_some_and(|own| own.iter().any(|n| behaviors.contains(n)))
}
