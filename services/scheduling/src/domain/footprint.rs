//! What a machine of an instance type requests from an infra node.
//!
//! This is an estimate of what KubeVirt will put into the launcher pod: the guest's memory, KubeVirt's own overhead,
//! and processors divided by the allocation ratio unless they are dedicated. It errs on the side of asking
//! for more, so that what is promised to fit fits.

use std::collections::BTreeMap;

use serde_json::Value;
use steading_model::quantity::Quantity;

use crate::domain::Amounts;

/// vCPUs that share one processor unless the KubeVirt object says otherwise (`developerConfiguration.cpuAllocationRatio`).
pub const DEFAULT_CPU_ALLOCATION_RATIO: i64 = 10;
/// Memory of launcher, libvirt and QEMU of one machine: KubeVirt's fixed overheads sum up to about 220 MiB.
const FIXED_OVERHEAD: i64 = 220 << 20;
/// Memory for each vCPU, as KubeVirt counts it.
const OVERHEAD_OF_VCPU: i64 = 8 << 20;
/// Page tables: one 512th of the guest's memory.
const PAGE_TABLE_DIVISOR: i64 = 512;

/// Size of a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guest {
    /// vCPUs.
    pub vcpus: i64,
    /// Memory in bytes.
    pub memory: i64,
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
        Some(Self {
            vcpus: spec.pointer("/cpu/guest")?.as_i64()?,
            memory: bytes(spec.pointer("/memory/guest")?.as_str()?)?,
            dedicated: flag("/cpu/dedicatedCPUPlacement"),
            isolated_emulator: flag("/cpu/isolateEmulatorThread"),
            overcommit_percent: spec
                .pointer("/memory/overcommitPercent")
                .and_then(Value::as_i64)
                .unwrap_or(0),
            hugepages: spec
                .pointer("/memory/hugepages/pageSize")
                .and_then(Value::as_str)
                .map(str::to_owned),
            devices,
            node_selector: spec
                .pointer("/nodeSelector")
                .and_then(|v| serde_json::from_value(v.clone()).ok())
                .unwrap_or_default(),
        })
    }

    /// What its launcher pod requests.
    pub fn requests(&self, cpu_allocation_ratio: i64) -> Amounts {
        let vcpus = self.vcpus.max(0);
        let cpu_millis = if self.dedicated {
            vcpus.saturating_mul(1000) + if self.isolated_emulator { 1000 } else { 0 }
        } else {
            vcpus.saturating_mul(1000) / cpu_allocation_ratio.max(1)
        };
        let overhead = FIXED_OVERHEAD + vcpus.saturating_mul(OVERHEAD_OF_VCPU) + self.memory / PAGE_TABLE_DIVISOR;
        let mut amounts = Amounts {
            cpu_millis,
            memory: overhead,
            pods: 1,
            extended: self.devices.clone(),
        };
        match &self.hugepages {
            Some(size) => {
                amounts.extended.insert(format!("hugepages-{size}"), self.memory);
            }
            None => amounts.memory += requested_memory(self.memory, self.overcommit_percent),
        }
        amounts
    }
}

fn requested_memory(memory: i64, overcommit_percent: i64) -> i64 {
    let percent = i128::from(100 - overcommit_percent.clamp(0, 100));
    i64::try_from(i128::from(memory) * percent / 100).unwrap_or(memory)
}

fn bytes(text: &str) -> Option<i64> {
    i64::try_from(text.parse::<Quantity>().ok()?.bytes()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shared_processors_are_divided_and_dedicated_ones_are_not() {
        let spec = json!({"cpu": {"guest": 4}, "memory": {"guest": "16Gi"}});
        let mut guest = Guest::from_instancetype_spec(&spec).expect("a size");
        let shared = guest.requests(10);
        assert_eq!(shared.cpu_millis, 400);
        assert!(shared.memory > 16 << 30 && shared.memory < 17 << 30);
        guest.dedicated = true;
        guest.isolated_emulator = true;
        assert_eq!(guest.requests(10).cpu_millis, 5000);
    }

    #[test]
    fn hugepages_and_devices_are_resources_of_their_own() {
        let spec = json!({"cpu": {"guest": 2}, "memory": {"guest": "8Gi", "hugepages": {"pageSize": "1Gi"}},
            "gpus": [{"name": "a", "deviceName": "nvidia.com/A30"}, {"name": "b", "deviceName": "nvidia.com/A30"}]});
        let requests = Guest::from_instancetype_spec(&spec).expect("a size").requests(10);
        assert!(requests.memory < 1 << 30);
        assert_eq!(requests.extended["hugepages-1Gi"], 8 << 30);
        assert_eq!(requests.extended["nvidia.com/A30"], 2);
    }

    #[test]
    fn overcommit_requests_less() {
        let spec = json!({"cpu": {"guest": 1}, "memory": {"guest": "10Gi", "overcommitPercent": 50}});
        let requests = Guest::from_instancetype_spec(&spec).expect("a size").requests(10);
        assert!(requests.memory > 5 << 30 && requests.memory < 6 << 30);
    }

    #[test]
    fn a_spec_without_size_is_none() {
        assert_eq!(Guest::from_instancetype_spec(&json!({"cpu": {}})), None);
    }
}
