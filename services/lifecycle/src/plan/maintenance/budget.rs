//! How many machines a maintenance may have on the move at once.

use steading_infra::crd::maintenance::MaintenanceBudget;

use super::super::disruption::Limits;

/// Off one infra node, if the maintenance does not say.
pub const PER_INFRA_NODE: i32 = 2;
/// Off the infra nodes of one zone, if the maintenance does not say.
pub const PER_ZONE: i32 = 4;
/// Of one tenant cluster, if the maintenance does not say: quorum workloads survive one loss.
pub const PER_TENANT_CLUSTER: i32 = 1;

/// The limits of a budget in the disruption ledger.
pub fn limits_of(budget: &MaintenanceBudget) -> Limits {
    let limit = |wanted: Option<i32>, default: i32| {
        let limit = wanted.filter(|&n| n > 0).unwrap_or(default);
        Some(usize::try_from(limit).unwrap_or_default())
    };
    Limits {
        per_infra_node: limit(budget.max_concurrent_per_infra_node, PER_INFRA_NODE),
        per_zone: limit(budget.max_concurrent_per_zone, PER_ZONE),
        away_per_cluster: limit(budget.max_concurrent_per_tenant_cluster, PER_TENANT_CLUSTER),
        ..Limits::default()
    }
}
