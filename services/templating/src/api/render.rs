//! `RenderMachineTemplate`.

use std::collections::BTreeMap;

use steading_api::{convert::json_struct, error::RpcError, templating::v1 as proto};
use steading_infra::labels;
use steading_model::{ids::Id, name::MachineTemplateName, quantity::Quantity, violation::Violations};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
};

use super::{
    convert::placement::pod_fields,
    templates::{Templates, parse, revision_of},
};
use crate::{
    domain::{Machine, machine::CatalogueEntry, revision::Revision},
    observe::contents::require_contents,
    render, validate,
};

/// Annotation of a machine: the Kubernetes version that its tenant node is to have.
const KUBERNETES_VERSION: &str = "steading.dev/kubernetes-version";

impl Templates {
    /// Renders the machine that a revision or a proposal would make.
    ///
    /// # Errors
    /// If the revision does not exist or its images are gone, the proposal is wrong, or the caller may not.
    pub(super) async fn render(
        &self,
        context: &CallContext,
        request: &proto::RenderMachineTemplateRequest,
    ) -> Result<proto::RenderMachineTemplateResponse, RpcError> {
        let name = parse("name", &request.name)?;
        context
            .authorize(Action::new(Verb::Custom("render"), MachineTemplateName::KIND, &name))
            .await?;
        let (revision, stored) = if let Some(proposal) = &request.machine_template {
            (String::new(), self.proposed(&name, proposal).await?)
        } else {
            let id = revision_of("revision", &name, &request.revision)?;
            let template = self.stored(&name).await?;
            let (id, stored) = self.revision(&name, &template, id).await?;
            require_contents(&self.kube, &id, &stored.resolved).await?;
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
            virtual_machine: json_struct(&vm),
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
}

/// The machine to render for; what the request leaves open becomes an example.
pub(super) fn machine(
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
