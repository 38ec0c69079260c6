//! Where a machine may run: node affinity and spread constraints, as Kubernetes checks those of pods.

use serde_json::Value;

use crate::behaviour::virt_api::fields::{Causes, list, text};

pub(super) fn affinity(field: &str, spec: &Value, causes: &mut Causes) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let Some(required) = spec.pointer(&format!("/affinity/nodeAffinity/{REQUIRED}")) else {
        return;
    };
    // virt-api leaves "affinity" out of the path.
    let field = format!("{field}.nodeAffinity.{REQUIRED}.nodeSelectorTerms");
    let terms = list(required, "/nodeSelectorTerms");
    if terms.is_empty() {
        let message = format!("{field}: Required value: must have at least one node selector term");
        causes.invalid(field, message);
        return;
    }
    for (index, term) in terms.iter().enumerate() {
        for (place, requirement) in list(term, "/matchExpressions").iter().enumerate() {
            self::requirement(
                &format!("{field}[{index}].matchExpressions[{place}]"),
                requirement,
                causes,
            );
        }
    }
}

fn requirement(field: &str, requirement: &Value, causes: &mut Causes) {
    let values = list(requirement, "/values").len();
    let wrong = match text(requirement, "/operator") {
        "In" | "NotIn" if values == 0 => (
            "values",
            "Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ),
        "Exists" | "DoesNotExist" if values > 0 => (
            "values",
            "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        "Gt" | "Lt" if values != 1 => (
            "values",
            "Required value: must be specified single value when `operator` is 'Lt' or 'Gt'",
        ),
        _ => return,
    };
    let field = format!("{field}.{}", wrong.0);
    causes.invalid(field.clone(), format!("{field}: {}", wrong.1));
}

pub(super) fn spread(field: &str, spec: &Value, causes: &mut Causes) {
    for (index, constraint) in list(spec, "/topologySpreadConstraints").iter().enumerate() {
        let field = format!("{field}.topologySpreadConstraints[{index}]");
        let skew = constraint
            .pointer("/maxSkew")
            .and_then(Value::as_i64)
            .unwrap_or_default();
        if skew <= 0 {
            let field = format!("{field}.maxSkew");
            let message = format!("{field}: Invalid value: {skew}: must be greater than zero");
            causes.invalid(field, message);
        }
        if text(constraint, "/topologyKey").is_empty() {
            let field = format!("{field}.topologyKey");
            let message = format!("{field}: Required value: can not be empty");
            causes.invalid(field, message);
        }
    }
}
