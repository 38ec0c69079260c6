//! What breaks a rule is refused on both ways in: by the API, and by the reconciler when `kubectl` wrote it.

use kube::api::{Api, PostParams};
use serde_json::json;
use steading_infra::{
    cdi::{DataSource, DataVolume},
    crd::machine_template::MachineTemplate,
    labels,
};

use super::*;

async fn verdict(stack: &Stack, name: &str) -> String {
    let api: Api<MachineTemplate> = Api::all(stack.kube.clone());
    eventually("the verdict", || async {
        let status = api.get(name).await.expect("there").status?;
        let accepted = status.conditions.into_iter().find(|c| c.type_ == "Accepted")?;
        assert_eq!(accepted.status, "False");
        Some(accepted.message)
    })
    .await
}

async fn apply_template(stack: &Stack, name: &str, spec: serde_json::Value) {
    let api: Api<MachineTemplate> = Api::all(stack.kube.clone());
    let object = json!({
        "apiVersion": "steading.dev/v1alpha1", "kind": "MachineTemplate", "metadata": {"name": name}, "spec": spec,
    });
    let object = serde_json::from_value(object).expect("a template");
    api.create(&PostParams::default(), &object).await.expect("created");
}

#[tokio::test]
async fn a_template_that_clones_another_projects_claim_is_refused_on_both_ways_in() {
    with_stack(|stack| async move {
        standard_type(&stack).await;
        let template = proto::MachineTemplate {
            instance_type: "instanceTypes/standard-2".into(),
            root_disk: Some(proto::RootDisk {
                size: "20Gi".into(),
                source: Some(Source::Pvc(proto::PvcSource {
                    namespace: "other--prod".into(),
                    name: "their-data".into(),
                })),
                ..Default::default()
            }),
            ..Default::default()
        };
        let refused = stack
            .template
            .create_machine_template(call(create_request("thief", template)))
            .await;
        let refused = refused.expect_err("refused");
        assert!(
            refused.message().contains("machine_template.root_disk.pvc.namespace"),
            "{}",
            refused.message()
        );
        assert_eq!(reason::<()>(Err(refused)), ErrorReason::InvalidField);

        let spec = json!({"instanceType": "instanceTypes/standard-2",
            "rootDisk": {"pvc": {"namespace": "other--prod", "name": "their-data"}, "size": "20Gi"}});
        apply_template(&stack, "acme--thief", spec).await;
        let message = verdict(&stack, "acme--thief").await;
        assert!(message.contains("root_disk.pvc.namespace"), "{message}");
    })
    .await;
}

#[tokio::test]
async fn broken_user_data_is_refused_on_both_ways_in() {
    with_stack(|stack| async move {
        standard_type(&stack).await;
        create_image(&stack).await;
        let tabs = "#cloud-config\nruncmd:\n\t- echo hi\n";
        let template = proto::MachineTemplate {
            user_data: tabs.into(),
            ..mk_template()
        };
        let refused = stack.template.create_machine_template(call(create_request("tabs", template))).await;
        let refused = refused.expect_err("refused");
        assert!(refused.message().contains("machine_template.user_data: line 3"), "{}", refused.message());
        let spec = json!({"instanceType": "instanceTypes/standard-2", "rootDisk": {"image": "images/ubuntu"}, "userData": tabs});
        apply_template(&stack, "acme--tabs", spec).await;
        let message = verdict(&stack, "acme--tabs").await;
        assert!(message.contains("user_data: line 3"), "{message}");
    })
    .await;
}

#[tokio::test]
async fn memory_of_half_a_byte_is_refused() {
    with_stack(|stack| async move {
        for memory in ["512m", "1Mi", "1E"] {
            let create = proto::CreateInstanceTypeRequest {
                instance_type_id: "x".into(),
                instance_type: Some(proto::InstanceType {
                    vcpus: 1,
                    memory: memory.into(),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let refused = stack
                .catalog
                .create_instance_type(call(create))
                .await
                .expect_err("refused");
            assert!(
                refused.message().contains("instance_type.memory"),
                "{}",
                refused.message()
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_projects_image_with_a_secret_is_refused_on_both_ways_in() {
    with_stack(|stack| async move {
        let http = proto::HttpSource {
            url: "https://collector.example.test".into(),
            secret: "lifecycle-token".into(),
            ..Default::default()
        };
        let create = proto::CreateImageRequest {
            parent: "projects/acme".into(),
            image_id: "leak".into(),
            image: Some(proto::Image {
                size: "1Gi".into(),
                source: Some(proto::image::Source::Http(http)),
                ..Default::default()
            }),
            ..Default::default()
        };
        let refused = stack.catalog.create_image(call(create)).await.expect_err("refused");
        assert!(refused.message().contains("image.http.secret"), "{}", refused.message());

        let sources: Api<DataSource> = Api::namespaced(stack.kube.clone(), labels::SYSTEM_NAMESPACE);
        let spec =
            json!({"size": "1Gi", "http": {"url": "https://collector.example.test", "secret": "lifecycle-token"}});
        let object = json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataSource",
            "metadata": {
                "name": "acme--leak", "namespace": labels::SYSTEM_NAMESPACE,
                "labels": {labels::IMAGE: "acme--leak", labels::PROJECT: "acme"},
                "annotations": {"steading.dev/image-spec": spec.to_string()},
            },
            "spec": {"source": {}},
        });
        let object = serde_json::from_value(object).expect("a source");
        sources.create(&PostParams::default(), &object).await.expect("created");
        let image = eventually("the verdict", || async {
            let get = proto::GetImageRequest {
                name: "projects/acme/images/leak".into(),
            };
            let image = stack.catalog.get_image(call(get)).await.ok()?.into_inner();
            (image.state() == State::Failed).then_some(image)
        })
        .await;
        let accepted = image
            .conditions
            .iter()
            .find(|c| c.r#type == "Accepted")
            .expect("a verdict");
        assert_eq!(accepted.reason, "Invalid");
        assert!(accepted.message.contains("http.secret"), "{}", accepted.message);
        let volumes: Api<DataVolume> = Api::namespaced(stack.kube.clone(), labels::SYSTEM_NAMESPACE);
        let imports = volumes.list(&kube::api::ListParams::default()).await.expect("listed");
        assert!(imports.items.is_empty(), "nothing is imported");
    })
    .await;
}
