//! Volumes from create to delete, and their snapshots.

use futures::StreamExt;
use serde_json::json;
use steading_api::{
    storage::v1::{
        self as proto,
        volume::{AttachmentState, Source, State},
        volume_service_server::VolumeService,
    },
    types::v1::{ErrorReason, WatchEventType},
};
use steading_infra::cdi::DataVolume;
use steading_kubesim::{Verb, counters::RequestKey};

use crate::fixture::{
    CLUSTER, Fixture, NS, ask, dynamic, eventually, machine_name, mk_class, mk_volume, reason, volume_name,
};

#[tokio::test]
async fn a_volume_is_made_told_and_deleted() {
    let fixture = Fixture::start().await;
    let made = fixture.create("data", mk_volume()).await.expect("made");
    assert_eq!(
        (made.name.as_str(), made.reconciling, made.serial.len()),
        (volume_name("data").as_str(), true, 20)
    );
    let ready = fixture
        .until_volume("data", |volume| {
            volume.state() == State::Ready && !volume.capacity.is_empty()
        })
        .await;
    assert_eq!(
        (ready.capacity.as_str(), ready.progress_percent, ready.reconciling),
        ("1Gi", 100, false)
    );
    assert_eq!(ready.attachment_state(), AttachmentState::Detached);
    let object: DataVolume = kube::Api::namespaced(fixture.client.clone(), NS)
        .get("data")
        .await
        .expect("there");
    assert!(
        object.metadata.owner_references.is_none(),
        "a volume belongs to no machine"
    );

    let gone = fixture.delete("data", false).await.expect("deleted");
    assert!(gone.delete_time.is_some());
    fixture.until_gone("data").await;
    assert_eq!(
        reason(fixture.delete("data", false).await),
        ErrorReason::ResourceNotFound
    );
    fixture.stop().await;
}

#[tokio::test]
async fn a_create_can_be_repeated_but_not_with_other_content() {
    let fixture = Fixture::start().await;
    let create = async |size: &str, request_id: &str| {
        let request = proto::CreateVolumeRequest {
            parent: CLUSTER.into(),
            volume_id: "data".into(),
            volume: Some(proto::Volume {
                size: size.into(),
                ..mk_volume()
            }),
            request_id: request_id.into(),
            ..proto::CreateVolumeRequest::default()
        };
        fixture
            .volumes
            .create_volume(ask(request))
            .await
            .map(tonic::Response::into_inner)
    };
    let id = "7f3c6a52-0d0f-4a3e-9d59-0a1f6f9d7a11";
    let first = create("1Gi", id).await.expect("made");
    assert_eq!(create("1Gi", id).await.expect("replayed").uid, first.uid);
    assert_eq!(reason(create("2Gi", id).await), ErrorReason::RequestIdReused);
    assert_eq!(reason(create("2Gi", "").await), ErrorReason::ResourceAlreadyExists);
    assert_eq!(reason(create("1Gi", "soon").await), ErrorReason::InvalidField);
    fixture.stop().await;
}

#[tokio::test]
async fn making_a_volume_reads_its_class_and_writes_it() {
    let fixture = Fixture::start().await;
    fixture.server.counters().reset();
    fixture.create("data", mk_volume()).await.expect("made");
    // The API server has storage classes of its own, which the service looks at by itself.
    let of = |verb, group: &str, resource: &str| {
        let ours = |key: &RequestKey| {
            key.user_agent == "storage" && key.verb == verb && key.group == group && key.resource == resource
        };
        fixture.server.counters().count(ours)
    };
    assert_eq!(
        (
            of(Verb::Get, "cdi.kubevirt.io", "datavolumes"),
            of(Verb::List, "steading.dev", "storageclasses"),
            of(Verb::Create, "cdi.kubevirt.io", "datavolumes")
        ),
        (0, 1, 1)
    );
    fixture.stop().await;
}

#[tokio::test]
async fn validation_alone_changes_nothing() {
    let fixture = Fixture::start().await;
    let request = proto::CreateVolumeRequest {
        parent: CLUSTER.into(),
        volume_id: "data".into(),
        volume: Some(mk_volume()),
        validate_only: true,
        ..proto::CreateVolumeRequest::default()
    };
    fixture.volumes.create_volume(ask(request)).await.expect("valid");
    assert!(fixture.get("data").await.is_err());
    fixture.create("data", mk_volume()).await.expect("made");
    let request = proto::AttachVolumeRequest {
        name: volume_name("data"),
        machine: machine_name("m1"),
        validate_only: true,
        ..proto::AttachVolumeRequest::default()
    };
    let ready = fixture.until("data", AttachmentState::Detached).await;
    fixture.volumes.attach_volume(ask(request)).await.expect("valid");
    assert_eq!(fixture.get("data").await.expect("there").machine, ready.machine);
    fixture.stop().await;
}

#[tokio::test]
async fn volumes_grow_and_never_shrink() {
    let fixture = Fixture::start().await;
    fixture.create("data", mk_volume()).await.expect("made");
    fixture
        .until_volume("data", |volume| volume.state() == State::Ready)
        .await;
    let expand = async |size: &str| {
        let request = proto::ExpandVolumeRequest {
            name: volume_name("data"),
            size: size.into(),
            ..proto::ExpandVolumeRequest::default()
        };
        fixture
            .volumes
            .expand_volume(ask(request))
            .await
            .map(tonic::Response::into_inner)
    };
    assert_eq!(expand("5Gi").await.expect("grows").size, "5Gi");
    assert_eq!(reason(expand("2Gi").await), ErrorReason::InvalidField);
    assert_eq!(reason(expand("500Gi").await), ErrorReason::InvalidField);
    let grown = eventually(async || {
        let claims = dynamic(&fixture.client, "", "v1", "PersistentVolumeClaim");
        let claim = claims.get("data").await.ok()?;
        (claim.data["spec"]["resources"]["requests"]["storage"] == "5Gi").then_some(())
    });
    grown.await.expect("the claim asks for more");
    fixture.stop().await;
}

#[tokio::test]
async fn updates_go_by_mask_and_etag() {
    let fixture = Fixture::start().await;
    let made = fixture.create("data", mk_volume()).await.expect("made");
    fixture
        .until_volume("data", |volume| volume.state() == State::Ready)
        .await;
    let update = async |volume: proto::Volume, paths: &[&str]| {
        let mask = prost_types::FieldMask {
            paths: paths.iter().map(ToString::to_string).collect(),
        };
        let request = proto::UpdateVolumeRequest {
            volume: Some(proto::Volume {
                name: volume_name("data"),
                ..volume
            }),
            update_mask: Some(mask),
            ..proto::UpdateVolumeRequest::default()
        };
        fixture
            .volumes
            .update_volume(ask(request))
            .await
            .map(tonic::Response::into_inner)
    };
    let labelled = proto::Volume {
        labels: [("team".to_owned(), "a".to_owned())].into(),
        ..mk_volume()
    };
    assert_eq!(
        update(labelled.clone(), &["labels"])
            .await
            .expect("written")
            .labels
            .len(),
        1
    );
    let stale = proto::Volume {
        etag: made.etag,
        labels: [("team".to_owned(), "b".to_owned())].into(),
        ..mk_volume()
    };
    assert_eq!(reason(update(stale, &["labels"]).await), ErrorReason::EtagMismatch);
    let other = proto::Volume {
        storage_class: "storageClasses/other".into(),
        ..mk_volume()
    };
    assert_eq!(
        reason(update(other, &["storage_class"]).await),
        ErrorReason::ImmutableField
    );
    assert_eq!(
        reason(update(mk_volume(), &["state"]).await),
        ErrorReason::InvalidUpdateMask
    );
    let forged = proto::Volume {
        labels: [("steading.dev/volume".to_owned(), "x".to_owned())].into(),
        ..mk_volume()
    };
    assert_eq!(reason(update(forged, &["labels"]).await), ErrorReason::InvalidField);
    let attached = proto::Volume {
        machine: machine_name("m1"),
        ..mk_volume()
    };
    update(attached, &["machine"]).await.expect("wanted");
    fixture.until("data", AttachmentState::Attached).await;
    fixture.stop().await;
}

#[tokio::test]
async fn lists_are_filtered_by_machine_and_paged() {
    let fixture = Fixture::start().await;
    for id in ["a", "b", "c"] {
        let machine = if id == "b" { machine_name("m1") } else { String::new() };
        fixture
            .create(id, proto::Volume { machine, ..mk_volume() })
            .await
            .expect("made");
    }
    let list = async |filter: String, page_size: i32, page_token: String| {
        let request = proto::ListVolumesRequest {
            parent: CLUSTER.into(),
            filter,
            page_size,
            page_token,
            ..proto::ListVolumesRequest::default()
        };
        fixture
            .volumes
            .list_volumes(ask(request))
            .await
            .map(tonic::Response::into_inner)
    };
    let on = list(format!("machine=\"{}\"", machine_name("m1")), 0, String::new())
        .await
        .expect("listed");
    assert_eq!(
        on.volumes.iter().map(|v| v.name.clone()).collect::<Vec<_>>(),
        [volume_name("b")]
    );
    fixture.until("b", AttachmentState::Attached).await;
    let seen = list(format!("attached_machine=\"{}\"", machine_name("m1")), 0, String::new())
        .await
        .expect("listed");
    assert_eq!(seen.volumes.len(), 1);
    let first = list(String::new(), 2, String::new()).await.expect("listed");
    let second = list(String::new(), 2, first.next_page_token.clone())
        .await
        .expect("listed");
    assert_eq!(
        (
            first.volumes.len(),
            second.volumes.len(),
            second.next_page_token.as_str()
        ),
        (2, 1, "")
    );
    assert_eq!(
        reason(list("state=READY".into(), 2, first.next_page_token).await),
        ErrorReason::InvalidPageToken
    );
    assert_eq!(
        reason(list("colour=red".into(), 2, String::new()).await),
        ErrorReason::InvalidFilter
    );
    fixture.stop().await;
}

#[tokio::test]
async fn a_watch_tells_what_is_there_and_what_comes_and_resumes() {
    let fixture = Fixture::start().await;
    fixture.create("a", mk_volume()).await.expect("made");
    fixture
        .until_volume("a", |volume| {
            volume.state() == State::Ready && !volume.capacity.is_empty()
        })
        .await;
    let watch = async |resume_token: String| {
        let request = proto::WatchVolumesRequest {
            parent: CLUSTER.into(),
            resume_token,
            ..proto::WatchVolumesRequest::default()
        };
        fixture
            .volumes
            .watch_volumes(ask(request))
            .await
            .map(tonic::Response::into_inner)
    };
    let mut stream = watch(String::new()).await.expect("watched");
    let next = async |stream: &mut steading_runtime::standard::ResponseStream<proto::WatchVolumesResponse>| {
        let event = tokio::time::timeout(std::time::Duration::from_secs(10), stream.next()).await;
        event.expect("in time").expect("goes on").expect("no error")
    };
    assert_eq!(next(&mut stream).await.r#type(), WatchEventType::Added);
    let synced = next(&mut stream).await;
    assert_eq!((synced.r#type(), synced.volume), (WatchEventType::Synced, None));
    fixture.attach("a", "m1").await.expect("wanted");
    loop {
        let event = next(&mut stream).await;
        assert_eq!(event.r#type(), WatchEventType::Modified);
        if event.volume.expect("a volume").attachment_state() == AttachmentState::Attached {
            break;
        }
    }
    let mut resumed = watch(synced.resume_token).await.expect("resumed");
    let event = next(&mut resumed).await;
    assert_eq!(
        (event.r#type(), event.volume.map(|v| v.name)),
        (WatchEventType::Modified, Some(volume_name("a")))
    );
    assert_eq!(
        reason(watch("elsewhere.7".into()).await.map(drop)),
        ErrorReason::ResumeTokenExpired
    );
    assert_eq!(
        reason(watch("nonsense".into()).await.map(drop)),
        ErrorReason::InvalidField
    );

    fixture.detach("a").await.expect("unwanted");
    fixture.until("a", AttachmentState::Detached).await;
    fixture.delete("a", false).await.expect("deleted");
    loop {
        if next(&mut stream).await.r#type() == WatchEventType::Deleted {
            break;
        }
    }
    fixture.stop().await;
}

#[tokio::test]
async fn snapshots_are_taken_and_volumes_made_from_them() {
    let fixture = Fixture::start().await;
    fixture.create("data", mk_volume()).await.expect("made");
    fixture
        .until_volume("data", |volume| volume.state() == State::Ready)
        .await;
    let take = async |volume: &str| {
        let request = proto::CreateSnapshotRequest {
            parent: CLUSTER.into(),
            snapshot_id: "before".into(),
            snapshot: Some(proto::Snapshot {
                volume: volume_name(volume),
                ..proto::Snapshot::default()
            }),
            ..proto::CreateSnapshotRequest::default()
        };
        fixture
            .volumes
            .create_snapshot(ask(request))
            .await
            .map(tonic::Response::into_inner)
    };
    assert_eq!(
        reason(take("data").await),
        ErrorReason::InvalidState,
        "the class has no snapshots"
    );
    let class = proto::StorageClass {
        snapshot_class: "ceph-snap".into(),
        all_projects: true,
        ..mk_class()
    };
    fixture.offer(class, "snap").await.expect("offered");
    let volume = proto::Volume {
        storage_class: "storageClasses/snap".into(),
        ..mk_volume()
    };
    fixture.create("other", volume).await.expect("made");
    fixture
        .until_volume("other", |volume| volume.state() == State::Ready)
        .await;
    assert_eq!(reason(take("none").await), ErrorReason::ReferenceNotFound);
    let taken = take("other").await.expect("taken");
    assert_eq!(
        (taken.volume, taken.storage_class.as_str()),
        (volume_name("other"), "storageClasses/snap")
    );

    let snapshots = dynamic(&fixture.client, "snapshot.storage.k8s.io", "v1", "VolumeSnapshot");
    let status = json!({"status": {"readyToUse": true, "restoreSize": "1Gi"}});
    let patched = snapshots
        .patch_status(
            "before",
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(&status),
        )
        .await;
    patched.expect("ready");
    let name = format!("{CLUSTER}/snapshots/before");
    let restored = proto::Volume {
        source: Some(Source::Snapshot(name.clone())),
        ..proto::Volume::default()
    };
    let restored = fixture.create("restored", restored).await.expect("made");
    assert_eq!(
        (restored.size.as_str(), restored.storage_class.as_str()),
        ("1Gi", "storageClasses/snap")
    );
    let small = proto::Volume {
        source: Some(Source::Snapshot(name)),
        size: "1Mi".into(),
        ..proto::Volume::default()
    };
    assert_eq!(reason(fixture.create("small", small).await), ErrorReason::InvalidField);

    let request = proto::CloneVolumeRequest {
        name: volume_name("data"),
        volume_id: "copy".into(),
        ..proto::CloneVolumeRequest::default()
    };
    let copy = fixture
        .volumes
        .clone_volume(ask(request))
        .await
        .expect("cloned")
        .into_inner();
    assert_eq!(
        (copy.source, copy.size.as_str()),
        (Some(Source::Volume(volume_name("data"))), "1Gi")
    );
    fixture.stop().await;
}
