//! `PreviewRollout`: what a pool, or a proposal for it, would do to its machines.

use kube::Api;
use steading_api::{error::RpcError, lifecycle::v1 as proto};
use steading_infra::crd::MachinePool;
use steading_model::name::MachinePoolName;
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    standard::{Writable, kube_error},
};

use super::pools::Pools;
use crate::{error::Refusal, observe::pool::preview::preview};

impl Pools {
    /// What a rollout would do.
    ///
    /// # Errors
    /// If the pool does not exist, the proposal is wrong, templating does not render, or the caller may not.
    pub(super) async fn preview(
        &self,
        call: &CallContext,
        request: &proto::PreviewRolloutRequest,
    ) -> Result<proto::PreviewRolloutResponse, RpcError> {
        let name: MachinePoolName = request.name.parse().map_err(|e| RpcError::invalid_name("name", &e))?;
        let kind = MachinePoolName::KIND;
        call.authorize(Action::new(Verb::Custom("previewRollout"), kind, &request.name))
            .await?;
        let api: Api<MachinePool> = self.context.namespaced(&name.namespace());
        let stored = api.get_opt(&name.object_name()).await;
        let stored = stored.map_err(|e| kube_error(kind, &request.name, &e))?;
        let stored = stored.ok_or_else(|| RpcError::not_found(kind, &name))?;
        let wanted = match &request.machine_pool {
            Some(proposal) => self.object(&name, proposal, Some(&stored)).await?,
            None => stored,
        };
        let found = preview(&self.context, &wanted).await;
        let found = found.map_err(|source| Refusal::NotRendered {
            pool: name.to_string(),
            source,
        })?;
        let machine = |id: &String| format!("{}/machines/{id}", name.cluster);
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        Ok(proto::PreviewRolloutResponse {
            replaced_machines: found.replaced.iter().map(machine).collect(),
            added_machines: count(found.added),
            removed_machines: found.removed.iter().map(machine).collect(),
            revision: found.revision,
            machine_template_revision: found.template_revision,
            peak_machines: count(found.peak),
        })
    }
}
