//! Objects that are being deleted.

use serde_json::Value;

use super::{dig, resource::ResourceDef};

/// Whether a terminating object without finalizers may go: not while its grace period or its namespace's content is left.
pub(crate) fn may_go(def: &ResourceDef, object: &Value) -> bool {
    let graceful = dig::at(object, &["metadata", "deletionGracePeriodSeconds"])
        .and_then(Value::as_i64)
        .unwrap_or(0)
        > 0;
    let namespace = is_namespace(def) && !dig::items(object, &["spec", "finalizers"]).is_empty();
    !graceful && !namespace
}

/// Whether these are namespaces.
pub(crate) fn is_namespace(def: &ResourceDef) -> bool {
    def.group.is_empty() && def.plural == "namespaces"
}
