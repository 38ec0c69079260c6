//! Keeps the bootstrap token of one machine.

use std::time::Duration;

use steading_infra::{crd::Cluster, kubevirt::VirtualMachine};

use kube::ResourceExt;

use crate::{
    apply::token::{expires_of, lifetime, renew, revoke},
    context::Context,
    error::Error,
    plan::token::{Joined, TokenStep, plan_token},
    tenant::Tenant,
};

/// Looks at the token of a machine; when it has to be looked at again.
///
/// # Errors
/// If a cluster refuses or cannot be reached.
pub async fn keep(
    context: &Context,
    cluster: &Cluster,
    tenant: &Tenant,
    vm: &VirtualMachine,
) -> Result<Option<Duration>, Error> {
    let joined = match (tenant.is_reachable(), tenant.nodes.get("", &vm.name_any())) {
        (true, Some(_)) => Joined::Yes,
        (true, None) => Joined::No,
        (false, _) => Joined::Unknown,
    };
    match plan_token(expires_of(vm), joined, lifetime(cluster), context.clock.now()) {
        TokenStep::Leave => Ok(None),
        TokenStep::After(pause) => Ok(Some(pause.unsigned_abs())),
        TokenStep::Renew => {
            renew(context, cluster, tenant, &vm.name_any()).await?;
            Ok(None)
        }
        TokenStep::Revoke => {
            revoke(context, tenant, vm).await?;
            Ok(None)
        }
    }
}
