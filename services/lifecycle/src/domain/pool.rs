//! What a pool wants, and the rules that its fields obey.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use steading_infra::{
    crd::machine_pool::{MachinePoolSpec, Repair, RolloutTrigger},
    labels,
};
use steading_model::violation::Violations;

use super::version::Version;

/// Most machines of a pool; larger clusters take several pools.
pub const MAX_REPLICAS: i32 = 5000;
/// Most node labels, annotations or taints of a pool.
const MAX_ENTRIES: usize = 64;

/// What begins a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Any change.
    OnChange,
    /// Only deletion or request.
    OnDelete,
}

/// Whether a machine does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Availability {
    /// Its node is ready, for long enough.
    Available,
    /// It is on its way.
    Starting,
    /// Its node is ready and takes no pods: cordoned, or drained for somebody.
    Away,
    /// It does not work and is not on its way.
    Broken,
    /// It cannot be told.
    Unknown,
}

/// What a pool wants, ready for the planner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredPool {
    /// How many machines.
    pub replicas: usize,
    /// What they are made from; `None` while it cannot be told, and then nothing is outdated.
    pub revision: Option<String>,
    /// What begins a rollout.
    pub trigger: Trigger,
    /// Whether a rollout stands still.
    pub paused: bool,
    /// Whether broken machines are replaced.
    pub repair: bool,
    /// Machines beyond the replicas.
    pub max_surge: usize,
    /// Machines below the replicas.
    pub max_unavailable: usize,
    /// Most machines that may exist, those that are terminating included; `None` is without limit.
    pub most: Option<usize>,
    /// So many new machines may fail before the pool stops making more; 0 is without limit.
    pub max_failures: usize,
}

/// New machines that may fail before a pool stops, if it does not say.
pub const MAX_FAILURES: i32 = 3;

/// How many machines a pool wants. Without `spec.replicas` it keeps the number that it had (an autoscaler, or whoever took the field out of a
/// manifest, has not said that there should be none); bounds of autoscaling raise it to their least.
pub fn desired_replicas(spec: &MachinePoolSpec, last: Option<i32>, existing: usize) -> usize {
    let kept = || last.unwrap_or_else(|| i32::try_from(existing).unwrap_or(i32::MAX));
    let least = spec.autoscaling.map_or(0, |bounds| bounds.min_replicas);
    let wanted = spec.replicas.unwrap_or_else(|| kept().max(least));
    usize::try_from(wanted).unwrap_or_default()
}

impl DesiredPool {
    /// What a spec wants; `replicas` from [`desired_replicas`].
    pub fn of(spec: &MachinePoolSpec, replicas: usize, revision: Option<String>) -> Self {
        let share = |value: Option<&IntOrString>, default, round| {
            value.map_or(default, |v| resolve(v, replicas, round).unwrap_or(default))
        };
        Self {
            replicas,
            revision,
            trigger: match spec.rollout.trigger {
                RolloutTrigger::OnChange => Trigger::OnChange,
                RolloutTrigger::OnDelete => Trigger::OnDelete,
            },
            paused: spec.rollout.paused,
            repair: spec.health.repair == Repair::Replace,
            max_surge: share(spec.rollout.max_surge.as_ref(), 1, Round::Up),
            max_unavailable: share(spec.rollout.max_unavailable.as_ref(), 0, Round::Down),
            most: None,
            max_failures: usize::try_from(spec.health.max_failures.unwrap_or(MAX_FAILURES)).unwrap_or_default(),
        }
    }

    /// Machines beyond the replicas; one if otherwise nothing could ever move.
    pub fn surge(&self) -> usize {
        if self.max_surge == 0 && self.max_unavailable == 0 {
            1
        } else {
            self.max_surge
        }
    }

    /// Machines below the replicas.
    pub fn unavailable(&self) -> usize {
        self.max_unavailable.min(self.replicas)
    }
}

/// How a percentage is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Up, as surge is.
    Up,
    /// Down, as unavailability is.
    Down,
}

/// A number or percentage of `of`; `None` if it is neither.
pub fn resolve(value: &IntOrString, of: usize, round: Round) -> Option<usize> {
    match value {
        IntOrString::Int(number) => usize::try_from(*number).ok(),
        IntOrString::String(text) => {
            let Some(percent) = text.strip_suffix('%') else {
                return text.parse().ok();
            };
            let percent: usize = percent.parse().ok().filter(|p| *p <= 100)?;
            let product = percent * of;
            Some(match round {
                Round::Up => product.div_ceil(100),
                Round::Down => product / 100,
            })
        }
    }
}

/// Checks what the API and `kubectl` can write alike. Paths are those of the proto message.
pub fn validate(spec: &MachinePoolSpec) -> Violations {
    let mut found = Violations::new();
    found.require(
        spec.replicas
            .is_none_or(|replicas| (0..=MAX_REPLICAS).contains(&replicas)),
        "replicas",
        format!("must be between 0 and {MAX_REPLICAS}"),
    );
    found.require(!spec.machine_template.is_empty(), "machine_template", "must be set");
    for (path, value) in [
        ("rollout.max_surge", &spec.rollout.max_surge),
        ("rollout.max_unavailable", &spec.rollout.max_unavailable),
    ] {
        let fits = value
            .as_ref()
            .is_none_or(|value| resolve(value, 100, Round::Up).is_some());
        found.require(fits, path, "must be a number or a percentage up to 100%");
    }
    let zero = |value: Option<&IntOrString>| value.is_some_and(|value| resolve(value, 100, Round::Up) == Some(0));
    let stuck =
        zero(spec.rollout.max_surge.as_ref()) && spec.rollout.max_unavailable.as_ref().is_none_or(|v| zero(Some(v)));
    found.require(
        !stuck,
        "rollout.max_surge",
        "must not be 0 together with max_unavailable, as no machine could ever be replaced",
    );
    if let Some(bounds) = &spec.autoscaling {
        let fits = 0 <= bounds.min_replicas
            && bounds.min_replicas <= bounds.max_replicas
            && bounds.max_replicas <= MAX_REPLICAS;
        found.require(
            fits,
            "autoscaling",
            format!("min_replicas must be between 0 and max_replicas, which is at most {MAX_REPLICAS}"),
        );
    }
    for (path, count) in [
        ("node_labels", spec.node_labels.len()),
        ("node_annotations", spec.node_annotations.len()),
        ("node_taints", spec.node_taints.len()),
    ] {
        found.require(
            count <= MAX_ENTRIES,
            path,
            format!("must have at most {MAX_ENTRIES} entries"),
        );
    }
    found.require(
        spec.kubernetes_version.is_empty() || Version::parse(&spec.kubernetes_version).is_some(),
        "kubernetes_version",
        "must be a version such as 1.36.0",
    );
    for (key, value) in &spec.node_labels {
        let fits = is_label_key(key) && is_label_value(value);
        found.require(fits, format!("node_labels.{key}"), "is not a valid Kubernetes label");
    }
    for (index, taint) in spec.node_taints.iter().enumerate() {
        let path = format!("node_taints[{index}]");
        found.require(
            is_label_key(&taint.key),
            format!("{path}.key"),
            "is not a valid taint key",
        );
        found.require(
            taint.value.as_deref().is_none_or(is_label_value),
            format!("{path}.value"),
            "is not a valid taint value",
        );
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        found.require(
            effects.contains(&taint.effect.as_str()),
            format!("{path}.effect"),
            "must be set",
        );
    }
    reject_reserved_taints(spec, &mut found);
    found.require(
        spec.health.max_failures.is_none_or(|count| count >= 0),
        "health.max_failures",
        "must not be negative",
    );
    let lengths = [
        ("eviction.drain_timeout", spec.eviction.drain_timeout_seconds),
        ("eviction.detach_timeout", spec.eviction.detach_timeout_seconds),
        (
            "eviction.pod_grace_period_seconds",
            spec.eviction.pod_grace_period_seconds,
        ),
        ("health.join_timeout", spec.health.join_timeout_seconds),
        ("health.unhealthy_after", spec.health.unhealthy_after_seconds),
        ("rollout.min_ready", spec.rollout.min_ready_seconds),
    ];
    for (path, length) in lengths {
        found.require(length.is_none_or(|seconds| seconds >= 0), path, "must not be negative");
    }
    found
}

/// Taints that Kubernetes, cluster-autoscaler or Steading itself set and remove as a node's state changes. As a wish, one would keep
/// the node from ever being ready, or fight with who removes it.
fn reject_reserved_taints(spec: &MachinePoolSpec, found: &mut Violations) {
    const RESERVED: [&str; 3] = [
        labels::UNINITIALIZED_TAINT,
        "node.cloudprovider.kubernetes.io/shutdown",
        "ToBeDeletedByClusterAutoscaler",
    ];
    let mut seen = BTreeSet::new();
    for (index, taint) in spec.node_taints.iter().enumerate() {
        let reserved = RESERVED.contains(&taint.key.as_str()) || taint.key.starts_with("node.kubernetes.io/");
        found.require(
            !reserved,
            format!("node_taints[{index}].key"),
            "is set and removed as the node's state changes; it cannot be asked for",
        );
        found.require(
            seen.insert((taint.key.as_str(), taint.effect.as_str())),
            format!("node_taints[{index}]"),
            "must differ from the others in key or effect: a Node has each pair once",
        );
    }
}

/// Whether text can be the key of a label: an optional DNS prefix and a name.
pub fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefix_fits = prefix
        .is_none_or(|p| !p.is_empty() && p.len() <= 253 && p.split('.').all(|part| !part.is_empty() && is_word(part)));
    prefix_fits && !name.is_empty() && name.len() <= 63 && is_word(name)
}

/// Whether text can be the value of a label.
pub fn is_label_value(value: &str) -> bool {
    value.is_empty() || (value.len() <= 63 && is_word(value))
}

fn is_word(text: &str) -> bool {
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    end(text.chars().next())
        && end(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_in_favour_of_progress_and_safety() {
        let percent = IntOrString::String("25%".into());
        assert_eq!(
            (resolve(&percent, 6, Round::Up), resolve(&percent, 6, Round::Down)),
            (Some(2), Some(1))
        );
        assert_eq!(resolve(&IntOrString::String("a%".into()), 6, Round::Up), None);
        assert_eq!(resolve(&IntOrString::Int(-1), 6, Round::Up), None);
    }

    #[test]
    fn a_pool_without_replicas_keeps_its_machines() {
        let mut spec = MachinePoolSpec::default();
        assert_eq!(desired_replicas(&spec, Some(5), 4), 5);
        assert_eq!(desired_replicas(&spec, None, 4), 4);
        spec.autoscaling = Some(steading_infra::crd::machine_pool::AutoscalingSpec {
            min_replicas: 2,
            max_replicas: 9,
        });
        assert_eq!(desired_replicas(&spec, None, 0), 2);
        assert_eq!(desired_replicas(&spec, Some(5), 0), 5);
        spec.replicas = Some(0);
        assert_eq!(desired_replicas(&spec, Some(5), 4), 0, "0 is said, not left out");
    }

    #[test]
    fn a_rollout_that_could_never_move_is_refused() {
        let mut spec = MachinePoolSpec {
            machine_template: "t".into(),
            ..MachinePoolSpec::default()
        };
        assert!(validate(&spec).is_empty());
        spec.rollout.max_surge = Some(IntOrString::Int(0));
        assert!(!validate(&spec).is_empty());
        spec.rollout.max_unavailable = Some(IntOrString::String("10%".into()));
        assert!(validate(&spec).is_empty());
    }

    #[test]
    fn taints_that_state_sets_and_doubled_ones_are_refused() {
        let taint = |key: &str, value: &str, effect: &str| k8s_openapi::api::core::v1::Taint {
            key: key.into(),
            value: Some(value.into()),
            effect: effect.into(),
            ..Default::default()
        };
        let paths = |taints: &[k8s_openapi::api::core::v1::Taint]| -> Vec<String> {
            let spec = MachinePoolSpec {
                machine_template: "t".into(),
                node_taints: taints.to_vec(),
                ..MachinePoolSpec::default()
            };
            let found = validate(&spec);
            found.iter().map(|violation| violation.path.clone()).collect()
        };
        let uninitialized = taint(labels::UNINITIALIZED_TAINT, "true", "NoSchedule");
        assert_eq!(paths(&[uninitialized]), ["node_taints[0].key"]);
        assert_eq!(
            paths(&[taint("node.kubernetes.io/not-ready", "", "NoExecute")]),
            ["node_taints[0].key"]
        );
        let twice = [taint("a", "1", "NoSchedule"), taint("a", "2", "NoSchedule")];
        assert_eq!(paths(&twice), ["node_taints[1]"]);
        let apart = [taint("a", "1", "NoSchedule"), taint("a", "1", "NoExecute")];
        assert_eq!(paths(&apart), [""; 0]);
    }
}
