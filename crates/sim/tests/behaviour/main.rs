//! Machines on the simulated infra cluster, from creation to the end, through `kube::Client`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail like tests"
)]

mod control_planes;
mod migrations;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    core::v1::{Namespace, Node, Pod, Secret},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use steading_infra::{
    apply::FieldManager,
    capabilities,
    cdi::{DataVolume, DataVolumePhase},
    crd::Cluster,
    install,
    kubevirt::{
        VirtualMachine, VirtualMachineClusterInstancetype, VirtualMachineInstance, VirtualMachineInstanceMigration,
        condition_is_true,
        virtual_machine::{EvictionStrategy, PrintableStatus},
        virtual_machine_instance::{VmiPhase, VolumePhase},
    },
    samples::{mk_blank_data_volume, mk_disk, mk_hotplug_volume, mk_vm, mk_vm_of_instancetype},
};
use steading_sim::{
    behaviour::Pace,
    sim::{Sim, SimConfig},
};

const NS: &str = "default";

async fn mk_sim(nodes: u32) -> (Sim, Client) {
    mk_sim_at(nodes, Pace::default()).await
}

async fn mk_sim_at(nodes: u32, pace: Pace) -> (Sim, Client) {
    let sim = Sim::start(SimConfig {
        infra_nodes: nodes,
        zones: 3,
        pace,
        ..SimConfig::default()
    })
    .await
    .unwrap();
    let client = sim.client();
    let all: Api<Node> = Api::all(client.clone());
    eventually("all infra nodes are there", || async {
        all.list(&ListParams::default()).await.unwrap().items.len() == nodes as usize
    })
    .await;
    (sim, client)
}

async fn eventually<F: Future<Output = bool>>(what: &str, check: impl Fn() -> F) {
    let wait = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(20), wait).await.is_ok(),
        "not in time: {what}"
    );
}

fn namespaced<K>(client: &Client) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), NS)
}

async fn vmi(client: &Client, name: &str) -> Option<VirtualMachineInstance> {
    namespaced(client).get_opt(name).await.unwrap()
}

async fn is_running(client: &Client, name: &str) -> bool {
    vmi(client, name)
        .await
        .is_some_and(|vmi| vmi.status.is_some_and(|status| status.phase == Some(VmiPhase::Running)))
}

async fn node_of(client: &Client, name: &str) -> String {
    vmi(client, name)
        .await
        .and_then(|vmi| vmi.status?.node_name)
        .unwrap_or_default()
}

async fn mk_running(client: &Client, vm: &VirtualMachine) {
    namespaced::<VirtualMachine>(client)
        .create(&PostParams::default(), vm)
        .await
        .unwrap();
    let name = vm.name_any();
    eventually("the VMI runs", || is_running(client, &name)).await;
}

async fn launchers(client: &Client, machine: &str) -> Vec<Pod> {
    let selector = format!("kubevirt.io=virt-launcher,vm.kubevirt.io/name={machine}");
    namespaced::<Pod>(client)
        .list(&ListParams::default().labels(&selector))
        .await
        .unwrap()
        .items
}

fn with_strategy(mut vm: VirtualMachine, strategy: EvictionStrategy) -> VirtualMachine {
    vm.spec.template.as_mut().unwrap().spec.eviction_strategy = Some(strategy);
    vm
}

#[tokio::test]
async fn a_machine_runs_and_goes_without_a_trace() {
    let (sim, client) = mk_sim(3).await;
    mk_running(&client, &mk_vm(NS, "m1")).await;
    let vms: Api<VirtualMachine> = namespaced(&client);
    eventually("the VM says that it runs", || async {
        let status = vms.get("m1").await.unwrap().status.unwrap_or_default();
        status.ready && status.printable_status == Some(PrintableStatus::Running)
    })
    .await;
    let seen = vmi(&client, "m1").await.unwrap().status.unwrap();
    assert!(condition_is_true(&seen.conditions, "Ready") && condition_is_true(&seen.conditions, "LiveMigratable"));
    assert!(
        seen.interfaces[0]
            .ip_address
            .as_deref()
            .is_some_and(|address| address.starts_with("10.244."))
    );
    vms.delete("m1", &DeleteParams::default()).await.unwrap();
    eventually("VM, VMI, pods and revisions are gone", || async {
        let left = namespaced::<ControllerRevision>(&client)
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len();
        vms.get_opt("m1").await.unwrap().is_none()
            && vmi(&client, "m1").await.is_none()
            && launchers(&client, "m1").await.is_empty()
            && left == 0
    })
    .await;
    sim.stop().await;
}

#[tokio::test]
async fn the_instance_type_sizes_the_guest_and_its_pod() {
    let (_sim, client) = mk_sim(1).await;
    let instancetype = json!({
        "apiVersion": "instancetype.kubevirt.io/v1beta1", "kind": "VirtualMachineClusterInstancetype", "metadata": { "name": "standard-4" },
        "spec": { "cpu": { "guest": 4 }, "memory": { "guest": "8Gi" } },
    });
    let instancetype: VirtualMachineClusterInstancetype = serde_json::from_value(instancetype).unwrap();
    Api::all(client.clone())
        .create(&PostParams::default(), &instancetype)
        .await
        .unwrap();
    mk_running(&client, &mk_vm_of_instancetype(NS, "m1", "standard-4")).await;
    let domain = vmi(&client, "m1").await.unwrap().spec.spec.domain;
    assert_eq!(
        (domain.cpu.unwrap().vcpus(), domain.memory.unwrap().guest.as_deref()),
        (4, Some("8Gi"))
    );
    let pod = launchers(&client, "m1").await.remove(0);
    let requests = pod
        .spec
        .unwrap()
        .containers
        .remove(0)
        .resources
        .unwrap()
        .requests
        .unwrap();
    assert_eq!(
        (requests["cpu"].0.as_str(), requests["memory"].0.as_str()),
        ("400m", "8448Mi")
    );
    eventually("the VM names the revision that holds", || async {
        let status = namespaced::<VirtualMachine>(&client)
            .get("m1")
            .await
            .unwrap()
            .status
            .unwrap_or_default();
        status
            .instancetype_ref
            .is_some_and(|found| found.controller_revision_ref.is_some())
    })
    .await;
    let vm = namespaced::<VirtualMachine>(&client).get("m1").await.unwrap();
    assert!(
        vm.spec.template.unwrap().spec.domain.cpu.is_none(),
        "the VM's spec stays unexpanded"
    );
}

#[tokio::test]
async fn an_eviction_marks_the_machine_and_leaves_it() {
    let (_sim, client) = mk_sim(2).await;
    mk_running(&client, &mk_vm(NS, "m1")).await;
    let node = node_of(&client, "m1").await;
    let pod = launchers(&client, "m1").await.remove(0).name_any();
    let evict = || async {
        let pods: Api<Pod> = namespaced(&client);
        match pods.evict(&pod, &EvictParams::default()).await {
            Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
            other => panic!("{other:?}"),
        }
    };
    let hook = "admission webhook \"virt-launcher-eviction-interceptor.kubevirt.io\" denied the request";
    let triggered = format!("{hook}: Eviction triggered evacuation of VMI \"{NS}/m1\"");
    assert_eq!(evict().await, (429, triggered));
    let status = vmi(&client, "m1").await.unwrap().status.unwrap();
    assert_eq!(status.evacuation_node_name.as_deref(), Some(node.as_str()));
    assert!(evict().await.1.contains("Evacuation in progress"));
    eventually("the VM is marked too", || async {
        let status = namespaced::<VirtualMachine>(&client)
            .get("m1")
            .await
            .unwrap()
            .status
            .unwrap_or_default();
        condition_is_true(&status.conditions, "EvictionRequested")
    })
    .await;
    assert_eq!(cancel(&client, "m1", "wrong").await, 500);
    assert_eq!(cancel(&client, "m1", &node).await, 202);
    eventually("the mark is gone", || async {
        let status = vmi(&client, "m1").await.unwrap().status.unwrap();
        status.evacuation_node_name.is_none() && !condition_is_true(&status.conditions, "EvictionRequested")
    })
    .await;
    let migrations = namespaced::<VirtualMachineInstanceMigration>(&client)
        .list(&ListParams::default())
        .await
        .unwrap();
    assert!(migrations.items.is_empty(), "External: KubeVirt does not move it");
}

async fn cancel(client: &Client, name: &str, node: &str) -> u16 {
    let path =
        format!("/apis/subresources.kubevirt.io/v1/namespaces/{NS}/virtualmachineinstances/{name}/evacuate/cancel");
    let body = json!({ "evacuationNodeName": node }).to_string().into_bytes();
    let request = http::Request::put(path)
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    match client.request_text(request).await {
        Ok(_) => 202,
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn live_migration_moves_an_evicted_machine() {
    let (_sim, client) = mk_sim(2).await;
    mk_running(&client, &with_strategy(mk_vm(NS, "m1"), EvictionStrategy::LiveMigrate)).await;
    let before = vmi(&client, "m1").await.unwrap();
    let node = node_of(&client, "m1").await;
    let pod = launchers(&client, "m1").await.remove(0).name_any();
    let answer = namespaced::<Pod>(&client).evict(&pod, &EvictParams::default()).await;
    assert!(matches!(answer, Err(kube::Error::Api(status)) if status.code == 429));
    eventually("it runs elsewhere", || async {
        let there = node_of(&client, "m1").await;
        there != node && !there.is_empty()
    })
    .await;
    let after = vmi(&client, "m1").await.unwrap();
    assert_eq!(after.uid(), before.uid(), "the same guest");
    assert_ne!(
        after.status.as_ref().unwrap().interfaces,
        before.status.unwrap().interfaces
    );
    eventually("the migration is over and the source pod has ended", || async {
        let migrations = namespaced::<VirtualMachineInstanceMigration>(&client)
            .list(&ListParams::default())
            .await
            .unwrap()
            .items;
        let source = namespaced::<Pod>(&client)
            .get(&pod)
            .await
            .unwrap()
            .status
            .and_then(|status| status.phase);
        migrations.len() == 1
            && migrations[0].name_any().starts_with("kubevirt-evacuation-")
            && migrations[0]
                .status
                .as_ref()
                .and_then(|status| status.phase.as_ref())
                .is_some_and(|phase| phase.as_str() == "Succeeded")
            && source.as_deref() == Some("Succeeded")
    })
    .await;
}

async fn set_volumes(client: &Client, name: &str, volumes: &[&str]) {
    let vms: Api<VirtualMachine> = namespaced(client);
    let mut spec = mk_vm(NS, name).spec.template.unwrap().spec;
    for volume in volumes {
        spec.volumes.push(mk_hotplug_volume(volume));
        spec.domain.devices.disks.push(mk_disk(volume, Some(volume)));
    }
    let patch: json_patch::Patch = serde_json::from_value(json!([
        { "op": "replace", "path": "/spec/template/spec/volumes", "value": spec.volumes },
        { "op": "replace", "path": "/spec/template/spec/domain/devices/disks", "value": spec.domain.devices.disks },
    ]))
    .unwrap();
    vms.patch(name, &PatchParams::default(), &Patch::Json::<()>(patch))
        .await
        .unwrap();
}

async fn plugged(client: &Client, name: &str) -> Vec<String> {
    let status = vmi(client, name).await.unwrap().status.unwrap();
    let ready = status
        .volume_status
        .iter()
        .filter(|found| found.hotplug_volume.is_some() && found.phase == Some(VolumePhase::Ready));
    ready.map(|found| found.name.clone()).collect()
}

#[tokio::test]
async fn volumes_are_plugged_in_and_out_as_one_set() {
    let (sim, client) = mk_sim(1).await;
    mk_running(&client, &mk_vm(NS, "m1")).await;
    let volumes: Api<DataVolume> = namespaced(&client);
    for name in ["vol-a", "vol-b", "vol-c"] {
        volumes
            .create(&PostParams::default(), &mk_blank_data_volume(NS, name, "1Gi"))
            .await
            .unwrap();
    }
    eventually("the volumes are filled", || async {
        let all = volumes.list(&ListParams::default()).await.unwrap().items;
        all.iter().all(|volume| {
            volume.status.as_ref().and_then(|status| status.phase.clone()) == Some(DataVolumePhase::Succeeded)
        })
    })
    .await;
    set_volumes(&client, "m1", &["vol-a", "vol-b", "vol-c"]).await;
    eventually("all three are ready", || async {
        plugged(&client, "m1").await == ["vol-a", "vol-b", "vol-c"]
    })
    .await;
    let attachments = || async {
        namespaced::<Pod>(&client)
            .list(&ListParams::default().labels("kubevirt.io=hotplug-disk"))
            .await
            .unwrap()
            .items
    };
    assert_eq!(attachments().await.len(), 1);
    let status = vmi(&client, "m1").await.unwrap().status.unwrap();
    let mut targets: Vec<&str> = status.volume_status.iter().map(|found| found.target.as_str()).collect();
    targets.sort_unstable();
    assert_eq!(targets, ["vda", "vdb", "vdc", "vdd"]);
    assert_eq!(sim.guests().disks(NS, "m1"), ["vol-a", "vol-b", "vol-c"]);
    set_volumes(&client, "m1", &["vol-b"]).await;
    eventually("one is left", || async {
        let status = vmi(&client, "m1").await.unwrap().status.unwrap();
        status.volume_status.len() == 2 && plugged(&client, "m1").await == ["vol-b"] && attachments().await.len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_restart_leaves_a_gap_and_a_new_instance() {
    let (_sim, client) = mk_sim(1).await;
    mk_running(&client, &mk_vm(NS, "m1")).await;
    let before = vmi(&client, "m1").await.unwrap().uid();
    let pod = launchers(&client, "m1").await.remove(0).name_any();
    namespaced::<Pod>(&client)
        .delete(&pod, &DeleteParams::default())
        .await
        .unwrap();
    eventually("another VMI runs", || async {
        is_running(&client, "m1").await && vmi(&client, "m1").await.is_some_and(|vmi| vmi.uid() != before)
    })
    .await;
}

#[tokio::test]
async fn machines_of_a_dead_node_come_back_elsewhere() {
    let (sim, client) = mk_sim(2).await;
    mk_running(&client, &mk_vm(NS, "m1")).await;
    let node = node_of(&client, "m1").await;
    sim.power().cut(&node);
    eventually("it runs on the other node", || async {
        let there = node_of(&client, "m1").await;
        !there.is_empty() && there != node && is_running(&client, "m1").await
    })
    .await;
}

#[tokio::test]
async fn machines_are_spread_as_their_constraint_says() {
    let (_sim, client) = mk_sim(6).await;
    let vms: Api<VirtualMachine> = namespaced(&client);
    for index in 0..9 {
        let mut vm: Value = serde_json::to_value(mk_vm(NS, &format!("m{index}"))).unwrap();
        vm["spec"]["template"]["metadata"]["labels"]["pool"] = json!("p");
        vm["spec"]["template"]["spec"]["topologySpreadConstraints"] = json!([{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": { "matchLabels": { "pool": "p" } },
        }]);
        vms.create(&PostParams::default(), &serde_json::from_value(vm).unwrap())
            .await
            .unwrap();
    }
    for index in 0..9 {
        let name = format!("m{index}");
        eventually("it runs", || is_running(&client, &name)).await;
    }
    let mut counts = BTreeMap::new();
    for index in 0..9 {
        *counts.entry(node_of(&client, &format!("m{index}")).await).or_insert(0) += 1;
    }
    let mut counts: Vec<i32> = counts.into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 1, 2, 2, 2]);
}

fn mk_user_data(server: &str, name: &str) -> String {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": server } }],
        "users": [{ "name": "u", "user": { "token": "abcdef.0123456789abcdef" } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
    });
    let files = json!([{ "path": "/etc/kubernetes/bootstrap-kubeconfig", "content": kubeconfig.to_string() }]);
    format!("#cloud-config\n{}", json!({ "hostname": name, "write_files": files }))
}

async fn create<K>(api: &Api<K>, object: Value)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_guest_joins_its_tenant_cluster_and_falls_silent_with_its_machine() {
    let (sim, client) = mk_sim(1).await;
    install::install_crds(&client, FieldManager::Lifecycle, Duration::from_secs(10))
        .await
        .unwrap();
    let namespace = "p--c";
    create::<Namespace>(&Api::all(client.clone()), json!({ "metadata": { "name": namespace } })).await;
    let cluster = json!({
        "apiVersion": "steading.dev/v1alpha1", "kind": "Cluster", "metadata": { "name": namespace },
        "spec": { "project": "p", "cluster": "c", "controlPlane": { "external": {} } },
    });
    create::<Cluster>(&Api::all(client.clone()), cluster).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    eventually("the kubeconfig is there", || async {
        secrets.get_opt("kubeconfig").await.unwrap().is_some()
    })
    .await;
    let tenant = sim.tenant(namespace).unwrap().client();
    let token = json!({ "metadata": { "name": "bootstrap-token-abcdef" }, "stringData": { "token-id": "abcdef", "token-secret": "0123456789abcdef" } });
    create::<Secret>(&Api::namespaced(tenant.clone(), "kube-system"), token).await;
    let kubeconfig = secrets
        .get("kubeconfig")
        .await
        .unwrap()
        .data
        .unwrap()
        .remove("kubeconfig")
        .unwrap()
        .0;
    let kubeconfig: Value = serde_json::from_slice(&kubeconfig).unwrap();
    let user_data = mk_user_data(kubeconfig["clusters"][0]["cluster"]["server"].as_str().unwrap(), "m1");
    create::<Secret>(
        &secrets,
        json!({ "metadata": { "name": "m1-userdata" }, "stringData": { "userdata": user_data } }),
    )
    .await;
    let mut vm = serde_json::to_value(mk_vm(namespace, "m1")).unwrap();
    vm["spec"]["template"]["spec"]["volumes"]
        .as_array_mut()
        .unwrap()
        .push(json!({
            "name": "cloudinit", "cloudInitNoCloud": { "secretRef": { "name": "m1-userdata" } },
        }));
    let vms: Api<VirtualMachine> = Api::namespaced(client.clone(), namespace);
    create(&vms, vm).await;
    let nodes: Api<Node> = Api::all(tenant);
    let ready = || async {
        let node = nodes.get_opt("m1").await.unwrap()?;
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        assert!(
            taints
                .iter()
                .any(|taint| taint.key == "node.cloudprovider.kubernetes.io/uninitialized")
        );
        node.status?
            .conditions?
            .into_iter()
            .find(|found| found.type_ == "Ready")
            .map(|found| found.status)
    };
    eventually("the Node is ready", || async {
        ready().await.as_deref() == Some("True")
    })
    .await;
    vms.patch(
        "m1",
        &PatchParams::default(),
        &Patch::Merge(json!({ "spec": { "runStrategy": "Halted" } })),
    )
    .await
    .unwrap();
    eventually("the Node is silent", || async {
        ready().await.as_deref() == Some("Unknown")
    })
    .await;
    vms.patch(
        "m1",
        &PatchParams::default(),
        &Patch::Merge(json!({ "spec": { "runStrategy": "Always" } })),
    )
    .await
    .unwrap();
    eventually("the Node is back", || async {
        ready().await.as_deref() == Some("True")
    })
    .await;
}

/// Measures: a thousand machines. `cargo test -p steading-sim --test behaviour -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a check"]
async fn a_thousand_machines_run() {
    let (sim, client) = mk_sim(3).await;
    let vms: Api<VirtualMachine> = namespaced(&client);
    let start = std::time::Instant::now();
    for index in 0..1000 {
        vms.create(&PostParams::default(), &mk_vm(NS, &format!("m{index}")))
            .await
            .unwrap();
    }
    let running = || async {
        let all: Api<VirtualMachineInstance> = namespaced(&client);
        let all = all.list(&ListParams::default()).await.unwrap().items;
        all.iter()
            .filter(|vmi| vmi.status.as_ref().and_then(|status| status.phase.clone()) == Some(VmiPhase::Running))
            .count()
    };
    while running().await < 1000 && start.elapsed() < Duration::from_secs(120) {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    eprintln!(
        "{} of 1000 machines run after {:?}, {} requests",
        running().await,
        start.elapsed(),
        sim.requests().total()
    );
}

#[tokio::test]
async fn the_simulation_says_what_it_can_do() {
    let (_sim, client) = mk_sim(1).await;
    let kubevirts: Api<steading_infra::kubevirt::KubeVirt> = Api::namespaced(client.clone(), "kubevirt");
    eventually("KubeVirt is announced", || async {
        kubevirts
            .get_opt("kubevirt")
            .await
            .unwrap()
            .and_then(|found| found.status?.phase)
            .as_deref()
            == Some("Deployed")
    })
    .await;
    let found = capabilities::discover(&client).await.unwrap();
    assert!(found.has_cdi() && found.has_snapshots() && found.has_declarative_hotplug());
}
