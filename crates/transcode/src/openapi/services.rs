//! What services are called.

use std::collections::BTreeSet;

use ahash::AHashSet;
use prost_reflect::ServiceDescriptor;
use serde_json::{Value, json};

use super::comments::Comments;
use super::operation::Operation;

/// What services are called: by their short name, unless two packages have the same one.
pub(super) struct ServiceNames {
    ambiguous: AHashSet<String>,
}

impl ServiceNames {
    pub(super) fn new(operations: &[Operation]) -> Self {
        let full: BTreeSet<(String, String)> = operations
            .iter()
            .map(|operation| operation.method.parent_service())
            .map(|service| (service.name().to_owned(), service.full_name().to_owned()))
            .collect();
        let mut seen = AHashSet::new();
        Self {
            ambiguous: full
                .into_iter()
                .filter_map(|(short, _)| (!seen.insert(short.clone())).then_some(short))
                .collect(),
        }
    }

    pub(super) fn of(&self, service: &ServiceDescriptor) -> String {
        let name = if self.ambiguous.contains(service.name()) {
            service.full_name()
        } else {
            service.name()
        };
        name.to_owned()
    }

    pub(super) fn tags(&self, operations: &[Operation], comments: &Comments) -> Value {
        let mut tags: Vec<Value> = Vec::new();
        for service in operations.iter().map(|operation| operation.method.parent_service()) {
            let name = self.of(service);
            if tags.iter().any(|tag| tag["name"] == name) {
                continue;
            }
            let comment = comments.of(&service.parent_file(), service.path());
            let text = comment.map_or_else(|| format!("`{}`.", service.full_name()), str::to_owned);
            tags.push(json!({"name": name, "description": text}));
        }
        Value::Array(tags)
    }
}
