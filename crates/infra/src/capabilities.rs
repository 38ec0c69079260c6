//! What the infra cluster can do: versions, KubeVirt's features, CDI, snapshots, storage classes.
//!
//! Only an API server that does not answer at all is an error. What one read cannot tell, for want of a right or of
//! an answer, is [`Found::Unknown`] with the reason, and never taken for absent.

mod read;
mod storage;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::Time};
use kube::{Api, Client, ResourceExt};

use crate::{
    cdi::CDI as Cdi,
    error::{InfraError, Result},
    kubevirt::KubeVirt,
};

pub use self::read::Found;
use self::read::{found, list, within};
pub use self::storage::{ClaimModes, SnapshotClass, StorageClassCapabilities, StorageProfileCapabilities};

/// Namespace that lives exactly as long as its cluster; its uid serves as the cluster's.
const OLDEST_NAMESPACE: &str = "kube-system";
/// What the infra cluster can do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capabilities {
    /// Version of Kubernetes, `v1.36.3` for example.
    pub kubernetes_version: String,
    /// Platform of the API server, `linux/amd64` for example.
    pub platform: String,
    /// Which cluster it is, if its oldest namespace can be read.
    pub identity: Found<Identity>,
    /// Served versions by API group.
    pub groups: BTreeMap<String, Vec<String>>,
    /// KubeVirt.
    pub kubevirt: Found<KubeVirtCapabilities>,
    /// CDI.
    pub cdi: Found<CdiCapabilities>,
    /// Snapshots of volumes, and the classes to take them with, by name.
    pub snapshots: Found<Vec<SnapshotClass>>,
    /// Storage classes by name.
    pub storage_classes: Found<Vec<StorageClassCapabilities>>,
}

/// Which cluster it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identity {
    /// Uid of its oldest namespace.
    pub uid: String,
    /// When that was made.
    pub created: Option<Time>,
}

/// What KubeVirt can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeVirtCapabilities {
    /// Version that runs, if it says so.
    pub version: Option<String>,
    /// Phase of the installation, if it says so.
    pub phase: Option<String>,
    /// Feature gates that are switched on. Beta gates are off unless named, as of KubeVirt 1.8; those that have become
    /// general are always on and may be missing here.
    pub feature_gates: BTreeSet<String>,
}

impl KubeVirtCapabilities {
    /// Whether the installation is complete.
    pub fn is_deployed(&self) -> bool {
        self.phase.as_deref() == Some("Deployed")
    }
}

/// What is known of CDI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CdiCapabilities {
    /// Version that runs, if it says so.
    pub version: Option<String>,
    /// Phase of the installation, if it says so.
    pub phase: Option<String>,
}

impl Capabilities {
    /// Whether an API group is served in a version.
    pub fn serves(&self, group: &str, version: &str) -> bool {
        serves(&self.groups, group, version)
    }

    /// Whether CDI is there.
    pub fn has_cdi(&self) -> bool {
        self.serves(IMPORT.0, IMPORT.1)
    }

    /// Whether volumes can be snapshotted.
    pub fn has_snapshots(&self) -> bool {
        self.serves(SNAPSHOTS.0, SNAPSHOTS.1)
    }

    /// Whether volumes can be added to a running VM through its spec.
    pub fn has_declarative_hotplug(&self) -> bool {
        self.kubevirt
            .present()
            .is_some_and(|found| found.feature_gates.contains("DeclarativeHotplugVolumes"))
    }
}

const KUBEVIRT: (&str, &str) = ("kubevirt.io", "v1");
const IMPORT: (&str, &str) = ("cdi.kubevirt.io", "v1beta1");
const SNAPSHOTS: (&str, &str) = ("snapshot.storage.k8s.io", "v1");

fn serves(groups: &BTreeMap<String, Vec<String>>, group: &str, version: &str) -> bool {
    groups
        .get(group)
        .is_some_and(|versions| versions.iter().any(|found| found == version))
}

/// Asks the infra cluster what it can do.
///
/// # Errors
/// If the API server does not tell its version or its API groups.
pub async fn discover(client: &Client) -> Result<Capabilities> {
    let (version, groups) = tokio::try_join!(
        within(async { client.apiserver_version().await.map_err(InfraError::from) }),
        within(async { client.list_api_groups().await.map_err(InfraError::from) }),
    )?;
    let groups: BTreeMap<String, Vec<String>> = groups
        .groups
        .into_iter()
        .map(|group| (group.name, group.versions.into_iter().map(|v| v.version).collect()))
        .collect();
    // On the heap: five requests under way are kilobytes that every caller's future would carry.
    let (identity, kubevirt, cdi, snapshots, storage_classes) = tokio::join!(
        Box::pin(identity(client)),
        Box::pin(kubevirt(client, serves(&groups, KUBEVIRT.0, KUBEVIRT.1))),
        Box::pin(cdi(client, serves(&groups, IMPORT.0, IMPORT.1))),
        Box::pin(storage::snapshot_classes(
            client,
            serves(&groups, SNAPSHOTS.0, SNAPSHOTS.1)
        )),
        Box::pin(storage::storage_classes(client, serves(&groups, IMPORT.0, IMPORT.1))),
    );
    Ok(Capabilities {
        kubernetes_version: version.git_version,
        platform: version.platform,
        identity,
        groups,
        kubevirt,
        cdi,
        snapshots,
        storage_classes,
    })
}

async fn identity(client: &Client) -> Found<Identity> {
    let api: Api<Namespace> = Api::all(client.clone());
    let read = within(async { Ok(api.get(OLDEST_NAMESPACE).await?) }).await;
    found(read).map(|namespace| Identity {
        uid: namespace.uid().unwrap_or_default(),
        created: namespace.metadata.creation_timestamp,
    })
}

/// The first installation in order of namespace and name: KubeVirt allows only one.
async fn kubevirt(client: &Client, served: bool) -> Found<KubeVirtCapabilities> {
    let first = match list::<KubeVirt>(client, served).await {
        Found::Present(all) => all.into_iter().next(),
        Found::Absent => None,
        Found::Unknown(reason) => return Found::Unknown(reason),
    };
    let Some(found) = first else {
        return Found::Absent;
    };
    let status = found.status.unwrap_or_default();
    let developer = found.spec.configuration.developer_configuration;
    Found::Present(KubeVirtCapabilities {
        version: status.observed_kube_virt_version,
        phase: status.phase,
        feature_gates: developer.feature_gates.into_iter().collect(),
    })
}

/// CDI is there if its kinds are served; its version is known only if its installation can be read.
async fn cdi(client: &Client, served: bool) -> Found<CdiCapabilities> {
    if !served {
        return Found::Absent;
    }
    let installation = list::<Cdi>(client, served).await;
    let status = installation
        .present()
        .and_then(|all| all.first()?.status.clone())
        .unwrap_or_default();
    Found::Present(CdiCapabilities {
        version: status.observed_version,
        phase: status.phase,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forbidden_or_late_is_unknown_and_not_absent() {
        let forbidden: Found<()> = found(Err(InfraError::Forbidden("no".into())));
        assert_eq!(forbidden.unknown(), Some("forbidden: no"));
        assert_eq!(found::<()>(Err(InfraError::NotFound("x".into()))), Found::Absent);
        assert_eq!(found(Ok(3)).map(|n| n + 1), Found::Present(4));
    }

    #[test]
    fn a_group_counts_in_the_version_that_is_used_only() {
        let mut capabilities = Capabilities {
            groups: [("snapshot.storage.k8s.io".to_owned(), vec!["v1beta1".to_owned()])].into(),
            ..Capabilities::default()
        };
        assert!(!capabilities.has_snapshots());
        capabilities.groups.insert(SNAPSHOTS.0.into(), vec![SNAPSHOTS.1.into()]);
        assert!(capabilities.has_snapshots() && !capabilities.has_cdi());
    }
}
