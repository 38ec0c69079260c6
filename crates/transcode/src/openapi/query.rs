//! Query parameters: the fields that neither the path nor the body binds.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use super::messages;
use super::operation::{Body, Operation};
use super::schemas::{self, Schemas};
use crate::behavior::Behavior;

/// How deep messages are unfolded, and into how many parameters at most. The gateway takes more; nobody reads them.
const MAX_DEPTH: usize = 5;
const MAX_PARAMETERS: usize = 400;

/// The query parameters of an operation.
pub(super) fn parameters(operation: &Operation, schemas: &Schemas<'_>) -> Vec<Value> {
    if operation.body == Body::Whole {
        return Vec::new();
    }
    let mut walk = Walk {
        operation,
        schemas,
        open: Vec::new(),
        out: Vec::new(),
    };
    walk.message(
        &operation.method.input(),
        &Prefix {
            path: String::new(),
            key: String::new(),
            wanted: true,
        },
    );
    walk.out
}

/// Where a message is inside the request.
struct Prefix {
    /// By proto names, as rules have it.
    path: String,
    /// By JSON names, as queries have it.
    key: String,
    /// Whether everything around it must be given.
    wanted: bool,
}

struct Walk<'w> {
    operation: &'w Operation,
    schemas: &'w Schemas<'w>,
    /// Types around the current one.
    open: Vec<String>,
    out: Vec<Value>,
}

impl Walk<'_> {
    fn message(&mut self, message: &MessageDescriptor, prefix: &Prefix) {
        if self.open.len() >= MAX_DEPTH || self.open.iter().any(|open| open == message.full_name()) {
            return;
        }
        self.open.push(message.full_name().to_owned());
        for field in messages::declared(message) {
            self.field(&field, prefix);
        }
        self.open.pop();
    }

    fn field(&mut self, field: &FieldDescriptor, prefix: &Prefix) {
        let behavior = Behavior::of(field);
        let inside = Prefix {
            path: join(&prefix.path, field.name()),
            key: join(&prefix.key, field.json_name()),
            wanted: prefix.wanted && behavior.wanted(),
        };
        let in_body = matches!(&self.operation.body, Body::Field(body) if *body == *field && self.open.len() == 1);
        if in_body || field.is_map() || behavior.output_only || self.operation.bound(&inside.path).is_some() {
            return;
        }
        if let Kind::Message(message) = field.kind()
            && !messages::takes_text(&message)
        {
            if !field.is_list() && !messages::is_free_form(&message) {
                self.message(&message, &inside);
            }
            return;
        }
        if self.out.len() < MAX_PARAMETERS {
            let parameter = self.parameter(field, &inside);
            self.out.push(parameter);
        }
    }

    fn parameter(&self, field: &FieldDescriptor, at: &Prefix) -> Value {
        let mut parameter = json!({"name": at.key, "in": "query"});
        let mut text = self.schemas.describe_field(field);
        let is_mask = self.operation.infers_mask() && at.path == "update_mask";
        if is_mask {
            let note = "Left out, it is what the body holds.";
            text = Some(text.map_or_else(|| note.to_owned(), |text| format!("{text}\n\n{note}")));
        }
        if let Some(text) = text {
            parameter["description"] = json!(text);
        }
        let required = at.wanted && !is_mask;
        if required {
            parameter["required"] = json!(true);
        }
        if messages::is_deprecated(field) {
            parameter["deprecated"] = json!(true);
        }
        let mut schema = schemas::text(field);
        if field.is_list() {
            parameter["style"] = json!("form");
            parameter["explode"] = json!(true);
            schema = json!({"type": "array", "items": schema});
            if required {
                schema["minItems"] = json!(1);
            }
        } else if required && schema["type"] == "string" {
            schema["minLength"] = json!(1);
        }
        parameter["schema"] = schema;
        parameter
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}.{name}")
    }
}
