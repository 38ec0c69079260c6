//! The webhooks of VMs.

use serde_json::Value;

use super::{
    defaults,
    fields::{Causes, has, list, text},
    shape, types,
    validate::{self, sizes},
    webhooks::{Webhooks, check_labels, is_own},
};
use steading_kubesim::{Admission, ApiError};

const MUTATOR: &str = "virtualmachines-mutator.kubevirt.io";
const VALIDATOR: &str = "virtualmachine-validator.kubevirt.io";
const STRATEGIES: [&str; 5] = ["Halted", "Manual", "Always", "RerunOnFailure", "Once"];

/// Completes and checks a VM that is written.
pub(super) async fn admit(webhooks: &Webhooks, request: &Admission<'_>, vm: &mut Value) -> Result<(), ApiError> {
    // What does not change the spec needs no look: it was checked before.
    if request.old.is_some_and(|old| old["spec"] == vm["spec"]) {
        return Ok(());
    }
    shape::of_machine(vm).deny(MUTATOR)?;
    check_quantities(vm)?;
    types::check_matchers(MUTATOR, vm)?;
    let found = types::find(&webhooks.client, vm)
        .await
        .map_err(|error| ApiError::internal(error.to_string()))?
        .unwrap_or_default();
    if request.old.is_none() {
        let origin = format!(
            "{} {} {}",
            webhooks.seed(),
            text(vm, "/metadata/uid"),
            text(vm, "/metadata/name")
        );
        defaults::new_machine(vm, &origin);
    }
    defaults::machine(vm);
    check(vm, &found, is_own(request))?;
    if has(vm, "/spec/running") {
        let warning = "spec.running is deprecated, please use spec.runStrategy instead.";
        request.warnings.lock().push(warning.to_owned());
    }
    Ok(())
}

/// A quantity that is none cannot even be read.
fn check_quantities(vm: &Value) -> Result<(), ApiError> {
    const MESSAGE: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    let memory = ["guest", "maxGuest"].map(|key| format!("/spec/template/spec/domain/memory/{key}"));
    let kinds = ["requests", "limits"].map(|kind| format!("/spec/template/spec/domain/resources/{kind}"));
    let listed = kinds.iter().flat_map(|pointer| {
        let amounts = vm.pointer(pointer).and_then(Value::as_object);
        amounts
            .into_iter()
            .flatten()
            .map(move |(key, _)| format!("{pointer}/{key}"))
    });
    let listed: Vec<String> = listed.chain(memory).collect();
    let broken = listed
        .iter()
        .any(|pointer| has(vm, pointer) && super::fields::quantity(vm, pointer).is_none());
    if broken {
        Err(super::fields::refused(MUTATOR, MESSAGE))
    } else {
        Ok(())
    }
}

/// Checks a completed VM as it would run.
fn check(vm: &Value, found: &types::Found, own: bool) -> Result<(), ApiError> {
    let mut instance = vm["spec"]["template"].clone();
    let mut causes = Causes::default();
    for field in types::apply("spec.template.spec", &mut instance, found) {
        let message = format!("VM field(s) {field} conflicts with selected instance type");
        causes.invalid(field, message);
    }
    causes.deny(VALIDATOR)?;
    let spec = &mut instance["spec"];
    defaults::spec(spec);
    let mut causes = Causes::default();
    if let Some((field, message)) = types::unmet(found, spec) {
        let message = format!("failure checking preference requirements: {message}");
        causes.add("FieldValueNotFound", field, message);
    }
    causes.deny(VALIDATOR)?;
    let mut causes = Causes::default();
    check_labels(
        "spec.template.metadata",
        &vm["spec"]["template"]["metadata"],
        own,
        &mut causes,
    );
    validate::spec("spec.template.spec", spec, &mut causes);
    templates(&vm["spec"], &mut causes);
    run_strategy(&vm["spec"], &mut causes);
    sizes::too_many_sockets("spec.template.spec", spec, &mut causes);
    causes.deny(VALIDATOR)
}

fn run_strategy(spec: &Value, causes: &mut Causes) {
    let (running, strategy) = (has(spec, "/running"), text(spec, "/runStrategy"));
    if running && has(spec, "/runStrategy") {
        let message = "Running and RunStrategy are mutually exclusive. Note that Running is deprecated, please use RunStrategy instead";
        causes.invalid("spec.running", message);
    }
    if !has(spec, "/runStrategy") {
        if !running {
            causes.invalid("spec.running", "RunStrategy must be specified");
        }
        return;
    }
    if strategy == "WaitAsReceiver" {
        let why = "DecentralizedLiveMigration feature gate is not enabled in kubevirt resource";
        causes.invalid("spec.runStrategy", format!("Invalid RunStrategy ({strategy}), {why}"));
    } else if !STRATEGIES.contains(&strategy) {
        causes.invalid("spec.runStrategy", format!("Invalid RunStrategy ({strategy})"));
    }
}

/// Templates of DataVolumes: complete, and used by one of the volumes.
fn templates(spec: &Value, causes: &mut Causes) {
    for (index, template) in list(spec, "/dataVolumeTemplates").iter().enumerate() {
        // virt-api writes the list's name in the singular.
        let field = format!("spec.dataVolumeTemplate[{index}]");
        if let Some((part, message)) = broken(template) {
            causes.invalid(format!("{field}.{part}"), message);
            continue;
        }
        let name = text(template, "/metadata/name");
        let used = list(spec, "/template/spec/volumes").iter().any(|volume| {
            text(volume, "/dataVolume/name") == name || text(volume, "/persistentVolumeClaim/claimName") == name
        });
        if !used {
            let message =
                format!("DataVolumeTemplate entry {field} must be referenced in the VMI template's 'volumes' list");
            causes.required(field, message);
        }
    }
}

fn broken(template: &Value) -> Option<(&'static str, &'static str)> {
    let spec = &template["spec"];
    let (claim, storage) = (has(spec, "/pvc"), has(spec, "/storage"));
    if text(template, "/metadata/name").is_empty() {
        return Some((
            "name",
            "'name' field must not be empty for DataVolumeTemplate entry spec.dataVolumeTemplate.name.",
        ));
    }
    if !claim && !storage {
        return Some(("PVC.Storage", "Missing Data volume PVC or Storage"));
    }
    if claim && storage {
        return Some((
            "PVC.Storage",
            "Duplicate storage definition, both target storage and target pvc defined",
        ));
    }
    let origin = if claim { &spec["pvc"] } else { &spec["storage"] };
    let elsewhere = has(origin, "/dataSourceRef") || has(origin, "/dataSource");
    if !elsewhere && !has(spec, "/source") && !has(spec, "/sourceRef") {
        return Some((
            "source.sourceRef",
            "Data volume should have either Source, SourceRef, or be externally populated",
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::both(json!({ "running": true, "runStrategy": "Always" }), 1)]
    #[case::none(json!({}), 1)]
    #[case::one(json!({ "runStrategy": "Once" }), 0)]
    #[case::old(json!({ "running": false }), 0)]
    #[case::unknown(json!({ "runStrategy": "Sometimes" }), 1)]
    fn a_vm_has_one_run_strategy(#[case] spec: Value, #[case] wanted: usize) {
        let mut causes = Causes::default();
        run_strategy(&spec, &mut causes);
        assert_eq!(causes.messages().len(), wanted, "{:?}", causes.messages());
    }
}
