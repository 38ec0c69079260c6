//! How a VM's state is told: the word for people, and the conditions. Pure but for the clock.

use steading_infra::{
    cdi::{DataVolume, DataVolumePhase},
    kubevirt::{
        VirtualMachine, VirtualMachineInstance, condition, condition_is_true,
        virtual_machine::{PrintableStatus, RunStrategy, VirtualMachineStatus},
        virtual_machine_instance::{MigrationState, VmiPhase},
    },
};
use steading_kubesim::Key;

use super::super::Virt;
use crate::behaviour::{
    Context,
    virt::status::{clear, set},
};

/// Conditions of a VM that are not its VMI's.
const OWN: [&str; 3] = ["Ready", "Failure", "RestartRequired"];

/// How far the volumes of a VM are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Volumes {
    /// One could not be filled.
    failed: bool,
    /// One is being filled.
    filling: bool,
    /// The claim of one is not bound.
    unbound: bool,
}

impl Virt {
    pub(super) fn volumes_of(&self, key: &Key, vm: &VirtualMachine) -> Volumes {
        let mut found = Volumes::default();
        let volumes = vm.spec.template.iter().flat_map(|template| &template.spec.volumes);
        for claim in volumes.filter_map(|volume| volume.claim_name()) {
            let claim = Key::new(&key.namespace, claim);
            match self.volumes.get(&claim).as_deref().map(phase) {
                Some(Some(DataVolumePhase::Failed)) => found.failed = true,
                Some(Some(DataVolumePhase::Succeeded)) | None => {}
                Some(_) => found.filling = true,
            }
            let bound = |status: &k8s_openapi::api::core::v1::PersistentVolumeClaimStatus| {
                status.phase.as_deref() == Some("Bound")
            };
            let claim = self.claims.get(&claim);
            found.unbound |= claim.is_some_and(|claim| !claim.status.as_ref().is_some_and(bound));
        }
        found
    }
}

fn phase(volume: &DataVolume) -> Option<DataVolumePhase> {
    volume.status.as_ref().and_then(|status| status.phase.clone())
}

/// The first word that fits.
pub(super) fn word(
    status: &VirtualMachineStatus,
    strategy: &RunStrategy,
    vmi: Option<&VirtualMachineInstance>,
    volumes: Volumes,
) -> PrintableStatus {
    let of_vmi = vmi.and_then(|vmi| vmi.status.clone()).unwrap_or_default();
    let over = vmi.is_some_and(is_over);
    let says_no = |type_: &str, reason: &str| {
        let found = condition(&of_vmi.conditions, type_).filter(|found| found.status == "False");
        found.is_some_and(|found| found.reason.as_deref() == Some(reason))
    };
    let restarts = matches!(
        strategy,
        RunStrategy::Always | RunStrategy::RerunOnFailure | RunStrategy::Once
    );
    match vmi {
        Some(vmi) if vmi.metadata.deletion_timestamp.is_some() && !over => PrintableStatus::Stopping,
        Some(vmi) if is_migrating(vmi) => PrintableStatus::Migrating,
        Some(_) if of_vmi.phase == Some(VmiPhase::Running) => PrintableStatus::Running,
        _ if says_no("Synchronized", "FailedPvcNotFound") => PrintableStatus::ErrorPvcNotFound,
        _ if volumes.failed => PrintableStatus::DataVolumeError,
        _ if says_no("PodScheduled", "Unschedulable") => PrintableStatus::ErrorUnschedulable,
        _ if volumes.filling => PrintableStatus::Provisioning,
        _ if volumes.unbound && *strategy != RunStrategy::Halted => PrintableStatus::WaitingForVolumeBinding,
        Some(_) if !over => PrintableStatus::Starting,
        _ if status.start_failure.is_some() && restarts => PrintableStatus::CrashLoopBackOff,
        _ => PrintableStatus::Stopped,
    }
}

/// Whether a VMI has ended.
pub(super) fn is_over(vmi: &VirtualMachineInstance) -> bool {
    let phase = vmi.status.as_ref().and_then(|status| status.phase.as_ref());
    phase.is_some_and(VmiPhase::is_final)
}

/// Whether a migration of the VMI has begun and not ended.
pub(super) fn is_migrating(vmi: &VirtualMachineInstance) -> bool {
    let state = vmi.status.as_ref().and_then(|status| status.migration_state.as_ref());
    state.is_some_and(MigrationState::is_under_way)
}

/// Whether a VMI says that it is ready.
pub(super) fn is_ready(vmi: &VirtualMachineInstance) -> bool {
    let status = vmi.status.as_ref();
    status.is_some_and(|status| condition_is_true(&status.conditions, "Ready"))
}

/// Takes the VMI's conditions over. Without a VMI those that are there stay as they are.
pub(super) fn conditions(context: &Context, status: &mut VirtualMachineStatus, vmi: Option<&VirtualMachineInstance>) {
    let all = &mut status.conditions;
    let Some(vmi) = vmi else {
        set(context, all, "Ready", "False", "VMINotExists", "VMI does not exist");
        return;
    };
    let of_vmi = vmi.status.clone().unwrap_or_default().conditions;
    if condition(&of_vmi, "Ready").is_none() {
        let message = "VMI is missing the Ready condition";
        set(context, all, "Ready", "False", "VMIConditionMissing", message);
    }
    for found in of_vmi
        .iter()
        .filter(|found| !matches!(found.type_.as_str(), "Failure" | "RestartRequired"))
    {
        let (reason, message) = (found.reason.as_deref(), found.message.as_deref());
        let (reason, message) = (reason.unwrap_or_default(), message.unwrap_or_default());
        set(context, all, &found.type_, &found.status, reason, message);
    }
    let gone: Vec<String> = all
        .iter()
        .map(|found| found.type_.clone())
        .filter(|type_| !OWN.contains(&type_.as_str()) && condition(&of_vmi, type_).is_none())
        .collect();
    for type_ in &gone {
        clear(all, type_);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use steading_infra::{
        kubevirt::Condition,
        samples::{mk_condition, mk_running_vmi},
    };

    use super::*;

    fn mk_vmi(phase: VmiPhase, conditions: Vec<Condition>) -> VirtualMachineInstance {
        let mut vmi = mk_running_vmi("ns", "m", "infra-1", "10.0.0.1");
        let status = vmi.status.as_mut().unwrap();
        (status.phase, status.conditions) = (Some(phase), conditions);
        vmi
    }

    fn mk_refusal(type_: &str, reason: &str) -> Condition {
        Condition {
            reason: Some(reason.to_owned()),
            ..mk_condition(type_, "False")
        }
    }

    #[rstest]
    #[case(None, Volumes::default(), PrintableStatus::Stopped)]
    #[case(None, Volumes { filling: true, ..Volumes::default() }, PrintableStatus::Provisioning)]
    #[case(None, Volumes { failed: true, filling: true, ..Volumes::default() }, PrintableStatus::DataVolumeError)]
    #[case(None, Volumes { unbound: true, ..Volumes::default() }, PrintableStatus::WaitingForVolumeBinding)]
    #[case(Some(mk_vmi(VmiPhase::Scheduling, vec![])), Volumes::default(), PrintableStatus::Starting)]
    #[case(Some(mk_vmi(VmiPhase::Running, vec![])), Volumes { filling: true, ..Volumes::default() }, PrintableStatus::Running)]
    #[case(Some(mk_vmi(VmiPhase::Succeeded, vec![])), Volumes::default(), PrintableStatus::Stopped)]
    #[case(
        Some(mk_vmi(VmiPhase::Scheduling, vec![mk_refusal("PodScheduled", "Unschedulable")])),
        Volumes::default(),
        PrintableStatus::ErrorUnschedulable
    )]
    #[case(
        Some(mk_vmi(VmiPhase::Pending, vec![mk_refusal("Synchronized", "FailedPvcNotFound")])),
        Volumes::default(),
        PrintableStatus::ErrorPvcNotFound
    )]
    fn the_first_word_that_fits_is_told(
        #[case] vmi: Option<VirtualMachineInstance>,
        #[case] volumes: Volumes,
        #[case] wanted: PrintableStatus,
    ) {
        let status = VirtualMachineStatus::default();
        assert_eq!(word(&status, &RunStrategy::Always, vmi.as_ref(), volumes), wanted);
    }
}
