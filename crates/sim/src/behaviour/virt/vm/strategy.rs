//! What a run strategy and the requests of subresources ask for. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::{Value, json};
use steading_infra::kubevirt::{
    VirtualMachineInstance,
    virtual_machine::{RunStrategy, VirtualMachineStatus},
    virtual_machine_instance::VmiPhase,
};

/// The longest pause between two starts that fail.
const LONGEST_PAUSE: i64 = 300;
/// The pause after the first failed start; it grows with the square of their number.
const FIRST_PAUSE: i64 = 10;

/// What is to be done about a VM's VMI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is made.
    Start,
    /// It is deleted; `rerun` asks for another one.
    Stop {
        /// Whether it is to be started again although its strategy would not.
        rerun: bool,
    },
    /// The strategy becomes Always.
    Always,
    /// It stays as it is.
    Nothing,
}

/// What the decision needs of a VMI.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    uid: String,
    phase: Option<VmiPhase>,
    going: bool,
}

impl Seen {
    pub(super) fn of(vmi: &VirtualMachineInstance) -> Self {
        Self {
            uid: vmi.uid().unwrap_or_default(),
            phase: vmi.status.as_ref().and_then(|status| status.phase.clone()),
            going: vmi.metadata.deletion_timestamp.is_some(),
        }
    }

    fn is_over(&self) -> bool {
        self.phase.as_ref().is_some_and(VmiPhase::is_final)
    }
}

/// What the first request asks for.
fn asks(status: &VirtualMachineStatus, action: &str) -> bool {
    let first = status.state_change_requests.first();
    first.is_some_and(|request| request["action"] == action)
}

/// Whether the first request is to stop this VMI.
fn asks_to_stop(status: &VirtualMachineStatus, vmi: &Seen) -> bool {
    let first = status.state_change_requests.first();
    first.is_some_and(|request| request["action"] == "Stop" && request["uid"] == vmi.uid.as_str())
}

/// Decides.
pub(super) fn step(strategy: &RunStrategy, status: &VirtualMachineStatus, vmi: Option<&Seen>) -> Step {
    let stop = |rerun: bool| Step::Stop { rerun };
    match (strategy, vmi) {
        (_, Some(vmi)) if vmi.going => Step::Nothing,
        (RunStrategy::Always, Some(vmi)) if asks_to_stop(status, vmi) || vmi.is_over() => stop(false),
        (RunStrategy::RerunOnFailure, Some(vmi)) if asks_to_stop(status, vmi) || vmi.is_over() => {
            stop(vmi.phase == Some(VmiPhase::Failed))
        }
        // From another strategy it is started; after a stop that was asked for it stays stopped.
        (RunStrategy::RerunOnFailure, None)
            if !asks(status, "Start") && status.run_strategy == Some(RunStrategy::RerunOnFailure) =>
        {
            Step::Nothing
        }
        (RunStrategy::Manual, Some(vmi)) if asks_to_stop(status, vmi) => stop(false),
        (RunStrategy::Manual, None) if asks(status, "Start") => Step::Start,
        (RunStrategy::Halted, Some(_)) => stop(false),
        (RunStrategy::Halted, None) if asks(status, "Start") => Step::Always,
        (RunStrategy::Always | RunStrategy::Once | RunStrategy::RerunOnFailure, None) => Step::Start,
        _ => Step::Nothing,
    }
}

/// Takes the first request away once it is fulfilled.
pub(super) fn trim(status: &mut VirtualMachineStatus, vmi: Option<&Seen>) {
    let Some(first) = status.state_change_requests.first() else {
        return;
    };
    let done = match first["action"].as_str() {
        Some("Stop") => vmi.is_none_or(|vmi| first["uid"] != vmi.uid.as_str()),
        Some("Start") => vmi.is_some_and(|vmi| !vmi.going && !vmi.is_over()),
        _ => false,
    };
    if done {
        status.state_change_requests.remove(0);
    }
}

/// Counts VMIs that end before they ever run; forgets them when one runs.
pub(super) fn count_failures(
    status: &mut VirtualMachineStatus,
    strategy: &RunStrategy,
    vmi: Option<&VirtualMachineInstance>,
    now: Timestamp,
) {
    let restarts = matches!(
        strategy,
        RunStrategy::Always | RunStrategy::RerunOnFailure | RunStrategy::Once
    );
    let ran = |vmi: &VirtualMachineInstance| {
        let status = vmi.status.as_ref();
        status.is_some_and(|status| {
            let phases = &status.phase_transition_timestamps;
            phases.iter().any(|entry| entry.phase == VmiPhase::Running)
        })
    };
    if !restarts || vmi.is_some_and(ran) {
        status.start_failure = None;
        return;
    }
    let Some(vmi) = vmi.map(Seen::of).filter(Seen::is_over) else {
        return;
    };
    let known = status.start_failure.take().unwrap_or_default();
    if known["lastFailedVMIUID"] == vmi.uid.as_str() {
        status.start_failure = Some(known);
        return;
    }
    let count = known["consecutiveFailCount"].as_i64().unwrap_or_default() + 1;
    let pause = (FIRST_PAUSE * count * count).min(LONGEST_PAUSE);
    let retry = now.saturating_add(SignedDuration::from_secs(pause)).unwrap_or(now);
    status.start_failure = Some(json!({
        "consecutiveFailCount": count, "lastFailedVMIUID": vmi.uid,
        "retryAfterTimestamp": retry.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    }));
}

/// How long the next start has to wait.
pub(super) fn backoff(status: &VirtualMachineStatus, now: Timestamp) -> Option<Duration> {
    let failure = status.start_failure.as_ref()?;
    let retry: Timestamp = failure
        .get("retryAfterTimestamp")
        .and_then(Value::as_str)?
        .parse()
        .ok()?;
    Duration::try_from(retry.duration_since(now))
        .ok()
        .filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn mk_seen(phase: VmiPhase) -> Seen {
        Seen {
            uid: "u".to_owned(),
            phase: Some(phase),
            going: false,
        }
    }

    fn mk_status(request: Option<Value>) -> VirtualMachineStatus {
        VirtualMachineStatus {
            state_change_requests: request.into_iter().collect(),
            ..VirtualMachineStatus::default()
        }
    }

    #[rstest]
    #[case(RunStrategy::Always, None, None, Step::Start)]
    #[case(RunStrategy::Always, Some(VmiPhase::Running), None, Step::Nothing)]
    #[case(RunStrategy::Always, Some(VmiPhase::Succeeded), None, Step::Stop { rerun: false })]
    #[case(RunStrategy::Always, Some(VmiPhase::Running), Some("Stop"), Step::Stop { rerun: false })]
    #[case(RunStrategy::Halted, Some(VmiPhase::Running), None, Step::Stop { rerun: false })]
    #[case(RunStrategy::Halted, None, Some("Start"), Step::Always)]
    #[case(RunStrategy::RerunOnFailure, Some(VmiPhase::Failed), None, Step::Stop { rerun: true })]
    #[case(RunStrategy::RerunOnFailure, None, None, Step::Start)]
    #[case(RunStrategy::Once, Some(VmiPhase::Succeeded), None, Step::Nothing)]
    #[case(RunStrategy::Manual, None, None, Step::Nothing)]
    #[case(RunStrategy::Manual, None, Some("Start"), Step::Start)]
    #[case(RunStrategy::Manual, Some(VmiPhase::Running), Some("Stop"), Step::Stop { rerun: false })]
    fn each_run_strategy_says_what_it_wants(
        #[case] strategy: RunStrategy,
        #[case] phase: Option<VmiPhase>,
        #[case] request: Option<&str>,
        #[case] wanted: Step,
    ) {
        let status = mk_status(request.map(|action| json!({ "action": action, "uid": "u" })));
        assert_eq!(step(&strategy, &status, phase.map(mk_seen).as_ref()), wanted);
    }

    #[test]
    fn a_request_stays_until_it_is_fulfilled() {
        let mut status = mk_status(Some(json!({ "action": "Stop", "uid": "u" })));
        trim(&mut status, Some(&mk_seen(VmiPhase::Running)));
        assert_eq!(status.state_change_requests.len(), 1);
        trim(&mut status, None);
        assert!(status.state_change_requests.is_empty());
    }

    #[test]
    fn stopped_as_asked_a_rerun_stays_stopped() {
        let mut status = mk_status(None);
        status.run_strategy = Some(RunStrategy::RerunOnFailure);
        assert_eq!(step(&RunStrategy::RerunOnFailure, &status, None), Step::Nothing);
    }
}
