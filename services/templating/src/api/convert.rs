//! Proto ⇄ domain. Enums of messages are texts in objects; an unset one is an absent text.

use steading_api::templating::v1::{AccessMode, CatalogueOrigin, DiskBus, IoThreadsPolicy, VolumeMode};
use steading_infra::labels;

use crate::domain::standard::CATALOGUE_LABEL;

pub mod disk;
pub mod image;
pub mod instance_type;
pub mod machine_template;
pub mod placement;
pub mod preference;

/// Annotation: what a catalogue entry is for.
pub(crate) const DESCRIPTION: &str = "steading.dev/description";

/// Text of an annotation; empty if it is not there.
pub(crate) fn annotation(meta: &kube::api::ObjectMeta, key: &str) -> String {
    let text = meta.annotations.as_ref().and_then(|all| all.get(key));
    text.cloned().unwrap_or_default()
}

/// Declares both directions between an enum of a contract and its text.
macro_rules! texts {
    ($to:ident, $from:ident, $kind:ident { $($variant:ident = $text:literal,)+ }) => {
        pub(crate) fn $to(value: $kind) -> Option<&'static str> {
            match value {
                $kind::Unspecified => None,
                $($kind::$variant => Some($text),)+
            }
        }

        pub(crate) fn $from(text: &str) -> $kind {
            match text {
                $($text => $kind::$variant,)+
                _ => $kind::Unspecified,
            }
        }
    };
}

texts!(access_mode, access_mode_from, AccessMode {
    ReadWriteOnce = "ReadWriteOnce",
    ReadWriteMany = "ReadWriteMany",
    ReadWriteOncePod = "ReadWriteOncePod",
    ReadOnlyMany = "ReadOnlyMany",
});
texts!(volume_mode, volume_mode_from, VolumeMode { Block = "Block", Filesystem = "Filesystem", });
texts!(disk_bus, disk_bus_from, DiskBus { Virtio = "virtio", Scsi = "scsi", Sata = "sata", });
texts!(io_threads, io_threads_from, IoThreadsPolicy {
    Shared = "shared",
    Auto = "auto",
    SupplementalPool = "supplementalPool",
});

/// An empty text is an absent one.
pub(crate) fn some(text: &str) -> Option<String> {
    if text.is_empty() { None } else { Some(text.to_owned()) }
}

/// Where an entry of the catalogue comes from.
pub(crate) fn origin(meta: &kube::api::ObjectMeta) -> CatalogueOrigin {
    let label = |key: &str| meta.labels.as_ref().and_then(|l| l.get(key)).map(String::as_str);
    if label(labels::PROJECT).is_some() {
        CatalogueOrigin::Project
    } else if label(CATALOGUE_LABEL).is_some() {
        CatalogueOrigin::Steading
    } else if label(labels::MANAGED_BY) == Some(labels::MANAGED_BY_STEADING) {
        CatalogueOrigin::Shared
    } else {
        CatalogueOrigin::Cluster
    }
}
