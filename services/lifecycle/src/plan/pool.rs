//! How many machines a pool makes and which it removes.
//!
//! ```text
//! wanted: replicas, revision, max_surge, max_unavailable        seen: machines with revision and availability
//!   1. fewer than replicas (not counting those that go)  → create
//!   2. outdated ones left and room under replicas+surge  → create one more (those that go count here)
//!   3. outdated ones that are broken                     → remove
//!   4. outdated ones, while enough stay available        → remove
//!   5. more than needed                                  → remove, worst first
//! ```
//! Availability that is not known counts against removing others and never as a reason to remove.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::domain::pool::{Availability, PoolWish, Trigger};

/// A machine of the pool as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolMachine {
    /// Its name.
    pub name: String,
    /// Hash of what it was made from.
    pub revision: String,
    /// Whether it does its work.
    pub availability: Availability,
    /// Whether it is on its way out.
    pub going: bool,
    /// Whether its replacement was asked for.
    pub replace: bool,
    /// Infra node that it runs on.
    pub infra_node: Option<String>,
    /// When it was made.
    pub created: Timestamp,
}

/// Why a machine is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RemoveReason {
    /// Fewer machines are wanted.
    ScaleDown,
    /// Its replacement is ready, or it was asked for.
    Replaced,
    /// It was made from an older revision.
    Outdated,
    /// It does not work.
    Unhealthy,
}

/// What to do next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolPlan {
    /// How many machines to make.
    pub create: usize,
    /// Machines to remove, with the reason.
    pub remove: Vec<(String, RemoveReason)>,
    /// Machines that will still be replaced.
    pub outdated: usize,
    /// What a rollout waits for: reason and sentence.
    pub waiting: Option<(&'static str, String)>,
}

impl PoolPlan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.create == 0 && self.remove.is_empty()
    }
}

/// Decides the next steps of a pool.
pub fn plan_pool(wish: &PoolWish, machines: &[PoolMachine]) -> PoolPlan {
    let current: Vec<&PoolMachine> = machines.iter().filter(|m| !m.going).collect();
    let going = machines.len() - current.len();
    let outdated: Vec<&PoolMachine> = current.iter().copied().filter(|m| is_outdated(wish, m)).collect();
    let total = current.len();

    let shortfall = wish.replicas.saturating_sub(total);
    // Broken machines that the pool is told to keep do no work, but they count as missing already: others may still be replaced.
    let kept = current
        .iter()
        .filter(|m| m.availability == Availability::Broken && !is_outdated(wish, m))
        .count();
    let updated = (total - outdated.len()).saturating_sub(kept) + shortfall;
    let room = (wish.replicas + wish.surge()).saturating_sub(total + shortfall + going);
    let surge = if outdated.is_empty() {
        0
    } else {
        wish.replicas.saturating_sub(updated).min(room)
    };

    let mut remove: Vec<(String, RemoveReason)> = Vec::new();
    let mut taken = BTreeSet::new();
    let available = current
        .iter()
        .filter(|m| m.availability == Availability::Available)
        .count();
    let mut spare = available.saturating_sub(wish.replicas.saturating_sub(wish.unavailable().max(kept)));
    let mut spare_whole = available.saturating_sub(wish.replicas.saturating_sub(kept));
    let mut order = outdated.clone();
    order.sort_by_key(|m| {
        (
            m.availability != Availability::Broken,
            !m.replace,
            m.created,
            m.name.clone(),
        )
    });
    for machine in order {
        let reason = if machine.replace {
            RemoveReason::Replaced
        } else {
            RemoveReason::Outdated
        };
        let may = match machine.availability {
            // Nothing is lost by it, but at most as many as may be missing are rebuilt at a time.
            Availability::Broken => {
                remove.len() < wish.unavailable().max(1) && going < wish.unavailable().max(1) + wish.surge()
            }
            Availability::Available if machine.replace && wish.surge() > 0 => spare_whole > 0,
            Availability::Available => spare > 0,
            Availability::Starting => total > wish.replicas && spare > 0,
            Availability::Unknown => false,
        };
        if !may {
            continue;
        }
        if machine.availability == Availability::Available {
            spare = spare.saturating_sub(1);
            spare_whole = spare_whole.saturating_sub(1);
        }
        taken.insert(machine.name.as_str());
        remove.push((machine.name.clone(), reason));
    }

    let left: Vec<&PoolMachine> = current
        .iter()
        .copied()
        .filter(|m| !taken.contains(m.name.as_str()))
        .collect();
    let outdated_left = left.iter().filter(|m| is_outdated(wish, m)).count();
    let most = if outdated_left > 0 {
        wish.replicas + wish.surge()
    } else {
        wish.replicas
    };
    for machine in pick_for_removal(wish, &left, left.len().saturating_sub(most)) {
        remove.push((machine, RemoveReason::ScaleDown));
    }
    let outdated_left = outdated_left + take_back(wish, &current, &mut remove);
    let create = shortfall + surge;
    let waiting =
        (outdated_left > 0 && create == 0 && remove.is_empty()).then(|| waiting(wish, &left, going, outdated_left));
    PoolPlan {
        create,
        remove,
        outdated: outdated_left,
        waiting,
    }
}

/// Takes back replacements that would leave too few: a broken machine that is removed as one too many does not count as one that is kept, which
/// would have allowed another to go. How many were taken back.
fn take_back(wish: &PoolWish, current: &[&PoolMachine], remove: &mut Vec<(String, RemoveReason)>) -> usize {
    let is_available = |name: &str| {
        let found = current.iter().find(|m| m.name == name);
        found.is_some_and(|m| m.availability == Availability::Available)
    };
    let stays = |m: &&&PoolMachine| !remove.iter().any(|(name, _)| *name == m.name);
    let kept = current
        .iter()
        .filter(stays)
        .filter(|m| m.availability == Availability::Broken && !is_outdated(wish, m))
        .count();
    let floor = wish.replicas.saturating_sub(wish.unavailable().max(kept));
    let available = current.iter().filter(|m| is_available(&m.name)).count();
    let left = current.iter().filter(stays).filter(|m| is_available(&m.name)).count();
    let short = available.min(floor).saturating_sub(left);
    for taken in 0..short {
        let last = remove.iter().rposition(|(name, reason)| {
            matches!(reason, RemoveReason::Replaced | RemoveReason::Outdated) && is_available(name)
        });
        match last {
            Some(at) => remove.remove(at),
            None => return taken,
        };
    }
    short
}

/// Which machines a rollout replaces, in its order, and which a scale-down removes, once all is done.
pub fn will_go(wish: &PoolWish, machines: &[PoolMachine]) -> (Vec<String>, Vec<String>) {
    let current: Vec<&PoolMachine> = machines.iter().filter(|m| !m.going).collect();
    let removed = pick_for_removal(wish, &current, current.len().saturating_sub(wish.replicas));
    let mut outdated: Vec<&PoolMachine> = current
        .into_iter()
        .filter(|m| is_outdated(wish, m) && !removed.contains(&m.name))
        .collect();
    outdated.sort_by_key(|m| {
        (
            m.availability != Availability::Broken,
            !m.replace,
            m.created,
            m.name.clone(),
        )
    });
    (outdated.into_iter().map(|m| m.name.clone()).collect(), removed)
}

fn waiting(wish: &PoolWish, left: &[&PoolMachine], going: usize, outdated: usize) -> (&'static str, String) {
    let starting = left.iter().filter(|m| m.availability == Availability::Starting).count();
    let unknown = left.iter().filter(|m| m.availability == Availability::Unknown).count();
    if unknown > 0 {
        (
            "TenantUnreachable",
            format!("{unknown} machines cannot be judged while the tenant api server does not answer"),
        )
    } else if starting > 0 {
        (
            "WaitingForReady",
            format!("{outdated} machines are still to be replaced; {starting} new ones are not ready yet"),
        )
    } else if going > 0 {
        (
            "WaitingForDrain",
            format!("{outdated} machines are still to be replaced; {going} are leaving"),
        )
    } else {
        (
            "NotEnoughAvailable",
            format!(
                "{outdated} machines are still to be replaced; {} must stay available",
                wish.replicas
            ),
        )
    }
}

fn is_outdated(wish: &PoolWish, machine: &PoolMachine) -> bool {
    let revision = match (&wish.revision, wish.trigger) {
        (Some(revision), Trigger::OnChange) if !wish.paused => machine.revision != *revision,
        _ => false,
    };
    machine.replace || revision || (wish.repair && machine.availability == Availability::Broken)
}

/// Picks machines to give up: broken ones, then outdated ones, then from the infra node with most of them, then the newest.
fn pick_for_removal(wish: &PoolWish, machines: &[&PoolMachine], count: usize) -> Vec<String> {
    let mut per_node: BTreeMap<&str, usize> = BTreeMap::new();
    let node = |m: &PoolMachine| m.infra_node.clone().unwrap_or_default();
    let nodes: Vec<String> = machines.iter().map(|m| node(m)).collect();
    for name in &nodes {
        *per_node.entry(name.as_str()).or_default() += 1;
    }
    let mut left: Vec<(&PoolMachine, &str)> = machines.iter().copied().zip(nodes.iter().map(String::as_str)).collect();
    let mut picked = Vec::new();
    for _ in 0..count {
        let worst = left.iter().enumerate().max_by(|(_, (a, on_a)), (_, (b, on_b))| {
            let rank = |m: &PoolMachine| match m.availability {
                Availability::Broken => 3,
                Availability::Starting => 2,
                Availability::Unknown => 1,
                Availability::Available => 0,
            };
            let load = |on: &str| per_node.get(on).copied().unwrap_or_default();
            (rank(a), is_outdated(wish, a), load(on_a), a.created, &a.name).cmp(&(
                rank(b),
                is_outdated(wish, b),
                load(on_b),
                b.created,
                &b.name,
            ))
        });
        let Some((index, _)) = worst else { break };
        let (machine, on) = left.remove(index);
        if let Some(load) = per_node.get_mut(on) {
            *load = load.saturating_sub(1);
        }
        picked.push(machine.name.clone());
    }
    picked
}

#[cfg(test)]
mod tests;
