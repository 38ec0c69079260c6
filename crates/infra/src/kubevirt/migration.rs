//! VirtualMachineInstanceMigration: moves a VMI to another node.

use std::collections::BTreeMap;

use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::virtual_machine_instance::MigrationState;
use super::{Condition, open_enum};

/// What is to be moved.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "VirtualMachineInstanceMigration",
    plural = "virtualmachineinstancemigrations",
    shortname = "vmim",
    shortname = "vmims",
    category = "all",
    namespaced,
    status = "VirtualMachineInstanceMigrationStatus",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstanceMigrationSpec {
    /// Name of the VMI in the same namespace.
    #[serde(default)]
    pub vmi_name: String,
    /// Labels that the target node must have besides the VMI's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub added_node_selector: BTreeMap<String, String>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// What was seen last of a migration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstanceMigrationStatus {
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<MigrationPhase>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The details, as on the VMI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_state: Option<MigrationState>,
    /// When each phase was entered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phase_transition_timestamps: Vec<Value>,
}

open_enum! {
    /// How far a migration is.
    MigrationPhase {
        /// Waits for its turn.
        Pending = "Pending",
        /// The target pod waits for a node.
        Scheduling = "Scheduling",
        /// The target pod runs.
        Scheduled = "Scheduled",
        /// The target is being made ready.
        PreparingTarget = "PreparingTarget",
        /// The target is ready.
        TargetReady = "TargetReady",
        /// Memory is being copied.
        Running = "Running",
        /// The VMI runs at the target.
        Succeeded = "Succeeded",
        /// The VMI stays where it was.
        Failed = "Failed",
    }
}

impl MigrationPhase {
    /// Whether it will not change any more.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}
