//! Plays virt-api's webhooks for migrations: who may be migrated, and what every migration carries.

use futures::future::BoxFuture;
use kube::{Api, Client, ResourceExt, api::ListParams};
use serde_json::{Value, json};
use steading_infra::kubevirt::{
    VirtualMachineInstance, VirtualMachineInstanceMigration, condition, migration::MigrationPhase,
    virtual_machine_instance::VmiPhase,
};
use steading_kubesim::{Admission, AdmissionHook, ApiError, Cause, Verb};

use crate::behaviour::Context;

/// Finalizer of KubeVirt on migrations: they end before they go.
pub(super) const MIGRATION_FINALIZER: &str = "kubevirt.io/migrationJobFinalize";
/// Label of KubeVirt on migrations: name of the VMI.
const SELECTOR: &str = "kubevirt.io/vmi-name";

/// The webhooks.
pub(super) struct Migrations {
    client: Client,
}

impl Migrations {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
        }
    }

    async fn admit(&self, namespace: &str, migration: &mut Value) -> Result<(), ApiError> {
        let name = migration["spec"]["vmiName"].as_str().unwrap_or_default().to_owned();
        if name.is_empty() {
            let mut error = denied("vmiName is missing");
            (error.code, error.reason) = (422, "Invalid".to_owned());
            let cause = Cause::new("FieldValueRequired", "spec.vmiName", "vmiName is missing");
            return Err(error.with_cause(cause));
        }
        migration["metadata"]["labels"][SELECTOR] = json!(name);
        match migration["metadata"]["finalizers"].as_array_mut() {
            Some(all) => all.push(json!(MIGRATION_FINALIZER)),
            None => migration["metadata"]["finalizers"] = json!([MIGRATION_FINALIZER]),
        }
        let broken = |error: kube::Error| ApiError::internal(error.to_string());
        let instances: Api<VirtualMachineInstance> = Api::namespaced(self.client.clone(), namespace);
        let Some(instance) = instances.get_opt(&name).await.map_err(broken)? else {
            return Err(denied(&format!("the VMI \"{namespace}/{name}\" does not exist")));
        };
        refusal(&instance).map_or(Ok(()), |message| Err(denied(&message)))?;
        let migrations: Api<VirtualMachineInstanceMigration> = Api::namespaced(self.client.clone(), namespace);
        let all = migrations
            .list(&ListParams::default().labels(&format!("{SELECTOR}={name}")))
            .await
            .map_err(broken)?;
        let over = |found: &VirtualMachineInstanceMigration| {
            let phase = found.status.as_ref().and_then(|status| status.phase.as_ref());
            phase.is_some_and(MigrationPhase::is_final)
        };
        match all.items.iter().find(|found| !over(found)) {
            Some(other) => Err(denied(&format!(
                "in-flight migration detected. Active migration job ({}) is currently already in progress for VMI {name}.",
                other.uid().unwrap_or_default()
            ))),
            None => Ok(()),
        }
    }
}

/// Why a VMI cannot be migrated at all.
fn refusal(instance: &VirtualMachineInstance) -> Option<String> {
    let status = instance.status.clone().unwrap_or_default();
    if status.phase.as_ref().is_some_and(VmiPhase::is_final) {
        return Some("Cannot migrate VMI in finalized state.".to_owned());
    }
    let pinned = condition(&status.conditions, "LiveMigratable").filter(|found| found.status == "False")?;
    let (reason, message) = (
        pinned.reason.as_deref().unwrap_or_default(),
        pinned.message.as_deref().unwrap_or_default(),
    );
    Some(format!("Cannot migrate VMI, Reason: {reason}, Message: {message}"))
}

fn denied(message: &str) -> ApiError {
    let hook = "migration-create-validator.kubevirt.io";
    // Without a reason, as the webhook gives it.
    ApiError::new(
        400,
        "",
        format!("admission webhook \"{hook}\" denied the request: {message}"),
    )
}

/// What of a migration must not change: its spec, and the label that it is found by while it is under way.
fn check_change(old: &Value, new: &Value) -> Result<(), ApiError> {
    let phase = new.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    let under_way = !matches!(phase, "Succeeded" | "Failed");
    let label = |migration: &Value| migration["metadata"]["labels"][SELECTOR].clone();
    let message = if old["spec"] != new["spec"] {
        "update of Migration object's spec is restricted"
    } else if under_way && !label(old).is_null() && label(old) != label(new) {
        if new["metadata"].get("labels").is_none() {
            "selector label can't be removed from an in-flight migration"
        } else {
            "selector label can't be modified on an in-flight migration"
        }
    } else {
        return Ok(());
    };
    let hook = "migration-update-validator.kubevirt.io";
    let whole = format!("admission webhook \"{hook}\" denied the request: {message}");
    let cause = Cause::new("FieldValueNotSupported", "", message);
    Err(ApiError::new(422, "Invalid", whole).with_cause(cause))
}

impl AdmissionHook for Migrations {
    fn admit<'a>(&'a self, request: &'a Admission<'a>, object: &'a mut Value) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            let info = request.info;
            let ours = info.group == "kubevirt.io" && info.resource == "virtualmachineinstancemigrations";
            if !ours || info.subresource.is_some() {
                return Ok(());
            }
            match (info.verb, request.old) {
                (Verb::Create | Verb::Patch, None) => {
                    self.admit(info.namespace.as_deref().unwrap_or_default(), object).await
                }
                (Verb::Update | Verb::Patch, Some(old)) => check_change(old, object),
                _ => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use steading_infra::samples::{mk_condition, mk_running_vmi};

    use super::*;

    #[test]
    fn a_pinned_or_ended_machine_is_not_migrated() {
        let mut instance = mk_running_vmi("ns", "m", "infra-1", "10.0.0.1");
        assert_eq!(refusal(&instance), None);
        let status = instance.status.as_mut().unwrap();
        status.conditions = vec![mk_condition("LiveMigratable", "False")];
        assert!(refusal(&instance).is_some_and(|message| message.starts_with("Cannot migrate VMI, Reason")));
        instance.status.as_mut().unwrap().phase = Some(VmiPhase::Succeeded);
        assert_eq!(
            refusal(&instance).as_deref(),
            Some("Cannot migrate VMI in finalized state.")
        );
    }
}
