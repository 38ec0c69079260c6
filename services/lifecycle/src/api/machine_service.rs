//! `MachineService`: pools and machines.

use steading_api::{
    convert::reason_of,
    lifecycle::v1::{self as proto, machine_service_server::MachineService},
    types::v1::ErrorReason,
};
use steading_runtime::{
    CallContext,
    standard::{Methods, ResponseStream},
};
use tonic::{Request, Response, Status};

use super::{machines::Machines, pools::Pools};
use crate::context::Context;

/// The service.
#[derive(Clone, Debug)]
pub struct MachineApi {
    pools: Methods<Pools>,
    machines: Methods<Machines>,
}

impl MachineApi {
    /// The service with what calls have at hand.
    pub fn new(context: &Context) -> Self {
        let pools = Pools {
            context: context.clone(),
        };
        let machines = Machines {
            context: context.clone(),
        };
        Self {
            pools: Methods::new(pools, context.clock.clone()),
            machines: Methods::new(machines, context.clock.clone()),
        }
    }
}

#[tonic::async_trait]
impl MachineService for MachineApi {
    type WatchMachinePoolsStream = ResponseStream<proto::WatchMachinePoolsResponse>;
    type WatchMachinesStream = ResponseStream<proto::WatchMachinesResponse>;

    async fn get_machine_pool(
        &self,
        request: Request<proto::GetMachinePoolRequest>,
    ) -> Result<Response<proto::MachinePool>, Status> {
        self.pools.get(request).await
    }

    async fn list_machine_pools(
        &self,
        request: Request<proto::ListMachinePoolsRequest>,
    ) -> Result<Response<proto::ListMachinePoolsResponse>, Status> {
        self.pools.list(request).await
    }

    async fn create_machine_pool(
        &self,
        request: Request<proto::CreateMachinePoolRequest>,
    ) -> Result<Response<proto::MachinePool>, Status> {
        self.pools.create(request).await
    }

    async fn update_machine_pool(
        &self,
        request: Request<proto::UpdateMachinePoolRequest>,
    ) -> Result<Response<proto::MachinePool>, Status> {
        self.pools.update(request).await
    }

    async fn delete_machine_pool(
        &self,
        request: Request<proto::DeleteMachinePoolRequest>,
    ) -> Result<Response<proto::MachinePool>, Status> {
        self.pools.delete(request).await
    }

    async fn watch_machine_pools(
        &self,
        request: Request<proto::WatchMachinePoolsRequest>,
    ) -> Result<Response<Self::WatchMachinePoolsStream>, Status> {
        self.pools.watch(request).await
    }

    async fn get_machine(
        &self,
        request: Request<proto::GetMachineRequest>,
    ) -> Result<Response<proto::Machine>, Status> {
        self.machines.get(request).await
    }

    async fn list_machines(
        &self,
        request: Request<proto::ListMachinesRequest>,
    ) -> Result<Response<proto::ListMachinesResponse>, Status> {
        self.machines.list(request).await
    }

    async fn watch_machines(
        &self,
        request: Request<proto::WatchMachinesRequest>,
    ) -> Result<Response<Self::WatchMachinesStream>, Status> {
        self.machines.watch(request).await
    }

    async fn scale_machine_pool(
        &self,
        request: Request<proto::ScaleMachinePoolRequest>,
    ) -> Result<Response<proto::MachinePool>, Status> {
        self.pools.revise(request).await
    }

    async fn pause_rollout(
        &self,
        request: Request<proto::PauseRolloutRequest>,
    ) -> Result<Response<proto::MachinePool>, Status> {
        self.pools.revise(request).await
    }

    async fn resume_rollout(
        &self,
        request: Request<proto::ResumeRolloutRequest>,
    ) -> Result<Response<proto::MachinePool>, Status> {
        self.pools.act(request).await
    }

    async fn preview_rollout(
        &self,
        request: Request<proto::PreviewRolloutRequest>,
    ) -> Result<Response<proto::PreviewRolloutResponse>, Status> {
        let call = CallContext::from_request(&request);
        let preview = self.pools.collection().preview(&call, request.get_ref());
        Ok(Response::new(preview.await?))
    }

    async fn replace_machine(
        &self,
        request: Request<proto::ReplaceMachineRequest>,
    ) -> Result<Response<proto::Machine>, Status> {
        self.machines.act(request).await
    }

    async fn drain_machine(
        &self,
        request: Request<proto::DrainMachineRequest>,
    ) -> Result<Response<proto::Machine>, Status> {
        self.machines.act(request).await
    }

    async fn restart_machine(
        &self,
        request: Request<proto::RestartMachineRequest>,
    ) -> Result<Response<proto::Machine>, Status> {
        self.machines.act(request).await
    }

    async fn delete_machine(
        &self,
        request: Request<proto::DeleteMachineRequest>,
    ) -> Result<Response<proto::Machine>, Status> {
        let allow_missing = request.get_ref().allow_missing;
        match self.machines.act(request).await {
            Err(status) if allow_missing && reason_of(&status) == Some(ErrorReason::ResourceNotFound) => {
                Ok(Response::new(proto::Machine::default()))
            }
            outcome => outcome,
        }
    }
}
