//! What a cluster's namespace holds, and the labels that its objects carry.

use k8s_openapi::api::{
    core::v1::Namespace,
    networking::v1::NetworkPolicy,
    rbac::v1::{Role, RoleBinding},
};
use serde_json::{Value, json};
use steading_infra::{
    crd::{Cluster, cluster::IsolationMode},
    labels,
};

/// Name of the policy that keeps a cluster's machines apart.
pub const ISOLATION: &str = "steading-isolation";

/// Name of the role that may clone golden images, in [`labels::SYSTEM_NAMESPACE`].
pub const IMAGE_CLONERS: &str = "steading-image-cloners";

/// Ranges that are not public: machines reach them only if the cluster allows it.
const PRIVATE_V4: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"];
/// The same for IPv6.
const PRIVATE_V6: [&str; 2] = ["fc00::/7", "fe80::/10"];

/// Namespace of a cluster. The uid says for which Cluster object it was made; another one of that name does not own it.
pub fn namespace(cluster: &Cluster, name: &str) -> Namespace {
    let value = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": own_labels(cluster), "annotations": own_annotations(cluster)},
    });
    serde_json::from_value(value).unwrap_or_default()
}

fn own_annotations(cluster: &Cluster) -> Value {
    json!({labels::CLUSTER_UID: cluster.metadata.uid.clone().unwrap_or_default()})
}

/// Labels that a Cluster carries besides its user's own, whoever made it: selections by project find it by them.
pub fn missing_labels(cluster: &Cluster) -> Option<Value> {
    let wanted = [
        (labels::PROJECT, cluster.spec.project.as_str()),
        (labels::CLUSTER, cluster.spec.cluster.as_str()),
    ];
    let present = |key: &str| {
        cluster
            .metadata
            .labels
            .as_ref()
            .and_then(|map| map.get(key))
            .map(String::as_str)
    };
    let missing: serde_json::Map<String, Value> = wanted
        .into_iter()
        .filter(|(key, value)| present(key) != Some(value))
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    (!missing.is_empty()).then(|| json!({"metadata": {"labels": missing}}))
}

fn own_labels(cluster: &Cluster) -> Value {
    json!({
        labels::PROJECT: cluster.spec.project,
        labels::CLUSTER: cluster.spec.cluster,
        labels::MANAGED_BY: labels::MANAGED_BY_STEADING,
    })
}

/// The role that may clone golden images. KubeVirt asks for it when a VM's disk comes out of another namespace
/// (`datavolumes/source`, as CDI has it).
pub fn image_cloners() -> Role {
    let value = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {
            "name": IMAGE_CLONERS,
            "namespace": labels::SYSTEM_NAMESPACE,
            "labels": {labels::MANAGED_BY: labels::MANAGED_BY_STEADING},
        },
        "rules": [{"apiGroups": ["cdi.kubevirt.io"], "resources": ["datavolumes/source"], "verbs": ["create"]}],
    });
    serde_json::from_value(value).unwrap_or_default()
}

/// Gives that role to the machines of a cluster: KubeVirt asks on behalf of the service account `default` of their namespace.
pub fn may_clone_images(cluster: &Cluster, namespace: &str) -> RoleBinding {
    let value = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {
            "name": namespace,
            "namespace": labels::SYSTEM_NAMESPACE,
            "labels": own_labels(cluster),
            "annotations": own_annotations(cluster),
        },
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": IMAGE_CLONERS},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
    });
    serde_json::from_value(value).unwrap_or_default()
}

/// The policy that keeps machines apart, `None` if none is wanted. An allowed peer is always named: a rule without peers would
/// allow everything, so that a range that is not known yet is left out and stays closed.
pub fn isolation(cluster: &Cluster, namespace: &str, api_server: Option<&str>) -> Option<NetworkPolicy> {
    if cluster.spec.network_isolation.mode == IsolationMode::None {
        return None;
    }
    let block = |cidr: &str| json!({"ipBlock": {"cidr": cidr}});
    let wanted = &cluster.spec.network_isolation;
    let mut egress = vec![json!({"podSelector": {}})];
    egress.push(json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": PRIVATE_V4}}));
    egress.push(json!({"ipBlock": {"cidr": "::/0", "except": PRIVATE_V6}}));
    egress.extend(wanted.allowed_egress_cidrs.iter().map(|cidr| block(cidr)));
    if let Some(address) = api_server.and_then(host_of) {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        egress.push(block(&format!("{address}/{bits}")));
    }
    let mut ingress = vec![json!({"podSelector": {}})];
    ingress.extend(wanted.allowed_ingress_cidrs.iter().map(|cidr| block(cidr)));
    let dns = json!({
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    });
    let value = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": ISOLATION, "namespace": namespace, "labels": own_labels(cluster)},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": ingress}],
            "egress": [{"to": egress}, dns],
        },
    });
    serde_json::from_value(value).ok()
}

fn host_of(url: &str) -> Option<std::net::IpAddr> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next()?;
    if let Some(v6) = authority.strip_prefix('[') {
        return v6.split(']').next()?.parse().ok();
    }
    authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host)
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rule_is_without_peers() {
        let policy = isolation(&Cluster::default(), "p--c", None).expect("a policy");
        let spec = policy.spec.expect("a spec");
        assert!(
            spec.egress
                .expect("egress")
                .iter()
                .all(|rule| rule.to.as_ref().is_some_and(|to| !to.is_empty()))
        );
        assert!(
            spec.ingress
                .expect("ingress")
                .iter()
                .all(|rule| rule.from.as_ref().is_some_and(|from| !from.is_empty()))
        );
    }

    #[test]
    fn machines_may_clone_images_and_nothing_else() {
        let binding = may_clone_images(&Cluster::default(), "p--c");
        assert_eq!(binding.metadata.namespace.as_deref(), Some(labels::SYSTEM_NAMESPACE));
        assert_eq!(binding.role_ref.name, IMAGE_CLONERS);
        let subjects = binding.subjects.expect("subjects");
        assert_eq!(subjects.len(), 1);
        assert_eq!(
            (subjects[0].name.as_str(), subjects[0].namespace.as_deref()),
            ("default", Some("p--c"))
        );
        let rules = image_cloners().rules.expect("rules");
        assert_eq!(rules.len(), 1);
        assert_eq!(
            (rules[0].resources.as_deref(), rules[0].verbs.as_slice()),
            (
                Some(["datavolumes/source".to_owned()].as_slice()),
                ["create".to_owned()].as_slice()
            )
        );
    }

    #[test]
    fn the_api_server_is_let_through_by_its_address_only() {
        assert_eq!(
            host_of("https://10.1.2.3:6443/x").map(|a| a.to_string()).as_deref(),
            Some("10.1.2.3")
        );
        assert_eq!(
            host_of("https://[fd00::1]:6443").map(|a| a.to_string()).as_deref(),
            Some("fd00::1")
        );
        assert_eq!(host_of("https://api.example.com"), None);
    }
}
