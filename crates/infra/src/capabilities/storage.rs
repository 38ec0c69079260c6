//! Storage classes with what CDI knows of them, and snapshot classes.

use std::collections::BTreeMap;

use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Client, ResourceExt};

use super::read::{Found, list};
use crate::{cdi::StorageProfile, snapshot::VolumeSnapshotClass};

/// Annotation of Kubernetes: the class is used where none is named.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// Annotation of KubeVirt: the class is used for machines' disks where none is named.
const DEFAULT_VIRT_CLASS: &str = "storageclass.kubevirt.io/is-default-virt-class";
/// Annotation of the CSI snapshotter: the class is used where none is named.
const DEFAULT_SNAPSHOT_CLASS: &str = "snapshot.storage.kubernetes.io/is-default-class";

/// A storage class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageClassCapabilities {
    /// Its name.
    pub name: String,
    /// Who makes its volumes.
    pub provisioner: String,
    /// Whether it is used where none is named.
    pub default: bool,
    /// Whether it is used for machines' disks where none is named.
    pub default_for_machines: bool,
    /// Whether its volumes can grow.
    pub expansion_allowed: bool,
    /// When volumes are bound.
    pub binding_mode: String,
    /// What becomes of the bytes with the claim.
    pub reclaim_policy: String,
    /// What CDI knows of it.
    pub profile: Found<StorageProfileCapabilities>,
}

/// What CDI knows of a storage class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageProfileCapabilities {
    /// Modes in order of preference.
    pub modes: Vec<ClaimModes>,
    /// How clones are made.
    pub clone_strategy: Option<String>,
    /// Snapshot class for clones.
    pub snapshot_class: Option<String>,
}

/// Modes of a claim that go together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimModes {
    /// Access modes, `ReadWriteMany` for example.
    pub access: Vec<String>,
    /// `Block` or `Filesystem`.
    pub volume: Option<String>,
}

/// A snapshot class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotClass {
    /// Its name.
    pub name: String,
    /// CSI driver.
    pub driver: String,
    /// What becomes of the bytes with the snapshot.
    pub deletion_policy: String,
    /// Whether it is used where none is named.
    pub default: bool,
}

pub(super) async fn snapshot_classes(client: &Client, served: bool) -> Found<Vec<SnapshotClass>> {
    list::<VolumeSnapshotClass>(client, served).await.map(|all| {
        let mut classes: Vec<SnapshotClass> = all
            .into_iter()
            .map(|class| SnapshotClass {
                default: is_annotated(&class, DEFAULT_SNAPSHOT_CLASS),
                name: class.name_any(),
                driver: class.spec.driver,
                deletion_policy: class.spec.deletion_policy,
            })
            .collect();
        classes.sort_by(|a, b| a.name.cmp(&b.name));
        classes
    })
}

pub(super) async fn storage_classes(client: &Client, has_cdi: bool) -> Found<Vec<StorageClassCapabilities>> {
    let (classes, profiles) = tokio::join!(
        list::<StorageClass>(client, true),
        list::<StorageProfile>(client, has_cdi)
    );
    classes.map(|classes| describe(classes, profiles))
}

fn describe(classes: Vec<StorageClass>, profiles: Found<Vec<StorageProfile>>) -> Vec<StorageClassCapabilities> {
    let profiles: Found<BTreeMap<String, StorageProfile>> =
        profiles.map(|all| all.into_iter().map(|profile| (profile.name_any(), profile)).collect());
    let mut described: Vec<StorageClassCapabilities> = classes
        .into_iter()
        .map(|class| StorageClassCapabilities {
            default: is_annotated(&class, DEFAULT_CLASS),
            default_for_machines: is_annotated(&class, DEFAULT_VIRT_CLASS),
            profile: profile_of(&class.name_any(), &profiles),
            name: class.name_any(),
            provisioner: class.provisioner,
            expansion_allowed: class.allow_volume_expansion.unwrap_or_default(),
            // Kubernetes' own defaults, filled in by every API server; empty only in what no API server gave.
            binding_mode: class.volume_binding_mode.unwrap_or_default(),
            reclaim_policy: class.reclaim_policy.unwrap_or_default(),
        })
        .collect();
    described.sort_by(|a, b| a.name.cmp(&b.name));
    described
}

fn profile_of(class: &str, profiles: &Found<BTreeMap<String, StorageProfile>>) -> Found<StorageProfileCapabilities> {
    let profile = match profiles {
        Found::Present(all) => all.get(class),
        Found::Absent => None,
        Found::Unknown(reason) => return Found::Unknown(reason.clone()),
    };
    let Some(profile) = profile else {
        return Found::Absent;
    };
    let status = profile.status.clone().unwrap_or_default();
    Found::Present(StorageProfileCapabilities {
        modes: status
            .claim_property_sets
            .into_iter()
            .map(|set| ClaimModes {
                access: set.access_modes,
                volume: set.volume_mode,
            })
            .collect(),
        clone_strategy: status.clone_strategy,
        snapshot_class: status.snapshot_class,
    })
}

fn is_annotated(object: &impl ResourceExt, annotation: &str) -> bool {
    object
        .annotations()
        .get(annotation)
        .is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_class_without_profile_is_told_from_one_whose_profile_cannot_be_read() {
        let class: StorageClass = serde_json::from_value(json!({
            "metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "p", "allowVolumeExpansion": true,
        }))
        .expect("a storage class");
        let profile: StorageProfile = serde_json::from_value(json!({
            "metadata": {"name": "fast"}, "spec": {},
            "status": {"claimPropertySets": [{"accessModes": ["ReadWriteMany"], "volumeMode": "Block"}], "cloneStrategy": "snapshot"},
        }))
        .expect("a profile");
        let of = |profiles| describe(vec![class.clone()], profiles).remove(0);
        assert_eq!(of(Found::Present(Vec::new())).profile, Found::Absent);
        assert_eq!(of(Found::Unknown("no".into())).profile, Found::Unknown("no".into()));
        let known = of(Found::Present(vec![profile]));
        assert!(known.default && known.expansion_allowed && !known.default_for_machines);
        let profile = known.profile.present().expect("known");
        assert_eq!(profile.modes[0].access, ["ReadWriteMany"]);
        assert_eq!(profile.clone_strategy.as_deref(), Some("snapshot"));
    }
}
