//! What the launcher pod of a machine of some instance type requests from an infra node, and which nodes it can run on.
//!
//! The figures and rules are those of KubeVirt v1.8: `GetMemoryOverhead` of its KVM backend, the resource renderer, the
//! selector renderer and the serial console's sidecar. Ratios and defaults come from the KubeVirt object.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;
use steading_model::quantity::Quantity;

use crate::domain::Amounts;

const MI: i64 = 1 << 20;
/// Launcher monitor, launcher, virtlogd, virtqemud and QEMU without its guest: 25 + 100 + 25 + 40 + 30 MiB.
const COMPONENTS: i64 = 220 * MI;
/// Tables of one vCPU; the I/O thread counts as one more.
const OF_VCPU: i64 = 8 * MI;
/// Video memory: every machine has a graphics device unless its template takes it away.
const GRAPHICS: i64 = 32 * MI;
/// Two flash images of UEFI, on arm64 only.
const ARM_FLASH: i64 = 128 * MI;
/// MMIO space that passed-through devices lock.
const PASS_THROUGH: i64 = 1024 * MI;
/// Encrypted guests.
const SEV: i64 = 256 * MI;
/// Guests whose pods are of the class Guaranteed.
const GUARANTEED: i64 = 100 * MI;
/// Page tables: one byte for 512 of what is requested in so many words, which only overcommitted types do.
const PAGE_TABLE_DIVISOR: i64 = 512;
/// Local storage of a launcher in bytes.
const EPHEMERAL_STORAGE: i64 = 50_000_000;
/// Sidecar that logs the serial console, and its limits, which are its requests if the guest has processors of its own.
const CONSOLE_LOG: (i64, i64) = (5, 35_000_000);
const CONSOLE_LOG_GUARANTEED: (i64, i64) = (15, 60_000_000);

/// The part of KubeVirt's configuration that decides how large launcher pods are.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtConfig {
    /// vCPUs that share one processor.
    pub cpu_allocation_ratio: i64,
    /// Percent of the requested memory that guests see; more than 100 overcommits.
    pub memory_overcommit: i64,
    /// Factor of the overhead, where the operator asks for more.
    pub overhead_ratio: f64,
    /// Whether guests may run without hardware virtualisation, and ask for no such device.
    pub emulation: bool,
    /// Whether launchers have a sidecar that logs the serial console.
    pub serial_console_log: bool,
    /// CPU model of guests that name none.
    pub cpu_model: Option<String>,
    /// Architecture of guests that name none.
    pub architecture: Option<String>,
}

impl Default for VirtConfig {
    fn default() -> Self {
        Self {
            cpu_allocation_ratio: 10,
            memory_overcommit: 100,
            overhead_ratio: 1.0,
            emulation: false,
            serial_console_log: true,
            cpu_model: None,
            architecture: None,
        }
    }
}

/// What only some processors or kernels offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Scheduling in real time.
    Realtime,
    /// Memory that the processor encrypts (SEV).
    EncryptedMemory,
}

/// A guest as its instance type describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guest {
    /// vCPUs.
    pub vcpus: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Threads for I/O beside the vCPUs.
    pub io_threads: i64,
    /// Each vCPU has a processor of its own.
    pub dedicated: bool,
    /// The emulator has a processor of its own.
    pub isolated_emulator: bool,
    /// Percent of the memory that is not requested.
    pub overcommit_percent: i64,
    /// Size of hugepages, as in the resource name `hugepages-<size>`.
    pub hugepages: Option<String>,
    /// Passed-through devices by resource name.
    pub devices: BTreeMap<String, i64>,
    /// CPU model; `None` is KubeVirt's default.
    pub cpu_model: Option<String>,
    /// Architecture; `None` is KubeVirt's default.
    pub architecture: Option<String>,
    /// What only some processors offer.
    pub features: BTreeSet<Feature>,
    /// Labels that an infra node must have.
    pub node_selector: BTreeMap<String, String>,
}

impl Guest {
    /// Reads the `spec` of a VirtualMachine(Cluster)Instancetype, `instancetype.kubevirt.io/v1beta1`; `None` if it has no size.
    pub fn from_instancetype_spec(spec: &Value) -> Option<Self> {
        let mut devices = BTreeMap::new();
        for device in ["/gpus", "/hostDevices"]
            .iter()
            .filter_map(|p| spec.pointer(p)?.as_array())
            .flatten()
        {
            if let Some(name) = device.get("deviceName").and_then(Value::as_str) {
                *devices.entry(name.to_owned()).or_default() += 1;
            }
        }
        let flag = |pointer: &str| spec.pointer(pointer).and_then(Value::as_bool).unwrap_or(false);
        let number = |pointer: &str| spec.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        let text = |pointer: &str| spec.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            vcpus: spec.pointer("/cpu/guest")?.as_i64()?,
            memory: bytes(spec.pointer("/memory/guest")?.as_str()?)?,
            io_threads: number("/ioThreads/supplementalPoolThreadCount"),
            dedicated: flag("/cpu/dedicatedCPUPlacement"),
            isolated_emulator: flag("/cpu/isolateEmulatorThread"),
            overcommit_percent: number("/memory/overcommitPercent"),
            hugepages: text("/memory/hugepages/pageSize"),
            devices,
            cpu_model: text("/cpu/model").filter(|model| !model.is_empty()),
            architecture: None,
            features: [
                ("/cpu/realtime", Feature::Realtime),
                ("/launchSecurity/sev", Feature::EncryptedMemory),
            ]
            .into_iter()
            .filter(|(pointer, _)| spec.pointer(pointer).is_some())
            .map(|(_, feature)| feature)
            .collect(),
            node_selector: spec
                .pointer("/nodeSelector")
                .and_then(|v| serde_json::from_value(v.clone()).ok())
                .unwrap_or_default(),
        })
    }

    /// What its launcher pod requests.
    pub fn requests(&self, config: &VirtConfig) -> Amounts {
        let mut amounts = Amounts {
            cpu_millis: self.cpu_millis(config),
            memory: self.overhead(config),
            pods: 1,
            extended: self
                .devices
                .iter()
                .map(|(name, count)| (Arc::from(name.as_str()), *count))
                .collect(),
            ..Amounts::default()
        };
        match &self.hugepages {
            Some(size) => {
                amounts.extended.insert(format!("hugepages-{size}").into(), self.memory);
            }
            None => amounts.memory += self.requested_memory(config),
        }
        if config.serial_console_log {
            let (cpu, memory) = if self.dedicated {
                CONSOLE_LOG_GUARANTEED
            } else {
                CONSOLE_LOG
            };
            amounts.cpu_millis += cpu;
            amounts.memory += memory;
        }
        amounts.extended.insert("ephemeral-storage".into(), EPHEMERAL_STORAGE);
        for device in ["tun", "vhost-net"] {
            amounts
                .extended
                .insert(format!("devices.kubevirt.io/{device}").into(), 1);
        }
        if !config.emulation {
            amounts.extended.insert("devices.kubevirt.io/kvm".into(), 1);
        }
        if self.features.contains(&Feature::EncryptedMemory) {
            amounts.extended.insert("devices.kubevirt.io/sev".into(), 1);
        }
        amounts
    }

    /// Labels of the nodes that can run it.
    pub fn node_selector(&self, config: &VirtConfig) -> BTreeMap<String, String> {
        let mut all = BTreeMap::from([(
            steading_infra::labels::KUBEVIRT_SCHEDULABLE.to_owned(),
            "true".to_owned(),
        )]);
        if let Some(architecture) = self.architecture.as_ref().or(config.architecture.as_ref()) {
            all.insert("kubernetes.io/arch".into(), architecture.to_lowercase());
        }
        all.extend(self.node_selector.clone());
        let mut demand = |label: String| all.insert(label, "true".to_owned());
        if self.dedicated {
            demand("cpumanager".into());
        }
        let model = self.cpu_model.as_ref().or(config.cpu_model.as_ref());
        if let Some(model) = model.filter(|model| !matches!(model.as_str(), "host-model" | "host-passthrough")) {
            demand(format!("cpu-model.node.kubevirt.io/{model}"));
        }
        if self.features.contains(&Feature::Realtime) {
            demand("kubevirt.io/realtime".into());
        }
        if self.features.contains(&Feature::EncryptedMemory) {
            demand("kubevirt.io/sev".into());
        }
        all
    }

    fn cpu_millis(&self, config: &VirtConfig) -> i64 {
        let all = self
            .vcpus
            .max(1)
            .saturating_add(self.io_threads.max(0))
            .saturating_mul(1000);
        if self.dedicated {
            return all + if self.isolated_emulator { 1000 } else { 0 };
        }
        let ratio = config.cpu_allocation_ratio.max(1);
        all / ratio + i64::from(all % ratio > 0)
    }

    fn overhead(&self, config: &VirtConfig) -> i64 {
        let when = |condition: bool, bytes: i64| if condition { bytes } else { 0 };
        let architecture = self.architecture.as_ref().or(config.architecture.as_ref());
        // Upstream counts in thousands of bytes here, rounded up.
        let page_tables = (self.requested_memory(config) + 999) / 1000 * 1000 / PAGE_TABLE_DIVISOR;
        let all = when(self.overcommit_percent > 0, page_tables)
            + COMPONENTS
            + OF_VCPU.saturating_mul(self.vcpus.max(1) + 1)
            + GRAPHICS
            + when(architecture.is_some_and(|name| name == "arm64"), ARM_FLASH)
            + when(!self.devices.is_empty(), PASS_THROUGH)
            + when(self.features.contains(&Feature::EncryptedMemory), SEV)
            + when(self.dedicated, GUARANTEED);
        scaled(all, config.overhead_ratio)
    }

    /// Memory that is requested for the guest itself.
    fn requested_memory(&self, config: &VirtConfig) -> i64 {
        if self.overcommit_percent > 0 {
            return less(self.memory, self.overcommit_percent);
        }
        if self.dedicated || self.hugepages.is_some() {
            return self.memory;
        }
        let asked = i128::from(self.memory) * 100 / i128::from(config.memory_overcommit.max(1));
        i64::try_from(asked).unwrap_or(self.memory)
    }
}

/// KubeVirt takes the percentage in single precision.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "the same rounding as upstream's is wanted"
)]
fn less(memory: i64, percent: i64) -> i64 {
    (memory as f32 * (1.0 - percent.clamp(0, 100) as f32 / 100.0)) as i64
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "an overhead is far below 2^52 bytes"
)]
fn scaled(bytes: i64, ratio: f64) -> i64 {
    (bytes as f64 * ratio) as i64
}

fn bytes(text: &str) -> Option<i64> {
    i64::try_from(text.parse::<Quantity>().ok()?.bytes()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mk_guest(spec: Value) -> Guest {
        Guest::from_instancetype_spec(&spec).expect("a size")
    }

    fn quiet() -> VirtConfig {
        VirtConfig {
            serial_console_log: false,
            ..VirtConfig::default()
        }
    }

    #[test]
    fn the_overhead_is_kubevirts_sum() {
        // 220 + 8 × 4 vCPUs + 8 for the I/O thread + 32 for graphics.
        let requests = mk_guest(json!({"cpu": {"guest": 4}, "memory": {"guest": "16Gi"}})).requests(&quiet());
        assert_eq!(requests.memory, (16 << 30) + 292 * MI);
        assert_eq!(requests.cpu_millis, 400);
        for device in ["kvm", "tun", "vhost-net"] {
            assert_eq!(requests.extended[format!("devices.kubevirt.io/{device}").as_str()], 1);
        }
    }

    #[test]
    fn the_allocation_ratio_is_that_of_the_kubevirt_object() {
        let guest = mk_guest(json!({"cpu": {"guest": 4}, "memory": {"guest": "16Gi"}}));
        let config = VirtConfig {
            cpu_allocation_ratio: 3,
            memory_overcommit: 200,
            ..quiet()
        };
        let requests = guest.requests(&config);
        assert_eq!(requests.cpu_millis, 1334, "rounded up, as a quantity is");
        assert_eq!(requests.memory, (8 << 30) + 292 * MI);
    }

    #[test]
    fn dedicated_processors_are_not_shared_and_need_the_cpu_manager() {
        let mut guest = mk_guest(
            json!({"cpu": {"guest": 4, "dedicatedCPUPlacement": true, "isolateEmulatorThread": true,
            "model": "EPYC"}, "memory": {"guest": "16Gi"}}),
        );
        assert_eq!(guest.requests(&quiet()).cpu_millis, 5000);
        assert_eq!(guest.requests(&quiet()).memory, (16 << 30) + 392 * MI);
        guest.architecture = Some("AMD64".into());
        let selector = guest.node_selector(&VirtConfig::default());
        for (key, value) in [
            ("cpumanager", "true"),
            ("cpu-model.node.kubevirt.io/EPYC", "true"),
            ("kubernetes.io/arch", "amd64"),
            ("kubevirt.io/schedulable", "true"),
        ] {
            assert_eq!(selector.get(key).map(String::as_str), Some(value), "{key}");
        }
    }

    #[test]
    fn hugepages_and_devices_are_resources_of_their_own() {
        let guest = mk_guest(
            json!({"cpu": {"guest": 2}, "memory": {"guest": "8Gi", "hugepages": {"pageSize": "1Gi"}},
            "gpus": [{"name": "a", "deviceName": "nvidia.com/A30"}, {"name": "b", "deviceName": "nvidia.com/A30"}]}),
        );
        let requests = guest.requests(&quiet());
        assert_eq!(requests.memory, (276 + 1024) * MI);
        assert_eq!(requests.extended["hugepages-1Gi"], 8 << 30);
        assert_eq!(requests.extended["nvidia.com/A30"], 2);
    }

    #[test]
    fn overcommit_requests_less_and_counts_page_tables() {
        let guest = mk_guest(json!({"cpu": {"guest": 1}, "memory": {"guest": "10Gi", "overcommitPercent": 50}}));
        let tables = ((5_i64 << 30) + 999) / 1000 * 1000 / 512;
        assert_eq!(guest.requests(&quiet()).memory, (5 << 30) + 268 * MI + tables);
    }

    #[test]
    fn a_spec_without_size_is_none() {
        assert_eq!(Guest::from_instancetype_spec(&json!({"cpu": {}})), None);
    }
}
