//! What is done next about a migration, by what is seen of it.

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use steading_infra::kubevirt::{migration::MigrationPhase, virtual_machine_instance::MigrationState};

use super::super::{is_over, phase};

/// How far a target pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Waits,
    Runs,
    Ended,
}

impl Target {
    pub(super) fn of(pod: &Pod) -> Self {
        match phase(pod) {
            _ if is_over(pod) => Self::Ended,
            "Running" if pod.metadata.deletion_timestamp.is_none() => Self::Runs,
            _ => Self::Waits,
        }
    }
}

/// What is seen of a migration.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) phase: MigrationPhase,
    /// Nothing was ever told of it.
    pub(super) fresh: bool,
    pub(super) canceled: bool,
    pub(super) migratable: bool,
    pub(super) target: Option<Target>,
    /// The plugged volumes have reached the target's node, or there are none.
    pub(super) attached: bool,
    /// They are on their way.
    pub(super) attaching: bool,
    pub(super) state: Option<MigrationState>,
}

/// What is done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Wait,
    Tell(MigrationPhase),
    MakeTarget,
    /// The plugged volumes are brought to the target's node.
    Attach,
    HandOver,
    /// Nothing was handed over yet: the target pod goes.
    CallOff,
    /// The nodes are asked to give up.
    Abort,
}

impl Seen {
    pub(super) fn next(&self) -> Next {
        use MigrationPhase as Phase;
        let early = matches!(self.phase, Phase::Pending | Phase::Scheduling | Phase::Scheduled);
        let told = |field: &str| self.state.as_ref().is_some_and(|state| present(&state.other, field));
        let failed = self.state.as_ref().is_some_and(|state| state.failed == Some(true));
        match (&self.phase, self.target) {
            (Phase::Pending, _) if self.fresh && !self.migratable => Next::Tell(Phase::Failed),
            (Phase::Pending, _) if self.fresh => Next::Tell(Phase::Pending),
            _ if self.canceled && early && self.state.is_none() => Next::CallOff,
            _ if failed => Next::Tell(Phase::Failed),
            (Phase::Pending, None) => Next::MakeTarget,
            (_, Some(Target::Ended) | None) if self.phase != Phase::Running || self.state.is_none() => {
                Next::Tell(Phase::Failed)
            }
            (Phase::Pending, Some(Target::Runs)) if !self.attaching => Next::Attach,
            (Phase::Pending, _) if self.attached => Next::Tell(Phase::Scheduling),
            (Phase::Scheduling, Some(Target::Runs)) if self.attached => Next::Tell(Phase::Scheduled),
            (Phase::Scheduled, _) if self.state.is_some() => Next::Tell(Phase::PreparingTarget),
            (Phase::Scheduled, Some(Target::Runs)) => Next::HandOver,
            (Phase::PreparingTarget, _) if told("targetNodeAddress") => Next::Tell(Phase::TargetReady),
            (Phase::TargetReady, _) if self.state.as_ref().is_some_and(|state| state.start_timestamp.is_some()) => {
                Next::Tell(Phase::Running)
            }
            (Phase::Running, _) => self.while_running(told("abortRequested")),
            _ => Next::Wait,
        }
    }

    fn while_running(&self, asked: bool) -> Next {
        match &self.state {
            Some(state) if state.completed == Some(true) => Next::Tell(MigrationPhase::Succeeded),
            Some(_) if self.canceled && !asked => Next::Abort,
            Some(_) => Next::Wait,
            None => Next::Tell(MigrationPhase::Failed),
        }
    }
}

fn present(fields: &std::collections::BTreeMap<String, Value>, name: &str) -> bool {
    fields.get(name).is_some_and(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mk_seen(phase: MigrationPhase, target: Option<Target>) -> Seen {
        Seen {
            phase,
            fresh: false,
            canceled: false,
            migratable: true,
            target,
            attached: true,
            attaching: true,
            state: None,
        }
    }

    fn mk_state(state: Value) -> Option<MigrationState> {
        serde_json::from_value(state).unwrap()
    }

    #[test]
    fn a_migration_follows_its_target_pod_and_then_the_nodes() {
        use MigrationPhase as Phase;
        let table = [
            (Phase::Pending, None, json!(null), Next::MakeTarget),
            (
                Phase::Pending,
                Some(Target::Waits),
                json!(null),
                Next::Tell(Phase::Scheduling),
            ),
            (Phase::Scheduling, Some(Target::Waits), json!(null), Next::Wait),
            (
                Phase::Scheduling,
                Some(Target::Runs),
                json!(null),
                Next::Tell(Phase::Scheduled),
            ),
            (Phase::Scheduling, None, json!(null), Next::Tell(Phase::Failed)),
            (
                Phase::Scheduled,
                Some(Target::Runs),
                json!({}),
                Next::Tell(Phase::PreparingTarget),
            ),
            (Phase::Scheduled, Some(Target::Runs), json!(null), Next::HandOver),
            (Phase::PreparingTarget, Some(Target::Runs), json!({}), Next::Wait),
            (
                Phase::PreparingTarget,
                Some(Target::Runs),
                json!({ "targetNodeAddress": "x" }),
                Next::Tell(Phase::TargetReady),
            ),
            (
                Phase::TargetReady,
                Some(Target::Runs),
                json!({ "startTimestamp": "2026-01-01T00:00:00Z" }),
                Next::Tell(Phase::Running),
            ),
            (Phase::Running, Some(Target::Runs), json!({}), Next::Wait),
            (
                Phase::Running,
                Some(Target::Runs),
                json!({ "completed": true }),
                Next::Tell(Phase::Succeeded),
            ),
            (
                Phase::Running,
                Some(Target::Runs),
                json!({ "failed": true }),
                Next::Tell(Phase::Failed),
            ),
        ];
        for (phase, target, state, expected) in table {
            let seen = Seen {
                state: mk_state(state),
                ..mk_seen(phase, target)
            };
            assert_eq!(seen.next(), expected, "{seen:?}");
        }
    }

    #[test]
    fn plugged_volumes_come_along_before_the_guest() {
        use MigrationPhase as Phase;
        let waits = Seen {
            attached: false,
            attaching: false,
            ..mk_seen(Phase::Pending, Some(Target::Waits))
        };
        assert_eq!(waits.next(), Next::Wait);
        let runs = Seen {
            target: Some(Target::Runs),
            ..waits
        };
        assert_eq!(runs.next(), Next::Attach);
        assert_eq!(
            Seen {
                attaching: true,
                ..runs
            }
            .next(),
            Next::Wait
        );
    }

    #[test]
    fn a_deleted_migration_is_called_off_or_aborted() {
        use MigrationPhase as Phase;
        let early = Seen {
            canceled: true,
            ..mk_seen(Phase::Scheduling, Some(Target::Runs))
        };
        assert_eq!(early.next(), Next::CallOff);
        let late = Seen {
            state: mk_state(json!({})),
            ..Seen {
                phase: Phase::Running,
                ..early
            }
        };
        assert_eq!(late.next(), Next::Abort);
        assert_eq!(
            Seen {
                state: mk_state(json!({ "abortRequested": true })),
                ..late
            }
            .next(),
            Next::Wait
        );
    }
}
