//! `DiffMachineTemplate`.

use serde_json::Value;
use steading_api::{
    convert::json_value,
    error::RpcError,
    templating::v1::{self as proto, diff_machine_template_request::To},
};
use steading_infra::crd::machine_template::MachineTemplateSpec;
use steading_model::{name::MachineTemplateName, violation::Violations};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
};

use super::{
    render::machine,
    templates::{Templates, parse, revision_of},
};
use crate::{
    observe::{revisions::latest_id, usage},
    render,
};

impl Templates {
    /// Compares a revision with another one or a proposal.
    ///
    /// # Errors
    /// If a revision does not exist, the proposal is wrong, or the caller may not.
    pub(super) async fn diff(
        &self,
        context: &CallContext,
        request: &proto::DiffMachineTemplateRequest,
    ) -> Result<proto::DiffMachineTemplateResponse, RpcError> {
        let name = parse("name", &request.name)?;
        context
            .authorize(Action::new(Verb::Custom("diff"), MachineTemplateName::KIND, &name))
            .await?;
        let template = self.stored(&name).await?;
        let kube = &self.kube;
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
            from: from.map(json_value),
            to: to.map(json_value),
        });
    });
    all
}
