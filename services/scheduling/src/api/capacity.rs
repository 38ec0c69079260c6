//! `CapacityService`.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use kube::{Api, Client, ResourceExt, api::ListParams};
use steading_api::{
    error::RpcError,
    scheduling::v1::{self as proto, capacity_service_server::CapacityService},
};
use steading_infra::{kubevirt::VirtualMachineClusterInstancetype, labels};
use steading_model::name::{InfraNodeName, InstanceTypeName};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    standard::kube_error,
};
use tonic::{Request, Response, Status};

use super::{
    convert::infra_node::resources,
    explain,
    infra_cluster::InfraCluster,
    infra_nodes::{InfraNodeStream, InfraNodes, synced},
    policies::Policies,
    solver::Solver,
    subject::{policy_or_default, read_guest, workload},
};
use crate::{
    domain::{
        Amounts, Placement,
        footprint::Guest,
        resolve::{Subject, resolve},
    },
    error::Error,
    solve::{
        capacity::{counted, solve_capacity},
        problem::{NodeView, Problem, Wanted},
    },
    view::View,
};

/// The service.
#[derive(Clone)]
pub struct CapacityApi {
    /// The infra cluster.
    pub kube: Client,
    /// What the infra cluster can do.
    pub infra_cluster: InfraCluster,
    /// What is seen of it.
    pub view: View,
    /// Where solving happens.
    pub solver: Solver,
}

impl CapacityApi {
    fn nodes(&self) -> InfraNodes {
        InfraNodes {
            kube: self.kube.clone(),
            view: self.view.clone(),
        }
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
        let (subject, placement) = self.placement(&request.policy).await?;
        synced(&self.view).await?;
        let config = self.view.virt_config();
        let wanted = |guest: &Guest| {
            let mut placement = placement.clone();
            placement.node_selector.extend(guest.node_selector(&config));
            Wanted {
                workload: Arc::new(counted(workload(&subject, &placement, guest.requests(&config)))),
                claims: Vec::new(),
            }
        };
        let all: Vec<Wanted> = types.iter().map(|(_, guest)| wanted(guest)).collect();
        let problem = self.view.ask(|world| world.problem(&all, &HashSet::new()));
        let names: Vec<String> = types.into_iter().map(|(name, _)| name).collect();
        let zone = request.zone.clone();
        let mut response = self.solver.run(move || capacity(&problem, &names, &zone)).await?;
        response.warnings = self.view.warnings();
        Ok(response)
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

    /// The placement of machines of nobody's cluster under a policy, and whose they are.
    async fn placement(&self, policy: &str) -> Result<(Subject, Placement), RpcError> {
        let name = policy_or_default("policy", policy)?;
        let project = name.scope.project().map_or("example", |p| p.as_str());
        let subject = Subject {
            cluster: format!("projects/{project}/clusters/example")
                .parse()
                .map_err(|e| RpcError::invalid_name("policy", &e))?,
            pool: None,
            match_labels: BTreeMap::new(),
        };
        if policy.is_empty() {
            return Ok((subject, Placement::default()));
        }
        let policies = Policies {
            kube: self.kube.clone(),
        };
        let policy = policies.usable(&name).await?;
        let placement = resolve(&policy.spec, &subject);
        Ok((subject, placement))
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
        synced(&self.view).await?;
        let known: HashSet<Arc<str>> = self
            .view
            .nodes()
            .iter()
            .map(|entry| entry.observed.name.clone())
            .collect();
        let find = |name: &InfraNodeName| {
            let found = known.get(name.infra_node.as_str()).cloned();
            found.ok_or_else(|| RpcError::from(Error::UnknownInfraNode(name.to_string())))
        };
        let drained = find(&name)?;
        let away = others.iter().map(find).collect::<Result<Vec<Arc<str>>, _>>()?;
        let problem = self.view.ask(|world| world.drain(&drained, away));
        let solution = self.solver.run(move || problem.solve()).await?;
        let migratable = |namespace: &str, machine: &str| self.view.migratable(namespace, machine);
        let mut response = explain::drain(name.infra_node.as_str(), &solution, migratable);
        response.warnings = self.view.warnings();
        Ok(response)
    }
}

/// What is left, by zone and instance type; `types` are the names of the problem's kinds, in their order.
fn capacity(problem: &Problem, types: &[String], zone: &str) -> proto::GetCapacityResponse {
    let mut zones: BTreeMap<&str, Vec<&NodeView>> = BTreeMap::new();
    for (_, view) in problem
        .nodes()
        .filter(|(_, view)| zone.is_empty() || view.node.zone() == zone)
    {
        zones.entry(view.node.zone()).or_default().push(view);
    }
    let mut response = proto::GetCapacityResponse::default();
    let (mut allocatable, mut allocated) = (Amounts::default(), Amounts::default());
    for (zone, nodes) in zones {
        let schedulable: Vec<_> = nodes.iter().filter(|view| view.node.schedulable()).collect();
        let (mut has, mut used) = (Amounts::default(), Amounts::default());
        for view in &schedulable {
            has.add(&view.node.allocatable);
            used.add(&view.allocated);
        }
        allocatable.add(&has);
        allocated.add(&used);
        response.zones.push(proto::ZoneCapacity {
            zone: zone.to_owned(),
            node_count: i32::try_from(nodes.len()).unwrap_or(i32::MAX),
            schedulable_node_count: i32::try_from(schedulable.len()).unwrap_or(i32::MAX),
            allocatable: Some(resources(&has)),
            allocated: Some(resources(&used)),
            instance_types: counts(&problem.only(|view| view.node.zone() == zone), types),
        });
    }
    response.allocatable = Some(resources(&allocatable));
    response.allocated = Some(resources(&allocated));
    // Not the sum over the zones: who must not share a domain that spans zones fits once, not once in each.
    response.instance_types = counts(&problem.only(|view| zone.is_empty() || view.node.zone() == zone), types);
    response
}

fn counts(problem: &Problem, types: &[String]) -> Vec<proto::InstanceTypeCapacity> {
    let counted = types
        .iter()
        .enumerate()
        .map(|(class, name)| proto::InstanceTypeCapacity {
            instance_type: name.clone(),
            machine_count: solve_capacity(problem, class),
        });
    counted.collect()
}

#[tonic::async_trait]
impl CapacityService for CapacityApi {
    type WatchInfraNodesStream = InfraNodeStream;

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
            self.nodes().get(&context, &request.get_ref().name).await?,
        ))
    }

    async fn list_infra_nodes(
        &self,
        request: Request<proto::ListInfraNodesRequest>,
    ) -> Result<Response<proto::ListInfraNodesResponse>, Status> {
        let context = CallContext::from_request(&request);
        Ok(Response::new(self.nodes().list(&context, request.get_ref()).await?))
    }

    async fn watch_infra_nodes(
        &self,
        request: Request<proto::WatchInfraNodesRequest>,
    ) -> Result<Response<Self::WatchInfraNodesStream>, Status> {
        let context = CallContext::from_request(&request);
        Ok(Response::new(self.nodes().watch(&context, request.get_ref()).await?))
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
        Err(RpcError::from(Error::NotImplemented(
            "steading.scheduling.v1.CapacityService/PlanRebalance",
        ))
        .into())
    }
}
