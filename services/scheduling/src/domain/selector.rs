//! Labels and what selects them, in a form that is small, compares and hashes.
//!
//! `kube::core::Selector` parses the same things but can be neither hashed nor ordered, and the index keeps one counter
//! for each distinct selector.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Labels in order of their key. Keys and frequent values share their text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Box<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// Makes labels, taking each text from `text`, which may share it.
    pub fn new(labels: &BTreeMap<String, String>, mut text: impl FnMut(&str) -> Arc<str>) -> Self {
        Self(labels.iter().map(|(key, value)| (text(key), text(value))).collect())
    }

    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&Arc<str>> {
        let found = self.0.binary_search_by(|(other, _)| other.as_ref().cmp(key)).ok()?;
        self.0.get(found).map(|(_, value)| value)
    }

    /// Whether the label is there with this value.
    pub fn has(&self, key: &str, value: &str) -> bool {
        self.get(key).is_some_and(|found| found.as_ref() == value)
    }

    /// All labels in order of their key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))
    }
}

impl From<&BTreeMap<String, String>> for Labels {
    fn from(labels: &BTreeMap<String, String>) -> Self {
        Self::new(labels, |text| Arc::from(text))
    }
}

/// Relation of a label to values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    /// The value is one of them.
    In,
    /// The label is absent or its value is none of them.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// The value is an integer greater than the first.
    Gt,
    /// The value is an integer less than the first.
    Lt,
    /// An operator of a later Kubernetes: what may not match must not be promised, so it never holds.
    Unknown,
}

impl Operator {
    /// Reads the name that the Kubernetes API gives it.
    pub fn parse(name: &str) -> Self {
        match name {
            "In" => Self::In,
            "NotIn" => Self::NotIn,
            "Exists" => Self::Exists,
            "DoesNotExist" => Self::DoesNotExist,
            "Gt" => Self::Gt,
            "Lt" => Self::Lt,
            _ => Self::Unknown,
        }
    }

    /// The name that the Kubernetes API gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
            Self::Gt => "Gt",
            Self::Lt => "Lt",
            Self::Unknown => "an unknown operator",
        }
    }
}

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// Relation.
    pub operator: Operator,
    /// Values.
    pub values: Vec<String>,
}

impl Requirement {
    /// Makes a requirement.
    pub fn new(key: &str, operator: Operator, values: &[String]) -> Self {
        Self {
            key: key.to_owned(),
            operator,
            values: values.to_vec(),
        }
    }

    /// Whether a value (`None`: the label is absent) meets the requirement.
    pub fn met_by(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|wanted| wanted == value);
        let compare = |holds: fn(&i64, &i64) -> bool| {
            let bound = self.values.first().and_then(|bound| bound.parse().ok());
            let value = value.and_then(|value| value.parse().ok());
            value.zip(bound).is_some_and(|(value, bound)| holds(&value, &bound))
        };
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => compare(i64::gt),
            Operator::Lt => compare(i64::lt),
            Operator::Unknown => false,
        }
    }
}

/// A label selector: all requirements must be met.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// Selects nothing, as an absent selector does.
    #[default]
    Nothing,
    /// Selects what meets all of these; none selects everything.
    All(Vec<Requirement>),
}

impl Selector {
    /// Reads a selector of the Kubernetes API.
    pub fn parse(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else { return Self::Nothing };
        let exact = selector.match_labels.iter().flatten();
        let exact = exact.map(|(key, value)| Requirement::new(key, Operator::In, std::slice::from_ref(value)));
        let expressions = selector.match_expressions.iter().flatten().map(|expression| {
            let values = expression.values.as_deref().unwrap_or_default();
            Requirement::new(&expression.key, Operator::parse(&expression.operator), values)
        });
        let mut all: Vec<Requirement> = exact.chain(expressions).collect();
        // Two that mean the same shall be one counter.
        all.sort();
        all.dedup();
        Self::All(all)
    }

    /// Adds a requirement on each of `keys` that the labels have: `operator` and the labels' own value. A selector that
    /// selects nothing stays so, as in Kubernetes.
    pub fn bind(&mut self, keys: Option<&Vec<String>>, operator: Operator, labels: &Labels) {
        let Self::All(all) = self else { return };
        for key in keys.into_iter().flatten() {
            if let Some(value) = labels.get(key) {
                all.push(Requirement::new(key, operator, &[value.to_string()]));
            }
        }
        all.sort();
        all.dedup();
    }

    /// Whether it selects these labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::Nothing => false,
            Self::All(all) => all
                .iter()
                .all(|requirement| requirement.met_by(labels.get(&requirement.key).map(AsRef::as_ref))),
        }
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::All(all) if all.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_labels(pairs: &[(&str, &str)]) -> Labels {
        let map: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Labels::from(&map)
    }

    #[test]
    fn all_operators_mean_what_kubernetes_says() {
        let labels = mk_labels(&[("disk", "ssd"), ("cores", "32")]);
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
            let values: Vec<String> = values.into_iter().map(str::to_owned).collect();
            let requirement = Requirement::new(key, Operator::parse(operator), &values);
            let met = requirement.met_by(labels.get(key).map(AsRef::as_ref));
            assert_eq!(met, expected, "{key} {operator} {values:?}");
        }
    }

    #[test]
    fn an_absent_selector_selects_nothing_and_an_empty_one_everything() {
        let labels = mk_labels(&[("a", "b")]);
        assert!(!Selector::parse(None).matches(&labels));
        assert!(Selector::parse(Some(&LabelSelector::default())).matches(&labels));
        let mut nothing = Selector::Nothing;
        nothing.bind(Some(&vec!["a".into()]), Operator::In, &labels);
        assert_eq!(nothing, Selector::Nothing);
    }
}
