//! Snapshots: object → message.

use kube::ResourceExt;
use steading_api::{
    storage::v1::{self as proto, snapshot::State},
    types::v1::{Condition, ConditionStatus},
};
use steading_infra::{labels, snapshot::VolumeSnapshot};
use steading_model::name::{SnapshotName, VolumeName};
use steading_runtime::standard::time;

/// A snapshot as a message; `None` if the object is not ours.
pub fn snapshot(object: &VolumeSnapshot) -> Option<proto::Snapshot> {
    let meta = &object.metadata;
    let ours = meta.labels.as_ref()?;
    ours.get(labels::SNAPSHOT)
        .filter(|id| Some(*id) == meta.name.as_ref())?;
    let namespace = object.namespace()?;
    let name = SnapshotName::from_object(&namespace, &object.name_any())?;
    let claim = object
        .spec
        .source
        .persistent_volume_claim_name
        .as_deref()
        .unwrap_or_default();
    let status = object.status.clone().unwrap_or_default();
    let failure = status.error.as_ref().map(|e| e.message.clone().unwrap_or_default());
    let terminating = meta.deletion_timestamp.is_some();
    let state = match (terminating, status.ready_to_use, &failure) {
        (true, ..) => State::Deleting,
        (false, Some(true), _) => State::Ready,
        (false, _, Some(_)) => State::Failed,
        (false, _, None) => State::Pending,
    };
    let ready = state == State::Ready;
    let condition = Condition {
        r#type: "Ready".into(),
        status: if ready {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        }
        .into(),
        reason: if ready {
            "Ready"
        } else if failure.is_some() {
            "Failed"
        } else {
            "Pending"
        }
        .into(),
        message: failure.unwrap_or_default(),
        ..Condition::default()
    };
    Some(proto::Snapshot {
        name: name.to_string(),
        state: state.into(),
        conditions: vec![condition],
        reconciling: matches!(state, State::Pending | State::Deleting),
        volume: VolumeName::from_object(&namespace, claim)
            .map(|name| name.to_string())
            .unwrap_or_default(),
        snapshot_time: time(status.creation_time.as_ref()),
        restore_size: status.restore_size.map(|size| size.0).unwrap_or_default(),
        storage_class: ours
            .get(labels::STORAGE_CLASS)
            .map(|id| format!("storageClasses/{id}"))
            .unwrap_or_default(),
        ..proto::Snapshot::default()
    })
}
