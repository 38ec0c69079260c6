//! What a template does not know of a machine, and what it refers to, looked up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use steading_model::name::pinned_name;

use super::{digest::hex, image::ImageSpec};

/// Hexadecimal digits by which a pinned object is told from others of its kind.
const DIGEST_LENGTH: usize = 10;

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

/// What a template refers to, by content. A revision keeps it, so that it does not change under the revision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// The instance type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<CatalogueEntry>,
    /// The preference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<CatalogueEntry>,
    /// Images by the name that the template gives them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, ResolvedImage>,
}

/// An instance type or a preference as it was when it was looked up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CatalogueEntry {
    /// Its resource name.
    pub name: String,
    /// Its object in the infra cluster.
    pub object: String,
    /// The object's `spec`.
    pub spec: Value,
}

impl CatalogueEntry {
    /// Name of the object that keeps this content: KubeVirt is given that one, so a change of the catalogue entry does not
    /// reach machines that are made later from the same revision.
    pub fn pinned_object(&self) -> String {
        let digest = hex(&Sha256::digest(self.spec.to_string()));
        pinned_name(&self.object, digest.get(..DIGEST_LENGTH).unwrap_or_default())
    }

    /// The size that an instance type gives.
    pub fn size(&self) -> Size {
        Size::from_instancetype_spec(&self.spec).unwrap_or_default()
    }
}

/// An image that a template refers to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedImage {
    /// Name of its DataSource in the system namespace.
    pub data_source: String,
    /// Which of its contents is cloned.
    pub content: String,
    /// Size of the golden disk.
    pub size: String,
}

impl ResolvedImage {
    /// The golden disk with that content.
    pub fn volume(&self) -> String {
        ImageSpec::data_volume_name(&self.data_source, &self.content)
    }
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
