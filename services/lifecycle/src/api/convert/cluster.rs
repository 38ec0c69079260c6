//! Clusters.

use kube::ResourceExt;
use steading_api::lifecycle::v1::{
    Bootstrap as ProtoBootstrap, Cluster as Message, ClusterNetwork as ProtoNetwork,
    ExternalControlPlane as ProtoExternal, NetworkIsolation as ProtoIsolation, VolumeDeletionPolicy as ProtoVolumes,
    bootstrap::Kind as BootstrapProto,
    cluster::{ControlPlane as ProtoPlane, State},
    cluster_network::{ClusterDns, Cni, cni::Kind as CniKind},
    network_isolation::Mode,
};
use steading_infra::{
    crd::{
        Cluster,
        cluster::{
            Bootstrap, BootstrapKind, ClusterNetwork, ClusterSpec, ControlPlane, ExternalControlPlane, IsolationMode,
            NetworkIsolation, VolumeDeletionPolicy,
        },
    },
    labels,
};
use steading_model::{name::ClusterName, violation::Violations};

use super::{duration, seconds};
use crate::domain::{
    bootstrap::check_custom,
    pool::{is_label_key, is_label_value},
};
use steading_runtime::standard::condition;

/// The resource of an object; `None` if it is not one of these.
pub fn message(object: &Cluster) -> Option<Message> {
    let name = ClusterName::from_object_name(&object.name_any())?;
    let (spec, status) = (&object.spec, object.status.clone().unwrap_or_default());
    let terminating = object.metadata.deletion_timestamp.is_some();
    let state = match (terminating, status.phase.as_deref()) {
        (true, _) => State::Deleting,
        (_, Some("Running")) => State::Running,
        (_, Some("Unreachable")) => State::Unreachable,
        (_, Some("Failed")) => State::Failed,
        (_, _) => State::Provisioning,
    };
    let external = spec.control_plane.external.as_ref().map(|external| ProtoExternal {
        kubeconfig_secret: if external.kubeconfig_secret.is_empty() {
            labels::KUBECONFIG_SECRET.into()
        } else {
            external.kubeconfig_secret.clone()
        },
        kubeconfig: Vec::new(),
    });
    Some(Message {
        namespace: name.namespace(),
        name: name.to_string(),
        state: state.into(),
        conditions: status.conditions.iter().map(condition).collect(),
        reconciling: terminating
            || state == State::Provisioning
            || status.observed_generation != object.metadata.generation,
        display_name: spec.display_name.clone().unwrap_or_default(),
        control_plane: external.map(ProtoPlane::External),
        network: Some(network(&spec.network)).filter(|network| *network != ProtoNetwork::default()),
        bootstrap: Some(bootstrap(&spec.bootstrap)).filter(|bootstrap| *bootstrap != ProtoBootstrap::default()),
        node_labels: spec.node_labels.clone().into_iter().collect(),
        network_isolation: Some(isolation(&spec.network_isolation))
            .filter(|isolation| *isolation != ProtoIsolation::default()),
        volume_deletion_policy: match spec.volume_deletion_policy {
            VolumeDeletionPolicy::Delete => ProtoVolumes::Delete,
            VolumeDeletionPolicy::Block => ProtoVolumes::Block,
        }
        .into(),
        paused: spec.paused,
        endpoint: status.endpoint.unwrap_or_default(),
        kubernetes_version: status.kubernetes_version.unwrap_or_default(),
        machines: status.machines,
        ready_machines: status.ready_machines,
        ..Message::default()
    })
}

fn network(spec: &ClusterNetwork) -> ProtoNetwork {
    let kind = match spec.cni.as_str() {
        "Cilium" => CniKind::Cilium,
        "Calico" => CniKind::Calico,
        "Flannel" => CniKind::Flannel,
        "None" => CniKind::None,
        _ => CniKind::Unspecified,
    };
    let cni = Cni {
        kind: kind.into(),
        version: spec.cni_version.clone(),
    };
    let dns = ClusterDns {
        domain: spec.dns_domain.clone(),
        service_address: spec.dns_address.clone(),
        nameservers: spec.nameservers.clone(),
    };
    ProtoNetwork {
        pod_cidrs: spec.pod_cidrs.clone(),
        service_cidrs: spec.service_cidrs.clone(),
        cni: Some(cni).filter(|cni| *cni != Cni::default()),
        dns: Some(dns).filter(|dns| *dns != ClusterDns::default()),
    }
}

fn bootstrap(spec: &Bootstrap) -> ProtoBootstrap {
    ProtoBootstrap {
        kind: match spec.kind {
            BootstrapKind::Kubelet => BootstrapProto::Unspecified,
            BootstrapKind::Custom => BootstrapProto::Custom,
        }
        .into(),
        token_lifetime: duration(spec.token_seconds),
        extra_groups: spec.extra_groups.clone(),
        user_data: spec.user_data.clone(),
    }
}

fn isolation(spec: &NetworkIsolation) -> ProtoIsolation {
    ProtoIsolation {
        mode: match spec.mode {
            IsolationMode::Cluster => Mode::Unspecified,
            IsolationMode::None => Mode::None,
        }
        .into(),
        allowed_egress_cidrs: spec.allowed_egress_cidrs.clone(),
        allowed_ingress_cidrs: spec.allowed_ingress_cidrs.clone(),
    }
}

/// What a resource wants; `None` for a control plane that cannot be made yet.
///
/// # Errors
/// The violations, with paths below the resource.
pub fn spec(name: &ClusterName, message: &Message) -> Result<ClusterSpec, Violations> {
    let mut found = Violations::new();
    let external = match &message.control_plane {
        Some(ProtoPlane::External(external)) => Some(ExternalControlPlane {
            kubeconfig_secret: external.kubeconfig_secret.clone(),
        }),
        Some(ProtoPlane::Managed(_)) => None,
        None => {
            found.add("external", "a control plane must be set: external, or managed");
            None
        }
    };
    if let Some(external) = &external {
        let name = &external.kubeconfig_secret;
        found.require(
            name.is_empty() || steading_model::ids::NodeId::parse(name.as_str()).is_ok(),
            "external.kubeconfig_secret",
            "must be the name of a Secret",
        );
    }
    let network = message.network.clone().unwrap_or_default();
    for (path, list) in [
        ("network.pod_cidrs", &network.pod_cidrs),
        ("network.service_cidrs", &network.service_cidrs),
    ] {
        cidrs(&mut found, path, list);
        found.require(list.len() <= 2, path, "must have at most one range of each family");
        let families = list.iter().filter(|cidr| cidr.contains(':')).count();
        found.require(
            list.len() != 2 || families == 1,
            path,
            "must have at most one range of each family",
        );
    }
    let cni = network.cni.clone().unwrap_or_default();
    let dns = network.dns.clone().unwrap_or_default();
    let address = &dns.service_address;
    found.require(
        address.is_empty() || address.parse::<std::net::IpAddr>().is_ok(),
        "network.dns.service_address",
        "must be an IP address",
    );
    for (index, server) in dns.nameservers.iter().enumerate() {
        found.require(
            server.parse::<std::net::IpAddr>().is_ok(),
            format!("network.dns.nameservers[{index}]"),
            "must be an IP address",
        );
    }
    let isolation = message.network_isolation.clone().unwrap_or_default();
    cidrs(
        &mut found,
        "network_isolation.allowed_egress_cidrs",
        &isolation.allowed_egress_cidrs,
    );
    cidrs(
        &mut found,
        "network_isolation.allowed_ingress_cidrs",
        &isolation.allowed_ingress_cidrs,
    );
    let bootstrap = message.bootstrap.clone().unwrap_or_default();
    let custom = bootstrap.kind() == BootstrapProto::Custom;
    found.require(
        custom || bootstrap.user_data.is_empty(),
        "bootstrap.user_data",
        "is used with KIND_CUSTOM only",
    );
    found.require(
        !custom || !bootstrap.user_data.is_empty(),
        "bootstrap.user_data",
        "must be set with KIND_CUSTOM",
    );
    if custom && !bootstrap.user_data.is_empty() {
        found.take("bootstrap.user_data", check_custom(&bootstrap.user_data));
    }
    for (index, group) in bootstrap.extra_groups.iter().enumerate() {
        found.require(
            group.starts_with("system:bootstrappers:"),
            format!("bootstrap.extra_groups[{index}]"),
            "must begin with system:bootstrappers:",
        );
    }
    let token_seconds = seconds(
        &mut found,
        "bootstrap.token_lifetime",
        bootstrap.token_lifetime.as_ref(),
    );
    for (key, value) in &message.node_labels {
        found.require(
            is_label_key(key) && is_label_value(value),
            format!("node_labels.{key}"),
            "is not a valid Kubernetes label",
        );
    }
    found.finish_with(Some(ClusterSpec {
        project: name.project.to_string(),
        cluster: name.cluster.to_string(),
        display_name: Some(message.display_name.clone()).filter(|name| !name.is_empty()),
        control_plane: ControlPlane { external },
        network: ClusterNetwork {
            cni: match cni.kind() {
                CniKind::Unspecified => String::new(),
                CniKind::None => "None".into(),
                CniKind::Cilium => "Cilium".into(),
                CniKind::Calico => "Calico".into(),
                CniKind::Flannel => "Flannel".into(),
            },
            pod_cidrs: network.pod_cidrs,
            service_cidrs: network.service_cidrs,
            cni_version: cni.version,
            dns_domain: dns.domain,
            dns_address: dns.service_address,
            nameservers: dns.nameservers,
        },
        bootstrap: Bootstrap {
            kind: if custom {
                BootstrapKind::Custom
            } else {
                BootstrapKind::Kubelet
            },
            token_seconds,
            extra_groups: bootstrap.extra_groups,
            user_data: bootstrap.user_data,
        },
        node_labels: message.node_labels.clone().into_iter().collect(),
        network_isolation: NetworkIsolation {
            mode: if isolation.mode() == Mode::None {
                IsolationMode::None
            } else {
                IsolationMode::Cluster
            },
            allowed_egress_cidrs: isolation.allowed_egress_cidrs,
            allowed_ingress_cidrs: isolation.allowed_ingress_cidrs,
        },
        volume_deletion_policy: match message.volume_deletion_policy() {
            ProtoVolumes::Block => VolumeDeletionPolicy::Block,
            ProtoVolumes::Delete | ProtoVolumes::Unspecified => VolumeDeletionPolicy::Delete,
        },
        paused: message.paused,
    }))
}

fn cidrs(found: &mut Violations, path: &str, list: &[String]) {
    for (index, cidr) in list.iter().enumerate() {
        let fits = cidr.split_once('/').is_some_and(|(address, bits)| {
            let most = address
                .parse::<std::net::IpAddr>()
                .map(|a| if a.is_ipv4() { 32 } else { 128 });
            most.is_ok_and(|most| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
        });
        found.require(fits, format!("{path}[{index}]"), "must be a range such as 10.0.0.0/16");
    }
}
