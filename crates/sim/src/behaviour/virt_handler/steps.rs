//! What the parts of a node's agent have in common: wishes for failures, steps that take time, pods that end.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

/// Annotation of a VM's template: the VMI is not live-migratable.
pub const NOT_MIGRATABLE: &str = "sim.steading.dev/not-migratable";
/// Annotation of a VM's template: migrations of the VMI fail at the end.
pub const FAIL_MIGRATION: &str = "sim.steading.dev/fail-migration";

/// Says whether a step of the VMI is over that takes so long; the first question starts it.
pub(super) type Steps<'a> = &'a mut dyn FnMut(&str, Duration) -> bool;

/// Whether a pod has ended or is about to.
pub(super) fn is_ending(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed"))
}
