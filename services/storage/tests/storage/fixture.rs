//! The service on the simulated API server, with a small player of KubeVirt and CDI that a test can hold still.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{Event, Namespace, PersistentVolumeClaim},
    storage::v1::StorageClass as InfraClass,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use steading_api::{
    convert::reason_of,
    storage::v1::{
        self as proto, storage_class_service_server::StorageClassService, volume::AttachmentState,
        volume_service_server::VolumeService,
    },
    types::v1::ErrorReason,
};
use steading_controller::SourceConfig;
use steading_infra::{
    apply::FieldManager,
    cdi::DataVolume,
    install::install_crds,
    kubevirt::{VirtualMachine, VirtualMachineInstance},
    samples::mk_vm,
};
use steading_kubesim::{ApiServer, ApiServerConfig, Verb};
use steading_runtime::{CallContext, CancellationToken, clock::Clock, tasks::TaskGroup};
use steading_storage::{
    Config, Deps, Service,
    api::{class_service::StorageClassApi, volume_service::VolumeApi},
};
use tonic::{Request, Status};

/// Namespace of the tests' cluster.
pub(crate) const NS: &str = "acme--web";
/// The tests' cluster.
pub(crate) const CLUSTER: &str = "projects/acme/clusters/web";
const DEADLINE: Duration = Duration::from_secs(20);

/// Name of a volume of the tests' cluster.
pub(crate) fn volume_name(id: &str) -> String {
    format!("{CLUSTER}/volumes/{id}")
}

/// Name of a machine of the tests' cluster.
pub(crate) fn machine_name(id: &str) -> String {
    format!("{CLUSTER}/machines/{id}")
}

/// A request of somebody who may do everything.
pub(crate) fn ask<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(CallContext::dev());
    request
}

/// The reason of a refusal.
pub(crate) fn reason<T: std::fmt::Debug>(result: Result<T, Status>) -> ErrorReason {
    let status = result.expect_err("a refusal");
    reason_of(&status).unwrap_or_else(|| panic!("{status:?} has no reason"))
}

/// What the player does by itself.
#[derive(Default)]
pub(crate) struct Player {
    /// Instances report their disks only while this is off.
    pub(crate) hold_instances: AtomicBool,
    /// Volumes are filled only while this is off.
    pub(crate) hold_volumes: AtomicBool,
    /// Attachment pods that KubeVirt would have made: changes of the set of hot-plugged volumes.
    pub(crate) generations: AtomicUsize,
}

/// The service and everything around it.
pub(crate) struct Fixture {
    pub(crate) server: ApiServer,
    pub(crate) client: Client,
    pub(crate) volumes: VolumeApi,
    pub(crate) classes: StorageClassApi,
    pub(crate) player: Arc<Player>,
    pub(crate) tasks: TaskGroup,
    pub(crate) cancel: CancellationToken,
    crash: CancellationToken,
    source: SourceConfig,
}

fn start_service(
    server: &ApiServer,
    tasks: &TaskGroup,
    cancel: &CancellationToken,
    source: &SourceConfig,
) -> (VolumeApi, StorageClassApi, CancellationToken) {
    let config = Config {
        source: source.clone(),
        ..Config::default()
    };
    let service = Service::new(
        config,
        Deps {
            kube: server.client_named("storage"),
            clock: Clock::system(),
        },
    );
    let (volumes, classes, crash) = (service.volumes(), service.classes(), cancel.child_token());
    let stop = crash.clone();
    tasks.spawn_finite("service", async move { service.run_background(stop).await });
    (volumes, classes, crash)
}

impl Fixture {
    /// Ends the service at whatever it is doing, and starts another one in its place.
    pub(crate) fn restart(&mut self) {
        self.crash.cancel();
        (self.volumes, self.classes, self.crash) = start_service(&self.server, &self.tasks, &self.cancel, &self.source);
    }

    /// Two machines, m1 and m2, that run; class `fast` offered to everybody.
    pub(crate) async fn start() -> Self {
        Self::start_with(SourceConfig::default()).await
    }

    /// As [`Self::start`], with sources of other patience.
    pub(crate) async fn start_with(source: SourceConfig) -> Self {
        let this = Self::bare_with(source).await;
        this.offer(
            proto::StorageClass {
                all_projects: true,
                ..mk_class()
            },
            "fast",
        )
        .await
        .expect("offered");
        this
    }

    /// As [`Self::start`], without any offer.
    pub(crate) async fn bare() -> Self {
        Self::bare_with(SourceConfig::default()).await
    }

    async fn bare_with(source: SourceConfig) -> Self {
        let server = steading_sim::infra_api_server(ApiServerConfig::default());
        let client = server.client();
        install_crds(&client, FieldManager::Storage, DEADLINE)
            .await
            .expect("kinds");
        for name in [NS, "steading-system"] {
            let namespace = Namespace {
                metadata: ObjectMeta {
                    name: Some(name.into()),
                    ..ObjectMeta::default()
                },
                ..Namespace::default()
            };
            Api::all(client.clone())
                .create(&PostParams::default(), &namespace)
                .await
                .expect("namespace");
        }
        let infra: InfraClass =
            serde_json::from_value(json!({"metadata": {"name": "ceph"}, "provisioner": "ceph"})).expect("a class");
        Api::all(client.clone())
            .create(&PostParams::default(), &infra)
            .await
            .expect("class");
        let cancel = CancellationToken::new();
        let tasks = TaskGroup::new("test", cancel.clone());
        let player = Arc::<Player>::default();
        tasks.spawn(
            "kubevirt",
            play_kubevirt(client.clone(), player.clone(), cancel.clone()),
        );
        tasks.spawn("cdi", play_cdi(client.clone(), player.clone(), cancel.clone()));
        let (volumes, classes, crash) = start_service(&server, &tasks, &cancel, &source);
        let this = Self {
            server,
            client,
            volumes,
            classes,
            player,
            tasks,
            cancel,
            crash,
            source,
        };
        for machine in ["m1", "m2"] {
            this.add_machine(machine).await;
        }
        this
    }

    /// Makes a machine that runs.
    pub(crate) async fn add_machine(&self, name: &str) {
        let vms: Api<VirtualMachine> = Api::namespaced(self.client.clone(), NS);
        vms.create(&PostParams::default(), &mk_vm(NS, name))
            .await
            .expect("a machine");
        let labels = BTreeMap::from([("steading.dev/machine", name)]);
        let vmi = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": name, "namespace": NS, "labels": labels}, "spec": {"domain": {"devices": {}}}
        });
        let vmis: Api<VirtualMachineInstance> = Api::namespaced(self.client.clone(), NS);
        let made = vmis
            .create(
                &PostParams::default(),
                &serde_json::from_value(vmi).expect("an instance"),
            )
            .await;
        made.expect("an instance");
        self.set_instance(name, json!({"phase": "Running"})).await;
    }

    /// Merges into the status of an instance.
    pub(crate) async fn set_instance(&self, name: &str, status: Value) {
        set_instance_status(&Api::namespaced(self.client.clone(), NS), name, status).await;
    }

    pub(crate) async fn offer(&self, class: proto::StorageClass, id: &str) -> Result<proto::StorageClass, Status> {
        let request = proto::CreateStorageClassRequest {
            storage_class_id: id.into(),
            storage_class: Some(class),
            ..proto::CreateStorageClassRequest::default()
        };
        self.classes
            .create_storage_class(ask(request))
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn create(&self, id: &str, volume: proto::Volume) -> Result<proto::Volume, Status> {
        let request = proto::CreateVolumeRequest {
            parent: CLUSTER.into(),
            volume_id: id.into(),
            volume: Some(volume),
            ..proto::CreateVolumeRequest::default()
        };
        self.volumes
            .create_volume(ask(request))
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn get(&self, id: &str) -> Result<proto::Volume, Status> {
        let request = proto::GetVolumeRequest { name: volume_name(id) };
        self.volumes
            .get_volume(ask(request))
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn attach(&self, id: &str, machine: &str) -> Result<proto::Volume, Status> {
        let (name, machine) = (volume_name(id), machine_name(machine));
        let request = proto::AttachVolumeRequest {
            name,
            machine,
            ..proto::AttachVolumeRequest::default()
        };
        self.volumes
            .attach_volume(ask(request))
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn detach(&self, id: &str) -> Result<proto::Volume, Status> {
        let request = proto::DetachVolumeRequest {
            name: volume_name(id),
            ..proto::DetachVolumeRequest::default()
        };
        self.volumes
            .detach_volume(ask(request))
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn expand(&self, id: &str, size: &str) -> Result<proto::Volume, Status> {
        let request = proto::ExpandVolumeRequest {
            name: volume_name(id),
            size: size.into(),
            ..proto::ExpandVolumeRequest::default()
        };
        self.volumes
            .expand_volume(ask(request))
            .await
            .map(tonic::Response::into_inner)
    }

    /// A volume that is filled.
    pub(crate) async fn ready(&self, id: &str) -> proto::Volume {
        self.create(id, mk_volume()).await.expect("made");
        let filled =
            |volume: &proto::Volume| volume.state() == proto::volume::State::Ready && !volume.capacity.is_empty();
        self.until_volume(id, filled).await
    }

    /// The reasons of the events on a volume.
    pub(crate) async fn events(&self, id: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), NS);
        let found = events.list(&ListParams::default()).await.expect("events");
        let about = found
            .items
            .into_iter()
            .filter(|event| event.involved_object.name.as_deref() == Some(id));
        about.filter_map(|event| event.reason).collect()
    }

    pub(crate) async fn delete(&self, id: &str, force: bool) -> Result<proto::Volume, Status> {
        let request = proto::DeleteVolumeRequest {
            name: volume_name(id),
            force,
            ..proto::DeleteVolumeRequest::default()
        };
        self.volumes
            .delete_volume(ask(request))
            .await
            .map(tonic::Response::into_inner)
    }

    /// Waits until the volume's attachment is in this state.
    pub(crate) async fn until(&self, id: &str, state: AttachmentState) -> proto::Volume {
        self.until_volume(id, |volume| volume.attachment_state() == state).await
    }

    /// Waits until the volume is as wanted.
    pub(crate) async fn until_volume(&self, id: &str, wanted: impl Fn(&proto::Volume) -> bool) -> proto::Volume {
        let last = std::cell::RefCell::new(None);
        let found = eventually(async || {
            let volume = self.get(id).await.ok()?;
            let fits = wanted(&volume);
            *last.borrow_mut() = Some(volume.clone());
            fits.then_some(volume)
        });
        match found.await {
            Some(volume) => volume,
            None => panic!("{id} never became as wanted: {:#?}", last.borrow()),
        }
    }

    /// Waits until the volume is gone.
    pub(crate) async fn until_gone(&self, id: &str) {
        let gone = eventually(async || self.get(id).await.is_err().then_some(())).await;
        gone.unwrap_or_else(|| panic!("{id} never went"));
    }

    /// The names of a virtual machine's disks.
    pub(crate) async fn disks(&self, machine: &str) -> Vec<String> {
        let vms: Api<VirtualMachine> = Api::namespaced(self.client.clone(), NS);
        let vm = vms.get(machine).await.expect("the machine");
        let template = vm.spec.template.expect("a template");
        template
            .spec
            .domain
            .devices
            .disks
            .into_iter()
            .map(|disk| disk.name)
            .collect()
    }

    /// Requests of the service, by verb and resource.
    pub(crate) fn requests(&self, verb: Verb, resource: &str) -> u64 {
        self.server
            .counters()
            .count(|key| key.user_agent == "storage" && key.verb == verb && key.resource == resource)
    }

    /// Ends everything; a task that died shows here.
    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        self.tasks.join(Duration::from_secs(5)).await.expect("nobody died");
    }
}

/// Waits for something with a deadline.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(mut look: impl FnMut() -> F) -> Option<T> {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while tokio::time::Instant::now() < deadline {
        if let Some(found) = look().await {
            return Some(found);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

/// A class with limits, offered to nobody.
pub(crate) fn mk_class() -> proto::StorageClass {
    proto::StorageClass {
        infra_storage_class: "ceph".into(),
        max_size: "100Gi".into(),
        expansion_allowed: true,
        default_class: true,
        ..proto::StorageClass::default()
    }
}

/// A volume of a gibibyte.
pub(crate) fn mk_volume() -> proto::Volume {
    proto::Volume {
        size: "1Gi".into(),
        ..proto::Volume::default()
    }
}

async fn set_status<K>(api: &Api<K>, name: &str, status: Value)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let patch = json!({"status": status});
    let _ = api
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await;
}

/// KubeVirt's instances have no status subresource.
async fn set_instance_status(api: &Api<VirtualMachineInstance>, name: &str, status: Value) {
    let patch = json!({"status": status});
    let _ = api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
}

/// Every virtual machine's hot-plugged volumes become ready in its instance.
async fn play_kubevirt(client: Client, player: Arc<Player>, cancel: CancellationToken) {
    let vms: Api<VirtualMachine> = Api::all(client.clone());
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut events = Box::pin(
        watcher(vms, watcher::Config::default())
            .default_backoff()
            .applied_objects(),
    );
    loop {
        let vm = tokio::select! {
            () = cancel.cancelled() => return,
            vm = events.next() => vm,
        };
        let Some(Ok(vm)) = vm else { continue };
        let (namespace, name) = (vm.namespace().unwrap_or_default(), vm.name_any());
        let volumes = vm.spec.template.map(|t| t.spec.volumes).unwrap_or_default();
        let plugged: Vec<String> = volumes
            .iter()
            .filter(|v| v.is_hotpluggable())
            .map(|v| v.name.clone())
            .collect();
        if seen.insert(name.clone(), plugged.clone()).unwrap_or_default() == plugged {
            continue;
        }
        player.generations.fetch_add(1, Ordering::SeqCst);
        while player.hold_instances.load(Ordering::SeqCst) && !cancel.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let status: Vec<Value> = plugged
            .iter()
            .map(|name| json!({"name": name, "target": "sda", "phase": "Ready", "hotplugVolume": {}}))
            .collect();
        set_instance_status(
            &Api::namespaced(client.clone(), &namespace),
            &name,
            json!({"volumeStatus": status}),
        )
        .await;
    }
}

/// Every DataVolume gets its claim and succeeds; every snapshot becomes ready.
async fn play_cdi(client: Client, player: Arc<Player>, cancel: CancellationToken) {
    let all: Api<DataVolume> = Api::all(client.clone());
    let mut events = Box::pin(
        watcher(all, watcher::Config::default())
            .default_backoff()
            .applied_objects(),
    );
    loop {
        let object = tokio::select! {
            () = cancel.cancelled() => return,
            object = events.next() => object,
        };
        let Some(Ok(object)) = object else { continue };
        if object.status.as_ref().is_some_and(|s| s.phase.is_some()) {
            continue;
        }
        while player.hold_volumes.load(Ordering::SeqCst) && !cancel.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let storage = object.spec.storage.clone().unwrap_or_default();
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": namespace, "labels": object.metadata.labels},
            "spec": {"accessModes": storage.access_modes, "resources": storage.resources, "volumeMode": storage.volume_mode, "volumeName": format!("pv-{name}")}
        }))
        .expect("a claim");
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
        let _ = claims.create(&PostParams::default(), &claim).await;
        set_status(
            &claims,
            &name,
            json!({"capacity": storage.resources.and_then(|r| r.requests)}),
        )
        .await;
        set_status(
            &Api::<DataVolume>::namespaced(client.clone(), &namespace),
            &name,
            json!({"phase": "Succeeded", "progress": "100.0%"}),
        )
        .await;
    }
}

/// An object of any kind.
pub(crate) fn dynamic(client: &Client, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let gvk = kube::core::GroupVersionKind::gvk(group, version, kind);
    Api::namespaced_with(client.clone(), NS, &kube::api::ApiResource::from_gvk(&gvk))
}
