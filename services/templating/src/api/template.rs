//! `TemplateService`.

use std::{collections::BTreeMap, pin::Pin};

use futures::{Stream, StreamExt};
use kube::Api;
use serde_json::Value;
use steading_api::{
    error::RpcError,
    templating::v1::{self as proto, diff_machine_template_request::To, template_service_server::TemplateService},
    types::v1::ErrorReason,
};
use steading_infra::{
    crd::machine_template::{MachineTemplate, MachineTemplateSpec},
    labels,
};
use steading_model::{
    ids::Id, name::MachineTemplateName, page::PageRequest, quantity::Quantity, violation::Violations,
};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    clock::Clock,
    collection::{
        self, Collection, CreateRequest, DeleteRequest, ListRequest, UpdateRequest, WatchRequest, kube_error,
    },
};
use tonic::{Request, Response, Status};

use super::{
    Infra,
    convert::{machine_template as convert_template, placement::pod_fields},
    revisions,
    templates::{Templates, parse, revision_of},
};
use crate::{
    apply::revision::ensure,
    domain::{
        Machine,
        machine::CatalogueEntry,
        revision::{Revision, content},
    },
    error::Error,
    observe::{
        catalogue::check,
        image::require_contents,
        revisions::{find, latest_id, list},
        usage::{self, last_segment},
    },
    render, validate,
};

/// Annotation of a machine: the Kubernetes version that its tenant node is to have.
const KUBERNETES_VERSION: &str = "steading.dev/kubernetes-version";

/// The service.
#[derive(Clone)]
pub struct TemplateApi {
    /// The infra cluster.
    pub infra: Infra,
    /// Time.
    pub clock: Clock,
}

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl TemplateApi {
    fn templates(&self) -> Templates {
        Templates(self.infra.clone())
    }

    async fn stored(&self, name: &MachineTemplateName) -> Result<MachineTemplate, RpcError> {
        let api: Api<MachineTemplate> = Api::all(self.infra.kube.clone());
        let found = api.get_opt(&name.object_name()).await;
        let found = found.map_err(|e| kube_error(Templates::KIND, &name.to_string(), &e))?;
        found.ok_or_else(|| RpcError::not_found(Templates::KIND, name))
    }

    /// A stored revision; an empty id means the one that the template stands for now.
    async fn revision(
        &self,
        name: &MachineTemplateName,
        template: &MachineTemplate,
        id: &str,
    ) -> Result<(String, Revision), RpcError> {
        if id.is_empty() || id == latest_id(template) {
            let stored = ensure(&self.infra.kube, name, template).await?;
            return Ok((stored.id, stored.revision));
        }
        let stored = find(&self.infra.kube, name, id).await?;
        Ok((stored.id, stored.revision))
    }

    /// The revision that a proposal would become.
    async fn proposed(
        &self,
        name: &MachineTemplateName,
        message: &proto::MachineTemplate,
    ) -> Result<Revision, RpcError> {
        let spec = convert_template::spec(message).map_err(|violations| Error::Invalid {
            field: "machine_template",
            violations,
        })?;
        Ok(Revision {
            resolved: check(&self.infra.kube, &name.project, &spec).await?,
            template: content(&spec),
        })
    }

    async fn render(
        &self,
        context: &CallContext,
        request: &proto::RenderMachineTemplateRequest,
    ) -> Result<proto::RenderMachineTemplateResponse, RpcError> {
        let name = parse("name", &request.name)?;
        context
            .authorize(Action::new(Verb::Custom("render"), Templates::KIND, &name))
            .await?;
        let (revision, stored) = if let Some(proposal) = &request.machine_template {
            (String::new(), self.proposed(&name, proposal).await?)
        } else {
            let id = revision_of("revision", &name, &request.revision)?;
            let template = self.stored(&name).await?;
            let (id, stored) = self.revision(&name, &template, id).await?;
            require_contents(&self.infra.kube, &id, &stored.resolved).await?;
            (id, stored)
        };
        let Revision {
            template: spec,
            resolved,
        } = stored;
        let machine = machine(&name, &revision, request.machine.as_ref())?;
        let vm = render::render(&spec, &resolved, &machine);
        let size = render::size(&spec, &resolved);
        Ok(proto::RenderMachineTemplateResponse {
            virtual_machine: to_struct(&vm),
            user_data: render::user_data(&spec),
            revision,
            resources: Some(proto::ResolvedResources {
                vcpus: i32::try_from(size.vcpus).unwrap_or(i32::MAX),
                memory_bytes: size
                    .memory
                    .parse::<Quantity>()
                    .ok()
                    .and_then(|q| i64::try_from(q.bytes()).ok())
                    .unwrap_or_default(),
                memory: size.memory,
                root_disk_size: render::root_size(&spec, &resolved),
                local_storage: render::local_storage(&spec, &resolved).to_string(),
                devices: size
                    .devices
                    .into_iter()
                    .map(|(k, n)| (k, i32::try_from(n).unwrap_or(i32::MAX)))
                    .collect(),
                architecture: spec.architecture.clone().unwrap_or_default(),
            }),
            machine_name_paths: render::name_paths(&spec, &resolved, &machine),
            warnings: validate::warnings(&spec),
            instance_type: name_of(resolved.instance_type.as_ref()),
            preference: name_of(resolved.preference.as_ref()),
        })
    }

    async fn diff(
        &self,
        context: &CallContext,
        request: &proto::DiffMachineTemplateRequest,
    ) -> Result<proto::DiffMachineTemplateResponse, RpcError> {
        let name = parse("name", &request.name)?;
        context
            .authorize(Action::new(Verb::Custom("diff"), Templates::KIND, &name))
            .await?;
        let template = self.stored(&name).await?;
        let kube = &self.infra.kube;
        let from_id = revision_of("from_revision", &name, &request.from_revision)?;
        let (from_id, before) = self.revision(&name, &template, from_id).await?;
        let after = match &request.to {
            Some(To::ToRevision(revision)) => {
                let id = revision_of("to_revision", &name, revision)?;
                self.revision(&name, &template, id).await?.1
            }
            Some(To::Proposed(proposal)) => self.proposed(&name, proposal).await?,
            None => return Err(Violations::one("to", "must be exactly one of to_revision and proposed").into()),
        };
        let machine = machine(&name, "", None)?;
        let (from, to) = (&before.template, &after.template);
        let virtual_machine_changes = changes(
            "/",
            &render::render(from, &before.resolved, &machine),
            &render::render(to, &after.resolved, &machine),
        );
        let same_user_data = render::user_data(from) == render::user_data(to);
        let usage = usage::of_template(kube, &name, &latest_id(&template)).await?;
        let json = |spec: &MachineTemplateSpec| serde_json::to_value(spec).unwrap_or_default();
        Ok(proto::DiffMachineTemplateResponse {
            changes: changes(".", &json(from), &json(to)),
            replaces_machines: !virtual_machine_changes.is_empty() || !same_user_data,
            virtual_machine_changes,
            affected_machine_count: usage.machines.get(&from_id).copied().unwrap_or_default(),
            affected_machine_pools: usage.pools.get(&from_id).into_iter().flatten().cloned().collect(),
        })
    }

    async fn rollback(
        &self,
        context: &CallContext,
        request: &proto::RollbackMachineTemplateRequest,
    ) -> Result<proto::MachineTemplate, RpcError> {
        let name = parse("name", &request.name)?;
        let id = revision_of("revision", &name, &request.revision)?;
        if id.is_empty() {
            return Err(Violations::one("revision", "must be set").into());
        }
        context
            .authorize(Action::new(Verb::Custom("rollback"), Templates::KIND, &name))
            .await?;
        let template = self.stored(&name).await?;
        let (_, revision) = self.revision(&name, &template, id).await?;
        let current = convert_template::machine_template(&template).ok_or_else(RpcError::internal)?;
        let message = proto::MachineTemplate {
            name: current.name,
            etag: request.etag.clone(),
            labels: current.labels,
            annotations: current.annotations,
            display_name: current.display_name,
            description: current.description,
            revision_history_limit: current.revision_history_limit,
            ..convert_template::from_spec(&revision.template)
        };
        let update = UpdateRequest {
            message: Some(message),
            mask: Some(prost_types::FieldMask {
                paths: vec!["*".into()],
            }),
            request_id: request.request_id.clone(),
            validate_only: request.validate_only,
        };
        collection::update(&self.templates(), context, &update).await
    }

    async fn list_revisions(
        &self,
        context: &CallContext,
        request: &proto::ListMachineTemplateRevisionsRequest,
    ) -> Result<proto::ListMachineTemplateRevisionsResponse, RpcError> {
        const MESSAGE: &str = "steading.templating.v1.MachineTemplateRevision";
        let name = parse("parent", &request.parent)?;
        if !request.order_by.is_empty() {
            return Err(Violations::one("order_by", "revisions come newest first only").into());
        }
        let fields = steading_api::reflect::filter_fields(MESSAGE);
        let known: Vec<&str> = fields.iter().map(String::as_str).collect();
        let filter = steading_model::filter::Filter::parse(&request.filter, &known)?;
        let binding = [MESSAGE, &request.parent, &request.filter];
        let page = PageRequest::parse(request.page_size, &request.page_token, &binding)?;
        context
            .authorize(Action::new(Verb::List, "MachineTemplateRevision", &name))
            .await?;
        let template = self.stored(&name).await?;
        let latest = latest_id(&template);
        let usage = usage::of_template(&self.infra.kube, &name, &latest).await?;
        let mut all = Vec::new();
        for object in list(&self.infra.kube, &name).await? {
            let message = revisions::message(&name, &object, &latest, &usage)?;
            if filter.matches(&steading_api::reflect::Filterable(steading_api::reflect::dynamic(
                MESSAGE, &message,
            )?)) {
                all.push(message);
            }
        }
        // Newest first: the cursor counts down, so that it grows with the list. Numbers never change, so no page moves.
        let key = |r: &proto::MachineTemplateRevision| {
            format!("{:020} {}", i64::MAX - r.revision_number, last_segment(&r.name))
        };
        let (machine_template_revisions, next_page_token) = page.cut(all, key);
        Ok(proto::ListMachineTemplateRevisionsResponse {
            machine_template_revisions,
            next_page_token,
        })
    }

    async fn get_revision(
        &self,
        context: &CallContext,
        full: &str,
    ) -> Result<proto::MachineTemplateRevision, RpcError> {
        let (template, id) = full.rsplit_once("/revisions/").ok_or_else(|| {
            RpcError::new(
                ErrorReason::InvalidName,
                "name must have the form projects/{project}/machineTemplates/{template}/revisions/{revision}",
            )
            .with_field(
                "name",
                "must have the form projects/{project}/machineTemplates/{template}/revisions/{revision}",
            )
        })?;
        let name = parse("name", template)?;
        context
            .authorize(Action::new(Verb::Get, "MachineTemplateRevision", full))
            .await?;
        let stored = self.stored(&name).await?;
        let latest = latest_id(&stored);
        let usage = usage::of_template(&self.infra.kube, &name, &latest).await?;
        for object in list(&self.infra.kube, &name).await? {
            let message = revisions::message(&name, &object, &latest, &usage)?;
            if last_segment(&message.name) == id {
                return Ok(message);
            }
        }
        Err(Error::UnknownRevision(full.to_owned()).into())
    }
}

/// The machine to render for; what the request leaves open becomes an example.
fn machine(
    name: &MachineTemplateName,
    revision: &str,
    context: Option<&proto::MachineContext>,
) -> Result<Machine, RpcError> {
    let context = context.cloned().unwrap_or_default();
    let mut violations = Violations::new();
    let mut id = |path: &str, text: &str, default: &str| {
        let text = if text.is_empty() { default } else { text };
        violations
            .take(path, Id::parse(text))
            .map(|id| id.to_string())
            .unwrap_or_default()
    };
    let project = id("machine.project", &context.project, name.project.as_str());
    let cluster = id("machine.cluster", &context.cluster, "cluster");
    let pool = id("machine.pool", &context.pool, "pool");
    violations.require(
        project == name.project.as_str(),
        "machine.project",
        "must be the template's own",
    );
    let or = |text: String, default: String| if text.is_empty() { default } else { text };
    let machine_name = or(context.machine_name, format!("{pool}-xxxxx"));
    let label = machine_name.len() <= 63
        && machine_name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !machine_name.starts_with('-')
        && !machine_name.ends_with('-');
    violations.require(label, "machine.machine_name", "must be a DNS label");
    violations.finish()?;
    let mut all_labels: BTreeMap<String, String> = context.labels.into_iter().collect();
    all_labels.extend(
        [
            (labels::PROJECT, project.clone()),
            (labels::CLUSTER, cluster.clone()),
            (labels::POOL, pool),
            (labels::MACHINE_TEMPLATE, name.object_name()),
        ]
        .map(|(k, v)| (k.to_owned(), v)),
    );
    let mut annotations: BTreeMap<String, String> = context.annotations.into_iter().collect();
    for (key, value) in [
        (labels::TEMPLATE_REVISION, revision),
        (KUBERNETES_VERSION, &context.kubernetes_version),
    ] {
        if !value.is_empty() {
            annotations.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(Machine {
        namespace: or(
            context.namespace,
            format!("{project}{}{cluster}", labels::PROJECT_SEPARATOR),
        ),
        user_data_secret: or(
            context.user_data_secret,
            format!("{machine_name}{}", labels::USER_DATA_SUFFIX),
        ),
        name: machine_name,
        labels: all_labels,
        annotations,
        placement: context.placement.as_ref().map(pod_fields).unwrap_or_default(),
    })
}

fn name_of(entry: Option<&CatalogueEntry>) -> String {
    entry.map(|entry| entry.name.clone()).unwrap_or_default()
}

/// What differs; with `.` the paths are field paths, else JSON pointers.
fn changes(separator: &str, from: &Value, to: &Value) -> Vec<proto::FieldChange> {
    let mut all = Vec::new();
    render::differences("", from, to, &mut |path, from, to| {
        let path = if separator == "." {
            path.trim_start_matches('/').replace('/', ".")
        } else {
            path.to_owned()
        };
        all.push(proto::FieldChange {
            path,
            from: from.map(to_value),
            to: to.map(to_value),
        });
    });
    all
}

fn to_struct(value: &Value) -> Option<prost_types::Struct> {
    let fields = value
        .as_object()?
        .iter()
        .map(|(key, value)| (key.clone(), to_value(value)));
    Some(prost_types::Struct {
        fields: fields.collect(),
    })
}

fn to_value(value: &Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(list) => Kind::ListValue(prost_types::ListValue {
            values: list.iter().map(to_value).collect(),
        }),
        Value::Object(_) => Kind::StructValue(to_struct(value).unwrap_or_default()),
    };
    prost_types::Value { kind: Some(kind) }
}

#[tonic::async_trait]
impl TemplateService for TemplateApi {
    type WatchMachineTemplatesStream = ResponseStream<proto::WatchMachineTemplatesResponse>;

    async fn create_machine_template(
        &self,
        request: Request<proto::CreateMachineTemplateRequest>,
    ) -> Result<Response<proto::MachineTemplate>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let create = CreateRequest {
            parent: r.parent,
            id: r.machine_template_id,
            message: r.machine_template,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            collection::create(&self.templates(), &context, &create).await?,
        ))
    }

    async fn get_machine_template(
        &self,
        request: Request<proto::GetMachineTemplateRequest>,
    ) -> Result<Response<proto::MachineTemplate>, Status> {
        let context = CallContext::from_request(&request);
        let name = &request.get_ref().name;
        let mut message = collection::get(&self.templates(), &context, name).await?;
        let users = usage::of_template(&self.infra.kube, &parse("name", name)?, last_segment(&message.revision))
            .await
            .map_err(RpcError::from)?;
        message.machine_count = users.machines.values().sum();
        Ok(Response::new(message))
    }

    async fn list_machine_templates(
        &self,
        request: Request<proto::ListMachineTemplatesRequest>,
    ) -> Result<Response<proto::ListMachineTemplatesResponse>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let list = ListRequest {
            parent: r.parent,
            page_size: r.page_size,
            page_token: r.page_token,
            filter: r.filter,
            order_by: r.order_by,
        };
        let (machine_templates, next_page_token) = collection::list(&self.templates(), &context, &list).await?;
        Ok(Response::new(proto::ListMachineTemplatesResponse {
            machine_templates,
            next_page_token,
        }))
    }

    async fn update_machine_template(
        &self,
        request: Request<proto::UpdateMachineTemplateRequest>,
    ) -> Result<Response<proto::MachineTemplate>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let update = UpdateRequest {
            message: r.machine_template,
            mask: r.update_mask,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            collection::update(&self.templates(), &context, &update).await?,
        ))
    }

    async fn delete_machine_template(
        &self,
        request: Request<proto::DeleteMachineTemplateRequest>,
    ) -> Result<Response<proto::MachineTemplate>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let delete = DeleteRequest {
            name: r.name,
            etag: r.etag,
            allow_missing: r.allow_missing,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            collection::delete(&self.templates(), &context, &self.clock, &delete).await?,
        ))
    }

    async fn watch_machine_templates(
        &self,
        request: Request<proto::WatchMachineTemplatesRequest>,
    ) -> Result<Response<Self::WatchMachineTemplatesStream>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let watch = WatchRequest {
            parent: r.parent,
            filter: r.filter,
            resume_token: r.resume_token,
        };
        let events = collection::watch(&self.templates(), &context, &watch).await?;
        Ok(Response::new(Box::pin(events.map(|event| {
            let event = event?;
            Ok(proto::WatchMachineTemplatesResponse {
                r#type: event.kind.into(),
                machine_template: event.message,
                resume_token: event.resume_token,
            })
        }))))
    }

    async fn get_machine_template_revision(
        &self,
        request: Request<proto::GetMachineTemplateRevisionRequest>,
    ) -> Result<Response<proto::MachineTemplateRevision>, Status> {
        let context = CallContext::from_request(&request);
        Ok(Response::new(
            self.get_revision(&context, &request.get_ref().name).await?,
        ))
    }

    async fn list_machine_template_revisions(
        &self,
        request: Request<proto::ListMachineTemplateRevisionsRequest>,
    ) -> Result<Response<proto::ListMachineTemplateRevisionsResponse>, Status> {
        let context = CallContext::from_request(&request);
        Ok(Response::new(self.list_revisions(&context, request.get_ref()).await?))
    }

    async fn rollback_machine_template(
        &self,
        request: Request<proto::RollbackMachineTemplateRequest>,
    ) -> Result<Response<proto::MachineTemplate>, Status> {
        let context = CallContext::from_request(&request);
        // Large on the stack: an update inside a method of its own.
        Ok(Response::new(
            Box::pin(self.rollback(&context, request.get_ref())).await?,
        ))
    }

    async fn render_machine_template(
        &self,
        request: Request<proto::RenderMachineTemplateRequest>,
    ) -> Result<Response<proto::RenderMachineTemplateResponse>, Status> {
        let context = CallContext::from_request(&request);
        Ok(Response::new(self.render(&context, request.get_ref()).await?))
    }

    async fn diff_machine_template(
        &self,
        request: Request<proto::DiffMachineTemplateRequest>,
    ) -> Result<Response<proto::DiffMachineTemplateResponse>, Status> {
        let context = CallContext::from_request(&request);
        Ok(Response::new(self.diff(&context, request.get_ref()).await?))
    }
}
