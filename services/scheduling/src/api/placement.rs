//! `PlacementService`.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use kube::Client;
use steading_api::{
    error::RpcError,
    scheduling::v1::{self as proto, placement_service_server::PlacementService},
};
use steading_model::{ids::Id, quantity::Quantity, violation::Violations};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    clock::Clock,
    standard::{Methods, ResponseStream},
};
use tonic::{Request, Response, Status};

use super::{
    convert::{placement as convert, policy::policy_from},
    explain::explain,
    infra_nodes::synced,
    policies::Policies,
    solver::Solver,
    subject::{parse_policy, policy_or_default, read_guest, subject, visible, workload},
};
use crate::{
    domain::{
        Amounts,
        footprint::{Guest, VirtConfig},
        policy::{Reach, validate},
        resolve::resolve,
    },
    solve::{filter::Audience, problem::Wanted},
    view::View,
};

/// Most replicas that one explanation places.
const MAX_REPLICAS: i32 = 1000;

/// The service.
#[derive(Clone)]
pub struct PlacementApi {
    kube: Client,
    policies: Methods<Policies>,
    view: View,
    solver: Solver,
}

impl PlacementApi {
    /// The service on an infra cluster, what is seen of it, and where solving happens.
    pub fn new(kube: Client, clock: Clock, view: View, solver: Solver) -> Self {
        let policies = Policies { kube: kube.clone() };
        Self {
            kube,
            policies: Methods::new(policies, clock),
            view,
            solver,
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
        let policy = self.policies.collection().usable(&name).await?;
        let shown = policy.object.as_ref().map(|object| self.policies.show(object));
        let shown = shown.transpose()?.flatten();
        Ok(proto::ResolvePlacementResponse {
            placement: Some(convert::placement(&resolve(&policy.spec, &subject))),
            policy: name.to_string(),
            policy_etag: shown.map(|policy| policy.etag).unwrap_or_default(),
        })
    }

    async fn explain(
        &self,
        context: &CallContext,
        request: &proto::ExplainPlacementRequest,
    ) -> Result<proto::ExplainPlacementResponse, RpcError> {
        let name = parse_policy("name", &request.name)?;
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
            None => self.policies.collection().usable(&name).await?.spec,
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

#[tonic::async_trait]
impl PlacementService for PlacementApi {
    type WatchPlacementPoliciesStream = ResponseStream<proto::WatchPlacementPoliciesResponse>;

    async fn get_placement_policy(
        &self,
        request: Request<proto::GetPlacementPolicyRequest>,
    ) -> Result<Response<proto::PlacementPolicy>, Status> {
        self.policies.get(request).await
    }

    async fn list_placement_policies(
        &self,
        request: Request<proto::ListPlacementPoliciesRequest>,
    ) -> Result<Response<proto::ListPlacementPoliciesResponse>, Status> {
        self.policies.list(request).await
    }

    async fn create_placement_policy(
        &self,
        request: Request<proto::CreatePlacementPolicyRequest>,
    ) -> Result<Response<proto::PlacementPolicy>, Status> {
        self.policies.create(request).await
    }

    async fn update_placement_policy(
        &self,
        request: Request<proto::UpdatePlacementPolicyRequest>,
    ) -> Result<Response<proto::PlacementPolicy>, Status> {
        self.policies.update(request).await
    }

    async fn delete_placement_policy(
        &self,
        request: Request<proto::DeletePlacementPolicyRequest>,
    ) -> Result<Response<proto::PlacementPolicy>, Status> {
        self.policies.delete(request).await
    }

    async fn watch_placement_policies(
        &self,
        request: Request<proto::WatchPlacementPoliciesRequest>,
    ) -> Result<Response<Self::WatchPlacementPoliciesStream>, Status> {
        self.policies.watch(request).await
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
