//! What a template does not know of a machine, and what it refers to, looked up.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::domain::ImageSpec;

/// The machine that is rendered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Machine {
    /// Its name: VirtualMachine, hostname and tenant Node.
    pub name: String,
    /// Namespace in the infra cluster.
    pub namespace: String,
    /// Labels of the machine and its pod.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the machine.
    pub annotations: BTreeMap<String, String>,
    /// Secret with the user data.
    pub user_data_secret: String,
    /// Where it may run: fields of a pod's spec (`affinity`, `nodeSelector`, `topologySpreadConstraints`, `tolerations`).
    pub placement: serde_json::Map<String, Value>,
}

/// What a template refers to, looked up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resolved {
    /// Object name of the instance type, and its size.
    pub instance_type: Option<(String, Size)>,
    /// Object name of the preference, and its `spec`.
    pub preference: Option<(String, Value)>,
    /// Images by the name that the template gives them.
    pub images: BTreeMap<String, ResolvedImage>,
}

/// An image that a template refers to.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedImage {
    /// Name of its DataSource in the system namespace.
    pub data_source: String,
    /// What it is.
    pub spec: ImageSpec,
}

/// Size of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Size {
    /// vCPUs.
    pub vcpus: u32,
    /// Memory as a quantity.
    pub memory: String,
    /// Passed-through devices by resource name.
    pub devices: BTreeMap<String, u32>,
}

impl Size {
    /// Reads the `spec` of a VirtualMachine(Cluster)Instancetype; `None` if it has no size.
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
        Some(Self {
            vcpus: u32::try_from(spec.pointer("/cpu/guest")?.as_u64()?).ok()?,
            memory: spec.pointer("/memory/guest")?.as_str()?.to_owned(),
            devices,
        })
    }
}
