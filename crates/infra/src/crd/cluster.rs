//! Cluster: a tenant Kubernetes cluster. The object is named like its namespace, `<project>--<cluster>`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is wanted of a tenant cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "steading.dev",
    version = "v1alpha1",
    kind = "Cluster",
    plural = "clusters",
    status = "ClusterStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "steading",
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.project"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Machines", type_ = "integer", json_path = ".status.machines"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// Id of the project.
    pub project: String,
    /// Id of the cluster within its project.
    pub cluster: String,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Where the control plane comes from.
    #[serde(default)]
    pub control_plane: ControlPlane,
    /// Networks of the tenant cluster.
    #[serde(default)]
    pub network: ClusterNetwork,
    /// How a guest becomes a node.
    #[serde(default)]
    pub bootstrap: Bootstrap,
    /// Labels for every node of the cluster; a pool's own win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_labels: BTreeMap<String, String>,
    /// How machines are kept apart from the rest of the infra cluster's network.
    #[serde(default)]
    pub network_isolation: NetworkIsolation,
    /// What becomes of volumes when the cluster is deleted.
    #[serde(default)]
    pub volume_deletion_policy: VolumeDeletionPolicy,
    /// Whether reconciliation is suspended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// Where a tenant cluster's control plane comes from. Exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlane {
    /// Somebody else runs it and hands over a kubeconfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalControlPlane>,
}

/// A control plane that somebody else runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalControlPlane {
    /// Name of the Secret in the cluster's namespace; key `kubeconfig`. Empty: `kubeconfig`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kubeconfig_secret: String,
}

/// Networks of a tenant cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNetwork {
    /// Address ranges of pods, one for each family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<String>,
    /// Address ranges of Services, one for each family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_cidrs: Vec<String>,
    /// Network plugin: `None`, `Cilium`, `Calico` or `Flannel`; empty means `None`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cni: String,
    /// Version of the network plugin; empty means the tested one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cni_version: String,
    /// Domain of the cluster; empty means `cluster.local`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dns_domain: String,
    /// Address of the DNS service.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dns_address: String,
    /// Nameservers of machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
}

/// How a guest becomes a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// Who writes the joining part of the user data.
    #[serde(default)]
    pub kind: BootstrapKind,
    /// Seconds that a machine's token is valid; absent means an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_seconds: Option<i64>,
    /// Groups that the token authenticates as besides `system:bootstrappers`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_groups: Vec<String>,
    /// With `Custom`: user data with `@steading.machine@`, `@steading.server@`, `@steading.token@` and `@steading.ca_data@`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_data: String,
}

/// Who writes the joining part of the user data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BootstrapKind {
    /// Steading: a bootstrap kubeconfig with a single-use token.
    #[default]
    Kubelet,
    /// The user.
    Custom,
}

/// How machines are kept apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkIsolation {
    /// How strictly.
    #[serde(default)]
    pub mode: IsolationMode,
    /// Further ranges that machines may reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_egress_cidrs: Vec<String>,
    /// Further ranges that may reach machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_ingress_cidrs: Vec<String>,
}

/// How strictly machines are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IsolationMode {
    /// The cluster's machines, public addresses, DNS and the API server; no private range besides.
    #[default]
    Cluster,
    /// No policy is made.
    None,
}

/// What becomes of volumes when their cluster is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VolumeDeletionPolicy {
    /// They go with it.
    #[default]
    Delete,
    /// Deletion waits for them.
    Block,
}

/// What was seen last of a tenant cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions, as in Kubernetes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Short word for the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// URL of the tenant API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Version of the tenant API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// Uid of the tenant's `kube-system`: two clusters with one uid name the same API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_uid: Option<String>,
    /// Uid of the namespace whose isolation was set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_uid: Option<String>,
    /// Volumes that exist.
    #[serde(default)]
    pub volumes: i32,
    /// Machines that exist.
    #[serde(default)]
    pub machines: i32,
    /// Machines whose node is ready.
    #[serde(default)]
    pub ready_machines: i32,
}
