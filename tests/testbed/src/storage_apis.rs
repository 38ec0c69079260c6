//! Definitions of CDI's and of the snapshot controller's kinds. Their projects publish no Go module with them, so they are permissive:
//! any field is kept, nothing is checked.

use serde_json::{Value, json};

/// One kind.
struct Definition {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    scope: &'static str,
    /// Whether its status is a resource of its own.
    status: bool,
}

const CDI: &str = "cdi.kubevirt.io";
const SNAPSHOT: &str = "snapshot.storage.k8s.io";

const fn kind(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    scope: &'static str,
) -> Definition {
    Definition {
        group,
        version,
        kind,
        plural,
        scope,
        status: true,
    }
}

/// A kind whose status is part of the object.
const fn whole(kind: Definition) -> Definition {
    Definition { status: false, ..kind }
}

/// All that virt-controller lists when DataVolumes are there (it hangs if one is missing), and what Steading uses. Which of them have a
/// status subresource is as with CDI and the snapshot controller.
const KINDS: [Definition; 8] = [
    kind(CDI, "v1beta1", "DataVolume", "datavolumes", "Namespaced"),
    whole(kind(CDI, "v1beta1", "DataSource", "datasources", "Namespaced")),
    kind(CDI, "v1beta1", "StorageProfile", "storageprofiles", "Cluster"),
    whole(kind(CDI, "v1beta1", "CDI", "cdis", "Cluster")),
    whole(kind(CDI, "v1beta1", "CDIConfig", "cdiconfigs", "Cluster")),
    kind(SNAPSHOT, "v1", "VolumeSnapshot", "volumesnapshots", "Namespaced"),
    kind(
        SNAPSHOT,
        "v1",
        "VolumeSnapshotContent",
        "volumesnapshotcontents",
        "Cluster",
    ),
    whole(kind(
        SNAPSHOT,
        "v1",
        "VolumeSnapshotClass",
        "volumesnapshotclasses",
        "Cluster",
    )),
];

/// Their definitions.
pub fn definitions() -> Vec<Value> {
    KINDS.iter().map(definition).collect()
}

fn definition(kind: &Definition) -> Value {
    let subresources = if kind.status {
        json!({ "status": {} })
    } else {
        json!({})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{}", kind.plural, kind.group),
            // Without it, kinds below k8s.io are refused.
            "annotations": { "api-approved.kubernetes.io": "unapproved, permissive definition of a test bed" },
        },
        "spec": {
            "group": kind.group, "scope": kind.scope,
            "names": { "kind": kind.kind, "listKind": format!("{}List", kind.kind), "plural": kind.plural, "singular": kind.kind.to_lowercase() },
            "versions": [{
                "name": kind.version, "served": true, "storage": true, "subresources": subresources,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
            }],
        },
    })
}
