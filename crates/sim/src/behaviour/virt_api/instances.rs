//! The webhooks of VMIs: only KubeVirt changes their spec and status.

use serde_json::{Value, json};
use steading_infra::labels;

use super::{
    defaults,
    fields::{Causes, object},
    shape, validate,
    webhooks::{Webhooks, check_labels, is_own, reserved_labels},
};
use steading_kubesim::{Admission, ApiError};

const MUTATOR: &str = "virtualmachineinstances-mutator.kubevirt.io";
const CREATION: &str = "virtualmachineinstances-create-validator.kubevirt.io";
const UPDATE: &str = "virtualmachineinstances-update-validator.kubevirt.io";

/// Completes and checks a VMI that is made; keeps one that is changed to KubeVirt.
pub(super) fn admit(webhooks: &Webhooks, request: &Admission<'_>, vmi: &mut Value) -> Result<(), ApiError> {
    let own = is_own(request);
    match request.old {
        None => create(webhooks, vmi, own),
        Some(_) if own => Ok(()),
        Some(old) => {
            match old.get("status") {
                Some(status) => object(vmi, &[]).insert("status".to_owned(), status.clone()),
                None => object(vmi, &[]).remove("status"),
            };
            let mut causes = Causes::default();
            if old["spec"] != vmi["spec"] {
                causes.unsupported("", "update of VMI object is restricted");
            } else if reserved_labels(old, "/metadata/labels") != reserved_labels(vmi, "/metadata/labels") {
                let message =
                    "modification of the following reserved kubevirt.io/ labels on a VMI object is prohibited";
                causes.unsupported("", message);
            }
            causes.deny(UPDATE)
        }
    }
}

fn create(webhooks: &Webhooks, vmi: &mut Value, own: bool) -> Result<(), ApiError> {
    shape::of_instance(vmi).deny(MUTATOR)?;
    defaults::spec(&mut vmi["spec"]);
    defaults::new_instance(vmi, &webhooks.stamp());
    let finalizers = object(vmi, &["metadata"])
        .entry("finalizers")
        .or_insert_with(|| json!([]));
    if let Some(finalizers) = finalizers.as_array_mut() {
        finalizers.push(json!(labels::KUBEVIRT_VMI_FINALIZER));
    }
    let mut causes = Causes::default();
    validate::spec("spec", &vmi["spec"], &mut causes);
    validate::instance("spec", &vmi["spec"], &mut causes);
    check_labels("metadata", &vmi["metadata"], own, &mut causes);
    causes.deny(CREATION)
}
