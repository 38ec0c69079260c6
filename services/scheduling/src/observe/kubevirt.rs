//! What KubeVirt says: its configuration, and its instances.

use std::sync::Arc;

use serde_json::Value;
use steading_infra::kubevirt::{KubeVirt, VirtualMachineInstance, condition_is_true};

use super::PodKey;
use crate::domain::{footprint::VirtConfig, interner::Interner};

/// A VMI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedInstance {
    /// Its namespace and name.
    pub key: PodKey,
    /// Whether it can be migrated while it runs.
    pub migratable: bool,
    /// The node off which KubeVirt wants it.
    pub evacuating_from: Option<Arc<str>>,
}

impl ObservedInstance {
    /// Projects an instance.
    pub fn of(vmi: &VirtualMachineInstance, interner: &mut Interner) -> Self {
        let status = vmi.status.as_ref();
        let evacuating_from = status
            .and_then(|s| s.evacuation_node_name.as_deref())
            .filter(|node| !node.is_empty());
        Self {
            key: PodKey {
                namespace: interner.text(vmi.metadata.namespace.as_deref().unwrap_or_default()),
                name: interner.text(vmi.metadata.name.as_deref().unwrap_or_default()),
            },
            migratable: status.is_some_and(|s| condition_is_true(&s.conditions, "LiveMigratable")),
            evacuating_from: evacuating_from.map(|node| interner.text(node)),
        }
    }
}

/// Reads `spec.configuration` of the KubeVirt object; what it leaves open has KubeVirt's defaults.
pub fn virt_config(kubevirt: &KubeVirt) -> VirtConfig {
    let configuration = &kubevirt.spec.configuration;
    let developer = &configuration.developer_configuration.other;
    let default = VirtConfig::default();
    let number = |key: &str, default: i64| {
        developer
            .get(key)
            .and_then(Value::as_i64)
            .filter(|number| *number > 0)
            .unwrap_or(default)
    };
    let text = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .filter(|t| !t.is_empty())
            .map(str::to_owned)
    };
    let other = |key: &str, pointer: &str| configuration.other.get(key).and_then(|value| value.pointer(pointer));
    VirtConfig {
        cpu_allocation_ratio: number("cpuAllocationRatio", default.cpu_allocation_ratio),
        memory_overcommit: number("memoryOvercommit", default.memory_overcommit),
        overhead_ratio: text(configuration.other.get("additionalGuestMemoryOverheadRatio"))
            .and_then(|ratio| ratio.parse().ok())
            .filter(|ratio: &f64| ratio.is_finite() && *ratio > 0.0)
            .unwrap_or(default.overhead_ratio),
        emulation: developer.get("useEmulation").and_then(Value::as_bool).unwrap_or(false),
        serial_console_log: other("virtualMachineOptions", "/disableSerialConsoleLog").is_none(),
        cpu_model: text(configuration.other.get("cpuModel")),
        architecture: text(other("architectureConfiguration", "/defaultArchitecture")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mk_config(configuration: Value) -> VirtConfig {
        let object = json!({"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": {"name": "kubevirt"},
            "spec": {"configuration": configuration}});
        virt_config(&serde_json::from_value(object).expect("a KubeVirt"))
    }

    #[test]
    fn ratio_and_overcommit_are_kubevirts_own() {
        assert_eq!(mk_config(json!({})), VirtConfig::default());
        let config = mk_config(json!({
            "developerConfiguration": {"cpuAllocationRatio": 4, "memoryOvercommit": 150, "useEmulation": true},
            "additionalGuestMemoryOverheadRatio": "1.5", "cpuModel": "Skylake-Server",
            "architectureConfiguration": {"defaultArchitecture": "arm64"},
            "virtualMachineOptions": {"disableSerialConsoleLog": {}},
        }));
        assert_eq!((config.cpu_allocation_ratio, config.memory_overcommit), (4, 150));
        assert!((config.overhead_ratio - 1.5).abs() < f64::EPSILON);
        assert!(config.emulation && !config.serial_console_log);
        assert_eq!(config.cpu_model.as_deref(), Some("Skylake-Server"));
        assert_eq!(config.architecture.as_deref(), Some("arm64"));
    }
}
