//! CEL rules of a CRD's schema (`x-kubernetes-validations`), compiled once a version.

use std::{cell::OnceCell, sync::Arc};

use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::Value;

use super::cause::Cause;

/// The compiled rules of one version.
#[derive(Clone)]
pub struct Rules(Arc<CompiledSchema>);

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rules")
    }
}

thread_local! {
    static VALIDATOR: OnceCell<Validator> = const { OnceCell::new() };
}

impl Rules {
    /// Compiles the rules of a schema; none if it has none.
    pub fn compile(schema: &Value) -> Option<Self> {
        has_rules(schema).then(|| Self(Arc::new(compile_schema(schema))))
    }

    /// What the rules cannot be compiled for.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.0
            .compilation_errors()
            .into_iter()
            .map(ToString::to_string)
            .collect()
    }

    /// Evaluates the rules on an object and, for transition rules, the one before.
    pub(crate) fn check(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let found = VALIDATOR.with(|validator| {
            validator
                .get_or_init(Validator::new)
                .validate_compiled(&self.0, object, old)
        });
        let Err(errors) = found else {
            return Vec::new();
        };
        let causes = errors.as_slice().iter().map(|error| {
            let reason = error.reason.as_deref().unwrap_or("FieldValueInvalid");
            let shown = match at(object, &error.field_path) {
                Some(Value::Object(_) | Value::Array(_) | Value::Null) | None => String::new(),
                Some(plain) => format!("{plain}: "),
            };
            let message = match reason {
                "FieldValueForbidden" => format!("Forbidden: {}", error.message),
                "FieldValueRequired" => format!("Required value: {}", error.message),
                _ => format!("Invalid value: {shown}{}", error.message),
            };
            Cause::new(reason, error.field_path.clone(), message)
        });
        causes.collect()
    }
}

/// The value at a field path as `spec.names[1]`.
fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split(['.', '[', ']'])
        .filter(|step| !step.is_empty())
        .try_fold(object, |value, step| match value {
            Value::Array(list) => list.get(step.parse::<usize>().ok()?),
            other => other.get(step),
        })
}

fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.contains_key("x-kubernetes-validations") || map.values().any(has_rules),
        Value::Array(list) => list.iter().any(has_rules),
        _ => false,
    }
}
