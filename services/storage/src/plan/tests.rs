//! Properties of the planner: it converges, repeats itself, keeps its promises, and survives being stopped anywhere.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use proptest::prelude::*;

use super::machine::{Concerned, MachinePlan, MachineView, plan, record_for};
use crate::{
    domain::{
        eligibility::HoldReason,
        machine::{ObservedDisk, ObservedInstance, ObservedMachine, ObservedNode, Obstacle},
        mark::disk_name,
        placement::{AttachRefusal, Placement},
        site::Site,
        volume::{Bus, Stage, Volume},
    },
    samples::mk_volume,
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn mk_disk(claim: &str) -> ObservedDisk {
    ObservedDisk {
        claim: Some(claim.into()),
        ours: true,
        bus: Some(Bus::Scsi),
    }
}

fn mk_machine(ours: &BTreeSet<String>) -> ObservedMachine {
    let root = ObservedDisk {
        claim: Some("m-root".into()),
        ..ObservedDisk::default()
    };
    let ours = ours.iter().map(|id| (disk_name(id), mk_disk(id)));
    ObservedMachine {
        uid: "u".into(),
        disks: ours.chain([("root".to_owned(), root)]).collect(),
        settled: true,
        ..ObservedMachine::default()
    }
}

fn mk_site(vm: ObservedMachine, migrating: bool) -> Site {
    Site {
        machine: "m".into(),
        vm: Some(Arc::new(vm)),
        instance: Some(Arc::new(ObservedInstance {
            migrating,
            ..ObservedInstance::default()
        })),
        node: None,
    }
}

fn mk_concerned(volume: Volume, elsewhere: bool) -> Concerned {
    Concerned {
        volume: Arc::new(volume),
        elsewhere: elsewhere.then(|| "other".to_owned()),
    }
}

fn mk_wanted(id: &str, stage: Stage) -> Volume {
    Volume {
        stage,
        attach_to: Some("m".into()),
        ..mk_volume(id)
    }
}

fn stages() -> impl Strategy<Value = Stage> {
    prop_oneof![
        3 => Just(Stage::Ready),
        1 => Just(Stage::WaitingForConsumer),
        1 => Just(Stage::Provisioning),
        1 => Just(Stage::Pending),
        1 => Just(Stage::Failed),
        1 => Just(Stage::Lost)
    ]
}

/// Volumes `a` to `h`: wanted here or not, filled or not, with a record or not, on another machine or not.
fn volumes() -> impl Strategy<Value = Vec<Concerned>> {
    let one = (stages(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.2));
    prop::collection::btree_map("[a-h]", one, 0..8).prop_map(|map| {
        let volume = |(id, (stage, wanted, recorded, elsewhere)): (String, (Stage, bool, bool, bool))| {
            let mut volume = mk_wanted(&id, stage);
            volume.attach_to = volume.attach_to.filter(|_| wanted);
            volume.placement = (recorded && !elsewhere).then(|| Placement {
                machine: "m".into(),
                vm: "u".into(),
                fence: 0,
            });
            mk_concerned(volume, elsewhere)
        };
        map.into_iter().map(volume).collect()
    })
}

fn views() -> impl Strategy<Value = MachineView> {
    let ids = prop::collection::btree_set("[a-h]", 0..6);
    (ids, volumes(), any::<bool>(), any::<bool>()).prop_map(|(ours, volumes, terminating, migrating)| {
        let mut vm = mk_machine(&ours);
        vm.terminating = terminating;
        MachineView {
            site: mk_site(vm, migrating),
            volumes,
        }
    })
}

fn calm(mut view: MachineView) -> MachineView {
    view.site.instance = Some(Arc::default());
    view
}

/// The machine and its volumes after the first `steps` changes of a plan, in the order in which they are made.
fn after(view: &MachineView, plan: &MachinePlan, steps: usize) -> MachineView {
    let mut view = view.clone();
    let mut left = steps;
    let mut step = || {
        let some = left > 0;
        left = left.saturating_sub(1);
        some
    };
    let record = record_for(&view.site);
    let set = |view: &mut MachineView, id: &str, record: Option<Placement>| {
        for concerned in view.volumes.iter_mut().filter(|concerned| concerned.volume.id() == id) {
            Arc::make_mut(&mut concerned.volume).placement.clone_from(&record);
        }
    };
    for id in plan.clear.iter().filter(|_| step()) {
        set(&mut view, id, None);
    }
    for id in plan.record.iter().filter(|_| step()) {
        set(&mut view, id, record.clone());
    }
    // The patch is one step.
    if step()
        && let Some(vm) = &mut view.site.vm
    {
        let vm = Arc::make_mut(vm);
        for detach in &plan.detach {
            vm.disks.remove(&detach.disk);
            vm.fence = 1;
        }
        for attach in plan.attach.iter().chain(&plan.retry) {
            vm.disks.insert(attach.disk.clone(), mk_disk(&attach.claim));
        }
    }
    view
}

/// Plans and acts until there is nothing to do.
fn settle(mut view: MachineView) -> MachineView {
    for _ in 0..4 {
        let next = plan(&view, NOW);
        if next.is_empty() {
            return view;
        }
        view = after(&view, &next, usize::MAX);
    }
    panic!("it does not converge: {view:#?}");
}

fn ours(view: &MachineView) -> BTreeSet<String> {
    let vm = view.site.vm.as_ref().expect("a machine");
    let ours = vm.disks.values().filter(|disk| disk.ours);
    ours.filter_map(|disk| disk.claim.clone()).collect()
}

proptest! {
    #[test]
    fn it_converges_and_repeats_itself(view in views()) {
        let view = calm(view);
        prop_assert_eq!(plan(&view, NOW), plan(&view, NOW));
        let held: BTreeSet<String> = plan(&view, NOW).held.into_iter().map(|(id, _)| id).collect();
        let done = settle(view);
        let has = ours(&done);
        for concerned in &done.volumes {
            let (id, wanted) = (concerned.volume.id(), concerned.volume.attach_to.is_some());
            prop_assert!(!wanted || has.contains(id) || held.contains(id), "neither there nor held for a reason");
            prop_assert!(wanted || !has.contains(id), "still there");
            prop_assert!(!has.contains(id) || concerned.volume.placement.is_some(), "on the machine without a record");
            prop_assert!(wanted || concerned.volume.placement.is_none(), "a record that nothing stands behind");
        }
    }

    #[test]
    fn a_wanted_volume_stays_and_other_disks_are_not_touched(view in views()) {
        let plan = plan(&view, NOW);
        let vm = view.site.vm.as_ref().expect("a machine");
        for detach in &plan.detach {
            prop_assert!(vm.disks.get(&detach.disk).is_some_and(|disk| disk.ours));
            let wanted = view.volumes.iter().any(|c| c.volume.id() == detach.volume && c.volume.attach_to.is_some());
            prop_assert!(!wanted);
        }
        for attach in plan.attach.iter().chain(&plan.retry) {
            prop_assert!(!vm.disks.contains_key(&attach.disk));
        }
    }

    #[test]
    fn nothing_is_attached_that_must_wait(view in views()) {
        let plan = plan(&view, NOW);
        let vm = view.site.vm.as_ref().expect("a machine");
        for attach in plan.attach.iter().chain(&plan.retry) {
            let concerned = view.volumes.iter().find(|c| c.volume.id() == attach.claim).expect("known");
            prop_assert!(concerned.volume.stage.is_attachable() && concerned.elsewhere.is_none());
            prop_assert!(!vm.terminating && !view.site.is_migrating());
            let fitting = concerned.volume.placement == record_for(&view.site);
            prop_assert!(fitting || plan.record.contains(&attach.claim), "attached without a record");
        }
        prop_assert!(!view.site.is_migrating() || !plan.changes_machine());
    }

    #[test]
    fn stopped_anywhere_it_ends_in_the_same_place(view in views(), steps in 0_usize..12) {
        let view = calm(view);
        let stopped = after(&view, &plan(&view, NOW), steps);
        prop_assert_eq!(ours(&settle(stopped)), ours(&settle(view)));
    }
}

#[test]
fn every_hold_has_its_reason() {
    let held = |vm: ObservedMachine, change: fn(&mut Volume), elsewhere: bool, migrating: bool| {
        let mut volume = mk_wanted("data", Stage::Ready);
        change(&mut volume);
        let mut site = mk_site(vm, migrating);
        site.node = Some(Arc::new(ObservedNode {
            zone: "b".into(),
            silent: false,
        }));
        let view = MachineView {
            site,
            volumes: vec![mk_concerned(volume, elsewhere)],
        };
        let plan = plan(&view, NOW);
        assert!(plan.attach.is_empty() || plan.held.is_empty());
        plan.held.first().map(|(_, hold)| hold.reason)
    };
    let free = || mk_machine(&BTreeSet::new());
    let with = |change: fn(&mut ObservedMachine)| {
        let mut vm = free();
        change(&mut vm);
        vm
    };
    assert_eq!(held(free(), |_| {}, false, false), None);
    assert_eq!(held(free(), |_| {}, true, false), Some(HoldReason::OnAnotherMachine));
    assert_eq!(held(free(), |_| {}, false, true), Some(HoldReason::MigrationInFlight));
    for (stage, reason) in [
        (Stage::Provisioning, HoldReason::Provisioning),
        (Stage::Failed, HoldReason::ProvisioningFailed),
        (Stage::Lost, HoldReason::ClaimLost),
    ] {
        let view = MachineView {
            site: mk_site(free(), false),
            volumes: vec![mk_concerned(mk_wanted("data", stage), false)],
        };
        assert_eq!(plan(&view, NOW).held_for(reason), 1);
    }
    let zone = |volume: &mut Volume| volume.zones = vec!["a".into()];
    assert_eq!(held(free(), zone, false, false), Some(HoldReason::WrongZone));
    let terminating = with(|vm| vm.terminating = true);
    assert_eq!(
        held(terminating, |_| {}, false, false),
        Some(HoldReason::MachineTerminating)
    );
    let taken = with(|vm| {
        vm.disks.insert(disk_name("data"), ObservedDisk::default());
    });
    assert_eq!(held(taken, |_| {}, false, false), Some(HoldReason::DiskNameTaken));
    let odd = with(|vm| vm.obstacle = Some(Obstacle::DiskWithoutBus("mine".into())));
    assert_eq!(held(odd, |_| {}, false, false), Some(HoldReason::HotplugDisabled));
    let full = with(|vm| {
        let disk = ObservedDisk {
            bus: Some(Bus::Scsi),
            ..ObservedDisk::default()
        };
        vm.disks.extend((0..255).map(|i| (format!("d{i}"), disk.clone())));
    });
    assert_eq!(held(full, |_| {}, false, false), Some(HoldReason::NoFreePort));
    let refused = |volume: &mut Volume| {
        volume.attach_refusal = Some(AttachRefusal {
            machine: "m".into(),
            message: "no".into(),
            at: NOW,
        });
    };
    assert_eq!(held(free(), refused, false, false), Some(HoldReason::Refused));
}

#[test]
fn a_refused_volume_is_tried_again_alone_after_a_rest() {
    let mut volume = mk_wanted("data", Stage::Ready);
    volume.attach_refusal = Some(AttachRefusal {
        machine: "m".into(),
        message: "no".into(),
        at: NOW,
    });
    let view = MachineView {
        site: mk_site(mk_machine(&BTreeSet::new()), false),
        volumes: vec![
            mk_concerned(volume, false),
            mk_concerned(mk_wanted("logs", Stage::Ready), false),
        ],
    };
    let later = NOW + crate::domain::eligibility::REFUSAL_REST;
    let plan = plan(&view, later);
    let names = |attaches: &[super::machine::Attach]| attaches.iter().map(|a| a.claim.clone()).collect::<Vec<_>>();
    assert_eq!(
        (names(&plan.attach), names(&plan.retry)),
        (vec!["logs".to_owned()], vec!["data".to_owned()])
    );
}
