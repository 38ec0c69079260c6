//! Which machines a pool removes.

use std::collections::{BTreeMap, BTreeSet};

use super::pass::{Draft, PoolMachine, RemoveReason, has_failed, is_kept, is_replaced};
use crate::domain::pool::{Availability, DesiredPool};

/// Decides all removals. `take` asks the disruption ledger for a place.
pub(super) fn plan_removals(draft: &mut Draft<'_>, take: impl FnMut(&PoolMachine) -> bool) {
    remove_never_joined(draft);
    remove_broken(draft);
    remove_idle(draft);
    remove_available(draft, take);
    remove_surplus(draft);
    let left = left_of(draft);
    draft.plan.outdated = left.iter().filter(|m| is_replaced(draft.desired, m)).count();
}

fn left_of<'a>(draft: &Draft<'a>) -> Vec<&'a PoolMachine> {
    let removed: BTreeSet<&str> = draft.plan.remove.iter().map(|(name, _)| name.as_str()).collect();
    draft
        .current
        .iter()
        .copied()
        .filter(|m| !removed.contains(m.name.as_str()))
        .collect()
}

fn reason_of(machine: &PoolMachine) -> RemoveReason {
    if machine.replace {
        RemoveReason::Replaced
    } else {
        RemoveReason::Outdated
    }
}

/// Outdated machines that never did any work: nothing is lost, and they would hold the surge for ever if they cannot come up.
fn remove_never_joined(draft: &mut Draft<'_>) {
    let gone = draft
        .current
        .iter()
        .filter(|m| m.joined.is_none() && is_replaced(draft.desired, m))
        .filter(|m| matches!(m.availability, Availability::Starting | Availability::Broken))
        .map(|m| (m.name.clone(), reason_of(m)));
    draft.plan.remove.extend(gone);
}

/// Broken machines, as many at a time as may be missing. A new one that failed is only repaired while the limit of failures allows it.
fn remove_broken(draft: &mut Draft<'_>) {
    let desired = draft.desired;
    let at_once = desired.unavailable().max(1);
    // With nothing available there is one place more: the drain of another machine may wait for just the pods that a new one would take.
    let nothing_works = !draft.current.iter().any(|m| is_available(m));
    if draft.terminating >= at_once + desired.surge() + usize::from(nothing_works) {
        return;
    }
    let mut order: Vec<&PoolMachine> = left_of(draft)
        .into_iter()
        .filter(|m| m.availability == Availability::Broken)
        .collect();
    order.sort_by_key(|m| (m.joined.is_none(), !m.replace, m.created, m.name.clone()));
    let mut removed = 0;
    for machine in order {
        let failed = has_failed(desired, machine);
        let reason = if is_replaced(desired, machine) {
            reason_of(machine)
        } else if desired.repair && !(failed && draft.halted) {
            RemoveReason::Unhealthy
        } else {
            continue;
        };
        if removed == at_once {
            return;
        }
        removed += 1;
        if failed {
            let failures = &mut draft.plan.failures;
            failures.count += 1;
            failures.message = format!("{}: {}", machine.name, machine.trouble);
        }
        draft.plan.remove.push((machine.name.clone(), reason));
    }
}

/// Outdated machines that had joined and are neither available nor broken, while enough others are left (as Deployments remove unhealthy
/// replicas of old revisions first).
fn remove_idle(draft: &mut Draft<'_>) {
    let desired = draft.desired;
    let floor = desired.replicas - desired.unavailable();
    let left = left_of(draft);
    let pending = left
        .iter()
        .filter(|m| !is_replaced(desired, m) && m.availability != Availability::Available)
        .count();
    let mut spare = left.len().saturating_sub(floor + pending);
    let mut idle: Vec<&PoolMachine> = left
        .into_iter()
        .filter(|m| is_replaced(desired, m) && m.joined.is_some())
        .filter(|m| matches!(m.availability, Availability::Starting | Availability::Away))
        .collect();
    idle.sort_by_key(|m| (!m.replace, m.created, m.name.clone()));
    for machine in idle {
        if spare == 0 {
            return;
        }
        spare -= 1;
        draft.plan.remove.push((machine.name.clone(), reason_of(machine)));
    }
}

/// Outdated machines that are available, while enough others are.
fn remove_available(draft: &mut Draft<'_>, mut take: impl FnMut(&PoolMachine) -> bool) {
    if draft.halted {
        return;
    }
    let desired = draft.desired;
    let kept = draft.current.iter().filter(|m| is_kept(desired, m)).count();
    let available = draft.current.iter().filter(|m| is_available(m)).count();
    let mut spare = available.saturating_sub(desired.replicas.saturating_sub(desired.unavailable().max(kept)));
    let mut spare_whole = available.saturating_sub(desired.replicas.saturating_sub(kept));
    let mut order: Vec<&PoolMachine> = left_of(draft)
        .into_iter()
        .filter(|m| is_available(m) && is_replaced(desired, m))
        .collect();
    order.sort_by_key(|m| (!m.replace, m.created, m.name.clone()));
    for machine in order {
        // A replacement that somebody asked for comes first where there may be a machine more.
        let surged = machine.replace && desired.surge() > 0;
        if (surged && spare_whole == 0) || spare == 0 {
            continue;
        }
        if !take(machine) {
            draft.held = true;
            continue;
        }
        spare -= 1;
        spare_whole = spare_whole.saturating_sub(1);
        draft.plan.remove.push((machine.name.clone(), reason_of(machine)));
    }
}

fn is_available(machine: &PoolMachine) -> bool {
    machine.availability == Availability::Available
}

/// Machines beyond what is needed. Somebody ordered fewer, so no budget refuses it.
fn remove_surplus(draft: &mut Draft<'_>) {
    let desired = draft.desired;
    let left = left_of(draft);
    let replaced = left.iter().any(|m| is_replaced(desired, m));
    let most = desired.replicas + if replaced { desired.surge() } else { 0 };
    let surplus = pick_for_removal(desired, &left, left.len().saturating_sub(most));
    let surplus = surplus.into_iter().map(|name| (name, RemoveReason::ScaleDown));
    draft.plan.remove.extend(surplus);
    take_back(draft);
}

/// Takes back replacements that would leave too few: a broken machine that is removed as one too many does not count as one that is kept,
/// which would have allowed another to be replaced.
fn take_back(draft: &mut Draft<'_>) {
    let desired = draft.desired;
    let left = left_of(draft);
    let kept = left.iter().filter(|m| is_kept(desired, m)).count();
    let floor = desired.replicas.saturating_sub(desired.unavailable().max(kept));
    let available: BTreeSet<&str> = draft
        .current
        .iter()
        .filter(|m| is_available(m))
        .map(|m| m.name.as_str())
        .collect();
    let stay = left.iter().filter(|m| is_available(m)).count();
    for _ in stay..available.len().min(floor) {
        let last = draft.plan.remove.iter().rposition(|(name, reason)| {
            matches!(reason, RemoveReason::Replaced | RemoveReason::Outdated) && available.contains(name.as_str())
        });
        let Some(at) = last else { return };
        draft.plan.remove.remove(at);
    }
}

/// Which machines a rollout replaces, in its order, and which a scale-down removes, once all is done.
pub fn will_go(desired: &DesiredPool, machines: &[PoolMachine]) -> (Vec<String>, Vec<String>) {
    let current: Vec<&PoolMachine> = machines.iter().filter(|m| !m.is_terminating()).collect();
    let removed = pick_for_removal(desired, &current, current.len().saturating_sub(desired.replicas));
    let broken = |m: &PoolMachine| m.availability == Availability::Broken;
    let mut outdated: Vec<&PoolMachine> = current
        .into_iter()
        .filter(|m| is_replaced(desired, m) || (desired.repair && broken(m)))
        .filter(|m| !removed.contains(&m.name))
        .collect();
    outdated.sort_by_key(|m| (!broken(m), !m.replace, m.created, m.name.clone()));
    (outdated.into_iter().map(|m| m.name.clone()).collect(), removed)
}

/// Picks machines to give up: broken ones, then outdated ones, then the cheapest by their deletion cost, then from the infra node with most of
/// them, then the newest.
fn pick_for_removal(desired: &DesiredPool, machines: &[&PoolMachine], count: usize) -> Vec<String> {
    let mut per_node: BTreeMap<&str, usize> = BTreeMap::new();
    for machine in machines {
        *per_node.entry(node_of(machine)).or_default() += 1;
    }
    let mut left = machines.to_vec();
    let mut picked = Vec::new();
    for _ in 0..count {
        let rank = |m: &PoolMachine| match m.availability {
            Availability::Broken => 4,
            Availability::Starting => 3,
            Availability::Away => 2,
            Availability::Unknown => 1,
            Availability::Available => 0,
        };
        let load = |m: &PoolMachine| per_node.get(node_of(m)).copied().unwrap_or_default();
        let order = |m: &PoolMachine| {
            (
                rank(m),
                is_replaced(desired, m),
                std::cmp::Reverse(m.deletion_cost),
                load(m),
                m.created,
                m.name.clone(),
            )
        };
        let worst = left.iter().enumerate().max_by_key(|(_, m)| order(m));
        let Some((at, _)) = worst else { break };
        let machine = left.remove(at);
        if let Some(load) = per_node.get_mut(node_of(machine)) {
            *load = load.saturating_sub(1);
        }
        picked.push(machine.name.clone());
    }
    picked
}

fn node_of(machine: &PoolMachine) -> &str {
    machine.infra_node.as_deref().unwrap_or_default()
}
