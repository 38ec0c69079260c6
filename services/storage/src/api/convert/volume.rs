//! Volumes: what is seen as a message, and a granted wish as a DataVolume.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::VolumeResourceRequirements, apimachinery::pkg::api::resource::Quantity as KubeQuantity,
};
use kube::api::ObjectMeta;
use steading_api::{
    convert::timestamp,
    storage::v1::{
        self as proto,
        volume::{AttachmentState as State, Source as ProtoSource, State as VolumeState},
    },
    types::v1::{Condition, ConditionStatus},
};
use steading_infra::{
    cdi::{BlankSource, DataVolume, DataVolumeSource, DataVolumeSpec, ObjectSource, StorageSpec, UrlSource},
    labels,
};
use steading_model::name::{MachineName, VolumeName};

use super::{access_mode, bus, volume_mode};
use crate::{
    domain::{
        attachment::{Attachment, AttachmentState},
        class::{Grant, Offer},
        mark::serial,
        overhead::Overheads,
        volume::{Claim, ReclaimPolicy, Source, Stage, Volume},
    },
    plan::volume::is_growing,
};

/// What is seen of a volume, as a message.
pub fn volume(volume: &Volume, claim: Option<&Claim>, overheads: &Overheads, attachment: &Attachment) -> proto::Volume {
    let machine = |id: &str| {
        id.parse()
            .map(|id| MachineName::new(volume.name.cluster.clone(), id).to_string())
            .unwrap_or_default()
    };
    let deleting = volume.deleted.is_some();
    let state = if deleting {
        VolumeState::Deleting
    } else {
        stage(volume.stage)
    };
    let moving = matches!(
        attachment.state,
        AttachmentState::Attaching | AttachmentState::Detaching
    );
    let filling = matches!(volume.stage, Stage::Pending | Stage::Provisioning);
    let growing = claim.is_some_and(|claim| is_growing(volume, claim, overheads));
    let capacity = claim.and_then(|claim| claim.capacity);
    proto::Volume {
        name: volume.name.to_string(),
        uid: volume.uid.clone(),
        create_time: volume.created.map(timestamp),
        update_time: volume.updated.map(timestamp),
        delete_time: volume.deleted.map(timestamp),
        labels: volume.labels.clone().into_iter().collect(),
        annotations: volume.annotations.clone().into_iter().collect(),
        state: state.into(),
        conditions: conditions(volume, claim, growing, attachment),
        reconciling: deleting || moving || filling || growing,
        storage_class: if volume.class.is_empty() {
            String::new()
        } else {
            format!("storageClasses/{}", volume.class)
        },
        size: volume.size.to_string(),
        access_mode: access_mode(volume.access_mode).into(),
        volume_mode: volume_mode(volume.volume_mode).into(),
        machine: volume.attach_to.as_deref().map(machine).unwrap_or_default(),
        attached_machine: attachment.machine.as_deref().map(machine).unwrap_or_default(),
        attachment_state: attachment_state(attachment.state).into(),
        attachment_reason: attachment.reason.to_owned(),
        attachment_message: attachment.message.clone(),
        serial: serial(&volume.uid),
        device_target: attachment.target.clone(),
        bus: bus(volume.bus).into(),
        progress_percent: volume.progress.into(),
        capacity: capacity
            .map(|capacity| {
                overheads
                    .usable(capacity, volume.volume_mode, &volume.infra_class)
                    .to_string()
            })
            .unwrap_or_default(),
        zones: volume.zones.clone(),
        source: Some(source(&volume.source)),
        ..proto::Volume::default()
    }
}

fn stage(stage: Stage) -> VolumeState {
    match stage {
        Stage::Pending => VolumeState::Pending,
        Stage::Provisioning => VolumeState::Provisioning,
        Stage::WaitingForConsumer => VolumeState::WaitingForConsumer,
        Stage::Ready => VolumeState::Ready,
        Stage::Failed | Stage::Lost => VolumeState::Failed,
    }
}

fn attachment_state(state: AttachmentState) -> State {
    match state {
        AttachmentState::Detached => State::Detached,
        AttachmentState::Attaching => State::Attaching,
        AttachmentState::Attached => State::Attached,
        AttachmentState::Detaching => State::Detaching,
        AttachmentState::Failed => State::Failed,
        AttachmentState::Unknown => State::Unknown,
    }
}

fn source(source: &Source) -> ProtoSource {
    match source {
        Source::Blank => ProtoSource::Blank(proto::BlankSource {}),
        Source::Snapshot(name) => ProtoSource::Snapshot(name.to_string()),
        Source::Volume(name) => ProtoSource::Volume(name.to_string()),
        Source::Http(url) => ProtoSource::Http(proto::HttpSource { url: url.clone() }),
    }
}

/// Derived at each look, so they carry no transition time.
fn conditions(volume: &Volume, claim: Option<&Claim>, growing: bool, attachment: &Attachment) -> Vec<Condition> {
    let condition = |kind: &str, status: ConditionStatus, reason: &str, message: &str| Condition {
        r#type: kind.to_owned(),
        status: status.into(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        ..Condition::default()
    };
    let provisioned = match volume.stage {
        Stage::Ready => condition("Provisioned", ConditionStatus::True, "Provisioned", ""),
        Stage::WaitingForConsumer => condition(
            "Provisioned",
            ConditionStatus::False,
            "WaitingForConsumer",
            "allocated once a machine uses it",
        ),
        Stage::Pending | Stage::Provisioning => {
            condition("Provisioned", ConditionStatus::False, "Provisioning", &volume.message)
        }
        Stage::Failed => condition("Provisioned", ConditionStatus::False, "Failed", &volume.message),
        Stage::Lost => condition("Provisioned", ConditionStatus::False, "ClaimLost", &volume.message),
    };
    let attached = match attachment.state {
        AttachmentState::Attached => ConditionStatus::True,
        AttachmentState::Unknown => ConditionStatus::Unknown,
        AttachmentState::Detached
        | AttachmentState::Attaching
        | AttachmentState::Detaching
        | AttachmentState::Failed => ConditionStatus::False,
    };
    let reason = match (attachment.reason, attached) {
        ("", ConditionStatus::True) => "Attached",
        ("", _) => "Detached",
        (reason, _) => reason,
    };
    let mut conditions = vec![
        provisioned,
        condition("Attached", attached, reason, &attachment.message),
    ];
    if volume.size > volume.made {
        let refused = volume.expand_refusal.as_ref().map(|refusal| refusal.message.as_str());
        let failed = claim.and_then(|claim| claim.resize_failure.as_deref());
        conditions.push(match (growing, refused, failed) {
            (false, None, _) => condition("Expanded", ConditionStatus::True, "Expanded", ""),
            (_, Some(message), _) => condition("Expanded", ConditionStatus::False, "ExpansionRefused", message),
            (true, None, Some(message)) => condition("Expanded", ConditionStatus::False, "ExpansionFailed", message),
            (true, None, None) => condition(
                "Expanded",
                ConditionStatus::False,
                "Expanding",
                "the infra cluster has not given the storage yet",
            ),
        });
    }
    conditions
}

/// A volume to be made: everything was granted.
#[derive(Debug, Clone)]
pub struct NewVolume<'a> {
    /// Its name.
    pub name: &'a VolumeName,
    /// The class.
    pub offer: &'a Offer,
    /// What the class granted.
    pub grant: Grant,
    /// What it holds.
    pub source: &'a Source,
    /// The machine it is wanted on.
    pub machine: Option<&'a str>,
    /// The user's labels and ours.
    pub labels: BTreeMap<String, String>,
    /// The user's annotations.
    pub annotations: BTreeMap<String, String>,
}

/// The DataVolume of a new volume. It has no owner: it outlives any machine.
pub fn data_volume(new: NewVolume<'_>) -> DataVolume {
    let NewVolume {
        name,
        offer,
        grant,
        source,
        machine,
        mut labels,
        mut annotations,
    } = new;
    for (key, value) in [
        (labels::PROJECT, name.cluster.project.to_string()),
        (labels::CLUSTER, name.cluster.cluster.to_string()),
        (labels::VOLUME, name.id.to_string()),
        (labels::STORAGE_CLASS, offer.id.clone()),
        (labels::MANAGED_BY, labels::MANAGED_BY_STEADING.to_owned()),
    ] {
        labels.insert(key.to_owned(), value);
    }
    annotations.insert(labels::CDI_DELETE_AFTER_COMPLETION.to_owned(), "false".to_owned());
    annotations.insert(labels::VOLUME_BUS.to_owned(), offer.bus.as_str().to_owned());
    if offer.reclaim == ReclaimPolicy::Retain {
        annotations.insert(labels::RECLAIM_POLICY.to_owned(), offer.reclaim.as_str().to_owned());
    }
    if !offer.zones.is_empty() {
        annotations.insert(labels::VOLUME_ZONES.to_owned(), offer.zones.join(","));
    }
    if let Some(machine) = machine {
        annotations.insert(labels::ATTACH_TO.to_owned(), machine.to_owned());
    }
    let requests = BTreeMap::from([("storage".to_owned(), KubeQuantity(grant.size.to_string()))]);
    DataVolume {
        metadata: ObjectMeta {
            name: Some(name.object_name()),
            namespace: Some(name.namespace()),
            labels: Some(labels),
            annotations: Some(annotations),
            finalizers: Some(vec![labels::VOLUME_FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: DataVolumeSpec {
            source: Some(data_volume_source(source)),
            storage: Some(StorageSpec {
                access_modes: vec![grant.access_mode.as_str().to_owned()],
                volume_mode: Some(grant.volume_mode.as_str().to_owned()),
                resources: Some(VolumeResourceRequirements {
                    requests: Some(requests),
                    ..VolumeResourceRequirements::default()
                }),
                storage_class_name: Some(offer.infra_class.clone()),
                ..StorageSpec::default()
            }),
            ..DataVolumeSpec::default()
        },
        status: None,
    }
}

fn data_volume_source(source: &Source) -> DataVolumeSource {
    let object = |namespace: String, name: String| Some(ObjectSource { namespace, name });
    match source {
        Source::Blank => DataVolumeSource {
            blank: Some(BlankSource {}),
            ..DataVolumeSource::default()
        },
        Source::Snapshot(name) => DataVolumeSource {
            snapshot: object(name.namespace(), name.object_name()),
            ..DataVolumeSource::default()
        },
        Source::Volume(name) => DataVolumeSource {
            pvc: object(name.namespace(), name.object_name()),
            ..DataVolumeSource::default()
        },
        Source::Http(url) => DataVolumeSource {
            http: Some(UrlSource {
                url: Some(url.clone()),
                ..UrlSource::default()
            }),
            ..DataVolumeSource::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{class::Demand, volume::AccessMode},
        observe::parse,
        samples::mk_volume,
    };

    #[test]
    fn a_new_volume_is_read_back_as_it_was_granted() {
        let wanted = mk_volume("data");
        let offer = Offer {
            zones: vec!["a".into(), "b".into()],
            ..crate::domain::class::tests::mk_offer("fast")
        };
        let demand = Demand {
            size: wanted.size,
            access_mode: Some(AccessMode::ReadWriteOnce),
            volume_mode: None,
        };
        for source in [
            Source::Blank,
            Source::Http("https://a/b".into()),
            Source::Volume("projects/acme/clusters/web/volumes/old".parse().expect("a name")),
            Source::Snapshot("projects/acme/clusters/web/snapshots/old".parse().expect("a name")),
        ] {
            let object = data_volume(NewVolume {
                name: &wanted.name,
                offer: &offer,
                grant: offer.grant(demand).expect("granted"),
                source: &source,
                machine: Some("m"),
                labels: BTreeMap::from([("team".into(), "a".into())]),
                annotations: BTreeMap::new(),
            });
            let seen = parse::volume(&object).expect("ours");
            assert_eq!(
                (&seen.source, seen.size, seen.class.as_str()),
                (&source, wanted.size, "fast")
            );
            assert_eq!(
                (seen.attach_to.as_deref(), seen.held, seen.zones.len()),
                (Some("m"), true, 2)
            );
            assert_eq!(seen.labels, BTreeMap::from([("team".to_owned(), "a".to_owned())]));
            assert!(object.metadata.owner_references.is_none());
        }
    }
}
