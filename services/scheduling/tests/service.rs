//! The service on the simulated infra cluster: the same calls that clients make, without sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{future::Future, time::Duration};

use futures::StreamExt;

use steading_api::{
    convert::reason_of,
    scheduling::v1::{
        self as proto, capacity_service_server::CapacityService, placement_service_server::PlacementService,
        topology_spread_constraint::WhenUnsatisfiable,
    },
    types::v1::{ConditionStatus, ErrorReason, WatchEventType},
};
use steading_controller::SourceConfig;
use steading_infra::{
    apply::FieldManager,
    install::{ensure_system_namespace, install_crds},
};
use steading_kubesim::{
    ApiError, Verb,
    faults::{Cut, Effect, Matcher, Rule},
};
use steading_runtime::{CallContext, CancellationToken, clock::Clock};
use steading_scheduling::{
    Config, Deps, Service,
    api::{capacity::CapacityApi, placement::PlacementApi},
    reconcile,
};
use steading_sim::{Sim, SimConfig};
use tonic::{Request, Status};

const DEADLINE: Duration = Duration::from_secs(60);

struct Stack {
    placement: PlacementApi,
    capacity: CapacityApi,
    kube: kube::Client,
    faults: steading_kubesim::faults::Faults,
}

/// A simulated infra cluster with the service's reconciler running while `test` runs.
async fn with_stack<Fut: Future<Output = ()>>(test: impl FnOnce(Stack) -> Fut) {
    let sim = Sim::start(SimConfig::default()).await.expect("the simulation starts");
    let kube = sim.client();
    install_crds(&kube, FieldManager::Scheduling, DEADLINE)
        .await
        .expect("the kinds are installed");
    ensure_system_namespace(&kube, FieldManager::Scheduling)
        .await
        .expect("the namespace is there");
    let config = Config {
        sources: SourceConfig {
            // A watch that hangs shall not make the tests hang.
            request: Duration::from_secs(1),
            proof: Duration::from_millis(500),
            ..SourceConfig::default()
        },
        ..Config::default()
    };
    let service = Service::new(
        config,
        Deps {
            kube: kube.clone(),
            clock: Clock::system(),
        },
    );
    let stack = Stack {
        placement: service.placement(),
        capacity: service.capacity(),
        kube: kube.clone(),
        faults: sim.faults().clone(),
    };
    let view = Box::pin(service.view().run(kube.clone(), CancellationToken::new()));
    let reconciler = Box::pin(reconcile::run(kube, Clock::system(), CancellationToken::new()));
    tokio::select! {
        () = Box::pin(test(stack)) => {}
        () = view => panic!("the view must not end"),
        _ = reconciler => panic!("the reconciler must not end"),
    }
    sim.stop().await;
}

fn call<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(CallContext::dev());
    request
}

async fn eventually<T, Fut: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> Fut) -> T {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn reason<T: std::fmt::Debug>(result: Result<T, Status>) -> ErrorReason {
    reason_of(&result.expect_err("an error")).expect("a reason")
}

async fn nodes(stack: &Stack) -> Vec<proto::InfraNode> {
    eventually("ready infra nodes", || async {
        let listed = stack
            .capacity
            .list_infra_nodes(call(proto::ListInfraNodesRequest::default()))
            .await
            .ok()?
            .into_inner();
        let ready = listed.infra_nodes.len() == 3 && listed.infra_nodes.iter().all(|n| n.schedulable);
        ready.then_some(listed.infra_nodes)
    })
    .await
}

#[tokio::test]
async fn the_default_policy_is_installed_accepted_and_cannot_be_deleted() {
    with_stack(|stack| async move {
        let get = || proto::GetPlacementPolicyRequest {
            name: "placementPolicies/default".into(),
        };
        eventually("the accepted default policy", || async {
            let policy = stack
                .placement
                .get_placement_policy(call(get()))
                .await
                .ok()?
                .into_inner();
            policy
                .conditions
                .iter()
                .any(|c| c.r#type == "Accepted" && c.status == 1)
                .then_some(())
        })
        .await;
        let delete = proto::DeletePlacementPolicyRequest {
            name: get().name,
            ..Default::default()
        };
        assert_eq!(
            reason(stack.placement.delete_placement_policy(call(delete)).await),
            ErrorReason::InvalidState
        );
    })
    .await;
}

#[tokio::test]
async fn placements_resolve_with_the_pools_labels() {
    with_stack(|stack| async move {
        let resolve = proto::ResolvePlacementRequest {
            cluster: "projects/acme/clusters/web".into(),
            pool: "workers".into(),
            ..Default::default()
        };
        let resolved = stack
            .placement
            .resolve_placement(call(resolve.clone()))
            .await
            .expect("resolved")
            .into_inner();
        let placement = resolved.placement.expect("a placement");
        let [constraint] = placement.topology_spread_constraints.as_slice() else {
            panic!("one constraint")
        };
        assert_eq!(constraint.when_unsatisfiable(), WhenUnsatisfiable::ScheduleAnyway);
        assert_eq!(
            constraint.label_selector.as_ref().expect("bound").match_labels["steading.dev/pool"],
            "workers"
        );
        let theirs = proto::ResolvePlacementRequest {
            policy: "projects/other/placementPolicies/x".into(),
            ..resolve
        };
        assert_eq!(
            reason(stack.placement.resolve_placement(call(theirs)).await),
            ErrorReason::ReferenceNotFound
        );
    })
    .await;
}

#[tokio::test]
async fn an_explanation_spreads_replicas_and_says_why_not() {
    with_stack(|stack| async move {
        let nodes = nodes(&stack).await;
        let explain = proto::ExplainPlacementRequest {
            name: "placementPolicies/default".into(),
            replicas: 6,
            ..Default::default()
        };
        let answer = stack
            .placement
            .explain_placement(call(explain.clone()))
            .await
            .expect("explained")
            .into_inner();
        assert_eq!((answer.placed_count, answer.unplaced_count), (6, 0));
        assert!(answer.nodes.iter().all(|n| n.feasible && n.placed_count == 2));
        assert_eq!((answer.skews[0].skew_before, answer.skews[0].skew_after), (0, 0));

        let zone = nodes[0].zone.clone();
        let only_there = proto::PlacementPolicy {
            node_selector: [("topology.kubernetes.io/zone".to_owned(), zone.clone())].into(),
            ..Default::default()
        };
        let explain = proto::ExplainPlacementRequest {
            policy: Some(only_there),
            ..explain
        };
        let answer = stack
            .placement
            .explain_placement(call(explain))
            .await
            .expect("explained")
            .into_inner();
        assert!(answer.replicas.iter().all(|r| r.zone == zone));
        let refused = answer.nodes.iter().find(|n| n.zone != zone).expect("another zone");
        let verdict = refused.predicates.iter().find(|p| !p.holds).expect("a refusal");
        assert_eq!(verdict.predicate(), proto::predicate_verdict::Predicate::NodeSelector);
        assert!(
            verdict.message.contains("topology.kubernetes.io/zone"),
            "{}",
            verdict.message
        );
    })
    .await;
}

async fn explain(stack: &Stack, replicas: i32) -> proto::ExplainPlacementResponse {
    let request = proto::ExplainPlacementRequest {
        name: "placementPolicies/default".into(),
        replicas,
        // Proposed, not read: so it can be explained while the API server is away.
        policy: Some(proto::PlacementPolicy::default()),
        ..Default::default()
    };
    let answer = stack.placement.explain_placement(call(request)).await;
    answer.expect("explained").into_inner()
}

/// Reads a watch until `wanted` comes.
async fn next<S>(stream: &mut S, what: &str, wanted: impl Fn(&proto::WatchInfraNodesResponse) -> bool)
where
    S: futures::Stream<Item = Result<proto::WatchInfraNodesResponse, Status>> + Unpin,
{
    let read = async {
        while let Some(event) = stream.next().await {
            if wanted(&event.expect("the watch goes on")) {
                return;
            }
        }
        panic!("the watch ended");
    };
    tokio::time::timeout(DEADLINE, read)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come"));
}

async fn set_cordoned(stack: &Stack, node: &str, cordoned: bool) {
    let api: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(stack.kube.clone());
    let id = node.trim_start_matches("infraNodes/");
    if cordoned {
        api.cordon(id).await.expect("cordoned");
    } else {
        api.uncordon(id).await.expect("uncordoned");
    }
}

#[tokio::test]
async fn watches_of_infra_nodes_are_live_whatever_becomes_of_ours() {
    with_stack(|stack| async move {
        let nodes = nodes(&stack).await;
        let request = call(proto::WatchInfraNodesRequest::default());
        let mut watch = stack
            .capacity
            .watch_infra_nodes(request)
            .await
            .expect("watched")
            .into_inner();
        next(&mut watch, "SYNCED", |e| e.r#type() == WatchEventType::Synced).await;
        let matcher = Matcher::on("nodes", &[Verb::Watch]);
        let hang = || {
            let forever = Effect::Delay(Duration::from_secs(3600));
            stack.faults.add(Rule::always(matcher.clone(), forever));
            stack.faults.cut_watches(&matcher, Cut::Drop);
        };
        for (index, trouble) in ["none", "dropped", "expired", "hanging"].into_iter().enumerate() {
            match trouble {
                "dropped" => assert!(stack.faults.cut_watches(&matcher, Cut::Drop) > 0),
                "expired" => assert!(stack.faults.cut_watches(&matcher, Cut::Expire) > 0),
                "hanging" => hang(),
                _ => {}
            }
            let node = &nodes[index % nodes.len()].name;
            set_cordoned(&stack, node, true).await;
            let cordoned = |e: &proto::WatchInfraNodesResponse| {
                let of = e.infra_node.as_ref().filter(|n| n.name == *node);
                of.is_some_and(|n| n.state() == proto::infra_node::State::Cordoned)
            };
            next(&mut watch, trouble, cordoned).await;
            eventually(trouble, || async {
                let answer = explain(&stack, 4).await;
                answer.replicas.iter().all(|r| r.infra_node != *node).then_some(())
            })
            .await;
            set_cordoned(&stack, node, false).await;
            let open = |e: &proto::WatchInfraNodesResponse| {
                let of = e.infra_node.as_ref().filter(|n| n.name == *node);
                of.is_some_and(|n| n.state() == proto::infra_node::State::Ready)
            };
            next(&mut watch, trouble, open).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_stale_view_answers_and_says_so_and_heals() {
    with_stack(|stack| async move {
        nodes(&stack).await;
        eventually("a live view", || async {
            explain(&stack, 1).await.warnings.is_empty().then_some(())
        })
        .await;
        stack.faults.go_away();
        stack.faults.cut_watches(&Matcher::any(), Cut::Drop);
        let warnings = eventually("a warning", || async {
            Some(explain(&stack, 1).await.warnings).filter(|warnings| !warnings.is_empty())
        })
        .await;
        assert!(warnings.iter().all(|w| w.contains("is stale")), "{warnings:?}");
        stack.faults.come_back();
        eventually("a live view", || async {
            explain(&stack, 1).await.warnings.is_empty().then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_watch_resumes_only_where_nothing_was_missed() {
    with_stack(|stack| async move {
        nodes(&stack).await;
        let resume = |token: &str| {
            call(proto::WatchInfraNodesRequest {
                resume_token: token.into(),
                ..Default::default()
            })
        };
        let old = stack.capacity.watch_infra_nodes(resume("1.1")).await;
        assert_eq!(reason(old.map(|_| ())), ErrorReason::ResumeTokenExpired);
        let odd = stack.capacity.watch_infra_nodes(resume("x")).await;
        assert_eq!(reason(odd.map(|_| ())), ErrorReason::InvalidField);
    })
    .await;
}

#[tokio::test]
async fn calls_list_neither_nodes_nor_pods_nor_instances() {
    with_stack(|stack| async move {
        let nodes = nodes(&stack).await;
        for resource in ["nodes", "pods", "virtualmachineinstances"] {
            let refused = ApiError::new(500, "InternalError", "nobody lists");
            stack.faults.add(Rule::always(
                Matcher::on(resource, &[Verb::List]),
                Effect::Refuse(refused),
            ));
        }
        let before = stack.faults.struck();
        explain(&stack, 3).await;
        let drain = proto::SimulateDrainRequest {
            name: nodes[0].name.clone(),
            ..Default::default()
        };
        stack.capacity.simulate_drain(call(drain)).await.expect("simulated");
        stack
            .capacity
            .get_capacity(call(proto::GetCapacityRequest::default()))
            .await
            .expect("counted");
        stack
            .capacity
            .list_infra_nodes(call(proto::ListInfraNodesRequest::default()))
            .await
            .expect("listed");
        assert_eq!(stack.faults.struck(), before);
    })
    .await;
}

#[tokio::test]
async fn capacity_refuses_a_policy_that_breaks_rules() {
    use steading_infra::crd::placement_policy::PlacementPolicy;
    with_stack(|stack| async move {
        nodes(&stack).await;
        let api: kube::Api<PlacementPolicy> = kube::Api::all(stack.kube.clone());
        let bad: PlacementPolicy = serde_json::from_value(serde_json::json!({
            "apiVersion": "steading.dev/v1alpha1", "kind": "PlacementPolicy", "metadata": {"name": "acme--nosy", "labels": {"steading.dev/project": "acme"}},
            "spec": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "namespaces": ["rival--web"]}]}},
        }))
        .expect("a policy");
        api.create(&kube::api::PostParams::default(), &bad).await.expect("stored: kubectl is not stopped");
        let request = proto::GetCapacityRequest {
            policy: "projects/acme/placementPolicies/nosy".into(),
            ..Default::default()
        };
        let refused = stack.capacity.get_capacity(call(request)).await;
        assert_eq!(reason(refused), ErrorReason::InvalidField);
    })
    .await;
}

#[tokio::test]
async fn a_cordoned_node_is_reported_and_never_used() {
    use k8s_openapi::api::core::v1::Node;
    with_stack(|stack| async move {
        let nodes = nodes(&stack).await;
        let id = nodes[0].name.trim_start_matches("infraNodes/").to_owned();
        let api: kube::Api<Node> = kube::Api::all(stack.kube.clone());
        api.cordon(&id).await.expect("cordoned");
        let get = proto::GetInfraNodeRequest {
            name: nodes[0].name.clone(),
        };
        let node = stack
            .capacity
            .get_infra_node(call(get))
            .await
            .expect("there")
            .into_inner();
        assert_eq!(
            (node.state(), node.schedulable),
            (proto::infra_node::State::Cordoned, false)
        );
        let filter = proto::ListInfraNodesRequest {
            filter: "state=CORDONED".into(),
            ..Default::default()
        };
        eventually("the view of the cordoned node", || async {
            let listed = stack
                .capacity
                .list_infra_nodes(call(filter.clone()))
                .await
                .ok()?
                .into_inner();
            (listed.infra_nodes.len() == 1).then_some(())
        })
        .await;
        // The scheduling index follows the view within moments.
        eventually("an explanation without the node", || async {
            let answer = explain(&stack, 4).await;
            answer
                .replicas
                .iter()
                .all(|r| r.infra_node != nodes[0].name)
                .then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn capacity_is_counted_by_zone_and_drains_of_empty_nodes_move_nothing() {
    with_stack(|stack| async move {
        let nodes = nodes(&stack).await;
        let capacity = stack
            .capacity
            .get_capacity(call(proto::GetCapacityRequest::default()))
            .await;
        let capacity = capacity.expect("counted").into_inner();
        assert_eq!(capacity.zones.len(), 3);
        let drain = proto::SimulateDrainRequest {
            name: nodes[0].name.clone(),
            ..Default::default()
        };
        let drain = stack
            .capacity
            .simulate_drain(call(drain))
            .await
            .expect("simulated")
            .into_inner();
        assert_eq!((drain.moves.len(), drain.nodes.len()), (0, 2));
        let unknown = proto::SimulateDrainRequest {
            name: "infraNodes/none".into(),
            ..Default::default()
        };
        assert_eq!(
            reason(stack.capacity.simulate_drain(call(unknown)).await),
            ErrorReason::ResourceNotFound
        );
        let rebalance = stack
            .capacity
            .plan_rebalance(call(proto::PlanRebalanceRequest::default()))
            .await;
        assert_eq!(reason(rebalance), ErrorReason::NotImplemented);
    })
    .await;
}

#[tokio::test]
async fn policies_are_checked_paged_and_replayed() {
    with_stack(|stack| async move {
        let create = |id: &str, skew: i32| proto::CreatePlacementPolicyRequest {
            parent: "projects/acme".into(),
            placement_policy_id: id.into(),
            placement_policy: Some(proto::PlacementPolicy {
                topology_spread_constraints: vec![proto::TopologySpreadConstraint {
                    max_skew: skew,
                    topology_key: "topology.kubernetes.io/zone".into(),
                    when_unsatisfiable: WhenUnsatisfiable::DoNotSchedule.into(),
                    ..Default::default()
                }],
                ..Default::default()
            }),
            ..Default::default()
        };
        let refused = stack
            .placement
            .create_placement_policy(call(create("bad", 0)))
            .await
            .expect_err("refused");
        assert!(
            refused
                .message()
                .contains("placement_policy.topology_spread_constraints[0].max_skew"),
            "{}",
            refused.message()
        );
        for id in ["a", "b", "c"] {
            stack
                .placement
                .create_placement_policy(call(create(id, 1)))
                .await
                .expect("created");
        }
        let mut list = proto::ListPlacementPoliciesRequest {
            parent: "projects/acme".into(),
            page_size: 2,
            ..Default::default()
        };
        let first = stack
            .placement
            .list_placement_policies(call(list.clone()))
            .await
            .expect("listed")
            .into_inner();
        assert_eq!(first.placement_policies.len(), 2);
        list.page_token = first.next_page_token;
        let second = stack
            .placement
            .list_placement_policies(call(list.clone()))
            .await
            .expect("listed")
            .into_inner();
        assert_eq!(second.placement_policies[0].name, "projects/acme/placementPolicies/c");
        assert_eq!(second.next_page_token, "");
        list.parent = "projects/other".into();
        assert_eq!(
            reason(stack.placement.list_placement_policies(call(list)).await),
            ErrorReason::InvalidPageToken
        );
    })
    .await;
}

/// The infra cluster once KubeVirt is announced, read by an API of its own each time: an answer is kept for a moment.
async fn infra_cluster(stack: &Stack) -> proto::InfraCluster {
    eventually("a deployed KubeVirt", || async {
        let deps = Deps {
            kube: stack.kube.clone(),
            clock: Clock::system(),
        };
        let request = proto::GetInfraClusterRequest {
            name: "infraCluster".into(),
        };
        let capacity = Service::new(Config::default(), deps).capacity();
        let found = capacity.get_infra_cluster(call(request)).await.ok()?.into_inner();
        let kubevirt = found.kubevirt.clone().unwrap_or_default();
        (kubevirt.phase == "Deployed" && found.storage_classes.len() == 2).then_some(found)
    })
    .await
}

fn condition<'c>(cluster: &'c proto::InfraCluster, kind: &str) -> &'c steading_api::types::v1::Condition {
    cluster.conditions.iter().find(|c| c.r#type == kind).unwrap()
}

#[tokio::test]
async fn the_infra_cluster_shows_its_versions_gates_and_storage() {
    with_stack(|stack| async move {
        let found = infra_cluster(&stack).await;
        assert_eq!(found.name, "infraCluster");
        assert!(found.kubernetes_version.starts_with('v') && !found.uid.is_empty());
        assert_eq!(found.load_balancers(), proto::Presence::Unknown);
        let kubevirt = found.kubevirt.clone().unwrap();
        assert!(kubevirt.feature_gates.iter().any(|g| g == "DeclarativeHotplugVolumes"));
        assert_eq!(condition(&found, "HotPlugReady").status(), ConditionStatus::True);
        let default: Vec<_> = found.storage_classes.iter().filter(|c| c.default).collect();
        let [class] = default.as_slice() else {
            panic!("one default class: {:?}", found.storage_classes)
        };
        assert_eq!(class.profile_presence(), proto::Presence::Present);
        assert_eq!(class.live_migration(), proto::Presence::Present);
        assert_eq!(class.clone_strategy, "csi-clone");
        assert!(found.volume_snapshots.unwrap().classes.iter().any(|c| c.default));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_of_the_infra_cluster_is_unknown_and_nothing_else_suffers() {
    with_stack(|stack| async move {
        infra_cluster(&stack).await;
        for resource in ["storageprofiles", "volumesnapshotclasses"] {
            let forbidden = ApiError::new(403, "Forbidden", "not for you");
            let matcher = Matcher::on(resource, &[Verb::List]);
            stack.faults.add(Rule::always(matcher, Effect::Refuse(forbidden)));
        }
        let found = infra_cluster(&stack).await;
        assert!(found.storage_classes.iter().all(
            |c| c.profile_presence() == proto::Presence::Unknown && c.live_migration() == proto::Presence::Unknown
        ));
        let snapshots = found.volume_snapshots.clone().unwrap();
        assert_eq!(snapshots.presence(), proto::Presence::Unknown);
        assert!(snapshots.message.contains("not for you"));
        assert_eq!(condition(&found, "SnapshotsReady").status(), ConditionStatus::Unknown);
        assert_eq!(condition(&found, "KubeVirtReady").status(), ConditionStatus::True);
        assert_eq!(found.state(), proto::infra_cluster::State::Degraded);
    })
    .await;
}

#[tokio::test]
async fn there_is_one_infra_cluster_and_no_other() {
    with_stack(|stack| async move {
        let other = proto::GetInfraClusterRequest {
            name: "infraClusters/other".into(),
        };
        assert_eq!(
            reason(stack.capacity.get_infra_cluster(call(other)).await),
            ErrorReason::InvalidName
        );
        stack.faults.go_away();
        let same = proto::GetInfraClusterRequest {
            name: "infraCluster".into(),
        };
        assert_eq!(
            reason(stack.capacity.get_infra_cluster(call(same)).await),
            ErrorReason::InfraUnavailable
        );
        stack.faults.come_back();
    })
    .await;
}
