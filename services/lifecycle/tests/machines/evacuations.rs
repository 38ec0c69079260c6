//! Maintenance, plain drains and load balancers, end to end within the service.

use k8s_openapi::api::{
    core::v1::{Pod, Service as KubeService},
    discovery::v1::EndpointSlice,
};
use kube::api::EvictParams;
use steading_api::lifecycle::v1::{
    load_balancer_service_client::LoadBalancerServiceClient, maintenance::State,
    maintenance_service_client::MaintenanceServiceClient,
};

use super::*;

impl World {
    fn maintenances(&self) -> MaintenanceServiceClient<Channel> {
        MaintenanceServiceClient::new(self.channel.clone())
    }

    async fn maintenance(&self, id: &str, wanted: State) -> proto::Maintenance {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let name = format!("maintenances/{id}");
            let seen = self
                .maintenances()
                .get_maintenance(proto::GetMaintenanceRequest { name })
                .await;
            if let Ok(seen) = &seen
                && seen.get_ref().state() == wanted
            {
                return seen.get_ref().clone();
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{seen:#?}\n{:#?}",
                self.list().await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn begin(&self, id: &str, node: &str, strategy: proto::maintenance::Strategy) {
        let maintenance = proto::Maintenance {
            infra_node: node.to_owned(),
            strategy: strategy.into(),
            ..Default::default()
        };
        let create = proto::CreateMaintenanceRequest {
            maintenance_id: id.to_owned(),
            maintenance: Some(maintenance),
            ..Default::default()
        };
        self.maintenances().create_maintenance(create).await.expect("created");
        self.start_planned(&format!("maintenances/{id}")).await;
    }

    /// Starts a maintenance by the plan that it has; again where that was refreshed in between.
    async fn start_planned(&self, name: &str) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            assert!(tokio::time::Instant::now() < deadline, "{name} has no plan that stays");
            let request = proto::GetMaintenanceRequest { name: name.to_owned() };
            let seen = self.maintenances().get_maintenance(request).await.expect("read");
            let Some(plan) = seen.into_inner().plan.filter(|plan| !plan.id.is_empty()) else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let start = proto::StartMaintenanceRequest {
                name: name.to_owned(),
                plan_id: plan.id,
                ..Default::default()
            };
            match self.maintenances().start_maintenance(start).await {
                Err(status) if status.code() == tonic::Code::Aborted => {}
                started => {
                    started.expect("started");
                    return;
                }
            }
        }
    }

    async fn is_cordoned(&self, node: &str) -> bool {
        let node = Api::<Node>::all(self.sim.client())
            .get(id_of(node))
            .await
            .expect("an infra node");
        node.spec.and_then(|spec| spec.unschedulable).unwrap_or(false)
    }
}

fn id_of(name: &str) -> &str {
    name.rsplit('/').next().expect("an id")
}

fn on<'a>(machines: &'a [proto::Machine], node: &str) -> Vec<&'a str> {
    machines
        .iter()
        .filter(|m| m.infra_node == node)
        .map(|m| m.name.as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maintenance_shows_its_plan_then_migrates_and_gives_the_node_back() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(3).await;
    let before = world.running(3).await;
    let node = before[0].infra_node.clone();
    let plan = proto::PlanMaintenanceRequest {
        name: node.clone(),
        ..Default::default()
    };
    let plan = world
        .maintenances()
        .plan_maintenance(plan)
        .await
        .expect("a plan")
        .into_inner();
    let planned: Vec<&str> = plan.entries.iter().map(|entry| entry.machine.as_str()).collect();
    assert_eq!(planned, on(&before, &node));
    assert!(
        plan.entries
            .iter()
            .all(|e| e.disposition() == proto::Disposition::LiveMigrate),
        "{plan:#?}"
    );
    assert!(!world.is_cordoned(&node).await, "a plan moves nothing");

    world
        .begin("repair", &node, proto::maintenance::Strategy::Unspecified)
        .await;
    let done = world.maintenance("repair", State::InMaintenance).await;
    assert_eq!(done.plan.as_ref().map(|plan| plan.entries.len()), Some(planned.len()));
    let after = world.running(3).await;
    assert!(on(&after, &node).is_empty(), "{after:#?}");
    let names = |machines: &[proto::Machine]| machines.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after), "migrated, not replaced");
    assert!(world.is_cordoned(&node).await);

    let name = "maintenances/repair".to_owned();
    let delete = proto::DeleteMaintenanceRequest {
        name: name.clone(),
        ..Default::default()
    };
    let refused = world
        .maintenances()
        .delete_maintenance(delete)
        .await
        .expect_err("it is under way");
    assert_eq!(reason_of(&refused), Some(ErrorReason::InvalidState));
    let complete = proto::CompleteMaintenanceRequest {
        name,
        ..Default::default()
    };
    world
        .maintenances()
        .complete_maintenance(complete)
        .await
        .expect("completed");
    world.maintenance("repair", State::Completed).await;
    assert!(!world.is_cordoned(&node).await, "an end is told when it is reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_that_may_not_migrate_are_replaced_across_a_restart_of_the_service() {
    let mut world = World::start().await;
    world.project_and_cluster().await;
    world.pool(3).await;
    let before = world.running(3).await;
    let node = before[0].infra_node.clone();
    world
        .begin("repair", &node, proto::maintenance::Strategy::ReplaceOnly)
        .await;
    world.maintenance("repair", State::Running).await;
    world.cancel.cancel();
    world.launch().await;
    let done = world.maintenance("repair", State::InMaintenance).await;
    assert!(
        done.progress
            .iter()
            .all(|p| p.disposition() == proto::Disposition::SurgeThenDrain),
        "{done:#?}"
    );
    let after = world.running(3).await;
    assert!(on(&after, &node).is_empty(), "{after:#?}");
    assert!(
        on(&before, &node)
            .iter()
            .all(|old| after.iter().all(|m| m.name != *old)),
        "replaced"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_drain_becomes_a_maintenance_and_ends_with_the_uncordon() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(3).await;
    let before = world.running(3).await;
    let node = before[0].infra_node.clone();
    let nodes: Api<Node> = Api::all(world.sim.client());
    let cordon = |value: Value| Patch::Merge(json!({"spec": {"unschedulable": value}}));
    nodes
        .patch(id_of(&node), &PatchParams::default(), &cordon(json!(true)))
        .await
        .expect("cordoned");
    let pods: Api<Pod> = Api::namespaced(world.sim.client(), "acme--prod");
    let launchers = pods
        .list(&ListParams::default().labels("kubevirt.io=virt-launcher"))
        .await
        .expect("pods")
        .items;
    let here = launchers
        .iter()
        .filter(|pod| pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(id_of(&node)));
    for pod in here {
        pods.evict(&pod.name_any(), &EvictParams::default())
            .await
            .expect_err("KubeVirt marks the VMI instead");
    }
    let id = format!("eviction-{}", id_of(&node));
    let done = world.maintenance(&id, State::InMaintenance).await;
    assert_eq!(done.origin(), proto::maintenance::Origin::DrainDetected);
    assert!(on(&world.running(3).await, &node).is_empty());
    nodes
        .patch(id_of(&node), &PatchParams::default(), &cordon(Value::Null))
        .await
        .expect("uncordoned");
    world.maintenance(&id, State::Completed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_without_a_cordon_migrates_the_machine() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(1).await;
    let before = world.running(1).await.remove(0);
    let pods: Api<Pod> = Api::namespaced(world.sim.client(), "acme--prod");
    let launchers = pods
        .list(&ListParams::default().labels("kubevirt.io=virt-launcher"))
        .await;
    let launcher = launchers.expect("pods").items.remove(0);
    pods.evict(&launcher.name_any(), &EvictParams::default())
        .await
        .expect_err("KubeVirt marks the VMI instead");
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let now = world.running(1).await.remove(0);
        if now.infra_node != before.infra_node {
            assert_eq!(now.name, before.name, "migrated, not replaced");
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{now:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let vms: Api<VirtualMachine> = Api::namespaced(world.sim.client(), "acme--prod");
    loop {
        let vm = vms.get(id_of(&before.name)).await.expect("the machine");
        if steading_infra::intent::intents(vm.annotations()).is_empty() {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "its intent stays: {:?}",
            vm.annotations()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn completing_one_of_two_maintenances_keeps_the_node_cordoned() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(1).await;
    let node = world.running(1).await[0].infra_node.clone();
    for id in ["first", "second"] {
        world.begin(id, &node, proto::maintenance::Strategy::Unspecified).await;
    }
    for id in ["first", "second"] {
        world.maintenance(id, State::InMaintenance).await;
    }
    for (id, cordoned) in [("first", true), ("second", false)] {
        let name = format!("maintenances/{id}");
        let complete = proto::CompleteMaintenanceRequest {
            name,
            ..Default::default()
        };
        world
            .maintenances()
            .complete_maintenance(complete)
            .await
            .expect("completed");
        world.maintenance(id, State::Completed).await;
        assert_eq!(world.is_cordoned(&node).await, cordoned, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_load_balancer_gets_an_address_and_its_objects_go_with_it() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(2).await;
    world.running(2).await;
    let services: Api<KubeService> = Api::namespaced(world.tenant(), "default");
    let service: KubeService = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080}]}
    }))
    .expect("a service");
    services
        .create(&PostParams::default(), &service)
        .await
        .expect("created");
    let name = format!("{PARENT}/loadBalancers/default.web");
    let mut balancers = LoadBalancerServiceClient::new(world.channel.clone());
    let deadline = tokio::time::Instant::now() + SOON;
    let ready = loop {
        let seen = balancers
            .get_load_balancer(proto::GetLoadBalancerRequest { name: name.clone() })
            .await;
        let told = services
            .get("web")
            .await
            .expect("the service")
            .status
            .and_then(|s| s.load_balancer?.ingress)
            .is_some();
        if let Ok(seen) = &seen
            && seen.get_ref().state() == proto::load_balancer::State::Ready
            && told
        {
            break seen.get_ref().clone();
        }
        assert!(tokio::time::Instant::now() < deadline, "{seen:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(ready.source_ranges, ["10.0.0.0/8"]);
    assert_eq!((ready.ports[0].port, ready.ports[0].machine_port), (80, 30080));
    assert_eq!(ready.endpoints.iter().filter(|one| one.ready).count(), 2);
    let slices: Api<EndpointSlice> = Api::namespaced(world.sim.client(), "acme--prod");
    let ours = ListParams::default().labels(labels::LOAD_BALANCER);
    let hosts: usize = slices
        .list(&ours)
        .await
        .expect("slices")
        .items
        .iter()
        .flat_map(|s| &s.endpoints)
        .flatten()
        .count();
    assert_eq!(hosts, 2);

    let infra: Api<KubeService> = Api::namespaced(world.sim.client(), "acme--prod");
    let drift = Patch::Merge(json!({"spec": {"loadBalancerSourceRanges": ["0.0.0.0/0"]}}));
    infra
        .patch(&ready.infra_service, &PatchParams::default(), &drift)
        .await
        .expect("drifted");
    let healed = |service: &KubeService| {
        service
            .spec
            .as_ref()
            .and_then(|s| s.load_balancer_source_ranges.clone())
            == Some(vec!["10.0.0.0/8".to_owned()])
    };
    while !healed(&infra.get(&ready.infra_service).await.expect("the infra service")) {
        assert!(tokio::time::Instant::now() < deadline, "drift stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    services
        .delete("web", &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    while services.get_opt("web").await.expect("an answer").is_some() {
        assert!(tokio::time::Instant::now() < deadline, "the tenant's service stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(infra.get_opt(&ready.infra_service).await.expect("an answer").is_none());
    while !slices.list(&ours).await.expect("slices").items.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "slices stay");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_names_the_plan_that_was_reviewed() {
    let world = World::start().await;
    let create = proto::CreateMaintenanceRequest {
        maintenance_id: "reviewed".to_owned(),
        maintenance: Some(proto::Maintenance {
            infra_node: "infraNodes/infra-1".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    world.maintenances().create_maintenance(create).await.expect("created");
    let name = "maintenances/reviewed".to_owned();
    for (plan_id, code) in [
        (String::new(), tonic::Code::InvalidArgument),
        ("another".to_owned(), tonic::Code::Aborted),
    ] {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let start = proto::StartMaintenanceRequest {
                name: name.clone(),
                plan_id: plan_id.clone(),
                ..Default::default()
            };
            let refused = world
                .maintenances()
                .start_maintenance(start)
                .await
                .expect_err("refused");
            // Until the plan is made nothing can be started at all.
            if refused.code() == tonic::Code::FailedPrecondition && tokio::time::Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            assert_eq!(refused.code(), code, "{refused:?}");
            break;
        }
    }
    world.start_planned(&name).await;
    world.maintenance("reviewed", State::InMaintenance).await;
}
