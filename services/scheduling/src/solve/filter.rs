//! Filtering: the reasons for which a node cannot take a workload.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration};
use kube::core::SelectorExt;

use crate::{
    snapshot::{NodeOrd, Readiness, Snapshot, SnapshotNode, Workload},
    solve::spread::SpreadState,
};

/// A reason for which a node can be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Predicate {
    /// The node is ready.
    Ready,
    /// The node is not cordoned.
    NotCordoned,
    /// KubeVirt runs machines on it.
    Virtualization,
    /// Its taints are tolerated.
    Taints,
    /// It has the labels of the node selector.
    NodeSelector,
    /// It fulfils the required node affinity.
    NodeAffinity,
    /// Enough is left.
    Resources,
    /// No machine that is to be avoided is in its domain.
    PodAntiAffinity,
    /// Strict spread constraints stay within their skew.
    TopologySpread,
}

impl Predicate {
    /// All of them, in the order in which they are judged: the first that fails is what a reader should know first.
    pub const ALL: [Self; 9] = [
        Self::Ready,
        Self::NotCordoned,
        Self::Virtualization,
        Self::Taints,
        Self::NodeSelector,
        Self::NodeAffinity,
        Self::Resources,
        Self::PodAntiAffinity,
        Self::TopologySpread,
    ];

    /// What is the case if it does not hold, after a number of nodes.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Ready => "not ready",
            Self::NotCordoned => "cordoned",
            Self::Virtualization => "without virtualization",
            Self::Taints => "with untolerated taints",
            Self::NodeSelector => "not matching the node selector",
            Self::NodeAffinity => "not matching the node affinity",
            Self::Resources => "without enough resources",
            Self::PodAntiAffinity => "excluded by anti-affinity",
            Self::TopologySpread => "exceeding the spread constraints",
        }
    }
}

/// Why a node was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The predicate that does not hold.
    pub predicate: Predicate,
    /// Why, with the values compared.
    pub message: String,
}

/// The first predicate that refuses the node.
pub fn first_refusal(snapshot: &Snapshot, workload: &Workload, state: &SpreadState, ord: NodeOrd) -> Option<Refusal> {
    Predicate::ALL.into_iter().find_map(|predicate| {
        judge(snapshot, workload, state, ord, predicate)
            .err()
            .map(|message| Refusal { predicate, message })
    })
}

/// One predicate on one node.
///
/// # Errors
/// If it does not hold: why.
pub fn judge(
    snapshot: &Snapshot,
    workload: &Workload,
    state: &SpreadState,
    ord: NodeOrd,
    predicate: Predicate,
) -> Result<(), String> {
    let Some(node) = snapshot.node(ord) else {
        return Err("the node is unknown".into());
    };
    let constraints = &workload.constraints;
    match predicate {
        Predicate::Ready => match node.readiness {
            Readiness::Ready => Ok(()),
            Readiness::NotReady => Err("the kubelet says that the node is not ready".into()),
            Readiness::Unknown => Err("the kubelet has not been heard of for too long".into()),
        },
        Predicate::NotCordoned if node.cordoned => Err("the node is cordoned".into()),
        Predicate::NotCordoned => Ok(()),
        Predicate::Virtualization if node.virtualization => Ok(()),
        Predicate::Virtualization => Err("label kubevirt.io/schedulable is not true".into()),
        Predicate::Taints => taints(node, &constraints.tolerations),
        Predicate::NodeSelector => node_selector(node, &constraints.node_selector),
        Predicate::NodeAffinity => node_affinity(node, constraints.node_affinity.as_ref()),
        Predicate::Resources => resources(node, workload),
        Predicate::PodAntiAffinity => anti_affinity(snapshot, workload, node),
        Predicate::TopologySpread => state.judge(node),
    }
}

fn taints(node: &SnapshotNode, tolerations: &[Toleration]) -> Result<(), String> {
    match untolerated(node, tolerations) {
        None => Ok(()),
        Some(taint) => Err(format!(
            "taint {}{}:{} is not tolerated",
            taint.key,
            taint.value.as_ref().map(|v| format!("={v}")).unwrap_or_default(),
            taint.effect
        )),
    }
}

/// The first taint that keeps pods away and is not tolerated.
pub fn untolerated<'a>(node: &'a SnapshotNode, tolerations: &[Toleration]) -> Option<&'a Taint> {
    node.taints
        .iter()
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
        .find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

/// Kubernetes' rule for tolerations.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let key = text(&toleration.key);
    let effect = text(&toleration.effect);
    let same_value = match toleration.operator.as_deref() {
        Some("Exists") => true,
        _ => text(&toleration.value) == text(&taint.value),
    };
    (effect.is_empty() || effect == taint.effect)
        && (key == taint.key || (key.is_empty() && toleration.operator.as_deref() == Some("Exists")))
        && same_value
}

fn node_selector(node: &SnapshotNode, selector: &BTreeMap<String, String>) -> Result<(), String> {
    match selector
        .iter()
        .find(|(key, value)| node.labels.get(*key) != Some(value))
    {
        None => Ok(()),
        Some((key, value)) => Err(match node.labels.get(key) {
            Some(other) => format!("label {key} must be {value}, is {other}"),
            None => format!("label {key} must be {value}, is absent"),
        }),
    }
}

fn node_affinity(node: &SnapshotNode, affinity: Option<&NodeAffinity>) -> Result<(), String> {
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let Some(required) = required else { return Ok(()) };
    let mut reasons = Vec::new();
    for term in &required.node_selector_terms {
        match failing_requirement(node, term) {
            None => return Ok(()),
            Some(reason) => reasons.push(reason),
        }
    }
    Err(if reasons.is_empty() {
        "no term of the node affinity can match".into()
    } else {
        reasons.join("; ")
    })
}

/// Why a term does not match the node; `None` if it does.
pub fn failing_requirement(node: &SnapshotNode, term: &NodeSelectorTerm) -> Option<String> {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return Some("a term without requirements matches no node".into());
    }
    let on_labels = expressions.iter().map(|r| (r, node.labels.get(&r.key)));
    let on_fields = fields
        .iter()
        .map(|r| (r, (r.key == "metadata.name").then_some(&node.name)));
    on_labels
        .chain(on_fields)
        .find(|(requirement, value)| !holds(requirement, *value))
        .map(|(requirement, value)| {
            format!(
                "{} must be {} {:?}, is {}",
                requirement.key,
                requirement.operator,
                requirement.values.as_deref().unwrap_or_default(),
                value.map_or("absent", String::as_str)
            )
        })
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let compare = |holds: fn(i64, i64) -> bool| {
        let (Some(value), [bound]) = (value, values) else {
            return false;
        };
        value
            .parse()
            .ok()
            .zip(bound.parse().ok())
            .is_some_and(|(value, bound)| holds(value, bound))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| values.contains(v)),
        "NotIn" => value.is_none_or(|v| !values.contains(v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|value, bound| value > bound),
        "Lt" => compare(|value, bound| value < bound),
        // An operator of a later Kubernetes: a node that may not match must not be promised.
        _ => false,
    }
}

fn resources(node: &SnapshotNode, workload: &Workload) -> Result<(), String> {
    match node
        .allocatable
        .minus(&node.allocated)
        .first_shortage(&workload.requests)
    {
        None => Ok(()),
        Some((name, wanted, left)) => {
            let unit = if name == "cpu" { "m" } else { "" };
            Err(format!("{name}: {wanted}{unit} wanted, {}{unit} left", left.max(0)))
        }
    }
}

/// The workload's own terms against the pods that run, and their terms against the workload: Kubernetes demands both.
fn anti_affinity(snapshot: &Snapshot, workload: &Workload, node: &SnapshotNode) -> Result<(), String> {
    let same_domain = |key: &str, other: Option<NodeOrd>| {
        let other = other.and_then(|ord| snapshot.node(ord))?;
        node.labels
            .get(key)
            .filter(|value| other.labels.get(key) == Some(value))
    };
    for term in &workload.constraints.anti_required {
        let broken = snapshot.pods().iter().find(|pod| {
            term.looks_into(&workload.namespace, &pod.workload.namespace)
                && term.selector.matches(&pod.workload.labels)
                && same_domain(&term.topology_key, pod.node).is_some()
        });
        if let Some(pod) = broken {
            return Err(format!("{} runs in the same {}", describe(pod), term.topology_key));
        }
    }
    for pod in snapshot.pods() {
        for term in &pod.workload.constraints.anti_required {
            if term.looks_into(&pod.workload.namespace, &workload.namespace)
                && term.selector.matches(&workload.labels)
                && same_domain(&term.topology_key, pod.node).is_some()
            {
                return Err(format!("{} keeps it out of its {}", describe(pod), term.topology_key));
            }
        }
    }
    Ok(())
}

fn describe(pod: &crate::snapshot::SnapshotPod) -> String {
    match &pod.machine {
        Some(machine) => machine.name.to_string(),
        None if pod.name.is_empty() => "another replica".into(),
        None => format!("pod {}/{}", pod.workload.namespace, pod.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_node() -> SnapshotNode {
        SnapshotNode {
            name: "n1".into(),
            labels: [
                ("disk".to_owned(), "ssd".to_owned()),
                ("cores".to_owned(), "32".to_owned()),
            ]
            .into(),
            taints: vec![],
            cordoned: false,
            readiness: Readiness::Ready,
            virtualization: true,
            allocatable: crate::domain::Amounts::default(),
            allocated: crate::domain::Amounts::default(),
        }
    }

    #[test]
    fn all_operators_mean_what_kubernetes_says() {
        for (key, operator, values, expected) in [
            ("disk", "In", vec!["ssd", "nvme"], true),
            ("disk", "In", vec!["hdd"], false),
            ("gone", "In", vec!["hdd"], false),
            ("disk", "NotIn", vec!["ssd"], false),
            ("gone", "NotIn", vec!["ssd"], true),
            ("disk", "Exists", vec![], true),
            ("gone", "Exists", vec![], false),
            ("gone", "DoesNotExist", vec![], true),
            ("disk", "DoesNotExist", vec![], false),
            ("cores", "Gt", vec!["16"], true),
            ("cores", "Gt", vec!["32"], false),
            ("cores", "Lt", vec!["64"], true),
            ("disk", "Gt", vec!["1"], false),
            ("gone", "Lt", vec!["1"], false),
            ("disk", "Newer", vec![], false),
        ] {
            let term = NodeSelectorTerm {
                match_expressions: Some(vec![NodeSelectorRequirement {
                    key: key.into(),
                    operator: operator.into(),
                    values: Some(values.iter().map(ToString::to_string).collect()),
                }]),
                match_fields: None,
            };
            assert_eq!(
                failing_requirement(&mk_node(), &term).is_none(),
                expected,
                "{key} {operator} {values:?}"
            );
        }
    }

    #[test]
    fn an_empty_term_matches_no_node() {
        assert!(failing_requirement(&mk_node(), &NodeSelectorTerm::default()).is_some());
    }

    #[test]
    fn tolerations_compare_key_value_and_effect() {
        let taint = Taint {
            key: "a".into(),
            value: Some("1".into()),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        let toleration = |key: &str, operator: Option<&str>, value: Option<&str>, effect: Option<&str>| Toleration {
            key: Some(key.into()).filter(|k: &String| !k.is_empty()),
            operator: operator.map(Into::into),
            value: value.map(Into::into),
            effect: effect.map(Into::into),
            toleration_seconds: None,
        };
        assert!(tolerates(&toleration("a", None, Some("1"), None), &taint));
        assert!(!tolerates(&toleration("a", None, Some("2"), None), &taint));
        assert!(tolerates(&toleration("a", Some("Exists"), None, None), &taint));
        assert!(tolerates(&toleration("", Some("Exists"), None, None), &taint));
        assert!(!tolerates(&toleration("", None, Some("1"), None), &taint));
        assert!(!tolerates(
            &toleration("a", Some("Exists"), None, Some("NoExecute")),
            &taint
        ));
    }
}
