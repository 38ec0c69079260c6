//! What the demonstration makes, and how its fields are read.

use serde_json::Value;

use crate::output::table::{at, cell_at};

pub(super) const PROJECT: &str = "projects/demo";
pub(super) const STORAGE_CLASS: &str = "storageClasses/demo-fast";
pub(super) const IMAGE: &str = "projects/demo/images/ubuntu";
pub(super) const TEMPLATES: [&str; 2] = [
    "projects/demo/machineTemplates/general",
    "projects/demo/machineTemplates/local-disk",
];
pub(super) const POLICY: &str = "projects/demo/placementPolicies/spread";
pub(super) const CLUSTER: &str = "projects/demo/clusters/prod";
pub(super) const WORKERS: &str = "projects/demo/clusters/prod/machinePools/workers";
pub(super) const PINNED: &str = "projects/demo/clusters/prod/machinePools/pinned";
pub(super) const VOLUME: &str = "projects/demo/clusters/prod/volumes/orders";
pub(super) const MAINTENANCE: &str = "maintenances/demo-drain";

pub(super) fn text(value: &Value, path: &str) -> String {
    at(value, path).as_str().unwrap_or_default().to_owned()
}

pub(super) fn list<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    at(value, path).as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn attachment(volume: &Value) -> String {
    let state = cell_at(volume, "attachmentState");
    state.strip_prefix("ATTACHMENT_STATE_").unwrap_or(&state).to_owned()
}
