//! `MaintenanceService`: stores what is wanted; the reconciler moves machines.

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use steading_api::{
    error::RpcError,
    lifecycle::v1::{
        CancelMaintenanceRequest, CompleteMaintenanceRequest, CreateMaintenanceRequest, DeleteMaintenanceRequest,
        GetMaintenanceRequest, ListMaintenancesRequest, ListMaintenancesResponse, Maintenance as Message,
        MaintenancePlan, PlanMaintenanceRequest, StartMaintenanceRequest, WatchMaintenancesRequest,
        WatchMaintenancesResponse,
        maintenance_service_server::{MaintenanceService, MaintenanceServiceServer},
    },
    types::v1::ErrorReason,
};
use steading_infra::{
    apply::PatchBuilder,
    crd::{Maintenance, maintenance::MaintenanceDesire},
};
use steading_model::{
    ids::Id,
    name::{InfraNodeName, MaintenanceName},
    violation::Violations,
};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    collection::{self, Collection, CreateRequest, DeleteRequest, Keys, ListRequest, Scope, WatchRequest, kube_error},
    server::GrpcServer,
};
use tonic::{Request, Response, Status};

use super::{
    KEYS,
    convert::{ResponseStream, maintenance as convert, nested, responses, write_meta},
};
use crate::{
    context::Context,
    observe::evacuation::observe_node,
    plan::{
        evacuation::ObservedMachine,
        maintenance::{State, make_plan},
    },
};

/// Adds the service to a server.
pub fn add(server: GrpcServer, context: &Context) -> GrpcServer {
    let api = MaintenanceApi {
        maintenances: Maintenances {
            context: context.clone(),
        },
    };
    server.add_service(MaintenanceServiceServer::new(api))
}

/// Maintenances as objects of the infra cluster.
#[derive(Clone, Debug)]
pub struct Maintenances {
    context: Context,
}

impl Collection for Maintenances {
    type Object = Maintenance;
    type Message = Message;

    const KIND: &'static str = "Maintenance";
    const MESSAGE: &'static str = "steading.lifecycle.v1.Maintenance";
    const FIELD: &'static str = "maintenance";
    const KEYS: Keys = KEYS;

    fn api(&self, _: &str) -> Result<Api<Maintenance>, RpcError> {
        Ok(self.context.all())
    }

    fn scope(&self, _: &str) -> Result<Scope, RpcError> {
        Ok(Scope::default())
    }

    fn object_name(&self, name: &str) -> Result<String, RpcError> {
        let name: MaintenanceName = name.parse().map_err(|e| RpcError::invalid_name("name", &e))?;
        Ok(name.object_name())
    }

    fn name_in(&self, _: &str, id: &str) -> Result<String, RpcError> {
        let id = Id::parse(id).map_err(|e| RpcError::from(Violations::one("maintenance_id", e.to_string())))?;
        Ok(MaintenanceName::new(id).to_string())
    }

    fn identity<'a>(&self, message: &'a Message) -> (&'a str, &'a str) {
        (&message.name, &message.etag)
    }

    fn message(&self, object: &Maintenance) -> Option<Message> {
        convert::message(object)
    }

    async fn object(
        &self,
        name: &str,
        message: &Message,
        current: Option<&Maintenance>,
    ) -> Result<Maintenance, RpcError> {
        let id = self.object_name(name)?;
        let spec = match convert::spec(message, current.map(|one| &one.spec)) {
            Ok(spec) => spec,
            Err(found) => return Err(nested(Self::FIELD, found).err().unwrap_or_else(RpcError::internal)),
        };
        self.require_node(&spec.infra_node, "maintenance.infra_node").await?;
        let mut object = current.cloned().unwrap_or_else(|| Maintenance::new(&id, spec.clone()));
        object.spec = spec;
        write_meta(&mut object.metadata, (&message.labels, &message.annotations), &[]);
        Ok(object)
    }
}

impl Maintenances {
    async fn require_node(&self, node: &str, path: &str) -> Result<(), RpcError> {
        let found = self.context.all::<Node>().get_opt(node).await;
        let name = format!("infraNodes/{node}");
        match found.map_err(|error| kube_error("InfraNode", &name, &error))? {
            Some(_) => Ok(()),
            None => Err(
                RpcError::new(ErrorReason::ReferenceNotFound, format!("{name} does not exist"))
                    .with_resource("InfraNode", name)
                    .with_field(path, "does not exist"),
            ),
        }
    }

    /// Sets how far a maintenance is to go, if `check` allows it.
    async fn desire(
        &self,
        call: &CallContext,
        wish: Wish<'_>,
        check: impl Fn(&Maintenance, State) -> Result<(), RpcError>,
    ) -> Result<Message, RpcError> {
        let object_name = self.object_name(wish.name)?;
        if !wish.request_id.is_empty() && uuid::Uuid::try_parse(wish.request_id).is_err() {
            return Err(Violations::one("request_id", "must be a UUID").into());
        }
        call.authorize(Action::new(Verb::Custom(wish.verb), Self::KIND, wish.name))
            .await?;
        let api: Api<Maintenance> = self.context.all();
        let failed = |error: &kube::Error| kube_error(Self::KIND, wish.name, error);
        let current = api.get_opt(&object_name).await.map_err(|error| failed(&error))?;
        let current = current.ok_or_else(|| RpcError::not_found(Self::KIND, wish.name))?;
        let shown = |object: &Maintenance| self.message(object).ok_or_else(RpcError::internal);
        // Asked for already: the answer to a repeated request.
        if current.spec.desired_state == wish.state {
            return shown(&current);
        }
        let version = current.metadata.resource_version.clone().unwrap_or_default();
        if !wish.etag.is_empty() && wish.etag != version {
            return Err(RpcError::etag_mismatch(Self::KIND, wish.name));
        }
        if current.metadata.deletion_timestamp.is_some() {
            return Err(RpcError::new(
                ErrorReason::ResourceDeleting,
                format!("{} is being deleted", wish.name),
            ));
        }
        check(&current, State::of(&current.status.clone().unwrap_or_default()))?;
        if wish.validate_only {
            return shown(&current);
        }
        let state = serde_json::to_value(wish.state).map_err(|_| RpcError::internal())?;
        let patch = PatchBuilder::new()
            .test(&["metadata", "resourceVersion"], version)
            .add(&["spec", "desiredState"], state)
            .build();
        let params = kube::api::PatchParams {
            field_manager: Some(steading_infra::labels::LIFECYCLE_MANAGER.to_owned()),
            ..kube::api::PatchParams::default()
        };
        let stored = api
            .patch(&object_name, &params, &kube::api::Patch::Json::<()>(patch))
            .await;
        match stored {
            Ok(object) => {
                tracing::info!(
                    maintenance = wish.name,
                    verb = wish.verb,
                    "maintenance was asked to go on"
                );
                shown(&object)
            }
            // The test failed: somebody else wrote in between, possibly only the status. The caller decides anew.
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => Err(RpcError::new(
                ErrorReason::Conflict,
                format!("{} changed meanwhile; try again", wish.name),
            )),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// How far a maintenance is to go.
struct Wish<'a> {
    verb: &'static str,
    state: MaintenanceDesire,
    name: &'a str,
    etag: &'a str,
    request_id: &'a str,
    validate_only: bool,
}

fn invalid_state(name: &str, state: State, what: &str) -> RpcError {
    let text = format!("{name} is {}: {what}", state.as_str());
    RpcError::new(ErrorReason::InvalidState, text.clone()).with_precondition("STATE", name, text)
}

/// How often a write that lost against a status update is tried anew.
const ATTEMPTS: usize = 5;

/// The service's methods.
#[derive(Clone, Debug)]
pub struct MaintenanceApi {
    maintenances: Maintenances,
}

impl MaintenanceApi {
    /// [`Maintenances::desire`], again while only the reconciler was faster and the caller does not insist on a version.
    async fn desire(
        &self,
        call: &CallContext,
        wish: Wish<'_>,
        check: impl Fn(&Maintenance, State) -> Result<(), RpcError>,
    ) -> Result<Response<Message>, Status> {
        for _ in 1..ATTEMPTS {
            let again = Wish { ..wish };
            match self.maintenances.desire(call, again, &check).await {
                Err(error) if error.reason() == ErrorReason::Conflict && wish.etag.is_empty() => {}
                result => return Ok(Response::new(result?)),
            }
        }
        Ok(Response::new(self.maintenances.desire(call, wish, &check).await?))
    }
}

#[tonic::async_trait]
impl MaintenanceService for MaintenanceApi {
    type WatchMaintenancesStream = ResponseStream<WatchMaintenancesResponse>;

    async fn get_maintenance(&self, request: Request<GetMaintenanceRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        Ok(Response::new(
            collection::get(&self.maintenances, &call, &request.get_ref().name).await?,
        ))
    }

    async fn list_maintenances(
        &self,
        request: Request<ListMaintenancesRequest>,
    ) -> Result<Response<ListMaintenancesResponse>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let list = ListRequest {
            parent: String::new(),
            page_size: r.page_size,
            page_token: r.page_token,
            filter: r.filter,
            order_by: r.order_by,
        };
        let (maintenances, next_page_token) = collection::list(&self.maintenances, &call, &list).await?;
        Ok(Response::new(ListMaintenancesResponse {
            maintenances,
            next_page_token,
        }))
    }

    async fn create_maintenance(
        &self,
        request: Request<CreateMaintenanceRequest>,
    ) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let create = CreateRequest {
            parent: String::new(),
            id: r.maintenance_id,
            message: r.maintenance,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            collection::create(&self.maintenances, &call, &create).await?,
        ))
    }

    async fn delete_maintenance(
        &self,
        request: Request<DeleteMaintenanceRequest>,
    ) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        if !r.force {
            let id = self.maintenances.object_name(&r.name)?;
            call.authorize(Action::new(Verb::Delete, Maintenances::KIND, &r.name))
                .await?;
            let found = self.maintenances.context.all::<Maintenance>().get_opt(&id).await;
            let found = found.map_err(|error| kube_error(Maintenances::KIND, &r.name, &error))?;
            let state = found
                .and_then(|one| one.status)
                .map_or(State::Planned, |status| State::of(&status));
            if !state.is_final() && state != State::Planned {
                let what = "cancel or complete it first, or set force";
                return Err(invalid_state(&r.name, state, what).into());
            }
        }
        let delete = DeleteRequest {
            name: r.name,
            etag: r.etag,
            allow_missing: r.allow_missing,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        let clock = &self.maintenances.context.clock;
        Ok(Response::new(
            collection::delete(&self.maintenances, &call, clock, &delete).await?,
        ))
    }

    async fn watch_maintenances(
        &self,
        request: Request<WatchMaintenancesRequest>,
    ) -> Result<Response<Self::WatchMaintenancesStream>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let watch = WatchRequest {
            parent: String::new(),
            filter: r.filter,
            resume_token: r.resume_token,
        };
        let events = collection::watch(&self.maintenances, &call, &watch).await?;
        Ok(Response::new(responses(events, |event| WatchMaintenancesResponse {
            r#type: event.kind.into(),
            maintenance: event.message,
            resume_token: event.resume_token,
        })))
    }

    async fn plan_maintenance(
        &self,
        request: Request<PlanMaintenanceRequest>,
    ) -> Result<Response<MaintenancePlan>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let name: InfraNodeName = r.name.parse().map_err(|e| RpcError::invalid_name("name", &e))?;
        let mut found = Violations::new();
        let strategy = convert::strategy(&mut found, r.strategy);
        found.finish().map_err(RpcError::from)?;
        call.authorize(Action::new(Verb::Custom("planMaintenance"), "InfraNode", &r.name))
            .await?;
        let context = &self.maintenances.context;
        let node = name.object_name();
        let known = context
            .all::<Node>()
            .get_opt(&node)
            .await
            .map_err(|error| kube_error("InfraNode", &r.name, &error))?;
        if known.is_none() {
            return Err(RpcError::not_found("InfraNode", &r.name).into());
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

    async fn start_maintenance(&self, request: Request<StartMaintenanceRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let wish = Wish {
            verb: "start",
            state: MaintenanceDesire::InMaintenance,
            name: &r.name,
            etag: &r.etag,
            request_id: &r.request_id,
            validate_only: r.validate_only,
        };
        self.desire(&call, wish, |current, state| {
            if state != State::Planned || current.spec.desired_state != MaintenanceDesire::Planned {
                return Err(invalid_state(
                    &r.name,
                    state,
                    "only a planned maintenance can be started",
                ));
            }
            let plan = current
                .status
                .as_ref()
                .and_then(|status| status.plan.as_ref())
                .map(|plan| plan.id.as_str());
            let Some(plan) = plan.filter(|id| !id.is_empty()) else {
                return Err(invalid_state(&r.name, state, "its plan is not made yet"));
            };
            if r.plan_id.is_empty() {
                let text = format!("must be the id of the plan that was reviewed; it is now {plan}");
                return Err(RpcError::from(Violations::one("plan_id", text)));
            }
            if plan != r.plan_id {
                let text = format!("the plan of {} is now {plan}", r.name);
                return Err(RpcError::new(ErrorReason::EtagMismatch, text).with_metadata("plan_id", plan));
            }
            Ok(())
        })
        .await
    }

    async fn cancel_maintenance(
        &self,
        request: Request<CancelMaintenanceRequest>,
    ) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let wish = Wish {
            verb: "cancel",
            state: MaintenanceDesire::Cancelled,
            name: &r.name,
            etag: &r.etag,
            request_id: &r.request_id,
            validate_only: r.validate_only,
        };
        self.desire(&call, wish, |_, state| match state {
            State::Completed | State::Failed => Err(invalid_state(&r.name, state, "it is over")),
            State::InMaintenance => Err(invalid_state(&r.name, state, "nothing is left to cancel; complete it")),
            State::Planned | State::Running | State::Stalled | State::Cancelling | State::Cancelled => Ok(()),
        })
        .await
    }

    async fn complete_maintenance(
        &self,
        request: Request<CompleteMaintenanceRequest>,
    ) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let wish = Wish {
            verb: "complete",
            state: MaintenanceDesire::Completed,
            name: &r.name,
            etag: &r.etag,
            request_id: &r.request_id,
            validate_only: r.validate_only,
        };
        self.desire(&call, wish, |_, state| match state {
            State::InMaintenance | State::Completed => Ok(()),
            State::Planned | State::Running | State::Stalled | State::Cancelling | State::Cancelled | State::Failed => {
                Err(invalid_state(
                    &r.name,
                    state,
                    "only a maintenance whose infra node is empty can be completed",
                ))
            }
        })
        .await
    }
}
