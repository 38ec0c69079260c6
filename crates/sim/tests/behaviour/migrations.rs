//! Migrations that go wrong, and volumes on the move.

use steading_infra::kubevirt::migration::MigrationPhase;
use steading_sim::behaviour::virt_handler::{FAIL_MIGRATION, NOT_MIGRATABLE};

use super::*;

fn mk_migration(name: &str) -> VirtualMachineInstanceMigration {
    let migration = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
        "metadata": { "name": name, "namespace": NS }, "spec": { "vmiName": "m1" },
    });
    serde_json::from_value(migration).unwrap()
}

async fn migrate(client: &Client, name: &str) -> kube::Result<VirtualMachineInstanceMigration> {
    let api: Api<VirtualMachineInstanceMigration> = namespaced(client);
    api.create(&PostParams::default(), &mk_migration(name)).await
}

async fn has_ended(client: &Client, name: &str, phase: MigrationPhase) -> bool {
    let api: Api<VirtualMachineInstanceMigration> = namespaced(client);
    let found = api.get_opt(name).await.unwrap();
    found.and_then(|found| found.status?.phase) == Some(phase)
}

/// Names of the launcher pods that have not ended.
async fn living(client: &Client) -> Vec<String> {
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
    let pods = launchers(client, "m1").await;
    let living = pods
        .iter()
        .filter(|pod| !matches!(phase(pod).as_deref(), Some("Succeeded" | "Failed")));
    living.map(ResourceExt::name_any).collect()
}

fn annotated(mut vm: VirtualMachine, annotation: &str) -> VirtualMachine {
    let meta = vm.spec.template.as_mut().unwrap().metadata.get_or_insert_default();
    meta.annotations = Some([(annotation.to_owned(), String::new())].into());
    vm
}

#[tokio::test]
async fn a_migration_that_fails_leaves_the_machine_where_it_is() {
    let (_sim, client) = mk_sim(2).await;
    mk_running(&client, &annotated(mk_vm(NS, "m1"), FAIL_MIGRATION)).await;
    let (node, home) = (node_of(&client, "m1").await, living(&client).await);
    for name in ["first", "second"] {
        migrate(&client, name).await.unwrap();
        eventually("it fails", || has_ended(&client, name, MigrationPhase::Failed)).await;
        eventually("the target pod ends", || async { living(&client).await == home }).await;
    }
    let status = vmi(&client, "m1").await.unwrap().status.unwrap();
    assert_eq!((status.node_name, status.phase), (Some(node), Some(VmiPhase::Running)));
    let state = status.migration_state.unwrap();
    assert!(
        state.failed == Some(true)
            && state
                .failure_reason
                .unwrap()
                .contains("connection to the target was lost")
    );
}

#[tokio::test]
async fn a_deleted_migration_is_called_off_and_goes() {
    // Slow enough to be seen on its way.
    let pace = Pace {
        migration: Duration::from_secs(3),
        ..Pace::default()
    };
    let (_sim, client) = mk_sim_at(2, pace).await;
    mk_running(&client, &mk_vm(NS, "m1")).await;
    let api: Api<VirtualMachineInstanceMigration> = namespaced(&client);
    for (name, until) in [("early", None), ("late", Some(MigrationPhase::Running))] {
        let (node, home) = (node_of(&client, "m1").await, living(&client).await);
        migrate(&client, name).await.unwrap();
        if let Some(until) = until {
            eventually("it is under way", || has_ended(&client, name, until.clone())).await;
        }
        api.delete(name, &DeleteParams::default()).await.unwrap();
        eventually("it is gone", || async { api.get_opt(name).await.unwrap().is_none() }).await;
        eventually("the target pod has ended", || async { living(&client).await == home }).await;
        assert_eq!(node_of(&client, "m1").await, node);
    }
    let state = vmi(&client, "m1")
        .await
        .unwrap()
        .status
        .unwrap()
        .migration_state
        .unwrap();
    assert_eq!(state.other["abortStatus"], "Succeeded");
    migrate(&client, "another").await.unwrap();
    eventually("it can still be moved", || {
        has_ended(&client, "another", MigrationPhase::Succeeded)
    })
    .await;
}

#[tokio::test]
async fn a_migration_that_cannot_be_is_refused() {
    let (_sim, client) = mk_sim(2).await;
    let refused = |answer: kube::Result<VirtualMachineInstanceMigration>| match answer {
        Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
        other => panic!("{other:?}"),
    };
    let hook = "admission webhook \"migration-create-validator.kubevirt.io\" denied the request";
    let (code, message) = refused(migrate(&client, "nobody").await);
    assert_eq!(
        (code, message),
        (400, format!("{hook}: the VMI \"{NS}/m1\" does not exist"))
    );
    mk_running(&client, &mk_vm(NS, "m1")).await;
    migrate(&client, "first").await.unwrap();
    assert!(
        refused(migrate(&client, "second").await)
            .1
            .starts_with(&format!("{hook}: in-flight migration detected."))
    );

    let (_sim, client) = mk_sim(2).await;
    mk_running(&client, &annotated(mk_vm(NS, "m1"), NOT_MIGRATABLE)).await;
    assert!(
        refused(migrate(&client, "pinned").await)
            .1
            .starts_with(&format!("{hook}: Cannot migrate VMI"))
    );
}

#[tokio::test]
async fn plugged_volumes_move_and_restart_with_their_machine() {
    let (_sim, client) = mk_sim(2).await;
    mk_running(&client, &mk_vm(NS, "m1")).await;
    let volumes: Api<DataVolume> = namespaced(&client);
    volumes
        .create(&PostParams::default(), &mk_blank_data_volume(NS, "vol-a", "1Gi"))
        .await
        .unwrap();
    set_volumes(&client, "m1", &["vol-a"]).await;
    eventually("it is plugged", || async { plugged(&client, "m1").await == ["vol-a"] }).await;
    migrate(&client, "move").await.unwrap();
    eventually("the machine is moved", || {
        has_ended(&client, "move", MigrationPhase::Succeeded)
    })
    .await;
    let held_at_home = || async {
        let node = node_of(&client, "m1").await;
        let pods: Api<Pod> = namespaced(&client);
        let pods = pods
            .list(&ListParams::default().labels("kubevirt.io=hotplug-disk"))
            .await
            .unwrap()
            .items;
        let nodes: Vec<_> = pods.into_iter().filter_map(|pod| pod.spec?.node_name).collect();
        nodes == [node] && plugged(&client, "m1").await == ["vol-a"]
    };
    eventually("the volume is plugged there, and only there", held_at_home).await;

    let before = vmi(&client, "m1").await.unwrap().uid();
    namespaced::<VirtualMachineInstance>(&client)
        .delete("m1", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the next instance runs with it", || async {
        let next = vmi(&client, "m1").await;
        next.is_some_and(|next| next.uid() != before) && is_running(&client, "m1").await && held_at_home().await
    })
    .await;
}

#[tokio::test]
async fn a_volume_goes_with_its_claim_unless_it_is_retained() {
    use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
    let (_sim, client) = mk_sim(1).await;
    let claims: Api<PersistentVolumeClaim> = namespaced(&client);
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    for name in ["goes", "stays"] {
        let claim = json!({
            "metadata": { "name": name },
            "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "standard", "resources": { "requests": { "storage": "1Gi" } } },
        });
        create(&claims, claim).await;
    }
    let volume_of = |name: &'static str| {
        let claims = claims.clone();
        async move { claims.get(name).await.unwrap().spec.and_then(|spec| spec.volume_name) }
    };
    let bound = |name: &'static str| {
        let claims = claims.clone();
        async move {
            claims
                .get(name)
                .await
                .unwrap()
                .status
                .and_then(|status| status.phase)
                .as_deref()
                == Some("Bound")
        }
    };
    eventually("both are bound", || async {
        bound("goes").await && bound("stays").await
    })
    .await;
    let (goes, stays) = (volume_of("goes").await.unwrap(), volume_of("stays").await.unwrap());
    let grow = json!({ "spec": { "resources": { "requests": { "storage": "2Gi" } } } });
    claims
        .patch("stays", &PatchParams::default(), &Patch::Merge(grow))
        .await
        .unwrap();
    eventually("it has grown", || async {
        let capacity = claims
            .get("stays")
            .await
            .unwrap()
            .status
            .and_then(|status| status.capacity);
        let volume = volumes.get(&stays).await.unwrap().spec.and_then(|spec| spec.capacity);
        [capacity, volume]
            .iter()
            .flatten()
            .all(|found| found["storage"].0 == "2Gi")
    })
    .await;
    let retain = json!({ "spec": { "persistentVolumeReclaimPolicy": "Retain" } });
    volumes
        .patch(&stays, &PatchParams::default(), &Patch::Merge(retain))
        .await
        .unwrap();
    for name in ["goes", "stays"] {
        claims.delete(name, &DeleteParams::default()).await.unwrap();
    }
    eventually("one volume is gone, the other released", || async {
        let left = volumes
            .get_opt(&stays)
            .await
            .unwrap()
            .and_then(|volume| volume.status?.phase);
        volumes.get_opt(&goes).await.unwrap().is_none() && left.as_deref() == Some("Released")
    })
    .await;
}
