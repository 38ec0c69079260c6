//! The disruption ledger: what is away or on the move, counted by all that budgets limit.
//!
//! One ledger is filled from everything that is observed (whoever caused it) and every voluntary disruption takes from it. Disruptions whose
//! time we choose (maintenance, rollout, repair, eviction) are refused when a limit is reached; those that were ordered (deletion, a scale-down, a
//! person's drain) are counted and never refused.
//!
//! Two counts are kept: *moving* (leaving an infra node or being deleted, by an intent) and *away*, which adds machines that are not ready or
//! cordoned. A tenant cluster's budget counts the latter: a quorum does not care why a member is missing.

use std::collections::{BTreeMap, BTreeSet};

use super::evacuation::MachineKey;

#[cfg(test)]
mod tests;

/// Why a machine does not do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It is on the move, or to be deleted.
    Moving,
    /// It is not ready, or its node is cordoned.
    Away,
}

/// A machine that is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disruption {
    /// Which.
    pub key: MachineKey,
    /// Its pool.
    pub pool: String,
    /// The infra node that it is on; empty if unknown.
    pub node: String,
    /// Why.
    pub cause: Cause,
}

/// The most that may be away at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Leaving one infra node.
    pub per_infra_node: Option<usize>,
    /// Leaving the infra nodes of one zone.
    pub per_zone: Option<usize>,
    /// Away in one tenant cluster, for whatever reason.
    pub away_per_cluster: Option<usize>,
    /// Moving in one tenant cluster.
    pub moving_per_cluster: Option<usize>,
    /// Moving in one pool.
    pub moving_per_pool: Option<usize>,
}

/// The limit that a disruption would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// Of the infra node.
    InfraNode,
    /// Of the zone.
    Zone,
    /// Of the tenant cluster.
    Cluster,
    /// Of the pool.
    Pool,
}

impl Exceeded {
    /// For people.
    pub fn message(self) -> &'static str {
        match self {
            Self::InfraNode => "as many machines are leaving this infra node as the budget allows",
            Self::Zone => "as many machines are leaving infra nodes of this zone as the budget allows",
            Self::Cluster => "as many machines of its tenant cluster are away or on the move as the budget allows",
            Self::Pool => "as many machines of its pool are on the move as the budget allows",
        }
    }
}

/// What is away, counted by what budgets limit.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    away: BTreeSet<MachineKey>,
    moving: BTreeSet<MachineKey>,
    moving_by_node: BTreeMap<String, usize>,
    moving_by_zone: BTreeMap<String, usize>,
    moving_by_pool: BTreeMap<(String, String), usize>,
    moving_by_cluster: BTreeMap<String, usize>,
    away_by_cluster: BTreeMap<String, usize>,
    zones: BTreeMap<String, String>,
}

impl Ledger {
    /// Counts what is away now. `zones` has the zone of each infra node.
    pub fn new<'a>(disruptions: impl IntoIterator<Item = &'a Disruption>, zones: &BTreeMap<String, String>) -> Self {
        let mut ledger = Self {
            zones: zones.clone(),
            ..Self::default()
        };
        for one in disruptions {
            ledger.add(one);
        }
        ledger
    }

    /// Counts one more; each machine counts once.
    pub fn add(&mut self, one: &Disruption) {
        let cluster = &one.key.namespace;
        if self.away.insert(one.key.clone()) {
            count(&mut self.away_by_cluster, cluster.clone());
        }
        if one.cause == Cause::Away || !self.moving.insert(one.key.clone()) {
            return;
        }
        count(&mut self.moving_by_node, one.node.clone());
        count(&mut self.moving_by_cluster, cluster.clone());
        count(&mut self.moving_by_pool, (cluster.clone(), one.pool.clone()));
        if let Some(zone) = self.zones.get(&one.node) {
            count(&mut self.moving_by_zone, zone.clone());
        }
    }

    /// Whether a machine is on the move already, so that it needs no place in a budget.
    pub fn is_moving(&self, key: &MachineKey) -> bool {
        self.moving.contains(key)
    }

    /// Counts a machine that begins to move, if the limits allow it; one that moves already is free.
    ///
    /// # Errors
    /// The first limit that it would exceed.
    pub fn take(&mut self, key: &MachineKey, pool: &str, node: &str, limits: &Limits) -> Result<(), Exceeded> {
        if self.moving.contains(key) {
            return Ok(());
        }
        let reached = |limit: Option<usize>, count: Option<&usize>| {
            limit.is_some_and(|limit| count.copied().unwrap_or_default() >= limit)
        };
        let cluster = &key.namespace;
        if reached(limits.per_infra_node, self.moving_by_node.get(node)) {
            return Err(Exceeded::InfraNode);
        }
        let zone = self.zones.get(node).and_then(|zone| self.moving_by_zone.get(zone));
        if reached(limits.per_zone, zone) {
            return Err(Exceeded::Zone);
        }
        // A machine that is away already takes nothing more from its cluster.
        let is_away = self.away.contains(key);
        if !is_away && reached(limits.away_per_cluster, self.away_by_cluster.get(cluster)) {
            return Err(Exceeded::Cluster);
        }
        if reached(limits.moving_per_cluster, self.moving_by_cluster.get(cluster)) {
            return Err(Exceeded::Cluster);
        }
        let of_pool = self.moving_by_pool.get(&(cluster.clone(), pool.to_owned()));
        if reached(limits.moving_per_pool, of_pool) {
            return Err(Exceeded::Pool);
        }
        self.add(&Disruption {
            key: key.clone(),
            pool: pool.to_owned(),
            node: node.to_owned(),
            cause: Cause::Moving,
        });
        Ok(())
    }
}

fn count<K: Ord>(map: &mut BTreeMap<K, usize>, key: K) {
    let entry = map.entry(key).or_default();
    *entry = entry.saturating_add(1);
}
