//! Placements: messages ⇄ types of the Kubernetes API. Total in both directions: what a client may not say is found
//! by [`crate::domain::policy::validate`], where an unset enum shows as an empty text.

use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1 as meta};
use steading_api::scheduling::v1::{
    self as proto, TaintEffect, label_selector_requirement as lsr, node_selector_requirement as nsr,
    toleration::Operator as TolerationOperator,
    topology_spread_constraint::{InclusionPolicy, WhenUnsatisfiable},
};

use super::{some, some_text};
use crate::domain::Placement;

/// A placement as a message.
pub fn placement(placement: &Placement) -> proto::Placement {
    proto::Placement {
        node_affinity: placement.node_affinity.as_ref().map(node_affinity),
        topology_spread_constraints: placement.topology_spread_constraints.iter().map(spread).collect(),
        pod_anti_affinity: placement.pod_anti_affinity.as_ref().map(anti_affinity),
        node_selector: placement.node_selector.clone().into_iter().collect(),
        tolerations: placement.tolerations.iter().map(toleration).collect(),
    }
}

/// Node affinity as a message.
pub fn node_affinity(affinity: &core::NodeAffinity) -> proto::NodeAffinity {
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .iter()
        .flat_map(|s| &s.node_selector_terms);
    let preferred = affinity
        .preferred_during_scheduling_ignored_during_execution
        .iter()
        .flatten();
    proto::NodeAffinity {
        required: required.map(node_term).collect(),
        preferred: preferred
            .map(|p| proto::PreferredNodeSelectorTerm {
                weight: p.weight,
                preference: Some(node_term(&p.preference)),
            })
            .collect(),
    }
}

/// Node affinity from a message.
pub fn node_affinity_from(affinity: &proto::NodeAffinity) -> core::NodeAffinity {
    let preferred = affinity.preferred.iter().map(|p| core::PreferredSchedulingTerm {
        weight: p.weight,
        preference: p.preference.as_ref().map(node_term_from).unwrap_or_default(),
    });
    core::NodeAffinity {
        required_during_scheduling_ignored_during_execution: some(
            affinity.required.iter().map(node_term_from).collect(),
        )
        .map(|node_selector_terms| core::NodeSelector { node_selector_terms }),
        preferred_during_scheduling_ignored_during_execution: some(preferred.collect()),
    }
}

fn node_term(term: &core::NodeSelectorTerm) -> proto::NodeSelectorTerm {
    let list =
        |list: &Option<Vec<core::NodeSelectorRequirement>>| list.iter().flatten().map(node_requirement).collect();
    proto::NodeSelectorTerm {
        match_expressions: list(&term.match_expressions),
        match_fields: list(&term.match_fields),
    }
}

fn node_term_from(term: &proto::NodeSelectorTerm) -> core::NodeSelectorTerm {
    let list = |list: &[proto::NodeSelectorRequirement]| some(list.iter().map(node_requirement_from).collect());
    core::NodeSelectorTerm {
        match_expressions: list(&term.match_expressions),
        match_fields: list(&term.match_fields),
    }
}

fn node_requirement(requirement: &core::NodeSelectorRequirement) -> proto::NodeSelectorRequirement {
    let operator = match requirement.operator.as_str() {
        "In" => nsr::Operator::In,
        "NotIn" => nsr::Operator::NotIn,
        "Exists" => nsr::Operator::Exists,
        "DoesNotExist" => nsr::Operator::DoesNotExist,
        "Gt" => nsr::Operator::Gt,
        "Lt" => nsr::Operator::Lt,
        _ => nsr::Operator::Unspecified,
    };
    proto::NodeSelectorRequirement {
        key: requirement.key.clone(),
        operator: operator.into(),
        values: requirement.values.clone().unwrap_or_default(),
    }
}

fn node_requirement_from(requirement: &proto::NodeSelectorRequirement) -> core::NodeSelectorRequirement {
    let operator = match requirement.operator() {
        nsr::Operator::Unspecified => "",
        nsr::Operator::In => "In",
        nsr::Operator::NotIn => "NotIn",
        nsr::Operator::Exists => "Exists",
        nsr::Operator::DoesNotExist => "DoesNotExist",
        nsr::Operator::Gt => "Gt",
        nsr::Operator::Lt => "Lt",
    };
    core::NodeSelectorRequirement {
        key: requirement.key.clone(),
        operator: operator.into(),
        values: some(requirement.values.clone()),
    }
}

/// A spread constraint as a message.
pub fn spread(constraint: &core::TopologySpreadConstraint) -> proto::TopologySpreadConstraint {
    let when = match constraint.when_unsatisfiable.as_str() {
        "DoNotSchedule" => WhenUnsatisfiable::DoNotSchedule,
        "ScheduleAnyway" => WhenUnsatisfiable::ScheduleAnyway,
        _ => WhenUnsatisfiable::Unspecified,
    };
    let policy = |text: &Option<String>| match text.as_deref() {
        Some("Honor") => InclusionPolicy::Honor,
        Some("Ignore") => InclusionPolicy::Ignore,
        _ => InclusionPolicy::Unspecified,
    };
    proto::TopologySpreadConstraint {
        max_skew: constraint.max_skew,
        topology_key: constraint.topology_key.clone(),
        when_unsatisfiable: when.into(),
        label_selector: constraint.label_selector.as_ref().map(label_selector),
        min_domains: constraint.min_domains.unwrap_or_default(),
        node_affinity_policy: policy(&constraint.node_affinity_policy).into(),
        node_taints_policy: policy(&constraint.node_taints_policy).into(),
        match_label_keys: constraint.match_label_keys.clone().unwrap_or_default(),
    }
}

/// A spread constraint from a message.
pub fn spread_from(constraint: &proto::TopologySpreadConstraint) -> core::TopologySpreadConstraint {
    let when = match constraint.when_unsatisfiable() {
        WhenUnsatisfiable::Unspecified => "",
        WhenUnsatisfiable::DoNotSchedule => "DoNotSchedule",
        WhenUnsatisfiable::ScheduleAnyway => "ScheduleAnyway",
    };
    let policy = |policy: InclusionPolicy| match policy {
        InclusionPolicy::Unspecified => None,
        InclusionPolicy::Honor => Some("Honor".to_owned()),
        InclusionPolicy::Ignore => Some("Ignore".to_owned()),
    };
    core::TopologySpreadConstraint {
        max_skew: constraint.max_skew,
        topology_key: constraint.topology_key.clone(),
        when_unsatisfiable: when.into(),
        label_selector: constraint.label_selector.as_ref().map(label_selector_from),
        min_domains: Some(constraint.min_domains).filter(|n| *n != 0),
        node_affinity_policy: policy(constraint.node_affinity_policy()),
        node_taints_policy: policy(constraint.node_taints_policy()),
        match_label_keys: some(constraint.match_label_keys.clone()),
    }
}

/// Anti-affinity as a message.
pub fn anti_affinity(anti: &core::PodAntiAffinity) -> proto::PodAntiAffinity {
    let preferred = anti
        .preferred_during_scheduling_ignored_during_execution
        .iter()
        .flatten();
    proto::PodAntiAffinity {
        required: anti
            .required_during_scheduling_ignored_during_execution
            .iter()
            .flatten()
            .map(pod_term)
            .collect(),
        preferred: preferred
            .map(|p| proto::WeightedPodAffinityTerm {
                weight: p.weight,
                term: Some(pod_term(&p.pod_affinity_term)),
            })
            .collect(),
    }
}

/// Anti-affinity from a message.
pub fn anti_affinity_from(anti: &proto::PodAntiAffinity) -> core::PodAntiAffinity {
    let preferred = anti.preferred.iter().map(|p| core::WeightedPodAffinityTerm {
        weight: p.weight,
        pod_affinity_term: p.term.as_ref().map(pod_term_from).unwrap_or_default(),
    });
    core::PodAntiAffinity {
        required_during_scheduling_ignored_during_execution: some(anti.required.iter().map(pod_term_from).collect()),
        preferred_during_scheduling_ignored_during_execution: some(preferred.collect()),
    }
}

fn pod_term(term: &core::PodAffinityTerm) -> proto::PodAffinityTerm {
    proto::PodAffinityTerm {
        topology_key: term.topology_key.clone(),
        label_selector: term.label_selector.as_ref().map(label_selector),
        namespaces: term.namespaces.clone().unwrap_or_default(),
        namespace_selector: term.namespace_selector.as_ref().map(label_selector),
        match_label_keys: term.match_label_keys.clone().unwrap_or_default(),
        mismatch_label_keys: term.mismatch_label_keys.clone().unwrap_or_default(),
    }
}

fn pod_term_from(term: &proto::PodAffinityTerm) -> core::PodAffinityTerm {
    core::PodAffinityTerm {
        topology_key: term.topology_key.clone(),
        label_selector: term.label_selector.as_ref().map(label_selector_from),
        namespaces: some(term.namespaces.clone()),
        namespace_selector: term.namespace_selector.as_ref().map(label_selector_from),
        match_label_keys: some(term.match_label_keys.clone()),
        mismatch_label_keys: some(term.mismatch_label_keys.clone()),
    }
}

fn label_selector(selector: &meta::LabelSelector) -> proto::LabelSelector {
    let requirement = |r: &meta::LabelSelectorRequirement| proto::LabelSelectorRequirement {
        key: r.key.clone(),
        operator: match r.operator.as_str() {
            "In" => lsr::Operator::In,
            "NotIn" => lsr::Operator::NotIn,
            "Exists" => lsr::Operator::Exists,
            "DoesNotExist" => lsr::Operator::DoesNotExist,
            _ => lsr::Operator::Unspecified,
        }
        .into(),
        values: r.values.clone().unwrap_or_default(),
    };
    proto::LabelSelector {
        match_labels: selector.match_labels.clone().unwrap_or_default().into_iter().collect(),
        match_expressions: selector.match_expressions.iter().flatten().map(requirement).collect(),
    }
}

fn label_selector_from(selector: &proto::LabelSelector) -> meta::LabelSelector {
    let requirement = |r: &proto::LabelSelectorRequirement| meta::LabelSelectorRequirement {
        key: r.key.clone(),
        operator: match r.operator() {
            lsr::Operator::Unspecified => "",
            lsr::Operator::In => "In",
            lsr::Operator::NotIn => "NotIn",
            lsr::Operator::Exists => "Exists",
            lsr::Operator::DoesNotExist => "DoesNotExist",
        }
        .into(),
        values: some(r.values.clone()),
    };
    meta::LabelSelector {
        match_labels: Some(selector.match_labels.clone().into_iter().collect())
            .filter(|m: &std::collections::BTreeMap<_, _>| !m.is_empty()),
        match_expressions: some(selector.match_expressions.iter().map(requirement).collect()),
    }
}

/// A toleration as a message.
pub fn toleration(toleration: &core::Toleration) -> proto::Toleration {
    let operator = match toleration.operator.as_deref() {
        Some("Exists") => TolerationOperator::Exists,
        Some("Equal") => TolerationOperator::Equal,
        _ => TolerationOperator::Unspecified,
    };
    proto::Toleration {
        key: toleration.key.clone().unwrap_or_default(),
        operator: operator.into(),
        value: toleration.value.clone().unwrap_or_default(),
        effect: taint_effect(toleration.effect.as_deref().unwrap_or_default()).into(),
        toleration_seconds: toleration
            .toleration_seconds
            .map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
    }
}

/// A toleration from a message.
pub fn toleration_from(toleration: &proto::Toleration) -> core::Toleration {
    let operator = match toleration.operator() {
        TolerationOperator::Unspecified => None,
        TolerationOperator::Equal => Some("Equal".to_owned()),
        TolerationOperator::Exists => Some("Exists".to_owned()),
    };
    let effect = match toleration.effect() {
        TaintEffect::Unspecified => None,
        TaintEffect::NoSchedule => Some("NoSchedule".to_owned()),
        TaintEffect::PreferNoSchedule => Some("PreferNoSchedule".to_owned()),
        TaintEffect::NoExecute => Some("NoExecute".to_owned()),
    };
    core::Toleration {
        key: some_text(&toleration.key),
        operator,
        value: some_text(&toleration.value),
        effect,
        toleration_seconds: toleration.toleration_seconds.as_ref().map(|d| d.seconds),
    }
}

/// Effect of a taint by its name.
pub fn taint_effect(text: &str) -> TaintEffect {
    match text {
        "NoSchedule" => TaintEffect::NoSchedule,
        "PreferNoSchedule" => TaintEffect::PreferNoSchedule,
        "NoExecute" => TaintEffect::NoExecute,
        _ => TaintEffect::Unspecified,
    }
}
