//! Plays virt-api's webhooks for machines: completes VMs and VMIs, refuses those that cannot be, and keeps VMIs to KubeVirt.
//!
//! ```text
//! VM, VMI, instance type ─► shape (types, required fields) ─► defaults ─► rules ─► stored
//! ```
//!
//! All decisions are pure functions of the objects; only instance types and preferences are read from the API server. Of the shape, the
//! fields that Steading and its users write are known; a field that is not known here passes, where the real CRD drops it.

mod defaults;
mod fields;
mod instances;
mod machines;
mod shape;
pub(super) mod types;
mod validate;
mod webhooks;

use futures::future::BoxFuture;
use kube::Client;
use serde_json::Value;

use self::fields::text;
pub(super) use self::webhooks::Webhooks;
use steading_kubesim::{Admission, AdmissionHook, ApiError, Verb};

/// Gives the spec of a VMI what a VM leaves to KubeVirt, before instance type and preference are applied: a network, and disks of volumes.
pub(super) fn attach(spec: &mut Value) {
    defaults::network(spec);
    defaults::disks(spec);
}

/// A VM as it would run: its instance type and preference are in its template, the matchers are gone.
///
/// # Errors
/// The outer one when the API server cannot be read, the inner one when something is not there or conflicts.
pub(super) async fn expand(client: &Client, mut vm: Value) -> kube::Result<Result<Value, String>> {
    let found = match types::find(client, &vm).await? {
        Ok(found) => found,
        Err(missing) => return Ok(Err(missing.message)),
    };
    let mut template = vm["spec"]["template"].take();
    let conflicts = types::apply("spec.template.spec", &mut template, &found);
    if !conflicts.is_empty() {
        let fields = conflicts.join(", ");
        return Ok(Err(format!(
            "VM field(s) {fields} conflicts with selected instance type"
        )));
    }
    vm["spec"]["template"] = template;
    if let Some(spec) = vm["spec"].as_object_mut() {
        spec.retain(|field, _| !matches!(field.as_str(), "instancetype" | "preference"));
    }
    Ok(Ok(vm))
}

impl AdmissionHook for Webhooks {
    fn admit<'a>(&'a self, request: &'a Admission<'a>, object: &'a mut Value) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            let info = request.info;
            let deletes = matches!(info.verb, Verb::Delete | Verb::DeleteCollection);
            let going = !text(object, "/metadata/deletionTimestamp").is_empty();
            if deletes || info.subresource.is_some() || going {
                return Ok(());
            }
            match (info.group.as_str(), info.resource.as_str()) {
                ("kubevirt.io", "virtualmachines") => machines::admit(self, request, object).await,
                ("kubevirt.io", "virtualmachineinstances") => instances::admit(self, request, object),
                ("instancetype.kubevirt.io", "virtualmachineinstancetypes" | "virtualmachineclusterinstancetypes") => {
                    types::admit(&info.resource, object)
                }
                ("instancetype.kubevirt.io", "virtualmachinepreferences" | "virtualmachineclusterpreferences") => {
                    types::admit_preference(&info.resource, object)
                }
                _ => Ok(()),
            }
        })
    }
}
