//! Images: one DataSource each, and a golden DataVolume for each content.
//!
//! The DataSource carries what is wanted and what was seen as annotations; its `spec` points at the content that is
//! cloned now. A new content is imported beside the old one and the pointer moves when it is there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use steading_infra::crd::machine_template::{HttpSource, PvcSource, RegistrySource};

use super::digest::hex;

/// Annotation of the DataSource: the wanted side, as JSON.
pub const SPEC_ANNOTATION: &str = "steading.dev/image-spec";
/// Annotation of the DataSource: the observed side, as JSON.
pub const STATUS_ANNOTATION: &str = "steading.dev/image-status";
/// Label of a golden DataVolume: the content that it holds.
pub const CONTENT_LABEL: &str = "steading.dev/content";

/// What is wanted of an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageSpec {
    /// Short name for people.
    pub display_name: String,
    /// What it is for.
    pub description: String,
    /// Import by HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// Import from a registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistrySource>,
    /// Clone of a claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc: Option<PvcSource>,
    /// Size of the golden disk as a quantity.
    pub size: String,
    /// Infra storage class; empty is the default.
    pub storage_class: String,
    /// Access mode; empty leaves it to CDI.
    pub access_mode: String,
    /// Volume mode; empty leaves it to CDI.
    pub volume_mode: String,
    /// Write the whole disk.
    pub preallocation: bool,
    /// Operating system.
    pub os: String,
    /// Its version.
    pub os_version: String,
    /// Processor architecture.
    pub architecture: String,
    /// Instance type for templates that name none.
    pub default_instance_type: String,
    /// Preference for templates that name none.
    pub default_preference: String,
    /// Raised by every refresh: the same source, imported anew.
    pub refresh: u64,
}

impl ImageSpec {
    /// Identifies the content that is wanted: it changes with everything that makes a golden disk differ.
    pub fn content_id(&self) -> String {
        let parts = serde_json::json!([
            self.http,
            self.registry,
            self.pvc,
            self.size,
            self.storage_class,
            self.access_mode,
            self.volume_mode,
            self.preallocation,
            self.refresh
        ]);
        let digest = Sha256::digest(parts.to_string());
        hex(digest.get(..5).unwrap_or_default())
    }

    /// Name of the golden DataVolume of a content.
    pub fn data_volume_name(object_name: &str, content_id: &str) -> String {
        format!("{object_name}-{content_id}")
    }
}

/// How far the wanted content is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImportPhase {
    /// Not begun.
    #[default]
    Pending,
    /// Running.
    Importing,
    /// There.
    Ready,
    /// Failed; CDI goes on trying.
    Failed,
}

/// A golden disk as it was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldenDisk {
    /// Name of the DataVolume and its claim.
    pub name: String,
    /// Which content it holds.
    pub content: String,
    /// How far its import is.
    pub phase: ImportPhase,
    /// Percent of the import.
    pub progress: i32,
    /// How often the import started over.
    pub restarts: i32,
    /// What CDI says of a failure.
    pub failure: String,
}

/// What was seen of an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageStatus {
    /// How far the wanted content is.
    pub phase: ImportPhase,
    /// The content that the phase speaks of.
    pub wanted: String,
    /// The content that is cloned now; empty if there is none.
    pub content: String,
    /// Percent of the running import.
    pub progress: i32,
    /// When the content that is cloned now was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import_time: Option<Time>,
    /// How often the running import started over.
    pub restarts: i32,
    /// What CDI says of a failure.
    pub failure: String,
    /// Which rules the image breaks; empty if it was accepted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub refusal: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_makes_the_disk_differ_changes_the_content() {
        let spec = ImageSpec {
            http: Some(HttpSource {
                url: "https://a".into(),
                ..HttpSource::default()
            }),
            size: "10Gi".into(),
            ..ImageSpec::default()
        };
        let renamed = ImageSpec {
            display_name: "x".into(),
            os: "ubuntu".into(),
            ..spec.clone()
        };
        assert_eq!(spec.content_id(), renamed.content_id());
        for other in [
            ImageSpec {
                refresh: 1,
                ..spec.clone()
            },
            ImageSpec {
                size: "11Gi".into(),
                ..spec.clone()
            },
            ImageSpec {
                http: None,
                ..spec.clone()
            },
        ] {
            assert_ne!(spec.content_id(), other.content_id());
        }
    }
}
