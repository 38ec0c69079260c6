//! `PlacementService`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    pin::Pin,
    sync::Arc,
};

use futures::{Stream, StreamExt};
use kube::{Api, Client};
use steading_api::{
    error::RpcError,
    scheduling::v1::{self as proto, placement_service_server::PlacementService},
};
use steading_infra::kubevirt::VirtualMachineClusterInstancetype;
use steading_model::{
    ids::Id,
    name::{ClusterName, InstanceTypeName, MachinePoolName, PlacementPolicyName, Scope},
    quantity::Quantity,
    violation::Violations,
};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    clock::Clock,
    collection::{self, CreateRequest, DeleteRequest, ListRequest, UpdateRequest, WatchRequest, kube_error},
};
use tonic::{Request, Response, Status};

use super::{
    convert::{placement as convert, policy::policy_from},
    explain::explain,
    infra_nodes::synced,
    policies::{Policies, parse_name},
    solver::Solver,
};
use crate::{
    domain::{
        Amounts, Constraints, Placement,
        footprint::{Guest, VirtConfig},
        policy::{Reach, validate},
        resolve::{DEFAULT_POLICY, Subject, resolve},
        selector::Labels,
    },
    error::Error,
    observe::Workload,
    solve::{filter::Audience, problem::Wanted},
    view::View,
};

/// Most replicas that one explanation places.
const MAX_REPLICAS: i32 = 1000;

/// The service.
#[derive(Clone)]
pub struct PlacementApi {
    /// The infra cluster.
    pub kube: Client,
    /// Dates deletions.
    pub clock: Clock,
    /// What is seen of the infra cluster.
    pub view: View,
    /// Where solving happens.
    pub solver: Solver,
}

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl PlacementApi {
    fn policies(&self) -> Policies {
        Policies {
            kube: self.kube.clone(),
        }
    }

    async fn resolve(
        &self,
        context: &CallContext,
        request: &proto::ResolvePlacementRequest,
    ) -> Result<proto::ResolvePlacementResponse, RpcError> {
        let name = policy_or_default("policy", &request.policy)?;
        let subject = subject(&request.cluster, &request.pool, &request.match_labels)?;
        context
            .authorize(Action::new(Verb::Custom("resolve"), "PlacementPolicy", &name))
            .await?;
        visible(&name.scope, &name.to_string(), &subject.cluster.project)?;
        let (policy, etag) = self.policies().usable(&name).await?;
        Ok(proto::ResolvePlacementResponse {
            placement: Some(convert::placement(&resolve(&policy, &subject))),
            policy: name.to_string(),
            policy_etag: etag,
        })
    }

    async fn explain(
        &self,
        context: &CallContext,
        request: &proto::ExplainPlacementRequest,
    ) -> Result<proto::ExplainPlacementResponse, RpcError> {
        let name = parse_name("name", &request.name)?;
        if !(0..=MAX_REPLICAS).contains(&request.replicas) {
            return Err(Violations::one("replicas", format!("must be 0 to {MAX_REPLICAS}")).into());
        }
        let project = name.scope.project().map_or("example", |p| p.as_str());
        let example = format!("projects/{project}/clusters/example");
        let cluster = if request.cluster.is_empty() {
            &example
        } else {
            &request.cluster
        };
        let subject = subject(cluster, &request.pool, &request.match_labels)?;
        context
            .authorize(Action::new(Verb::Custom("explain"), "PlacementPolicy", &name))
            .await?;
        visible(&name.scope, &request.name, &subject.cluster.project)?;

        let policy = match &request.policy {
            Some(proposal) => {
                let spec = policy_from(proposal).map_err(prefixed)?;
                // Whoever may explain may propose: a proposal sees no further than a project's policy.
                validate(&spec, Reach::OwnNamespace).map_err(prefixed)?;
                spec
            }
            None => self.policies().usable(&name).await?.0,
        };
        let config = self.view.virt_config();
        let (requests, node_selector) = self.size(request, &subject.cluster.project, &config).await?;
        let mut placement = resolve(&policy, &subject);
        placement.node_selector.extend(node_selector);
        let wanted = Wanted {
            workload: Arc::new(workload(&subject, &placement, requests)),
            claims: Vec::new(),
        };
        synced(&self.view).await?;
        let problem = self.view.ask(|world| world.problem(&[wanted], &HashSet::new()));
        let replicas = usize::try_from(request.replicas.max(1)).unwrap_or(1);
        let spread = placement.topology_spread_constraints.clone();
        let project = subject.cluster.project.clone();
        let solved = self
            .solver
            .run(move || explain(&problem, replicas, &spread, Audience::Project(&project)));
        let mut response = solved.await?;
        response.placement = Some(convert::placement(&placement));
        response.warnings = self.view.warnings();
        Ok(response)
    }

    async fn size(
        &self,
        request: &proto::ExplainPlacementRequest,
        project: &Id,
        config: &VirtConfig,
    ) -> Result<(Amounts, BTreeMap<String, String>), RpcError> {
        let architecture = Some(request.architecture.clone()).filter(|name| !name.is_empty());
        if !request.instance_type.is_empty() {
            if request.resources.is_some() {
                return Err(Violations::one("resources", "must not be set together with instance_type").into());
            }
            let guest = read_guest(&self.kube, "instance_type", &request.instance_type, Some(project)).await?;
            let guest = Guest { architecture, ..guest };
            return Ok((guest.requests(config), guest.node_selector(config)));
        }
        let guest = Guest {
            vcpus: 1,
            memory: 1 << 30,
            architecture,
            ..Guest::default()
        };
        let Some(resources) = &request.resources else {
            return Ok((guest.requests(config), guest.node_selector(config)));
        };
        let mut violations = Violations::new();
        let mut amounts = Amounts {
            pods: 1,
            ..Amounts::default()
        };
        let mut number = |path: String, text: &str, read: fn(Quantity) -> u64| {
            let quantity = violations.take(path, if text.is_empty() { "0" } else { text }.parse::<Quantity>());
            quantity.and_then(|q| i64::try_from(read(q)).ok()).unwrap_or_default()
        };
        amounts.cpu_millis = number("resources.cpu".into(), &resources.cpu, Quantity::millis);
        amounts.memory = number("resources.memory".into(), &resources.memory, Quantity::bytes);
        for (name, text) in &resources.extended {
            let amount = number(format!("resources.extended.{name}"), text, Quantity::units);
            amounts.extended.insert(Arc::from(name.as_str()), amount);
        }
        violations.finish()?;
        Ok((amounts, guest.node_selector(config)))
    }
}

fn prefixed(violations: Violations) -> RpcError {
    let mut nested = Violations::new();
    nested.nest("policy", violations);
    nested.into()
}

/// A policy's name, or that of the default.
pub(crate) fn policy_or_default(path: &str, name: &str) -> Result<PlacementPolicyName, RpcError> {
    let default = format!("placementPolicies/{DEFAULT_POLICY}");
    parse_name(path, if name.is_empty() { &default } else { name })
}

fn visible(scope: &Scope, name: &str, project: &Id) -> Result<(), RpcError> {
    if scope.visible_to(project) {
        Ok(())
    } else {
        Err(Error::OtherProject {
            name: name.to_owned(),
            project: project.to_string(),
        }
        .into())
    }
}

fn subject(cluster: &str, pool: &str, match_labels: &HashMap<String, String>) -> Result<Subject, RpcError> {
    let cluster: ClusterName = cluster.parse().map_err(|e| RpcError::invalid_name("cluster", &e))?;
    let pool = match pool {
        "" => None,
        name if name.contains('/') => {
            let name: MachinePoolName = name.parse().map_err(|e| RpcError::invalid_name("pool", &e))?;
            if name.cluster != cluster {
                return Err(Violations::one("pool", "must be a pool of the cluster").into());
            }
            name.object_name().parse::<Id>().ok()
        }
        id => Some(Id::parse(id).map_err(|e| RpcError::from(Violations::one("pool", e.to_string())))?),
    };
    Ok(Subject {
        cluster,
        pool,
        match_labels: match_labels.clone().into_iter().collect(),
    })
}

/// A machine of the subject's kind.
pub(crate) fn workload(subject: &Subject, placement: &Placement, requests: Amounts) -> Workload {
    let labels = Labels::from(&subject.labels());
    let namespace = subject.cluster.namespace();
    Workload {
        constraints: Arc::new(Constraints::compile(placement, &namespace, &labels)),
        namespace,
        labels,
        requests,
    }
}

/// Size of an instance type of the infra cluster.
pub(crate) async fn read_guest(kube: &Client, path: &str, name: &str, project: Option<&Id>) -> Result<Guest, RpcError> {
    let parsed: InstanceTypeName = name.parse().map_err(|e| RpcError::invalid_name(path, &e))?;
    if let Some(project) = project {
        visible(&parsed.scope, name, project)?;
    }
    let api: Api<VirtualMachineClusterInstancetype> = Api::all(kube.clone());
    let found = api
        .get_opt(&parsed.object_name())
        .await
        .map_err(|e| kube_error("InstanceType", name, &e))?;
    let spec = found.and_then(|object| serde_json::to_value(object.spec).ok());
    let guest = spec.as_ref().and_then(Guest::from_instancetype_spec);
    guest.ok_or_else(|| Error::UnknownInstanceType(name.to_owned()).into())
}

#[tonic::async_trait]
impl PlacementService for PlacementApi {
    type WatchPlacementPoliciesStream = ResponseStream<proto::WatchPlacementPoliciesResponse>;

    async fn create_placement_policy(
        &self,
        request: Request<proto::CreatePlacementPolicyRequest>,
    ) -> Result<Response<proto::PlacementPolicy>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let create = CreateRequest {
            parent: r.parent,
            id: r.placement_policy_id,
            message: r.placement_policy,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            collection::create(&self.policies(), &context, &create).await?,
        ))
    }

    async fn get_placement_policy(
        &self,
        request: Request<proto::GetPlacementPolicyRequest>,
    ) -> Result<Response<proto::PlacementPolicy>, Status> {
        let context = CallContext::from_request(&request);
        Ok(Response::new(
            collection::get(&self.policies(), &context, &request.get_ref().name).await?,
        ))
    }

    async fn list_placement_policies(
        &self,
        request: Request<proto::ListPlacementPoliciesRequest>,
    ) -> Result<Response<proto::ListPlacementPoliciesResponse>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let list = ListRequest {
            parent: r.parent,
            page_size: r.page_size,
            page_token: r.page_token,
            filter: r.filter,
            order_by: r.order_by,
        };
        let (placement_policies, next_page_token) = collection::list(&self.policies(), &context, &list).await?;
        Ok(Response::new(proto::ListPlacementPoliciesResponse {
            placement_policies,
            next_page_token,
        }))
    }

    async fn update_placement_policy(
        &self,
        request: Request<proto::UpdatePlacementPolicyRequest>,
    ) -> Result<Response<proto::PlacementPolicy>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let update = UpdateRequest {
            message: r.placement_policy,
            mask: r.update_mask,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            collection::update(&self.policies(), &context, &update).await?,
        ))
    }

    async fn delete_placement_policy(
        &self,
        request: Request<proto::DeletePlacementPolicyRequest>,
    ) -> Result<Response<proto::PlacementPolicy>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let delete = DeleteRequest {
            name: r.name,
            etag: r.etag,
            allow_missing: r.allow_missing,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            collection::delete(&self.policies(), &context, &self.clock, &delete).await?,
        ))
    }

    async fn watch_placement_policies(
        &self,
        request: Request<proto::WatchPlacementPoliciesRequest>,
    ) -> Result<Response<Self::WatchPlacementPoliciesStream>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let watch = WatchRequest {
            parent: r.parent,
            filter: r.filter,
            resume_token: r.resume_token,
        };
        let events = collection::watch(&self.policies(), &context, &watch).await?;
        Ok(Response::new(Box::pin(events.map(|event| {
            let event = event?;
            Ok(proto::WatchPlacementPoliciesResponse {
                r#type: event.kind.into(),
                placement_policy: event.message,
                resume_token: event.resume_token,
            })
        }))))
    }

    async fn resolve_placement(
        &self,
        request: Request<proto::ResolvePlacementRequest>,
    ) -> Result<Response<proto::ResolvePlacementResponse>, Status> {
        let context = CallContext::from_request(&request);
        Ok(Response::new(self.resolve(&context, request.get_ref()).await?))
    }

    async fn explain_placement(
        &self,
        request: Request<proto::ExplainPlacementRequest>,
    ) -> Result<Response<proto::ExplainPlacementResponse>, Status> {
        let context = CallContext::from_request(&request);
        Ok(Response::new(self.explain(&context, request.get_ref()).await?))
    }
}
