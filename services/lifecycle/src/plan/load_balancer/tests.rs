use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::api::core::v1::{ClientIPConfig, Node, SessionAffinityConfig};
use proptest::prelude::*;
use serde_json::json;

use super::{
    allowances::Allowances,
    endpoints::{Backend, BackendState, ENDPOINTS_PER_SLICE, Leaving, NodeView, judge, render_slices},
    *,
};

fn mk_balanced() -> Balanced {
    Balanced {
        cluster: "acme--prod".into(),
        namespace: "shop".into(),
        service: "web".into(),
    }
}

fn mk_tenant() -> Service {
    let port = ServicePort {
        name: Some("http".into()),
        port: 80,
        node_port: Some(30080),
        app_protocol: Some("http".into()),
        ..ServicePort::default()
    };
    Service {
        spec: Some(ServiceSpec {
            type_: Some("LoadBalancer".into()),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn mk_backend(name: &str, addresses: &[&str]) -> Backend {
    Backend {
        machine: name.into(),
        infra_node: Some("infra-1".into()),
        zone: None,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        state: BackendState::Ready,
    }
}

fn render(tenant: &Service, current: Option<&Service>) -> (Service, Vec<FieldNote>) {
    let rendered = render_service(&mk_balanced(), tenant, None, current, &Allowances::default());
    (rendered.service, rendered.notes)
}

fn mk_generous() -> Allowances {
    Allowances {
        external_ips: vec!["192.0.2.0/29".parse().unwrap()],
        requested: vec!["192.0.2.8/29".parse().unwrap()],
        annotations: vec!["metallb.io/".into()],
    }
}

#[test]
fn every_field_that_means_something_outside_carries_over() {
    let mut tenant = mk_tenant();
    let spec = tenant.spec.as_mut().unwrap();
    spec.external_traffic_policy = Some("Local".into());
    spec.health_check_node_port = Some(31000);
    spec.load_balancer_source_ranges = Some(vec!["10.0.0.0/8".into()]);
    spec.ip_families = Some(vec!["IPv4".into(), "IPv6".into()]);
    spec.ip_family_policy = Some("PreferDualStack".into());
    spec.session_affinity = Some("ClientIP".into());
    spec.session_affinity_config = Some(SessionAffinityConfig {
        client_ip: Some(ClientIPConfig {
            timeout_seconds: Some(60),
        }),
    });
    spec.external_ips = Some(vec!["192.0.2.1".into()]);
    spec.load_balancer_ip = Some("192.0.2.9".into());
    spec.allocate_load_balancer_node_ports = Some(false);
    let rendered = render_service(&mk_balanced(), &tenant, Some("gold".into()), None, &mk_generous());
    assert!(rendered.notes.is_empty() && rendered.hold.is_none());
    let got = rendered.service.spec.unwrap();
    let port = &got.ports.as_ref().unwrap()[0];
    assert_eq!(
        (port.port, port.target_port.clone(), port.node_port),
        (80, Some(IntOrString::Int(30080)), None)
    );
    assert_eq!(port.app_protocol.as_deref(), Some("http"));
    let spec = tenant.spec.unwrap();
    assert_eq!(got.external_traffic_policy, spec.external_traffic_policy);
    assert_eq!(got.health_check_node_port, None, "the infra cluster chooses its own");
    assert_eq!(got.load_balancer_source_ranges, spec.load_balancer_source_ranges);
    assert_eq!(
        (got.ip_families, got.ip_family_policy),
        (spec.ip_families, spec.ip_family_policy)
    );
    assert_eq!(
        (got.session_affinity, got.session_affinity_config),
        (spec.session_affinity, spec.session_affinity_config)
    );
    assert_eq!(
        (got.external_ips, got.load_balancer_ip),
        (spec.external_ips, spec.load_balancer_ip)
    );
    assert_eq!(got.allocate_load_balancer_node_ports, Some(false));
    assert_eq!(got.load_balancer_class.as_deref(), Some("gold"));
    assert!(got.selector.is_none());
}

#[test]
fn addresses_that_the_operator_does_not_allow_never_reach_the_infra_cluster() {
    let mut tenant = mk_tenant();
    let spec = tenant.spec.as_mut().unwrap();
    spec.external_ips = Some(vec!["10.96.0.1".into(), "192.0.2.1".into()]);
    spec.load_balancer_ip = Some("192.0.2.1".into());
    tenant
        .annotations_mut()
        .insert("metallb.io/allow-shared-ip".into(), "theirs".into());
    let (infra, notes) = render(&tenant, None);
    let spec = infra.spec.clone().unwrap();
    assert_eq!(spec.external_ips, Some(Vec::new()));
    assert_eq!(spec.load_balancer_ip.as_deref(), Some(""));
    assert!(!infra.annotations().contains_key("metallb.io/allow-shared-ip"));
    let fields: Vec<_> = notes.iter().map(|note| note.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "spec.loadBalancerIP",
            "spec.externalIPs[0]",
            "spec.externalIPs[1]",
            "metadata.annotations[metallb.io/allow-shared-ip]"
        ]
    );
    let rendered = render_service(&mk_balanced(), &tenant, None, None, &mk_generous());
    assert_eq!(rendered.service.spec.unwrap().external_ips.unwrap(), ["192.0.2.1"]);
    assert_eq!(
        rendered.notes.len(),
        2,
        "only one external IP is allowed, and no request for it"
    );
}

#[test]
fn a_source_range_that_is_none_holds_the_load_balancer_back_instead_of_opening_it() {
    let mut tenant = mk_tenant();
    let old = "service.beta.kubernetes.io/load-balancer-source-ranges";
    tenant
        .annotations_mut()
        .insert(old.into(), "10.0.0.0/8, 192.0.2.0/24".into());
    let (infra, notes) = render(&tenant, None);
    assert_eq!(
        infra.spec.unwrap().load_balancer_source_ranges.unwrap(),
        ["10.0.0.0/8", "192.0.2.0/24"]
    );
    assert!(notes.is_empty());
    tenant.annotations_mut().insert(old.into(), "10.0.0.0".into());
    let rendered = render_service(&mk_balanced(), &tenant, None, None, &Allowances::default());
    assert_eq!(rendered.hold.unwrap().reason, HoldReason::InvalidSourceRanges);
}

#[test]
fn only_annotations_of_load_balancers_carry_over() {
    let mut tenant = mk_tenant();
    tenant
        .annotations_mut()
        .insert("metallb.io/address-pool".into(), "public".into());
    tenant
        .annotations_mut()
        .insert("kubectl.kubernetes.io/last-applied-configuration".into(), "{}".into());
    tenant
        .annotations_mut()
        .insert("steading.dev/tenant-service".into(), "other/one".into());
    let infra = render_service(&mk_balanced(), &tenant, None, None, &mk_generous()).service;
    let keys: Vec<_> = infra.annotations().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "metallb.io/address-pool",
            labels::FIELD_NOTES,
            labels::LOAD_BALANCER_HOLD,
            labels::RENDERED,
            labels::TENANT_SERVICE
        ]
    );
    assert_eq!(infra.annotations()[labels::TENANT_SERVICE], "shop/web");
}

#[test]
fn a_class_of_another_controller_is_not_ours() {
    let claim = |class: Option<&str>| {
        let mut tenant = mk_tenant();
        tenant.spec.as_mut().unwrap().load_balancer_class = class.map(str::to_owned);
        claim_of(&tenant)
    };
    assert_eq!(claim(None), Claim::Ours(None));
    assert_eq!(claim(Some("steading.dev/default")), Claim::Ours(None));
    assert_eq!(claim(Some("steading.dev/gold")), Claim::Ours(Some("gold".into())));
    assert_eq!(claim(Some("example.com/other")), Claim::NotOurs);
}

#[test]
fn fields_that_cannot_change_stay_and_say_so() {
    let mut current = render(&mk_tenant(), None).0;
    current.spec.as_mut().unwrap().ip_families = Some(vec!["IPv4".into()]);
    let mut tenant = mk_tenant();
    tenant.spec.as_mut().unwrap().ip_families = Some(vec!["IPv6".into()]);
    let rendered = render_service(
        &mk_balanced(),
        &tenant,
        Some("gold".into()),
        Some(&current),
        &Allowances::default(),
    );
    assert_eq!(rendered.service.spec.unwrap().ip_families.unwrap(), ["IPv4"]);
    let fields: Vec<_> = rendered.notes.iter().map(|note| note.field.as_str()).collect();
    assert_eq!(fields, ["spec.ipFamilies", "spec.loadBalancerClass"]);
}

#[test]
fn a_port_without_node_port_is_left_out_with_a_reason() {
    let mut tenant = mk_tenant();
    tenant.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].node_port = None;
    let (infra, notes) = render(&tenant, None);
    assert!(infra.spec.unwrap().ports.unwrap().is_empty());
    assert_eq!(notes[0].field, "spec.ports[0].nodePort");
}

#[test]
fn drift_is_seen_whichever_way_it_goes() {
    let wanted =
        json!({"ports": [{"port": 80}], "loadBalancerSourceRanges": [], "loadBalancerIP": "", "type": "LoadBalancer"});
    let present = json!({"ports": [{"port": 80, "nodePort": 31234}], "type": "LoadBalancer", "clusterIP": "10.0.0.1"});
    assert!(is_applied(&wanted, Some(&present)));
    for (key, value) in [
        ("loadBalancerSourceRanges", json!(["0.0.0.0/0"])),
        ("ports", json!([])),
        ("type", json!("NodePort")),
    ] {
        let mut drifted = present.clone();
        drifted[key] = value;
        assert!(!is_applied(&wanted, Some(&drifted)), "{key}");
    }
}

#[test]
fn names_are_bounded_and_distinct() {
    let name = |namespace: &str, service: &str| {
        Balanced {
            cluster: "a--b".into(),
            namespace: namespace.into(),
            service: service.into(),
        }
        .infra_name()
    };
    assert!(name(&"n".repeat(63), &"s".repeat(63)).len() <= 55);
    assert_ne!(name("a", "b-c"), name("a-b", "c"));
}

#[test]
fn addresses_stand_in_the_slice_of_their_family() {
    let (mut infra, _) = render(&mk_tenant(), None);
    let backends = [
        mk_backend("m1", &["10.0.0.1", "fd00::1"]),
        mk_backend("m2", &["10.0.0.2"]),
    ];
    let both = render_slices(&mk_balanced(), &infra, &backends, None);
    let shown: Vec<_> = both
        .iter()
        .map(|slice| {
            (
                slice.address_type.as_str(),
                slice.endpoints.as_ref().map_or(0, Vec::len),
            )
        })
        .collect();
    assert_eq!(shown, [("IPv4", 2), ("IPv6", 1)]);
    infra.spec.as_mut().unwrap().ip_families = Some(vec!["IPv6".into()]);
    assert_eq!(render_slices(&mk_balanced(), &infra, &backends, None).len(), 1);
}

#[test]
fn with_local_traffic_only_nodes_with_a_pod_are_behind_it() {
    let (infra, _) = render(&mk_tenant(), None);
    let backends = [mk_backend("m1", &["10.0.0.1"]), mk_backend("m2", &["10.0.0.2"])];
    let slices = render_slices(
        &mk_balanced(),
        &infra,
        &backends,
        Some(&BTreeSet::from(["m2".to_owned()])),
    );
    let hosts: Vec<_> = slices[0]
        .endpoints
        .iter()
        .flatten()
        .filter_map(|one| one.hostname.as_deref())
        .collect();
    assert_eq!(hosts, ["m2"]);
}

#[test]
fn a_machine_takes_traffic_only_if_it_runs_is_ready_and_stays() {
    let mk_node = |ready: &str| -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": "m"}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
        )
        .unwrap()
    };
    let node = mk_node("True");
    let mut excluded = node.clone();
    excluded.labels_mut().insert(
        "node.kubernetes.io/exclude-from-external-load-balancers".into(),
        String::new(),
    );
    let mut cordoned = node.clone();
    cordoned.spec.get_or_insert_default().unschedulable = Some(true);
    let unknown = mk_node("Unknown");
    let present = NodeView::Present;
    assert_eq!(judge(true, present(&node), Leaving::No), BackendState::Ready);
    assert_eq!(
        judge(true, present(&cordoned), Leaving::No),
        BackendState::Ready,
        "a cordon alone moves no traffic"
    );
    assert_eq!(judge(false, present(&node), Leaving::No), BackendState::NotReady);
    assert_eq!(judge(true, present(&unknown), Leaving::No), BackendState::NotReady);
    assert_eq!(judge(true, NodeView::Absent, Leaving::No), BackendState::NotReady);
    assert_eq!(judge(true, present(&node), Leaving::Yes), BackendState::Excluded);
    assert_eq!(judge(true, present(&excluded), Leaving::No), BackendState::Excluded);
}

#[test]
fn endpoints_do_not_freeze_or_vanish_while_the_tenant_is_away() {
    assert_eq!(judge(true, NodeView::Unknown, Leaving::No), BackendState::Ready);
    assert_eq!(judge(false, NodeView::Unknown, Leaving::No), BackendState::NotReady);
    assert_eq!(judge(true, NodeView::Unknown, Leaving::Yes), BackendState::Excluded);
}

proptest! {
    #[test]
    fn every_machine_stands_in_exactly_one_slice_of_at_most_a_hundred(count in 0_usize..450) {
        let (infra, _) = render(&mk_tenant(), None);
        let backends: Vec<Backend> = (0..count)
            .map(|n| {
                let address = IpAddr::from([10, 0, u8::try_from(n / 250).unwrap(), u8::try_from(n % 250).unwrap()]);
                Backend { addresses: vec![address], ..mk_backend(&format!("m{n}"), &[]) }
            })
            .collect();
        let slices = render_slices(&mk_balanced(), &infra, &backends, None);
        prop_assert!(slices.iter().all(|slice| slice.endpoints.as_ref().is_some_and(|list| list.len() <= ENDPOINTS_PER_SLICE)));
        let hosts: BTreeSet<_> = slices.iter().flat_map(|s| s.endpoints.iter().flatten()).filter_map(|e| e.hostname.clone()).collect();
        prop_assert_eq!(hosts.len(), count);
        let names: BTreeSet<_> = slices.iter().filter_map(|slice| slice.metadata.name.clone()).collect();
        prop_assert_eq!(names.len(), slices.len());
    }
}
