//! Attachments tell the truth, machines are patched in batches, and nothing is lost.

use std::sync::atomic::Ordering;

use futures::future::join_all;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use steading_api::{
    storage::v1::{
        self as proto,
        volume::{AttachmentState, State},
        volume_service_server::VolumeService,
    },
    types::v1::ErrorReason,
};
use steading_infra::kubevirt::{VirtualMachine, VirtualMachineInstance};
use steading_kubesim::Verb;

use crate::fixture::{Fixture, NS, ask, eventually, machine_name, mk_volume, reason};

async fn ready(fixture: &Fixture, id: &str) {
    fixture.ready(id).await;
}

#[tokio::test]
async fn a_volume_is_attached_only_when_the_instance_reports_it() {
    let fixture = Fixture::start().await;
    ready(&fixture, "data").await;
    fixture.player.hold_instances.store(true, Ordering::SeqCst);
    fixture.attach("data", "m1").await.expect("wanted");
    let waiting = fixture
        .until_volume("data", |volume| volume.attachment_reason == "WaitingForInstance")
        .await;
    assert_eq!(
        waiting.attachment_state(),
        AttachmentState::Attaching,
        "in the spec, not in the instance"
    );
    fixture.player.hold_instances.store(false, Ordering::SeqCst);
    let attached = fixture.until("data", AttachmentState::Attached).await;
    assert_eq!(
        (attached.attached_machine, attached.device_target.as_str()),
        (machine_name("m1"), "sda")
    );
    fixture.stop().await;
}

#[tokio::test]
async fn twenty_volumes_need_two_attachment_pods_at_most() {
    let fixture = Fixture::start().await;
    let ids: Vec<String> = (0..20).map(|i| format!("v{i:02}")).collect();
    fixture.server.counters().reset();
    let volume = proto::Volume {
        machine: machine_name("m1"),
        ..mk_volume()
    };
    for made in join_all(ids.iter().map(|id| fixture.create(id, volume.clone()))).await {
        made.expect("made");
    }
    for id in &ids {
        fixture.until(id, AttachmentState::Attached).await;
    }
    let generations = fixture.player.generations.load(Ordering::SeqCst);
    assert!((1..=2).contains(&generations), "{generations} attachment pods");
    let patches = fixture.requests(Verb::Patch, "virtualmachines");
    assert!((1..=2).contains(&patches), "{patches} patches");
    for made in join_all(ids.iter().map(|id| fixture.detach(id))).await {
        made.expect("unwanted");
    }
    for id in &ids {
        fixture.until(id, AttachmentState::Detached).await;
    }
    let more = fixture.player.generations.load(Ordering::SeqCst) - generations;
    assert!((1..=2).contains(&more), "{more} attachment pods for the way back");
    assert_eq!(fixture.disks("m1").await, ["boot"]);
    fixture.stop().await;
}

#[tokio::test]
async fn a_volume_is_on_one_machine_at_a_time() {
    let fixture = Fixture::start().await;
    ready(&fixture, "data").await;
    fixture.attach("data", "m1").await.expect("wanted");
    fixture.until("data", AttachmentState::Attached).await;
    fixture.attach("data", "m1").await.expect("it is there already");
    assert_eq!(
        reason(fixture.attach("data", "m2").await),
        ErrorReason::VolumeAttachedElsewhere
    );
    assert_eq!(
        reason(fixture.attach("data", "m9").await),
        ErrorReason::VolumeAttachedElsewhere
    );
    fixture.detach("data").await.expect("unwanted");
    fixture.until("data", AttachmentState::Detached).await;
    assert_eq!(
        reason(fixture.attach("data", "m9").await),
        ErrorReason::ReferenceNotFound
    );
    fixture.attach("data", "m2").await.expect("free");
    let moved = fixture.until("data", AttachmentState::Attached).await;
    assert_eq!(moved.attached_machine, machine_name("m2"));
    fixture.stop().await;
}

#[tokio::test]
async fn a_volume_in_use_is_not_deleted() {
    let fixture = Fixture::start().await;
    ready(&fixture, "data").await;
    fixture.attach("data", "m1").await.expect("wanted");
    fixture.until("data", AttachmentState::Attached).await;
    assert_eq!(reason(fixture.delete("data", false).await), ErrorReason::ResourceInUse);
    // Forced, or by kubectl: it is detached first, and the finalizer holds it as long.
    fixture.player.hold_instances.store(true, Ordering::SeqCst);
    fixture.delete("data", true).await.expect("forced");
    let going = fixture
        .until_volume("data", |volume| volume.attachment_state() == AttachmentState::Detaching)
        .await;
    assert_eq!(going.state(), State::Deleting);
    eventually(async || (fixture.disks("m1").await == ["boot"]).then_some(()))
        .await
        .expect("taken off");
    assert!(fixture.get("data").await.is_ok(), "the instance still has it");
    fixture.player.hold_instances.store(false, Ordering::SeqCst);
    fixture.until_gone("data").await;
    fixture.stop().await;
}

#[tokio::test]
async fn drift_is_healed_and_foreign_disks_stay() {
    let fixture = Fixture::start().await;
    ready(&fixture, "data").await;
    let vms: Api<VirtualMachine> = Api::namespaced(fixture.client.clone(), NS);
    let patch: json_patch::Patch = serde_json::from_value(json!([
        {"op": "add", "path": "/spec/template/spec/volumes/-", "value": {"name": "mine", "dataVolume": {"name": "mine", "hotpluggable": true}}},
        {"op": "add", "path": "/spec/template/spec/domain/devices/disks/-", "value": {"name": "mine", "disk": {"bus": "scsi"}}},
        {"op": "add", "path": "/spec/template/spec/volumes/-", "value": {"name": "vol-lost", "dataVolume": {"name": "lost", "hotpluggable": true}}},
        {"op": "add", "path": "/spec/template/spec/domain/devices/disks/-",
         "value": {"name": "vol-lost", "serial": "6f9619ff8b86d011b42d", "disk": {"bus": "scsi"}}}
    ]))
    .expect("a patch");
    vms.patch("m1", &PatchParams::default(), &Patch::Json::<()>(patch))
        .await
        .expect("drifted");
    eventually(async || (fixture.disks("m1").await == ["boot", "mine"]).then_some(()))
        .await
        .expect("only ours is healed");
    fixture.attach("data", "m1").await.expect("wanted");
    fixture.until("data", AttachmentState::Attached).await;
    assert_eq!(fixture.disks("m1").await, ["boot", "mine", "vol-data"]);
    fixture.stop().await;
}

#[tokio::test]
async fn nothing_is_changed_under_a_migration() {
    let fixture = Fixture::start().await;
    ready(&fixture, "data").await;
    fixture
        .set_instance(
            "m1",
            json!({"migrationState": {"migrationUid": "u", "completed": false}}),
        )
        .await;
    fixture.attach("data", "m1").await.expect("wanted");
    fixture
        .until_volume("data", |volume| volume.attachment_reason == "MigrationInFlight")
        .await;
    assert_eq!(fixture.disks("m1").await, ["boot"]);
    fixture
        .set_instance("m1", json!({"migrationState": {"completed": true}}))
        .await;
    fixture.until("data", AttachmentState::Attached).await;
    fixture.stop().await;
}

#[tokio::test]
async fn a_volume_survives_its_machine() {
    let fixture = Fixture::start().await;
    ready(&fixture, "data").await;
    fixture.attach("data", "m1").await.expect("wanted");
    fixture.until("data", AttachmentState::Attached).await;
    let vms: Api<VirtualMachine> = Api::namespaced(fixture.client.clone(), NS);
    vms.delete("m1", &DeleteParams::default()).await.expect("deleted");
    let going = fixture
        .until_volume("data", |volume| volume.attachment_reason == "MachineTerminating")
        .await;
    assert_eq!(
        going.attachment_state(),
        AttachmentState::Detaching,
        "its instance is still there"
    );
    assert_eq!(
        reason(fixture.attach("data", "m2").await),
        ErrorReason::VolumeAttachedElsewhere
    );
    let vmis: Api<VirtualMachineInstance> = Api::namespaced(fixture.client.clone(), NS);
    vmis.delete("m1", &DeleteParams::default()).await.expect("gone");
    fixture
        .until_volume("data", |volume| volume.attachment_reason == "MachineNotFound")
        .await;
    fixture.detach("data").await.expect("unwanted");
    fixture.attach("data", "m2").await.expect("free");
    fixture.until("data", AttachmentState::Attached).await;
    fixture.stop().await;
}

#[tokio::test]
async fn a_wish_with_a_stale_etag_is_refused() {
    let fixture = Fixture::start().await;
    ready(&fixture, "data").await;
    let stale = fixture.get("data").await.expect("there").etag;
    fixture.attach("data", "m1").await.expect("wanted");
    let request = proto::DetachVolumeRequest {
        name: crate::fixture::volume_name("data"),
        etag: stale,
        ..proto::DetachVolumeRequest::default()
    };
    assert_eq!(
        reason(fixture.volumes.detach_volume(ask(request)).await),
        ErrorReason::EtagMismatch
    );
    let other = proto::DetachVolumeRequest {
        name: crate::fixture::volume_name("data"),
        machine: machine_name("m2"),
        ..proto::DetachVolumeRequest::default()
    };
    let kept = fixture
        .volumes
        .detach_volume(ask(other))
        .await
        .expect("not there")
        .into_inner();
    assert_eq!(kept.machine, machine_name("m1"), "only the named machine lets go");
    fixture.stop().await;
}
