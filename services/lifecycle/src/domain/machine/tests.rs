//! Phases and availability.

use jiff::Timestamp;
use steading_infra::intent::{Action, Intent};

use super::*;
use crate::domain::pool::Availability;

/// A machine whose node is ready.
pub(crate) fn mk_running(name: &str) -> ObservedMachine {
    ObservedMachine {
        namespace: "p--c".into(),
        name: name.into(),
        pool: "w".into(),
        revision: "r".into(),
        created: Timestamp::UNIX_EPOCH,
        vm_terminating: false,
        intents: Vec::new(),
        expired: Vec::new(),
        drain_started: None,
        joined: None,
        deletion_cost: 0,
        printable: "Running".into(),
        trouble: None,
        instance: Some(ObservedInstance {
            uid: "boot-1".into(),
            phase: "Running".into(),
            ready: true,
            infra_node: Some("n1".into()),
            migratable: true,
            hotplug_settled: true,
            ..ObservedInstance::default()
        }),
        node: ObservedNode::Present {
            ready: true,
            since: None,
            kubelet: "v1.36.0".into(),
            uninitialized: false,
            cordon: NodeCordon::None,
        },
        migrations: Vec::new(),
    }
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

/// An intent that is in force.
pub(crate) fn mk_intent(action: Action, owner: &str) -> Intent {
    Intent::new(action, owner, "", Timestamp::UNIX_EPOCH)
}

fn mk_not_ready(since: i64) -> ObservedNode {
    ObservedNode::Present {
        ready: false,
        since: Some(at(since)),
        kubelet: String::new(),
        uninitialized: false,
        cordon: NodeCordon::None,
    }
}

fn phase(machine: &ObservedMachine, seconds: i64) -> Phase {
    machine.phase(&Patience::default(), false, at(seconds)).phase
}

#[test]
fn phases_follow_from_what_is_seen() {
    let mut machine = mk_running("w-1");
    assert_eq!(phase(&machine, 10), Phase::Running);
    machine.node = ObservedNode::Unknown;
    assert_eq!(phase(&machine, 10), Phase::Unknown);
    machine.node = ObservedNode::Absent;
    assert_eq!(
        (phase(&machine, 10), phase(&machine, 1300)),
        (Phase::Booting, Phase::Unhealthy)
    );
    machine.instance = None;
    machine.printable = "Starting".into();
    assert_eq!(phase(&machine, 10), Phase::Pending);
    machine.node = mk_not_ready(0);
    assert_eq!(
        phase(&machine, 10),
        Phase::Stopped,
        "a missing instance of a known node is a restart"
    );
    machine.intents = vec![mk_intent(Action::Delete, "pool")];
    assert_eq!(phase(&machine, 10), Phase::Draining);
    machine.vm_terminating = true;
    assert_eq!(phase(&machine, 10), Phase::Deleting);
}

#[test]
fn an_unreachable_tenant_makes_no_machine_broken() {
    let mut machine = mk_running("w-1");
    machine.node = ObservedNode::Unknown;
    let late = at(1_000_000);
    assert_eq!(machine.availability(&Patience::default(), late), Availability::Unknown);
    assert!(!machine.is_away(), "unknown is not away");
}

#[test]
fn a_slow_import_does_not_count_as_join_time() {
    let mut machine = mk_running("w-1");
    machine.node = ObservedNode::Absent;
    machine.instance = None;
    machine.printable = "Provisioning".into();
    assert_eq!(phase(&machine, 100_000), Phase::Provisioning);
    machine.printable = "Running".into();
    machine.instance = Some(ObservedInstance {
        phase: "Running".into(),
        created: Some(at(100_000)),
        running_since: Some(at(100_060)),
        ..ObservedInstance::default()
    });
    assert_eq!(phase(&machine, 100_060 + 1100), Phase::Booting);
    assert_eq!(phase(&machine, 100_060 + 1300), Phase::Unhealthy);
}

#[test]
fn the_join_timeout_ends_a_machine_that_never_got_past_provisioning() {
    let mut machine = mk_running("w-1");
    machine.node = ObservedNode::Absent;
    machine.trouble = Some("0/3 nodes are available: insufficient memory".into());
    for printable in ["ErrorUnschedulable", "Starting"] {
        machine.printable = printable.into();
        machine.instance = Some(ObservedInstance {
            phase: "Scheduling".into(),
            created: Some(at(0)),
            ..ObservedInstance::default()
        });
        assert_eq!(phase(&machine, 1100), Phase::Provisioning);
        let report = machine.phase(&Patience::default(), false, at(1300));
        assert_eq!(report.phase, Phase::Unhealthy, "{printable}");
        assert!(report.message.contains("insufficient memory"), "{}", report.message);
        assert_eq!(
            machine.availability(&Patience::default(), at(1300)),
            Availability::Broken
        );
    }
}

#[test]
fn a_node_deleted_by_hand_is_unhealthy_with_a_reason_of_its_own() {
    let mut machine = mk_running("w-1");
    machine.joined = Some(at(50));
    machine.node = ObservedNode::Absent;
    let report = machine.phase(&Patience::default(), false, at(60));
    assert_eq!((report.phase, report.reason), (Phase::Unhealthy, "NodeDeleted"));
    if let Some(instance) = &mut machine.instance {
        instance.running_since = Some(at(55));
    }
    assert_eq!(phase(&machine, 60), Phase::Booting, "a boot after that joins again");
}

#[test]
fn cordoned_not_ready_and_moving_machines_are_away() {
    let mut machine = mk_running("w-1");
    assert!(!machine.is_away());
    machine.intents = vec![mk_intent(Action::Migrate, "maintenance-m")];
    assert!(machine.is_away());
    machine.intents.clear();
    if let ObservedNode::Present { cordon, .. } = &mut machine.node {
        *cordon = NodeCordon::Others;
    }
    assert!(machine.is_away());
    assert_eq!(machine.availability(&Patience::default(), at(60)), Availability::Away);
    machine.node = mk_not_ready(0);
    assert!(machine.is_away());
    machine.node = ObservedNode::Absent;
    assert!(!machine.is_away(), "one that never joined was never there");
    machine.intents = vec![mk_intent(Action::Delete, "pool")];
    assert!(!machine.is_away(), "nor does its deletion take anything");
    machine.node = ObservedNode::Unknown;
    assert!(machine.is_away(), "it may have joined while its tenant did not answer");
    machine.node = ObservedNode::Absent;
    machine.intents = vec![mk_intent(Action::Migrate, "maintenance-m")];
    assert!(
        machine.is_away(),
        "a migration takes its place on the infra node, joined or not"
    );
}
