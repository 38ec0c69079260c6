//! A collection as a service would write it, and calls of its methods.

use std::{collections::BTreeMap, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use steading_api::{
    convert::reason_of,
    error::RpcError,
    lifecycle::v1::{
        self as proto, CreateMachinePoolRequest, DeleteMachinePoolRequest, GetMachinePoolRequest, MachinePool,
        PauseRolloutRequest, ScaleMachinePoolRequest, UpdateMachinePoolRequest, WatchMachinePoolsRequest,
        WatchMachinePoolsResponse,
    },
    types::v1::ErrorReason,
};
use steading_kubesim::{ApiServer, ApiServerConfig};
use steading_model::name::{ClusterName, MachinePoolName, Within};
use steading_runtime::{
    CallContext,
    clock::Clock,
    standard::{Acts, Collection, Decision, Index, Keys, Methods, Presence, ResponseStream, Revises, Writable},
};
use tonic::{Request, Status};

pub(crate) const PARENT: &str = "projects/a/clusters/b";

/// Pools that are ConfigMaps: `replicas` is what is asked for, `ready` the status.
#[derive(Clone)]
pub(crate) struct Pools {
    pub(crate) kube: Client,
    pub(crate) index: Option<Arc<dyn Index<MachinePool>>>,
}

impl Collection for Pools {
    type Object = ConfigMap;
    type Resource = MachinePool;
    type Name = MachinePoolName;

    const KEYS: Keys = Keys {
        request_id: "steading.dev/request-id",
        request_hash: "steading.dev/request-hash",
        reserved: &["steading.dev/"],
    };

    fn api(&self, namespace: Option<&str>) -> Api<ConfigMap> {
        namespace.map_or_else(
            || Api::all(self.kube.clone()),
            |namespace| Api::namespaced(self.kube.clone(), namespace),
        )
    }

    fn resource(&self, object: &ConfigMap) -> Option<MachinePool> {
        let name = MachinePoolName::from_object(&object.namespace()?, &object.name_any())?;
        let number = |key: &str| object.data.as_ref()?.get(key)?.parse().ok();
        let text = |key: &str| object.data.as_ref().and_then(|data| data.get(key).cloned());
        Some(MachinePool {
            name: name.to_string(),
            replicas: number("replicas").unwrap_or_default(),
            ready_replicas: number("ready").unwrap_or_default(),
            kubernetes_version: text("version").unwrap_or_default(),
            rollout_paused: text("paused").is_some(),
            ..MachinePool::default()
        })
    }

    fn index(&self) -> Option<Arc<dyn Index<MachinePool>>> {
        self.index.clone()
    }

    async fn parent(&self, within: &Within<ClusterName>) -> Result<Presence, kube::Error> {
        let Some(namespace) = within.namespace() else {
            return Ok(Presence::Present);
        };
        let found = Api::<Namespace>::all(self.kube.clone()).get_opt(&namespace).await?;
        Ok(found.map_or(Presence::Missing, |_| Presence::Present))
    }
}

impl Writable for Pools {
    async fn object(
        &self,
        _: &MachinePoolName,
        resource: &MachinePool,
        current: Option<&ConfigMap>,
    ) -> Result<ConfigMap, RpcError> {
        let mut object = current.cloned().unwrap_or_default();
        let meta = &mut object.metadata;
        meta.labels = Some(Self::KEYS.merge(meta.labels.as_ref(), &resource.labels));
        meta.annotations = Some(Self::KEYS.merge(meta.annotations.as_ref(), &resource.annotations));
        let data = object.data.get_or_insert_default();
        data.insert("replicas".into(), resource.replicas.to_string());
        data.insert("version".into(), resource.kubernetes_version.clone());
        data.remove("paused");
        if resource.rollout_paused {
            data.insert("paused".into(), "yes".into());
        }
        Ok(object)
    }

    async fn children(&self, name: &MachinePoolName, current: &ConfigMap) -> Result<Vec<String>, RpcError> {
        let full = current.data.as_ref().is_some_and(|data| data.contains_key("ready"));
        Ok(if full {
            vec![format!("{}/machines/x", name.cluster)]
        } else {
            Vec::new()
        })
    }
}

impl Acts<ScaleMachinePoolRequest> for Pools {
    async fn decide(
        &self,
        request: &ScaleMachinePoolRequest,
        _: &MachinePoolName,
        current: &ConfigMap,
    ) -> Result<Decision, RpcError> {
        let wanted = request.replicas.unwrap_or_default().to_string();
        let present = current.data.as_ref().and_then(|data| data.get("replicas"));
        if present == Some(&wanted) {
            return Ok(Decision::AlreadySo);
        }
        Ok(Decision::Merge(json!({"data": {"replicas": wanted}})))
    }
}

impl Revises<PauseRolloutRequest> for Pools {
    async fn revise(
        &self,
        _: &PauseRolloutRequest,
        _: &MachinePoolName,
        before: &MachinePool,
    ) -> Result<MachinePool, RpcError> {
        Ok(MachinePool {
            rollout_paused: true,
            ..before.clone()
        })
    }
}

pub(crate) struct Rig {
    pub(crate) server: ApiServer,
    pub(crate) pools: Methods<Pools>,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(ApiServerConfig::default()).await
    }

    pub(crate) async fn with(config: ApiServerConfig) -> Self {
        let server = ApiServer::new(config);
        let pools = Pools {
            kube: server.client(),
            index: None,
        };
        let pools = Methods::new(pools, Clock::system());
        let rig = Self { server, pools };
        rig.namespace("a--b").await;
        rig
    }

    pub(crate) async fn namespace(&self, name: &str) {
        let body = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        let api: Api<Namespace> = Api::all(self.server.client());
        api.create(&PostParams::default(), &body).await.unwrap();
    }

    /// An object that was not made by the API.
    pub(crate) async fn apply(&self, namespace: &str, name: &str, labels: &[(&str, &str)]) {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let body = json!({"metadata": {"name": name, "labels": labels}, "data": {"replicas": "1"}});
        let api: Api<ConfigMap> = Api::namespaced(self.server.client(), namespace);
        let body = serde_json::from_value(body).unwrap();
        api.create(&PostParams::default(), &body).await.unwrap();
    }

    pub(crate) async fn patch(&self, name: &str, patch: serde_json::Value) {
        let api: Api<ConfigMap> = Api::namespaced(self.server.client(), "a--b");
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// A write of the status, as reconcilers make many.
    pub(crate) async fn report(&self, name: &str, ready: i32) {
        self.patch(name, json!({"data": {"ready": ready.to_string()}})).await;
    }

    pub(crate) async fn remove(&self, name: &str) {
        let api: Api<ConfigMap> = Api::namespaced(self.server.client(), "a--b");
        api.delete(name, &kube::api::DeleteParams::default()).await.unwrap();
    }

    pub(crate) async fn create(&self, request: CreateMachinePoolRequest) -> Result<MachinePool, Status> {
        self.pools.create(call(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn make(&self, id: &str) -> MachinePool {
        self.create(creation(id)).await.unwrap()
    }

    pub(crate) async fn get(&self, name: &str) -> Result<MachinePool, Status> {
        let request = GetMachinePoolRequest { name: name.to_owned() };
        self.pools.get(call(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn update(&self, request: UpdateMachinePoolRequest) -> Result<MachinePool, Status> {
        self.pools.update(call(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn delete(&self, request: DeleteMachinePoolRequest) -> Result<MachinePool, Status> {
        self.pools.delete(call(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn scale(&self, request: ScaleMachinePoolRequest) -> Result<MachinePool, Status> {
        self.pools.act(call(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn pause(&self, request: PauseRolloutRequest) -> Result<MachinePool, Status> {
        self.pools.revise(call(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn list(
        &self,
        request: proto::ListMachinePoolsRequest,
    ) -> Result<proto::ListMachinePoolsResponse, Status> {
        self.pools.list(call(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn watch(
        &self,
        parent: &str,
        filter: &str,
        token: &str,
    ) -> Result<ResponseStream<WatchMachinePoolsResponse>, Status> {
        let request = WatchMachinePoolsRequest {
            parent: parent.to_owned(),
            filter: filter.to_owned(),
            resume_token: token.to_owned(),
        };
        self.pools.watch(call(request)).await.map(tonic::Response::into_inner)
    }
}

pub(crate) fn creation(id: &str) -> CreateMachinePoolRequest {
    CreateMachinePoolRequest {
        parent: PARENT.to_owned(),
        machine_pool_id: id.to_owned(),
        machine_pool: Some(MachinePool {
            replicas: 1,
            ..MachinePool::default()
        }),
        ..CreateMachinePoolRequest::default()
    }
}

pub(crate) fn full(id: &str) -> String {
    format!("{PARENT}/machinePools/{id}")
}

pub(crate) fn call<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(CallContext::dev());
    request
}

pub(crate) fn reason<T: std::fmt::Debug>(result: Result<T, Status>) -> ErrorReason {
    let status = result.expect_err("a refusal");
    reason_of(&status).expect("a reason")
}

/// The next event as text, such as `ADDED x 1`, and its token.
pub(crate) async fn next(stream: &mut ResponseStream<WatchMachinePoolsResponse>) -> Result<(String, String), Status> {
    let event = tokio::time::timeout(std::time::Duration::from_secs(20), stream.next()).await;
    let event = event.expect("an event in time").expect("a stream without end")?;
    let kind = event
        .r#type()
        .as_str_name()
        .trim_start_matches("WATCH_EVENT_TYPE_")
        .to_owned();
    let text = event.machine_pool.map_or(kind.clone(), |pool| {
        let id = pool.name.rsplit('/').next().unwrap_or_default().to_owned();
        format!("{kind} {id} {}", pool.ready_replicas)
    });
    Ok((text, event.resume_token))
}
