//! Plays the webhook `virt-launcher-eviction-interceptor.kubevirt.io`: what an eviction of a launcher pod does depends on the VMI's strategy.

use futures::future::BoxFuture;
use kube::{Api, Client, ResourceExt, api::PostParams};
use serde_json::Value;
use steading_infra::{
    kubevirt::{VirtualMachineInstance, condition_is_true, virtual_machine::EvictionStrategy},
    labels,
};
use steading_kubesim::{Admission, AdmissionHook, ApiError};

use super::status::mark;
use crate::behaviour::Context;

/// How often the mark is tried when the VMI is written by others at the same time.
const ATTEMPTS: usize = 5;

/// Name of the webhook for launcher pods.
const LAUNCHERS: &str = "virt-launcher-eviction-interceptor.kubevirt.io";
/// Name of the webhook for attachment pods.
const ATTACHMENTS: &str = "hotplug-pod-eviction-interceptor.kubevirt.io";

/// The webhook.
pub(super) struct Interceptor {
    context: Context,
}

/// What an eviction means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The pod may go.
    Allow,
    /// The pod stays, for this reason.
    Deny(String),
    /// The pod stays, the VMI is marked.
    Mark,
}

impl Interceptor {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
        }
    }

    async fn review(&self, pod: &Value, dry_run: bool) -> Result<(), ApiError> {
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        match pod["metadata"]["labels"][labels::KUBEVIRT_ROLE].as_str() {
            Some("virt-launcher") => {}
            Some("hotplug-disk") => return self.review_attachment(pod).await,
            _ => return Ok(()),
        }
        if matches!(text("/status/phase"), "Succeeded" | "Failed") {
            return Ok(());
        }
        let namespace = text("/metadata/namespace");
        let name = pod["metadata"]["annotations"][labels::KUBEVIRT_DOMAIN]
            .as_str()
            .unwrap_or_default();
        let api: Api<VirtualMachineInstance> = Api::namespaced(Client::clone(&self.context.client), namespace);
        for _ in 0..ATTEMPTS {
            let read = api
                .get_opt(name)
                .await
                .map_err(|error| ApiError::internal(error.to_string()))?;
            let Some(vmi) = read else { return Ok(()) };
            match verdict(&vmi, text("/spec/nodeName")) {
                Verdict::Allow => return Ok(()),
                Verdict::Deny(message) => return Err(denied(LAUNCHERS, &message)),
                Verdict::Mark => {}
            }
            if dry_run || self.mark(&api, vmi).await {
                let message = format!("Eviction triggered evacuation of VMI \"{namespace}/{name}\"");
                return Err(denied(LAUNCHERS, &message));
            }
        }
        Err(ApiError::internal("the VMI could not be marked"))
    }

    /// The attachment pods of a VMI stay as long as it is there.
    async fn review_attachment(&self, pod: &Value) -> Result<(), ApiError> {
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let namespace = text("/metadata/namespace");
        let vmi = pod["metadata"]["annotations"][labels::KUBEVIRT_DOMAIN]
            .as_str()
            .unwrap_or_default();
        let api: Api<VirtualMachineInstance> = Api::namespaced(Client::clone(&self.context.client), namespace);
        let found = api
            .get_opt(vmi)
            .await
            .map_err(|error| ApiError::internal(error.to_string()))?;
        if found.is_none() {
            return Ok(());
        }
        let message = format!(
            "cannot evict hotplug pod: {} associated with running vmi: {vmi} in namespace {namespace}",
            text("/metadata/name")
        );
        Err(denied(ATTACHMENTS, &message))
    }

    async fn mark(&self, api: &Api<VirtualMachineInstance>, mut vmi: VirtualMachineInstance) -> bool {
        let mut status = vmi.status.take().unwrap_or_default();
        status.evacuation_node_name.clone_from(&status.node_name);
        mark(&self.context, &mut status.conditions);
        vmi.status = Some(status);
        api.replace(&vmi.name_any(), &PostParams::default(), &vmi).await.is_ok()
    }
}

fn verdict(vmi: &VirtualMachineInstance, pod_node: &str) -> Verdict {
    let name = format!("{}/{}", vmi.namespace().unwrap_or_default(), vmi.name_any());
    let status = vmi.status.clone().unwrap_or_default();
    let node = status.node_name.clone().unwrap_or_default();
    if vmi.metadata.deletion_timestamp.is_some()
        || status
            .phase
            .as_ref()
            .is_some_and(steading_infra::kubevirt::virtual_machine_instance::VmiPhase::is_final)
    {
        return Verdict::Allow;
    }
    let migratable = condition_is_true(&status.conditions, "LiveMigratable");
    match vmi.spec.eviction_strategy {
        None | Some(EvictionStrategy::None | EvictionStrategy::Other(_)) => return Verdict::Allow,
        Some(EvictionStrategy::LiveMigrateIfPossible) if !migratable => return Verdict::Allow,
        Some(EvictionStrategy::LiveMigrate) if !migratable => {
            return Verdict::Deny(format!(
                "VMI {} is configured with an eviction strategy but is not live-migratable",
                vmi.name_any()
            ));
        }
        Some(EvictionStrategy::LiveMigrate | EvictionStrategy::LiveMigrateIfPossible | EvictionStrategy::External) => {}
    }
    if status.evacuation_node_name.is_some() {
        return Verdict::Deny(format!(
            "Evacuation in progress: Eviction triggered evacuation of VMI \"{name}\""
        ));
    }
    if node != pod_node {
        return Verdict::Deny("Eviction request for target Pod".to_owned());
    }
    Verdict::Mark
}

fn denied(hook: &str, message: &str) -> ApiError {
    // Without a reason, as the webhook gives it.
    ApiError::new(
        429,
        "",
        format!("admission webhook \"{hook}\" denied the request: {message}"),
    )
}

impl AdmissionHook for Interceptor {
    fn admit<'a>(&'a self, request: &'a Admission<'a>, object: &'a mut Value) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            let eviction = request.info.resource == "pods" && request.info.subresource.as_deref() == Some("eviction");
            match request.old.filter(|_| eviction) {
                Some(pod) => {
                    let asked = object.pointer("/deleteOptions/dryRun/0") == Some(&Value::from("All"));
                    self.review(pod, request.dry_run || asked).await
                }
                None => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use steading_infra::samples::{mk_condition, mk_running_vmi};

    use super::*;

    fn mk_vmi(strategy: EvictionStrategy) -> VirtualMachineInstance {
        let mut vmi = mk_running_vmi("ns", "m", "infra-1", "10.0.0.1");
        vmi.spec.eviction_strategy = Some(strategy);
        vmi
    }

    #[test]
    fn the_strategy_decides() {
        assert_eq!(verdict(&mk_vmi(EvictionStrategy::None), "infra-1"), Verdict::Allow);
        assert_eq!(verdict(&mk_vmi(EvictionStrategy::External), "infra-1"), Verdict::Mark);
        assert_eq!(
            verdict(&mk_vmi(EvictionStrategy::LiveMigrate), "infra-1"),
            Verdict::Mark
        );
        let mut pinned = mk_vmi(EvictionStrategy::LiveMigrate);
        pinned.status.as_mut().unwrap().conditions = vec![mk_condition("LiveMigratable", "False")];
        assert!(
            matches!(verdict(&pinned, "infra-1"), Verdict::Deny(message) if message.ends_with("is not live-migratable"))
        );
    }

    #[test]
    fn a_second_eviction_is_told_that_it_is_under_way() {
        let mut vmi = mk_vmi(EvictionStrategy::External);
        vmi.status.as_mut().unwrap().evacuation_node_name = Some("infra-1".to_owned());
        assert!(
            matches!(verdict(&vmi, "infra-1"), Verdict::Deny(message) if message.starts_with("Evacuation in progress"))
        );
    }
}
