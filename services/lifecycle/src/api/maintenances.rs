//! The collection of maintenances. Custom methods say how far one is to go; the reconciler moves machines.

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use serde_json::json;
use steading_api::{error::RpcError, lifecycle::v1 as proto};
use steading_infra::crd::{Maintenance, maintenance::MaintenanceDesire};
use steading_model::{
    name::{InfraNodeName, MaintenanceName},
    violation::Violations,
};
use steading_runtime::standard::{Acts, Collection, Decision, Keys, Writable, kube_error};

use super::{
    convert::maintenance as convert,
    metadata::{KEYS, write_meta},
};
use crate::{context::Context, error::Refusal, plan::maintenance::State};

/// Maintenances as objects of the infra cluster.
#[derive(Clone, Debug)]
pub struct Maintenances {
    /// What calls have at hand.
    pub context: Context,
}

impl Collection for Maintenances {
    type Object = Maintenance;
    type Resource = proto::Maintenance;
    type Name = MaintenanceName;

    const KEYS: Keys = KEYS;

    fn api(&self, _: Option<&str>) -> Api<Maintenance> {
        self.context.all()
    }

    fn resource(&self, object: &Maintenance) -> Option<proto::Maintenance> {
        convert::message(object)
    }

    fn intent(&self, object: &Maintenance) -> String {
        json!(object.spec.desired_state).to_string()
    }
}

impl Writable for Maintenances {
    async fn object(
        &self,
        name: &MaintenanceName,
        resource: &proto::Maintenance,
        current: Option<&Maintenance>,
    ) -> Result<Maintenance, RpcError> {
        let spec = convert::spec(resource, current.map(|one| &one.spec)).map_err(|violations| Refusal::Invalid {
            field: "maintenance",
            violations,
        })?;
        self.require_node(&spec.infra_node).await?;
        let mut object = current
            .cloned()
            .unwrap_or_else(|| Maintenance::new(&name.object_name(), spec.clone()));
        object.spec = spec;
        write_meta(&mut object.metadata, (&resource.labels, &resource.annotations), &[]);
        Ok(object)
    }

    async fn before_delete(&self, name: &MaintenanceName, current: &Maintenance, force: bool) -> Result<(), RpcError> {
        let state = state_of(current);
        if force || state.is_final() || state == State::Planned {
            return Ok(());
        }
        Err(refusal(name, state, "cancel or complete it first, or set force").into())
    }
}

impl Maintenances {
    async fn require_node(&self, node: &str) -> Result<(), RpcError> {
        let found = self.context.all::<Node>().get_opt(node).await;
        let name = format!("infraNodes/{node}");
        match found.map_err(|error| kube_error(InfraNodeName::KIND, &name, &error))? {
            Some(_) => Ok(()),
            None => Err(Refusal::ReferenceNotFound {
                path: "maintenance.infra_node",
                kind: InfraNodeName::KIND,
                name,
            }
            .into()),
        }
    }
}

fn state_of(maintenance: &Maintenance) -> State {
    maintenance.status.as_ref().map_or(State::Planned, State::of)
}

fn refusal(name: &MaintenanceName, state: State, what: &'static str) -> Refusal {
    Refusal::MaintenanceState {
        name: name.to_string(),
        state: state.as_str(),
        what,
    }
}

fn go_to(desire: MaintenanceDesire) -> Decision {
    Decision::Merge(json!({"spec": {"desiredState": desire}}))
}

impl Acts<proto::StartMaintenanceRequest> for Maintenances {
    async fn decide(
        &self,
        request: &proto::StartMaintenanceRequest,
        name: &MaintenanceName,
        current: &Maintenance,
    ) -> Result<Decision, RpcError> {
        if current.spec.desired_state == MaintenanceDesire::InMaintenance {
            return Ok(Decision::AlreadySo);
        }
        let state = state_of(current);
        if state != State::Planned || current.spec.desired_state != MaintenanceDesire::Planned {
            return Err(refusal(name, state, "only a planned maintenance can be started").into());
        }
        let plan = current.status.as_ref().and_then(|status| status.plan.as_ref());
        let Some(plan) = plan.map(|plan| plan.id.as_str()).filter(|id| !id.is_empty()) else {
            return Err(refusal(name, state, "its plan is not made yet").into());
        };
        if request.plan_id.is_empty() {
            let text = format!("must be the id of the plan that was reviewed; it is now {plan}");
            return Err(Violations::one("plan_id", text).into());
        }
        if plan != request.plan_id {
            return Err(Refusal::OtherPlan {
                name: name.to_string(),
                plan: plan.to_owned(),
            }
            .into());
        }
        Ok(go_to(MaintenanceDesire::InMaintenance))
    }
}

impl Acts<proto::CancelMaintenanceRequest> for Maintenances {
    async fn decide(
        &self,
        _: &proto::CancelMaintenanceRequest,
        name: &MaintenanceName,
        current: &Maintenance,
    ) -> Result<Decision, RpcError> {
        if current.spec.desired_state == MaintenanceDesire::Cancelled {
            return Ok(Decision::AlreadySo);
        }
        match state_of(current) {
            state @ (State::Completed | State::Failed) => Err(refusal(name, state, "it is over").into()),
            state @ State::InMaintenance => Err(refusal(name, state, "nothing is left to cancel; complete it").into()),
            State::Planned | State::Running | State::Stalled | State::Cancelling | State::Cancelled => {
                Ok(go_to(MaintenanceDesire::Cancelled))
            }
        }
    }
}

impl Acts<proto::CompleteMaintenanceRequest> for Maintenances {
    async fn decide(
        &self,
        _: &proto::CompleteMaintenanceRequest,
        name: &MaintenanceName,
        current: &Maintenance,
    ) -> Result<Decision, RpcError> {
        if current.spec.desired_state == MaintenanceDesire::Completed {
            return Ok(Decision::AlreadySo);
        }
        match state_of(current) {
            State::InMaintenance | State::Completed => Ok(go_to(MaintenanceDesire::Completed)),
            state @ (State::Planned
            | State::Running
            | State::Stalled
            | State::Cancelling
            | State::Cancelled
            | State::Failed) => Err(refusal(
                name,
                state,
                "only a maintenance whose infra node is empty can be completed",
            )
            .into()),
        }
    }
}
