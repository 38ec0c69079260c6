//! Label and field selectors.

use serde_json::Value;

use super::{
    dig, names,
    resource::{Origin, ResourceDef},
    status::ApiError,
};

/// What a list or watch is narrowed to.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    labels: Vec<LabelRequirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LabelRequirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
    Greater(String, i64),
    Less(String, i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldRequirement {
    path: String,
    value: String,
    equal: bool,
}

impl Selection {
    /// Parses both selectors for a resource.
    ///
    /// # Errors
    ///
    /// 400 for a selector that cannot be parsed or a field that the resource cannot be selected by.
    pub fn parse(
        def: &ResourceDef,
        version: &str,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, ApiError> {
        let selection = Self {
            labels: parse_labels(labels.unwrap_or_default())?,
            fields: parse_fields(fields.unwrap_or_default())?,
        };
        for field in &selection.fields {
            if !selectable(def, version, &field.path) {
                return Err(ApiError::bad_request(unselectable(def, &field.path)));
            }
        }
        Ok(selection)
    }

    /// Only a label selector, as in `matchLabels` written out.
    ///
    /// # Errors
    ///
    /// 400 for one that cannot be parsed.
    pub fn labels(text: &str) -> Result<Self, ApiError> {
        Ok(Self {
            labels: parse_labels(text)?,
            fields: Vec::new(),
        })
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Narrowed to one object, as a watch on a single name is.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.fields.push(FieldRequirement {
            path: "metadata.name".to_owned(),
            value: name.to_owned(),
            equal: true,
        });
        self
    }

    /// Whether the object is selected.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = dig::at(object, &["metadata", "labels"]);
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        self.labels.iter().all(|requirement| requirement.matches(label))
            && self
                .fields
                .iter()
                .all(|field| (field_value(object, &field.path) == field.value) == field.equal)
    }
}

impl LabelRequirement {
    fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let number = |key: &str| label(key).and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::In(key, values) => label(key).is_some_and(|value| values.iter().any(|other| other == value)),
            Self::NotIn(key, values) => label(key).is_none_or(|value| values.iter().all(|other| other != value)),
            Self::Exists(key) => label(key).is_some(),
            Self::Missing(key) => label(key).is_none(),
            Self::Greater(key, bound) => number(key).is_some_and(|value| value > *bound),
            Self::Less(key, bound) => number(key).is_some_and(|value| value < *bound),
        }
    }
}

fn field_value(object: &Value, path: &str) -> String {
    let steps: Vec<&str> = path.split('.').collect();
    match dig::at(object, &steps) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) if path == "spec.unschedulable" => "false".to_owned(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

fn selectable(def: &ResourceDef, version: &str, path: &str) -> bool {
    if matches!(path, "metadata.name" | "metadata.namespace") {
        return true;
    }
    own_fields(def).contains(&path)
        || def.version(version).is_some_and(|version| {
            version
                .selectable
                .iter()
                .any(|field| field.trim_start_matches('.') == path)
        })
}

/// The fields beside name and namespace by which a built-in kind can be selected.
fn own_fields(def: &ResourceDef) -> &'static [&'static str] {
    match (def.group.as_str(), def.plural.as_str()) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "secrets") => &["type"],
        ("", "namespaces") => &["status.phase"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("", "replicationcontrollers") | ("apps", "replicasets") => &["status.replicas"],
        ("batch", "jobs") => &["status.successful"],
        ("certificates.k8s.io", _) => &["spec.signerName"],
        ("" | "events.k8s.io", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "reason",
            "reportingComponent",
            "reportingController",
            "source",
            "type",
        ],
        _ => &[],
    }
}

fn unselectable(def: &ResourceDef, path: &str) -> String {
    if def.origin == Origin::BuiltIn && own_fields(def).is_empty() {
        format!("\"{path}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    } else {
        format!("field label not supported: {path}")
    }
}

fn parse_fields(text: &str) -> Result<Vec<FieldRequirement>, ApiError> {
    let terms = text.split(',').map(str::trim).filter(|term| !term.is_empty());
    terms
        .map(|term| {
            let (path, value, equal) = if let Some((path, value)) = term.split_once("!=") {
                (path, value, false)
            } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
                (path, value, true)
            } else {
                return Err(ApiError::bad_request(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                )));
            };
            Ok(FieldRequirement {
                path: path.trim().to_owned(),
                value: value.trim().to_owned(),
                equal,
            })
        })
        .collect()
}

fn parse_labels(text: &str) -> Result<Vec<LabelRequirement>, ApiError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    split_terms(text)
        .into_iter()
        .map(|term| parse_label(text, term.trim()))
        .collect()
}

/// Splits at commas that are not inside parentheses.
fn split_terms(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|character: char| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    })
    .collect()
}

fn parse_label(whole: &str, term: &str) -> Result<LabelRequirement, ApiError> {
    let bad = |why: &str| ApiError::bad_request(format!("unable to parse requirement: {why} in selector '{whole}'"));
    let key = |text: &str| {
        let text = text.trim();
        names::key_faults(text)
            .is_empty()
            .then(|| text.to_owned())
            .ok_or_else(|| bad(&format!("invalid label key '{text}'")))
    };
    let one = |text: &str| {
        let text = text.trim();
        names::label_fault(text)
            .is_none()
            .then(|| text.to_owned())
            .ok_or_else(|| bad(&format!("invalid label value '{text}'")))
    };
    if let Some((head, tail)) = term.split_once('(') {
        let values = tail.strip_suffix(')').ok_or_else(|| bad("unbalanced parentheses"))?;
        let values = values.split(',').map(one).collect::<Result<Vec<_>, _>>()?;
        let (name, operator) = head
            .trim()
            .rsplit_once(char::is_whitespace)
            .ok_or_else(|| bad("found '(' without an operator"))?;
        return match operator {
            "in" => Ok(LabelRequirement::In(key(name)?, values)),
            "notin" => Ok(LabelRequirement::NotIn(key(name)?, values)),
            other => Err(bad(&format!("found '{other}', expected: in, notin"))),
        };
    }
    if let Some((name, value)) = term.split_once("!=") {
        return Ok(LabelRequirement::NotIn(key(name)?, vec![one(value)?]));
    }
    if let Some((name, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(LabelRequirement::In(key(name)?, vec![one(value)?]));
    }
    let number = |text: &str| {
        text.trim()
            .parse::<i64>()
            .map_err(|_| bad("for 'Gt', 'Lt' operators, the value must be an integer"))
    };
    if let Some((name, value)) = term.split_once('>') {
        return Ok(LabelRequirement::Greater(key(name)?, number(value)?));
    }
    if let Some((name, value)) = term.split_once('<') {
        return Ok(LabelRequirement::Less(key(name)?, number(value)?));
    }
    match term.strip_prefix('!') {
        Some(name) => Ok(LabelRequirement::Missing(key(name)?)),
        None => Ok(LabelRequirement::Exists(key(term)?)),
    }
}

/// A `LabelSelector` object (`matchLabels`, `matchExpressions`) against labels; an empty one selects everything.
pub(crate) fn label_selector_matches(selector: &Value, labels: Option<&Value>) -> bool {
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
    let equal = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .is_none_or(|wanted| wanted.iter().all(|(key, value)| label(key) == value.as_str()));
    equal
        && dig::items(selector, &["matchExpressions"]).iter().all(|expression| {
            let key = dig::text(expression, &["key"]).to_owned();
            let values = dig::items(expression, &["values"])
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            let requirement = match dig::text(expression, &["operator"]) {
                "In" => LabelRequirement::In(key, values),
                "NotIn" => LabelRequirement::NotIn(key, values),
                "Exists" => LabelRequirement::Exists(key),
                "DoesNotExist" => LabelRequirement::Missing(key),
                _ => return false,
            };
            requirement.matches(label)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn label_selectors_match_as_kubernetes_says() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "front", "size": "5"}}});
        for (selector, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (web, db),tier notin (back)", true),
            ("app in (db)", false),
            ("app", true),
            ("!app", false),
            ("!missing", true),
            ("size>4", true),
            ("size<5", false),
            ("missing notin (a)", true),
        ] {
            assert_eq!(
                Selection::labels(selector).unwrap().matches(&object),
                expected,
                "{selector}"
            );
        }
        for bad in ["app in web", "a b", "app in (x", "=x", "a=b c"] {
            assert_eq!(Selection::labels(bad).unwrap_err().code, 400, "{bad}");
        }
    }

    #[test]
    fn field_selectors_know_only_the_fields_of_their_resource() {
        let pods = ResourceDef::built_in("", "v1", "pods", "Pod", super::super::resource::Scope::Namespaced);
        let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n1"}});
        let selected =
            |text: &str| Selection::parse(&pods, "v1", None, Some(text)).map(|selection| selection.matches(&pod));
        assert!(selected("spec.nodeName=n1,metadata.name!=b").unwrap());
        assert!(!selected("status.phase=Running").unwrap());
        assert!(selected("status.phase!=Running").unwrap());
        assert!(selected("spec.containers=x").is_err());
    }
}
