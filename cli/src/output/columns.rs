//! Which columns a kind's table has.

/// A column: its heading, and where in the resource's JSON its cell is.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// The heading.
    pub heading: &'static str,
    /// Dotted path of JSON names; a list gives its length, a map its pairs.
    pub path: &'static str,
    /// Shown with `-o wide` only.
    pub wide: bool,
}

const fn column(heading: &'static str, path: &'static str) -> Column {
    Column {
        heading,
        path,
        wide: false,
    }
}

const fn wide(heading: &'static str, path: &'static str) -> Column {
    Column {
        heading,
        path,
        wide: true,
    }
}

/// The columns between NAME and STATE/AGE, which every table has.
pub fn of_kind(kind: &str) -> &'static [Column] {
    match kind {
        "InstanceType" => {
            const {
                &[
                    column("VCPUS", "vcpus"),
                    column("MEMORY", "memory"),
                    column("ORIGIN", "origin"),
                ]
            }
        }
        "Preference" => const { &[column("ORIGIN", "origin")] },
        "Image" => const { &[column("SIZE", "size"), column("PROGRESS", "progressPercent")] },
        "MachineTemplate" => {
            const {
                &[
                    column("INSTANCE TYPE", "instanceType"),
                    column("IMAGE", "rootDisk.image"),
                    column("REVISION", "revision"),
                    wide("PREFERENCE", "preference"),
                ]
            }
        }
        "InfraNode" => {
            const {
                &[
                    column("ZONE", "zone"),
                    column("SCHEDULABLE", "schedulable"),
                    column("MACHINES", "machineCount"),
                    wide("REGION", "region"),
                ]
            }
        }
        "InfraCluster" => {
            const {
                &[
                    column("KUBERNETES", "kubernetesVersion"),
                    column("KUBEVIRT", "kubevirt.version"),
                    column("STORAGE CLASSES", "storageClasses"),
                ]
            }
        }
        "Project" => const { &[wide("DISPLAY NAME", "displayName")] },
        "Cluster" => {
            const {
                &[
                    column("VERSION", "kubernetesVersion"),
                    column("MACHINES", "machines"),
                    column("READY", "readyMachines"),
                    wide("NAMESPACE", "namespace"),
                ]
            }
        }
        "MachinePool" => {
            const {
                &[
                    column("REPLICAS", "replicas"),
                    column("READY", "readyReplicas"),
                    column("UPDATED", "updatedReplicas"),
                    column("TEMPLATE", "machineTemplate"),
                    wide("POLICY", "placementPolicy"),
                    wide("VERSION", "kubernetesVersion"),
                ]
            }
        }
        "Machine" => {
            const {
                &[
                    column("POOL", "machinePool"),
                    column("INFRA NODE", "infraNode"),
                    column("ZONE", "zone"),
                    wide("ADDRESSES", "addresses"),
                    wide("TYPE", "instanceType"),
                ]
            }
        }
        "StorageClass" => {
            const {
                &[
                    column("INFRA CLASS", "infraStorageClass"),
                    column("DEFAULT", "defaultClass"),
                    wide("MAX SIZE", "maxSize"),
                ]
            }
        }
        "Volume" => {
            const {
                &[
                    column("CLASS", "storageClass"),
                    column("SIZE", "size"),
                    column("MACHINE", "machine"),
                    column("ATTACHMENT", "attachmentState"),
                    wide("SERIAL", "serial"),
                ]
            }
        }
        "Snapshot" => const { &[column("VOLUME", "volume"), column("SIZE", "restoreSize")] },
        "Maintenance" => {
            const {
                &[
                    column("INFRA NODE", "infraNode"),
                    column("MOVED", "summary.moved"),
                    column("TOTAL", "summary.total"),
                    wide("ORIGIN", "origin"),
                ]
            }
        }
        "LoadBalancer" => {
            const {
                &[
                    column("SERVICE", "tenantService"),
                    column("ADDRESSES", "ingress"),
                    column("ENDPOINTS", "endpoints"),
                ]
            }
        }
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::contracts, kinds::Kinds, output::table::field_at};

    #[test]
    fn every_column_shows_a_field_that_there_is() {
        let kinds = Kinds::from_contracts(&contracts().unwrap());
        for kind in kinds.iter() {
            for column in of_kind(&kind.name) {
                let field = field_at(&kind.get.output(), column.path);
                assert!(field.is_some(), "{} has no field {}", kind.name, column.path);
            }
        }
    }
}
