//! The columns of resources that are known from the start.

use super::super::resource::Column;

/// Header, kind, path, priority. `Age` is written `@` alone in the kind.
type Row = (&'static str, &'static str, &'static str, i64);

const AGE: Row = ("Age", "date", ".metadata.creationTimestamp", 0);

/// The columns of a resource, after its name.
pub(crate) fn built_in(group: &str, plural: &str) -> Vec<Column> {
    let rows = rows(group, plural);
    let column = |row: &Row| Column {
        name: row.0.to_owned(),
        kind: row.1.to_owned(),
        path: row.2.to_owned(),
        priority: row.3,
    };
    rows.iter().map(column).collect()
}

fn rows(group: &str, plural: &str) -> &'static [Row] {
    match group {
        "" => core(plural),
        "apps" | "batch" | "policy" => workloads(plural),
        _ => others(plural),
    }
}

fn core(plural: &str) -> &'static [Row] {
    match plural {
        "namespaces" => &[("Status", "string", ".status.phase", 0), AGE],
        "nodes" => &[
            ("Status", "string", "@node-status", 0),
            ("Roles", "string", "@node-roles", 0),
            AGE,
            ("Version", "string", ".status.nodeInfo.kubeletVersion", 0),
            ("Internal-IP", "string", "@internal-ip", 1),
            ("External-IP", "string", "@external-ip", 1),
            ("OS-Image", "string", ".status.nodeInfo.osImage", 1),
            ("Kernel-Version", "string", ".status.nodeInfo.kernelVersion", 1),
            (
                "Container-Runtime",
                "string",
                ".status.nodeInfo.containerRuntimeVersion",
                1,
            ),
        ],
        "pods" => &[
            ("Ready", "string", "@pod-ready", 0),
            ("Status", "string", "@pod-status", 0),
            ("Restarts", "string", "@pod-restarts", 0),
            AGE,
            ("IP", "string", "@pod-ip", 1),
            ("Node", "string", "@pod-node", 1),
            ("Nominated Node", "string", "@pod-nominated", 1),
            ("Readiness Gates", "string", "@none", 1),
        ],
        "services" => &[
            ("Type", "string", ".spec.type", 0),
            ("Cluster-IP", "string", ".spec.clusterIP", 0),
            ("External-IP", "string", "@service-external", 0),
            ("Port(s)", "string", "@service-ports", 0),
            AGE,
            ("Selector", "string", "@service-selector", 1),
        ],
        "secrets" => &[("Type", "string", ".type", 0), ("Data", "string", "@data", 0), AGE],
        "configmaps" => &[("Data", "string", "@data", 0), AGE],
        "events" => &[
            ("Last Seen", "date", ".lastTimestamp", 0),
            ("Type", "string", ".type", 0),
            ("Reason", "string", ".reason", 0),
            ("Object", "string", "@event-object", 0),
            ("Message", "string", ".message", 0),
        ],
        "persistentvolumeclaims" => &[
            ("Status", "string", ".status.phase", 0),
            ("Volume", "string", ".spec.volumeName", 0),
            ("Capacity", "string", ".status.capacity.storage", 0),
            ("Access Modes", "string", "@access-modes", 0),
            ("StorageClass", "string", ".spec.storageClassName", 0),
            AGE,
        ],
        "persistentvolumes" => &[
            ("Capacity", "string", ".spec.capacity.storage", 0),
            ("Access Modes", "string", "@access-modes", 0),
            ("Reclaim Policy", "string", ".spec.persistentVolumeReclaimPolicy", 0),
            ("Status", "string", ".status.phase", 0),
            ("Claim", "string", "@claim", 0),
            ("StorageClass", "string", ".spec.storageClassName", 0),
            AGE,
        ],
        _ => &[],
    }
}

fn workloads(plural: &str) -> &'static [Row] {
    match plural {
        "deployments" => &[
            ("Ready", "string", "@replicas-ready", 0),
            ("Up-to-date", "string", ".status.updatedReplicas", 0),
            ("Available", "string", ".status.availableReplicas", 0),
            AGE,
        ],
        "replicasets" => &[
            ("Desired", "string", ".spec.replicas", 0),
            ("Current", "string", ".status.replicas", 0),
            ("Ready", "string", ".status.readyReplicas", 0),
            AGE,
        ],
        "statefulsets" => &[("Ready", "string", "@replicas-ready", 0), AGE],
        "daemonsets" => &[
            ("Desired", "string", ".status.desiredNumberScheduled", 0),
            ("Current", "string", ".status.currentNumberScheduled", 0),
            ("Ready", "string", ".status.numberReady", 0),
            AGE,
        ],
        "controllerrevisions" => &[
            ("Controller", "string", "@owner", 0),
            ("Revision", "string", ".revision", 0),
            AGE,
        ],
        "jobs" => &[("Completions", "string", ".status.succeeded", 0), AGE],
        "poddisruptionbudgets" => &[
            ("Min Available", "string", ".spec.minAvailable", 0),
            ("Max Unavailable", "string", ".spec.maxUnavailable", 0),
            ("Allowed Disruptions", "string", ".status.disruptionsAllowed", 0),
            AGE,
        ],
        _ => &[],
    }
}

fn others(plural: &str) -> &'static [Row] {
    match plural {
        "storageclasses" => &[
            ("Provisioner", "string", ".provisioner", 0),
            ("ReclaimPolicy", "string", ".reclaimPolicy", 0),
            ("VolumeBindingMode", "string", ".volumeBindingMode", 0),
            ("AllowVolumeExpansion", "string", ".allowVolumeExpansion", 0),
            AGE,
        ],
        "leases" => &[("Holder", "string", ".spec.holderIdentity", 0), AGE],
        "endpointslices" => &[
            ("AddressType", "string", ".addressType", 0),
            ("Ports", "string", ".ports[*].port", 0),
            ("Endpoints", "string", ".endpoints[*].addresses[0]", 0),
            AGE,
        ],
        "customresourcedefinitions" => &[("Created At", "string", ".metadata.creationTimestamp", 0)],
        "volumesnapshots" => &[
            ("ReadyToUse", "string", ".status.readyToUse", 0),
            ("SourcePVC", "string", ".spec.source.persistentVolumeClaimName", 0),
            ("RestoreSize", "string", ".status.restoreSize", 0),
            ("SnapshotClass", "string", ".spec.volumeSnapshotClassName", 0),
            AGE,
        ],
        _ => &[],
    }
}
