//! What is seen: joins, wake-ups, places.

use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim};
use serde_json::json;
use steading_infra::kubevirt::{VirtualMachine, VirtualMachineInstance};
use steading_model::quantity::Quantity;

use super::{places::Places, *};
use crate::{
    domain::{
        attachment::AttachmentState,
        machine::{InstanceDisk, ObservedDisk, Obstacle},
        mark::disk_name,
        placement::Placement,
    },
    samples::mk_volume,
};

const NS: &str = "acme--web";
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn mk_observed() -> Observed {
    Observed::new(&SourceConfig::default(), &ControllerMetrics::default())
}

fn mk_machine(volume: &str) -> ObservedMachine {
    let disk = ObservedDisk {
        claim: Some(volume.into()),
        ours: true,
        bus: None,
    };
    ObservedMachine {
        uid: "u".into(),
        disks: [(disk_name(volume), disk)].into(),
        ..ObservedMachine::default()
    }
}

fn put<T: PartialEq + Send + Sync + 'static>(source: &Source<T>, name: &str, version: u64, value: T) {
    source
        .index()
        .upsert(ObjectRef::new(NS, name), Version::from(version), value);
}

#[tokio::test]
async fn a_volume_is_found_wherever_its_claim_is_shown_wanted_or_recorded() {
    let seen = mk_observed();
    let volume = Volume {
        attach_to: Some("m1".into()),
        placement: Some(Placement {
            machine: "m2".into(),
            vm: "u".into(),
            fence: 0,
        }),
        ..mk_volume("data")
    };
    seen.put_volume(volume.clone());
    put(&seen.machines, "m3", 2, mk_machine("data"));
    let shown = InstanceDisk {
        hotplugged: true,
        ..InstanceDisk::default()
    };
    let instance = ObservedInstance {
        disks: [(disk_name("data"), shown)].into(),
        ..ObservedInstance::default()
    };
    put(&seen.instances, "m4", 3, instance);
    put(&seen.machines, "m5", 4, mk_machine("other"));
    let machines: Vec<String> = seen.sites(&volume).into_iter().map(|site| site.machine).collect();
    assert_eq!(machines, ["m1", "m2", "m3", "m4"]);
    let view = seen.view(NS, seen.site(NS, "m3"));
    assert_eq!(view.volumes.len(), 1);
    assert_eq!(
        view.volumes[0].elsewhere.as_deref(),
        Some("m2"),
        "the record comes first"
    );
}

#[tokio::test]
async fn a_volume_whose_claim_is_gone_is_lost_once_claims_are_seen_as_late() {
    let seen = mk_observed();
    let claim = Claim {
        requested: Quantity::from_bytes(1),
        capacity: None,
        persistent_volume: None,
        lost: false,
        resize_failure: None,
    };
    let stage = |version: &str| {
        let volume = Volume {
            version: version.into(),
            ..mk_volume("data")
        };
        seen.joined(Arc::new(volume)).stage
    };
    assert_eq!(stage("5"), Stage::Ready, "claims were never listed");
    put(&seen.claims, "data", 4, claim.clone());
    assert_eq!(stage("5"), Stage::Ready);
    let lost = Claim { lost: true, ..claim };
    put(&seen.claims, "data", 6, lost);
    assert_eq!(stage("5"), Stage::Lost, "its persistent volume is gone");
}

#[tokio::test]
async fn changes_wake_the_volumes_and_machines_that_they_concern() {
    let seen = mk_observed();
    let mut places = Places::of(&seen);
    let machine = |id: &str| Subject::Machine(NS.into(), id.into());
    let volume = |id: &str| Subject::Volume(NS.into(), id.into());
    seen.put_volume(Volume {
        attach_to: Some("m1".into()),
        ..mk_volume("data")
    });
    let woken = places.go_on(&seen, None).expect("in reach");
    assert_eq!(woken, BTreeSet::from([volume("data"), machine("m1")]));
    put(&seen.machines, "m1", 2, mk_machine("data"));
    let woken = places.go_on(&seen, None).expect("in reach");
    assert_eq!(woken, BTreeSet::from([volume("data"), machine("m1")]));
    assert!(places.go_on(&seen, None).expect("in reach").is_empty());

    let instance = ObservedInstance {
        node: Some("infra-1".into()),
        ..ObservedInstance::default()
    };
    put(&seen.instances, "m1", 3, instance);
    places.go_on(&seen, None).expect("in reach");
    let silent = ObservedNode {
        silent: true,
        ..ObservedNode::default()
    };
    seen.nodes
        .index()
        .upsert(ObjectRef::new("", "infra-1"), Version::from(4), silent);
    let woken = places.go_on(&seen, Some(NS)).expect("in reach");
    assert_eq!(
        woken,
        BTreeSet::from([volume("data"), machine("m1")]),
        "by the node below"
    );
    assert_eq!(places.to_string().parse(), Ok(places));
    assert!("1.1-2.2".parse::<Places>().is_err());
}

#[tokio::test]
async fn nothing_is_said_of_attachments_before_machines_were_listed() {
    let seen = mk_observed();
    let wanted = Volume {
        attach_to: Some("m1".into()),
        ..mk_volume("data")
    };
    assert_eq!(
        seen.attachment(&wanted, &seen.lens(NOW)).state,
        AttachmentState::Unknown
    );
    assert_eq!(
        seen.attachment(&mk_volume("data"), &seen.lens(NOW)).state,
        AttachmentState::Detached
    );
}

#[test]
fn machines_instances_and_nodes_are_read_by_claim() {
    let vm: VirtualMachine = serde_json::from_value(json!({
        "metadata": {"name": "m", "uid": "u", "generation": 4, "annotations": {"steading.dev/volume-fence": "7"}},
        "spec": {"template": {"spec": {
            "domain": {"devices": {"disks": [
                {"name": "root", "disk": {"bus": "virtio"}}, {"name": "vol-logs", "disk": {"bus": "virtio"}},
                {"name": "mine", "disk": {"bus": "scsi"}}, {"name": "bare", "disk": {}}]}},
            "volumes": [
                {"name": "root", "dataVolume": {"name": "m-root"}}, {"name": "vol-logs", "containerDisk": {"image": "i"}},
                {"name": "mine", "persistentVolumeClaim": {"claimName": "data", "hotpluggable": true}},
                {"name": "bare", "dataVolume": {"name": "bare", "hotpluggable": true}}]}}},
        "status": {"desiredGeneration": 3}
    }))
    .expect("a machine");
    let seen = parse::machine(&vm);
    assert_eq!((seen.fence, seen.settled), (7, false));
    assert_eq!(
        seen.plugged("data").map(|(name, disk)| (name, disk.ours)),
        Some(("mine", false))
    );
    assert!(seen.has_name_taken("logs"));
    assert_eq!(seen.obstacle, Some(Obstacle::DiskWithoutBus("bare".into())));

    let vmi: VirtualMachineInstance = serde_json::from_value(json!({
        "metadata": {"name": "m"}, "spec": {"domain": {"devices": {}}, "volumes": [{"name": "root", "dataVolume": {"name": "m-root"}}]},
        "status": {"phase": "Running", "nodeName": "infra-1", "volumeStatus": [
            {"name": "root", "target": "vda"},
            {"name": "vol-logs", "target": "vdb"},
            {"name": "mine", "target": "sda", "phase": "Ready", "hotplugVolume": {}, "persistentVolumeClaimInfo": {"claimName": "data"}}]}
    }))
    .expect("an instance");
    let seen = parse::instance(&vmi);
    assert!(seen.shown("data").is_some_and(InstanceDisk::is_ready));
    assert!(
        seen.shown("m-root")
            .is_some_and(|disk| disk.is_ready() && !disk.hotplugged)
    );
    assert!(seen.shown("logs").is_none(), "a disk of the template");
    assert_eq!(seen.node.as_deref(), Some("infra-1"));

    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": "infra-1", "labels": {"topology.kubernetes.io/zone": "a"}},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}
    }))
    .expect("a node");
    assert_eq!(
        parse::node(&node),
        ObservedNode {
            zone: "a".into(),
            silent: true
        }
    );
}

#[test]
fn a_claim_says_when_it_is_lost_or_cannot_grow() {
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "spec": {"resources": {"requests": {"storage": "2Gi"}}},
        "status": {"phase": "Lost", "capacity": {"storage": "1Gi"},
            "conditions": [{"type": "ControllerResizeError", "status": "True", "message": "no room"}]}
    }))
    .expect("a claim");
    let seen = parse::claim(&claim).expect("a claim");
    assert!(seen.lost);
    assert_eq!(seen.resize_failure.as_deref(), Some("no room"));
}
