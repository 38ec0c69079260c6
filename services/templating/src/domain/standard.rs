//! The standard catalogue, which every installation has: the sizes that comparable platforms ship.

use serde_json::{Value, json};

/// Label of what belongs to the standard catalogue.
pub const CATALOGUE_LABEL: &str = "steading.dev/catalogue";
/// Its value.
pub const STANDARD: &str = "standard";

/// Name, vCPUs and memory of each standard instance type.
const INSTANCE_TYPES: [(&str, u32, &str); 3] = [
    ("standard-2", 2, "8Gi"),
    ("standard-4", 4, "16Gi"),
    ("standard-8", 8, "32Gi"),
];

/// Names and specs of the standard instance types.
pub fn instance_types() -> Vec<(&'static str, Value)> {
    let spec = |vcpus: u32, memory: &str| json!({"cpu": {"guest": vcpus}, "memory": {"guest": memory}});
    INSTANCE_TYPES
        .iter()
        .map(|(name, vcpus, memory)| (*name, spec(*vcpus, memory)))
        .collect()
}

/// Names and specs of the standard preferences. Sockets, because only these can be hot-plugged.
pub fn preferences() -> Vec<(&'static str, Value)> {
    vec![(
        "sockets-advantage",
        json!({"cpu": {"preferredCPUTopology": "preferSockets"}}),
    )]
}
