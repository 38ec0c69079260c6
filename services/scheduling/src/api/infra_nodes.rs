//! The collection of infra nodes, and the reading of snapshots.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, api::ListParams};
use steading_api::{error::RpcError, scheduling::v1 as proto, types::v1::ErrorReason};
use steading_infra::kubevirt::VirtualMachineInstance;
use steading_model::name::InfraNodeName;
use steading_runtime::collection::{self, Collection, Keys, kube_error};

use super::{KEYS, convert::infra_node};
use crate::snapshot::Snapshot;

/// Objects that one request to the API server asks for.
const CHUNK: u32 = 500;

/// What is known of the infra cluster at one moment.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Nodes and pods.
    pub snapshot: Snapshot,
    /// The machines' VMIs, by namespace and name.
    pub instances: HashMap<(String, String), VirtualMachineInstance>,
}

impl Seen {
    /// Machines on a node that KubeVirt has marked for evacuation.
    fn evacuating(&self, node: &str) -> i32 {
        let marked = self
            .instances
            .values()
            .filter(|vmi| vmi.status.as_ref().and_then(|s| s.evacuation_node_name.as_deref()) == Some(node));
        i32::try_from(marked.count()).unwrap_or(i32::MAX)
    }
}

/// Reads the infra cluster: three lists, whatever its size.
///
/// # Errors
/// If the API server does not answer.
pub async fn observe(kube: &Client) -> Result<Seen, RpcError> {
    let fault = |e: kube::Error| kube_error("InfraNode", "infra nodes", &e);
    let (nodes, pods, instances) = tokio::try_join!(
        list_all::<Node>(Api::all(kube.clone())),
        list_all::<Pod>(Api::all(kube.clone())),
        list_all::<VirtualMachineInstance>(Api::all(kube.clone())),
    )
    .map_err(fault)?;
    let key = |vmi: &VirtualMachineInstance| {
        (
            vmi.metadata.namespace.clone().unwrap_or_default(),
            vmi.metadata.name.clone().unwrap_or_default(),
        )
    };
    Ok(Seen {
        snapshot: Snapshot::build(&nodes, &pods),
        instances: instances.into_iter().map(|vmi| (key(&vmi), vmi)).collect(),
    })
}

async fn list_all<K>(api: Api<K>) -> Result<Vec<K>, kube::Error>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let mut params = ListParams::default().limit(CHUNK);
    let mut all = Vec::new();
    loop {
        let chunk = api.list(&params).await?;
        let next = chunk.metadata.continue_.clone().unwrap_or_default();
        all.extend(chunk.items);
        if next.is_empty() {
            return Ok(all);
        }
        params = params.continue_token(&next);
    }
}

/// Infra nodes with what was seen on them when the call began.
#[derive(Clone)]
pub struct InfraNodes {
    /// The infra cluster.
    pub kube: Client,
    /// What runs where.
    pub seen: Arc<Seen>,
}

fn read_only() -> RpcError {
    RpcError::new(
        ErrorReason::InvalidState,
        "infra nodes belong to Kubernetes and are only read here",
    )
}

impl Collection for InfraNodes {
    type Object = Node;
    type Message = proto::InfraNode;

    const KIND: &'static str = "InfraNode";
    const MESSAGE: &'static str = "steading.scheduling.v1.InfraNode";
    const FIELD: &'static str = "infra_node";
    const KEYS: Keys = KEYS;

    fn api(&self, _: &str) -> Result<Api<Node>, RpcError> {
        Ok(Api::all(self.kube.clone()))
    }

    fn scope(&self, _: &str) -> Result<collection::Scope, RpcError> {
        Ok(collection::Scope::default())
    }

    fn object_name(&self, name: &str) -> Result<String, RpcError> {
        let name: InfraNodeName = name.parse().map_err(|e| RpcError::invalid_name("name", &e))?;
        Ok(name.infra_node.to_string())
    }

    fn name_in(&self, _: &str, _: &str) -> Result<String, RpcError> {
        Err(read_only())
    }

    fn identity<'a>(&self, message: &'a proto::InfraNode) -> (&'a str, &'a str) {
        (&message.name, &message.etag)
    }

    fn message(&self, object: &Node) -> Option<proto::InfraNode> {
        let name = object.metadata.name.as_deref()?;
        infra_node::infra_node(object, &self.seen.snapshot, self.seen.evacuating(name))
    }

    async fn object(&self, _: &str, _: &proto::InfraNode, _: Option<&Node>) -> Result<Node, RpcError> {
        Err(read_only())
    }
}
