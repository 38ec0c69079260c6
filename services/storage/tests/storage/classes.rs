//! Storage is denied unless it is offered.

use steading_api::{
    storage::v1::{self as proto, storage_class::State, storage_class_service_server::StorageClassService},
    types::v1::ErrorReason,
};
use tonic_types::StatusExt;

use crate::fixture::{Fixture, ask, eventually, mk_class, mk_volume, reason};

#[tokio::test]
async fn storage_is_denied_unless_it_is_offered() {
    let fixture = Fixture::bare().await;
    assert_eq!(
        reason(fixture.create("data", mk_volume()).await),
        ErrorReason::StorageClassNotOffered
    );
    fixture.offer(mk_class(), "hidden").await.expect("made");
    assert_eq!(
        reason(fixture.create("data", mk_volume()).await),
        ErrorReason::StorageClassNotOffered
    );
    let named = proto::Volume {
        storage_class: "storageClasses/hidden".into(),
        ..mk_volume()
    };
    assert_eq!(
        reason(fixture.create("data", named).await),
        ErrorReason::StorageClassNotOffered
    );
    let missing = proto::Volume {
        storage_class: "storageClasses/missing".into(),
        ..mk_volume()
    };
    assert_eq!(
        reason(fixture.create("data", missing).await),
        ErrorReason::StorageClassNotOffered
    );

    let theirs = proto::StorageClass {
        projects: vec!["projects/other".into()],
        ..mk_class()
    };
    fixture.offer(theirs, "theirs").await.expect("made");
    assert_eq!(
        reason(fixture.create("data", mk_volume()).await),
        ErrorReason::StorageClassNotOffered
    );
    let ours = proto::StorageClass {
        projects: vec!["projects/acme".into()],
        ..mk_class()
    };
    fixture.offer(ours, "ours").await.expect("made");
    let made = fixture.create("data", mk_volume()).await.expect("offered");
    assert_eq!(made.storage_class, "storageClasses/ours");
    fixture.stop().await;
}

#[tokio::test]
async fn limits_of_the_class_are_held_with_field_paths() {
    let fixture = Fixture::start().await;
    for (volume, path) in [
        (
            proto::Volume {
                size: "101Gi".into(),
                ..mk_volume()
            },
            "volume.size",
        ),
        (
            proto::Volume {
                size: "lots".into(),
                ..mk_volume()
            },
            "volume.size",
        ),
        (
            proto::Volume {
                size: String::new(),
                ..mk_volume()
            },
            "volume.size",
        ),
        (
            proto::Volume {
                access_mode: proto::AccessMode::ReadWriteMany.into(),
                ..mk_volume()
            },
            "volume.access_mode",
        ),
    ] {
        let status = fixture.create("data", volume).await.expect_err("refused");
        let bad = status.get_details_bad_request().expect("field violations");
        assert_eq!(bad.field_violations[0].field, path);
    }
    assert!(fixture.get("data").await.is_err(), "nothing was made");
    fixture.stop().await;
}

#[tokio::test]
async fn classes_are_judged_and_cannot_be_withdrawn_while_used() {
    let fixture = Fixture::start().await;
    let get = async |id: &str| {
        let request = proto::GetStorageClassRequest {
            name: format!("storageClasses/{id}"),
        };
        fixture
            .classes
            .get_storage_class(ask(request))
            .await
            .expect("there")
            .into_inner()
    };
    fixture
        .offer(
            proto::StorageClass {
                infra_storage_class: "none".into(),
                ..mk_class()
            },
            "broken",
        )
        .await
        .expect("made");
    let states = eventually(async || {
        let states = (get("fast").await.state(), get("broken").await.state());
        (states == (State::Ready, State::Unusable)).then_some(())
    });
    states.await.expect("both are judged");

    fixture.create("data", mk_volume()).await.expect("made");
    let delete = async |force: bool| {
        let name = "storageClasses/fast".to_owned();
        let request = proto::DeleteStorageClassRequest {
            name,
            force,
            ..proto::DeleteStorageClassRequest::default()
        };
        fixture.classes.delete_storage_class(ask(request)).await
    };
    assert_eq!(reason(delete(false).await), ErrorReason::ResourceInUse);
    delete(true).await.expect("forced");
    assert_eq!(
        reason(fixture.create("more", mk_volume()).await),
        ErrorReason::StorageClassNotOffered
    );
    fixture.stop().await;
}
