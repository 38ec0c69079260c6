//! The index on its own.

use std::collections::BTreeMap;

use super::*;
use crate::{domain::attachment::AttachmentState, samples::mk_volume};

const NS: &str = "acme--web";

fn mk_index() -> Index {
    let mut index = Index::default();
    for kind in Kind::ALL {
        index.mark_seen(kind);
    }
    index
}

fn mk_machine(volumes: &[&str]) -> ObservedMachine {
    ObservedMachine {
        ours: volumes
            .iter()
            .map(|id| (disk_name(id), (*id).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        ..ObservedMachine::default()
    }
}

fn mk_instance(volumes: &[&str], phase: &str) -> ObservedInstance {
    let disk = DiskStatus {
        phase: phase.into(),
        target: "sda".into(),
        message: String::new(),
    };
    ObservedInstance {
        disks: volumes.iter().map(|id| (disk_name(id), disk.clone())).collect(),
        ..ObservedInstance::default()
    }
}

fn state(index: &Index, id: &str) -> AttachmentState {
    index.attachment(&index.volume(NS, id).expect("there")).state
}

#[test]
fn attachments_follow_machines_and_instances() {
    let mut index = mk_index();
    index.apply_volume(Volume {
        attach_to: Some("m".into()),
        ..mk_volume("data")
    });
    assert_eq!(state(&index, "data"), AttachmentState::Failed);
    index.set_machine(NS, "m", Some(mk_machine(&["data"])));
    assert_eq!(state(&index, "data"), AttachmentState::Attaching);
    index.set_instance(NS, "m", Some(mk_instance(&["data"], "Ready")));
    assert_eq!(state(&index, "data"), AttachmentState::Attached);
    index.apply_volume(mk_volume("data"));
    assert_eq!(state(&index, "data"), AttachmentState::Detaching);
    index.set_machine(NS, "m", Some(mk_machine(&[])));
    assert_eq!(state(&index, "data"), AttachmentState::Detaching);
    index.set_instance(NS, "m", Some(mk_instance(&[], "")));
    assert_eq!(state(&index, "data"), AttachmentState::Detached);
}

#[test]
fn a_broken_watch_makes_everything_unknown() {
    let mut index = mk_index();
    index.apply_volume(mk_volume("data"));
    assert_eq!(state(&index, "data"), AttachmentState::Detached);
    index.mark_broken(Kind::Instances, true);
    assert_eq!(state(&index, "data"), AttachmentState::Unknown);
    let number = index.number();
    index.mark_seen(Kind::Instances);
    assert_eq!(state(&index, "data"), AttachmentState::Detached);
    let Since::Changes(changes, _) = index.since(number) else {
        panic!("within the log")
    };
    assert_eq!(
        changes,
        [Change::Volume(NS.into(), "data".into())],
        "everything is looked at again"
    );
    assert_eq!(
        Index::default().attachment(&mk_volume("data")).state,
        AttachmentState::Unknown
    );
}

#[test]
fn readers_learn_what_changed_and_nothing_else() {
    let mut index = mk_index();
    index.apply_volume(Volume {
        attach_to: Some("m".into()),
        ..mk_volume("data")
    });
    index.apply_volume(mk_volume("idle"));
    let number = index.number();
    index.set_machine(NS, "m", Some(mk_machine(&[])));
    let Since::Changes(changes, next) = index.since(number) else {
        panic!("within the log")
    };
    assert_eq!(
        changes,
        [
            Change::Volume(NS.into(), "data".into()),
            Change::Machine(NS.into(), "m".into())
        ]
    );
    index.set_machine(NS, "m", Some(mk_machine(&[])));
    assert_eq!(
        index.since(next),
        Since::Changes(Vec::new(), next),
        "the same again is no change"
    );
}

#[test]
fn readers_that_fell_behind_are_told() {
    let mut index = mk_index();
    for round in 0..=LOG {
        index.apply_volume(Volume {
            progress: u8::from(round % 2 == 0),
            ..mk_volume("data")
        });
    }
    assert_eq!(index.since(0), Since::Lost(index.number()));
    assert_eq!(
        index.since(index.number() + 1),
        Since::Lost(index.number()),
        "a number of another index"
    );
}

#[test]
fn nothing_is_kept_of_a_cluster_that_is_gone() {
    let mut index = mk_index();
    index.apply_volume(Volume {
        attach_to: Some("m".into()),
        ..mk_volume("data")
    });
    index.set_machine(NS, "m", Some(mk_machine(&["data"])));
    index.set_instance(NS, "m", Some(mk_instance(&["data"], "Ready")));
    index.set_claim(NS, "data", None);
    index.set_instance(NS, "m", None);
    index.set_machine(NS, "m", None);
    index.remove_volume(NS, "data");
    assert!(index.namespaces.is_empty());
}
