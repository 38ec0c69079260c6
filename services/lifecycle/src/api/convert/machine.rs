//! Machines.

use jiff::Timestamp;
use kube::ResourceExt;
use steading_api::{
    convert::timestamp,
    lifecycle::v1::{DrainProgress, Machine as Message, machine::State},
    types::v1::{Condition, ConditionStatus},
};
use steading_infra::{intent::Action, kubevirt::VirtualMachine, labels};
use steading_model::name::{ClusterName, InstanceTypeName, MachineName, unpinned_name};

use crate::{
    context::Context,
    domain::machine::{ObservedMachine, ObservedNode, Phase, PhaseReport},
    observe::machine::{observe_machine, patience_of, stored_progress},
    plan::node::provider_id,
};

/// The resource of a VirtualMachine with all that is seen of it; `None` if it is not one of these.
pub fn message(context: &Context, vm: &VirtualMachine) -> Option<Message> {
    let namespace = vm.namespace()?;
    if !vm.labels().contains_key(labels::MACHINE) {
        return None;
    }
    let name = MachineName::from_object(&namespace, &vm.name_any())?;
    let (observed, now) = (&context.observed, context.clock.now());
    let machine = observe_machine(observed, vm, now);
    let pool = observed.pools.get(&namespace, &machine.pool);
    let wanted = pool.as_ref().and_then(|pool| pool.status.as_ref()?.revision.clone());
    // The replica that drains knows best; the others go by what it wrote.
    let mine = context
        .memory
        .lock()
        .drains
        .get(&(namespace, machine.name.clone()))
        .cloned();
    let stored = || machine.drain_started.and_then(|started| stored_progress(vm, started));
    let progress = mine.or_else(stored).unwrap_or_default();
    let detaching = progress.detaching_since.is_some();
    let report = machine.phase(&patience_of(pool.as_deref()), detaching, now);
    let vmi = machine.instance.clone().unwrap_or_default();
    let (zone, region) = vmi
        .infra_node
        .as_deref()
        .map(|node| observed.zone_of(node))
        .unwrap_or_default();
    let status = pool.as_ref().and_then(|pool| pool.status.clone()).unwrap_or_default();
    let (node_ready, kubelet, node_name) = match &machine.node {
        ObservedNode::Present { ready, kubelet, .. } => (*ready, kubelet.clone(), machine.name.clone()),
        ObservedNode::Absent | ObservedNode::Unknown => (false, String::new(), String::new()),
    };
    let drain = machine.wants_cordon().then(|| DrainProgress {
        start_time: machine.drain_started.map(timestamp),
        pods_remaining: i32::try_from(progress.remaining).unwrap_or(i32::MAX),
        stalled_reason: progress
            .stalled
            .map(|stall| format!("{}: {}", stall.reason, stall.message))
            .unwrap_or_default(),
    });
    Some(Message {
        machine_pool: pool_name(&name.cluster, &machine.pool),
        name: name.to_string(),
        state: state(report.phase).into(),
        conditions: conditions(&machine, &report),
        reconciling: report.phase != Phase::Running || machine.wants(Action::Replace),
        state_reason: report.reason.into(),
        state_message: report.message,
        infra_node: vmi
            .infra_node
            .as_ref()
            .map(|node| format!("infraNodes/{node}"))
            .unwrap_or_default(),
        zone: zone.unwrap_or_default(),
        region: region.unwrap_or_default(),
        addresses: vmi.addresses,
        provider_id: provider_id(&machine.name),
        node_name,
        node_ready,
        kubelet_version: kubelet,
        instance_type: vm
            .spec
            .instancetype
            .as_ref()
            .and_then(|matcher| InstanceTypeName::from_object_name(unpinned_name(&matcher.name)))
            .map(|name| name.to_string())
            .unwrap_or_default(),
        vcpus: status.machine_vcpus.unwrap_or_default(),
        memory: status.machine_memory.unwrap_or_default(),
        replace_requested: machine.wants(Action::Replace),
        drain_requested: machine.wants(Action::Drain),
        up_to_date: wanted.as_deref() == Some(machine.revision.as_str()),
        revision: machine.revision,
        drain,
        live_migratable: vmi.migratable,
        ..Message::default()
    })
}

fn pool_name(cluster: &ClusterName, pool: &str) -> String {
    format!("{cluster}/machinePools/{pool}")
}

fn state(phase: Phase) -> State {
    match phase {
        Phase::Pending => State::Pending,
        Phase::Provisioning => State::Provisioning,
        Phase::Booting => State::Booting,
        Phase::Running => State::Running,
        Phase::Migrating => State::Migrating,
        Phase::Draining => State::Draining,
        Phase::Detaching => State::Detaching,
        Phase::Deleting => State::Deleting,
        Phase::Unhealthy => State::Unhealthy,
        Phase::Failed => State::Failed,
        Phase::Stopped => State::Stopped,
        Phase::Unknown => State::Unknown,
    }
}

/// When the deletion of a machine was asked for, which begins with a drain.
pub fn asked_to_go(context: &Context, vm: &VirtualMachine) -> Option<Timestamp> {
    let machine = observe_machine(&context.observed, vm, context.clock.now());
    let deletes = machine.intents.iter().find(|intent| intent.action.deletes())?;
    deletes.details.since.or(machine.drain_started)
}

fn conditions(machine: &ObservedMachine, report: &PhaseReport) -> Vec<Condition> {
    let (status, reason, since) = match &machine.node {
        ObservedNode::Unknown => (ConditionStatus::Unknown, "TenantUnreachable", None),
        ObservedNode::Absent => (ConditionStatus::False, report.reason, None),
        ObservedNode::Present { ready: true, since, .. } => (ConditionStatus::True, "NodeReady", *since),
        ObservedNode::Present {
            ready: false, since, ..
        } => (ConditionStatus::False, "NodeNotReady", *since),
    };
    vec![Condition {
        r#type: "Ready".into(),
        status: status.into(),
        reason: reason.into(),
        message: report.message.clone(),
        last_transition_time: Some(timestamp(since.unwrap_or(machine.created))),
        ..Condition::default()
    }]
}
