//! Live migrations as requests to KubeVirt.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use steading_controller::Fresh;
use steading_infra::{
    apply::{self, FieldManager},
    error::InfraError,
    intent::MAINTENANCE_PREFIX,
    kubevirt::{VirtualMachineInstanceMigration, migration::VirtualMachineInstanceMigrationSpec},
    labels,
};

use crate::{
    context::Context,
    error::Error,
    plan::{digest::short_digest, evacuation::MachineKey},
};

/// Characters of a machine's name that a migration's name keeps; the digest and a dash are added.
const NAME_PART: usize = 48;

/// Creates the migration of one attempt; its name makes a repetition harmless.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn migrate(
    context: &Context,
    machine: &MachineKey,
    owner: &str,
    attempt: usize,
    instance: &str,
) -> Result<(), Error> {
    let suffix = short_digest(&format!("{owner}/{instance}/{attempt}"), 5);
    let kept: String = machine.machine.chars().take(NAME_PART).collect();
    let name = format!("{kept}-{suffix}");
    let spec = VirtualMachineInstanceMigrationSpec {
        vmi_name: machine.machine.clone(),
        ..Default::default()
    };
    let mut object = VirtualMachineInstanceMigration::new(&name, spec);
    let mut pairs = vec![
        (labels::MANAGED_BY, labels::MANAGED_BY_STEADING),
        (labels::MACHINE, machine.machine.as_str()),
    ];
    pairs.extend(
        owner
            .strip_prefix(MAINTENANCE_PREFIX)
            .map(|id| (labels::MAINTENANCE, id)),
    );
    let own = |pairs: Vec<(&str, &str)>| pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    object.metadata = ObjectMeta {
        labels: Some(own(pairs)),
        annotations: Some(own(vec![(labels::INTENT_OWNER, owner)])),
        ..object.metadata
    };
    let api = context.namespaced::<VirtualMachineInstanceMigration>(&machine.namespace);
    match apply::create(&api, FieldManager::Lifecycle, &object).await {
        Ok(_) => {
            tracing::info!(%machine, owner, attempt, "live migration begun");
            Ok(())
        }
        Err(InfraError::AlreadyExists(_)) => {
            // Ours of an earlier pass, or one that brought the machine away before it came back: that one makes room.
            let is_over = |one: &Fresh<VirtualMachineInstanceMigration>| {
                let phase = one.status.as_ref().and_then(|status| status.phase.as_ref());
                phase.is_some_and(|phase| phase.is_final())
            };
            if let Some(over) = Fresh::get(&api, &name).await?.filter(is_over) {
                over.delete(&api).await?;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Deletes a migration, which makes KubeVirt abort it; one that is gone is fine.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn cancel_migration(context: &Context, machine: &MachineKey, name: &str) -> Result<(), Error> {
    let api = context.namespaced::<VirtualMachineInstanceMigration>(&machine.namespace);
    match apply::delete(&api, name, None).await {
        Ok(()) | Err(InfraError::NotFound(_)) => {
            tracing::info!(%machine, migration = name, "live migration called off");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
