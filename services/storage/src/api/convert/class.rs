//! Storage classes: message ⇄ object.

use kube::ResourceExt;
use steading_api::storage::v1::{self as proto, storage_class::State};
use steading_infra::crd::storage_class::{StorageClass, StorageClassSpec};
use steading_model::{
    name::{ProjectName, StorageClassName},
    violation::Violations,
};
use steading_runtime::standard::condition;

use super::{
    access_mode, access_mode_from, bus, bus_from, reclaim_policy, reclaim_policy_from, volume_mode, volume_mode_from,
};
use crate::domain::volume::{AccessMode, Bus, ReclaimPolicy, VolumeMode};

/// A class as a message; `None` if the object's name is not ours.
pub fn class(object: &StorageClass) -> Option<proto::StorageClass> {
    let name = StorageClassName::from_object_name(&object.name_any())?;
    let (meta, spec) = (&object.metadata, &object.spec);
    let status = object.status.clone().unwrap_or_default();
    let judged = status.observed_generation.is_some() && status.observed_generation == meta.generation;
    let access = spec.access_modes.iter().filter_map(|text| AccessMode::from_text(text));
    let volume = spec.volume_modes.iter().filter_map(|text| VolumeMode::from_text(text));
    let state = match (
        meta.deletion_timestamp.is_some(),
        judged,
        status.conditions.iter().any(|c| c.status == "False"),
    ) {
        (true, ..) => State::Deleting,
        (_, false, _) => State::Pending,
        (_, _, true) => State::Unusable,
        (false, true, false) => State::Ready,
    };
    Some(proto::StorageClass {
        name: name.to_string(),
        state: state.into(),
        conditions: status.conditions.iter().map(condition).collect(),
        reconciling: matches!(state, State::Pending | State::Deleting),
        infra_storage_class: spec.infra_storage_class.clone(),
        description: spec.description.clone(),
        all_projects: spec.all_projects,
        projects: spec.projects.iter().map(|id| format!("projects/{id}")).collect(),
        min_size: spec.min_size.clone().unwrap_or_default(),
        max_size: spec.max_size.clone().unwrap_or_default(),
        snapshot_class: spec.snapshot_class.clone().unwrap_or_default(),
        bus: bus(spec.bus.as_deref().and_then(Bus::from_text).unwrap_or_default()).into(),
        access_modes: access.map(|mode| access_mode(mode).into()).collect(),
        volume_modes: volume.map(|mode| volume_mode(mode).into()).collect(),
        zones: spec.zones.clone(),
        default_class: spec.default_class,
        expansion_allowed: spec.expansion_allowed,
        reclaim_policy: reclaim_policy(
            spec.reclaim_policy
                .as_deref()
                .and_then(ReclaimPolicy::from_text)
                .unwrap_or_default(),
        )
        .into(),
        ..proto::StorageClass::default()
    })
}

/// The wanted side of a message.
///
/// # Errors
/// If something is said that the object cannot hold; the rest is for [`crate::observe::class::offer`].
pub fn class_from(message: &proto::StorageClass) -> Result<StorageClassSpec, Violations> {
    let mut violations = Violations::new();
    let mut projects = Vec::new();
    for (index, project) in message.projects.iter().enumerate() {
        match project.parse::<ProjectName>() {
            Ok(name) => projects.push(name.project.to_string()),
            Err(error) => violations.add(format!("projects[{index}]"), error.describe()),
        }
    }
    let mut access_modes = Vec::new();
    for (index, mode) in message.access_modes().enumerate() {
        match access_mode_from(mode) {
            Some(mode) => access_modes.push(mode.as_str().to_owned()),
            None => violations.add(format!("access_modes[{index}]"), "must be set"),
        }
    }
    let mut volume_modes = Vec::new();
    for (index, mode) in message.volume_modes().enumerate() {
        match volume_mode_from(mode) {
            Some(mode) => volume_modes.push(mode.as_str().to_owned()),
            None => violations.add(format!("volume_modes[{index}]"), "must be set"),
        }
    }
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let spec = StorageClassSpec {
        infra_storage_class: message.infra_storage_class.clone(),
        description: message.description.clone(),
        all_projects: message.all_projects,
        projects,
        min_size: text(&message.min_size),
        max_size: text(&message.max_size),
        snapshot_class: text(&message.snapshot_class),
        bus: bus_from(message.bus()).map(|bus| bus.as_str().to_owned()),
        access_modes,
        volume_modes,
        zones: message.zones.clone(),
        default_class: message.default_class,
        expansion_allowed: message.expansion_allowed,
        reclaim_policy: reclaim_policy_from(message.reclaim_policy()).map(|policy| policy.as_str().to_owned()),
    };
    violations.finish_with(Some(spec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_survives_the_way_through_the_object() {
        let message = proto::StorageClass {
            name: "storageClasses/fast".into(),
            infra_storage_class: "ceph".into(),
            projects: vec!["projects/acme".into()],
            min_size: "1Gi".into(),
            bus: proto::DiskBus::Virtio.into(),
            access_modes: vec![proto::AccessMode::ReadWriteMany.into()],
            volume_modes: vec![proto::VolumeMode::Block.into()],
            reclaim_policy: proto::ReclaimPolicy::Retain.into(),
            default_class: true,
            state: State::Pending.into(),
            reconciling: true,
            ..proto::StorageClass::default()
        };
        let spec = class_from(&message).expect("valid");
        assert_eq!(class(&StorageClass::new("fast", spec)), Some(message));
    }

    #[test]
    fn faults_have_paths() {
        let message = proto::StorageClass {
            projects: vec!["acme".into()],
            access_modes: vec![0],
            ..proto::StorageClass::default()
        };
        let violations = class_from(&message).expect_err("invalid");
        assert_eq!(
            violations.iter().map(|v| v.path.as_str()).collect::<Vec<_>>(),
            ["projects[0]", "access_modes[0]"]
        );
    }
}
