//! The truth table of attachments.

use std::sync::Arc;

use super::*;
use crate::{
    domain::{
        machine::{InstanceDisk, ObservedDisk, ObservedInstance, ObservedNode},
        mark::disk_name,
        placement::{AttachRefusal, Placement},
        volume::Stage,
    },
    samples::mk_volume,
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn mk_vm(in_spec: bool) -> ObservedMachine {
    let disk = ObservedDisk {
        claim: Some("data".into()),
        ours: true,
        bus: None,
    };
    ObservedMachine {
        disks: in_spec.then(|| (disk_name("data"), disk)).into_iter().collect(),
        ..ObservedMachine::default()
    }
}

fn mk_instance(phase: Option<&str>) -> ObservedInstance {
    let disk = |phase: &str| InstanceDisk {
        claim: Some("data".into()),
        hotplugged: true,
        phase: phase.into(),
        target: "sda".into(),
        message: String::new(),
    };
    ObservedInstance {
        disks: phase
            .map(|phase| (disk_name("data"), disk(phase)))
            .into_iter()
            .collect(),
        ..ObservedInstance::default()
    }
}

fn mk_site(machine: &str, in_spec: bool, disk: Option<&str>) -> Site {
    Site {
        machine: machine.into(),
        vm: Some(Arc::new(mk_vm(in_spec))),
        instance: Some(Arc::new(mk_instance(disk))),
        node: None,
    }
}

fn mk_record(machine: &str) -> Placement {
    Placement {
        machine: machine.into(),
        vm: "u".into(),
        fence: 0,
    }
}

fn wanted(machine: Option<&str>) -> Volume {
    Volume {
        attach_to: machine.map(str::to_owned),
        ..mk_volume("data")
    }
}

fn look(volume: &Volume, sites: &[Site], sight: Sight<'_>) -> (AttachmentState, &'static str, Option<String>) {
    let seen = judge(volume, sites, sight, NOW);
    (seen.state, seen.reason, seen.machine)
}

fn state(volume: &Volume, sites: &[Site]) -> (AttachmentState, &'static str, Option<String>) {
    look(volume, sites, Sight::Clear)
}

#[test]
fn attached_needs_both_the_spec_and_the_instance() {
    use AttachmentState::{Attached, Attaching};
    let volume = wanted(Some("m"));
    let on = Some("m".to_owned());
    let at = |in_spec, phase| state(&volume, &[mk_site("m", in_spec, phase)]);
    assert_eq!(at(true, Some("Ready")), (Attached, "", on.clone()));
    assert_eq!(at(true, Some("Bound")), (Attaching, "WaitingForInstance", on.clone()));
    assert_eq!(at(true, None), (Attaching, "WaitingForInstance", on.clone()));
    assert_eq!(at(false, None), (Attaching, "Queued", None));
    assert_eq!(at(false, Some("Ready")), (Attaching, "Queued", on));
}

#[test]
fn detached_needs_neither_and_no_record() {
    use AttachmentState::{Detached, Detaching};
    let volume = wanted(None);
    let on = Some("m".to_owned());
    assert_eq!(state(&volume, &[]), (Detached, "", None));
    assert_eq!(state(&volume, &[mk_site("m", false, None)]), (Detached, "", None));
    for site in [mk_site("m", true, None), mk_site("m", false, Some("Detaching"))] {
        assert_eq!(state(&volume, &[site]), (Detaching, "Detaching", on.clone()));
    }
    let recorded = Volume {
        placement: Some(mk_record("m")),
        ..wanted(None)
    };
    assert_eq!(
        state(&recorded, &[mk_site("m", false, None)]),
        (Detaching, "Detaching", on),
        "a replica whose watches lag sees nothing, and must not say detached"
    );
}

#[test]
fn what_cannot_be_seen_is_unknown_unless_the_record_settles_it() {
    use AttachmentState::{Detached, Unknown};
    let clouded = Sight::Clouded("away");
    let recorded = Volume {
        placement: Some(mk_record("m")),
        ..wanted(None)
    };
    assert_eq!(
        look(&recorded, &[], clouded),
        (Unknown, "InfraUnreachable", Some("m".into()))
    );
    assert_eq!(
        look(&wanted(Some("m")), &[], clouded),
        (Unknown, "InfraUnreachable", None)
    );
    assert_eq!(look(&wanted(None), &[], clouded), (Detached, "", None));
}

#[test]
fn a_vanished_machine_counts_as_detached_only_when_its_instance_is_gone() {
    use AttachmentState::{Detached, Detaching, Failed};
    let volume = wanted(None);
    let mut site = mk_site("m", false, Some("Ready"));
    site.vm = None;
    assert_eq!(state(&volume, std::slice::from_ref(&site)).0, Detaching);
    assert_eq!(
        state(&wanted(Some("m")), std::slice::from_ref(&site)),
        (Detaching, "MachineTerminating", Some("m".into()))
    );
    site.instance = None;
    assert_eq!(state(&volume, std::slice::from_ref(&site)).0, Detached);
    assert_eq!(state(&wanted(Some("m")), &[site]), (Failed, "MachineNotFound", None));
}

#[test]
fn a_deleted_machine_without_instance_holds_nothing() {
    let mut site = mk_site("m", true, None);
    site.instance = None;
    assert!(site.holds("data"), "it may start again");
    site.vm = Some(Arc::new(ObservedMachine {
        terminating: true,
        ..mk_vm(true)
    }));
    assert!(site.holds("data"), "asked to go, but it may start again");
    site.vm = Some(Arc::new(ObservedMachine {
        terminating: true,
        deleting: true,
        ..mk_vm(true)
    }));
    assert!(!site.holds("data"));
}

#[test]
fn a_dead_node_makes_its_volumes_unknown_never_detached() {
    let mut lost = mk_site("m", true, Some("Ready"));
    lost.instance = Some(Arc::new(ObservedInstance {
        unreachable: true,
        ..mk_instance(Some("Ready"))
    }));
    let mut silent = mk_site("m", true, Some("Ready"));
    silent.instance = Some(Arc::new(ObservedInstance {
        node: Some("infra-1".into()),
        ..mk_instance(Some("Ready"))
    }));
    silent.node = Some(Arc::new(ObservedNode {
        silent: true,
        ..ObservedNode::default()
    }));
    for site in [lost, silent] {
        for volume in [wanted(None), wanted(Some("m")), wanted(Some("other"))] {
            let seen = state(&volume, std::slice::from_ref(&site));
            assert_eq!((seen.0, seen.1), (AttachmentState::Unknown, "MachineUnreachable"));
        }
    }
}

#[test]
fn a_volume_that_was_plugged_by_hand_is_seen_under_any_name() {
    use AttachmentState::{Attached, Detaching};
    let mut site = mk_site("m", false, None);
    let disk = ObservedDisk {
        claim: Some("data".into()),
        ..ObservedDisk::default()
    };
    let shown = InstanceDisk {
        claim: Some("data".into()),
        phase: "Ready".into(),
        ..InstanceDisk::default()
    };
    site.vm = Some(Arc::new(ObservedMachine {
        disks: [("mine".to_owned(), disk)].into(),
        ..ObservedMachine::default()
    }));
    site.instance = Some(Arc::new(ObservedInstance {
        disks: [("mine".to_owned(), shown)].into(),
        ..ObservedInstance::default()
    }));
    let seen = |volume: &Volume| state(volume, std::slice::from_ref(&site));
    assert_eq!(seen(&wanted(Some("m"))).0, Attached);
    assert_eq!(seen(&wanted(None)), (Detaching, "PluggedByHand", Some("m".into())));
    assert_eq!(
        elsewhere(&wanted(Some("n")), std::slice::from_ref(&site), Some("n")),
        Some("m")
    );
}

#[test]
fn conditions_of_a_machine_are_told_to_the_volume_that_they_name() {
    let refusing = |text: &str| {
        let other = ObservedDisk {
            claim: Some("logs".into()),
            ours: true,
            bus: None,
        };
        let mut vm = mk_vm(true);
        vm.disks.insert(disk_name("logs"), other);
        vm.refusal = Some(text.into());
        let mut site = mk_site("m", true, None);
        site.vm = Some(Arc::new(vm));
        state(&wanted(Some("m")), &[site]).1
    };
    assert_eq!(refusing("disk vol-data is odd"), "HotPlugRefused");
    assert_eq!(refusing("claim \"data\" is odd"), "HotPlugRefused");
    assert_eq!(refusing("no room for hot-plugging"), "HotPlugRefused");
    assert_eq!(refusing("disk vol-logs is odd."), "WaitingForInstance");
    assert_eq!(refusing("claim logs, not data2"), "WaitingForInstance");
}

#[test]
fn causes_are_said() {
    use AttachmentState::{Attaching, Detaching, Failed};
    let volume = wanted(Some("m"));
    let free = mk_site("m", false, None);
    let both = [free.clone(), mk_site("n", true, Some("Ready"))];
    assert_eq!(state(&volume, &both), (Detaching, "OnAnotherMachine", Some("n".into())));

    let mut migrating = free.clone();
    migrating.instance = Some(Arc::new(ObservedInstance {
        migrating: true,
        ..ObservedInstance::default()
    }));
    assert_eq!(state(&volume, &[migrating]), (Attaching, "MigrationInFlight", None));

    let mut stopped = mk_site("m", true, None);
    stopped.instance = None;
    assert_eq!(
        state(&volume, &[stopped]),
        (Attaching, "MachineNotRunning", Some("m".into()))
    );

    let refused = Volume {
        attach_refusal: Some(AttachRefusal {
            machine: "m".into(),
            message: "no".into(),
            at: NOW,
        }),
        ..wanted(Some("m"))
    };
    assert_eq!(
        state(&refused, std::slice::from_ref(&free)),
        (Failed, "HotPlugRefused", None)
    );
    assert_eq!(
        state(&refused, &[mk_site("m", true, Some("Ready"))]).0,
        AttachmentState::Attached
    );

    for (stage, expected) in [
        (Stage::Provisioning, (Attaching, "VolumeProvisioning", None)),
        (Stage::Failed, (Failed, "ProvisioningFailed", None)),
        (Stage::Lost, (Failed, "ClaimLost", None)),
    ] {
        let volume = Volume {
            stage,
            ..wanted(Some("m"))
        };
        assert_eq!(state(&volume, std::slice::from_ref(&free)), expected);
    }

    let terminating = Volume {
        deleted: Some(NOW),
        ..wanted(Some("m"))
    };
    assert_eq!(state(&terminating, &[mk_site("m", true, Some("Ready"))]).0, Detaching);
}
