//! `MaintenanceService`.

use k8s_openapi::api::core::v1::Node;
use steading_api::{
    error::RpcError,
    lifecycle::v1::{self as proto, maintenance_service_server::MaintenanceService},
};
use steading_model::{name::InfraNodeName, violation::Violations};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    standard::{Methods, ResponseStream, kube_error},
};
use tonic::{Request, Response, Status};

use super::{convert::maintenance as convert, maintenances::Maintenances};
use crate::{
    context::Context,
    observe::evacuation::observe_node,
    plan::{evacuation::ObservedMachine, maintenance::make_plan},
};

/// The service.
#[derive(Clone, Debug)]
pub struct MaintenanceApi {
    maintenances: Methods<Maintenances>,
}

impl MaintenanceApi {
    /// The service with what calls have at hand.
    pub fn new(context: &Context) -> Self {
        let maintenances = Maintenances {
            context: context.clone(),
        };
        Self {
            maintenances: Methods::new(maintenances, context.clock.clone()),
        }
    }
}

#[tonic::async_trait]
impl MaintenanceService for MaintenanceApi {
    type WatchMaintenancesStream = ResponseStream<proto::WatchMaintenancesResponse>;

    async fn get_maintenance(
        &self,
        request: Request<proto::GetMaintenanceRequest>,
    ) -> Result<Response<proto::Maintenance>, Status> {
        self.maintenances.get(request).await
    }

    async fn list_maintenances(
        &self,
        request: Request<proto::ListMaintenancesRequest>,
    ) -> Result<Response<proto::ListMaintenancesResponse>, Status> {
        self.maintenances.list(request).await
    }

    async fn create_maintenance(
        &self,
        request: Request<proto::CreateMaintenanceRequest>,
    ) -> Result<Response<proto::Maintenance>, Status> {
        self.maintenances.create(request).await
    }

    async fn delete_maintenance(
        &self,
        request: Request<proto::DeleteMaintenanceRequest>,
    ) -> Result<Response<proto::Maintenance>, Status> {
        self.maintenances.delete(request).await
    }

    async fn watch_maintenances(
        &self,
        request: Request<proto::WatchMaintenancesRequest>,
    ) -> Result<Response<Self::WatchMaintenancesStream>, Status> {
        self.maintenances.watch(request).await
    }

    async fn start_maintenance(
        &self,
        request: Request<proto::StartMaintenanceRequest>,
    ) -> Result<Response<proto::Maintenance>, Status> {
        self.maintenances.act(request).await
    }

    async fn cancel_maintenance(
        &self,
        request: Request<proto::CancelMaintenanceRequest>,
    ) -> Result<Response<proto::Maintenance>, Status> {
        self.maintenances.act(request).await
    }

    async fn complete_maintenance(
        &self,
        request: Request<proto::CompleteMaintenanceRequest>,
    ) -> Result<Response<proto::Maintenance>, Status> {
        self.maintenances.act(request).await
    }

    async fn plan_maintenance(
        &self,
        request: Request<proto::PlanMaintenanceRequest>,
    ) -> Result<Response<proto::MaintenancePlan>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let name: InfraNodeName = r.name.parse().map_err(|e| RpcError::invalid_name("name", &e))?;
        let mut found = Violations::new();
        let strategy = convert::strategy(&mut found, r.strategy);
        found.finish().map_err(RpcError::from)?;
        call.authorize(Action::new(
            Verb::Custom("planMaintenance"),
            InfraNodeName::KIND,
            &r.name,
        ))
        .await?;
        let context = &self.maintenances.collection().context;
        let node = name.object_name();
        let known = context
            .all::<Node>()
            .get_opt(&node)
            .await
            .map_err(|error| kube_error(InfraNodeName::KIND, &r.name, &error))?;
        if known.is_none() {
            return Err(RpcError::not_found(InfraNodeName::KIND, &r.name).into());
        }
        let sight = observe_node(context, &node).await;
        let machines: Vec<&ObservedMachine> = sight.machines.iter().collect();
        let plan = make_plan(
            &machines,
            strategy,
            sight.unmanaged,
            sight.capacity_known,
            context.clock.now(),
        );
        Ok(Response::new(convert::plan_of(&plan, &node)))
    }
}
