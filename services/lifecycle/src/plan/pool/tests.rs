//! Tables and properties of the pool planner.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{
    domain::pool::Trigger,
    plan::disruption::{Cause, Disruption},
};

fn mk_desired(replicas: usize, surge: usize, unavailable: usize) -> DesiredPool {
    DesiredPool {
        replicas,
        revision: Some("new".into()),
        trigger: Trigger::OnChange,
        paused: false,
        repair: false,
        max_surge: surge,
        max_unavailable: unavailable,
        most: None,
        max_failures: 3,
    }
}

fn at(second: usize) -> Timestamp {
    Timestamp::from_second(i64::try_from(second).unwrap_or_default()).unwrap_or_default()
}

fn mk_machine(index: usize, revision: &str, availability: Availability) -> PoolMachine {
    PoolMachine {
        name: format!("w-{index:05}"),
        revision: revision.into(),
        availability,
        termination: Termination::None,
        replace: false,
        infra_node: Some(format!("n{}", index % 3)),
        created: at(index),
        joined: Some(at(index + 1)),
        deletion_cost: 0,
        trouble: String::new(),
    }
}

/// A machine that has not joined.
fn mk_new(index: usize, revision: &str, availability: Availability) -> PoolMachine {
    PoolMachine {
        joined: None,
        trouble: "no infra node fits".into(),
        ..mk_machine(index, revision, availability)
    }
}

fn mk_pool(count: usize, revision: &str) -> Vec<PoolMachine> {
    (0..count)
        .map(|i| mk_machine(i, revision, Availability::Available))
        .collect()
}

fn plan_with(desired: &DesiredPool, machines: &[PoolMachine], failures: &Failures, ledger: &mut Ledger) -> PoolPlan {
    let input = PoolInput {
        namespace: "p--c",
        pool: "w",
        desired,
        machines,
        failures,
        moving_per_cluster: moving_per_pool(desired),
    };
    plan_pool(&input, ledger)
}

/// Plans with a ledger that has just the pool's own machines.
fn plan(desired: &DesiredPool, machines: &[PoolMachine]) -> PoolPlan {
    plan_with(desired, machines, &Failures::default(), &mut ledger_of(machines))
}

fn ledger_of(machines: &[PoolMachine]) -> Ledger {
    let away: Vec<Disruption> = machines
        .iter()
        .filter(|m| m.joined.is_some() && (m.is_terminating() || m.replace))
        .map(|m| mk_moving(&m.name))
        .collect();
    Ledger::new(&away, &BTreeMap::new())
}

fn mk_moving(name: &str) -> Disruption {
    Disruption {
        key: MachineKey {
            namespace: "p--c".into(),
            machine: name.into(),
        },
        pool: "w".into(),
        node: "n1".into(),
        cause: Cause::Moving,
    }
}

#[test]
fn a_new_pool_makes_all_at_once() {
    assert_eq!(plan(&mk_desired(6, 1, 0), &[]).create, 6);
}

#[test]
fn a_rollout_surges_first_and_removes_when_the_new_one_is_available() {
    let desired = mk_desired(3, 1, 0);
    let mut machines = mk_pool(3, "old");
    let first = plan(&desired, &machines);
    assert_eq!((first.create, first.outdated, first.remove.len()), (1, 3, 0));
    machines.push(mk_new(9, "new", Availability::Starting));
    let second = plan(&desired, &machines);
    assert!(second.is_empty());
    let (reason, message) = second.waiting.unwrap();
    assert_eq!(reason, WaitReason::WaitingForReady);
    assert!(message.contains("no infra node fits"), "{message}");
    machines[3] = mk_machine(9, "new", Availability::Available);
    assert_eq!(
        plan(&desired, &machines).remove,
        [("w-00000".to_owned(), RemoveReason::Outdated)]
    );
    machines[0].termination = Termination::Revocable;
    assert!(
        plan(&desired, &machines).is_empty(),
        "no further surge while one is leaving"
    );
}

#[test]
fn a_failed_rollout_recovers_with_the_next_template() {
    let desired = mk_desired(2, 1, 0);
    for availability in [Availability::Starting, Availability::Broken] {
        let mut machines = mk_pool(2, "old");
        machines.push(mk_new(5, "bad", availability));
        let first = plan(&desired, &machines);
        assert_eq!(first.remove, [("w-00005".to_owned(), RemoveReason::Outdated)]);
        machines.pop();
        assert_eq!(plan(&desired, &machines).create, 1, "the surge is free again");
    }
}

#[test]
fn a_pool_whose_new_machines_fail_stops_and_keeps_the_old_ones() {
    for repair in [false, true] {
        let mut desired = mk_desired(5, 5, 0);
        desired.repair = repair;
        let mut machines = mk_pool(5, "old");
        machines.extend((10..13).map(|i| mk_new(i, "new", Availability::Broken)));
        let halted = plan(&desired, &machines);
        assert!(halted.is_empty(), "{halted:?}");
        assert!(
            halted.halted.clone().unwrap().contains("no infra node fits"),
            "{halted:?}"
        );
        assert_eq!(halted.waiting.map(|w| w.0), Some(WaitReason::TooManyFailures));
    }
}

#[test]
fn repair_of_machines_that_never_come_up_ends_at_the_limit() {
    let mut desired = mk_desired(2, 1, 0);
    desired.repair = true;
    let mut failures = Failures::default();
    let mut machines = mk_pool(1, "new");
    let mut made = 0;
    for round in 0..20 {
        let plan = plan_with(&desired, &machines, &failures, &mut ledger_of(&machines));
        machines.retain(|m| !plan.remove.iter().any(|(name, _)| *name == m.name));
        made += plan.create;
        machines.extend((0..plan.create).map(|i| mk_new(100 + round * 10 + i, "new", Availability::Broken)));
        failures = plan.failures.clone();
    }
    assert_eq!(made, 3, "as many as may fail");
    assert!(machines.iter().any(|m| m.joined.is_some()), "what works is kept");
    let mut came_up = machines.clone();
    for machine in &mut came_up {
        machine.availability = Availability::Available;
        machine.joined = machine.joined.or(Some(at(5_000)));
    }
    failures.last = Some(at(1_000));
    let after = plan_with(&desired, &came_up, &failures, &mut Ledger::default());
    assert_eq!(
        (after.failures.count, after.halted),
        (0, None),
        "one that comes up clears the count"
    );
}

#[test]
fn a_requested_replacement_surges_even_if_some_may_be_missing() {
    let desired = mk_desired(3, 1, 1);
    let mut machines = mk_pool(3, "new");
    machines[1].replace = true;
    let first = plan(&desired, &machines);
    assert_eq!((first.create, first.remove.len()), (1, 0));
    machines.push(mk_machine(7, "new", Availability::Available));
    assert_eq!(
        plan(&desired, &machines).remove,
        [("w-00001".to_owned(), RemoveReason::Replaced)]
    );
}

#[test]
fn scale_down_takes_broken_then_the_cheapest_then_the_fullest_node_then_the_newest() {
    let mut machines = mk_pool(6, "new");
    machines[2].availability = Availability::Broken;
    machines[0].deletion_cost = -5;
    machines[4].deletion_cost = 100;
    let names = |plan: PoolPlan| plan.remove.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(plan(&mk_desired(5, 1, 0), &machines)), ["w-00002"]);
    assert_eq!(names(plan(&mk_desired(4, 1, 0), &machines)), ["w-00002", "w-00000"]);
    assert_eq!(
        names(plan(&mk_desired(2, 1, 0), &machines)),
        ["w-00002", "w-00000", "w-00001", "w-00005"]
    );
}

#[test]
fn a_scale_down_that_is_taken_back_keeps_its_machine() {
    let mut machines = mk_pool(3, "new");
    machines[2].termination = Termination::Revocable;
    machines[2].availability = Availability::Away;
    let back = plan(&mk_desired(3, 1, 0), &machines);
    assert_eq!((back.create, back.revoke), (0, vec!["w-00002".to_owned()]));
    machines[2].termination = Termination::Final;
    let late = plan(&mk_desired(3, 1, 0), &machines);
    assert_eq!((late.create, late.revoke.len()), (1, 0));
}

#[test]
fn nothing_is_replaced_while_paused_or_unknown() {
    let mut desired = mk_desired(3, 1, 0);
    desired.paused = true;
    assert!(plan(&desired, &mk_pool(3, "old")).is_empty());
    desired.paused = false;
    desired.revision = None;
    assert!(plan(&desired, &mk_pool(3, "old")).is_empty());
    let unknown: Vec<_> = (0..4).map(|i| mk_machine(i, "old", Availability::Unknown)).collect();
    assert!(plan(&mk_desired(3, 1, 1), &unknown).remove.is_empty());
}

#[test]
fn a_machine_that_was_drained_by_hand_is_replaced_first() {
    let desired = mk_desired(3, 1, 0);
    let mut machines = mk_pool(3, "old");
    machines[2].availability = Availability::Away;
    assert_eq!(plan(&desired, &machines).create, 1);
    machines.push(mk_machine(9, "new", Availability::Available));
    assert_eq!(
        plan(&desired, &machines).remove,
        [("w-00002".to_owned(), RemoveReason::Outdated)]
    );
}

#[test]
fn a_rollout_waits_while_a_maintenance_moves_another_machine_of_the_cluster() {
    let desired = mk_desired(3, 1, 0);
    let mut machines = mk_pool(3, "old");
    machines.push(mk_machine(9, "new", Availability::Available));
    let mut ledger = Ledger::new(&[mk_moving("other-1")], &BTreeMap::new());
    let held = plan_with(&desired, &machines, &Failures::default(), &mut ledger);
    assert!(held.remove.is_empty());
    assert_eq!(held.waiting.map(|w| w.0), Some(WaitReason::DisruptionBudget));
}

#[test]
fn a_drain_that_waits_for_the_last_pods_does_not_keep_a_broken_machine_from_being_replaced() {
    let mut machines = vec![
        mk_machine(0, "old", Availability::Away),
        mk_machine(1, "old", Availability::Broken),
    ];
    machines[0].termination = Termination::Revocable;
    let desired = mk_desired(1, 0, 1);
    let removed = plan(&desired, &machines).remove;
    assert_eq!(removed, [("w-00001".to_owned(), RemoveReason::Outdated)]);
    // While something works, the others wait for their turn.
    machines.push(mk_machine(2, "new", Availability::Available));
    let removed = plan(&mk_desired(2, 0, 1), &machines).remove;
    assert!(removed.is_empty(), "{removed:?}");
}

#[test]
fn quota_and_surge_never_ratchet_a_pool_above_its_quota() {
    let mut desired = mk_desired(3, 1, 0);
    desired.most = Some(3);
    let stuck = plan(&desired, &mk_pool(3, "old"));
    assert_eq!(stuck.create, 0);
    assert_eq!(stuck.waiting.map(|w| w.0), Some(WaitReason::QuotaExceeded));
    desired.max_unavailable = 1;
    let mut machines = mk_pool(3, "old");
    let moves = plan(&desired, &machines);
    assert_eq!((moves.create, moves.remove.len()), (0, 1));
    machines[0].termination = Termination::Revocable;
    assert_eq!(
        plan(&desired, &machines).create,
        0,
        "a terminating machine still takes its place"
    );
}

fn apply(machines: &mut Vec<PoolMachine>, plan: &PoolPlan, steps: usize, next: &mut usize) {
    let removals = plan.remove.iter().map(|(name, _)| (name, Termination::Revocable));
    let revocations = plan.revoke.iter().map(|name| (name, Termination::None));
    let changes: Vec<_> = removals.chain(revocations).take(steps).collect();
    let budget = steps - changes.len();
    for (name, termination) in changes {
        for machine in machines.iter_mut().filter(|m| m.name == *name) {
            machine.termination = termination;
            if termination == Termination::Revocable && machine.availability == Availability::Available {
                machine.availability = Availability::Away;
            }
        }
    }
    for _ in 0..plan.create.min(budget) {
        *next += 1;
        machines.push(mk_new(*next, "new", Availability::Starting));
    }
}

const ANY: [Availability; 4] = [
    Availability::Available,
    Availability::Starting,
    Availability::Broken,
    Availability::Away,
];

fn mk_any() -> impl Strategy<Value = (DesiredPool, Vec<PoolMachine>)> {
    let machine = (0..2_usize, 0..4_usize, 0..3_usize, any::<bool>(), any::<bool>());
    let pool = (0..8_usize, 0..3_usize, 0..3_usize, any::<bool>(), 0..4_usize);
    (pool, prop::collection::vec(machine, 0..10)).prop_map(|((replicas, surge, unavailable, repair, more), list)| {
        let mut desired = mk_desired(replicas, surge, unavailable);
        desired.repair = repair;
        desired.max_failures = 0;
        let machines: Vec<PoolMachine> = list
            .into_iter()
            .enumerate()
            .map(|(i, (revision, availability, termination, replace, joined))| {
                let make = if joined || ANY[availability] == Availability::Available {
                    mk_machine
                } else {
                    mk_new
                };
                let mut machine = make(i, ["old", "new"][revision], ANY[availability]);
                let all = [Termination::None, Termination::Revocable, Termination::Final];
                machine.termination = all[termination];
                machine.replace = replace;
                machine
            })
            .collect();
        // Sometimes a quota that is met already, but always room for the replicas.
        desired.most = (more > 0).then(|| machines.len().max(replicas) + more);
        (desired, machines)
    })
}

fn available(machines: &[PoolMachine]) -> usize {
    let is = |m: &&PoolMachine| !m.is_terminating() && m.availability == Availability::Available;
    machines.iter().filter(is).count()
}

proptest! {
    /// Whatever is there, and wherever execution stops, the pool ends with exactly the wanted machines; meanwhile we never take
    /// an available machine below the limit, nor make more than replicas and surge, nor go beyond the quota.
    #[test]
    fn pools_converge_safely((desired, mut machines) in mk_any(), prefixes in prop::collection::vec(0..4_usize, 60)) {
        let (mut next, mut failures) = (1000, Failures::default());
        for round in 0..400 {
            let before = available(&machines);
            let current = machines.iter().filter(|m| !m.is_terminating()).count();
            let plan = plan_with(&desired, &machines, &failures, &mut ledger_of(&machines));
            prop_assert_eq!(&plan, &plan_with(&desired, &machines, &failures, &mut ledger_of(&machines)));
            prop_assert!(plan.create == 0 || current + plan.create <= desired.replicas + desired.surge());
            let steps = prefixes.get(round).copied().unwrap_or(usize::MAX);
            failures = plan.failures.clone();
            apply(&mut machines, &plan, steps, &mut next);
            prop_assert!(plan.create == 0 || desired.most.is_none_or(|most| machines.len() <= most));
            let kept = machines.iter().filter(|m| !m.is_terminating() && is_kept(&desired, m)).count();
            let floor = desired.replicas.saturating_sub(desired.unavailable().max(kept));
            prop_assert!(available(&machines) >= before.min(floor), "{} -> {}", before, available(&machines));
            // The world moves: one machine a round becomes available, one that is terminating ends.
            let starting = |m: &&mut PoolMachine| matches!(m.availability, Availability::Starting | Availability::Away);
            if let Some(starting) = machines.iter_mut().filter(starting).find(|m| m.termination == Termination::None) {
                starting.availability = Availability::Available;
                starting.joined = starting.joined.or(Some(at(10_000 + round)));
            }
            if let Some(index) = machines.iter().position(PoolMachine::is_terminating) {
                machines.remove(index);
            }
        }
        let plan = plan_with(&desired, &machines, &failures, &mut ledger_of(&machines));
        prop_assert!(plan.is_empty(), "{:?}", plan);
        if machines.iter().any(|m| m.availability == Availability::Broken) {
            // What is broken and kept uses up what may be missing; the plan says that it waits.
            return Ok(());
        }
        prop_assert_eq!(machines.len(), desired.replicas);
        prop_assert!(machines.iter().all(|m| m.revision == "new" && !m.replace), "{:?} {:?}", plan, machines);
    }

    /// However a revision fails, what worked before keeps working, and a good revision brings the pool to its end.
    #[test]
    fn a_bad_revision_costs_nothing_and_a_good_one_cures_it(
        replicas in 1..6_usize, surge in 0..3_usize, unavailable in 0..3_usize, repair in any::<bool>(),
        prefixes in prop::collection::vec(0..4_usize, 40),
    ) {
        let mut desired = mk_desired(replicas, surge, unavailable);
        desired.repair = repair;
        let (mut machines, mut next, mut failures) = (mk_pool(replicas, "old"), 1000, Failures::default());
        let floor = replicas - desired.unavailable();
        let mut made = 0;
        for round in 0..80 {
            let plan = plan_with(&desired, &machines, &failures, &mut ledger_of(&machines));
            failures = plan.failures.clone();
            apply(&mut machines, &plan, prefixes.get(round).copied().unwrap_or(usize::MAX), &mut next);
            for machine in machines.iter_mut().filter(|m| m.revision == "new" && m.joined.is_none()) {
                machine.availability = Availability::Broken;
            }
            made = next - 1000;
            machines.retain(|m| !m.is_terminating());
            prop_assert!(available(&machines) >= floor, "{:?}", plan);
        }
        prop_assert!(made <= 3 + desired.surge() + desired.unavailable() + prefixes.len(), "{} made", made);
        let seen = next;
        for _ in 0..20 {
            let plan = plan_with(&desired, &machines, &failures, &mut ledger_of(&machines));
            failures = plan.failures.clone();
            apply(&mut machines, &plan, usize::MAX, &mut next);
            machines.retain(|m| !m.is_terminating());
        }
        prop_assert_eq!(seen, next, "it has stopped");
        desired.revision = Some("better".into());
        for round in 0..200 {
            let plan = plan_with(&desired, &machines, &failures, &mut ledger_of(&machines));
            failures = plan.failures.clone();
            let known = machines.len();
            apply(&mut machines, &plan, usize::MAX, &mut next);
            for machine in machines.iter_mut().skip(known) {
                *machine = PoolMachine { revision: "better".into(), name: machine.name.clone(), ..mk_machine(next, "better", Availability::Available) };
                machine.joined = Some(at(20_000 + round));
            }
            machines.retain(|m| !m.is_terminating());
            prop_assert!(available(&machines) >= floor);
        }
        prop_assert_eq!(machines.len(), replicas);
        prop_assert!(machines.iter().all(|m| m.revision == "better"), "{:?}", machines);
    }
}
