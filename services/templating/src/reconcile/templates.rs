//! Templates: a revision for the present content, also of templates that were applied with `kubectl`, the verdict
//! whether machines can be made from it, and no more old revisions than wanted.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{
    Api, Client, ResourceExt,
    runtime::{Controller, controller::Action, watcher},
};
use steading_api::{error::RpcError, types::v1::ErrorReason};
use steading_infra::{
    apply::{FieldManager, apply_status},
    crd::machine_template::{MachineTemplate, MachineTemplateStatus},
};
use steading_model::name::MachineTemplateName;
use steading_runtime::clock::Clock;

use super::{RESYNC, RETRY};
use crate::{
    api::{Infra, references::usage, revisions, templates::Templates},
    domain::revision::revision_id,
};

/// Pause after which a template is looked at again whose references are missing.
const RECHECK: std::time::Duration = std::time::Duration::from_secs(15);

struct Context {
    kube: Client,
    clock: Clock,
}

/// What did not work.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The infra cluster did not do what was asked.
    #[error("{0:?}")]
    Rpc(RpcError),
    /// The status could not be written.
    #[error("status cannot be written")]
    Status(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Runs for ever.
pub async fn run(kube: Client, clock: Clock) {
    let api: Api<MachineTemplate> = Api::all(kube.clone());
    let context = Arc::new(Context { kube, clock });
    Controller::new(api, watcher::Config::default())
        .run(
            reconcile,
            |_, error, _| {
                tracing::warn!(%error, "machine template cannot be reconciled yet");
                Action::requeue(RETRY)
            },
            context,
        )
        .for_each(|_| std::future::ready(()))
        .await;
}

async fn reconcile(template: Arc<MachineTemplate>, context: Arc<Context>) -> Result<Action, Error> {
    let name = MachineTemplateName::from_object_name(&template.name_any());
    let Some(name) = name.filter(|_| template.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    let infra = Infra {
        kube: context.kube.clone(),
    };
    let verdict = match Templates(infra).check(&name, &template.spec).await {
        Ok(_) => Ok(()),
        // Unknown is not invalid: look again.
        Err(error) if matches!(error.reason(), ErrorReason::InfraUnavailable | ErrorReason::Internal) => {
            return Err(Error::Rpc(error));
        }
        Err(error) => Err(tonic::Status::from(error).message().to_owned()),
    };
    let revision = revisions::ensure(&context.kube, &name, &template)
        .await
        .map_err(Error::Rpc)?;
    if let Some(status) = plan_status(&template, &revision, &verdict, context.clock.now()) {
        let api: Api<MachineTemplate> = Api::all(context.kube.clone());
        apply_status(&api, FieldManager::Templating, &template.name_any(), &status)
            .await
            .map_err(|e| Error::Status(e.into()))?;
    }
    let used = usage(&context.kube, &name, &revision_id(&template.spec))
        .await
        .map_err(Error::Rpc)?;
    revisions::collect(&context.kube, &name, &template, &used)
        .await
        .map_err(Error::Rpc)?;
    Ok(Action::requeue(if verdict.is_ok() { RESYNC } else { RECHECK }))
}

/// The status that a template should have; `None` if it has it.
fn plan_status(
    template: &MachineTemplate,
    revision: &(String, i64),
    verdict: &Result<(), String>,
    now: jiff::Timestamp,
) -> Option<MachineTemplateStatus> {
    let generation = template.metadata.generation.unwrap_or_default();
    let (status, reason, message) = match verdict {
        Ok(()) => ("True", "Valid", "machines can be made from it".to_owned()),
        Err(text) => ("False", "Invalid", text.clone()),
    };
    let old = template.status.clone().unwrap_or_default();
    let since = old
        .conditions
        .iter()
        .find(|c| c.type_ == "Accepted" && c.status == status);
    let wanted = MachineTemplateStatus {
        observed_generation: generation,
        latest_revision: Some(revision.0.clone()),
        revision_number: revision.1,
        conditions: vec![Condition {
            type_: "Accepted".into(),
            status: status.into(),
            reason: reason.into(),
            message,
            last_transition_time: since.map_or(Time(now), |c| c.last_transition_time.clone()),
            observed_generation: Some(generation),
        }],
    };
    (wanted != old).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_once() {
        let mut template = MachineTemplate::new(
            "acme--web",
            steading_infra::crd::machine_template::MachineTemplateSpec::default(),
        );
        let revision = ("abc".to_owned(), 1);
        let now = jiff::Timestamp::UNIX_EPOCH;
        let status = plan_status(&template, &revision, &Ok(()), now).expect("a status");
        assert_eq!(status.latest_revision.as_deref(), Some("abc"));
        template.status = Some(status);
        assert_eq!(plan_status(&template, &revision, &Ok(()), now), None);
        let refused = plan_status(&template, &revision, &Err("no image".into()), now).expect("a status");
        assert_eq!(refused.conditions[0].message, "no image");
    }
}
