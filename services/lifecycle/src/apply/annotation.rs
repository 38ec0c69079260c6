//! Annotations of machines.

use serde_json::{Value, json};
use steading_infra::{
    apply::{self, FieldManager},
    error::InfraError,
    kubevirt::VirtualMachine,
};

use crate::{context::Context, error::Error};

/// Sets or removes annotations of a VirtualMachine.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn annotate(
    context: &Context,
    namespace: &str,
    machine: &str,
    annotations: &[(&str, Option<String>)],
) -> Result<(), Error> {
    let map: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone().map_or(Value::Null, Value::String)))
        .collect();
    let patch = json!({"metadata": {"annotations": map}});
    match apply::patch_merge(
        &context.namespaced::<VirtualMachine>(namespace),
        FieldManager::Lifecycle,
        machine,
        &patch,
    )
    .await
    {
        Ok(written) => {
            context.observed.vms.upsert(written);
            Ok(())
        }
        Err(InfraError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
