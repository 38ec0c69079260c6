//! What the webhooks have in common: their client and clock, who counts as KubeVirt, reserved labels.

use kube::Client;
use serde_json::Value;
use steading_kubesim::Admission;

use super::fields::Causes;
use crate::behaviour::Context;

/// Names of those whose writes count as KubeVirt's own.
const OWN: [&str; 3] = ["virt-api", "virt-controller", "virt-handler"];

/// The webhooks.
pub(in crate::behaviour) struct Webhooks {
    pub(super) client: Client,
    context: Context,
}

impl Webhooks {
    pub(in crate::behaviour) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            context: context.clone(),
        }
    }

    pub(super) fn stamp(&self) -> String {
        self.context.stamp()
    }

    pub(super) fn seed(&self) -> u64 {
        self.context.seed
    }
}

/// Whether a request comes from KubeVirt itself.
pub(super) fn is_own(request: &Admission<'_>) -> bool {
    OWN.contains(&request.info.user_agent.as_str())
}

/// Whether the labels hold one that only KubeVirt may set, and which ones.
pub(super) fn reserved_labels(object: &Value, pointer: &str) -> Vec<(String, String)> {
    const RESERVED: [&str; 6] = [
        "kubevirt.io/created-by",
        "kubevirt.io/migrationJobUID",
        "kubevirt.io/nodeName",
        "kubevirt.io/migrationTargetNodeName",
        "kubevirt.io/schedulable",
        "kubevirt.io/install-strategy",
    ];
    let labels = object.pointer(pointer);
    RESERVED
        .iter()
        .filter_map(|label| Some(((*label).to_owned(), labels?.get(*label)?.as_str()?.to_owned())))
        .collect()
}

/// Checks the labels of a VMI or of a VM's template.
pub(super) fn check_labels(field: &str, metadata: &Value, own: bool, causes: &mut Causes) {
    if !own && !reserved_labels(metadata, "/labels").is_empty() {
        let message = "creation of the following reserved kubevirt.io/ labels on a VMI object is prohibited";
        causes.unsupported(format!("{field}.labels"), message);
    }
}
