//! How machines go when something is in the way, and what is left of machines that were never made.

use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget, storage::v1::VolumeAttachment};
use kube::Resource;
use steading_infra::crd::MachinePool;
use steading_kubesim::{
    ApiError, Verb,
    faults::{Effect, Matcher, Rule},
};

use super::*;

impl World {
    async fn pool_with(&self, eviction: proto::EvictionPolicy) -> proto::Machine {
        let pool = proto::MachinePool {
            replicas: 1,
            machine_template: "projects/acme/machineTemplates/small".into(),
            eviction: Some(eviction),
            ..Default::default()
        };
        let create = proto::CreateMachinePoolRequest {
            parent: PARENT.into(),
            machine_pool_id: "workers".into(),
            machine_pool: Some(pool),
            ..Default::default()
        };
        self.machines().create_machine_pool(create).await.expect("a pool");
        self.running(1).await.remove(0)
    }

    pub(super) async fn delete(&self, machine: &str) {
        let delete = proto::DeleteMachineRequest {
            name: machine.to_owned(),
            ..Default::default()
        };
        self.machines().delete_machine(delete).await.expect("deletion begins");
    }

    async fn machine(&self, name: &str) -> Option<proto::Machine> {
        self.list().await.into_iter().find(|machine| machine.name == name)
    }

    /// A pod that may not be evicted, on a tenant node.
    pub(super) async fn guarded_pod(&self, node: &str) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "db", "labels": {"app": "db"}},
            "spec": {"nodeName": node, "containers": [{"name": "db", "image": "example.com/db"}]},
        }))
        .expect("a pod");
        let budget: PodDisruptionBudget = serde_json::from_value(json!({
            "metadata": {"name": "db"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "db"}}},
        }))
        .expect("a budget");
        let tenant = self.tenant();
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(tenant.clone(), "default");
        budgets.create(&PostParams::default(), &budget).await.expect("made");
        Api::namespaced(tenant, "default")
            .create(&PostParams::default(), &pod)
            .await
            .expect("made");
        // A pod that is not ready yet may be evicted all the same.
        eventually("the budget counts the pod", async || {
            let status = budgets.get("db").await.ok()?.status?;
            (status.current_healthy == Some(1)).then_some(())
        })
        .await;
    }

    pub(super) fn vms(&self) -> Api<VirtualMachine> {
        Api::namespaced(self.sim.client(), "acme--prod")
    }

    /// How far the machine's object says that its drain is.
    pub(super) async fn progress(&self, id: &str) -> Option<Value> {
        let vm = self.vms().get_opt(id).await.expect("an answer")?;
        serde_json::from_str(vm.annotations().get(labels::DRAIN_PROGRESS)?).ok()
    }
}

pub(super) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

pub(super) fn id_of(name: &str) -> &str {
    name.rsplit('/').next().expect("an id")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_goes_on_with_the_patience_of_the_last_one() {
    let mut world = World::start().await;
    world.project_and_cluster().await;
    let eviction = proto::EvictionPolicy {
        drain_timeout: Some(seconds(10)),
        ..Default::default()
    };
    let machine = world.pool_with(eviction).await;
    let id = id_of(&machine.name);
    world.guarded_pod(id).await;
    world.delete(&machine.name).await;
    let before = eventually("the drain is held back and says so", async || {
        world.progress(id).await.filter(|p| p["heldSince"].is_string())
    })
    .await;

    world.cancel.cancel();
    world.launch().await;
    let stalled = eventually("the drain is called stalled", async || {
        let drain = world.machine(&machine.name).await?.drain?;
        (!drain.stalled_reason.is_empty()).then_some(drain)
    })
    .await;
    assert!(stalled.stalled_reason.starts_with("PodDisruptionBudget"), "{stalled:?}");
    assert_eq!(stalled.pods_remaining, 1);
    let after = eventually("the object says so too", async || {
        world.progress(id).await.filter(|p| p["stalled"].is_object())
    })
    .await;
    assert_eq!(after["heldSince"], before["heldSince"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_that_stay_attached_hold_a_machine_back_until_the_pools_timeout() {
    let world = World::start().await;
    world.project_and_cluster().await;
    let eviction = proto::EvictionPolicy {
        detach_timeout: Some(seconds(3)),
        ..Default::default()
    };
    let machine = world.pool_with(eviction).await;
    let id = id_of(&machine.name);
    let attachment: VolumeAttachment = serde_json::from_value(json!({
        "metadata": {"name": "csi-1"},
        "spec": {"attacher": "csi.steading.dev", "nodeName": id, "source": {"persistentVolumeName": "orders"}},
    }))
    .expect("an attachment");
    Api::all(world.tenant())
        .create(&PostParams::default(), &attachment)
        .await
        .expect("made");
    world.delete(&machine.name).await;
    eventually("the machine waits for its volume", async || {
        let machine = world.machine(&machine.name).await?;
        (machine.state() == proto::machine::State::Detaching).then_some(())
    })
    .await;
    eventually("the machine goes", async || {
        world.machine(&machine.name).await.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn user_data_belongs_to_the_pool_and_goes_when_the_machine_is_refused() {
    let world = World::start().await;
    world.project_and_cluster().await;
    let refused = Effect::Refuse(ApiError::new(403, "Forbidden", "no virtual machines today"));
    let fault = Matcher::on("virtualmachines", &[Verb::Create]);
    let fault = world.sim.faults().add(Rule::always(fault, refused));
    world.pool(1).await;
    let pools: Api<MachinePool> = Api::namespaced(world.sim.client(), "acme--prod");
    eventually("the pool says why it has no machine", async || {
        let status = pools.get("workers").await.ok()?.status?;
        let found = status.conditions.iter().any(|c| c.reason == "MachineRefused");
        found.then_some(())
    })
    .await;
    let secrets: Api<Secret> = Api::namespaced(world.sim.client(), "acme--prod");
    let user_data = async || {
        let all = secrets
            .list(&ListParams::default().labels(labels::MACHINE))
            .await
            .expect("secrets");
        all.items
    };
    eventually("nothing is left of it", async || {
        user_data().await.is_empty().then_some(())
    })
    .await;

    world.sim.faults().remove(fault);
    let pool = pools.get("workers").await.expect("the pool");
    let secret = eventually("the user data of a machine that is made", async || {
        user_data().await.pop()
    })
    .await;
    assert_eq!(
        secret.owner_references().first().map(|owner| &owner.uid),
        pool.meta().uid.as_ref()
    );
}
