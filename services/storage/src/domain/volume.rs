//! A volume as Steading sees it: what is wanted of it, how far it is, and where it belongs.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::placement::{AttachRefusal, ExpandRefusal, Placement};
use steading_model::{
    name::{SnapshotName, VolumeName},
    quantity::Quantity,
};

/// How many nodes may use a volume at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessMode {
    /// Written from one node.
    ReadWriteOnce,
    /// Written from many nodes.
    ReadWriteMany,
    /// Read from many nodes.
    ReadOnlyMany,
    /// Written by one pod.
    ReadWriteOncePod,
}

/// How the infra cluster stores a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VolumeMode {
    /// A raw device.
    Block,
    /// An image file on a file system.
    Filesystem,
}

/// Bus by which a volume appears in a machine; KubeVirt hot-plugs over these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Bus {
    /// Virtio SCSI.
    #[default]
    Scsi,
    /// Virtio block.
    Virtio,
}

/// What happens to the bytes of a deleted volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ReclaimPolicy {
    /// They are deleted.
    #[default]
    Delete,
    /// The persistent volume is kept.
    Retain,
}

macro_rules! texts {
    ($type:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl $type {
            /// The text that Kubernetes uses.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// Reads Kubernetes' text.
            pub fn from_text(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

texts!(AccessMode {
    ReadWriteOnce = "ReadWriteOnce",
    ReadWriteMany = "ReadWriteMany",
    ReadOnlyMany = "ReadOnlyMany",
    ReadWriteOncePod = "ReadWriteOncePod",
});
texts!(VolumeMode { Block = "Block", Filesystem = "Filesystem" });
texts!(Bus { Scsi = "scsi", Virtio = "virtio" });
texts!(ReclaimPolicy { Delete = "Delete", Retain = "Retain" });

/// What a new volume holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// Zeroes.
    Blank,
    /// The content of a snapshot.
    Snapshot(SnapshotName),
    /// The content of another volume.
    Volume(VolumeName),
    /// A disk image behind a URL.
    Http(String),
}

/// How far a volume is, apart from being attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Nothing seen yet.
    Pending,
    /// Being allocated or filled.
    Provisioning,
    /// Allocated when a machine uses it.
    WaitingForConsumer,
    /// Can be used.
    Ready,
    /// Could not be made.
    Failed,
    /// The claim that held its bytes is gone.
    Lost,
}

impl Stage {
    /// Whether a machine may be given the volume: one that waits for its first consumer must be.
    pub fn is_attachable(self) -> bool {
        match self {
            Self::Ready | Self::WaitingForConsumer => true,
            Self::Pending | Self::Provisioning | Self::Failed | Self::Lost => false,
        }
    }
}

/// A volume as the infra cluster shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// Its name.
    pub name: VolumeName,
    /// Uid of its DataVolume.
    pub uid: String,
    /// Version of its DataVolume.
    pub version: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When it was last written.
    pub updated: Option<Timestamp>,
    /// When its deletion was asked for.
    pub deleted: Option<Timestamp>,
    /// Whether our finalizer holds it.
    pub held: bool,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// The user's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Id of its storage class.
    pub class: String,
    /// The storage class of the infra cluster.
    pub infra_class: String,
    /// Wanted size.
    pub size: Quantity,
    /// The size that it was made with.
    pub made: Quantity,
    /// Its access mode.
    pub access_mode: AccessMode,
    /// Its volume mode.
    pub volume_mode: VolumeMode,
    /// What it held when it was new.
    pub source: Source,
    /// Bus of its disk.
    pub bus: Bus,
    /// What becomes of its bytes.
    pub reclaim: ReclaimPolicy,
    /// Zones that reach it; none means all.
    pub zones: Vec<String>,
    /// Id of the machine it is wanted on, as it is written down.
    pub attach_to: Option<String>,
    /// The machine that may have it.
    pub placement: Option<Placement>,
    /// Why its machine refused it last.
    pub attach_refusal: Option<AttachRefusal>,
    /// Why the infra cluster refused to let it grow.
    pub expand_refusal: Option<ExpandRefusal>,
    /// How far it is.
    pub stage: Stage,
    /// Why it is where it is, for people.
    pub message: String,
    /// Percent that are filled.
    pub progress: u8,
}

impl Volume {
    /// The machine that the volume should be on now: none once it is to be deleted.
    pub fn wanted_on(&self) -> Option<&str> {
        if self.deleted.is_some() {
            None
        } else {
            self.attach_to.as_deref()
        }
    }

    /// Its id, which is the name of DataVolume and claim.
    pub fn id(&self) -> &str {
        self.name.id.as_str()
    }
}

/// The claim behind a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Size that was asked for.
    pub requested: Quantity,
    /// Size that there is.
    pub capacity: Option<Quantity>,
    /// Name of the persistent volume.
    pub persistent_volume: Option<String>,
    /// Whether the persistent volume behind it is gone: Kubernetes' phase `Lost`.
    pub lost: bool,
    /// What its driver says against growing, if it does.
    pub resize_failure: Option<String>,
}
