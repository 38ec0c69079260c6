//! Whether a project's quota has room for what a pool wants.

use kube::Api;
use steading_api::error::RpcError;
use steading_infra::crd::{MachinePool, Project};
use steading_model::{
    name::{MachinePoolName, ProjectName},
    quantity::Quantity,
};
use steading_runtime::standard::kube_error;

use super::pools::Pools;
use crate::{
    error::Refusal,
    observe::usage::{Counted, usage},
};

impl Pools {
    /// Refuses what would go beyond the project's quota. Counted by what pools want, as far as it is seen; of two calls at the same
    /// moment both may pass, and then the reconciler makes no more machines than the quota allows.
    ///
    /// # Errors
    /// If there is no room, or the project cannot be read.
    pub(super) async fn check_quota(
        &self,
        name: &MachinePoolName,
        object: &MachinePool,
        current: Option<&MachinePool>,
    ) -> Result<(), RpcError> {
        let wanted = |pool: &MachinePool| {
            let last = pool.status.as_ref().and_then(|status| status.desired_replicas);
            i64::from(pool.spec.replicas.or(last).unwrap_or_default())
        };
        let more = wanted(object) - current.map_or(0, wanted);
        if more <= 0 {
            return Ok(());
        }
        let project = name.cluster.project_name().to_string();
        let projects: Api<Project> = self.context.all();
        let found = projects
            .get_opt(&name.cluster.project)
            .await
            .map_err(|e| kube_error(ProjectName::KIND, &project, &e))?;
        let quota = found.map(|project| project.spec.quota).unwrap_or_default();
        let used = usage(&self.context.observed, &name.cluster.project, Counted::Wanted);
        let status = current.and_then(|pool| pool.status.clone()).unwrap_or_default();
        let bytes = |text: Option<&String>| {
            text.and_then(|t| t.parse::<Quantity>().ok())
                .map_or(0, |q| i64::try_from(q.bytes()).unwrap_or(i64::MAX))
        };
        let number = |text: Option<&String>| text.and_then(|t| t.parse::<i64>().ok());
        let adds = [
            (
                "machines",
                number(quota.get("machines")),
                number(used.get("machines")).unwrap_or_default(),
                1,
            ),
            (
                "vcpus",
                number(quota.get("vcpus")),
                number(used.get("vcpus")).unwrap_or_default(),
                i64::from(status.machine_vcpus.unwrap_or_default()),
            ),
            (
                "memory",
                quota.get("memory").map(|text| bytes(Some(text))),
                bytes(used.get("memory")),
                bytes(status.machine_memory.as_ref()),
            ),
            (
                "storage",
                quota.get("storage").map(|text| bytes(Some(text))),
                bytes(used.get("storage")),
                bytes(status.machine_storage.as_ref()),
            ),
        ];
        for (what, limit, used, each) in adds {
            if limit.is_some_and(|limit| used.saturating_add(each.saturating_mul(more)) > limit) {
                return Err(Refusal::QuotaExceeded { project, what }.into());
            }
        }
        Ok(())
    }
}
