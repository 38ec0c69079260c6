//! Reading `google.api.http` from a method's options.

use prost_reflect::{DynamicMessage, MethodDescriptor, ReflectMessage, Value};

/// Field number of the extension `google.api.http` of `google.protobuf.MethodOptions`.
const HTTP: u32 = 72_295_728;

/// One HTTP rule, without the nested bindings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRule {
    /// `GET`, `PUT`, `POST`, `DELETE`, `PATCH`, a custom kind, or `*`.
    pub method: String,
    /// The path template.
    pub template: String,
    /// Name of the field that is the request body, `*`, or empty.
    pub body: String,
    /// Name of the reply's field that is the response body, or empty.
    pub response_body: String,
}

/// The rules of a method: the first and its `additional_bindings`; none if it is not annotated.
pub fn rules(method: &MethodDescriptor) -> Vec<HttpRule> {
    let options = method.options();
    let mut rules = Vec::new();
    for (extension, value) in options.extensions() {
        if let (HTTP, Value::Message(rule)) = (extension.number(), value) {
            rules.extend(read(rule));
            let Some(nested) = rule.get_field_by_name("additional_bindings") else {
                continue;
            };
            let nested = nested.as_list().unwrap_or_default();
            rules.extend(nested.iter().filter_map(Value::as_message).filter_map(read));
        }
    }
    rules
}

fn read(rule: &DynamicMessage) -> Option<HttpRule> {
    let text = |message: &DynamicMessage, name: &str| {
        message
            .get_field_by_name(name)
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    let (method, template) = ["get", "put", "post", "delete", "patch"]
        .into_iter()
        .find(|kind| rule.has_field_by_name(kind))
        .map(|kind| (kind.to_ascii_uppercase(), text(rule, kind)))
        .or_else(|| {
            let custom = rule
                .has_field_by_name("custom")
                .then(|| rule.get_field_by_name("custom"))??;
            let custom = custom.as_message()?;
            Some((text(custom, "kind"), text(custom, "path")))
        })?;
    debug_assert_eq!(rule.descriptor().name(), "HttpRule");
    Some(HttpRule {
        method,
        template,
        body: text(rule, "body"),
        response_body: text(rule, "response_body"),
    })
}
