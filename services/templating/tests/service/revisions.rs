//! Revisions keep what they were made with.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::json;
use steading_infra::crd::MachinePool;

use super::*;

async fn create_type(stack: &Stack, vcpus: i32) -> proto::InstanceType {
    let create = proto::CreateInstanceTypeRequest {
        parent: "projects/acme".into(),
        instance_type_id: "big".into(),
        instance_type: Some(proto::InstanceType {
            vcpus,
            memory: "8Gi".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    stack
        .catalog
        .create_instance_type(call(create))
        .await
        .expect("created")
        .into_inner()
}

async fn resize(stack: &Stack, vcpus: i32) {
    let update = proto::UpdateInstanceTypeRequest {
        instance_type: Some(proto::InstanceType {
            name: "projects/acme/instanceTypes/big".into(),
            vcpus,
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["vcpus".into()],
        }),
        ..Default::default()
    };
    stack.catalog.update_instance_type(call(update)).await.expect("updated");
}

async fn render(stack: &Stack, name: &str, revision: &str) -> proto::RenderMachineTemplateResponse {
    let render = proto::RenderMachineTemplateRequest {
        name: name.into(),
        revision: revision.into(),
        ..Default::default()
    };
    stack
        .template
        .render_machine_template(call(render))
        .await
        .expect("rendered")
        .into_inner()
}

async fn update(stack: &Stack, template: proto::MachineTemplate, path: &str) -> proto::MachineTemplate {
    let update = proto::UpdateMachineTemplateRequest {
        machine_template: Some(template),
        update_mask: Some(prost_types::FieldMask {
            paths: vec![path.into()],
        }),
        ..Default::default()
    };
    stack
        .template
        .update_machine_template(call(update))
        .await
        .expect("updated")
        .into_inner()
}

async fn create_template(stack: &Stack) -> proto::MachineTemplate {
    let template = proto::MachineTemplate {
        instance_type: "projects/acme/instanceTypes/big".into(),
        ..mk_template()
    };
    let made = stack
        .template
        .create_machine_template(call(create_request("small", template)))
        .await;
    made.expect("created").into_inner()
}

fn vcpus(rendered: &proto::RenderMachineTemplateResponse) -> i32 {
    rendered.resources.as_ref().expect("a size").vcpus
}

#[tokio::test]
async fn a_revision_makes_the_same_machines_after_its_instance_type_changed() {
    with_stack(|stack| async move {
        standard_type(&stack).await;
        create_image(&stack).await;
        create_type(&stack, 4).await;
        let made = create_template(&stack).await;
        let before = render(&stack, &made.name, "").await;
        resize(&stack, 8).await;
        let after = render(&stack, &made.name, "").await;
        assert_eq!(after, before, "nobody asked for other machines");
        assert_eq!(
            (vcpus(&after), after.instance_type.as_str()),
            (4, "projects/acme/instanceTypes/big")
        );

        eventually("the template says that the catalogue has changed", || async {
            let get = proto::GetMachineTemplateRequest {
                name: made.name.clone(),
            };
            let template = stack
                .template
                .get_machine_template(call(get))
                .await
                .expect("there")
                .into_inner();
            let said = template.conditions.iter().find(|c| c.r#type == "CatalogueCurrent")?;
            (said.reason == "CatalogueChanged" && said.message.contains("instanceTypes/big")).then_some(())
        })
        .await;

        let fresh = update(
            &stack,
            proto::MachineTemplate {
                name: made.name.clone(),
                refresh: 1,
                ..Default::default()
            },
            "refresh",
        )
        .await;
        assert_ne!(fresh.revision, made.revision);
        assert_eq!(vcpus(&render(&stack, &made.name, "").await), 8);
        // What pools are pinned to stays what it was.
        let old = render(&stack, &made.name, &made.revision).await;
        assert_eq!(old.virtual_machine, before.virtual_machine);

        let back = proto::RollbackMachineTemplateRequest {
            name: made.name.clone(),
            revision: made.revision.clone(),
            ..Default::default()
        };
        let back = stack
            .template
            .rollback_machine_template(call(back))
            .await
            .expect("rolled back")
            .into_inner();
        assert_eq!(back.revision, made.revision);
        assert_eq!(render(&stack, &made.name, "").await, before);
    })
    .await;
}

#[tokio::test]
async fn pinned_objects_are_not_part_of_the_catalogue() {
    with_stack(|stack| async move {
        standard_type(&stack).await;
        create_image(&stack).await;
        create_template_of_standard(&stack).await;
        let list = stack
            .catalog
            .list_instance_types(call(proto::ListInstanceTypesRequest::default()))
            .await;
        let names: Vec<String> = list
            .expect("listed")
            .into_inner()
            .instance_types
            .into_iter()
            .map(|t| t.name)
            .collect();
        assert_eq!(
            names,
            [
                "instanceTypes/standard-2",
                "instanceTypes/standard-4",
                "instanceTypes/standard-8"
            ]
        );
        let types: Api<steading_infra::kubevirt::VirtualMachineClusterInstancetype> = Api::all(stack.kube.clone());
        let pinned = types
            .list(&ListParams::default().labels("steading.dev/pinned"))
            .await
            .expect("listed");
        assert_eq!(pinned.items.len(), 1);
        assert!(pinned.items[0].name_any().starts_with("pinned--standard-2--"));
    })
    .await;
}

async fn create_template_of_standard(stack: &Stack) {
    let made = stack
        .template
        .create_machine_template(call(create_request("plain", mk_template())))
        .await;
    made.expect("created");
}

#[tokio::test]
async fn an_old_revision_that_a_pool_uses_protects_what_it_is_made_of() {
    with_stack(|stack| async move {
        standard_type(&stack).await;
        create_image(&stack).await;
        create_type(&stack, 4).await;
        let made = create_template(&stack).await;
        let old = made.revision.rsplit('/').next().expect("an id").to_owned();
        let spaces: Api<Namespace> = Api::all(stack.kube.clone());
        let space = serde_json::from_value(json!({"metadata": {"name": "acme--web"}})).expect("a namespace");
        spaces.create(&PostParams::default(), &space).await.expect("created");
        let pools: Api<MachinePool> = Api::namespaced(stack.kube.clone(), "acme--web");
        let pool = json!({
            "apiVersion": "steading.dev/v1alpha1", "kind": "MachinePool",
            "metadata": {"name": "workers", "namespace": "acme--web"},
            "spec": {"replicas": 0, "machineTemplate": "small", "machineTemplateRevision": old},
        });
        let pool = serde_json::from_value(pool).expect("a pool");
        pools.create(&PostParams::default(), &pool).await.expect("created");
        update(
            &stack,
            proto::MachineTemplate {
                name: made.name.clone(),
                instance_type: "instanceTypes/standard-2".into(),
                ..Default::default()
            },
            "instance_type",
        )
        .await;
        let delete = || proto::DeleteInstanceTypeRequest {
            name: "projects/acme/instanceTypes/big".into(),
            ..Default::default()
        };
        let refused = stack
            .catalog
            .delete_instance_type(call(delete()))
            .await
            .expect_err("in use");
        assert!(refused.message().contains(&made.revision), "{}", refused.message());
        assert_eq!(reason::<()>(Err(refused)), ErrorReason::ResourceInUse);
        pools
            .delete("workers", &kube::api::DeleteParams::default())
            .await
            .expect("deleted");
        stack
            .catalog
            .delete_instance_type(call(delete()))
            .await
            .expect("no revision in use names it");
    })
    .await;
}

#[tokio::test]
async fn numbers_of_revisions_never_tie_and_pages_do_not_move() {
    with_stack(|stack| async move {
        standard_type(&stack).await;
        create_image(&stack).await;
        create_type(&stack, 4).await;
        let made = create_template(&stack).await;
        for refresh in 1..5 {
            let template = proto::MachineTemplate {
                name: made.name.clone(),
                refresh,
                ..Default::default()
            };
            update(&stack, template, "refresh").await;
        }
        let list = |page_token: String| proto::ListMachineTemplateRevisionsRequest {
            parent: made.name.clone(),
            page_size: 2,
            page_token,
            ..Default::default()
        };
        let first = stack
            .template
            .list_machine_template_revisions(call(list(String::new())))
            .await;
        let first = first.expect("listed").into_inner();
        let back = proto::RollbackMachineTemplateRequest {
            name: made.name.clone(),
            revision: made.revision.clone(),
            ..Default::default()
        };
        stack
            .template
            .rollback_machine_template(call(back))
            .await
            .expect("rolled back");
        let mut numbers: Vec<i64> = first
            .machine_template_revisions
            .iter()
            .map(|r| r.revision_number)
            .collect();
        let mut token = first.next_page_token;
        while !token.is_empty() {
            let page = stack.template.list_machine_template_revisions(call(list(token))).await;
            let page = page.expect("listed").into_inner();
            numbers.extend(page.machine_template_revisions.iter().map(|r| r.revision_number));
            token = page.next_page_token;
        }
        assert_eq!(numbers, [5, 4, 3, 2, 1]);
    })
    .await;
}
