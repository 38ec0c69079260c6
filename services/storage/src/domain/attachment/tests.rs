//! The truth table of attachments.

use super::*;
use crate::samples::mk_volume;

fn mk_disk(phase: &str) -> DiskStatus {
    DiskStatus {
        phase: phase.into(),
        target: "sda".into(),
        message: String::new(),
    }
}

fn mk_site(machine: &str, in_spec: bool, disk: Option<&str>) -> Site {
    Site {
        machine: machine.into(),
        vm: Some(SiteVm {
            has_disk: in_spec,
            ..SiteVm::default()
        }),
        instance: Some(SiteInstance {
            disk: disk.map(mk_disk),
            ..SiteInstance::default()
        }),
    }
}

fn wanted(machine: Option<&str>) -> Volume {
    Volume {
        attach_to: machine.map(str::to_owned),
        ..mk_volume("data")
    }
}

fn state(volume: &Volume, sites: &[Site]) -> (AttachmentState, &'static str, Option<String>) {
    let seen = judge(volume, sites);
    (seen.state, seen.reason, seen.machine)
}

#[test]
fn attached_needs_both_the_spec_and_the_instance() {
    use AttachmentState::{Attached, Attaching};
    let volume = wanted(Some("m"));
    let on = Some("m".to_owned());
    assert_eq!(
        state(&volume, &[mk_site("m", true, Some("Ready"))]),
        (Attached, "", on.clone())
    );
    assert_eq!(
        state(&volume, &[mk_site("m", true, Some("Bound"))]),
        (Attaching, "WaitingForInstance", on.clone())
    );
    assert_eq!(
        state(&volume, &[mk_site("m", true, None)]),
        (Attaching, "WaitingForInstance", on.clone())
    );
    assert_eq!(
        state(&volume, &[mk_site("m", false, None)]),
        (Attaching, "Queued", None)
    );
    assert_eq!(
        state(&volume, &[mk_site("m", false, Some("Ready"))]),
        (Attaching, "Queued", on)
    );
}

#[test]
fn detached_needs_neither() {
    use AttachmentState::{Detached, Detaching};
    let volume = wanted(None);
    let on = Some("m".to_owned());
    assert_eq!(state(&volume, &[]), (Detached, "", None));
    assert_eq!(state(&volume, &[mk_site("m", false, None)]), (Detached, "", None));
    assert_eq!(
        state(&volume, &[mk_site("m", true, None)]),
        (Detaching, "Detaching", on.clone())
    );
    assert_eq!(
        state(&volume, &[mk_site("m", false, Some("Detaching"))]),
        (Detaching, "Detaching", on)
    );
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
        (Detaching, "MachineGoing", Some("m".into()))
    );
    site.instance = None;
    assert_eq!(state(&volume, std::slice::from_ref(&site)).0, Detached);
    assert_eq!(state(&wanted(Some("m")), &[site]), (Failed, "MachineNotFound", None));
}

#[test]
fn a_deleted_machine_without_instance_holds_nothing() {
    let mut site = mk_site("m", true, None);
    site.instance = None;
    assert!(site.holds(), "it may start again");
    site.vm = Some(SiteVm {
        has_disk: true,
        going: true,
        ..SiteVm::default()
    });
    assert!(site.holds(), "asked to go, but it may start again");
    site.vm = Some(SiteVm {
        has_disk: true,
        going: true,
        deleting: true,
        ..SiteVm::default()
    });
    assert!(!site.holds());
}

#[test]
fn unreachable_is_unknown_never_detached() {
    let mut site = mk_site("m", true, Some("Ready"));
    site.instance = site.instance.map(|i| SiteInstance { unreachable: true, ..i });
    for volume in [wanted(None), wanted(Some("m")), wanted(Some("other"))] {
        assert_eq!(state(&volume, std::slice::from_ref(&site)).0, AttachmentState::Unknown);
    }
}

#[test]
fn causes_are_told() {
    use AttachmentState::{Attaching, Detaching, Failed};
    let volume = wanted(Some("m"));
    let both = [mk_site("m", false, None), mk_site("n", true, Some("Ready"))];
    assert_eq!(state(&volume, &both), (Detaching, "OnAnotherMachine", Some("n".into())));

    let mut migrating = mk_site("m", false, None);
    migrating.instance = Some(SiteInstance {
        migrating: true,
        ..SiteInstance::default()
    });
    assert_eq!(state(&volume, &[migrating]), (Attaching, "MigrationInFlight", None));

    let mut stopped = mk_site("m", true, None);
    stopped.instance = None;
    assert_eq!(
        state(&volume, &[stopped]),
        (Attaching, "MachineNotRunning", Some("m".into()))
    );

    let mut refused = mk_site("m", true, None);
    refused.vm = Some(SiteVm {
        has_disk: true,
        refusal: Some("no bus".into()),
        ..SiteVm::default()
    });
    assert_eq!(state(&volume, &[refused]), (Failed, "HotPlugRefused", Some("m".into())));

    let filling = Volume {
        stage: Stage::Provisioning,
        ..wanted(Some("m"))
    };
    assert_eq!(
        state(&filling, &[mk_site("m", false, None)]),
        (Attaching, "VolumeProvisioning", None)
    );
    let failed = Volume {
        stage: Stage::Failed,
        ..wanted(Some("m"))
    };
    assert_eq!(
        state(&failed, &[mk_site("m", false, None)]),
        (Failed, "ProvisioningFailed", None)
    );

    let going = Volume {
        deleted: Some(jiff::Timestamp::UNIX_EPOCH),
        ..wanted(Some("m"))
    };
    assert_eq!(state(&going, &[mk_site("m", true, Some("Ready"))]).0, Detaching);
}
