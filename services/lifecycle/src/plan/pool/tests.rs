//! Tables and properties of the pool planner.

use proptest::prelude::*;

use super::*;

fn mk_wish(replicas: usize, surge: usize, unavailable: usize) -> PoolWish {
    PoolWish {
        replicas,
        revision: Some("new".into()),
        trigger: Trigger::OnChange,
        paused: false,
        repair: false,
        max_surge: surge,
        max_unavailable: unavailable,
    }
}

fn mk_machine(index: usize, revision: &str, availability: Availability) -> PoolMachine {
    PoolMachine {
        name: format!("w-{index:05}"),
        revision: revision.into(),
        availability,
        going: false,
        replace: false,
        infra_node: Some(format!("n{}", index % 3)),
        created: Timestamp::from_second(i64::try_from(index).unwrap_or_default()).unwrap_or_default(),
    }
}

fn mk_pool(count: usize, revision: &str) -> Vec<PoolMachine> {
    (0..count)
        .map(|i| mk_machine(i, revision, Availability::Available))
        .collect()
}

#[test]
fn a_new_pool_makes_all_at_once() {
    assert_eq!(plan_pool(&mk_wish(6, 1, 0), &[]).create, 6);
}

#[test]
fn a_rollout_surges_first_and_removes_when_the_new_one_is_available() {
    let wish = mk_wish(3, 1, 0);
    let mut machines = mk_pool(3, "old");
    assert_eq!(
        plan_pool(&wish, &machines),
        PoolPlan {
            create: 1,
            outdated: 3,
            ..PoolPlan::default()
        }
    );
    machines.push(mk_machine(9, "new", Availability::Starting));
    let plan = plan_pool(&wish, &machines);
    assert!(plan.is_empty());
    assert_eq!(plan.waiting.map(|w| w.0), Some("WaitingForReady"));
    machines[3].availability = Availability::Available;
    assert_eq!(
        plan_pool(&wish, &machines).remove,
        [("w-00000".to_owned(), RemoveReason::Outdated)]
    );
    machines[0].going = true;
    assert!(
        plan_pool(&wish, &machines).is_empty(),
        "no further surge while one is leaving"
    );
}

#[test]
fn a_requested_replacement_surges_even_if_some_may_be_missing() {
    let wish = mk_wish(3, 1, 1);
    let mut machines = mk_pool(3, "new");
    machines[1].replace = true;
    let plan = plan_pool(&wish, &machines);
    assert_eq!((plan.create, plan.remove.len()), (1, 0));
    machines.push(mk_machine(7, "new", Availability::Available));
    assert_eq!(
        plan_pool(&wish, &machines).remove,
        [("w-00001".to_owned(), RemoveReason::Replaced)]
    );
}

#[test]
fn scale_down_takes_broken_then_the_fullest_node_then_the_newest() {
    let mut machines = mk_pool(5, "new");
    machines[2].availability = Availability::Broken;
    let names = |plan: PoolPlan| plan.remove.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(plan_pool(&mk_wish(4, 1, 0), &machines)), ["w-00002"]);
    assert_eq!(names(plan_pool(&mk_wish(3, 1, 0), &machines)), ["w-00002", "w-00004"]);
}

#[test]
fn nothing_is_replaced_while_paused_or_unknown() {
    let mut wish = mk_wish(3, 1, 0);
    wish.paused = true;
    assert!(plan_pool(&wish, &mk_pool(3, "old")).is_empty());
    wish.paused = false;
    wish.revision = None;
    assert!(plan_pool(&wish, &mk_pool(3, "old")).is_empty());
    let unknown: Vec<_> = (0..4).map(|i| mk_machine(i, "old", Availability::Unknown)).collect();
    assert!(plan_pool(&mk_wish(3, 1, 1), &unknown).remove.is_empty());
}

fn apply(machines: &mut Vec<PoolMachine>, plan: &PoolPlan, steps: usize, next: &mut usize) {
    let mut budget = steps;
    for _ in 0..plan.create {
        if budget == 0 {
            return;
        }
        budget -= 1;
        *next += 1;
        machines.push(mk_machine(*next, "new", Availability::Starting));
    }
    for (name, _) in &plan.remove {
        if budget == 0 {
            return;
        }
        budget -= 1;
        machines
            .iter_mut()
            .filter(|m| m.name == *name)
            .for_each(|m| m.going = true);
    }
}

fn mk_any() -> impl Strategy<Value = (PoolWish, Vec<PoolMachine>)> {
    let machine = (0..2usize, 0..3usize, any::<bool>(), any::<bool>());
    (
        0..8usize,
        0..3usize,
        0..3usize,
        any::<bool>(),
        proptest::collection::vec(machine, 0..10),
    )
        .prop_map(|(replicas, surge, unavailable, repair, list)| {
            let mut wish = mk_wish(replicas, surge, unavailable);
            wish.repair = repair;
            let machines = list
                .into_iter()
                .enumerate()
                .map(|(i, (revision, availability, going, replace))| {
                    let availability =
                        [Availability::Available, Availability::Starting, Availability::Broken][availability];
                    let mut machine = mk_machine(i, ["old", "new"][revision], availability);
                    machine.going = going;
                    machine.replace = replace;
                    machine
                });
            (wish, machines.collect())
        })
}

proptest! {
    /// Whatever is there, and wherever execution stops, the pool ends with exactly the wanted machines; meanwhile we never take
    /// an available machine below the limit, nor make more than replicas and surge.
    #[test]
    fn pools_converge_safely((wish, mut machines) in mk_any(), prefixes in proptest::collection::vec(0..4usize, 60)) {
        let mut next = 1000;
        for round in 0..400 {
            let before = machines.iter().filter(|m| !m.going && m.availability == Availability::Available).count();
            let current = machines.iter().filter(|m| !m.going).count();
            let plan = plan_pool(&wish, &machines);
            prop_assert_eq!(&plan, &plan_pool(&wish, &machines));
            prop_assert!(plan.create == 0 || current + plan.create <= wish.replicas + wish.surge());
            let steps = prefixes.get(round).copied().unwrap_or(usize::MAX);
            apply(&mut machines, &plan, steps, &mut next);
            let after = machines.iter().filter(|m| !m.going && m.availability == Availability::Available).count();
            let kept = machines.iter().filter(|m| !m.going && m.availability == Availability::Broken && !is_outdated(&wish, m)).count();
            let floor = wish.replicas.saturating_sub(wish.unavailable().max(kept));
            prop_assert!(after >= before.min(floor), "{} -> {}", before, after);
            // The world moves: one machine a round becomes available, one that goes is gone.
            if let Some(starting) = machines.iter_mut().find(|m| m.availability == Availability::Starting && !m.going) {
                starting.availability = Availability::Available;
            }
            if let Some(index) = machines.iter().position(|m| m.going) {
                machines.remove(index);
            }
        }
        let plan = plan_pool(&wish, &machines);
        prop_assert!(plan.is_empty(), "{:?}", plan);
        if wish.surge() == 0 && machines.iter().any(|m| m.availability == Availability::Broken) {
            // What is broken and kept uses up what may be missing; the plan says that it waits.
            return Ok(());
        }
        prop_assert_eq!(machines.len(), wish.replicas);
        prop_assert!(machines.iter().all(|m| m.revision == "new" && !m.replace));
    }
}
