//! Machine pools.

use k8s_openapi::{api::core::v1::Taint, apimachinery::pkg::util::intstr::IntOrString};
use kube::ResourceExt;
use steading_api::lifecycle::v1::{
    AutoscalingBounds, EvictionPolicy, HealthPolicy, MachinePool as Message, NodeTaint, RolloutStrategy,
    eviction_policy::OnTimeout, health_policy::Repair as ProtoRepair, machine_pool::State, node_taint::Effect,
    rollout_strategy::Trigger,
};
use steading_infra::crd::{
    MachinePool,
    machine_pool::{
        AutoscalingSpec, EvictionSpec, HealthSpec, MachinePoolSpec, OnDrainTimeout, Repair, RolloutSpec, RolloutTrigger,
    },
};
use steading_model::{
    ids::Id,
    name::{MachinePoolName, MachineTemplateName, PlacementPolicyName, Scope},
    violation::Violations,
};
use steading_runtime::standard::condition;

use super::{duration, seconds};
use crate::domain::pool::validate;

/// The resource of an object; `None` if it is not one of these.
pub fn message(object: &MachinePool) -> Option<Message> {
    let name = MachinePoolName::from_object(&object.namespace()?, &object.name_any())?;
    let (spec, status) = (&object.spec, object.status.clone().unwrap_or_default());
    let terminating = object.metadata.deletion_timestamp.is_some();
    let state = match (terminating, status.phase.as_deref()) {
        (true, _) => State::Deleting,
        (_, Some("Ready")) => State::Ready,
        (_, Some("Rolling")) => State::Rolling,
        (_, Some("Degraded")) => State::Degraded,
        (_, Some("Rejected")) => State::Rejected,
        (_, _) => State::Scaling,
    };
    let template = Id::parse(spec.machine_template.clone())
        .ok()
        .map(|id| MachineTemplateName::new(name.cluster.project.clone(), id));
    let settled =
        matches!(state, State::Ready | State::Rejected) && status.observed_generation == object.metadata.generation;
    Some(Message {
        name: name.to_string(),
        state: state.into(),
        conditions: status.conditions.iter().map(condition).collect(),
        reconciling: !settled,
        replicas: spec.replicas.or(status.desired_replicas).unwrap_or_default(),
        machine_template: template.map(|template| template.to_string()).unwrap_or_default(),
        machine_template_revision: spec.machine_template_revision.clone(),
        placement_policy: PlacementPolicyName::from_object_name(&spec.placement_policy)
            .map(|policy| policy.to_string())
            .unwrap_or_default(),
        kubernetes_version: spec.kubernetes_version.clone(),
        rollout: Some(rollout(&spec.rollout)).filter(|rollout| *rollout != RolloutStrategy::default()),
        autoscaling: spec.autoscaling.map(|b| AutoscalingBounds {
            min_replicas: b.min_replicas,
            max_replicas: b.max_replicas,
        }),
        eviction: Some(eviction(&spec.eviction)).filter(|eviction| *eviction != EvictionPolicy::default()),
        node_labels: spec.node_labels.clone().into_iter().collect(),
        node_annotations: spec.node_annotations.clone().into_iter().collect(),
        node_taints: spec.node_taints.iter().map(taint).collect(),
        rollout_paused: spec.rollout.paused,
        health: Some(health(&spec.health)).filter(|health| *health != HealthPolicy::default()),
        current_replicas: status.replicas,
        ready_replicas: status.ready_replicas,
        updated_replicas: status.updated_replicas,
        deleting_replicas: status.deleting_replicas,
        revision: status.revision.unwrap_or_default(),
        resolved_machine_template_revision: status.template_revision.unwrap_or_default(),
        machine_vcpus: status.machine_vcpus.unwrap_or_default(),
        machine_memory: status.machine_memory.unwrap_or_default(),
        ..Message::default()
    })
}

fn share_text(value: Option<&IntOrString>) -> String {
    match value {
        None => String::new(),
        Some(IntOrString::Int(number)) => number.to_string(),
        Some(IntOrString::String(text)) => text.clone(),
    }
}

fn share(text: &str) -> Option<IntOrString> {
    (!text.is_empty()).then(|| {
        text.parse()
            .map_or_else(|_| IntOrString::String(text.to_owned()), IntOrString::Int)
    })
}

fn rollout(spec: &RolloutSpec) -> RolloutStrategy {
    RolloutStrategy {
        max_surge: share_text(spec.max_surge.as_ref()),
        max_unavailable: share_text(spec.max_unavailable.as_ref()),
        min_ready: duration(spec.min_ready_seconds),
        trigger: match spec.trigger {
            RolloutTrigger::OnChange => Trigger::Unspecified,
            RolloutTrigger::OnDelete => Trigger::OnDelete,
        }
        .into(),
    }
}

fn eviction(spec: &EvictionSpec) -> EvictionPolicy {
    EvictionPolicy {
        drain_timeout: duration(spec.drain_timeout_seconds),
        on_timeout: match spec.on_timeout {
            OnDrainTimeout::Report => OnTimeout::Unspecified,
            OnDrainTimeout::Force => OnTimeout::Force,
        }
        .into(),
        detach_timeout: duration(spec.detach_timeout_seconds),
        pod_grace_period_seconds: spec.pod_grace_period_seconds.and_then(|s| i32::try_from(s).ok()),
    }
}

fn health(spec: &HealthSpec) -> HealthPolicy {
    HealthPolicy {
        join_timeout: duration(spec.join_timeout_seconds),
        unhealthy_after: duration(spec.unhealthy_after_seconds),
        repair: match spec.repair {
            Repair::None => ProtoRepair::Unspecified,
            Repair::Replace => ProtoRepair::Replace,
        }
        .into(),
        max_failures: spec.max_failures,
    }
}

fn taint(taint: &Taint) -> NodeTaint {
    NodeTaint {
        key: taint.key.clone(),
        value: taint.value.clone().unwrap_or_default(),
        effect: match taint.effect.as_str() {
            "NoSchedule" => Effect::NoSchedule,
            "PreferNoSchedule" => Effect::PreferNoSchedule,
            "NoExecute" => Effect::NoExecute,
            _ => Effect::Unspecified,
        }
        .into(),
    }
}

/// What a resource wants.
///
/// # Errors
/// The violations, with paths below the resource.
pub fn spec(name: &MachinePoolName, message: &Message) -> Result<MachinePoolSpec, Violations> {
    let mut found = Violations::new();
    let rollout = message.rollout.clone().unwrap_or_default();
    let eviction = message.eviction.unwrap_or_default();
    let health = message.health.unwrap_or_default();
    let spec = MachinePoolSpec {
        replicas: Some(message.replicas),
        machine_template: template(&mut found, name, &message.machine_template),
        machine_template_revision: message.machine_template_revision.clone(),
        placement_policy: policy(&mut found, name, &message.placement_policy),
        kubernetes_version: message.kubernetes_version.clone(),
        rollout: RolloutSpec {
            max_surge: share(&rollout.max_surge),
            max_unavailable: share(&rollout.max_unavailable),
            min_ready_seconds: seconds(&mut found, "rollout.min_ready", rollout.min_ready.as_ref()),
            trigger: if rollout.trigger() == Trigger::OnDelete {
                RolloutTrigger::OnDelete
            } else {
                RolloutTrigger::OnChange
            },
            paused: message.rollout_paused,
        },
        autoscaling: message.autoscaling.map(|b| AutoscalingSpec {
            min_replicas: b.min_replicas,
            max_replicas: b.max_replicas,
        }),
        eviction: EvictionSpec {
            drain_timeout_seconds: seconds(&mut found, "eviction.drain_timeout", eviction.drain_timeout.as_ref()),
            on_timeout: if eviction.on_timeout() == OnTimeout::Force {
                OnDrainTimeout::Force
            } else {
                OnDrainTimeout::Report
            },
            detach_timeout_seconds: seconds(&mut found, "eviction.detach_timeout", eviction.detach_timeout.as_ref()),
            pod_grace_period_seconds: eviction.pod_grace_period_seconds.map(i64::from),
        },
        health: HealthSpec {
            join_timeout_seconds: seconds(&mut found, "health.join_timeout", health.join_timeout.as_ref()),
            unhealthy_after_seconds: seconds(&mut found, "health.unhealthy_after", health.unhealthy_after.as_ref()),
            repair: if health.repair() == ProtoRepair::Replace {
                Repair::Replace
            } else {
                Repair::None
            },
            max_failures: health.max_failures,
        },
        node_labels: message.node_labels.clone().into_iter().collect(),
        node_annotations: message.node_annotations.clone().into_iter().collect(),
        node_taints: message.node_taints.iter().map(taint_spec).collect(),
    };
    for violation in validate(&spec) {
        found.add(violation.path, violation.description);
    }
    found.finish_with(Some(spec))
}

fn taint_spec(taint: &NodeTaint) -> Taint {
    Taint {
        key: taint.key.clone(),
        value: Some(taint.value.clone()).filter(|value| !value.is_empty()),
        effect: match taint.effect() {
            Effect::Unspecified => String::new(),
            Effect::NoSchedule => "NoSchedule".into(),
            Effect::PreferNoSchedule => "PreferNoSchedule".into(),
            Effect::NoExecute => "NoExecute".into(),
        },
        ..Taint::default()
    }
}

fn template(found: &mut Violations, pool: &MachinePoolName, text: &str) -> String {
    if text.is_empty() {
        // The rule that it must be set is told by the domain.
        return String::new();
    }
    match text.parse::<MachineTemplateName>() {
        Ok(name) if name.project == pool.cluster.project => name.template.to_string(),
        Ok(_) => {
            found.add("machine_template", "must be a template of the pool's own project");
            text.to_owned()
        }
        Err(error) => {
            found.add("machine_template", error.describe());
            text.to_owned()
        }
    }
}

fn policy(found: &mut Violations, pool: &MachinePoolName, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    match text.parse::<PlacementPolicyName>() {
        Ok(name) if name.scope == Scope::Shared || name.scope.project() == Some(&pool.cluster.project) => {
            name.object_name()
        }
        Ok(_) => {
            found.add(
                "placement_policy",
                "must be a shared policy or one of the pool's own project",
            );
            String::new()
        }
        Err(error) => {
            found.add("placement_policy", error.describe());
            String::new()
        }
    }
}
