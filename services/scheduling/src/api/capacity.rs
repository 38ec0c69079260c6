//! `CapacityService`.

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use kube::{Api, Client, ResourceExt, api::ListParams};
use steading_api::{
    error::RpcError,
    scheduling::v1::{self as proto, capacity_service_server::CapacityService},
};
use steading_infra::{
    crd::placement_policy::PlacementPolicy,
    kubevirt::{VirtualMachineClusterInstancetype, condition_is_true},
    labels,
};
use steading_model::name::{InfraNodeName, InstanceTypeName};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    collection::{self, ListRequest, WatchRequest, kube_error},
};
use tonic::{Request, Response, Status};

use super::{
    convert::infra_node::resources,
    infra_cluster::InfraCluster,
    infra_nodes::{InfraNodes, Seen, observe},
    placement::read_guest,
    policies::parse_name,
};
use crate::{
    domain::{
        Amounts,
        footprint::{DEFAULT_CPU_ALLOCATION_RATIO, Guest},
        placement::Constraints,
        resolve::{Subject, resolve},
    },
    error::Error,
    explain,
    snapshot::{NodeOrd, Snapshot, SnapshotNode, Workload},
    solve::{drain::solve_drain, filter, filter::Predicate, spread::SpreadState},
};

/// Machines of one type at which counting ends.
const MAX_COUNT: i64 = 10_000;

/// The service.
#[derive(Clone)]
pub struct CapacityApi {
    /// The infra cluster.
    pub kube: Client,
    /// What the infra cluster can do.
    pub infra_cluster: InfraCluster,
}

impl CapacityApi {
    async fn nodes(&self) -> Result<InfraNodes, RpcError> {
        Ok(InfraNodes {
            kube: self.kube.clone(),
            seen: Arc::new(observe(&self.kube).await?),
        })
    }

    async fn capacity(
        &self,
        context: &CallContext,
        request: &proto::GetCapacityRequest,
    ) -> Result<proto::GetCapacityResponse, RpcError> {
        context
            .authorize(Action::new(Verb::Custom("capacity"), "InfraNode", ""))
            .await?;
        let types = self.instance_types(&request.instance_types).await?;
        let constraints = self.constraints(&request.policy).await?;
        let seen = observe(&self.kube).await?;
        Ok(capacity(&seen.snapshot, &types, &constraints, &request.zone))
    }

    async fn instance_types(&self, names: &[String]) -> Result<Vec<(String, Guest)>, RpcError> {
        let mut types = Vec::new();
        if names.is_empty() {
            let api: Api<VirtualMachineClusterInstancetype> = Api::all(self.kube.clone());
            let shared = ListParams::default().labels(&format!("!{}", labels::PROJECT));
            let found = api
                .list(&shared)
                .await
                .map_err(|e| kube_error("InstanceType", "instance types", &e))?;
            for object in found {
                let name = InstanceTypeName::from_object_name(&object.name_any());
                let spec = serde_json::to_value(&object.spec).ok();
                if let (Some(name), Some(guest)) = (name, spec.as_ref().and_then(Guest::from_instancetype_spec)) {
                    types.push((name.to_string(), guest));
                }
            }
        }
        for name in names {
            types.push((
                name.clone(),
                read_guest(&self.kube, "instance_types", name, None).await?,
            ));
        }
        Ok(types)
    }

    async fn constraints(&self, policy: &str) -> Result<Constraints, RpcError> {
        if policy.is_empty() {
            return Ok(Constraints::default());
        }
        let name = parse_name("policy", policy)?;
        let api: Api<PlacementPolicy> = Api::all(self.kube.clone());
        let found = api
            .get_opt(&name.object_name())
            .await
            .map_err(|e| kube_error("PlacementPolicy", policy, &e))?;
        let object = found.ok_or_else(|| Error::UnknownPolicy(policy.to_owned()))?;
        let project = name.scope.project().map_or("example", |p| p.as_str());
        let subject = Subject {
            cluster: format!("projects/{project}/clusters/example")
                .parse()
                .map_err(|e| RpcError::invalid_name("policy", &e))?,
            pool: None,
            match_labels: BTreeMap::new(),
        };
        Ok(Constraints::compile(&resolve(&object.spec, &subject), &subject.labels()).map_err(Error::from)?)
    }

    async fn simulate(
        &self,
        context: &CallContext,
        request: &proto::SimulateDrainRequest,
    ) -> Result<proto::SimulateDrainResponse, RpcError> {
        let parse = |path: &str, name: &str| {
            name.parse::<InfraNodeName>()
                .map_err(|e| RpcError::invalid_name(path, &e))
        };
        let name = parse("name", &request.name)?;
        let others = request
            .also_drained
            .iter()
            .map(|n| parse("also_drained", n))
            .collect::<Result<Vec<_>, _>>()?;
        context
            .authorize(Action::new(Verb::Custom("simulateDrain"), "InfraNode", &name))
            .await?;
        let seen = observe(&self.kube).await?;
        let find = |name: &InfraNodeName| {
            let found = seen.snapshot.find(name.infra_node.as_str());
            found.ok_or_else(|| RpcError::from(Error::UnknownInfraNode(name.to_string())))
        };
        let drained = find(&name)?;
        let away = others.iter().map(find).collect::<Result<Vec<NodeOrd>, _>>()?;
        let solution = solve_drain(&seen.snapshot, drained, &away);
        let all: Vec<NodeOrd> = away.into_iter().chain([drained]).collect();
        Ok(explain::drain(
            name.infra_node.as_str(),
            &solution,
            &all,
            |namespace, machine| migratable(&seen, namespace, machine),
        ))
    }
}

fn migratable(seen: &Seen, namespace: &str, machine: &str) -> bool {
    let vmi = seen.instances.get(&(namespace.to_owned(), machine.to_owned()));
    vmi.and_then(|v| v.status.as_ref())
        .is_some_and(|s| condition_is_true(&s.conditions, "LiveMigratable"))
}

/// What is left, by zone and instance type.
fn capacity(
    snapshot: &Snapshot,
    types: &[(String, Guest)],
    constraints: &Constraints,
    zone: &str,
) -> proto::GetCapacityResponse {
    let mut zones: BTreeMap<&str, Vec<(NodeOrd, &SnapshotNode)>> = BTreeMap::new();
    for (ord, node) in snapshot
        .nodes()
        .filter(|(_, node)| zone.is_empty() || node.zone() == zone)
    {
        zones.entry(node.zone()).or_default().push((ord, node));
    }
    let mut response = proto::GetCapacityResponse::default();
    let (mut allocatable, mut allocated) = (Amounts::default(), Amounts::default());
    let mut totals: BTreeMap<&str, i64> = BTreeMap::new();
    for (zone, nodes) in zones {
        let schedulable: Vec<_> = nodes.iter().filter(|(_, node)| node.schedulable()).collect();
        let (mut has, mut used) = (Amounts::default(), Amounts::default());
        for (_, node) in &schedulable {
            has.add(&node.allocatable);
            used.add(&node.allocated);
        }
        let mut counts = Vec::new();
        for (name, guest) in types {
            let fits = schedulable
                .iter()
                .map(|(ord, node)| fits(snapshot, *ord, node, guest, constraints))
                .sum::<i64>();
            let total = totals.entry(name).or_default();
            *total = (*total + fits).min(MAX_COUNT);
            counts.push(proto::InstanceTypeCapacity {
                instance_type: name.clone(),
                machine_count: fits.min(MAX_COUNT),
            });
        }
        response.zones.push(proto::ZoneCapacity {
            zone: zone.to_owned(),
            node_count: i32::try_from(nodes.len()).unwrap_or(i32::MAX),
            schedulable_node_count: i32::try_from(schedulable.len()).unwrap_or(i32::MAX),
            allocatable: Some(resources(&has)),
            allocated: Some(resources(&used)),
            instance_types: counts,
        });
        allocatable.add(&has);
        allocated.add(&used);
    }
    response.allocatable = Some(resources(&allocatable));
    response.allocated = Some(resources(&allocated));
    response.instance_types = totals
        .into_iter()
        .map(|(name, machine_count)| proto::InstanceTypeCapacity {
            instance_type: name.to_owned(),
            machine_count,
        })
        .collect();
    response
}

/// Spread is left out: it says how machines of one pool share the room, not how much room there is.
fn fits(snapshot: &Snapshot, ord: NodeOrd, node: &SnapshotNode, guest: &Guest, constraints: &Constraints) -> i64 {
    let mut constraints = constraints.clone();
    constraints.spread.clear();
    constraints.node_selector.extend(guest.node_selector.clone());
    let requests = guest.requests(DEFAULT_CPU_ALLOCATION_RATIO);
    let workload = Workload {
        requests: requests.clone(),
        constraints,
        ..Workload::default()
    };
    let state = SpreadState::count(&Snapshot::default(), &workload);
    let static_predicates = [Predicate::Taints, Predicate::NodeSelector, Predicate::NodeAffinity];
    if static_predicates
        .into_iter()
        .any(|p| filter::judge(snapshot, &workload, &state, ord, p).is_err())
    {
        return 0;
    }
    node.allocatable.minus(&node.allocated).fits(&requests, MAX_COUNT)
}

#[tonic::async_trait]
impl CapacityService for CapacityApi {
    type WatchInfraNodesStream = Pin<Box<dyn Stream<Item = Result<proto::WatchInfraNodesResponse, Status>> + Send>>;

    async fn get_infra_cluster(
        &self,
        request: Request<proto::GetInfraClusterRequest>,
    ) -> Result<Response<proto::InfraCluster>, Status> {
        let context = CallContext::from_request(&request);
        Ok(Response::new(
            self.infra_cluster.get(&context, &request.get_ref().name).await?,
        ))
    }

    async fn get_infra_node(
        &self,
        request: Request<proto::GetInfraNodeRequest>,
    ) -> Result<Response<proto::InfraNode>, Status> {
        let context = CallContext::from_request(&request);
        Ok(Response::new(
            collection::get(&self.nodes().await?, &context, &request.get_ref().name).await?,
        ))
    }

    async fn list_infra_nodes(
        &self,
        request: Request<proto::ListInfraNodesRequest>,
    ) -> Result<Response<proto::ListInfraNodesResponse>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let list = ListRequest {
            parent: String::new(),
            page_size: r.page_size,
            page_token: r.page_token,
            filter: r.filter,
            order_by: r.order_by,
        };
        let (infra_nodes, next_page_token) = collection::list(&self.nodes().await?, &context, &list).await?;
        Ok(Response::new(proto::ListInfraNodesResponse {
            infra_nodes,
            next_page_token,
        }))
    }

    async fn watch_infra_nodes(
        &self,
        request: Request<proto::WatchInfraNodesRequest>,
    ) -> Result<Response<Self::WatchInfraNodesStream>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let watch = WatchRequest {
            parent: String::new(),
            filter: r.filter,
            resume_token: r.resume_token,
        };
        let events = collection::watch(&self.nodes().await?, &context, &watch).await?;
        Ok(Response::new(Box::pin(events.map(|event| {
            let event = event?;
            Ok(proto::WatchInfraNodesResponse {
                r#type: event.kind.into(),
                infra_node: event.message,
                resume_token: event.resume_token,
            })
        }))))
    }

    async fn get_capacity(
        &self,
        request: Request<proto::GetCapacityRequest>,
    ) -> Result<Response<proto::GetCapacityResponse>, Status> {
        let context = CallContext::from_request(&request);
        Ok(Response::new(self.capacity(&context, request.get_ref()).await?))
    }

    async fn simulate_drain(
        &self,
        request: Request<proto::SimulateDrainRequest>,
    ) -> Result<Response<proto::SimulateDrainResponse>, Status> {
        let context = CallContext::from_request(&request);
        Ok(Response::new(self.simulate(&context, request.get_ref()).await?))
    }

    async fn plan_rebalance(
        &self,
        _: Request<proto::PlanRebalanceRequest>,
    ) -> Result<Response<proto::PlanRebalanceResponse>, Status> {
        Err(RpcError::not_implemented("steading.scheduling.v1.CapacityService/PlanRebalance").into())
    }
}
