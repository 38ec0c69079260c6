//! The resources that a server knows without any CustomResourceDefinition.

use super::{
    resource::{Origin, ResourceDef, Scope},
    table,
};

/// Group, version, plural, kind, short names, categories, traits.
///
/// Traits: `n` namespaced, `s` status subresource, `c` scale subresource, `v` answered but never stored.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

const KUBERNETES: &[Row] = &[
    ("", "v1", "namespaces", "Namespace", "ns", "", "s"),
    ("", "v1", "nodes", "Node", "no", "", "s"),
    ("", "v1", "pods", "Pod", "po", "all", "ns"),
    ("", "v1", "services", "Service", "svc", "all", "ns"),
    ("", "v1", "endpoints", "Endpoints", "ep", "", "n"),
    ("", "v1", "secrets", "Secret", "", "", "n"),
    ("", "v1", "configmaps", "ConfigMap", "cm", "", "n"),
    ("", "v1", "events", "Event", "ev", "", "n"),
    ("", "v1", "serviceaccounts", "ServiceAccount", "sa", "", "n"),
    (
        "",
        "v1",
        "persistentvolumeclaims",
        "PersistentVolumeClaim",
        "pvc",
        "",
        "ns",
    ),
    ("", "v1", "persistentvolumes", "PersistentVolume", "pv", "", "s"),
    ("", "v1", "resourcequotas", "ResourceQuota", "quota", "", "ns"),
    ("", "v1", "limitranges", "LimitRange", "limits", "", "n"),
    (
        "",
        "v1",
        "replicationcontrollers",
        "ReplicationController",
        "rc",
        "all",
        "nsc",
    ),
    ("", "v1", "podtemplates", "PodTemplate", "", "", "n"),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", "", "", "n"),
    ("coordination.k8s.io", "v1", "leases", "Lease", "", "", "n"),
    ("apps", "v1", "deployments", "Deployment", "deploy", "all", "nsc"),
    ("apps", "v1", "replicasets", "ReplicaSet", "rs", "all", "nsc"),
    ("apps", "v1", "statefulsets", "StatefulSet", "sts", "all", "nsc"),
    ("apps", "v1", "daemonsets", "DaemonSet", "ds", "all", "ns"),
    ("apps", "v1", "controllerrevisions", "ControllerRevision", "", "", "n"),
    ("batch", "v1", "jobs", "Job", "", "all", "ns"),
    ("batch", "v1", "cronjobs", "CronJob", "cj", "all", "ns"),
    (
        "policy",
        "v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        "pdb",
        "",
        "ns",
    ),
    (
        "networking.k8s.io",
        "v1",
        "networkpolicies",
        "NetworkPolicy",
        "netpol",
        "",
        "n",
    ),
    ("networking.k8s.io", "v1", "ingresses", "Ingress", "ing", "", "ns"),
    ("networking.k8s.io", "v1", "ingressclasses", "IngressClass", "", "", ""),
    ("storage.k8s.io", "v1", "storageclasses", "StorageClass", "sc", "", ""),
    (
        "storage.k8s.io",
        "v1",
        "volumeattachments",
        "VolumeAttachment",
        "",
        "",
        "s",
    ),
    ("storage.k8s.io", "v1", "csidrivers", "CSIDriver", "", "", ""),
    ("storage.k8s.io", "v1", "csinodes", "CSINode", "", "", ""),
    (
        "storage.k8s.io",
        "v1",
        "csistoragecapacities",
        "CSIStorageCapacity",
        "",
        "",
        "n",
    ),
    ("rbac.authorization.k8s.io", "v1", "roles", "Role", "", "", "n"),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "rolebindings",
        "RoleBinding",
        "",
        "",
        "n",
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "clusterroles",
        "ClusterRole",
        "",
        "",
        "",
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "clusterrolebindings",
        "ClusterRoleBinding",
        "",
        "",
        "",
    ),
    (
        "scheduling.k8s.io",
        "v1",
        "priorityclasses",
        "PriorityClass",
        "pc",
        "",
        "",
    ),
    (
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        "hpa",
        "all",
        "ns",
    ),
    (
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        "crd,crds",
        "api-extensions",
        "s",
    ),
    (
        "apiregistration.k8s.io",
        "v1",
        "apiservices",
        "APIService",
        "",
        "api-extensions",
        "s",
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        "",
        "api-extensions",
        "",
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        "",
        "api-extensions",
        "",
    ),
    (
        "certificates.k8s.io",
        "v1",
        "certificatesigningrequests",
        "CertificateSigningRequest",
        "csr",
        "",
        "s",
    ),
    (
        "authentication.k8s.io",
        "v1",
        "tokenreviews",
        "TokenReview",
        "",
        "",
        "v",
    ),
    (
        "authentication.k8s.io",
        "v1",
        "selfsubjectreviews",
        "SelfSubjectReview",
        "",
        "",
        "v",
    ),
    (
        "authorization.k8s.io",
        "v1",
        "subjectaccessreviews",
        "SubjectAccessReview",
        "",
        "",
        "v",
    ),
    (
        "authorization.k8s.io",
        "v1",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        "",
        "",
        "v",
    ),
    (
        "authorization.k8s.io",
        "v1",
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        "",
        "",
        "v",
    ),
    (
        "authorization.k8s.io",
        "v1",
        "localsubjectaccessreviews",
        "LocalSubjectAccessReview",
        "",
        "",
        "nv",
    ),
];

/// The snapshot controller's kinds, which most distributions of Kubernetes bring along.
const SNAPSHOTS: &[Row] = &[
    (
        "snapshot.storage.k8s.io",
        "v1",
        "volumesnapshots",
        "VolumeSnapshot",
        "vs",
        "",
        "ns",
    ),
    (
        "snapshot.storage.k8s.io",
        "v1",
        "volumesnapshotcontents",
        "VolumeSnapshotContent",
        "vsc,vscs",
        "",
        "s",
    ),
    (
        "snapshot.storage.k8s.io",
        "v1",
        "volumesnapshotclasses",
        "VolumeSnapshotClass",
        "vsclass,vsclasses",
        "",
        "",
    ),
];

/// All resources that every server knows.
pub(crate) fn resources() -> Vec<ResourceDef> {
    let kubernetes = KUBERNETES.iter().map(|row| def(row, Origin::BuiltIn));
    let snapshots = SNAPSHOTS.iter().map(|row| def(row, Origin::Preset));
    kubernetes.chain(snapshots).collect()
}

/// Resources that show the objects of another: the definition, and group and plural of the other.
pub(crate) fn aliases() -> Vec<(ResourceDef, (&'static str, &'static str))> {
    let events = def(
        &("events.k8s.io", "v1", "events", "Event", "ev", "", "n"),
        Origin::BuiltIn,
    );
    vec![(events, ("", "events"))]
}

fn def(row: &Row, origin: Origin) -> ResourceDef {
    let (group, version, plural, kind, short_names, categories, traits) = *row;
    let scope = if traits.contains('n') {
        Scope::Namespaced
    } else {
        Scope::Cluster
    };
    let mut def = ResourceDef::built_in(group, version, plural, kind, scope)
        .with_short_names(short_names)
        .with_categories(categories)
        .with_columns(table::built_in(group, plural));
    if traits.contains('s') {
        def = def.with_status();
    }
    if traits.contains('c') {
        def = def.with_scale();
    }
    def.origin = origin;
    def.virtual_only = traits.contains('v');
    def
}
