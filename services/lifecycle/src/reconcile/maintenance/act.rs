//! The steps of a maintenance as requests.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Node, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{ResourceExt, api::Preconditions};
use serde_json::{Value, json};
use steading_infra::{
    apply::{self, FieldManager},
    crd::Maintenance,
    error::{InfraError, optional},
    kubevirt::{
        VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceMigration,
        migration::VirtualMachineInstanceMigrationSpec, virtual_machine_instance::VmiPhase,
    },
    labels,
};

use crate::{
    apply::drain::{drain, set_cordon},
    context::Context,
    error::Error,
    plan::{
        digest::short_digest,
        drain::{Cordon, DetachWait, DrainPolicy, DrainStep},
        evacuation::MachineKey,
        maintenance::{Action, ObservedMaintenance},
    },
    reconcile::evacuation::{How, remember},
};

const MANAGER: FieldManager = FieldManager::Lifecycle;

pub(super) async fn act(context: &Context, seen: &ObservedMaintenance, action: &Action) -> Result<(), Error> {
    let node = seen.spec.infra_node.as_str();
    match action {
        Action::Hold { maintenance } => {
            apply::add_finalizer(
                &context.all::<Maintenance>(),
                MANAGER,
                maintenance,
                labels::MAINTENANCE_FINALIZER,
            )
            .await?;
        }
        Action::Release { maintenance } => {
            apply::remove_finalizer(
                &context.all::<Maintenance>(),
                MANAGER,
                maintenance,
                labels::MAINTENANCE_FINALIZER,
            )
            .await?;
        }
        Action::Cordon { node, maintenance } => {
            let patch = json!({
                "metadata": {"annotations": {labels::CORDONED_BY: maintenance}},
                "spec": {"unschedulable": true},
            });
            patch_node(context, node, &patch).await?;
        }
        Action::Uncordon { node } => {
            let patch = json!({
                "metadata": {"annotations": {labels::CORDONED_BY: null}},
                "spec": {"unschedulable": null},
            });
            patch_node(context, node, &patch).await?;
        }
        Action::Migrate {
            key,
            maintenance,
            attempt,
            instance_uid,
        } => {
            migrate(context, key, maintenance, *attempt, instance_uid).await?;
            remember(context, key, node, How::Migration);
        }
        Action::Replace {
            key,
            maintenance,
            force_after_seconds,
        } => {
            let mut annotations =
                json!({labels::REPLACE_REQUESTED: format!("maintenance {maintenance} of infra node {node}")});
            if let Some(seconds) = force_after_seconds {
                annotations[labels::DRAIN_FORCE_AFTER] = seconds.to_string().into();
            }
            annotate(context, key, annotations).await?;
            remember(context, key, node, How::Replacement);
        }
        Action::Restart {
            key,
            maintenance,
            instance_uid,
            force_after_seconds,
        } => {
            restart(context, node, key, maintenance, instance_uid, *force_after_seconds).await?;
        }
        Action::CancelMark { key, node } => cancel_mark(context, key, node).await?,
    }
    Ok(())
}

async fn patch_node(context: &Context, node: &str, patch: &Value) -> Result<(), Error> {
    let patched = apply::patch_merge(&context.all::<Node>(), MANAGER, node, patch).await;
    match patched {
        Ok(_) | Err(InfraError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn annotate(context: &Context, key: &MachineKey, annotations: Value) -> Result<(), Error> {
    let api = context.namespaced::<VirtualMachine>(&key.namespace);
    let patch = json!({"metadata": {"annotations": annotations}});
    match apply::patch_merge(&api, MANAGER, &key.machine, &patch).await {
        Ok(_) | Err(InfraError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Creates the migration of one attempt; its name makes a repetition harmless.
async fn migrate(context: &Context, key: &MachineKey, maintenance: &str, attempt: i32, uid: &str) -> Result<(), Error> {
    let suffix = short_digest(&format!("{maintenance}/{uid}/{attempt}"), 5);
    let machine: String = key.machine.chars().take(48).collect();
    let name = format!("{machine}-{suffix}");
    let spec = VirtualMachineInstanceMigrationSpec {
        vmi_name: key.machine.clone(),
        ..Default::default()
    };
    let mut object = VirtualMachineInstanceMigration::new(&name, spec);
    object.metadata = ObjectMeta {
        labels: Some(
            [
                (labels::MANAGED_BY, labels::MANAGED_BY_STEADING),
                (labels::MAINTENANCE, maintenance),
                (labels::MACHINE, key.machine.as_str()),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        ),
        ..object.metadata
    };
    let api = context.namespaced::<VirtualMachineInstanceMigration>(&key.namespace);
    match apply::create(&api, MANAGER, &object).await {
        Ok(_) => Ok(()),
        Err(InfraError::AlreadyExists(_)) => {
            // Ours of an earlier pass, or one that brought the machine away before it came back: that one makes room.
            let found = optional(api.get(&name).await)?;
            let over = found
                .and_then(|one| one.status?.phase)
                .is_some_and(|phase| phase.is_final());
            if over {
                apply::delete(&api, &name, None).await?;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Marks the VM, drains its tenant node if a guest runs, then ends the VMI: the VM makes a new one elsewhere.
async fn restart(
    context: &Context,
    node: &str,
    key: &MachineKey,
    maintenance: &str,
    instance_uid: &str,
    force_after_seconds: Option<i64>,
) -> Result<(), Error> {
    let machines = context.namespaced::<VirtualMachine>(&key.namespace);
    let Some(vm) = optional(machines.get(&key.machine).await)? else {
        return Ok(());
    };
    let mark = vm
        .annotations()
        .get(labels::EVACUATION)
        .and_then(|value| started_of(value));
    let started = if let Some(started) = mark {
        started
    } else {
        let now = context.clock.now();
        let mark = json!({labels::EVACUATION: format!("{maintenance}@{now}")});
        annotate(context, key, mark).await?;
        remember(context, key, node, How::Restart);
        now
    };
    let instances = context.namespaced::<VirtualMachineInstance>(&key.namespace);
    let Some(vmi) = optional(instances.get(&key.machine).await)? else {
        return Ok(());
    };
    let status = vmi.status.clone().unwrap_or_default();
    if vmi.uid().as_deref() != Some(instance_uid) || status.node_name.as_deref() != Some(node) {
        return Ok(());
    }
    if matches!(status.phase, Some(VmiPhase::Running | VmiPhase::Unknown)) {
        let force = force_after_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs);
        let policy = DrainPolicy {
            force_after: force,
            detach: DetachWait::Skip,
            ..DrainPolicy::default()
        };
        let step = drain(context, &key.namespace, &key.machine, &policy, started).await?;
        if !matches!(step, DrainStep::Done(_)) {
            return Ok(());
        }
    }
    let only = Preconditions {
        uid: Some(instance_uid.to_owned()),
        resource_version: None,
    };
    match apply::delete(&instances, &key.machine, Some(only)).await {
        Ok(()) | Err(InfraError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// When a restart began, from the mark on the VM.
fn started_of(mark: &str) -> Option<Timestamp> {
    mark.split_once('@')?.1.parse().ok()
}

/// Machines that were restarted and run elsewhere: their tenant nodes take pods again, and the mark comes off.
pub(super) async fn finish_restarts(context: &Context) {
    for vm in context.observed.vms.all() {
        let Some(mark) = vm.annotations().get(labels::EVACUATION) else {
            continue;
        };
        let key = MachineKey {
            namespace: vm.namespace().unwrap_or_default(),
            machine: vm.name_any(),
        };
        let maintenance = mark.split_once('@').map_or(mark.as_str(), |(name, _)| name);
        let left = context
            .observed
            .maintenances
            .get("", maintenance)
            .map(|one| one.spec.infra_node.clone());
        let vmi = context.observed.vmis.get(&key.namespace, &key.machine);
        let Some(status) = vmi.as_ref().and_then(|vmi| vmi.status.as_ref()) else {
            continue;
        };
        let elsewhere = status.node_name.is_some() && status.node_name != left;
        if !elsewhere || status.phase != Some(VmiPhase::Running) {
            continue;
        }
        let Some(tenant) = context
            .observed
            .tenant(&key.namespace)
            .filter(|tenant| tenant.is_reachable())
        else {
            continue;
        };
        let Some(client) = tenant
            .client()
            .filter(|_| tenant.nodes.get("", &key.machine).is_some_and(|node| is_ready(&node)))
        else {
            continue;
        };
        let done = async {
            set_cordon(&client, &key.machine, Cordon::Schedulable)
                .await
                .map_err(|source| Error::Tenant {
                    cluster: key.namespace.clone(),
                    source,
                })?;
            annotate(
                context,
                &key,
                json!({labels::EVACUATION: null, labels::DRAIN_PROGRESS: null}),
            )
            .await
        };
        if let Err(error) = done.await {
            tracing::warn!(machine = %key, error = %steading_runtime::tasks::Chain(&error), "a restarted machine is still marked");
        }
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|one| one.type_ == "Ready" && one.status == "True")
}

/// Takes an eviction's mark back by KubeVirt's own subresource.
pub(super) async fn cancel_mark(context: &Context, key: &MachineKey, node: &str) -> Result<(), Error> {
    let path = format!(
        "/apis/subresources.kubevirt.io/v1/namespaces/{}/virtualmachineinstances/{}/evacuate/cancel",
        key.namespace, key.machine
    );
    let body = serde_json::to_vec(&json!({"evacuationNodeName": node})).unwrap_or_default();
    let request = http::Request::put(path)
        .header("content-type", "application/json")
        .body(body)
        .map_err(|error| Error::Malformed(format!("request for evacuate/cancel: {error}")))?;
    match context.kube.request_text(request).await.map_err(InfraError::from) {
        Ok(_) | Err(InfraError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
