use serde_json::json;
use steading_api::{
    lifecycle::v1::{
        CreateMachinePoolRequest, DeleteMachinePoolRequest, MachinePool, PauseRolloutRequest, ScaleMachinePoolRequest,
        UpdateMachinePoolRequest,
    },
    types::v1::ErrorReason,
};
use steading_kubesim::faults::{Effect, Matcher, Rule};

use crate::fixture::{Rig, creation, full, reason};

const ID: &str = "0d7b9f7e-9a0c-4f6e-8d55-5a1d4c2e6b01";
const OTHER_ID: &str = "0d7b9f7e-9a0c-4f6e-8d55-5a1d4c2e6b02";

fn scale(replicas: i32, etag: &str, request_id: &str) -> ScaleMachinePoolRequest {
    ScaleMachinePoolRequest {
        name: full("x"),
        replicas: Some(replicas),
        etag: etag.into(),
        request_id: request_id.into(),
        ..ScaleMachinePoolRequest::default()
    }
}

fn update(pool: MachinePool) -> UpdateMachinePoolRequest {
    UpdateMachinePoolRequest {
        machine_pool: Some(pool),
        ..UpdateMachinePoolRequest::default()
    }
}

#[tokio::test]
async fn an_etag_outlives_status_writes_and_no_change_of_a_user() {
    let rig = Rig::new().await;
    let made = rig.make("x").await;
    rig.report("x", 1).await;
    let settled = rig.get(&full("x")).await.unwrap();
    assert_eq!((settled.ready_replicas, &settled.etag), (1, &made.etag));
    let wanted = MachinePool {
        replicas: 3,
        ..made.clone()
    };
    let changed = rig.update(update(wanted)).await.unwrap();
    assert_eq!((changed.replicas, changed.ready_replicas), (3, 1));
    assert_ne!(changed.etag, made.etag);
    let late = MachinePool { replicas: 4, ..made };
    assert_eq!(reason(rig.update(update(late)).await), ErrorReason::EtagMismatch);
    rig.patch("x", json!({"metadata": {"labels": {"team": "red"}}})).await;
    assert_ne!(rig.get(&full("x")).await.unwrap().etag, changed.etag);
}

#[tokio::test]
async fn a_write_that_lost_a_race_reads_and_decides_again() {
    let rig = Rig::new().await;
    let made = rig.make("x").await;
    let faults = rig.server.faults();
    faults.add(Rule::times(3, Matcher::on("configmaps", &[]), Effect::Conflict));
    let wanted = MachinePool {
        replicas: 3,
        ..made.clone()
    };
    // The first read is struck too, as a conflict of its own.
    let _ = rig.update(update(wanted.clone())).await;
    faults.clear();
    let changed = rig.update(update(wanted)).await.unwrap();
    assert_eq!(changed.replicas, 3);
}

#[tokio::test]
async fn a_repeated_create_returns_the_first_ones_and_other_content_is_refused() {
    let rig = Rig::new().await;
    let request = CreateMachinePoolRequest {
        request_id: ID.into(),
        ..creation("x")
    };
    let made = rig.create(request.clone()).await.unwrap();
    // What it became since does not matter: the request is compared, not the object.
    rig.patch("x", json!({"data": {"version": "1.34"}})).await;
    assert_eq!(rig.create(request.clone()).await.unwrap().uid, made.uid);
    let mut other = request;
    other.machine_pool.as_mut().unwrap().replicas = 2;
    assert_eq!(reason(rig.create(other).await), ErrorReason::RequestIdReused);
    assert_eq!(
        reason(rig.create(creation("x")).await),
        ErrorReason::ResourceAlreadyExists
    );
}

#[tokio::test]
async fn a_create_below_a_missing_parent_names_the_parent() {
    let rig = Rig::new().await;
    let request = CreateMachinePoolRequest {
        parent: "projects/a/clusters/nosuch".into(),
        ..creation("x")
    };
    let error = rig.create(request).await.expect_err("no cluster");
    assert!(
        error.message().contains("projects/a/clusters/nosuch does not exist"),
        "{error}"
    );
    assert_eq!(reason::<()>(Err(error)), ErrorReason::ResourceNotFound);
}

#[tokio::test]
async fn what_is_already_so_is_not_refused_for_its_etag() {
    let rig = Rig::new().await;
    let made = rig.make("x").await;
    let scaled = rig.scale(scale(3, &made.etag, "")).await.unwrap();
    assert_eq!((scaled.replicas, scaled.etag == made.etag), (3, false));
    assert_eq!(rig.scale(scale(3, &made.etag, "")).await.unwrap().etag, scaled.etag);
    assert_eq!(
        reason(rig.scale(scale(4, &made.etag, "")).await),
        ErrorReason::EtagMismatch
    );
    let same = MachinePool { replicas: 3, ..made };
    assert_eq!(rig.update(update(same)).await.unwrap().etag, scaled.etag);
}

#[tokio::test]
async fn a_repeated_custom_method_does_nothing_more() {
    let rig = Rig::new().await;
    rig.make("x").await;
    rig.scale(scale(3, "", ID)).await.unwrap();
    // Another change came between the attempts; repeating the first must not undo it.
    rig.patch("x", json!({"data": {"replicas": "5"}})).await;
    assert_eq!(rig.scale(scale(3, "", ID)).await.unwrap().replicas, 5);
    assert_eq!(reason(rig.scale(scale(4, "", ID)).await), ErrorReason::RequestIdReused);
    assert_eq!(rig.scale(scale(4, "", OTHER_ID)).await.unwrap().replicas, 4);
    assert_eq!(reason(rig.scale(scale(4, "", "x")).await), ErrorReason::InvalidField);
}

#[tokio::test]
async fn a_custom_method_that_changes_fields_is_an_update() {
    let rig = Rig::new().await;
    rig.make("x").await;
    let request = PauseRolloutRequest {
        name: full("x"),
        ..PauseRolloutRequest::default()
    };
    let check = PauseRolloutRequest {
        validate_only: true,
        ..request.clone()
    };
    assert!(rig.pause(check).await.unwrap().rollout_paused);
    assert!(!rig.get(&full("x")).await.unwrap().rollout_paused);
    let paused = rig.pause(request.clone()).await.unwrap();
    assert!(paused.rollout_paused);
    assert_eq!(rig.pause(request).await.unwrap().etag, paused.etag);
}

#[tokio::test]
async fn checking_only_stores_nothing() {
    let rig = Rig::new().await;
    let check = CreateMachinePoolRequest {
        validate_only: true,
        ..creation("x")
    };
    assert_eq!(rig.create(check).await.unwrap().replicas, 1);
    assert_eq!(reason(rig.get(&full("x")).await), ErrorReason::ResourceNotFound);
    rig.make("x").await;
    let check = ScaleMachinePoolRequest {
        validate_only: true,
        ..scale(7, "", ID)
    };
    assert_eq!(rig.scale(check).await.unwrap().replicas, 7);
    assert_eq!(rig.get(&full("x")).await.unwrap().replicas, 1);
}

#[tokio::test]
async fn a_delete_is_refused_for_children_and_stale_etags() {
    let rig = Rig::new().await;
    let made = rig.make("x").await;
    rig.report("x", 1).await;
    let request = DeleteMachinePoolRequest {
        name: full("x"),
        ..DeleteMachinePoolRequest::default()
    };
    assert_eq!(reason(rig.delete(request.clone()).await), ErrorReason::HasChildren);
    let stale = DeleteMachinePoolRequest {
        etag: "stale".into(),
        force: true,
        ..request.clone()
    };
    assert_eq!(reason(rig.delete(stale).await), ErrorReason::EtagMismatch);
    let forced = DeleteMachinePoolRequest {
        etag: made.etag,
        force: true,
        ..request.clone()
    };
    assert!(rig.delete(forced).await.unwrap().delete_time.is_some());
    assert_eq!(reason(rig.delete(request.clone()).await), ErrorReason::ResourceNotFound);
    let missing = DeleteMachinePoolRequest {
        allow_missing: true,
        ..request
    };
    assert!(rig.delete(missing).await.is_ok());
}

#[tokio::test]
async fn what_is_being_deleted_is_not_changed() {
    let rig = Rig::new().await;
    rig.make("x").await;
    rig.patch("x", json!({"metadata": {"finalizers": ["example.test/hold"]}}))
        .await;
    let request = DeleteMachinePoolRequest {
        name: full("x"),
        ..DeleteMachinePoolRequest::default()
    };
    let first = rig.delete(request.clone()).await.unwrap();
    assert!(first.delete_time.is_some());
    // Repeated with an etag of before: it is already so.
    let again = DeleteMachinePoolRequest {
        etag: "stale".into(),
        ..request
    };
    assert!(rig.delete(again).await.is_ok());
    assert_eq!(reason(rig.scale(scale(3, "", "")).await), ErrorReason::ResourceDeleting);
}
