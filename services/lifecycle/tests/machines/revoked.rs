//! Wishes that are taken back unseen: what was wanted before is not done any more.

use k8s_openapi::api::core::v1::{Node, Pod, Service as KubeService};
use steading_infra::intent::intents;
use steading_kubesim::{
    Verb,
    faults::{Cut, Effect, Matcher, Rule, RuleId},
};

use super::{
    endings::{eventually, id_of},
    stale::{A_WHILE, AGENT},
    *,
};

/// What was under way when a wish was taken back has ended after it.
const A_PASS: Duration = Duration::from_secs(1);

impl World {
    /// From now on requests of the service are refused.
    fn refuse(&self, resource: &str, verb: Verb) -> RuleId {
        let requests = Matcher::on(resource, &[verb]).from_agent(AGENT);
        self.sim.faults().add(Rule::always(requests, Effect::Unavailable))
    }

    /// From now on the service hears nothing of a kind, and does not notice that.
    fn silence(&self, resource: &str) {
        let watches = Matcher::on(resource, &[Verb::Watch]).from_agent(AGENT);
        assert_eq!(self.sim.faults().cut_watches(&watches, Cut::Silence), 1, "{resource}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_follows_its_wish_of_now_and_not_the_one_that_it_saw() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(2).await;
    let before: Vec<String> = world.running(2).await.into_iter().map(|one| one.name).collect();
    let refused = world.refuse("virtualmachines", Verb::Patch);
    world.scale(1).await;
    eventually("the pool is to shrink", async || {
        let status = world.pools().get("workers").await.ok()?.status?;
        (status.desired_replicas == Some(1)).then_some(())
    })
    .await;
    world.silence("machinepools");
    world.scale(3).await;
    eventually("the pool grows", async || {
        let vms = world.vms().list(&ListParams::default()).await.ok()?.items;
        (vms.len() == 3).then_some(())
    })
    .await;
    world.sim.faults().remove(refused);
    let after: Vec<String> = world.running(3).await.into_iter().map(|one| one.name).collect();
    assert!(before.iter().all(|one| after.contains(one)), "{before:?} {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_was_withdrawn_unseen_deletes_nothing() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(1).await;
    world.running(1).await;
    let refused = world.refuse("machinepools", Verb::Delete);
    let before = world.sim.faults().struck();
    let delete = proto::DeleteClusterRequest {
        name: PARENT.into(),
        force: true,
        ..Default::default()
    };
    ClusterServiceClient::new(world.channel.clone())
        .delete_cluster(delete)
        .await
        .expect("deletion begins");
    eventually("the deletion of its pool is tried and refused", async || {
        (world.sim.faults().struck() > before).then_some(())
    })
    .await;
    world.silence("clusters");
    let withdrawn = Patch::Merge(json!({"metadata": {"annotations": {labels::DELETION_CONSENT: null}}}));
    world
        .clusters()
        .patch("acme--prod", &PatchParams::default(), &withdrawn)
        .await
        .expect("withdrawn");
    world.cluster_says("acme--prod", "Deleting", "ConsentRequired").await;
    world.sim.faults().remove(refused);
    let pool = world.pools().get("workers").await.expect("the pool");
    assert_eq!(pool.metadata.deletion_timestamp, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_pod_is_evicted_for_a_drain_that_was_revoked_unseen() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(1).await;
    let machine = world.running(1).await.remove(0);
    let id = id_of(&machine.name).to_owned();
    world.guarded_pod(&id).await;
    world.delete(&machine.name).await;
    eventually("the drain is held back", async || {
        world.progress(&id).await.filter(|p| p["heldSince"].is_string())
    })
    .await;
    world.silence("virtualmachines");
    let vms = world.vms();
    let vm = vms.get(&id).await.expect("the machine");
    let revoked: serde_json::Map<String, Value> = intents(vm.annotations())
        .iter()
        .map(|intent| (intent.key(), Value::Null))
        .collect();
    let patch = Patch::Merge(json!({"metadata": {"annotations": revoked}}));
    vms.patch(&id, &PatchParams::default(), &patch).await.expect("revoked");
    tokio::time::sleep(A_PASS).await;
    let budgets: Api<k8s_openapi::api::policy::v1::PodDisruptionBudget> = Api::namespaced(world.tenant(), "default");
    let budget = budgets
        .list(&ListParams::default())
        .await
        .expect("a list")
        .items
        .remove(0);
    budgets
        .delete(&budget.name_any(), &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    let nodes: Api<Node> = Api::all(world.tenant());
    eventually("its node takes pods again", async || {
        let node = nodes.get(&id).await.ok()?;
        (node.spec?.unschedulable != Some(true)).then_some(())
    })
    .await;
    let pods: Api<Pod> = Api::namespaced(world.tenant(), "default");
    let pods = pods.list(&ListParams::default()).await.expect("a list").items;
    assert_eq!(pods.len(), 1);
    assert_eq!(pods[0].metadata.deletion_timestamp, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_of_another_computer_stays_when_a_machine_of_its_name_goes() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(1).await;
    let machine = world.running(1).await.remove(0);
    let id = id_of(&machine.name).to_owned();
    let nodes: Api<Node> = Api::all(world.tenant());
    nodes
        .delete(&id, &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    let other: Node = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": id}, "spec": {"providerID": "metal://rack-7"},
    }))
    .expect("a node");
    let other = nodes.create(&PostParams::default(), &other).await.expect("created");
    let vms = world.vms();
    vms.delete(&id, &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    eventually("the machine is gone", async || {
        vms.get_opt(&id).await.expect("an answer").is_none().then_some(())
    })
    .await;
    let node = nodes.get(&id).await.expect("the node stays");
    assert_eq!((node.uid(), node.metadata.deletion_timestamp), (other.uid(), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_that_is_wanted_again_unseen_keeps_its_infra_service() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.cluster_says("acme--prod", "TenantWatched", "Current").await;
    let services: Api<KubeService> = Api::namespaced(world.tenant(), "default");
    services
        .create(&PostParams::default(), &tenants::mk_balancer("web", true))
        .await
        .expect("created");
    let infra: Api<KubeService> = Api::namespaced(world.sim.client(), "acme--prod");
    let ours = ListParams::default().labels(labels::LOAD_BALANCER);
    let made = eventually("the load balancer is there", async || {
        infra.list(&ours).await.ok()?.items.pop()
    })
    .await;
    let refused = world.refuse("services", Verb::Delete);
    let before = world.sim.faults().struck();
    let become_a = async |kind: &str| {
        let patch = Patch::Merge(json!({"spec": {"type": kind}}));
        services
            .patch("web", &PatchParams::default(), &patch)
            .await
            .expect("changed");
    };
    become_a("ClusterIP").await;
    eventually("the deletion is tried and refused", async || {
        (world.sim.faults().struck() > before).then_some(())
    })
    .await;
    let tenant = world.sim.tenant("acme--prod").expect("a tenant");
    let watches = Matcher::on("services", &[Verb::Watch]);
    assert!(tenant.faults().cut_watches(&watches, Cut::Silence) > 0);
    become_a("LoadBalancer").await;
    tokio::time::sleep(A_PASS).await;
    world.sim.faults().remove(refused);
    let until = tokio::time::Instant::now() + A_WHILE;
    while tokio::time::Instant::now() < until {
        let service = infra.get(&made.name_any()).await.expect("it stays");
        assert_eq!((service.uid(), service.metadata.deletion_timestamp), (made.uid(), None));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
