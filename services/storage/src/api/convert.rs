//! Messages ⇄ domain and objects.

pub mod class;
pub mod snapshot;
pub mod volume;

use steading_api::storage::v1 as proto;

use crate::domain::volume::{AccessMode, Bus, ReclaimPolicy, VolumeMode};

macro_rules! enums {
    ($to:ident, $from:ident, $domain:ident { $($variant:ident),+ }) => {
        #[doc = concat!("The wire form of a [`", stringify!($domain), "`].")]
        pub fn $to(value: $domain) -> proto::$domain {
            match value { $($domain::$variant => proto::$domain::$variant),+ }
        }

        #[doc = concat!("A [`", stringify!($domain), "`] from the wire; `None` if it is not set.")]
        pub fn $from(value: proto::$domain) -> Option<$domain> {
            match value {
                proto::$domain::Unspecified => None,
                $(proto::$domain::$variant => Some($domain::$variant),)+
            }
        }
    };
}

enums!(
    access_mode,
    access_mode_from,
    AccessMode {
        ReadWriteOnce,
        ReadWriteMany,
        ReadOnlyMany,
        ReadWriteOncePod
    }
);
enums!(volume_mode, volume_mode_from, VolumeMode { Block, Filesystem });
enums!(reclaim_policy, reclaim_policy_from, ReclaimPolicy { Delete, Retain });

/// The wire form of a [`Bus`].
pub fn bus(value: Bus) -> proto::DiskBus {
    match value {
        Bus::Scsi => proto::DiskBus::Scsi,
        Bus::Virtio => proto::DiskBus::Virtio,
    }
}

/// A [`Bus`] from the wire; `None` if it is not set.
pub fn bus_from(value: proto::DiskBus) -> Option<Bus> {
    match value {
        proto::DiskBus::Unspecified => None,
        proto::DiskBus::Scsi => Some(Bus::Scsi),
        proto::DiskBus::Virtio => Some(Bus::Virtio),
    }
}
