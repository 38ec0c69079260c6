//! How long a page of a cluster with 10,000 volumes on 1,000 machines takes, through the handler of the service, on the simulated
//! API server. Prints the figures beside their goal.
#![allow(clippy::expect_used, reason = "a benchmark ends where it cannot go on")]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use kube::{
    Api, Client,
    api::{DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use steading_api::storage::v1::{self as proto, volume_service_server::VolumeService};
use steading_infra::{apply::FieldManager, install::install_crds};
use steading_kubesim::ApiServerConfig;
use steading_runtime::{CallContext, CancellationToken, clock::Clock, tasks::TaskGroup};
use steading_storage::{Config, Deps, Service, api::volume_service::VolumeApi};
use tonic::Request;

const NS: &str = "acme--web";
const CLUSTER: &str = "projects/acme/clusters/web";
const MACHINES: usize = 1_000;
const VOLUMES: usize = 10_000;
/// Lists of each kind that are measured.
const ROUNDS: usize = 300;
/// CONTROLLERS.md §7: p99 of a page of 10,000 volumes.
const GOAL: Duration = Duration::from_millis(20);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let server = steading_sim::infra_api_server(ApiServerConfig::default());
    let client = server.client();
    install_crds(&client, FieldManager::Storage, Duration::from_secs(60))
        .await
        .expect("kinds");
    for name in [NS, "steading-system"] {
        create(&client, "", "v1", "Namespace", "", json!({"metadata": {"name": name}})).await;
    }
    fill(&client).await;
    let cancel = CancellationToken::new();
    let tasks = TaskGroup::new("bench", cancel.clone());
    let service = Service::new(
        Config::default(),
        Deps {
            kube: server.client_named("storage"),
            clock: Clock::system(),
        },
    );
    let volumes = service.volumes();
    let stop = cancel.clone();
    tasks.spawn_finite("service", async move { service.run_background(stop).await });
    while list(&volumes, "", "", 1)
        .await
        .is_none_or(|page| page.volumes.is_empty())
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let middle = list(&volumes, "", "", 500).await.expect("a page").next_page_token;
    println!("{VOLUMES} volumes on {MACHINES} machines; goal: p99 < {GOAL:?}");
    measure("first page of 50", &volumes, ("", "", 50)).await;
    measure("first page of 500", &volumes, ("", "", 500)).await;
    measure("page of 500 in the middle", &volumes, ("", &middle, 500)).await;
    cancel.cancel();
    tasks.join(Duration::from_secs(5)).await.expect("nobody died");
}

async fn measure(what: &str, volumes: &VolumeApi, (filter, token, size): (&str, &str, i32)) {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        list(volumes, filter, token, size).await.expect("a page");
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    let verdict = if at(99) < GOAL { "ok" } else { "MISSED" };
    println!("{what:28} p50 {:>10.3?}  p99 {:>10.3?}  {verdict}", at(50), at(99));
}

async fn list(volumes: &VolumeApi, filter: &str, token: &str, size: i32) -> Option<proto::ListVolumesResponse> {
    let mut request = Request::new(proto::ListVolumesRequest {
        parent: CLUSTER.into(),
        filter: filter.into(),
        page_size: size,
        page_token: token.into(),
        ..proto::ListVolumesRequest::default()
    });
    request.extensions_mut().insert(CallContext::dev());
    volumes
        .list_volumes(request)
        .await
        .ok()
        .map(tonic::Response::into_inner)
}

async fn fill(client: &Client) {
    let each = VOLUMES / MACHINES;
    stream::iter(0..MACHINES)
        .for_each_concurrent(16, |machine| async move {
            let name = format!("m{machine:05}");
            let ids: Vec<String> = (0..each).map(|i| format!("v{:05}", machine * each + i)).collect();
            for id in &ids {
                create(
                    client,
                    "cdi.kubevirt.io",
                    "v1beta1",
                    "DataVolume",
                    NS,
                    mk_volume(id, &name),
                )
                .await;
            }
            create(
                client,
                "kubevirt.io",
                "v1",
                "VirtualMachine",
                NS,
                mk_machine(&name, &ids),
            )
            .await;
            let instance = mk_instance(&name, &ids);
            create(client, "kubevirt.io", "v1", "VirtualMachineInstance", NS, instance).await;
        })
        .await;
}

fn mk_volume(id: &str, machine: &str) -> Value {
    json!({
        "metadata": {
            "name": id, "finalizers": ["steading.dev/volume"],
            "labels": {"steading.dev/volume": id, "steading.dev/storage-class": "fast", "team": "a"},
            "annotations": {"steading.dev/attach-to": machine, "steading.dev/placed-on": format!("{machine}/u/0")}
        },
        "spec": {"source": {"blank": {}}, "storage": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Block",
            "storageClassName": "ceph", "resources": {"requests": {"storage": "10Gi"}}}}
    })
}

fn disks(ids: &[String]) -> (Vec<Value>, Vec<Value>) {
    let volume = |id: &String| json!({"name": format!("vol-{id}"), "dataVolume": {"name": id, "hotpluggable": true}});
    let disk =
        |id: &String| json!({"name": format!("vol-{id}"), "serial": "6f9619ff8b86d011b42d", "disk": {"bus": "scsi"}});
    (ids.iter().map(volume).collect(), ids.iter().map(disk).collect())
}

fn mk_machine(name: &str, ids: &[String]) -> Value {
    let (volumes, disks) = disks(ids);
    json!({
        "metadata": {"name": name, "labels": {"steading.dev/machine": name}},
        "spec": {"runStrategy": "Always", "template": {"spec": {"domain": {"devices": {"disks": disks}}, "volumes": volumes}}}
    })
}

fn mk_instance(name: &str, ids: &[String]) -> Value {
    let (volumes, disks) = disks(ids);
    let status: Vec<Value> = ids
        .iter()
        .map(|id| {
            json!({"name": format!("vol-{id}"), "target": "sda", "phase": "Ready", "hotplugVolume": {},
                "persistentVolumeClaimInfo": {"claimName": id}})
        })
        .collect();
    json!({
        "metadata": {"name": name, "labels": {"steading.dev/machine": name}},
        "spec": {"domain": {"devices": {"disks": disks}}, "volumes": volumes},
        "status": {"phase": "Running", "volumeStatus": status}
    })
}

async fn create(client: &Client, group: &str, version: &str, kind: &str, namespace: &str, object: Value) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = if namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    };
    let mut object = object;
    object["apiVersion"] = json!(resource.api_version);
    object["kind"] = json!(kind);
    let object: DynamicObject = serde_json::from_value(object).expect("an object");
    api.create(&PostParams::default(), &object).await.expect("created");
}
