//! Tables and properties of the machine's state machine.

use proptest::prelude::*;
use steading_infra::intent;

use super::*;
use crate::domain::machine::{
    ObservedMigration,
    tests::{at, mk_intent, mk_running},
};

fn step(machine: &ObservedMachine) -> MachineStep {
    plan_machine(machine, ClusterFate::Stays, at(1_000))
}

fn mk_leaving(action: Action, owner: &str) -> Intent {
    let mut intent = mk_intent(action, owner);
    intent.details.infra_node = Some("n1".into());
    intent
}

fn set_cordon(machine: &mut ObservedMachine, wanted: NodeCordon) {
    if let ObservedNode::Present { cordon, .. } = &mut machine.node {
        *cordon = wanted;
    }
}

#[test]
fn nothing_is_deleted_before_the_drain_unless_forced() {
    let mut machine = mk_running("w-1");
    assert_eq!(step(&machine), MachineStep::Maintain);
    machine.intents = vec![mk_intent(Action::Delete, "pool")];
    assert_eq!(step(&machine), MachineStep::Drain(AfterDrain::Delete));
    machine.node = ObservedNode::Unknown;
    assert_eq!(step(&machine), MachineStep::Drain(AfterDrain::Delete));
    machine.intents.insert(0, mk_intent(Action::ForceDelete, "api"));
    assert_eq!(step(&machine), MachineStep::DeleteVm);
}

#[test]
fn the_finalizer_stays_until_instance_and_node_are_known_to_be_gone() {
    let mut machine = mk_running("w-1");
    machine.vm_terminating = true;
    assert_eq!(step(&machine), MachineStep::WaitForInstance);
    machine.instance = None;
    assert_eq!(step(&machine), MachineStep::Finish { delete_node: true });
    machine.node = ObservedNode::Unknown;
    assert_eq!(step(&machine), MachineStep::WaitForTenant);
    assert_eq!(
        plan_machine(&machine, ClusterFate::Terminating, at(0)),
        MachineStep::Finish { delete_node: false }
    );
}

#[test]
fn a_drain_that_is_undone_is_uncordoned_even_after_a_restart_of_the_service() {
    let mut machine = mk_running("w-1");
    // All that is left of the drain is on the objects.
    machine.drain_started = Some(at(5));
    set_cordon(&mut machine, NodeCordon::Ours);
    let node = std::mem::replace(&mut machine.node, ObservedNode::Unknown);
    assert_eq!(step(&machine), MachineStep::Maintain, "the tenant is not connected yet");
    machine.node = node;
    assert_eq!(step(&machine), MachineStep::Uncordon);
    assert!(is_ours_to_uncordon(&machine.node));
    set_cordon(&mut machine, NodeCordon::Others);
    assert!(!is_ours_to_uncordon(&machine.node), "the cordon of somebody else stays");
}

#[test]
fn a_revoked_migration_is_cancelled() {
    let mut machine = mk_running("w-1");
    machine.migrations = vec![ObservedMigration {
        name: "w-1-abcde".into(),
        owner: Some("maintenance-m".into()),
        state: MigrationState::Active,
        created: at(10),
    }];
    assert_eq!(step(&machine), MachineStep::CancelMigration("w-1-abcde".into()));
    machine.intents = vec![mk_leaving(Action::Migrate, "maintenance-m")];
    assert_eq!(step(&machine), MachineStep::Maintain, "wanted, and under way");
    machine.intents.clear();
    machine.migrations[0].owner = None;
    assert_eq!(step(&machine), MachineStep::Maintain, "not ours");
}

#[test]
fn a_failed_migration_is_tried_again_after_a_pause() {
    let mut machine = mk_running("w-1");
    machine.intents = vec![mk_leaving(Action::Migrate, "maintenance-m")];
    let first = MachineStep::Migrate {
        owner: "maintenance-m".into(),
        attempt: 0,
        instance: "boot-1".into(),
    };
    assert_eq!(step(&machine), first);
    machine.migrations = vec![ObservedMigration {
        name: "w-1-abcde".into(),
        owner: Some("maintenance-m".into()),
        state: MigrationState::Failed,
        created: at(995),
    }];
    assert_eq!(step(&machine), MachineStep::WaitToMigrate(SignedDuration::from_secs(5)));
    let later = plan_machine(&machine, ClusterFate::Stays, at(1_005));
    assert!(matches!(later, MachineStep::Migrate { attempt: 1, .. }), "{later:?}");
}

#[test]
fn two_maintenances_never_move_one_machine_twice() {
    let mut machine = mk_running("w-1");
    machine.intents = vec![
        mk_leaving(Action::Migrate, "maintenance-a"),
        mk_leaving(Action::Migrate, "maintenance-b"),
    ];
    assert!(matches!(step(&machine), MachineStep::Migrate { owner, .. } if owner == "maintenance-a"));
    if let Some(instance) = &mut machine.instance {
        instance.infra_node = Some("n2".into());
    }
    let keys = machine.intents.iter().map(Intent::key).collect();
    assert_eq!(step(&machine), MachineStep::Clear(keys), "it has left for both");
}

#[test]
fn a_restart_ends_just_the_instance_that_it_was_asked_for() {
    let mut machine = mk_running("w-1");
    machine.intents = vec![mk_intent(Action::Restart, "api")];
    let key = intent::key(Action::Restart, "api");
    let noted = MachineStep::NoteInstance {
        key: key.clone(),
        instance: "boot-1".into(),
    };
    assert_eq!(step(&machine), noted);
    machine.intents[0].details.instance = Some("boot-1".into());
    let restart = MachineStep::Restart {
        instance: "boot-1".into(),
    };
    assert_eq!(step(&machine), restart);
    machine.intents.push(mk_intent(Action::Drain, "me"));
    assert_eq!(step(&machine), MachineStep::Drain(AfterDrain::Restart("boot-1".into())));
    if let Some(instance) = &mut machine.instance {
        instance.uid = "boot-2".into();
    }
    assert_eq!(step(&machine), MachineStep::Clear(vec![key]));
}

#[test]
fn expired_intents_are_removed() {
    let mut machine = mk_running("w-1");
    machine.expired = vec!["intent.steading.dev/drain.me".into()];
    assert_eq!(step(&machine), MachineStep::Clear(machine.expired.clone()));
}

/// One machine, its VirtualMachine's annotations and what carries out its steps; steps may be lost between any two writes.
struct World {
    machine: ObservedMachine,
    intents: Vec<Intent>,
    pods: u32,
    now: i64,
    boots: u32,
    moves: u32,
    deleted: bool,
}

impl World {
    fn new(pods: u32) -> Self {
        Self {
            machine: mk_running("w-1"),
            intents: Vec::new(),
            pods,
            now: 0,
            boots: 1,
            moves: 0,
            deleted: false,
        }
    }

    fn cordon(&self) -> NodeCordon {
        match &self.machine.node {
            ObservedNode::Present { cordon, .. } => *cordon,
            ObservedNode::Unknown | ObservedNode::Absent => NodeCordon::None,
        }
    }

    /// One pass. A crash comes after the first write of the step.
    fn pass(&mut self, crash: bool) {
        self.now += 20;
        self.machine.intents = self.intents.clone();
        self.machine.intents.sort_by_key(|one| (one.action, one.owner.clone()));
        match plan_machine(&self.machine, ClusterFate::Stays, at(self.now)) {
            MachineStep::Drain(after) => self.drain(&after, crash),
            MachineStep::DeleteVm => self.deleted = true,
            MachineStep::Clear(keys) => self.intents.retain(|one| !keys.contains(&one.key())),
            MachineStep::CancelMigration(name) => self.machine.migrations.retain(|one| one.name != name),
            MachineStep::Migrate { owner, attempt, .. } => {
                assert!(self.machine.active_migration().is_none(), "one migration at a time");
                self.machine.migrations.push(ObservedMigration {
                    name: format!("{owner}-{attempt}-{}", self.moves),
                    owner: Some(owner),
                    state: MigrationState::Active,
                    created: at(self.now),
                });
            }
            MachineStep::NoteInstance { key, instance } => {
                for one in self.intents.iter_mut().filter(|one| one.key() == key) {
                    one.details.instance = Some(instance.clone());
                }
            }
            MachineStep::Restart { instance } => self.reboot(&instance),
            MachineStep::Uncordon => {
                if is_ours_to_uncordon(&self.machine.node) {
                    set_cordon(&mut self.machine, NodeCordon::None);
                }
                if !crash {
                    self.machine.drain_started = None;
                }
            }
            MachineStep::WaitForInstance
            | MachineStep::WaitForTenant
            | MachineStep::Finish { .. }
            | MachineStep::WaitToMigrate(_)
            | MachineStep::Maintain => {}
        }
    }

    fn drain(&mut self, after: &AfterDrain, crash: bool) {
        if self.machine.drain_started.is_none() {
            self.machine.drain_started = Some(at(self.now));
            return;
        }
        if self.cordon() == NodeCordon::None {
            set_cordon(&mut self.machine, NodeCordon::Ours);
        }
        if crash {
            return;
        }
        if self.pods > 0 {
            self.pods -= 1;
            return;
        }
        match after {
            AfterDrain::Delete => self.deleted = true,
            AfterDrain::Restart(instance) => self.reboot(instance),
            AfterDrain::Stay => {}
        }
    }

    fn reboot(&mut self, uid: &str) {
        let leaves = self.intents.iter().any(|one| one.action == Action::Relocate);
        if let Some(instance) = self.machine.instance.as_mut().filter(|one| one.uid == uid) {
            self.boots += 1;
            instance.uid = format!("boot-{}", self.boots);
            if leaves {
                assert_eq!(self.pods, 0, "restarted before it was drained");
                instance.infra_node = Some("n2".into());
            }
        }
    }

    fn finish_migration(&mut self, state: MigrationState) {
        for one in &mut self.machine.migrations {
            if one.state == MigrationState::Active {
                one.state = state;
                if let (MigrationState::Succeeded, Some(instance)) = (state, &mut self.machine.instance) {
                    instance.infra_node = Some("n2".into());
                    self.moves += 1;
                }
            }
        }
    }
}

fn any_intent() -> impl Strategy<Value = Intent> {
    let action = prop::sample::select(vec![Action::Relocate, Action::Migrate, Action::Restart, Action::Drain]);
    (
        action,
        prop::sample::select(vec!["api", "maintenance-a", "maintenance-b"]),
    )
        .prop_map(|(action, owner)| mk_leaving(action, owner))
}

proptest! {
    #[test]
    fn every_withdrawn_intent_brings_the_machine_back(
        script in prop::collection::vec((any_intent(), any::<bool>(), 0_usize..4), 1..12),
        crashes in prop::collection::vec(any::<bool>(), 0..40),
        foreign in any::<bool>(),
    ) {
        let mut world = World::new(3);
        if foreign {
            set_cordon(&mut world.machine, NodeCordon::Others);
        }
        let mut crashes = crashes.into_iter();
        for (intent, add, passes) in script {
            world.intents.retain(|one| one.key() != intent.key());
            if add {
                world.intents.push(intent);
            }
            for _ in 0..passes {
                world.pass(crashes.next().unwrap_or(false));
            }
        }
        world.intents.clear();
        for _ in 0..12 {
            world.pass(false);
        }
        let expected = if foreign { NodeCordon::Others } else { NodeCordon::None };
        prop_assert_eq!(world.cordon(), expected, "a cordon of ours is undone, a foreign one stays");
        prop_assert_eq!(world.machine.drain_started, None);
        prop_assert!(world.machine.active_migration().is_none());
        prop_assert!(!world.deleted);
    }

    #[test]
    fn every_intent_comes_true_in_bounded_steps(
        intents in prop::collection::vec(any_intent(), 0..5),
        crashes in prop::collection::vec(any::<bool>(), 0..20),
        failures in 0_usize..3,
        delete in any::<bool>(),
    ) {
        let mut world = World::new(4);
        for intent in intents {
            world.intents.retain(|one| one.key() != intent.key());
            world.intents.push(intent);
        }
        let (mut failures, mut crashes) = (failures, crashes.into_iter());
        for _ in 0..60 {
            world.pass(crashes.next().unwrap_or(false));
            let fails = failures > 0 && world.machine.active_migration().is_some();
            failures -= usize::from(fails);
            world.finish_migration(if fails { MigrationState::Failed } else { MigrationState::Succeeded });
        }
        let left: Vec<_> = world.intents.iter().filter(|one| one.action != Action::Drain).collect();
        prop_assert!(left.is_empty(), "{left:?}");
        prop_assert!(world.boots <= 3, "at most one boot for a relocation and one for a restart");
        if delete {
            world.intents.push(mk_intent(Action::Delete, "pool"));
            for _ in 0..10 {
                world.pass(false);
            }
            prop_assert!(world.deleted && world.pods == 0, "deleted after its drain");
        }
    }
}
