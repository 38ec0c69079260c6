//! Sample objects of the unit tests.

use std::collections::BTreeMap;

use steading_model::{
    name::{ClusterName, VolumeName},
    quantity::Quantity,
};

use crate::domain::volume::{AccessMode, Bus, ReclaimPolicy, Source, Stage, Volume, VolumeMode};

/// The cluster of the samples.
pub(crate) fn mk_cluster() -> ClusterName {
    "projects/acme/clusters/web".parse().expect("a cluster's name")
}

/// A ready volume that is wanted nowhere.
pub(crate) fn mk_volume(id: &str) -> Volume {
    Volume {
        name: VolumeName::new(mk_cluster(), id.parse().expect("an id")),
        uid: format!(
            "{:0>8}-0000-4000-8000-000000000000",
            format!("{:x}", id.len() * 7919 + usize::from(id.as_bytes()[0]))
        ),
        version: "1".into(),
        created: None,
        updated: None,
        deleted: None,
        held: true,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        class: "fast".into(),
        infra_class: "ceph".into(),
        size: Quantity::from_bytes(1 << 30),
        made: Quantity::from_bytes(1 << 30),
        access_mode: AccessMode::ReadWriteOnce,
        volume_mode: VolumeMode::Block,
        source: Source::Blank,
        bus: Bus::Scsi,
        reclaim: ReclaimPolicy::Delete,
        zones: Vec::new(),
        attach_to: None,
        placement: None,
        attach_refusal: None,
        expand_refusal: None,
        stage: Stage::Ready,
        message: String::new(),
        progress: 100,
    }
}
