use std::collections::BTreeSet;

use proptest::prelude::*;
use steading_infra::{
    crd::maintenance::{MaintenanceBudget, MaintenanceSpec, StallAction},
    intent::EVICTION,
};

use super::{
    super::{
        disruption::{Cause, Disruption},
        evacuation::{
            Asked, Disposition, Guest, MachineKey, ObservedClusterState, ObservedTenant, Way,
            tests::{mk_fixed, mk_machine},
        },
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

/// Whether a machine has been asked to leave, or leaves.
fn is_begun(machine: &ObservedMachine) -> bool {
    machine.migrating || machine.terminating || !machine.asked.is_empty()
}

/// Infra nodes with their machines; what is asked for happens some passes later.
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

    /// One pass; of each maintenance only the first `limit` actions come to pass, and with a limit the status is lost.
    fn pass(&mut self, limit: usize) -> Vec<Action> {
        self.now += 5;
        let begun = self.machines().iter().filter(|m| is_begun(m)).cloned();
        let away = begun.map(|m| Disruption {
            key: m.key.clone(),
            pool: m.pool_name.clone(),
            node: NODE.into(),
            cause: Cause::Moving,
        });
        self.input.away = away.collect();
        self.input.asked.clear();
        for machine in self.machines().clone().iter().filter(|m| !m.terminating) {
            for asked in &machine.asked {
                let id = asked.owner.strip_prefix("maintenance-").unwrap_or_default().to_owned();
                self.input.asked.entry(id).or_default().push(machine.key.clone());
            }
        }
        let plan = plan_pass(&self.input, at(self.now));
        let mut actions = plan.actions.clone();
        for action in &plan.actions {
            self.act(action);
        }
        for (index, outcome) in plan.outcomes.into_iter().enumerate() {
            for action in outcome.actions.iter().take(limit) {
                self.act(action);
            }
            if limit >= outcome.actions.len() {
                self.input.maintenances[index].status = outcome.status;
            }
            actions.extend(outcome.actions);
        }
        let moving = self.machines().iter().filter(|m| is_begun(m)).count();
        self.most = self.most.max(moving);
        actions
    }

    fn set_node(&mut self, node: &ObservedNode) {
        for one in &mut self.input.maintenances {
            one.node = Some(node.clone());
        }
    }

    fn of(&mut self, maintenance: &str) -> &mut ObservedMaintenance {
        self.input
            .maintenances
            .iter_mut()
            .find(|one| one.name == maintenance)
            .unwrap()
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Hold { maintenance } => self.of(maintenance).finalizer = true,
            Action::Release { maintenance } => self.of(maintenance).finalizer = false,
            Action::Cordon { maintenance, .. } => self.set_node(&ObservedNode {
                cordoned: true,
                cordoned_by: Some(maintenance.clone()),
            }),
            Action::Uncordon { .. } | Action::GiveBack { .. } => self.set_node(&ObservedNode::default()),
            Action::Ask { key, owner, way, .. } => {
                let cordoned = self.seen().node.clone().is_some_and(|node| node.cordoned);
                assert!(cordoned || owner == EVICTION, "moved before the node was cordoned");
                let asked = Asked {
                    way: *way,
                    owner: owner.clone(),
                };
                self.with(key, |m| {
                    m.asked.retain(|one| one.owner != asked.owner);
                    m.asked.push(asked);
                });
            }
            Action::Withdraw { key, owner } => self.with(key, |m| m.asked.retain(|one| one.owner != *owner)),
            Action::CancelMark { key, .. } | Action::RefuseEviction { key, .. } => {
                self.with(key, |m| m.marked = false);
            }
        }
    }

    fn with(&mut self, key: &MachineKey, change: impl FnOnce(&mut ObservedMachine)) {
        change(self.machines().iter_mut().find(|m| &m.key == key).unwrap());
    }

    /// The oldest move comes to its end.
    fn finish_one(&mut self) {
        if let Some(at) = self.machines().iter().position(is_begun) {
            let gone = self.machines().remove(at);
            self.left.insert(gone.key);
        }
    }
}

fn asks(actions: &[Action], wanted: Way) -> bool {
    actions
        .iter()
        .any(|a| matches!(a, Action::Ask { way, .. } if *way == wanted))
}

fn asks_any(actions: &[Action]) -> bool {
    actions.iter().any(|a| matches!(a, Action::Ask { .. }))
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
    assert!(!asks_any(&first), "{first:?}");
    assert!(asks(&world.pass(usize::MAX), Way::Migrate));
}

#[test]
fn a_machine_that_changed_gets_another_disposition_and_says_so() {
    let mut world = World::new(mk_maintenance(MaintenanceDesire::Planned), vec![mk_machine("a")]);
    world.pass(usize::MAX);
    world.seen().spec.desired_state = MaintenanceDesire::InMaintenance;
    world.pass(usize::MAX);
    world.machines()[0].migratable = mk_fixed("a").migratable;
    let actions = world.pass(usize::MAX);
    assert!(asks(&actions, Way::Replace), "{actions:?}");
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
    let actions = world.pass(usize::MAX);
    assert!(!asks_any(&actions) && !actions.iter().any(|a| matches!(a, Action::Cordon { .. })));
    assert_eq!(world.state(), State::Cancelling);
    world.pass(usize::MAX);
    assert_eq!((world.state(), world.left.len()), (State::Cancelled, 0));
    assert!(!world.machines().iter().any(is_begun), "every intent is revoked");
}

#[test]
fn a_cancelled_maintenance_ends_although_its_moves_never_could() {
    let mut world = World::new(mk_maintenance(MaintenanceDesire::InMaintenance), mixed(4));
    for _ in 0..3 {
        world.pass(usize::MAX);
    }
    // Nothing ever comes of what was asked: no replacement fits, no migration ends.
    world
        .machines()
        .iter_mut()
        .filter(|m| !m.asked.is_empty())
        .for_each(|m| m.migrating = true);
    world.seen().spec.desired_state = MaintenanceDesire::Cancelled;
    for _ in 0..2 {
        world.pass(usize::MAX);
    }
    assert_eq!(world.state(), State::Cancelled);
    assert!(world.machines().iter().all(|m| m.asked.is_empty()));
    assert!(!world.seen().node.clone().unwrap().cordoned);
}

fn mk_second(world: &mut World) {
    let second = ObservedMaintenance {
        name: "second".into(),
        ..mk_maintenance(MaintenanceDesire::InMaintenance)
    };
    world.input.maintenances.push(second);
}

#[test]
fn completing_one_maintenance_leaves_the_node_to_another() {
    for first_cordoned in ["repair", "second"] {
        let mut world = World::new(mk_maintenance(MaintenanceDesire::InMaintenance), vec![]);
        mk_second(&mut world);
        for _ in 0..3 {
            world.pass(usize::MAX);
        }
        world.set_node(&ObservedNode {
            cordoned: true,
            cordoned_by: Some(first_cordoned.into()),
        });
        world.seen().spec.desired_state = MaintenanceDesire::Completed;
        for _ in 0..3 {
            world.pass(usize::MAX);
        }
        assert_eq!(world.state(), State::Completed);
        assert_eq!(
            State::of(&world.of("second").status),
            State::InMaintenance,
            "{first_cordoned}"
        );
        let node = world.of("second").node.clone().unwrap();
        assert_eq!((node.cordoned, node.cordoned_by.as_deref()), (true, Some("second")));
        world.of("second").spec.desired_state = MaintenanceDesire::Completed;
        world.pass(usize::MAX);
        assert!(
            !world.of("second").node.clone().unwrap().cordoned,
            "the last one gives it back"
        );
    }
}

#[test]
fn a_maintenance_relies_on_its_own_cordon_and_not_on_anothers() {
    let mut world = World::new(mk_maintenance(MaintenanceDesire::InMaintenance), Vec::new());
    let anothers = ObservedNode {
        cordoned: true,
        cordoned_by: Some("ended-unseen".into()),
    };
    world.set_node(&anothers);
    let actions = world.pass(usize::MAX);
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Cordon { maintenance, .. } if maintenance == "repair"))
    );
    assert_eq!(
        world.seen().status.cordon_time,
        None,
        "it may be taken back by whoever wrote it"
    );
    world.pass(usize::MAX);
    assert!(world.seen().status.cordon_time.is_some());
    // A person's is theirs, and stays.
    let mut world = World::new(mk_maintenance(MaintenanceDesire::InMaintenance), Vec::new());
    world.set_node(&ObservedNode {
        cordoned: true,
        cordoned_by: None,
    });
    world.pass(usize::MAX);
    assert!(world.seen().status.cordon_time.is_some());
}

#[test]
fn two_maintenances_of_one_node_ask_each_machine_once() {
    let mut world = World::new(mk_maintenance(MaintenanceDesire::InMaintenance), mixed(5));
    mk_second(&mut world);
    for _ in 0..30 {
        world.pass(usize::MAX);
        assert!(world.machines().iter().all(|m| m.asked.len() <= 1));
        world.finish_one();
    }
    assert!(world.most <= 2, "one budget for the node: {}", world.most);
    assert_eq!((world.left.len(), world.state()), (5, State::InMaintenance));
}

#[test]
fn intents_of_a_maintenance_that_no_longer_exists_are_revoked() {
    let mut world = World::new(mk_maintenance(MaintenanceDesire::Planned), vec![mk_machine("a")]);
    world.machines()[0].asked.push(Asked {
        way: Way::Migrate,
        owner: "maintenance-gone".into(),
    });
    world.pass(usize::MAX);
    assert!(world.machines()[0].asked.is_empty());
}

#[test]
fn an_eviction_without_a_cordon_migrates_the_machine_or_says_why_not() {
    let node = "infra-9".to_owned();
    let evicted = |machine: ObservedMachine| Eviction {
        node: node.clone(),
        machine: ObservedMachine {
            marked: true,
            ..machine
        },
        failures: 0,
    };
    let plan = |evictions: Vec<Eviction>| {
        let input = PassInput {
            evictions,
            ..PassInput::default()
        };
        plan_pass(&input, at(0)).actions
    };
    let actions = plan(vec![evicted(mk_machine("a"))]);
    assert!(
        matches!(&actions[..], [Action::Ask { owner, way: Way::Migrate, .. }] if owner == EVICTION),
        "{actions:?}"
    );
    let refused = plan(vec![evicted(mk_fixed("b"))]);
    assert!(
        matches!(
            &refused[..],
            [Action::RefuseEviction {
                reason: "NotMigratable",
                ..
            }]
        ),
        "{refused:?}"
    );
    let mut asked = evicted(mk_machine("a"));
    asked.machine.asked.push(Asked {
        way: Way::Migrate,
        owner: EVICTION.into(),
    });
    assert!(plan(vec![asked.clone()]).is_empty(), "under way");
    asked.machine.marked = false;
    let revoked = plan(vec![asked.clone()]);
    assert!(matches!(&revoked[..], [Action::Withdraw { .. }]), "{revoked:?}");
    asked.machine.marked = true;
    asked.failures = 3;
    let given_up = plan(vec![asked]);
    assert!(matches!(&given_up[..], [Action::RefuseEviction { .. }]), "{given_up:?}");
}

#[test]
fn what_is_already_away_is_counted_against_a_maintenance() {
    let mut world = World::new(mk_maintenance(MaintenanceDesire::InMaintenance), vec![mk_machine("a")]);
    world.pass(usize::MAX);
    let cluster = world.machines()[0].key.namespace.clone();
    world.input.away = vec![Disruption {
        key: MachineKey {
            namespace: cluster,
            machine: "elsewhere".into(),
        },
        pool: "w".into(),
        node: "infra-7".into(),
        cause: Cause::Away,
    }];
    let plan = plan_pass(&world.input, at(60));
    assert!(!asks_any(&plan.outcomes[0].actions));
    assert_eq!(plan.outcomes[0].status.progress[0].reason, "Budget");
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
        .filter(|m| is_begun(m))
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
fn a_cordon_that_was_written_after_its_maintenance_ended_is_taken_back() {
    let mut over = mk_maintenance(MaintenanceDesire::Cancelled);
    over.status.phase = Some("Cancelled".into());
    let node = over.spec.infra_node.clone();
    let mut input = PassInput {
        maintenances: vec![over.clone()],
        cordons: [(node.clone(), over.name.clone())].into(),
        ..PassInput::default()
    };
    let taken_back = Action::GiveBack {
        node: node.clone(),
        maintenance: over.name.clone(),
    };
    assert_eq!(plan_pass(&input, at(0)).actions, std::slice::from_ref(&taken_back));
    // One that does not exist any longer is over, too.
    input.maintenances.clear();
    assert_eq!(plan_pass(&input, at(0)).actions, [taken_back]);
    // Another one of the same infra node takes the cordon over.
    let mut other = mk_maintenance(MaintenanceDesire::InMaintenance);
    other.name = "other".into();
    other.status.start_time = Some(Time(at(0)));
    other.status.cordon_time = Some(Time(at(0)));
    other.status.phase = Some("InMaintenance".into());
    other.node = Some(ObservedNode {
        cordoned: true,
        cordoned_by: Some(over.name),
    });
    input.maintenances.push(other);
    let handed_over = Action::Cordon {
        node,
        maintenance: "other".into(),
    };
    assert_eq!(plan_pass(&input, at(0)).actions, [handed_over]);
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
            Action::Ask {
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
    assert!(asks(&world.pass(usize::MAX), Way::Relocate));
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
            for machine in world.machines().iter().filter(|m| is_begun(m)) {
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
        for _ in 0..3 {
            let actions = world.pass(usize::MAX);
            prop_assert!(!asks_any(&actions));
        }
        prop_assert_eq!(world.state(), State::Cancelled);
        prop_assert!(!world.seen().node.clone().unwrap().cordoned);
        prop_assert!(!world.machines().iter().any(is_begun));
    }

    #[test]
    fn withdrawn_and_parallel_maintenances_leave_no_intent_behind(
        count in 0_usize..8,
        script in proptest::collection::vec((0_usize..2, 0_usize..4, 0_usize..4, any::<bool>()), 0..12),
    ) {
        let mut world = World::new(mk_maintenance(MaintenanceDesire::InMaintenance), mixed(count));
        mk_second(&mut world);
        let desires = [
            MaintenanceDesire::InMaintenance,
            MaintenanceDesire::Cancelled,
            MaintenanceDesire::Completed,
            MaintenanceDesire::InMaintenance,
        ];
        for (which, desire, limit, ends) in script {
            let limit = if limit == 3 { usize::MAX } else { limit };
            world.input.maintenances[which].spec.desired_state = desires[desire];
            world.pass(limit);
            prop_assert!(world.machines().iter().all(|m| m.asked.len() <= 1));
            if ends {
                world.finish_one();
            }
        }
        for one in &mut world.input.maintenances {
            one.spec.desired_state = MaintenanceDesire::Cancelled;
        }
        for _ in 0..6 {
            world.pass(usize::MAX);
        }
        prop_assert!(!world.machines().iter().any(is_begun));
        prop_assert!(world.input.maintenances.iter().all(|one| State::of(&one.status).is_final()));
        prop_assert!(!world.seen().node.clone().unwrap().cordoned, "nobody needs the cordon");
    }
}
