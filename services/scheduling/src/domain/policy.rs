//! Which placement policies are valid. Paths in violations are those of the message `PlacementPolicy`.

use k8s_openapi::{
    api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, Toleration, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use steading_infra::crd::placement_policy::PlacementPolicySpec;
use steading_model::{name::Scope, violation::Violations};

/// Most entries of any list of a policy: each is looked at for each infra node and each machine.
const MAX_ENTRIES: usize = 32;

/// How far the anti-affinity of a policy may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Into every namespace: a policy that the operator made for all projects.
    Everywhere,
    /// Into the namespace of the machine only: a policy of a project. Other namespaces are other tenants, whose machines it
    /// could count, avoid, and by that keep out.
    OwnNamespace,
}

impl Reach {
    /// How far a policy of this scope may look.
    pub fn of(scope: &Scope) -> Self {
        match scope {
            Scope::Shared => Self::Everywhere,
            Scope::Project(_) => Self::OwnNamespace,
        }
    }
}

/// Checks a policy whole.
///
/// # Errors
/// Every rule that it breaks.
pub fn validate(policy: &PlacementPolicySpec, reach: Reach) -> Result<(), Violations> {
    let mut all = Violations::new();
    if let Some(affinity) = &policy.node_affinity {
        let required = affinity
            .required_during_scheduling_ignored_during_execution
            .iter()
            .flat_map(|s| &s.node_selector_terms);
        for (index, term) in required.enumerate() {
            node_term(&mut all, &format!("node_affinity.required[{index}]"), term);
        }
        let preferred = affinity
            .preferred_during_scheduling_ignored_during_execution
            .iter()
            .flatten();
        for (index, weighted) in preferred.enumerate() {
            let path = format!("node_affinity.preferred[{index}]");
            weight(&mut all, &path, weighted.weight);
            node_term(&mut all, &format!("{path}.preference"), &weighted.preference);
        }
    }
    let spread = &policy.topology_spread_constraints;
    all.require(
        spread.len() <= MAX_ENTRIES,
        "topology_spread_constraints",
        format!("must have at most {MAX_ENTRIES} entries"),
    );
    for (index, constraint) in spread.iter().enumerate() {
        let path = format!("topology_spread_constraints[{index}]");
        spread_constraint(&mut all, &path, constraint);
        let twin = |c: &TopologySpreadConstraint| {
            c.topology_key == constraint.topology_key && c.when_unsatisfiable == constraint.when_unsatisfiable
        };
        all.require(
            !spread.iter().take(index).any(twin),
            &path,
            "must differ from the constraints before it in topology_key or when_unsatisfiable",
        );
    }
    if let Some(anti) = &policy.pod_anti_affinity {
        for (index, term) in anti
            .required_during_scheduling_ignored_during_execution
            .iter()
            .flatten()
            .enumerate()
        {
            pod_term(&mut all, &format!("pod_anti_affinity.required[{index}]"), term, reach);
        }
        for (index, weighted) in anti
            .preferred_during_scheduling_ignored_during_execution
            .iter()
            .flatten()
            .enumerate()
        {
            let path = format!("pod_anti_affinity.preferred[{index}]");
            weight(&mut all, &path, weighted.weight);
            pod_term(&mut all, &format!("{path}.term"), &weighted.pod_affinity_term, reach);
        }
    }
    for (key, value) in &policy.node_selector {
        label_key(&mut all, "node_selector", key);
        label_value(&mut all, &format!("node_selector[{key}]"), value);
    }
    for (index, toleration) in policy.tolerations.iter().enumerate() {
        check_toleration(&mut all, &format!("tolerations[{index}]"), toleration);
    }
    for (index, preset) in policy.node_affinity_presets.iter().enumerate() {
        let path = format!("node_affinity_presets[{index}]");
        label_key(&mut all, &format!("{path}.key"), &preset.key);
        for value in &preset.values {
            label_value(&mut all, &format!("{path}.values"), value);
        }
    }
    all.finish()
}

fn node_term(all: &mut Violations, path: &str, term: &NodeSelectorTerm) {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    all.require(
        !expressions.is_empty() || !fields.is_empty(),
        path,
        "must have a requirement: a term without one matches no node",
    );
    for (index, requirement) in expressions.iter().enumerate() {
        let path = format!("{path}.match_expressions[{index}]");
        label_key(all, &format!("{path}.key"), &requirement.key);
        operator(all, &path, requirement);
    }
    for (index, requirement) in fields.iter().enumerate() {
        let path = format!("{path}.match_fields[{index}]");
        all.require(
            requirement.key == "metadata.name",
            format!("{path}.key"),
            "must be metadata.name",
        );
        all.require(
            matches!(requirement.operator.as_str(), "In" | "NotIn")
                && requirement.values.as_ref().is_some_and(|v| v.len() == 1),
            path,
            "must be In or NotIn with one value",
        );
    }
}

fn operator(all: &mut Violations, path: &str, requirement: &NodeSelectorRequirement) {
    let values = requirement.values.as_deref().unwrap_or_default();
    let path_of_values = format!("{path}.values");
    match requirement.operator.as_str() {
        "In" | "NotIn" => {
            all.require(
                !values.is_empty(),
                &path_of_values,
                "must not be empty with In or NotIn",
            );
            for value in values {
                label_value(all, &path_of_values, value);
            }
        }
        "Exists" | "DoesNotExist" => {
            all.require(
                values.is_empty(),
                path_of_values,
                "must be empty with Exists or DoesNotExist",
            );
        }
        "Gt" | "Lt" => all.require(
            matches!(values, [one] if one.parse::<i64>().is_ok()),
            path_of_values,
            "must be exactly one integer with Gt or Lt",
        ),
        _ => all.add(format!("{path}.operator"), "must be set"),
    }
}

fn spread_constraint(all: &mut Violations, path: &str, constraint: &TopologySpreadConstraint) {
    all.require(
        constraint.max_skew >= 1,
        format!("{path}.max_skew"),
        "must be at least 1",
    );
    label_key(all, &format!("{path}.topology_key"), &constraint.topology_key);
    let strict = constraint.when_unsatisfiable == "DoNotSchedule";
    all.require(
        strict || constraint.when_unsatisfiable == "ScheduleAnyway",
        format!("{path}.when_unsatisfiable"),
        "must be set",
    );
    if let Some(domains) = constraint.min_domains {
        all.require(domains >= 1, format!("{path}.min_domains"), "must not be negative");
        all.require(
            strict,
            format!("{path}.min_domains"),
            "can only be set with DO_NOT_SCHEDULE",
        );
    }
    if let Some(selector) = &constraint.label_selector {
        label_selector(all, &format!("{path}.label_selector"), selector);
    }
    for key in constraint.match_label_keys.iter().flatten() {
        label_key(all, &format!("{path}.match_label_keys"), key);
    }
}

fn pod_term(all: &mut Violations, path: &str, term: &PodAffinityTerm, reach: Reach) {
    label_key(all, &format!("{path}.topology_key"), &term.topology_key);
    if reach == Reach::OwnNamespace {
        let text = "can only be set in a policy that all projects share";
        let named = term.namespaces.as_ref().is_some_and(|names| !names.is_empty());
        all.require(!named, format!("{path}.namespaces"), text);
        all.require(
            term.namespace_selector.is_none(),
            format!("{path}.namespace_selector"),
            text,
        );
    }
    if let Some(selector) = &term.namespace_selector {
        label_selector(all, &format!("{path}.namespace_selector"), selector);
    }
    let (same, other) = (term.match_label_keys.as_deref(), term.mismatch_label_keys.as_deref());
    for key in same.unwrap_or_default() {
        label_key(all, &format!("{path}.match_label_keys"), key);
        let both = other.unwrap_or_default().contains(key);
        all.require(
            !both,
            format!("{path}.match_label_keys"),
            "must not also be in mismatch_label_keys",
        );
    }
    for key in other.unwrap_or_default() {
        label_key(all, &format!("{path}.mismatch_label_keys"), key);
    }
    if let Some(selector) = &term.label_selector {
        label_selector(all, &format!("{path}.label_selector"), selector);
    }
}

fn label_selector(all: &mut Violations, path: &str, selector: &LabelSelector) {
    for (key, value) in selector.match_labels.iter().flatten() {
        label_key(all, &format!("{path}.match_labels"), key);
        label_value(all, &format!("{path}.match_labels[{key}]"), value);
    }
    for (index, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        let path = format!("{path}.match_expressions[{index}]");
        label_key(all, &format!("{path}.key"), &requirement.key);
        let count = requirement.values.as_ref().map_or(0, Vec::len);
        match requirement.operator.as_str() {
            "In" | "NotIn" => all.require(
                count > 0,
                format!("{path}.values"),
                "must not be empty with In or NotIn",
            ),
            "Exists" | "DoesNotExist" => {
                all.require(
                    count == 0,
                    format!("{path}.values"),
                    "must be empty with Exists or DoesNotExist",
                );
            }
            _ => all.add(format!("{path}.operator"), "must be set"),
        }
    }
}

fn check_toleration(all: &mut Violations, path: &str, toleration: &Toleration) {
    let exists = toleration.operator.as_deref() == Some("Exists");
    let key = toleration.key.as_deref().unwrap_or_default();
    if key.is_empty() {
        all.require(exists, format!("{path}.key"), "can only be empty with EXISTS");
    } else {
        label_key(all, &format!("{path}.key"), key);
    }
    all.require(
        !exists || toleration.value.as_deref().unwrap_or_default().is_empty(),
        format!("{path}.value"),
        "must be empty with EXISTS",
    );
    all.require(
        toleration.toleration_seconds.is_none() || toleration.effect.as_deref() == Some("NoExecute"),
        format!("{path}.toleration_seconds"),
        "can only be set with NO_EXECUTE",
    );
}

fn weight(all: &mut Violations, path: &str, weight: i32) {
    all.require(
        (1..=100).contains(&weight),
        format!("{path}.weight"),
        "must be 1 to 100",
    );
}

/// Kubernetes' qualified name: an optional DNS prefix and a name of at most 63 characters.
fn label_key(all: &mut Violations, path: &str, key: &str) {
    let (prefix, name) = key
        .rsplit_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let dns = |text: &str| {
        !text.is_empty()
            && text.len() <= 253
            && text
                .split('.')
                .all(|part| is_name(part, |c| c == '-') && !part.chars().any(|c| c.is_ascii_uppercase()))
    };
    all.require(
        is_name(name, |c| matches!(c, '-' | '_' | '.')) && name.len() <= 63 && prefix.is_none_or(dns),
        path,
        format!("{key:?} is not a label key"),
    );
}

fn label_value(all: &mut Violations, path: &str, value: &str) {
    all.require(
        value.is_empty() || (value.len() <= 63 && is_name(value, |c| matches!(c, '-' | '_' | '.'))),
        path,
        format!("{value:?} is not a label value"),
    );
}

fn is_name(text: &str, inner: impl Fn(char) -> bool) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || inner(c))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeAffinity, NodeSelector};

    use super::*;
    use crate::domain::resolve::{default_policy, default_spread};

    fn paths(policy: &PlacementPolicySpec) -> Vec<String> {
        validate(policy, Reach::Everywhere)
            .err()
            .into_iter()
            .flatten()
            .map(|v| v.path)
            .collect()
    }

    #[test]
    fn the_default_policy_is_valid() {
        assert_eq!(validate(&default_policy(), Reach::OwnNamespace), Ok(()));
    }

    #[test]
    fn a_projects_policy_does_not_reach_into_other_namespaces() {
        let term = |namespaces: &[&str], selector: Option<LabelSelector>| PodAffinityTerm {
            topology_key: "kubernetes.io/hostname".into(),
            namespaces: Some(namespaces.iter().map(ToString::to_string).collect()),
            namespace_selector: selector,
            ..PodAffinityTerm::default()
        };
        let policy = PlacementPolicySpec {
            pod_anti_affinity: Some(k8s_openapi::api::core::v1::PodAntiAffinity {
                required_during_scheduling_ignored_during_execution: Some(vec![
                    term(&["rival--web"], None),
                    term(&[], Some(LabelSelector::default())),
                    term(&[], None),
                ]),
                ..k8s_openapi::api::core::v1::PodAntiAffinity::default()
            }),
            ..PlacementPolicySpec::default()
        };
        assert_eq!(validate(&policy, Reach::of(&Scope::Shared)), Ok(()));
        let acme = steading_model::ids::Id::parse("acme").expect("an id");
        let broken = validate(&policy, Reach::of(&Scope::Project(acme)))
            .err()
            .into_iter()
            .flatten();
        assert_eq!(
            broken.map(|v| v.path).collect::<Vec<_>>(),
            [
                "pod_anti_affinity.required[0].namespaces",
                "pod_anti_affinity.required[1].namespace_selector"
            ]
        );
    }

    #[test]
    fn every_fault_has_its_path() {
        let requirement = |operator: &str, values: &[&str]| NodeSelectorRequirement {
            key: "disk".into(),
            operator: operator.into(),
            values: Some(values.iter().map(ToString::to_string).collect()),
        };
        let policy = PlacementPolicySpec {
            node_affinity: Some(NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                    node_selector_terms: vec![
                        NodeSelectorTerm::default(),
                        NodeSelectorTerm {
                            match_expressions: Some(vec![
                                requirement("In", &[]),
                                requirement("Gt", &["x"]),
                                requirement("NotIn", &["ssd"]),
                            ]),
                            match_fields: None,
                        },
                    ],
                }),
                ..NodeAffinity::default()
            }),
            topology_spread_constraints: vec![
                TopologySpreadConstraint {
                    max_skew: 0,
                    min_domains: Some(2),
                    ..default_spread()
                },
                default_spread(),
            ],
            tolerations: vec![Toleration {
                toleration_seconds: Some(3),
                key: Some("a".into()),
                ..Toleration::default()
            }],
            node_selector: [("bad key".to_owned(), "ok".to_owned())].into(),
            ..PlacementPolicySpec::default()
        };
        assert_eq!(
            paths(&policy),
            [
                "node_affinity.required[0]",
                "node_affinity.required[1].match_expressions[0].values",
                "node_affinity.required[1].match_expressions[1].values",
                "topology_spread_constraints[0].max_skew",
                "topology_spread_constraints[0].min_domains",
                "topology_spread_constraints[1]",
                "node_selector",
                "tolerations[0].toleration_seconds",
            ]
        );
    }

    #[test]
    fn label_keys_may_have_a_dns_prefix() {
        for (key, good) in [
            ("a", true),
            ("example.com/a_B.c", true),
            ("/a", false),
            ("a/", false),
            ("EX.com/a", false),
            ("-a", false),
        ] {
            let mut all = Violations::new();
            label_key(&mut all, "", key);
            assert_eq!(all.is_empty(), good, "{key}");
        }
    }
}
