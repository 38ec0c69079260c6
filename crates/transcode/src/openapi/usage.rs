//! Where types are used, which decides how strict their schemas can be.

use ahash::AHashSet;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::messages;
use super::operation::{Body, Operation};
use crate::behavior::Behavior;

/// Full names of messages by use.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// Clients send them.
    pub(super) requests: AHashSet<String>,
    /// Clients get them.
    pub(super) responses: AHashSet<String>,
    /// Clients send a part of them, to change only that.
    pub(super) partial: AHashSet<String>,
    /// Fields that some path binds, so that bodies can do without.
    pub(super) in_path: AHashSet<String>,
}

impl Usage {
    pub(super) fn of(operations: &[Operation]) -> Self {
        let mut usage = Self::default();
        for operation in operations {
            let root = match &operation.body {
                Body::None => None,
                Body::Whole => Some(operation.method.input()),
                Body::Field(field) => inner(field),
            };
            if let Some(root) = root {
                reach(&root, &mut usage.requests, |field| !Behavior::of(field).output_only);
                if operation.is_partial() {
                    reach(&root, &mut usage.partial, |field| !field.is_list() && !field.is_map());
                }
            }
            let reply = operation
                .response_body
                .as_ref()
                .map_or_else(|| Some(operation.method.output()), inner);
            if let Some(reply) = reply {
                reach(&reply, &mut usage.responses, |field| !Behavior::of(field).input_only);
            }
            let nested = operation.bound_fields().filter(|(path, _)| path.contains('.'));
            usage
                .in_path
                .extend(nested.map(|(_, field)| field.full_name().to_owned()));
        }
        usage
    }
}

/// The message that a field holds, be it as a list's item or a map's value.
fn inner(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind().as_message().cloned(),
        Kind::Message(message) => Some(message),
        _ => None,
    }
}

fn reach(root: &MessageDescriptor, found: &mut AHashSet<String>, follow: impl Fn(&FieldDescriptor) -> bool) {
    let mut pending = vec![root.clone()];
    while let Some(message) = pending.pop() {
        if messages::is_well_known(&message) || !found.insert(message.full_name().to_owned()) {
            continue;
        }
        pending.extend(
            message
                .fields()
                .filter(|field| follow(field))
                .filter_map(|field| inner(&field)),
        );
    }
}
