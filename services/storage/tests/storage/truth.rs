//! What is said of volumes is so: claims that are gone, dead nodes, disks that people plug, refusals, growth.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use steading_api::{
    convert::reason_of,
    storage::v1::{
        self as proto, VolumeMode,
        volume::{AttachmentState, State},
        volume_service_server::VolumeService,
    },
    types::v1::ErrorReason,
};
use steading_infra::{cdi::DataVolume, kubevirt::VirtualMachine};
use steading_kubesim::{
    Admission, AdmissionHook, ApiError, Verb,
    faults::{Cut, Effect, Matcher, Rule},
};

use crate::fixture::{Fixture, NS, ask, eventually, machine_name, mk_class, mk_volume, reason, volume_name};

fn condition<'a>(volume: &'a proto::Volume, kind: &str) -> (&'a str, &'a str) {
    let found = volume.conditions.iter().find(|condition| condition.r#type == kind);
    found.map_or(("", ""), |condition| {
        (condition.reason.as_str(), condition.message.as_str())
    })
}

#[tokio::test]
async fn a_volume_whose_claim_is_gone_has_failed_and_is_not_attached() {
    let fixture = Fixture::start().await;
    fixture.ready("data").await;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(fixture.client.clone(), NS);
    claims.delete("data", &DeleteParams::default()).await.expect("deleted");
    assert_eq!(reason(fixture.attach("data", "m1").await), ErrorReason::InvalidState);
    let lost = fixture
        .until_volume("data", |volume| volume.state() == State::Failed)
        .await;
    assert_eq!(condition(&lost, "Provisioned").0, "ClaimLost");
    fixture.delete("data", false).await.expect("deleted");
    fixture.until_gone("data").await;
    fixture.stop().await;
}

#[tokio::test]
async fn a_dead_nodes_volumes_are_unknown_and_known_again_when_it_returns() {
    let fixture = Fixture::start().await;
    let nodes: Api<Node> = Api::all(fixture.client.clone());
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "infra-1"}});
    let node: Node = serde_json::from_value(node).expect("a node");
    nodes.create(&PostParams::default(), &node).await.expect("made");
    let report = async |status: &str| {
        let status =
            json!({"status": {"conditions": [{"type": "Ready", "status": status, "reason": "NodeStatusUnknown"}]}});
        let patched = nodes
            .patch_status("infra-1", &PatchParams::default(), &Patch::Merge(&status))
            .await;
        patched.expect("reported");
    };
    report("True").await;
    fixture.set_instance("m1", json!({"nodeName": "infra-1"})).await;
    fixture.ready("data").await;
    fixture.attach("data", "m1").await.expect("wanted");
    fixture.until("data", AttachmentState::Attached).await;
    report("Unknown").await;
    let unknown = fixture.until("data", AttachmentState::Unknown).await;
    assert_eq!(unknown.attachment_reason, "MachineUnreachable");
    assert_eq!(unknown.attached_machine, machine_name("m1"));
    assert_eq!(reason(fixture.delete("data", false).await), ErrorReason::ResourceInUse);
    report("True").await;
    fixture.until("data", AttachmentState::Attached).await;
    fixture.stop().await;
}

#[tokio::test]
async fn a_volume_that_was_plugged_by_hand_under_another_name_is_on_that_machine() {
    let fixture = Fixture::start().await;
    fixture.ready("data").await;
    let vms: Api<VirtualMachine> = Api::namespaced(fixture.client.clone(), NS);
    let plug: json_patch::Patch = serde_json::from_value(json!([
        {"op": "add", "path": "/spec/template/spec/volumes/-",
         "value": {"name": "mine", "persistentVolumeClaim": {"claimName": "data", "hotpluggable": true}}},
        {"op": "add", "path": "/spec/template/spec/domain/devices/disks/-", "value": {"name": "mine", "disk": {"bus": "scsi"}}}
    ]))
    .expect("a patch");
    let plugged = vms.patch("m1", &PatchParams::default(), &Patch::Json::<()>(plug)).await;
    plugged.expect("plugged");
    let seen = fixture
        .until_volume("data", |volume| volume.attached_machine == machine_name("m1"))
        .await;
    assert_eq!(seen.attachment_reason, "PluggedByHand");
    assert_eq!(
        reason(fixture.attach("data", "m2").await),
        ErrorReason::VolumeAttachedElsewhere
    );
    assert_eq!(reason(fixture.delete("data", false).await), ErrorReason::ResourceInUse);
    assert_eq!(fixture.disks("m1").await, ["boot", "mine"], "what is not ours stays");
    fixture.stop().await;
}

/// Refuses machines that would get the volume `bad`.
struct Picky;

impl AdmissionHook for Picky {
    fn admit<'a>(&'a self, request: &'a Admission<'a>, object: &'a mut Value) -> BoxFuture<'a, Result<(), ApiError>> {
        let bad = request.info.resource == "virtualmachines" && object.to_string().contains("\"vol-bad\"");
        async move {
            if bad {
                return Err(ApiError::new(
                    422,
                    "Invalid",
                    "admission webhook denied: disk vol-bad is odd",
                ));
            }
            Ok(())
        }
        .boxed()
    }
}

#[tokio::test]
async fn one_refused_volume_holds_up_neither_others_nor_those_that_leave() {
    let fixture = Fixture::start().await;
    fixture.server.add_hook(Arc::new(Picky));
    for id in ["leaves", "a", "b", "bad", "c"] {
        fixture.ready(id).await;
    }
    fixture.attach("leaves", "m1").await.expect("wanted");
    fixture.until("leaves", AttachmentState::Attached).await;
    fixture
        .player
        .hold_instances
        .store(true, std::sync::atomic::Ordering::SeqCst);
    for id in ["a", "b", "bad", "c"] {
        fixture.attach(id, "m1").await.expect("wanted");
    }
    fixture.detach("leaves").await.expect("unwanted");
    fixture
        .player
        .hold_instances
        .store(false, std::sync::atomic::Ordering::SeqCst);
    fixture.until("leaves", AttachmentState::Detached).await;
    for id in ["a", "b", "c"] {
        fixture.until(id, AttachmentState::Attached).await;
    }
    let bad = fixture.until("bad", AttachmentState::Failed).await;
    assert_eq!(bad.attachment_reason, "HotPlugRefused");
    assert!(
        bad.attachment_message.contains("vol-bad is odd"),
        "{}",
        bad.attachment_message
    );
    let told = eventually(async || {
        fixture
            .events("bad")
            .await
            .contains(&"AttachRefused".to_owned())
            .then_some(())
    });
    told.await.expect("an event");
    assert!(fixture.events("a").await.is_empty());
    // Nothing of it is left when it is no longer wanted.
    fixture.detach("bad").await.expect("unwanted");
    fixture.until("bad", AttachmentState::Detached).await;
    fixture.attach("bad", "m2").await.expect("free");
    fixture.stop().await;
}

#[tokio::test]
async fn a_refused_expansion_is_said_and_growth_that_gives_nothing_is_not_done() {
    let fixture = Fixture::start().await;
    fixture.ready("data").await;
    let claims = Matcher::on("persistentvolumeclaims", &[Verb::Patch]).from_agent("storage");
    let refusal = ApiError::new(403, "Forbidden", "only dynamically provisioned pvc can be resized");
    let rule = fixture
        .server
        .faults()
        .add(Rule::always(claims, Effect::Refuse(refusal)));
    fixture.expand("data", "5Gi").await.expect("noted");
    let refused = fixture
        .until_volume("data", |volume| condition(volume, "Expanded").0 == "ExpansionRefused")
        .await;
    assert!(condition(&refused, "Expanded").1.contains("dynamically provisioned"));
    assert!(refused.reconciling);
    let told = eventually(async || {
        fixture
            .events("data")
            .await
            .contains(&"ExpansionRefused".to_owned())
            .then_some(())
    });
    told.await.expect("an event");
    fixture.server.faults().remove(rule);
    // The claim asks for more, and has not got it.
    fixture.expand("data", "6Gi").await.expect("noted");
    let waiting = fixture
        .until_volume("data", |volume| condition(volume, "Expanded").0 == "Expanding")
        .await;
    assert!(waiting.reconciling);
    let grown = json!({"status": {"capacity": {"storage": "6Gi"}}});
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(fixture.client.clone(), NS);
    let patched = claims
        .patch_status("data", &PatchParams::default(), &Patch::Merge(&grown))
        .await;
    patched.expect("grown");
    let done = fixture.until_volume("data", |volume| !volume.reconciling).await;
    assert_eq!(
        (done.capacity.as_str(), condition(&done, "Expanded").0),
        ("6Gi", "Expanded")
    );
    fixture.stop().await;
}

#[tokio::test]
async fn an_expansion_of_a_file_system_asks_for_what_cdi_keeps_for_itself() {
    let fixture = Fixture::start().await;
    let volume = proto::Volume {
        volume_mode: VolumeMode::Filesystem.into(),
        ..mk_volume()
    };
    fixture.create("data", volume).await.expect("made");
    fixture
        .until_volume("data", |volume| volume.state() == State::Ready)
        .await;
    fixture.expand("data", "2Gi").await.expect("grows");
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(fixture.client.clone(), NS);
    let requested = eventually(async || {
        let claim = claims.get("data").await.ok()?;
        let requests = claim.spec?.resources?.requests?;
        let size: steading_model::quantity::Quantity = requests.get("storage")?.0.parse().ok()?;
        (size.bytes() > 1 << 30).then_some(size.bytes())
    });
    // CDI's default of 6 %.
    assert_eq!(requested.await, Some(2_284_557_073), "2Gi / 0.94");
    fixture.stop().await;
}

#[tokio::test]
async fn retained_bytes_are_kept_though_the_claim_was_never_seen() {
    let fixture = Fixture::start().await;
    let class = proto::StorageClass {
        all_projects: true,
        reclaim_policy: proto::ReclaimPolicy::Retain.into(),
        ..mk_class()
    };
    fixture.offer(class, "kept").await.expect("offered");
    let claims = Matcher::on("persistentvolumeclaims", &[]).from_agent("storage");
    fixture.server.faults().cut_watches(&claims, Cut::Silence);
    let volume = proto::Volume {
        storage_class: "storageClasses/kept".into(),
        ..mk_volume()
    };
    fixture.create("data", volume).await.expect("made");
    fixture
        .until_volume("data", |volume| volume.progress_percent == 100)
        .await;
    let persistent: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": "pv-data"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Delete",
            "csi": {"driver": "ceph", "volumeHandle": "data"}}
    }))
    .expect("a volume");
    let volumes: Api<PersistentVolume> = Api::all(fixture.client.clone());
    volumes.create(&PostParams::default(), &persistent).await.expect("made");
    fixture.delete("data", false).await.expect("deleted");
    fixture.until_gone("data").await;
    let kept = volumes.get("pv-data").await.expect("there").spec.expect("a spec");
    assert_eq!(kept.persistent_volume_reclaim_policy.as_deref(), Some("Retain"));
    fixture.stop().await;
}

#[tokio::test]
async fn a_record_stands_before_the_machine_changes_and_until_it_has_let_go() {
    let fixture = Fixture::start().await;
    fixture.ready("data").await;
    let objects: Api<DataVolume> = Api::namespaced(fixture.client.clone(), NS);
    let record = async || {
        let object = objects.get("data").await.expect("there");
        object
            .metadata
            .annotations
            .and_then(|a| a.get("steading.dev/placed-on").cloned())
    };
    let patches = Matcher::on("virtualmachines", &[Verb::Patch]);
    let rule = fixture.server.faults().add(Rule::always(patches, Effect::Unavailable));
    fixture.attach("data", "m1").await.expect("wanted");
    let written = eventually(async || record().await).await.expect("a record");
    assert!(written.starts_with("m1/"), "{written}");
    assert_eq!(fixture.disks("m1").await, ["boot"], "before the machine is changed");
    fixture.detach("data").await.expect("unwanted");
    assert_eq!(
        reason(fixture.attach("data", "m2").await),
        ErrorReason::VolumeAttachedElsewhere,
        "an attachment may be on its way still"
    );
    fixture.server.faults().remove(rule);
    fixture.until("data", AttachmentState::Detached).await;
    assert_eq!(record().await, None);
    let vms: Api<VirtualMachine> = Api::namespaced(fixture.client.clone(), NS);
    let fenced = vms.get("m1").await.expect("there").metadata.annotations;
    assert!(
        fenced.is_some_and(|a| a.contains_key("steading.dev/volume-fence")),
        "fenced off first"
    );
    fixture.stop().await;
}

#[tokio::test]
async fn a_create_in_a_missing_cluster_names_the_cluster() {
    let fixture = Fixture::start().await;
    let request = proto::CreateVolumeRequest {
        parent: "projects/acme/clusters/none".into(),
        volume_id: "data".into(),
        volume: Some(mk_volume()),
        ..proto::CreateVolumeRequest::default()
    };
    let refused = fixture
        .volumes
        .create_volume(ask(request))
        .await
        .expect_err("no cluster");
    assert_eq!(reason_of(&refused), Some(ErrorReason::ResourceNotFound));
    assert!(refused.message().contains("projects/acme/clusters/none"), "{refused}");
    fixture.stop().await;
}

#[tokio::test]
async fn what_is_so_already_is_so_under_a_stale_etag_too() {
    let fixture = Fixture::start().await;
    let stale = fixture.ready("data").await.etag;
    fixture.attach("data", "m1").await.expect("wanted");
    let request = |machine: &str, etag: &str| {
        ask(proto::AttachVolumeRequest {
            name: volume_name("data"),
            machine: machine_name(machine),
            etag: etag.into(),
            ..proto::AttachVolumeRequest::default()
        })
    };
    let again = fixture.volumes.attach_volume(request("m1", &stale)).await;
    assert_eq!(again.expect("so already").into_inner().machine, machine_name("m1"));
    assert_eq!(
        reason(fixture.volumes.attach_volume(request("m2", &stale)).await),
        ErrorReason::EtagMismatch
    );
    fixture.stop().await;
}

#[tokio::test]
async fn a_machine_in_a_zone_that_does_not_reach_the_volume_is_refused_at_once() {
    let fixture = Fixture::start().await;
    let nodes: Api<Node> = Api::all(fixture.client.clone());
    let node = json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "infra-1", "labels": {"topology.kubernetes.io/zone": "b"}}});
    let node: Node = serde_json::from_value(node).expect("a node");
    nodes.create(&PostParams::default(), &node).await.expect("made");
    fixture.set_instance("m1", json!({"nodeName": "infra-1"})).await;
    let class = proto::StorageClass {
        all_projects: true,
        zones: vec!["a".into()],
        ..mk_class()
    };
    fixture.offer(class, "zonal").await.expect("offered");
    let volume = proto::Volume {
        storage_class: "storageClasses/zonal".into(),
        ..mk_volume()
    };
    fixture.create("data", volume).await.expect("made");
    fixture
        .until_volume("data", |volume| volume.state() == State::Ready)
        .await;
    let refused = eventually(async || fixture.attach("data", "m1").await.err());
    let refused = refused.await.expect("refused");
    assert!(refused.message().contains("zone b"), "{}", refused.message());
    fixture.stop().await;
}
