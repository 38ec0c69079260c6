//! Volumes count against the storage of their project, together with boot disks.

use futures::future::join_all;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use steading_api::{storage::v1 as proto, types::v1::ErrorReason};
use steading_infra::crd::{MachinePool, Project};

use crate::fixture::{CLUSTER, Fixture, NS, ask, eventually, mk_volume, reason};
use steading_api::storage::v1::volume_service_server::VolumeService;

async fn limited(storage: &str) -> Fixture {
    let fixture = Fixture::start().await;
    let project: Project = serde_json::from_value(json!({
        "apiVersion": "steading.dev/v1alpha1", "kind": "Project",
        "metadata": {"name": "acme"}, "spec": {"quota": {"storage": storage}}
    }))
    .expect("a project");
    let projects: Api<Project> = Api::all(fixture.client.clone());
    projects.create(&PostParams::default(), &project).await.expect("made");
    fixture
}

fn sized(size: &str) -> proto::Volume {
    proto::Volume {
        size: size.into(),
        ..mk_volume()
    }
}

#[tokio::test]
async fn volumes_that_are_made_at_once_stay_within_the_quota_of_their_project() {
    let fixture = Box::pin(limited("60Gi")).await;
    let ids: Vec<String> = (0..8).map(|i| format!("v{i}")).collect();
    let made = join_all(ids.iter().map(|id| fixture.create(id, sized("15Gi")))).await;
    let (given, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!(given.len(), 4, "4 × 15Gi are 60Gi");
    for refusal in refused {
        assert_eq!(reason(refusal), ErrorReason::QuotaExceeded);
    }
    let one = given.into_iter().next().and_then(Result::ok).expect("made").name;
    let id = one.rsplit('/').next().expect("an id");
    assert_eq!(reason(fixture.expand(id, "16Gi").await), ErrorReason::QuotaExceeded);
    let request = proto::UpdateVolumeRequest {
        volume: Some(proto::Volume {
            name: one.clone(),
            ..sized("16Gi")
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["size".into()],
        }),
        ..proto::UpdateVolumeRequest::default()
    };
    assert_eq!(
        reason(fixture.volumes.update_volume(ask(request)).await),
        ErrorReason::QuotaExceeded
    );
    fixture.stop().await;
}

#[tokio::test]
async fn boot_disks_take_from_the_same_quota_and_what_is_deleted_is_given_back() {
    let fixture = Box::pin(limited("70Gi")).await;
    let pool: MachinePool = serde_json::from_value(json!({
        "apiVersion": "steading.dev/v1alpha1", "kind": "MachinePool", "metadata": {"name": "workers", "namespace": NS},
        "spec": {"machineTemplate": "t", "replicas": 3}
    }))
    .expect("a pool");
    let pools: Api<MachinePool> = Api::namespaced(fixture.client.clone(), NS);
    pools.create(&PostParams::default(), &pool).await.expect("made");
    let status = json!({"status": {"machineStorage": "20Gi"}});
    let patched = pools
        .patch_status("workers", &PatchParams::default(), &Patch::Merge(&status))
        .await;
    patched.expect("resolved");
    // Of 70Gi, three boot disks take 60Gi.
    let refused = eventually(async || {
        let request = proto::CreateVolumeRequest {
            parent: CLUSTER.into(),
            volume_id: "probe".into(),
            volume: Some(sized("11Gi")),
            validate_only: true,
            ..proto::CreateVolumeRequest::default()
        };
        fixture.volumes.create_volume(ask(request)).await.is_err().then_some(())
    });
    refused.await.expect("boot disks count");
    assert_eq!(
        reason(fixture.create("a", sized("11Gi")).await),
        ErrorReason::QuotaExceeded
    );
    fixture.create("a", sized("10Gi")).await.expect("fits");
    assert_eq!(
        reason(fixture.create("b", sized("1Gi")).await),
        ErrorReason::QuotaExceeded
    );
    fixture.delete("a", false).await.expect("deleted");
    fixture.until_gone("a").await;
    let again = eventually(async || fixture.create("b", sized("1Gi")).await.ok());
    again.await.expect("room again");
    fixture.stop().await;
}
