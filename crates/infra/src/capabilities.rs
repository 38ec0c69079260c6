//! What the infra cluster can do: API groups, KubeVirt's version and features, CDI, snapshots.

use std::collections::{BTreeMap, BTreeSet};

use kube::{Api, Client};

use crate::error::{InfraError, Result};
use crate::kubevirt::KubeVirt;

/// What the infra cluster can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Version of Kubernetes, `v1.36.3` for example.
    pub kubernetes_version: String,
    /// Served versions by API group.
    pub groups: BTreeMap<String, Vec<String>>,
    /// KubeVirt, if it is installed.
    pub kubevirt: Option<KubeVirtCapabilities>,
}

/// What KubeVirt can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeVirtCapabilities {
    /// Version that runs, if it says so.
    pub version: Option<String>,
    /// Feature gates that are on.
    pub feature_gates: BTreeSet<String>,
    /// Whether the installation is complete.
    pub deployed: bool,
}

impl Capabilities {
    /// Whether CDI is there.
    pub fn has_cdi(&self) -> bool {
        self.groups.contains_key("cdi.kubevirt.io")
    }

    /// Whether volumes can be snapshotted.
    pub fn has_snapshots(&self) -> bool {
        self.groups
            .get("snapshot.storage.k8s.io")
            .is_some_and(|versions| versions.iter().any(|found| found == "v1"))
    }

    /// Whether volumes can be added to a running VM through its spec.
    pub fn has_declarative_hotplug(&self) -> bool {
        self.kubevirt
            .as_ref()
            .is_some_and(|found| found.feature_gates.contains("DeclarativeHotplugVolumes"))
    }
}

/// Asks the infra cluster what it can do.
pub async fn discover(client: &Client) -> Result<Capabilities> {
    let version = client.apiserver_version().await?;
    let groups = client
        .list_api_groups()
        .await?
        .groups
        .into_iter()
        .map(|group| {
            (
                group.name,
                group.versions.into_iter().map(|version| version.version).collect(),
            )
        })
        .collect();
    Ok(Capabilities {
        kubernetes_version: version.git_version,
        groups,
        kubevirt: discover_kubevirt(client).await?,
    })
}

async fn discover_kubevirt(client: &Client) -> Result<Option<KubeVirtCapabilities>> {
    let api: Api<KubeVirt> = Api::all(client.clone());
    let list = match api
        .list(&kube::api::ListParams::default().limit(1))
        .await
        .map_err(InfraError::from)
    {
        Ok(list) => list,
        Err(InfraError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(list.items.into_iter().next().map(|found| {
        let status = found.status.unwrap_or_default();
        KubeVirtCapabilities {
            version: status.observed_kube_virt_version,
            feature_gates: found
                .spec
                .configuration
                .developer_configuration
                .feature_gates
                .into_iter()
                .collect(),
            deployed: status.phase.as_deref() == Some("Deployed"),
        }
    }))
}
