//! What a drain looks at: the tenant node, every pod bound to it, and the volumes that the tenant has attached to it.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    storage::v1::VolumeAttachment,
};
use kube::{Api, Client, ResourceExt, api::ListParams};
use steading_infra::error::{InfraError, optional};

use super::list::everything;

use crate::{
    domain::drain::Progress,
    plan::drain::{Cordon, DrainInput, DrainPod, DrainPodKind, DrainPolicy, Kubelet, ObservedDrainNode},
};

/// Annotation of a mirror pod, which stands for a static pod of the kubelet.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What one pass of a drain is decided by, apart from what it observes.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// How patient the drain is.
    pub policy: &'a DrainPolicy,
    /// When it was asked for.
    pub started: Timestamp,
    /// How far it was.
    pub before: &'a Progress,
}

/// Looks at a tenant node and at all that is on it.
///
/// # Errors
/// If the API server refuses, cannot be reached, or does not come to the end of a list: then nobody may call the node empty.
pub async fn observe_drain(client: &Client, name: &str, pass: Pass<'_>) -> Result<DrainInput, InfraError> {
    let node = optional(Api::<Node>::all(client.clone()).get(name).await)?;
    let here = ListParams::default().fields(&format!("spec.nodeName={name}"));
    let pods = everything::<Pod>(&Api::all(client.clone()), &here).await?;
    let attachments = match everything::<VolumeAttachment>(&Api::all(client.clone()), &ListParams::default()).await {
        // A tenant without the kind has no attachments.
        Err(InfraError::NotFound(_)) => Vec::new(),
        other => other?,
    };
    let attached = attachments.iter().filter(|one| one.spec.node_name == name);
    Ok(DrainInput {
        node: node.as_ref().map_or(ObservedDrainNode::Gone, observe_kubelet),
        // A server that does not know the field selector answers with all pods.
        pods: pods
            .iter()
            .filter(|pod| pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(name))
            .map(observe_pod)
            .collect(),
        attached_volumes: attached
            .map(|one| {
                one.spec
                    .source
                    .persistent_volume_name
                    .clone()
                    .unwrap_or_else(|| one.name_any())
            })
            .collect(),
        attempts: BTreeMap::new(),
        policy: pass.policy.clone(),
        started: pass.started,
        detaching_since: pass.before.detaching_since,
    })
}

fn observe_kubelet(node: &Node) -> ObservedDrainNode {
    let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let away = conditions
        .iter()
        .any(|one| one.type_ == "Ready" && one.status == "Unknown");
    ObservedDrainNode::Present {
        cordon: if unschedulable {
            Cordon::Cordoned
        } else {
            Cordon::Schedulable
        },
        kubelet: if away { Kubelet::Unreachable } else { Kubelet::Reporting },
    }
}

fn observe_pod(pod: &Pod) -> DrainPod {
    let owned = pod
        .owner_references()
        .iter()
        .any(|owner| owner.kind == "DaemonSet" && owner.controller == Some(true));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let kind = if pod.annotations().contains_key(MIRROR) {
        DrainPodKind::Mirror
    } else if matches!(phase, Some("Succeeded" | "Failed")) {
        DrainPodKind::Finished
    } else if owned {
        DrainPodKind::DaemonSet
    } else {
        DrainPodKind::Ordinary
    };
    let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    DrainPod {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        kind,
        deletion: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        grace: grace
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
    }
}
