//! How many machines may be on the move at once.

use std::collections::{BTreeMap, BTreeSet};

use steading_infra::crd::maintenance::MaintenanceBudget;

use super::{MachineKey, Moving};

/// Off one infra node, if the maintenance does not say.
pub const PER_INFRA_NODE: i32 = 2;
/// Off the infra nodes of one zone, if the maintenance does not say.
pub const PER_ZONE: i32 = 4;
/// Of one tenant cluster, if the maintenance does not say: quorum workloads survive one loss.
pub const PER_TENANT_CLUSTER: i32 = 1;

/// What is on the move, counted by what budgets limit.
#[derive(Debug, Default)]
pub struct Ledger {
    keys: BTreeSet<MachineKey>,
    by_node: BTreeMap<String, i32>,
    by_zone: BTreeMap<String, i32>,
    by_cluster: BTreeMap<String, i32>,
    zones: BTreeMap<String, String>,
}

/// The limit that a move would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// `max_concurrent_per_infra_node`.
    InfraNode,
    /// `max_concurrent_per_zone`.
    Zone,
    /// `max_concurrent_per_tenant_cluster`.
    TenantCluster,
}

impl Exceeded {
    /// For people.
    pub fn message(self) -> &'static str {
        match self {
            Self::InfraNode => "as many machines are leaving this infra node as the budget allows",
            Self::Zone => "as many machines are leaving infra nodes of this zone as the budget allows",
            Self::TenantCluster => "as many machines of its tenant cluster are on the move as the budget allows",
        }
    }
}

impl Ledger {
    /// Counts what is on the move.
    pub fn new(moving: &[Moving], zones: &BTreeMap<String, String>) -> Self {
        let mut ledger = Self {
            zones: zones.clone(),
            ..Self::default()
        };
        for one in moving {
            ledger.add(&one.key, &one.node);
        }
        ledger
    }

    /// Counts one more; each machine counts once.
    pub fn add(&mut self, key: &MachineKey, node: &str) {
        if !self.keys.insert(key.clone()) {
            return;
        }
        *self.by_node.entry(node.to_owned()).or_default() += 1;
        *self.by_cluster.entry(key.namespace.clone()).or_default() += 1;
        if let Some(zone) = self.zones.get(node) {
            *self.by_zone.entry(zone.clone()).or_default() += 1;
        }
    }

    /// Counts one more if the budget allows it.
    ///
    /// # Errors
    /// The first limit that it would exceed.
    pub fn take(&mut self, key: &MachineKey, node: &str, budget: &MaintenanceBudget) -> Result<(), Exceeded> {
        let count = |map: &BTreeMap<String, i32>, at: &str| map.get(at).copied().unwrap_or_default();
        let limit = |wanted: Option<i32>, default: i32| wanted.filter(|&n| n > 0).unwrap_or(default);
        if count(&self.by_node, node) >= limit(budget.max_concurrent_per_infra_node, PER_INFRA_NODE) {
            return Err(Exceeded::InfraNode);
        }
        let zone = self.zones.get(node).cloned();
        let zone_limit = limit(budget.max_concurrent_per_zone, PER_ZONE);
        if zone.is_some_and(|zone| count(&self.by_zone, &zone) >= zone_limit) {
            return Err(Exceeded::Zone);
        }
        let cluster_limit = limit(budget.max_concurrent_per_tenant_cluster, PER_TENANT_CLUSTER);
        if count(&self.by_cluster, &key.namespace) >= cluster_limit {
            return Err(Exceeded::TenantCluster);
        }
        self.add(key, node);
        Ok(())
    }
}
