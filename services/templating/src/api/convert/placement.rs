//! A resolved placement as the fields of a pod's spec.

use serde_json::{Map, Value, json};
use steading_api::scheduling::v1::{
    self as proto, TaintEffect,
    label_selector_requirement::Operator as LabelOperator,
    node_selector_requirement::Operator as NodeOperator,
    toleration::Operator as TolerationOperator,
    topology_spread_constraint::{InclusionPolicy, WhenUnsatisfiable},
};

/// `affinity`, `nodeSelector`, `topologySpreadConstraints` and `tolerations`, as far as they say something.
pub fn pod_fields(placement: &proto::Placement) -> Map<String, Value> {
    let mut affinity = Map::new();
    if let Some(node) = &placement.node_affinity {
        affinity.extend(filled("nodeAffinity", node_affinity(node)));
    }
    if let Some(anti) = &placement.pod_anti_affinity {
        let preferred = anti
            .preferred
            .iter()
            .map(|p| json!({"weight": p.weight, "podAffinityTerm": p.term.as_ref().map(pod_term).unwrap_or_default()}));
        affinity.extend(filled(
            "podAntiAffinity",
            sections(anti.required.iter().map(pod_term).collect(), preferred.collect()),
        ));
    }
    let mut fields = Map::new();
    fields.extend(filled("affinity", Value::Object(affinity)));
    fields.extend(filled("nodeSelector", json!(placement.node_selector)));
    fields.extend(filled(
        "topologySpreadConstraints",
        placement.topology_spread_constraints.iter().map(spread).collect(),
    ));
    fields.extend(filled(
        "tolerations",
        placement.tolerations.iter().map(toleration).collect(),
    ));
    fields
}

fn filled(key: &str, value: Value) -> Option<(String, Value)> {
    let empty = match &value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Null => true,
        Value::Bool(_) | Value::Number(_) => false,
    };
    (!empty).then(|| (key.to_owned(), value))
}

fn sections(required: Value, preferred: Value) -> Value {
    let required = filled("requiredDuringSchedulingIgnoredDuringExecution", required);
    let preferred = filled("preferredDuringSchedulingIgnoredDuringExecution", preferred);
    Value::Object(required.into_iter().chain(preferred).collect())
}

fn node_affinity(affinity: &proto::NodeAffinity) -> Value {
    let required: Vec<Value> = affinity.required.iter().map(node_term).collect();
    let required = if required.is_empty() {
        Value::Null
    } else {
        json!({"nodeSelectorTerms": required})
    };
    let preferred = affinity
        .preferred
        .iter()
        .map(|p| json!({"weight": p.weight, "preference": p.preference.as_ref().map(node_term).unwrap_or_default()}));
    sections(required, preferred.collect())
}

fn node_term(term: &proto::NodeSelectorTerm) -> Value {
    let requirement = |r: &proto::NodeSelectorRequirement| {
        let operator = match r.operator() {
            NodeOperator::Unspecified => "",
            NodeOperator::In => "In",
            NodeOperator::NotIn => "NotIn",
            NodeOperator::Exists => "Exists",
            NodeOperator::DoesNotExist => "DoesNotExist",
            NodeOperator::Gt => "Gt",
            NodeOperator::Lt => "Lt",
        };
        fields(&r.key, operator, &r.values)
    };
    let expressions = filled(
        "matchExpressions",
        term.match_expressions.iter().map(requirement).collect(),
    );
    let on_fields = filled("matchFields", term.match_fields.iter().map(requirement).collect());
    Value::Object(expressions.into_iter().chain(on_fields).collect())
}

fn fields(key: &str, operator: &str, values: &[String]) -> Value {
    let mut all = Map::from_iter([("key".to_owned(), json!(key)), ("operator".to_owned(), json!(operator))]);
    all.extend(filled("values", json!(values)));
    Value::Object(all)
}

fn label_selector(field: &str, selector: Option<&proto::LabelSelector>) -> Option<(String, Value)> {
    let selector = selector?;
    let requirement = |r: &proto::LabelSelectorRequirement| {
        let operator = match r.operator() {
            LabelOperator::Unspecified => "",
            LabelOperator::In => "In",
            LabelOperator::NotIn => "NotIn",
            LabelOperator::Exists => "Exists",
            LabelOperator::DoesNotExist => "DoesNotExist",
        };
        fields(&r.key, operator, &r.values)
    };
    let labels = filled(
        "matchLabels",
        json!(
            selector
                .match_labels
                .iter()
                .collect::<std::collections::BTreeMap<_, _>>()
        ),
    );
    let expressions = filled(
        "matchExpressions",
        selector.match_expressions.iter().map(requirement).collect(),
    );
    // An empty selector selects everything and an absent one nothing, so it must stay.
    Some((
        field.to_owned(),
        Value::Object(labels.into_iter().chain(expressions).collect()),
    ))
}

fn pod_term(term: &proto::PodAffinityTerm) -> Value {
    let mut all = Map::from_iter([("topologyKey".to_owned(), json!(term.topology_key))]);
    all.extend(label_selector("labelSelector", term.label_selector.as_ref()));
    all.extend(label_selector("namespaceSelector", term.namespace_selector.as_ref()));
    all.extend(filled("namespaces", json!(term.namespaces)));
    all.extend(filled("matchLabelKeys", json!(term.match_label_keys)));
    all.extend(filled("mismatchLabelKeys", json!(term.mismatch_label_keys)));
    Value::Object(all)
}

fn spread(constraint: &proto::TopologySpreadConstraint) -> Value {
    let when = match constraint.when_unsatisfiable() {
        WhenUnsatisfiable::DoNotSchedule => "DoNotSchedule",
        WhenUnsatisfiable::ScheduleAnyway | WhenUnsatisfiable::Unspecified => "ScheduleAnyway",
    };
    let policy = |policy: InclusionPolicy| match policy {
        InclusionPolicy::Unspecified => "",
        InclusionPolicy::Honor => "Honor",
        InclusionPolicy::Ignore => "Ignore",
    };
    let mut all = Map::from_iter([
        ("maxSkew".to_owned(), json!(constraint.max_skew)),
        ("topologyKey".to_owned(), json!(constraint.topology_key)),
        ("whenUnsatisfiable".to_owned(), json!(when)),
    ]);
    all.extend(label_selector("labelSelector", constraint.label_selector.as_ref()));
    if constraint.min_domains > 0 {
        all.insert("minDomains".to_owned(), json!(constraint.min_domains));
    }
    all.extend(filled(
        "nodeAffinityPolicy",
        json!(policy(constraint.node_affinity_policy())),
    ));
    all.extend(filled(
        "nodeTaintsPolicy",
        json!(policy(constraint.node_taints_policy())),
    ));
    all.extend(filled("matchLabelKeys", json!(constraint.match_label_keys)));
    Value::Object(all)
}

fn toleration(toleration: &proto::Toleration) -> Value {
    let operator = match toleration.operator() {
        TolerationOperator::Unspecified => "",
        TolerationOperator::Equal => "Equal",
        TolerationOperator::Exists => "Exists",
    };
    let effect = match toleration.effect() {
        TaintEffect::Unspecified => "",
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    };
    let texts = [
        ("key", toleration.key.as_str()),
        ("operator", operator),
        ("value", &toleration.value),
        ("effect", effect),
    ];
    let mut all: Map<String, Value> = texts
        .into_iter()
        .filter_map(|(key, text)| filled(key, json!(text)))
        .collect();
    if let Some(seconds) = &toleration.toleration_seconds {
        all.insert("tolerationSeconds".to_owned(), json!(seconds.seconds));
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_is_written() {
        assert_eq!(pod_fields(&proto::Placement::default()), Map::new());
        let placement = proto::Placement {
            topology_spread_constraints: vec![proto::TopologySpreadConstraint {
                max_skew: 1,
                topology_key: "kubernetes.io/hostname".into(),
                when_unsatisfiable: WhenUnsatisfiable::ScheduleAnyway.into(),
                label_selector: Some(proto::LabelSelector {
                    match_labels: [("steading.dev/pool".to_owned(), "workers".to_owned())].into(),
                    match_expressions: vec![],
                }),
                ..proto::TopologySpreadConstraint::default()
            }],
            node_affinity: Some(proto::NodeAffinity::default()),
            ..proto::Placement::default()
        };
        assert_eq!(
            Value::Object(pod_fields(&placement)),
            json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"steading.dev/pool": "workers"}}}]})
        );
    }
}
