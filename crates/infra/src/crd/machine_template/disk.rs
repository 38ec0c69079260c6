//! Disks of a machine template and where their content comes from. Images describe their source in the same words.

#![allow(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "the schema derive repeats the struct inside a function, and columns repeat their types"
)]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The disk from which a machine boots. Exactly one source.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = "[has(self.image), has(self.http), has(self.registry), has(self.pvc)].filter(x, x).size() == 1")]
pub struct RootDiskSpec {
    /// Name of the image, `images/*` or `projects/*/images/*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Import by HTTP for every machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// Import from a registry for every machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistrySource>,
    /// Clone of a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<PvcSource>,
    /// Size as a quantity; absent takes the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Storage class of the infra cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// `ReadWriteOnce`, `ReadWriteMany`, `ReadWriteOncePod` or `ReadOnlyMany`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_mode: Option<String>,
    /// `Block` or `Filesystem`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<String>,
    /// `virtio`, `scsi` or `sata`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// Write the whole disk when it is made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preallocation: bool,
    /// `none`, `writethrough` or `writeback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Give the disk an I/O thread of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dedicated_io_thread: bool,
}

/// A further disk of a machine.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AdditionalDiskSpec {
    /// Name in the machine.
    pub name: String,
    /// Size as a quantity.
    pub size: String,
    /// Storage class of the infra cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// `ReadWriteOnce`, `ReadWriteMany`, `ReadWriteOncePod` or `ReadOnlyMany`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_mode: Option<String>,
    /// `Block` or `Filesystem`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<String>,
    /// `virtio`, `scsi` or `sata`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// Serial number that the guest sees; absent is the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Image that the disk begins with; absent makes a blank disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Give the disk an I/O thread of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dedicated_io_thread: bool,
}

/// A disk image that an HTTP server offers.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpSource {
    /// Address.
    pub url: String,
    /// Expected digest, `sha256:<hex>` or `sha512:<hex>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// Secret with credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Headers to send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_headers: Vec<String>,
    /// Secrets whose values are headers to send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_extra_headers: Vec<String>,
    /// ConfigMap with certificates to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_config_map: Option<String>,
}

/// A disk image inside a container image.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RegistrySource {
    /// Address, `docker://…` or `oci-archive://…`.
    pub url: String,
    /// `pod` or `node`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_method: Option<String>,
    /// Secret with credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// ConfigMap with certificates to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_config_map: Option<String>,
    /// Architecture of a multi-platform image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
}

/// A claim of the infra cluster.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PvcSource {
    /// Namespace of the claim.
    pub namespace: String,
    /// Name of the claim.
    pub name: String,
}
