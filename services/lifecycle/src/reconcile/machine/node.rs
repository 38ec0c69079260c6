//! A machine's Node as it should be.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use steading_infra::{apply::FieldManager, labels};
use steading_model::name::unpinned_name;

use super::Pass;
use crate::{
    apply::annotation::annotate,
    domain::machine::ObservedNode,
    error::Error,
    plan::node::{DesiredNode, Topology, plan_node},
    reconcile::Outcome,
};

/// Pause after a Node turned out to be newer than the watch has shown.
const STALE: Duration = Duration::from_millis(50);

impl Pass<'_> {
    pub(super) async fn maintain(&self) -> Result<Outcome, Error> {
        let machine = self.machine;
        let ObservedNode::Present { .. } = machine.node else {
            return Ok(Outcome::Settled);
        };
        let (Some(node), Some(client)) = (self.tenant.nodes.get("", &machine.name), self.tenant.client()) else {
            return Ok(Outcome::Settled);
        };
        self.note_join().await?;
        let patch = plan_node(&node, &self.desired_node());
        let nodes: Api<Node> = Api::all(client);
        let params = PatchParams {
            field_manager: Some(FieldManager::Lifecycle.as_str().into()),
            ..PatchParams::default()
        };
        let mut base = Arc::clone(&node);
        if let Some(status) = patch.status {
            let written = nodes.patch_status(&machine.name, &params, &Patch::Merge(status)).await;
            base = Arc::new(written.map_err(|error| Error::tenant(&self.tenant.namespace, error))?);
        }
        if let Some(mut body) = patch.node {
            // Taints are guarded against others by the version, which the write above has moved.
            if let Some(version) = body.pointer_mut("/metadata/resourceVersion") {
                let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
                if taints(&base) != taints(&node) {
                    return Ok(Outcome::Again(STALE));
                }
                *version = serde_json::json!(base.metadata.resource_version);
            }
            match nodes.patch(&machine.name, &params, &Patch::Merge(body)).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_conflict() => return Ok(Outcome::Again(STALE)),
                Err(error) => return Err(Error::tenant(&self.tenant.namespace, error)),
            }
        }
        Ok(Outcome::Settled)
    }

    /// Remembers on the object that this boot has joined, once a boot: a Node that is missing after that was deleted.
    async fn note_join(&self) -> Result<(), Error> {
        let machine = self.machine;
        let started = machine.instance.as_ref().and_then(|instance| instance.running_since);
        let is_noted = machine
            .joined
            .is_some_and(|joined| started.is_none_or(|started| joined >= started));
        if is_noted || !machine.is_ready() {
            return Ok(());
        }
        // Never before the boot that it speaks of, however KubeVirt's clock and ours differ.
        let now = self.context.clock.now();
        let joined = started.map_or(now, |started| started.max(now)).to_string();
        tracing::info!(machine = %self.key, "machine has joined its cluster");
        annotate(
            self.context,
            &machine.namespace,
            &machine.name,
            &[(labels::JOINED, Some(joined))],
        )
        .await
    }

    fn desired_node(&self) -> DesiredNode {
        let (observed, machine) = (&self.context.observed, self.machine);
        let mut all = observed
            .clusters
            .get("", &machine.namespace)
            .map(|c| c.spec.node_labels.clone())
            .unwrap_or_default();
        if let Some(pool) = self.pool {
            all.extend(pool.spec.node_labels.clone());
        }
        all.insert(labels::POOL.into(), machine.pool.clone());
        if let Some(kind) = self
            .vm
            .spec
            .instancetype
            .as_ref()
            .map(|m| unpinned_name(&m.name).to_owned())
            .filter(|name| !name.is_empty())
        {
            all.insert(labels::INSTANCE_TYPE.into(), kind);
        }
        // Between two boots, and while the infra node is not seen yet, where the machine is is unknown and not nowhere.
        let place = machine.infra_node().filter(|on| observed.nodes.get("", on).is_some());
        DesiredNode {
            machine: self.vm.name_any(),
            addresses: machine
                .instance
                .as_ref()
                .map(|instance| instance.addresses.clone())
                .unwrap_or_default(),
            labels: all,
            topology: place.map(|on| {
                let (zone, region) = observed.zone_of(on);
                Topology { zone, region }
            }),
            annotations: self
                .pool
                .map(|pool| pool.spec.node_annotations.clone())
                .unwrap_or_default(),
            taints: self.pool.map(|pool| pool.spec.node_taints.clone()).unwrap_or_default(),
        }
    }
}
