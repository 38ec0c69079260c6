//! Evictions of single machines from infra nodes that are not being emptied, as a descheduler sends them.
//!
//! KubeVirt answers the evictor that an evacuation was triggered, so the machine is migrated; where that cannot be, an Event says why and the
//! mark is taken back.

use steading_infra::{
    crd::maintenance::{MaintenanceBudget, MaintenanceStrategy},
    intent::EVICTION,
};

use super::{
    super::{
        disruption::Ledger,
        evacuation::{Disposition, Hotplug, Way, plan_evacuation},
    },
    budget::limits_of,
    pass::{Action, Eviction},
};

/// Decides about every eviction.
pub(super) fn plan_evictions(evictions: &[Eviction], ledger: &mut Ledger) -> Vec<Action> {
    evictions.iter().filter_map(|one| plan_eviction(one, ledger)).collect()
}

fn plan_eviction(eviction: &Eviction, ledger: &mut Ledger) -> Option<Action> {
    let machine = &eviction.machine;
    let (key, node) = (machine.key.clone(), eviction.node.clone());
    let owner = EVICTION.to_owned();
    let is_asked = machine.asked.iter().any(|asked| asked.owner == EVICTION);
    if !machine.marked {
        // Somebody took the mark back.
        return is_asked.then_some(Action::Withdraw { key, owner });
    }
    let for_others = machine.asked.iter().any(|asked| asked.owner != EVICTION);
    if machine.terminating || machine.migrating || for_others {
        return None;
    }
    let verdict = plan_evacuation(machine, MaintenanceStrategy::MigrateOnly, eviction.failures);
    match verdict.disposition {
        Disposition::LiveMigrate if is_asked || machine.hotplug != Hotplug::Settled || ledger.is_moving(&key) => None,
        Disposition::LiveMigrate => {
            let limits = limits_of(&MaintenanceBudget::default());
            ledger.take(&key, &machine.pool_name, &node, &limits).ok()?;
            Some(Action::Ask {
                key,
                owner,
                way: Way::Migrate,
                node,
                force_after_seconds: None,
            })
        }
        Disposition::Leaving => None,
        Disposition::RestartInPlace
        | Disposition::SurgeThenDrain
        | Disposition::DrainThenReplace
        | Disposition::Blocked => Some(Action::RefuseEviction {
            key,
            node,
            reason: verdict.reason,
            message: verdict.message,
        }),
    }
}
