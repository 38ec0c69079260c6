//! Golden disks: what needs them keeps them, and failures of imports are shown.

use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use steading_infra::{cdi::DataVolume, labels};

use super::*;

/// Annotation by which the simulation lets a DataVolume's source not answer.
const FAIL_IMPORT: &str = "sim.steading.dev/fail-import";

async fn image(stack: &Stack) -> proto::Image {
    let get = proto::GetImageRequest {
        name: "images/ubuntu".into(),
    };
    stack.catalog.get_image(call(get)).await.expect("there").into_inner()
}

pub(super) async fn ready(stack: &Stack) -> proto::Image {
    eventually("the import", || async {
        let image = image(stack).await;
        (image.state() == State::Ready).then_some(image)
    })
    .await
}

pub(super) async fn refresh(stack: &Stack) {
    let refresh = proto::RefreshImageRequest {
        name: "images/ubuntu".into(),
        ..Default::default()
    };
    let wanted = stack
        .catalog
        .refresh_image(call(refresh))
        .await
        .expect("refreshed")
        .into_inner()
        .wanted_content_id;
    eventually("the next content", || async {
        (image(stack).await.content_id == wanted).then_some(())
    })
    .await;
}

pub(super) fn golden(stack: &Stack) -> Api<DataVolume> {
    Api::namespaced(stack.kube.clone(), labels::SYSTEM_NAMESPACE)
}

#[tokio::test]
async fn an_old_golden_disk_stays_until_its_clones_have_ended() {
    with_stack(|stack| async move {
        create_image(&stack).await;
        let old = format!("ubuntu-{}", ready(&stack).await.content_id);
        let clones: Api<DataVolume> = Api::namespaced(stack.kube.clone(), "default");
        let clone = json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
            "metadata": {"name": "clone", "namespace": "default", "annotations": {FAIL_IMPORT: "true"}},
            "spec": {"source": {"pvc": {"namespace": labels::SYSTEM_NAMESPACE, "name": old}}, "storage": {"resources": {"requests": {"storage": "2Gi"}}}},
        });
        let clone = serde_json::from_value(clone).expect("a clone");
        clones.create(&PostParams::default(), &clone).await.expect("created");
        refresh(&stack).await;
        // Long enough for a second look at the image.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let disk = golden(&stack).get(&old).await.expect("kept while the clone runs");
            assert_eq!(disk.metadata.deletion_timestamp, None);
        }
        let heal = json!({"metadata": {"annotations": {FAIL_IMPORT: null}}});
        clones.patch("clone", &PatchParams::default(), &Patch::Merge(heal)).await.expect("healed");
        eventually("the old content is deleted", || async {
            golden(&stack).get_opt(&old).await.expect("an answer").is_none().then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_golden_disk_stays_while_a_revision_is_made_with_it() {
    with_stack(|stack| async move {
        standard_type(&stack).await;
        create_image(&stack).await;
        let old = format!("ubuntu-{}", ready(&stack).await.content_id);
        let made = stack
            .template
            .create_machine_template(call(create_request("small", mk_template())))
            .await;
        let made = made.expect("created").into_inner();
        refresh(&stack).await;
        let render = || proto::RenderMachineTemplateRequest {
            name: made.name.clone(),
            ..Default::default()
        };
        let text = format!(
            "{:?}",
            stack
                .template
                .render_machine_template(call(render()))
                .await
                .expect("rendered")
        );
        assert!(text.contains(&old), "the revision still clones what it was made with");
        golden(&stack).get(&old).await.expect("kept");

        // Somebody deletes it nevertheless: the revision says that it cannot.
        golden(&stack)
            .delete(&old, &kube::api::DeleteParams::default())
            .await
            .expect("deleted");
        let refused = eventually("the disk is away", || async {
            stack.template.render_machine_template(call(render())).await.err()
        })
        .await;
        assert!(refused.message().contains("no longer exists"), "{}", refused.message());
        assert_eq!(reason::<()>(Err(refused)), ErrorReason::InvalidState);
    })
    .await;
}

#[tokio::test]
async fn a_failed_import_is_shown_with_an_event() {
    with_stack(|stack| async move {
        create_image(&stack).await;
        let disk = eventually("the import begins", || async {
            let all = golden(&stack)
                .list(&kube::api::ListParams::default())
                .await
                .expect("listed");
            all.items.first().map(ResourceExt::name_any)
        })
        .await;
        let fail = json!({"metadata": {"annotations": {FAIL_IMPORT: "true"}}});
        golden(&stack)
            .patch(&disk, &PatchParams::default(), &Patch::Merge(fail))
            .await
            .expect("broken");
        let failed = eventually("the failure is shown", || async {
            let image = image(&stack).await;
            (image.state() == State::Failed).then_some(image)
        })
        .await;
        assert!(!failed.failure_message.is_empty());
        let heal = json!({"metadata": {"annotations": {FAIL_IMPORT: null}}});
        golden(&stack)
            .patch(&disk, &PatchParams::default(), &Patch::Merge(heal))
            .await
            .expect("healed");
        ready(&stack).await;
    })
    .await;
}
