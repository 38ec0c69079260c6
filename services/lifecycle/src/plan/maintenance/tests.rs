use std::collections::BTreeSet;

use proptest::prelude::*;
use steading_infra::crd::maintenance::{MaintenanceBudget, StallAction};

use super::{
    super::evacuation::{
        Disposition, Guest, ObservedClusterState, ObservedTenant,
        tests::{mk_fixed, mk_machine},
    },
    *,
};

const NODE: &str = "infra-1";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn mk_maintenance(desired_state: MaintenanceDesire) -> ObservedMaintenance {
    ObservedMaintenance {
        name: "repair".into(),
        spec: MaintenanceSpec {
            infra_node: NODE.into(),
            desired_state,
            ..MaintenanceSpec::default()
        },
        node: Some(ObservedNode::default()),
        ..ObservedMaintenance::default()
    }
}

fn mk_input(maintenance: ObservedMaintenance, machines: Vec<ObservedMachine>) -> PassInput {
    PassInput {
        maintenances: vec![maintenance],
        machines: [(NODE.to_owned(), machines)].into(),
        zones: [(NODE.to_owned(), "a".to_owned())].into(),
        ..PassInput::default()
    }
}

/// A cluster that does what it is told, some passes later.
struct World {
    input: PassInput,
    left: BTreeSet<MachineKey>,
    most: usize,
    now: i64,
}

impl World {
    fn new(maintenance: ObservedMaintenance, machines: Vec<ObservedMachine>) -> Self {
        Self {
            input: mk_input(maintenance, machines),
            left: BTreeSet::new(),
            most: 0,
            now: 0,
        }
    }

    fn seen(&mut self) -> &mut ObservedMaintenance {
        &mut self.input.maintenances[0]
    }

    fn machines(&mut self) -> &mut Vec<ObservedMachine> {
        self.input.machines.get_mut(NODE).unwrap()
    }

    fn state(&self) -> State {
        State::of(&self.input.maintenances[0].status)
    }

    /// One pass; only the first `limit` actions come to pass, and the status is lost with them.
    fn pass(&mut self, limit: usize) -> Vec<Action> {
        self.now += 5;
        self.input.moving = self
            .machines()
            .iter()
            .filter(|m| m.migrating || m.replace_requested.is_some() || m.evacuation.is_some() || m.going)
            .map(|m| Moving {
                key: m.key.clone(),
                node: NODE.into(),
            })
            .collect();
        let outcome = plan_maintenances(&self.input, at(self.now)).remove(0);
        for action in outcome.actions.iter().take(limit) {
            self.act(action);
        }
        if limit >= outcome.actions.len() {
            self.seen().status = outcome.status;
        }
        let begun = |m: &&ObservedMachine| m.migrating || m.replace_requested.is_some() || m.evacuation.is_some();
        let moving = self.machines().iter().filter(begun).count();
        self.most = self.most.max(moving);
        outcome.actions
    }

    fn act(&mut self, action: &Action) {
        let node = self.seen().node.clone();
        match action {
            Action::Hold { .. } => self.seen().finalizer = true,
            Action::Release { .. } => self.seen().finalizer = false,
            Action::Cordon { maintenance, .. } => {
                self.seen().node = Some(ObservedNode {
                    cordoned: true,
                    cordoned_by: Some(maintenance.clone()),
                });
            }
            Action::Uncordon { .. } => self.seen().node = Some(ObservedNode::default()),
            Action::Migrate { key, .. } => {
                assert!(
                    node.is_some_and(|node| node.cordoned),
                    "moved before the node was cordoned"
                );
                self.with(key, |m| m.migrating = true);
            }
            Action::Replace { key, .. } => self.with(key, |m| m.replace_requested = Some("maintenance".into())),
            Action::Restart { key, .. } => self.with(key, |m| m.evacuation = Some("repair".into())),
            Action::CancelMark { key, .. } => self.with(key, |m| m.marked = false),
        }
    }

    fn with(&mut self, key: &MachineKey, change: impl FnOnce(&mut ObservedMachine)) {
        change(self.machines().iter_mut().find(|m| &m.key == key).unwrap());
    }

    /// The oldest move comes to its end.
    fn finish_one(&mut self) {
        let begun = |m: &ObservedMachine| m.migrating || m.replace_requested.is_some() || m.evacuation.is_some();
        if let Some(at) = self.machines().iter().position(begun) {
            let gone = self.machines().remove(at);
            self.left.insert(gone.key);
        }
    }
}

fn mixed(count: usize) -> Vec<ObservedMachine> {
    (0..count)
        .map(|n| {
            let mut machine = if n % 2 == 0 {
                mk_machine(&format!("m{n}"))
            } else {
                mk_fixed(&format!("m{n}"))
            };
            machine.key.namespace = format!("acme--c{}", n % 3);
            machine
        })
        .collect()
}

#[test]
fn a_planned_maintenance_moves_nothing_and_shows_its_plan() {
    let mut world = World::new(
        mk_maintenance(MaintenanceDesire::Planned),
        vec![mk_fixed("b"), mk_machine("a")],
    );
    assert!(world.pass(usize::MAX).is_empty());
    let plan = world.seen().status.plan.clone().unwrap();
    let shown: Vec<_> = plan
        .entries
        .iter()
        .map(|e| (e.machine.as_str(), e.disposition.as_str()))
        .collect();
    assert_eq!(shown, [("a", "LiveMigrate"), ("b", "SurgeThenDrain")]);
    assert_eq!(world.state(), State::Planned);
    world.pass(usize::MAX);
    assert_eq!(world.seen().status.plan, Some(plan), "the same plan keeps its time");
}

#[test]
fn nothing_is_begun_before_the_node_was_seen_cordoned() {
    let mut world = World::new(mk_maintenance(MaintenanceDesire::InMaintenance), vec![mk_machine("a")]);
    let first = world.pass(usize::MAX);
    assert!(first.iter().any(|a| matches!(a, Action::Cordon { .. })), "{first:?}");
    assert!(!first.iter().any(|a| matches!(a, Action::Migrate { .. })), "{first:?}");
    assert!(
        world
            .pass(usize::MAX)
            .iter()
            .any(|a| matches!(a, Action::Migrate { .. }))
    );
}

#[test]
fn a_machine_that_changed_gets_another_disposition_and_says_so() {
    let mut world = World::new(mk_maintenance(MaintenanceDesire::Planned), vec![mk_machine("a")]);
    world.pass(usize::MAX);
    world.seen().spec.desired_state = MaintenanceDesire::InMaintenance;
    world.pass(usize::MAX);
    world.machines()[0].migratable = mk_fixed("a").migratable;
    let actions = world.pass(usize::MAX);
    assert!(
        actions.iter().any(|a| matches!(a, Action::Replace { .. })),
        "{actions:?}"
    );
    let progress = &world.seen().status.progress[0];
    assert!(progress.differs_from_plan);
    assert_eq!(progress.reason, "NotMigratable");
    assert_eq!(
        world.seen().status.plan.clone().unwrap().entries[0].disposition,
        "LiveMigrate",
        "the plan is frozen"
    );
}

#[test]
fn a_node_that_somebody_uncordons_ends_what_has_not_begun() {
    let mut world = World::new(mk_maintenance(MaintenanceDesire::InMaintenance), mixed(6));
    world.pass(usize::MAX);
    world.pass(usize::MAX);
    let begun = world.most;
    assert!(begun > 0);
    world.seen().node = Some(ObservedNode::default());
    for _ in 0..3 {
        let actions = world.pass(usize::MAX);
        assert!(!actions.iter().any(|a| matches!(
            a,
            Action::Migrate { .. } | Action::Replace { .. } | Action::Cordon { .. }
        )));
    }
    assert_eq!(world.state(), State::Cancelling);
    for _ in 0..begun {
        world.finish_one();
    }
    world.pass(usize::MAX);
    assert_eq!((world.state(), world.left.len()), (State::Cancelled, begun));
}

#[test]
fn only_marked_machines_leave_after_a_plain_drain() {
    let mut maintenance = mk_maintenance(MaintenanceDesire::InMaintenance);
    maintenance.spec.scope = MaintenanceScope::Evicted;
    maintenance.node = Some(ObservedNode {
        cordoned: true,
        cordoned_by: None,
    });
    let marked = ObservedMachine {
        marked: true,
        ..mk_machine("a")
    };
    let mut world = World::new(maintenance, vec![marked, mk_machine("b")]);
    world.pass(usize::MAX);
    world.pass(usize::MAX);
    let moving: Vec<_> = world
        .machines()
        .iter()
        .filter(|m| m.migrating)
        .map(|m| m.key.machine.clone())
        .collect();
    assert_eq!(moving, ["a"]);
    world.finish_one();
    world.pass(usize::MAX);
    assert_eq!(world.state(), State::InMaintenance);
}

#[test]
fn a_cancelled_drain_takes_marks_back() {
    let mut maintenance = mk_maintenance(MaintenanceDesire::InMaintenance);
    maintenance.spec.scope = MaintenanceScope::Evicted;
    let mut world = World::new(
        maintenance,
        vec![ObservedMachine {
            marked: true,
            ..mk_machine("a")
        }],
    );
    assert!(
        world
            .pass(usize::MAX)
            .iter()
            .any(|a| matches!(a, Action::CancelMark { .. }))
    );
    assert_eq!(world.state(), State::Cancelled);
}

#[test]
fn a_cordon_of_others_stays_after_cancelling() {
    let mut maintenance = mk_maintenance(MaintenanceDesire::InMaintenance);
    maintenance.node = Some(ObservedNode {
        cordoned: true,
        cordoned_by: None,
    });
    let mut world = World::new(maintenance, vec![]);
    world.seen().status.start_time = Some(Time(at(0)));
    world.seen().spec.desired_state = MaintenanceDesire::Cancelled;
    assert!(
        !world
            .pass(usize::MAX)
            .iter()
            .any(|a| matches!(a, Action::Uncordon { .. }))
    );
    assert_eq!(world.state(), State::Cancelled);
}

#[test]
fn machines_that_cannot_leave_stall_the_maintenance_with_their_reason() {
    let blocked = ObservedMachine {
        cluster: ObservedClusterState::Paused,
        ..mk_machine("a")
    };
    let mut world = World::new(mk_maintenance(MaintenanceDesire::InMaintenance), vec![blocked]);
    for _ in 0..3 {
        world.pass(usize::MAX);
    }
    assert_eq!(world.state(), State::Stalled);
    let stalled = world
        .seen()
        .status
        .conditions
        .iter()
        .find(|c| c.type_ == "Stalled")
        .unwrap();
    assert_eq!(
        (stalled.status.as_str(), stalled.reason.as_str()),
        ("True", "ClusterPaused")
    );
}

#[test]
fn a_drain_that_a_budget_holds_is_reported_with_that_reason() {
    let tenant = ObservedTenant::Reachable {
        exhausted_budgets: vec!["shop/db".into()],
    };
    let machine = ObservedMachine {
        tenant,
        ..mk_fixed("a")
    };
    let mut world = World::new(mk_maintenance(MaintenanceDesire::InMaintenance), vec![machine]);
    world.pass(usize::MAX);
    world.pass(usize::MAX);
    world.now += 3600;
    world.pass(usize::MAX);
    assert_eq!(world.state(), State::Stalled);
    let stalled = world
        .seen()
        .status
        .conditions
        .iter()
        .find(|c| c.type_ == "Stalled")
        .unwrap();
    assert_eq!(stalled.reason, "PodDisruptionBudget");
}

#[test]
fn only_an_escalating_policy_forces_drains() {
    for (action, expected) in [(StallAction::Report, None), (StallAction::Escalate, Some(7200))] {
        let mut maintenance = mk_maintenance(MaintenanceDesire::InMaintenance);
        maintenance.spec.stall_policy.action = action;
        let mut world = World::new(maintenance, vec![mk_fixed("a")]);
        world.pass(usize::MAX);
        let actions = world.pass(usize::MAX);
        let force = actions.iter().find_map(|a| match a {
            Action::Replace {
                force_after_seconds, ..
            } => Some(*force_after_seconds),
            _ => None,
        });
        assert_eq!(force, Some(expected));
    }
}

#[test]
fn completing_gives_the_empty_node_back() {
    let mut world = World::new(mk_maintenance(MaintenanceDesire::InMaintenance), vec![]);
    for _ in 0..3 {
        world.pass(usize::MAX);
    }
    assert_eq!(world.state(), State::InMaintenance);
    world.seen().spec.desired_state = MaintenanceDesire::Completed;
    world.pass(usize::MAX);
    assert_eq!(world.state(), State::Completed);
    assert!(!world.seen().node.clone().unwrap().cordoned && !world.seen().finalizer);
}

#[test]
fn a_machine_that_never_booted_is_restarted_without_a_tenant() {
    let machine = ObservedMachine {
        guest: Guest::NotRunning,
        tenant: ObservedTenant::Unreachable,
        ..mk_fixed("a")
    };
    let mut world = World::new(mk_maintenance(MaintenanceDesire::InMaintenance), vec![machine]);
    world.pass(usize::MAX);
    assert!(
        world
            .pass(usize::MAX)
            .iter()
            .any(|a| matches!(a, Action::Restart { .. }))
    );
    assert_eq!(
        world.seen().status.progress[0].disposition,
        Disposition::RestartInPlace.as_str()
    );
}

proptest! {
    #[test]
    fn budgets_hold_and_every_machine_leaves(
        count in 0_usize..24,
        per_node in 1_i32..5,
        per_cluster in 1_i32..3,
        crashes in proptest::collection::vec(0_usize..4, 0..12),
    ) {
        let mut maintenance = mk_maintenance(MaintenanceDesire::InMaintenance);
        maintenance.spec.budget = MaintenanceBudget {
            max_concurrent_per_infra_node: Some(per_node),
            max_concurrent_per_zone: Some(3),
            max_concurrent_per_tenant_cluster: Some(per_cluster),
        };
        let mut world = World::new(maintenance, mixed(count));
        for step in 0..count * 2 + crashes.len() + 6 {
            // A crash: only a prefix of the actions happened, and the status was not written.
            world.pass(crashes.get(step).copied().unwrap_or(usize::MAX));
            let mut clusters = std::collections::BTreeMap::<String, i32>::new();
            for machine in world.machines().iter().filter(|m| m.migrating || m.replace_requested.is_some()) {
                *clusters.entry(machine.key.namespace.clone()).or_default() += 1;
            }
            prop_assert!(clusters.values().all(|&n| n <= per_cluster));
            world.finish_one();
        }
        prop_assert!(i32::try_from(world.most).unwrap() <= per_node.min(3));
        prop_assert_eq!(world.left.len(), count);
        prop_assert_eq!(world.state(), State::InMaintenance);
        prop_assert!(world.pass(usize::MAX).is_empty(), "a fixed point");
    }

    #[test]
    fn a_cancelled_maintenance_begins_nothing(count in 0_usize..12, passes in 0_usize..6) {
        let mut world = World::new(mk_maintenance(MaintenanceDesire::InMaintenance), mixed(count));
        for _ in 0..passes {
            world.pass(usize::MAX);
        }
        world.seen().spec.desired_state = MaintenanceDesire::Cancelled;
        for _ in 0..count + 3 {
            let actions = world.pass(usize::MAX);
            let fresh = actions.iter().any(|a| matches!(a, Action::Migrate { .. } | Action::Replace { .. }));
            prop_assert!(!fresh);
            world.finish_one();
        }
        prop_assert_eq!(world.state(), State::Cancelled);
        prop_assert!(!world.seen().node.clone().unwrap().cordoned);
    }
}
