//! The service on the simulated infra cluster, with small stand-ins for the other services.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot go on should end")]

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Namespace, Node, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use prost::Message;
use serde_json::{Value, json};
use steading_api::{
    convert::reason_of,
    lifecycle::v1 as proto,
    lifecycle::v1::{
        cluster_service_client::ClusterServiceClient, machine_service_client::MachineServiceClient,
        project_service_client::ProjectServiceClient,
    },
    scheduling::v1::ResolvePlacementResponse,
    storage::v1::ListVolumesResponse,
    templating::v1::{RenderMachineTemplateResponse, ResolvedResources},
    types::v1::ErrorReason,
};
use steading_controller::SourceConfig;
use steading_infra::{apply::FieldManager, crd::MachineTemplate, install, kubevirt::VirtualMachine, labels};
use steading_lifecycle::{Config, Deps, PeerArgs, Peers, Service};
use steading_runtime::{CancellationToken, clock::Clock, server::ServerConfig};
use steading_sim::{Sim, SimConfig};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::transport::Channel;

#[path = "machines/changes.rs"]
mod changes;
#[path = "machines/drains.rs"]
mod drains;
#[path = "machines/endings.rs"]
mod endings;
#[path = "machines/evacuations.rs"]
mod evacuations;
#[path = "machines/limits.rs"]
mod limits;
#[path = "machines/ownership.rs"]
mod ownership;
#[path = "machines/revoked.rs"]
mod revoked;
#[path = "machines/stale.rs"]
mod stale;
#[path = "machines/tenants.rs"]
mod tenants;

const SOON: Duration = Duration::from_secs(60);
const PARENT: &str = "projects/acme/clusters/prod";

/// Answers every call of the other services that lifecycle makes.
#[derive(Clone)]
struct Others;

fn to_proto(value: &Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(b) => Kind::BoolValue(*b),
        Value::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or_default()),
        Value::String(s) => Kind::StringValue(s.clone()),
        Value::Array(list) => Kind::ListValue(prost_types::ListValue {
            values: list.iter().map(to_proto).collect(),
        }),
        Value::Object(_) => Kind::StructValue(to_struct(value)),
    };
    prost_types::Value { kind: Some(kind) }
}

fn to_struct(value: &Value) -> prost_types::Struct {
    let fields = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.clone(), to_proto(v)));
    prost_types::Struct {
        fields: fields.collect(),
    }
}

fn mk_rendering() -> RenderMachineTemplateResponse {
    let vm = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "workers-xxxxx"},
        "spec": {"runStrategy": "Always", "template": {"metadata": {"labels": {"kubevirt.io/vm": "workers-xxxxx"}}, "spec": {
            "domain": {"cpu": {"cores": 1}, "memory": {"guest": "1Gi"},
                "devices": {"disks": [{"name": "root", "disk": {"bus": "virtio"}}, {"name": "userdata", "disk": {"bus": "virtio"}}]}},
            "volumes": [{"name": "root", "containerDisk": {"image": "example.com/disk"}},
                {"name": "userdata", "cloudInitNoCloud": {"secretRef": {"name": "workers-xxxxx-userdata"}}}]
        }}}
    });
    let paths = [
        "/metadata/name",
        "/spec/template/metadata/labels/kubevirt.io~1vm",
        "/spec/template/spec/volumes/1/cloudInitNoCloud/secretRef/name",
    ];
    RenderMachineTemplateResponse {
        virtual_machine: Some(to_struct(&vm)),
        revision: "1".into(),
        resources: Some(ResolvedResources {
            vcpus: 1,
            memory: "1Gi".into(),
            ..ResolvedResources::default()
        }),
        machine_name_paths: paths.map(str::to_owned).to_vec(),
        ..RenderMachineTemplateResponse::default()
    }
}

impl<B: Send + 'static> tower::Service<http::Request<B>> for Others {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let message = match request.uri().path().rsplit('/').next().unwrap_or_default() {
            "RenderMachineTemplate" => mk_rendering().encode_to_vec(),
            "ResolvePlacement" => ResolvePlacementResponse::default().encode_to_vec(),
            _ => ListVolumesResponse::default().encode_to_vec(),
        };
        let mut frame = vec![0];
        frame.extend(u32::try_from(message.len()).unwrap_or_default().to_be_bytes());
        frame.extend(message);
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let frames = [
            Ok::<_, Infallible>(http_body::Frame::data(bytes::Bytes::from(frame))),
            Ok(http_body::Frame::trailers(trailers)),
        ];
        let body = http_body_util::StreamBody::new(futures::stream::iter(frames));
        let response = http::Response::builder()
            .header("content-type", "application/grpc")
            .body(tonic::body::Body::new(body));
        Box::pin(async move { Ok(response.expect("a response")) })
    }
}

struct World {
    sim: Sim,
    tasks: JoinSet<()>,
    cancel: CancellationToken,
    others: String,
    channel: Channel,
    source: SourceConfig,
}

impl World {
    async fn start() -> Self {
        Self::start_with(SourceConfig::default()).await
    }

    /// As [`Self::start`], with watches of other patience.
    async fn start_with(source: SourceConfig) -> Self {
        let sim = Sim::start(SimConfig::default()).await.expect("the simulation");
        let kube = sim.client();
        install::install_crds(&kube, FieldManager::Lifecycle, SOON)
            .await
            .expect("kinds");
        let mut space = Namespace::default();
        space.metadata.name = Some(labels::SYSTEM_NAMESPACE.into());
        Api::<Namespace>::all(kube.clone())
            .create(&PostParams::default(), &space)
            .await
            .expect("namespace");
        let template: MachineTemplate = serde_json::from_value(json!({
            "apiVersion": "steading.dev/v1alpha1", "kind": "MachineTemplate", "metadata": {"name": "acme--small"},
            "spec": {"instanceType": "u1.small", "rootDisk": {"size": "10Gi", "image": "ubuntu"}}
        }))
        .expect("a template");
        Api::<MachineTemplate>::all(kube.clone())
            .create(&PostParams::default(), &template)
            .await
            .expect("template");

        let mut tasks = JoinSet::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let others = format!("http://{}", listener.local_addr().expect("address"));
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tasks.spawn(async move {
            let app = tonic::service::Routes::from(axum::Router::new().fallback_service(Others));
            tonic::transport::Server::builder()
                .add_routes(app)
                .serve_with_incoming(incoming)
                .await
                .expect("peers");
        });
        let mut world = Self {
            sim,
            tasks,
            cancel: CancellationToken::new(),
            others,
            channel: Channel::from_static("http://127.0.0.1:1").connect_lazy(),
            source,
        };
        world.launch().await;
        world
    }

    /// Starts the service; again after [`Self::kill`].
    async fn launch(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("address");
        let args = PeerArgs {
            templating: self.others.clone(),
            scheduling: self.others.clone(),
            storage: self.others.clone(),
        };
        let mut config = Config {
            server: ServerConfig::dev_mode(),
            source: self.source.clone(),
            ..Config::default()
        };
        config.lease = config.lease.identity("test");
        let deps = Deps::new(
            self.sim.api().client_named("lifecycle"),
            Clock::system(),
            Peers::connect(&args).expect("addresses"),
        );
        self.cancel = CancellationToken::new();
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            Service::new(config, deps)
                .run(listener, cancel)
                .await
                .expect("the service")
        });
        self.channel = Channel::from_shared(format!("http://{address}"))
            .expect("address")
            .connect_lazy();
    }

    async fn project_and_cluster(&self) {
        let project = proto::CreateProjectRequest {
            project_id: "acme".into(),
            project: Some(proto::Project::default()),
            ..Default::default()
        };
        ProjectServiceClient::new(self.channel.clone())
            .create_project(project)
            .await
            .expect("a project");
        let external = proto::cluster::ControlPlane::External(proto::ExternalControlPlane::default());
        let cluster = proto::Cluster {
            control_plane: Some(external),
            ..Default::default()
        };
        let create = proto::CreateClusterRequest {
            parent: "projects/acme".into(),
            cluster_id: "prod".into(),
            cluster: Some(cluster),
            ..Default::default()
        };
        ClusterServiceClient::new(self.channel.clone())
            .create_cluster(create)
            .await
            .expect("a cluster");
    }

    fn machines(&self) -> MachineServiceClient<Channel> {
        MachineServiceClient::new(self.channel.clone())
    }

    async fn pool(&self, replicas: i32) -> proto::MachinePool {
        let pool = proto::MachinePool {
            replicas,
            machine_template: "projects/acme/machineTemplates/small".into(),
            node_labels: [("team".to_owned(), "a".to_owned())].into(),
            ..Default::default()
        };
        let create = proto::CreateMachinePoolRequest {
            parent: PARENT.into(),
            machine_pool_id: "workers".into(),
            machine_pool: Some(pool),
            ..Default::default()
        };
        self.machines()
            .create_machine_pool(create)
            .await
            .expect("a pool")
            .into_inner()
    }

    async fn list(&self) -> Vec<proto::Machine> {
        let list = proto::ListMachinesRequest {
            parent: PARENT.into(),
            ..Default::default()
        };
        self.machines()
            .list_machines(list)
            .await
            .map(|r| r.into_inner().machines)
            .unwrap_or_default()
    }

    /// Waits until the pool has exactly so many machines, all running.
    async fn running(&self, count: usize) -> Vec<proto::Machine> {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let machines = self.list().await;
            let all = machines
                .iter()
                .all(|m| m.state() == proto::machine::State::Running && !m.replace_requested);
            if machines.len() == count && all {
                return machines;
            }
            assert!(tokio::time::Instant::now() < deadline, "{machines:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn tenant(&self) -> Client {
        self.sim.tenant("acme--prod").expect("a tenant").client()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_becomes_ready_nodes_scales_and_goes_without_a_trace() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(3).await;
    let machines = world.running(3).await;
    let nodes: Api<Node> = Api::all(world.tenant());
    for machine in &machines {
        let id = machine.name.rsplit('/').next().expect("an id");
        let node = nodes.get(id).await.expect("a node");
        assert_eq!(
            node.spec.as_ref().and_then(|s| s.provider_id.clone()),
            Some(format!("kubevirt://{id}"))
        );
        assert_eq!(node.labels().get("team").map(String::as_str), Some("a"));
        assert!(node.labels().contains_key(labels::ZONE), "{:?}", node.labels());
        assert!(!machine.zone.is_empty() && !machine.infra_node.is_empty());
    }
    let scale = proto::ScaleMachinePoolRequest {
        name: format!("{PARENT}/machinePools/workers"),
        replicas: Some(1),
        ..Default::default()
    };
    let silent = proto::ScaleMachinePoolRequest {
        replicas: None,
        ..scale.clone()
    };
    let refused = world
        .machines()
        .scale_machine_pool(silent)
        .await
        .expect_err("no number does not mean none");
    assert_eq!(reason_of(&refused), Some(ErrorReason::InvalidField));
    world.machines().scale_machine_pool(scale).await.expect("scaled");
    world.running(1).await;
    assert_eq!(nodes.list(&ListParams::default()).await.expect("nodes").items.len(), 1);

    let delete = proto::DeleteClusterRequest {
        name: PARENT.into(),
        ..Default::default()
    };
    let mut clusters = ClusterServiceClient::new(world.channel.clone());
    let refused = clusters
        .delete_cluster(delete.clone())
        .await
        .expect_err("it has a pool");
    assert_eq!(reason_of(&refused), Some(ErrorReason::HasChildren));
    clusters
        .delete_cluster(proto::DeleteClusterRequest { force: true, ..delete })
        .await
        .expect("deletion begins");
    let deadline = tokio::time::Instant::now() + SOON;
    while clusters
        .get_cluster(proto::GetClusterRequest { name: PARENT.into() })
        .await
        .is_ok()
    {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the cluster does not go: {:#?}",
            world.list().await
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let spaces: Api<Namespace> = Api::all(world.sim.client());
    assert!(spaces.get_opt("acme--prod").await.expect("an answer").is_none());
    let secrets: Api<Secret> = Api::all(world.sim.client());
    assert!(
        secrets
            .list(&ListParams::default().labels(labels::CLUSTER))
            .await
            .expect("secrets")
            .items
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_surges_and_a_restart_of_the_service_makes_no_machine_too_many() {
    let mut world = World::start().await;
    world.project_and_cluster().await;
    world.pool(3).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    world.cancel.cancel();
    world.launch().await;
    let machines = world.running(3).await;
    let old = machines[0].name.clone();
    world
        .machines()
        .replace_machine(proto::ReplaceMachineRequest {
            name: old.clone(),
            ..Default::default()
        })
        .await
        .expect("asked for");
    world.cancel.cancel();
    world.launch().await;
    let deadline = tokio::time::Instant::now() + SOON;
    let vms: Api<VirtualMachine> = Api::namespaced(world.sim.client(), "acme--prod");
    loop {
        let seen = world.running(3).await;
        let count = vms.list(&ListParams::default()).await.expect("machines").items.len();
        assert!(count <= 4, "replicas and surge");
        if seen.iter().all(|m| m.name != old) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{seen:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_kubectl_wrote_wrongly_says_why() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(0).await;
    let body = json!({
        "apiVersion": "steading.dev/v1alpha1", "kind": "MachinePool",
        "metadata": {"name": "odd", "namespace": "acme--prod"},
        "spec": {"replicas": -3, "machineTemplate": "small"}
    });
    let pools: Api<steading_infra::crd::MachinePool> = Api::namespaced(world.sim.client(), "acme--prod");
    pools
        .patch("odd", &PatchParams::apply("kubectl").force(), &Patch::Apply(body))
        .await
        .expect("applied");
    let get = proto::GetMachinePoolRequest {
        name: format!("{PARENT}/machinePools/odd"),
    };
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let pool = world
            .machines()
            .get_machine_pool(get.clone())
            .await
            .expect("the pool")
            .into_inner();
        if pool
            .conditions
            .iter()
            .any(|c| c.r#type == "Accepted" && c.reason == "InvalidSpec" && c.message.contains("replicas"))
        {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{pool:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
