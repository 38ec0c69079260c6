//! How fit the infra cluster is for Steading: judged from what it was found to be able to do.

use steading_infra::capabilities::{Capabilities, Found, StorageClassCapabilities};

/// Feature gates of KubeVirt (1.8) that Steading has a use for, and what does not work while they are off.
pub const FEATURE_GATES: [(&str, &str); 2] = [
    (HOTPLUG_GATE, "volumes cannot be attached to running machines"),
    (EXPAND_GATE, "running guests do not see that a volume has grown"),
];
const HOTPLUG_GATE: &str = "DeclarativeHotplugVolumes";
const EXPAND_GATE: &str = "ExpandDisks";

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// KubeVirt is installed and deployed. Nothing works without.
    KubeVirt,
    /// Volumes can be attached to running machines.
    HotPlug,
    /// Grown volumes are seen by running guests.
    Expansion,
    /// CDI makes and fills volumes.
    Import,
    /// Volumes can be snapshotted.
    Snapshots,
    /// There is storage, some of it where none is named.
    Storage,
}

impl Aspect {
    /// The type of its condition.
    pub fn condition(self) -> &'static str {
        match self {
            Self::KubeVirt => "KubeVirtReady",
            Self::HotPlug => "HotPlugReady",
            Self::Expansion => "ExpansionReady",
            Self::Import => "ImportReady",
            Self::Snapshots => "SnapshotsReady",
            Self::Storage => "StorageReady",
        }
    }
}

/// What was found of an aspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Holds,
    /// It does not.
    Fails,
    /// It cannot be told.
    Unknown,
}

/// A judgement of one aspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub aspect: Aspect,
    /// Whether it works.
    pub verdict: Verdict,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, and what can be done about it.
    pub message: String,
}

/// How fit the infra cluster is altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fitness {
    /// Everything works.
    Ready,
    /// Machines run; something else does not work or is not known to.
    Degraded,
    /// No machines can run.
    Unusable,
    /// Whether machines can run is not known.
    Unknown,
}

/// Judges every aspect.
pub fn assess(capabilities: &Capabilities) -> Vec<Finding> {
    vec![
        kubevirt(capabilities),
        gate(capabilities, Aspect::HotPlug, HOTPLUG_GATE),
        gate(capabilities, Aspect::Expansion, EXPAND_GATE),
        import(capabilities),
        snapshots(capabilities),
        storage(capabilities),
    ]
}

/// The worst of the findings decides; only KubeVirt decides about more than a part.
pub fn fitness(findings: &[Finding]) -> Fitness {
    let kubevirt = findings
        .iter()
        .find(|f| f.aspect == Aspect::KubeVirt)
        .map(|f| f.verdict);
    match kubevirt {
        Some(Verdict::Fails) => Fitness::Unusable,
        None | Some(Verdict::Unknown) => Fitness::Unknown,
        Some(Verdict::Holds) if findings.iter().all(|f| f.verdict == Verdict::Holds) => Fitness::Ready,
        Some(Verdict::Holds) => Fitness::Degraded,
    }
}

/// Whether machines on disks of the class can migrate live: CDI knows a mode that several nodes share.
pub fn is_shared(class: &StorageClassCapabilities) -> Option<bool> {
    match &class.profile {
        Found::Present(profile) if profile.modes.is_empty() => None,
        Found::Present(profile) => Some(
            profile
                .modes
                .iter()
                .any(|m| m.access.iter().any(|a| a == "ReadWriteMany")),
        ),
        Found::Absent | Found::Unknown(_) => None,
    }
}

fn finding(aspect: Aspect, verdict: Verdict, reason: &'static str, message: impl Into<String>) -> Finding {
    Finding {
        aspect,
        verdict,
        reason,
        message: message.into(),
    }
}

fn unreadable(aspect: Aspect, what: &str, why: &str) -> Finding {
    finding(
        aspect,
        Verdict::Unknown,
        "Unreadable",
        format!("{what} cannot be read: {why}"),
    )
}

fn kubevirt(capabilities: &Capabilities) -> Finding {
    let of = |verdict, reason, message: String| finding(Aspect::KubeVirt, verdict, reason, message);
    match &capabilities.kubevirt {
        Found::Unknown(why) => unreadable(Aspect::KubeVirt, "KubeVirt's installation", why),
        Found::Absent if capabilities.groups.contains_key("kubevirt.io") => of(
            Verdict::Fails,
            "NotConfigured",
            "KubeVirt's kinds are there, but no object KubeVirt says that it runs: create one, as KubeVirt's installation guide tells"
                .to_owned(),
        ),
        Found::Absent => of(
            Verdict::Fails,
            "NotInstalled",
            "KubeVirt is not installed: install its operator and an object KubeVirt in this cluster".to_owned(),
        ),
        Found::Present(found) if found.is_deployed() => of(
            Verdict::Holds,
            "Deployed",
            format!("KubeVirt {}", found.version.as_deref().unwrap_or("of an unknown version")),
        ),
        Found::Present(found) => of(
            Verdict::Fails,
            "NotDeployed",
            format!(
                "KubeVirt's phase is {:?}, not Deployed: see the conditions of the object KubeVirt",
                found.phase.as_deref().unwrap_or_default()
            ),
        ),
    }
}

fn gate(capabilities: &Capabilities, aspect: Aspect, gate: &str) -> Finding {
    match &capabilities.kubevirt {
        Found::Unknown(why) => unreadable(aspect, "KubeVirt's feature gates", why),
        Found::Absent => finding(aspect, Verdict::Fails, "NotInstalled", "KubeVirt is not installed"),
        Found::Present(found) if found.feature_gates.contains(gate) => {
            finding(aspect, Verdict::Holds, "GateOn", format!("feature gate {gate} is on"))
        }
        Found::Present(_) => {
            let effect = FEATURE_GATES.iter().find(|(name, _)| *name == gate).map_or("", |g| g.1);
            finding(
                aspect,
                Verdict::Fails,
                "GateOff",
                format!(
                    "{effect}: add {gate} to spec.configuration.developerConfiguration.featureGates of the object KubeVirt"
                ),
            )
        }
    }
}

fn import(capabilities: &Capabilities) -> Finding {
    let of = |verdict, reason, message: String| finding(Aspect::Import, verdict, reason, message);
    match &capabilities.cdi {
        Found::Unknown(why) => unreadable(Aspect::Import, "CDI's installation", why),
        Found::Absent => of(
            Verdict::Fails,
            "NotInstalled",
            "CDI is not installed: images cannot be imported and volumes cannot be made; install its operator and an object CDI"
                .to_owned(),
        ),
        Found::Present(cdi) => match (cdi.phase.as_deref(), cdi.version.as_deref()) {
            (None | Some("Deployed"), version) => {
                of(Verdict::Holds, "Served", format!("CDI {}", version.unwrap_or("of an unknown version")))
            }
            (Some(phase), _) => of(
                Verdict::Fails,
                "NotDeployed",
                format!("CDI's phase is {phase:?}, not Deployed: see the conditions of the object CDI"),
            ),
        },
    }
}

fn snapshots(capabilities: &Capabilities) -> Finding {
    let of = |verdict, reason, message: String| finding(Aspect::Snapshots, verdict, reason, message);
    match &capabilities.snapshots {
        Found::Unknown(why) => unreadable(Aspect::Snapshots, "snapshot classes", why),
        Found::Absent => of(
            Verdict::Fails,
            "NotInstalled",
            "snapshot.storage.k8s.io/v1 is not served: install the CSI snapshot controller and its kinds".to_owned(),
        ),
        Found::Present(classes) if classes.is_empty() => of(
            Verdict::Fails,
            "NoClass",
            "there is no VolumeSnapshotClass: create one for the CSI driver of the volumes".to_owned(),
        ),
        Found::Present(classes) => of(Verdict::Holds, "Served", format!("{} snapshot classes", classes.len())),
    }
}

fn storage(capabilities: &Capabilities) -> Finding {
    let of = |verdict, reason, message: String| finding(Aspect::Storage, verdict, reason, message);
    match &capabilities.storage_classes {
        Found::Unknown(why) => unreadable(Aspect::Storage, "storage classes", why),
        Found::Absent => of(Verdict::Fails, "NoClass", "there is no StorageClass".to_owned()),
        Found::Present(classes) if classes.is_empty() => {
            of(Verdict::Fails, "NoClass", "there is no StorageClass".to_owned())
        }
        Found::Present(classes) if !classes.iter().any(|c| c.default || c.default_for_machines) => of(
            Verdict::Fails,
            "NoDefaultClass",
            "no StorageClass is the default one, so images and disks that name none stay pending".to_owned(),
        ),
        Found::Present(classes) => of(
            Verdict::Holds,
            "HasDefault",
            format!("{} storage classes", classes.len()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use steading_infra::capabilities::{
        CdiCapabilities, ClaimModes, KubeVirtCapabilities, SnapshotClass, StorageProfileCapabilities,
    };

    use super::*;

    fn mk_fit() -> Capabilities {
        Capabilities {
            kubevirt: Found::Present(KubeVirtCapabilities {
                version: Some("v1.8.0".into()),
                phase: Some("Deployed".into()),
                feature_gates: FEATURE_GATES.iter().map(|(name, _)| (*name).to_owned()).collect(),
            }),
            cdi: Found::Present(CdiCapabilities::default()),
            snapshots: Found::Present(vec![SnapshotClass::default()]),
            storage_classes: Found::Present(vec![StorageClassCapabilities {
                default: true,
                ..StorageClassCapabilities::default()
            }]),
            ..Capabilities::default()
        }
    }

    #[test]
    fn what_is_missing_degrades_and_a_missing_kubevirt_makes_unusable() {
        let judged = |change: fn(&mut Capabilities)| {
            let mut capabilities = mk_fit();
            change(&mut capabilities);
            let findings = assess(&capabilities);
            let first = findings.iter().find(|f| f.verdict != Verdict::Holds);
            (fitness(&findings), first.map(|f| (f.aspect, f.reason)))
        };
        let gates_off = |c: &mut Capabilities| {
            c.kubevirt = Found::Present(KubeVirtCapabilities {
                phase: Some("Deployed".into()),
                ..KubeVirtCapabilities::default()
            });
        };
        let deploying = |c: &mut Capabilities| c.kubevirt = Found::Present(KubeVirtCapabilities::default());
        let configured = |c: &mut Capabilities| {
            c.kubevirt = Found::Absent;
            c.groups.insert("kubevirt.io".into(), vec!["v1".into()]);
        };
        for (change, fit, finding) in [
            ((|_| {}) as fn(&mut Capabilities), Fitness::Ready, None),
            (gates_off, Fitness::Degraded, Some((Aspect::HotPlug, "GateOff"))),
            (deploying, Fitness::Unusable, Some((Aspect::KubeVirt, "NotDeployed"))),
            (configured, Fitness::Unusable, Some((Aspect::KubeVirt, "NotConfigured"))),
            (
                |c| c.kubevirt = Found::Absent,
                Fitness::Unusable,
                Some((Aspect::KubeVirt, "NotInstalled")),
            ),
            (
                |c| c.kubevirt = Found::Unknown("forbidden".into()),
                Fitness::Unknown,
                Some((Aspect::KubeVirt, "Unreadable")),
            ),
            (
                |c| c.cdi = Found::Absent,
                Fitness::Degraded,
                Some((Aspect::Import, "NotInstalled")),
            ),
            (
                |c| c.snapshots = Found::Present(Vec::new()),
                Fitness::Degraded,
                Some((Aspect::Snapshots, "NoClass")),
            ),
            (
                |c| c.storage_classes = Found::Present(vec![StorageClassCapabilities::default()]),
                Fitness::Degraded,
                Some((Aspect::Storage, "NoDefaultClass")),
            ),
        ] {
            assert_eq!(judged(change), (fit, finding));
        }
    }

    #[test]
    fn a_class_of_which_nothing_is_known_is_neither_shared_nor_not() {
        let of = |profile| {
            is_shared(&StorageClassCapabilities {
                profile,
                ..StorageClassCapabilities::default()
            })
        };
        let modes = |access: &str| {
            Found::Present(StorageProfileCapabilities {
                modes: vec![ClaimModes {
                    access: vec![access.to_owned()],
                    volume: None,
                }],
                ..StorageProfileCapabilities::default()
            })
        };
        assert_eq!(of(modes("ReadWriteMany")), Some(true));
        assert_eq!(of(modes("ReadWriteOnce")), Some(false));
        assert_eq!(of(Found::Absent), None);
        assert_eq!(of(Found::Present(StorageProfileCapabilities::default())), None);
    }
}
