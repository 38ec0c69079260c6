//! Properties of the planner: it converges, repeats itself, keeps its promises, and survives being stopped anywhere.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::machine::{HoldReason, MachinePlan, Wish, plan};
use crate::{
    domain::{
        mark::disk_name,
        volume::{Bus, Stage},
    },
    observe::ObservedMachine,
};

fn mk_wish(volume: &str, stage: Stage, elsewhere: bool) -> Wish {
    Wish {
        volume: volume.into(),
        disk: disk_name(volume),
        serial: "6f9619ff8b86d011b42d".into(),
        bus: Bus::Scsi,
        stage,
        elsewhere: elsewhere.then(|| "other".to_owned()),
    }
}

fn mk_machine(ours: &BTreeSet<String>, others: &[&str]) -> ObservedMachine {
    ObservedMachine {
        ours: ours
            .iter()
            .map(|id| (disk_name(id), id.clone()))
            .collect::<BTreeMap<_, _>>(),
        others: others.iter().map(ToString::to_string).collect(),
        ..ObservedMachine::default()
    }
}

fn ids() -> impl Strategy<Value = BTreeSet<String>> {
    proptest::collection::btree_set("[a-h]", 0..6)
}

fn stages() -> impl Strategy<Value = Stage> {
    prop_oneof![
        Just(Stage::Ready),
        Just(Stage::WaitingForConsumer),
        Just(Stage::Provisioning),
        Just(Stage::Pending),
        Just(Stage::Failed)
    ]
}

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    proptest::collection::btree_map("[a-h]", (stages(), any::<bool>()), 0..8).prop_map(|map| {
        map.into_iter()
            .map(|(id, (stage, elsewhere))| mk_wish(&id, stage, elsewhere))
            .collect()
    })
}

fn machines() -> impl Strategy<Value = ObservedMachine> {
    (ids(), any::<bool>(), any::<bool>()).prop_map(|(ours, going, taken)| {
        let mut machine = mk_machine(&ours, &["root", "cloudinit"]);
        machine.going = going;
        if taken && !ours.contains("a") {
            machine.others.insert(disk_name("a"));
        }
        machine
    })
}

/// The machine after the first `steps` changes of a plan.
fn after(machine: &ObservedMachine, plan: &MachinePlan, steps: usize) -> ObservedMachine {
    let mut machine = machine.clone();
    for disk in plan.detach.iter().take(steps) {
        machine.ours.remove(disk);
    }
    for attach in plan.attach.iter().take(steps.saturating_sub(plan.detach.len())) {
        machine.ours.insert(attach.disk.clone(), attach.claim.clone());
    }
    machine
}

proptest! {
    #[test]
    fn it_converges_in_one_step_and_repeats_itself(machine in machines(), wishes in wishes()) {
        let first = plan(&machine, false, &wishes);
        prop_assert_eq!(&first, &plan(&machine, false, &wishes));
        let done = after(&machine, &first, usize::MAX);
        prop_assert!(plan(&done, false, &wishes).is_empty());
        for wish in &wishes {
            let held = first.held.iter().any(|(id, _)| *id == wish.volume);
            prop_assert!(done.ours.contains_key(&wish.disk) || held, "neither there nor held for a reason");
        }
    }

    #[test]
    fn a_wanted_volume_stays_and_other_disks_are_not_touched(machine in machines(), wishes in wishes(), migrating: bool) {
        let plan = plan(&machine, migrating, &wishes);
        for disk in &plan.detach {
            prop_assert!(machine.ours.contains_key(disk) && !machine.others.contains(disk));
            prop_assert!(!wishes.iter().any(|wish| wish.disk == *disk));
        }
        for attach in &plan.attach {
            prop_assert!(!machine.others.contains(&attach.disk) && !machine.ours.contains_key(&attach.disk));
        }
    }

    #[test]
    fn nothing_is_attached_that_must_wait(machine in machines(), wishes in wishes(), migrating: bool) {
        let plan = plan(&machine, migrating, &wishes);
        for attach in &plan.attach {
            let wish = wishes.iter().find(|wish| wish.disk == attach.disk);
            prop_assert!(wish.is_some_and(|wish| wish.stage.is_attachable() && wish.elsewhere.is_none()));
            prop_assert!(!machine.going && !migrating);
        }
        prop_assert!(!migrating || plan.is_empty());
    }

    #[test]
    fn stopped_anywhere_it_ends_in_the_same_place(machine in machines(), wishes in wishes(), steps in 0_usize..10) {
        let whole = plan(&machine, false, &wishes);
        let end = after(&machine, &whole, usize::MAX);
        let stopped = after(&machine, &whole, steps);
        let rest = plan(&stopped, false, &wishes);
        prop_assert_eq!(after(&stopped, &rest, usize::MAX).ours, end.ours);
    }
}

#[test]
fn every_hold_has_its_reason() {
    let machine = mk_machine(&BTreeSet::new(), &["root", "vol-taken"]);
    let wishes = [
        mk_wish("ready", Stage::Ready, false),
        mk_wish("filling", Stage::Provisioning, false),
        mk_wish("broken", Stage::Failed, false),
        mk_wish("moving", Stage::Ready, true),
        mk_wish("taken", Stage::Ready, false),
    ];
    let held = |plan: MachinePlan| plan.held.into_iter().map(|(_, reason)| reason).collect::<Vec<_>>();
    let calm = plan(&machine, false, &wishes);
    assert_eq!(calm.attach.len(), 1);
    assert_eq!(
        held(calm),
        [
            HoldReason::Provisioning,
            HoldReason::Failed,
            HoldReason::OnAnotherMachine,
            HoldReason::NameTaken
        ]
    );
    assert_eq!(held(plan(&machine, true, &wishes))[0], HoldReason::MigrationInFlight);
    let going = ObservedMachine { going: true, ..machine };
    assert_eq!(held(plan(&going, false, &wishes)), [HoldReason::MachineGoing; 5]);
}
