//! The service on the simulated infra cluster: the same calls that clients make, without sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{future::Future, sync::Arc, time::Duration};

use futures::StreamExt;
use steading_api::{
    convert::reason_of,
    templating::v1::{
        self as proto, catalog_service_server::CatalogService, image::State, root_disk::Source,
        template_service_server::TemplateService,
    },
    types::v1::{ErrorReason, WatchEventType},
};
use steading_infra::{
    apply::FieldManager,
    install::{ensure_system_namespace, install_crds},
};
use steading_runtime::{CallContext, CancellationToken, clock::Clock};
use steading_sim::{Sim, SimConfig};
use steading_templating::{
    Config, Deps, Service,
    api::{catalog::CatalogApi, template::TemplateApi},
};
use tonic::{Request, Status};

#[path = "service/images.rs"]
mod images;
#[path = "service/refusals.rs"]
mod refusals;
#[path = "service/revisions.rs"]
mod revisions;
#[path = "service/watches.rs"]
mod watches;

const DEADLINE: Duration = Duration::from_secs(60);

struct Stack {
    catalog: CatalogApi,
    template: TemplateApi,
    kube: kube::Client,
    sim: Arc<Sim>,
}

/// A simulated infra cluster with the service's reconcilers running while `test` runs.
async fn with_stack<Fut: Future<Output = ()>>(test: impl FnOnce(Stack) -> Fut) {
    with_stack_of(Config::default(), test).await;
}

/// As [`with_stack`], with a service that is told something else.
async fn with_stack_of<Fut: Future<Output = ()>>(config: Config, test: impl FnOnce(Stack) -> Fut) {
    let sim = Arc::new(Sim::start(SimConfig::default()).await.expect("the simulation starts"));
    let kube = sim.client();
    install_crds(&kube, FieldManager::Templating, DEADLINE)
        .await
        .expect("the kinds are installed");
    ensure_system_namespace(&kube, FieldManager::Templating)
        .await
        .expect("the namespace is there");
    let service = Service::new(
        config,
        Deps {
            kube: sim.api().client_named("templating"),
            clock: Clock::system(),
        },
    );
    let stack = Stack {
        catalog: service.catalog(),
        template: service.template(),
        kube,
        sim: Arc::clone(&sim),
    };
    let reconcilers = service.run_background(CancellationToken::new());
    tokio::select! {
        () = test(stack) => {}
        _ = reconcilers => panic!("the reconcilers must not end"),
    }
    Arc::into_inner(sim).expect("the test has ended").stop().await;
}

fn call<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(CallContext::dev());
    request
}

/// Asks again until the predicate holds.
async fn eventually<T, Fut: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> Fut) -> T {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn mk_image() -> proto::Image {
    proto::Image {
        size: "2Gi".into(),
        os: "ubuntu".into(),
        default_preference: "preferences/sockets-advantage".into(),
        source: Some(proto::image::Source::Http(proto::HttpSource {
            url: "https://images.example.com/ubuntu.img".into(),
            ..proto::HttpSource::default()
        })),
        ..proto::Image::default()
    }
}

fn mk_template() -> proto::MachineTemplate {
    proto::MachineTemplate {
        instance_type: "instanceTypes/standard-2".into(),
        root_disk: Some(proto::RootDisk {
            size: "10Gi".into(),
            source: Some(Source::Image("images/ubuntu".into())),
            ..proto::RootDisk::default()
        }),
        ..proto::MachineTemplate::default()
    }
}

async fn create_image(stack: &Stack) -> proto::Image {
    let request = proto::CreateImageRequest {
        image_id: "ubuntu".into(),
        image: Some(mk_image()),
        ..proto::CreateImageRequest::default()
    };
    stack
        .catalog
        .create_image(call(request))
        .await
        .expect("created")
        .into_inner()
}

async fn standard_type(stack: &Stack) -> proto::InstanceType {
    eventually("the standard catalogue", || async {
        let request = proto::GetInstanceTypeRequest {
            name: "instanceTypes/standard-2".into(),
        };
        let preference = proto::GetPreferenceRequest {
            name: "preferences/sockets-advantage".into(),
        };
        stack.catalog.get_preference(call(preference)).await.ok()?;
        Some(stack.catalog.get_instance_type(call(request)).await.ok()?.into_inner())
    })
    .await
}

fn create_request(id: &str, template: proto::MachineTemplate) -> proto::CreateMachineTemplateRequest {
    proto::CreateMachineTemplateRequest {
        parent: "projects/acme".into(),
        machine_template_id: id.into(),
        machine_template: Some(template),
        ..proto::CreateMachineTemplateRequest::default()
    }
}

fn reason<T: std::fmt::Debug>(result: Result<T, Status>) -> ErrorReason {
    reason_of(&result.expect_err("an error")).expect("a reason")
}

#[tokio::test]
async fn the_standard_catalogue_is_installed_and_read_only() {
    with_stack(|stack| async move {
        let found = standard_type(&stack).await;
        assert_eq!((found.vcpus, found.memory.as_str()), (2, "8Gi"));
        assert_eq!(found.origin(), proto::CatalogueOrigin::Steading);
        let delete = proto::DeleteInstanceTypeRequest {
            name: found.name,
            ..Default::default()
        };
        assert_eq!(
            reason(stack.catalog.delete_instance_type(call(delete)).await),
            ErrorReason::InvalidState
        );
    })
    .await;
}

#[tokio::test]
async fn a_projects_own_type_lives_through_create_update_and_delete() {
    with_stack(|stack| async move {
        let wanted = proto::InstanceType {
            vcpus: 4,
            memory: "8Gi".into(),
            gpus: vec![proto::Gpu {
                name: "gpu".into(),
                device_name: "nvidia.com/A30".into(),
                ..Default::default()
            }],
            labels: [("team".to_owned(), "a".to_owned())].into(),
            ..Default::default()
        };
        let create = proto::CreateInstanceTypeRequest {
            parent: "projects/acme".into(),
            instance_type_id: "big".into(),
            instance_type: Some(wanted),
            request_id: "5a0ddc53-36c4-4c4f-9b0c-0a4f2d1c7d10".into(),
            validate_only: false,
        };
        let made = stack
            .catalog
            .create_instance_type(call(create.clone()))
            .await
            .expect("created")
            .into_inner();
        assert_eq!(made.name, "projects/acme/instanceTypes/big");
        assert_eq!(made.origin(), proto::CatalogueOrigin::Project);
        let again = stack
            .catalog
            .create_instance_type(call(create.clone()))
            .await
            .expect("replayed")
            .into_inner();
        assert_eq!(again, made);
        let mut other = create.clone();
        other.instance_type.as_mut().expect("a type").vcpus = 8;
        assert_eq!(
            reason(stack.catalog.create_instance_type(call(other)).await),
            ErrorReason::RequestIdReused
        );
        let unnamed = proto::CreateInstanceTypeRequest {
            request_id: String::new(),
            ..create
        };
        assert_eq!(
            reason(stack.catalog.create_instance_type(call(unnamed)).await),
            ErrorReason::ResourceAlreadyExists
        );

        let listed = proto::ListInstanceTypesRequest {
            filter: "vcpus=4 AND labels.team=a".into(),
            parent: "projects/acme".into(),
            ..Default::default()
        };
        let listed = stack
            .catalog
            .list_instance_types(call(listed))
            .await
            .expect("listed")
            .into_inner();
        assert_eq!(listed.instance_types, std::slice::from_ref(&made));

        let update = proto::UpdateInstanceTypeRequest {
            instance_type: Some(proto::InstanceType {
                memory: "16Gi".into(),
                ..made.clone()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["memory".into()],
            }),
            ..Default::default()
        };
        let changed = stack
            .catalog
            .update_instance_type(call(update.clone()))
            .await
            .expect("updated")
            .into_inner();
        assert_eq!(
            (changed.memory.as_str(), changed.vcpus, changed.gpus.len()),
            ("16Gi", 4, 1)
        );
        let again = stack.catalog.update_instance_type(call(update.clone())).await;
        assert_eq!(again.expect("it is so already").into_inner(), changed);
        let mut other = update;
        other.instance_type.as_mut().expect("a type").memory = "32Gi".into();
        assert_eq!(
            reason(stack.catalog.update_instance_type(call(other)).await),
            ErrorReason::EtagMismatch
        );

        let delete = proto::DeleteInstanceTypeRequest {
            name: made.name,
            etag: changed.etag,
            ..Default::default()
        };
        let gone = stack
            .catalog
            .delete_instance_type(call(delete.clone()))
            .await
            .expect("deleted")
            .into_inner();
        assert!(gone.delete_time.is_some());
        let missing = proto::DeleteInstanceTypeRequest {
            etag: String::new(),
            ..delete
        };
        assert_eq!(
            reason(stack.catalog.delete_instance_type(call(missing)).await),
            ErrorReason::ResourceNotFound
        );
    })
    .await;
}

#[tokio::test]
async fn bad_fields_are_told_with_their_paths_and_change_nothing() {
    with_stack(|stack| async move {
        let create = proto::CreateInstanceTypeRequest {
            instance_type_id: "x".into(),
            instance_type: Some(proto::InstanceType {
                vcpus: 0,
                memory: "lots".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let refused = stack
            .catalog
            .create_instance_type(call(create))
            .await
            .expect_err("refused");
        let text = refused.message().to_owned();
        assert!(
            text.contains("instance_type.vcpus") && text.contains("instance_type.memory"),
            "{text}"
        );
        let get = proto::GetInstanceTypeRequest {
            name: "instanceTypes/x".into(),
        };
        assert_eq!(
            reason(stack.catalog.get_instance_type(call(get)).await),
            ErrorReason::ResourceNotFound
        );
    })
    .await;
}

#[tokio::test]
async fn an_image_is_imported_and_can_be_refreshed() {
    with_stack(|stack| async move {
        let made = create_image(&stack).await;
        assert_eq!(made.state(), State::Pending);
        let get = || proto::GetImageRequest {
            name: "images/ubuntu".into(),
        };
        let ready = eventually("the import", || async {
            let image = stack.catalog.get_image(call(get())).await.expect("there").into_inner();
            (image.state() == State::Ready).then_some(image)
        })
        .await;
        assert_eq!(ready.content_id, ready.wanted_content_id);
        let refresh = proto::RefreshImageRequest {
            name: "images/ubuntu".into(),
            request_id: "5a0ddc53-36c4-4c4f-9b0c-0a4f2d1c7d11".into(),
            ..Default::default()
        };
        let refreshed = stack
            .catalog
            .refresh_image(call(refresh.clone()))
            .await
            .expect("refreshed")
            .into_inner();
        assert_eq!(
            (refreshed.state(), &refreshed.content_id),
            (State::Refreshing, &ready.content_id)
        );
        let again = stack
            .catalog
            .refresh_image(call(refresh))
            .await
            .expect("replayed")
            .into_inner();
        assert_eq!(again.wanted_content_id, refreshed.wanted_content_id);
        eventually("the second import", || async {
            let image = stack.catalog.get_image(call(get())).await.expect("there").into_inner();
            (image.content_id == refreshed.wanted_content_id).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_template_renders_diffs_and_rolls_back() {
    with_stack(|stack| async move {
        standard_type(&stack).await;
        create_image(&stack).await;
        let made = stack
            .template
            .create_machine_template(call(create_request("small", mk_template())))
            .await;
        let made = made.expect("created").into_inner();
        assert_eq!(made.revision_number, 1);
        let name = made.name.clone();

        let render = proto::RenderMachineTemplateRequest {
            name: name.clone(),
            ..Default::default()
        };
        let rendered = stack
            .template
            .render_machine_template(call(render))
            .await
            .expect("rendered")
            .into_inner();
        assert_eq!(
            rendered.preference, "preferences/sockets-advantage",
            "the image's default"
        );
        let size = rendered.resources.expect("a size");
        assert_eq!((size.vcpus, size.memory_bytes), (2, 8 << 30));
        assert!(rendered.machine_name_paths.contains(&"/metadata/name".to_owned()));
        assert!(made.revision.ends_with(&format!("/revisions/{}", rendered.revision)));

        let bigger = proto::MachineTemplate {
            instance_type: "instanceTypes/standard-4".into(),
            ..mk_template()
        };
        let diff = proto::DiffMachineTemplateRequest {
            name: name.clone(),
            to: Some(proto::diff_machine_template_request::To::Proposed(bigger.clone())),
            ..Default::default()
        };
        let diff = stack
            .template
            .diff_machine_template(call(diff))
            .await
            .expect("compared")
            .into_inner();
        assert!(diff.replaces_machines);
        assert_eq!(
            diff.changes.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(),
            ["instanceType"]
        );

        let update = proto::UpdateMachineTemplateRequest {
            machine_template: Some(proto::MachineTemplate {
                name: name.clone(),
                ..bigger
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["instance_type".into()],
            }),
            ..Default::default()
        };
        let changed = stack
            .template
            .update_machine_template(call(update))
            .await
            .expect("updated")
            .into_inner();
        assert_ne!(changed.revision, made.revision);

        let list = proto::ListMachineTemplateRevisionsRequest {
            parent: name.clone(),
            ..Default::default()
        };
        let listed = stack
            .template
            .list_machine_template_revisions(call(list.clone()))
            .await
            .expect("listed")
            .into_inner();
        let numbers: Vec<i64> = listed
            .machine_template_revisions
            .iter()
            .map(|r| r.revision_number)
            .collect();
        assert_eq!(numbers, [2, 1]);
        assert!(listed.machine_template_revisions[0].latest);

        let rollback = proto::RollbackMachineTemplateRequest {
            name: name.clone(),
            revision: made.revision.clone(),
            ..Default::default()
        };
        let back = stack
            .template
            .rollback_machine_template(call(rollback))
            .await
            .expect("rolled back")
            .into_inner();
        assert_eq!(
            (back.instance_type.as_str(), &back.revision),
            ("instanceTypes/standard-2", &made.revision)
        );
        let listed = stack
            .template
            .list_machine_template_revisions(call(list))
            .await
            .expect("listed")
            .into_inner();
        let numbers: Vec<(i64, bool)> = listed
            .machine_template_revisions
            .iter()
            .map(|r| (r.revision_number, r.latest))
            .collect();
        assert_eq!(numbers, [(2, false), (1, true)], "numbers do not move");

        let delete = proto::DeleteImageRequest {
            name: "images/ubuntu".into(),
            ..Default::default()
        };
        assert_eq!(
            reason(stack.catalog.delete_image(call(delete)).await),
            ErrorReason::ResourceInUse
        );
        let delete = proto::DeleteMachineTemplateRequest {
            name,
            ..Default::default()
        };
        stack
            .template
            .delete_machine_template(call(delete))
            .await
            .expect("nobody uses it");
    })
    .await;
}

#[tokio::test]
async fn references_of_other_projects_do_not_exist() {
    with_stack(|stack| async move {
        standard_type(&stack).await;
        create_image(&stack).await;
        let theirs = proto::MachineTemplate {
            instance_type: "projects/other/instanceTypes/big".into(),
            ..mk_template()
        };
        let refused = stack
            .template
            .create_machine_template(call(create_request("x", theirs)))
            .await;
        assert_eq!(reason(refused), ErrorReason::ReferenceNotFound);
        let mut dry = create_request("dry", mk_template());
        dry.validate_only = true;
        stack.template.create_machine_template(call(dry)).await.expect("valid");
        let get = proto::GetMachineTemplateRequest {
            name: "projects/acme/machineTemplates/dry".into(),
        };
        assert_eq!(
            reason(stack.template.get_machine_template(call(get)).await),
            ErrorReason::ResourceNotFound
        );
    })
    .await;
}

#[tokio::test]
async fn a_watch_tells_what_is_there_and_what_comes_and_resumes() {
    with_stack(|stack| async move {
        standard_type(&stack).await;
        create_image(&stack).await;
        let first = create_request("first", mk_template());
        stack
            .template
            .create_machine_template(call(first))
            .await
            .expect("created");
        let watch = |resume_token: &str| proto::WatchMachineTemplatesRequest {
            parent: "projects/acme".into(),
            resume_token: resume_token.to_owned(),
            ..Default::default()
        };
        let mut events = stack
            .template
            .watch_machine_templates(call(watch("")))
            .await
            .expect("watched")
            .into_inner();
        let added = events.next().await.expect("an event").expect("no error");
        assert_eq!(added.r#type(), WatchEventType::Added);
        let synced = loop {
            let event = events.next().await.expect("an event").expect("no error");
            if event.r#type() == WatchEventType::Synced {
                break event;
            }
        };
        let second = create_request("second", mk_template());
        stack
            .template
            .create_machine_template(call(second))
            .await
            .expect("created");
        let name = |e: &proto::WatchMachineTemplatesResponse| {
            e.machine_template.as_ref().map(|t| t.name.clone()).unwrap_or_default()
        };
        let wait_for_second = |mut events: <TemplateApi as TemplateService>::WatchMachineTemplatesStream| async move {
            loop {
                let event = tokio::time::timeout(DEADLINE, events.next())
                    .await
                    .expect("in time")
                    .expect("open")
                    .expect("no error");
                if name(&event).ends_with("/second") {
                    break;
                }
            }
        };
        wait_for_second(events).await;
        let resumed = stack
            .template
            .watch_machine_templates(call(watch(&synced.resume_token)))
            .await
            .expect("resumed");
        wait_for_second(resumed.into_inner()).await;
    })
    .await;
}

#[tokio::test]
async fn a_template_that_kubectl_applied_gets_revision_and_verdict() {
    use kube::api::{Api, PostParams};
    use steading_infra::crd::machine_template::{MachineTemplate, MachineTemplateSpec, RootDiskSpec};
    with_stack(|stack| async move {
        standard_type(&stack).await;
        let spec = MachineTemplateSpec {
            instance_type: Some("instanceTypes/standard-2".into()),
            root_disk: RootDiskSpec {
                image: Some("images/ubuntu".into()),
                ..RootDiskSpec::default()
            },
            ..MachineTemplateSpec::default()
        };
        let api: Api<MachineTemplate> = Api::all(stack.kube.clone());
        api.create(&PostParams::default(), &MachineTemplate::new("acme--applied", spec))
            .await
            .expect("created");
        let refused = eventually("the verdict", || async {
            api.get("acme--applied")
                .await
                .expect("there")
                .status
                .filter(|s| !s.conditions.is_empty())
        })
        .await;
        assert_eq!(refused.conditions[0].status, "False");
        assert!(
            refused.conditions[0].message.contains("images/ubuntu"),
            "{}",
            refused.conditions[0].message
        );
        assert_eq!(refused.latest_revision, None, "nothing can be made from it");
    })
    .await;
}
