//! Which of the infra cluster's storage the demonstration uses.

use anyhow::Context as _;
use serde_json::Value;

use super::objects::{list, text};
use crate::output::table::at;

/// Access and volume mode in the API's words.
pub type Modes = (&'static str, &'static str);

const SHARED_BLOCK: Modes = ("ACCESS_MODE_READ_WRITE_MANY", "VOLUME_MODE_BLOCK");
const OWN_BLOCK: Modes = ("ACCESS_MODE_READ_WRITE_ONCE", "VOLUME_MODE_BLOCK");
const OWN_FILESYSTEM: Modes = ("ACCESS_MODE_READ_WRITE_ONCE", "VOLUME_MODE_FILESYSTEM");

/// A storage class of the infra cluster, and how its volumes are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Name of the StorageClass.
    pub class: String,
    /// Whether its volumes can grow.
    pub grows: bool,
    /// Modes of the disks that should let machines migrate live, and of the volume.
    pub workers: Modes,
    /// Modes of the disks of machines that cannot.
    pub pinned: Modes,
}

impl Storage {
    /// Takes the class that is used for machines where none is named, unless another one shares its disks and it does not.
    ///
    /// # Errors
    /// If there is none.
    pub fn choose(infra_cluster: &Value) -> anyhow::Result<Self> {
        let flag = |class: &Value, field: &str| at(class, field).as_bool() == Some(true);
        let chosen = list(infra_cluster, "storageClasses")
            .iter()
            .max_by_key(|class| {
                let shares = offers(class, SHARED_BLOCK);
                (shares, flag(class, "defaultForMachines"), flag(class, "default"))
            })
            .context("the infra cluster has no storage class that can be seen; the demonstration needs one")?;
        let or = |wanted: Modes, otherwise: Modes| if offers(chosen, wanted) { wanted } else { otherwise };
        // Where nothing is known of the modes, a file system of one node's own is what every class has.
        Ok(Self {
            class: text(chosen, "infraStorageClass"),
            grows: flag(chosen, "expansionAllowed"),
            workers: or(SHARED_BLOCK, or(OWN_BLOCK, OWN_FILESYSTEM)),
            pinned: or(OWN_FILESYSTEM, or(OWN_BLOCK, OWN_FILESYSTEM)),
        })
    }

    /// Whether machines on its disks can migrate live.
    pub fn is_shared(&self) -> bool {
        self.workers == SHARED_BLOCK
    }
}

/// Whether CDI knows these modes of a class.
fn offers(class: &Value, modes: Modes) -> bool {
    let (access, volume) = match modes {
        SHARED_BLOCK => ("ReadWriteMany", "Block"),
        OWN_BLOCK => ("ReadWriteOnce", "Block"),
        _ => ("ReadWriteOnce", "Filesystem"),
    };
    list(class, "claimModes").iter().any(|known| {
        at(known, "volumeMode").as_str() == Some(volume)
            && list(known, "accessModes").iter().any(|a| a.as_str() == Some(access))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mk_class(name: &str, default: bool, modes: &[(&str, &str)]) -> Value {
        let modes: Vec<_> = modes
            .iter()
            .map(|(access, volume)| json!({"accessModes": [access], "volumeMode": volume}))
            .collect();
        json!({"infraStorageClass": name, "default": default, "claimModes": modes})
    }

    #[test]
    fn shared_storage_wins_over_the_default() {
        let shared = mk_class(
            "ceph",
            false,
            &[("ReadWriteMany", "Block"), ("ReadWriteOnce", "Filesystem")],
        );
        let local = mk_class("local", true, &[("ReadWriteOnce", "Filesystem")]);
        let of = |classes: &[&Value]| Storage::choose(&json!({ "storageClasses": classes })).unwrap();
        let both = of(&[&local, &shared]);
        assert_eq!((both.class.as_str(), both.is_shared()), ("ceph", true));
        assert_eq!(both.pinned, OWN_FILESYSTEM);
        let alone = of(&[&local]);
        assert_eq!((alone.workers, alone.is_shared()), (OWN_FILESYSTEM, false));
        let unknown = mk_class("nfs", false, &[]);
        assert_eq!(of(&[&unknown]).workers, OWN_FILESYSTEM);
    }

    #[test]
    fn without_a_class_there_is_no_demonstration() {
        assert!(Storage::choose(&json!({})).is_err());
    }
}
