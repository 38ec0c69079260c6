//! Views that are behind: what cannot be undone is decided over what was just read.

use steading_infra::{crd::MachinePool, intent::intents, kubevirt::VirtualMachineInstance};
use steading_kubesim::{
    Verb,
    faults::{Cut, Effect, Matcher, Rule},
};

use super::{
    endings::{eventually, id_of},
    *,
};

/// What the service calls itself.
pub(super) const AGENT: &str = "lifecycle";
/// Long enough for several passes.
pub(super) const A_WHILE: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_deletion_was_revoked_unseen_stays() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(1).await;
    let machine = world.running(1).await.remove(0);
    let id = id_of(&machine.name).to_owned();
    let vms = world.vms();
    let faults = world.sim.faults();
    // Nobody takes its place: a pool that has one machine too many may delete any of them.
    let creates = Matcher::on("virtualmachines", &[Verb::Create]).from_agent(AGENT);
    faults.add(Rule::always(creates, Effect::Unavailable));
    let deletes = Matcher::on("virtualmachines", &[Verb::Delete]).from_agent(AGENT);
    let refused = faults.add(Rule::always(deletes, Effect::Unavailable));
    world.delete(&machine.name).await;
    eventually("the deletion is tried and refused", async || {
        (faults.struck_by(refused) > 0).then_some(())
    })
    .await;
    // From now on the service hears nothing of machines, and does not notice that.
    let watches = Matcher::on("virtualmachines", &[Verb::Watch]).from_agent(AGENT);
    assert_eq!(faults.cut_watches(&watches, Cut::Silence), 1);
    let vm = vms.get(&id).await.expect("the machine");
    let wishes = intents(vm.annotations());
    let revoked: serde_json::Map<String, Value> = wishes.iter().map(|intent| (intent.key(), Value::Null)).collect();
    assert!(!revoked.is_empty(), "{:?}", vm.annotations());
    let patch = Patch::Merge(json!({"metadata": {"annotations": revoked}}));
    vms.patch(&id, &PatchParams::default(), &patch).await.expect("revoked");
    faults.remove(refused);
    let until = tokio::time::Instant::now() + A_WHILE;
    while tokio::time::Instant::now() < until {
        let vm = vms.get(&id).await.expect("the machine stays");
        assert_eq!(vm.metadata.deletion_timestamp, None);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let nodes: Api<Node> = Api::all(world.tenant());
    eventually("its node takes pods again", async || {
        let node = nodes.get(&id).await.ok()?;
        (node.spec?.unschedulable != Some(true)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_instance_is_not_seen_keeps_its_finalizer_until_that_has_ended() {
    let world = World::start().await;
    world.project_and_cluster().await;
    let watches = Matcher::on("virtualmachineinstances", &[Verb::Watch]).from_agent(AGENT);
    let faults = world.sim.faults();
    assert_eq!(faults.cut_watches(&watches, Cut::Silence), 1);
    world.pool(1).await;
    let vms = world.vms();
    let instances: Api<VirtualMachineInstance> = Api::namespaced(world.sim.client(), "acme--prod");
    let id = eventually("an instance runs", async || {
        let found = instances.list(&ListParams::default()).await.ok()?.items;
        Some(found.first()?.name_any())
    })
    .await;
    let hold = |finalizers: Value| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    let params = PatchParams::default();
    instances
        .patch(&id, &params, &hold(json!(["test.steading.dev/hold"])))
        .await
        .expect("held");
    vms.delete(&id, &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    let until = tokio::time::Instant::now() + A_WHILE;
    while tokio::time::Instant::now() < until {
        let vm = vms.get(&id).await.expect("the machine is there while its instance is");
        assert!(vm.finalizers().iter().any(|one| one == labels::MACHINE_FINALIZER));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    instances.patch(&id, &params, &hold(Value::Null)).await.expect("let go");
    faults.cut_watches(&Matcher::any().from_agent(AGENT), Cut::Drop);
    eventually("the machine is gone", async || {
        vms.get_opt(&id).await.expect("an answer").is_none().then_some(())
    })
    .await;
}

impl World {
    pub(super) async fn scale(&self, replicas: i32) {
        let pools: Api<MachinePool> = Api::namespaced(self.sim.client(), "acme--prod");
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        pools
            .patch("workers", &PatchParams::default(), &patch)
            .await
            .expect("scaled");
    }
}

/// Sources that notice silence soon.
fn impatient() -> SourceConfig {
    SourceConfig {
        silence: Duration::from_secs(2),
        ..SourceConfig::default()
    }
}

async fn scale_over(cut: Cut) {
    let world = World::start_with(impatient()).await;
    world.project_and_cluster().await;
    world.pool(1).await;
    world.running(1).await;
    for (round, count) in [2, 3, 1].into_iter().enumerate() {
        let ours = Matcher::any().from_agent(AGENT);
        let watches = world.sim.faults().cut_watches(&ours, cut);
        assert!(round > 0 || watches >= 14, "{watches} watches");
        world.scale(count).await;
        world.running(usize::try_from(count).expect("a number")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_scales_when_watches_are_dropped() {
    Box::pin(scale_over(Cut::Drop)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_scales_when_watches_expire() {
    Box::pin(scale_over(Cut::Expire)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_scales_when_watches_hang_without_an_error() {
    Box::pin(scale_over(Cut::Silence)).await;
}
