//! The infra cluster: capabilities and their judgement → message.

use steading_api::{
    convert::timestamp,
    scheduling::v1::{self as proto, Presence, infra_cluster::State},
    types::v1::{Condition, ConditionStatus},
};
use steading_infra::capabilities::{Capabilities, Found, SnapshotClass, StorageClassCapabilities};
use steading_runtime::standard::time;

use crate::domain::infra_cluster::{FEATURE_GATES, Finding, Fitness, Verdict, assess, fitness, is_shared};

/// Name of the infra cluster; there is no other.
pub const NAME: &str = "infraCluster";

/// What was found, as a message.
pub fn infra_cluster(found: &Capabilities, read: jiff::Timestamp) -> proto::InfraCluster {
    let findings = assess(found);
    let identity = found.identity.present().cloned().unwrap_or_default();
    let state = match fitness(&findings) {
        Fitness::Ready => State::Ready,
        Fitness::Degraded => State::Degraded,
        Fitness::Unusable => State::Unusable,
        Fitness::Unknown => State::Unknown,
    };
    proto::InfraCluster {
        name: NAME.to_owned(),
        uid: identity.uid,
        create_time: time(identity.created.as_ref()),
        observe_time: Some(timestamp(read)),
        state: state.into(),
        conditions: findings.iter().map(condition).collect(),
        kubernetes_version: found.kubernetes_version.clone(),
        platform: found.platform.clone(),
        kubevirt: Some(kubevirt(found)),
        data_importer: Some(data_importer(found)),
        volume_snapshots: Some(proto::VolumeSnapshotSupport {
            presence: presence(&found.snapshots).into(),
            classes: found
                .snapshots
                .present()
                .into_iter()
                .flatten()
                .map(snapshot_class)
                .collect(),
            message: message(&found.snapshots),
        }),
        storage_classes_presence: presence(&found.storage_classes).into(),
        storage_classes: found
            .storage_classes
            .present()
            .into_iter()
            .flatten()
            .map(storage_class)
            .collect(),
        load_balancers: Presence::Unknown.into(),
    }
}

fn presence<T>(found: &Found<T>) -> Presence {
    match found {
        Found::Present(_) => Presence::Present,
        Found::Absent => Presence::Absent,
        Found::Unknown(_) => Presence::Unknown,
    }
}

fn message<T>(found: &Found<T>) -> String {
    found.unknown().unwrap_or_default().to_owned()
}

/// The judgement is made anew with each reading, so there is no time of the last change to tell.
fn condition(finding: &Finding) -> Condition {
    let status = match finding.verdict {
        Verdict::Holds => ConditionStatus::True,
        Verdict::Fails => ConditionStatus::False,
        Verdict::Unknown => ConditionStatus::Unknown,
    };
    Condition {
        r#type: finding.aspect.condition().to_owned(),
        status: status.into(),
        reason: finding.reason.to_owned(),
        message: finding.message.clone(),
        last_transition_time: None,
        observed_generation: 0,
    }
}

fn kubevirt(found: &Capabilities) -> proto::KubeVirtInstallation {
    let seen = found.kubevirt.present().cloned();
    let missing = |gate: &&(&str, &str)| seen.as_ref().is_some_and(|k| !k.feature_gates.contains(gate.0));
    proto::KubeVirtInstallation {
        presence: presence(&found.kubevirt).into(),
        missing_feature_gates: FEATURE_GATES
            .iter()
            .filter(missing)
            .map(|(name, effect)| proto::MissingFeatureGate {
                name: (*name).to_owned(),
                effect: (*effect).to_owned(),
            })
            .collect(),
        message: message(&found.kubevirt),
        version: seen.as_ref().and_then(|k| k.version.clone()).unwrap_or_default(),
        phase: seen.as_ref().and_then(|k| k.phase.clone()).unwrap_or_default(),
        feature_gates: seen.into_iter().flat_map(|k| k.feature_gates).collect(),
    }
}

fn data_importer(found: &Capabilities) -> proto::DataImporterInstallation {
    let seen = found.cdi.present().cloned().unwrap_or_default();
    proto::DataImporterInstallation {
        presence: presence(&found.cdi).into(),
        version: seen.version.unwrap_or_default(),
        phase: seen.phase.unwrap_or_default(),
        message: message(&found.cdi),
    }
}

fn snapshot_class(class: &SnapshotClass) -> proto::InfraSnapshotClass {
    proto::InfraSnapshotClass {
        infra_snapshot_class: class.name.clone(),
        driver: class.driver.clone(),
        deletion_policy: class.deletion_policy.clone(),
        default: class.default,
    }
}

fn storage_class(class: &StorageClassCapabilities) -> proto::InfraStorageClass {
    let profile = class.profile.present().cloned().unwrap_or_default();
    let live_migration = match is_shared(class) {
        Some(true) => Presence::Present,
        Some(false) => Presence::Absent,
        None => Presence::Unknown,
    };
    proto::InfraStorageClass {
        infra_storage_class: class.name.clone(),
        provisioner: class.provisioner.clone(),
        default: class.default,
        default_for_machines: class.default_for_machines,
        expansion_allowed: class.expansion_allowed,
        volume_binding_mode: class.binding_mode.clone(),
        reclaim_policy: class.reclaim_policy.clone(),
        profile_presence: presence(&class.profile).into(),
        claim_modes: profile
            .modes
            .into_iter()
            .map(|modes| proto::ClaimModes {
                access_modes: modes.access,
                volume_mode: modes.volume.unwrap_or_default(),
            })
            .collect(),
        clone_strategy: profile.clone_strategy.unwrap_or_default(),
        infra_snapshot_class: profile.snapshot_class.unwrap_or_default(),
        live_migration: live_migration.into(),
    }
}
