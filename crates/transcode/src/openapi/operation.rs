//! Methods and their rules as operations.

use ahash::AHashSet;
use prost_reflect::{FieldDescriptor, Kind, MethodDescriptor};
use serde_json::{Map, Value, json};

use super::comments;
use super::path::{self, Place};
use super::schemas::{self, Schemas};
use super::{ServiceNames, body, errors, query};
use crate::rule::{self, HttpRule};
use crate::template::Template;

/// What the request's body is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    None,
    Whole,
    Field(FieldDescriptor),
}

/// One rule of a method, resolved.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) method: MethodDescriptor,
    pub(super) rule: HttpRule,
    pub(super) template: Template,
    pub(super) body: Body,
    /// The reply's field that is the response body.
    pub(super) response_body: Option<FieldDescriptor>,
    /// Field paths that the path binds, and the fields.
    bound: Vec<(String, FieldDescriptor)>,
    /// Zero for a method's first rule.
    index: usize,
}

/// The operations of the methods, and what a document cannot say.
pub(super) fn collect(methods: &[MethodDescriptor]) -> (Vec<Operation>, Vec<String>) {
    let (mut operations, mut omitted) = (Vec::new(), Vec::new());
    for method in methods {
        for (index, rule) in rule::rules(method).into_iter().enumerate() {
            let label = label(method, &rule);
            let operation =
                Operation::new(method.clone(), rule, index).filter(|operation| !operation.verbs().is_empty());
            match operation {
                Some(operation) => operations.push(operation),
                None => omitted.push(label),
            }
        }
    }
    (operations, omitted)
}

fn label(method: &MethodDescriptor, rule: &HttpRule) -> String {
    format!("{}: {} {}", method.full_name(), rule.method, rule.template)
}

impl Operation {
    /// `None` for a rule that no gateway could serve.
    fn new(method: MethodDescriptor, rule: HttpRule, index: usize) -> Option<Self> {
        let template = Template::parse(&rule.template).ok()?;
        let input = method.input();
        let body = match rule.body.as_str() {
            "" => Body::None,
            "*" => Body::Whole,
            name => Body::Field(input.get_field_by_name(name)?),
        };
        let response_body = match rule.response_body.as_str() {
            "" => None,
            name => Some(method.output().get_field_by_name(name)?),
        };
        let mut bound = Vec::new();
        for variable in &template.variables {
            let mut message = Some(input.clone());
            let mut found = None;
            for part in variable.field_path.split('.') {
                let field = message?.get_field_by_name(part)?;
                message = field.kind().as_message().cloned();
                found = Some(field);
            }
            bound.push((variable.field_path.clone(), found?));
        }
        Some(Self {
            method,
            rule,
            template,
            body,
            response_body,
            bound,
            index,
        })
    }

    pub(super) fn label(&self) -> String {
        label(&self.method, &self.rule)
    }

    /// The keys of the path item that the rule stands for.
    pub(super) fn verbs(&self) -> &'static [&'static str] {
        match self.rule.method.as_str() {
            "GET" => &["get"],
            "PUT" => &["put"],
            "POST" => &["post"],
            "DELETE" => &["delete"],
            "PATCH" => &["patch"],
            "HEAD" => &["head"],
            "OPTIONS" => &["options"],
            "TRACE" => &["trace"],
            "*" => &["get", "put", "post", "delete", "patch"],
            _ => &[],
        }
    }

    /// The field that the path binds under this path of proto names.
    pub(super) fn bound(&self, path: &str) -> Option<&FieldDescriptor> {
        self.bound
            .iter()
            .find(|(bound, _)| bound == path)
            .map(|(_, field)| field)
    }

    /// All fields that the path binds.
    pub(super) fn bound_fields(&self) -> impl Iterator<Item = (&str, &FieldDescriptor)> {
        self.bound.iter().map(|(path, field)| (path.as_str(), field))
    }

    /// The ordinary message that is the body by way of a field.
    fn body_message(&self) -> Option<prost_reflect::MessageDescriptor> {
        let Body::Field(field) = &self.body else { return None };
        match field.kind() {
            Kind::Message(message) if !field.is_list() && !field.is_map() && !schemas::is_well_known(&message) => {
                Some(message)
            }
            _ => None,
        }
    }

    /// Whether the body changes only what it holds.
    pub(super) fn is_partial(&self) -> bool {
        self.rule.method == "PATCH" && self.body_message().is_some()
    }

    /// Whether the gateway fills in the update mask.
    pub(super) fn infers_mask(&self) -> bool {
        let mask = self
            .method
            .input()
            .get_field_by_name("update_mask")
            .filter(|field| !field.is_list());
        let is_mask = mask.is_some_and(|field| {
            field
                .kind()
                .as_message()
                .is_some_and(|m| m.full_name() == "google.protobuf.FieldMask")
        });
        self.is_partial() && is_mask
    }

    /// Whether `If-Match` sets a field of the request.
    fn takes_etag(&self) -> bool {
        schemas::has_etag(&self.method.input())
            || self.body_message().is_some_and(|message| schemas::has_etag(&message))
    }
}

/// Operation ids so far.
#[derive(Debug, Default)]
pub(super) struct Taken {
    ids: AHashSet<String>,
}

impl Taken {
    /// `Service_Method`, and what sets further rules of the method apart.
    pub(super) fn id(&mut self, operation: &Operation, service: &str, verb: &str) -> String {
        let mut parts = vec![service.replace('.', "_"), operation.method.name().to_owned()];
        if operation.index > 0 {
            parts.push((operation.index + 1).to_string());
        }
        if operation.rule.method == "*" {
            parts.push(verb.to_owned());
        }
        let mut id = parts.join("_");
        while !self.ids.insert(id.clone()) {
            id.push('_');
        }
        id
    }
}

/// The Operation Object.
pub(super) fn render(
    operation: &Operation,
    place: &Place,
    schemas: &Schemas<'_>,
    names: &ServiceNames,
    id: &str,
) -> Value {
    let method = &operation.method;
    let mut out = Map::new();
    out.insert("tags".into(), json!([names.of(method.parent_service())]));
    let comment = schemas.comments.of(&method.parent_file(), method.path());
    out.insert(
        "summary".into(),
        json!(comment.map_or_else(|| method.name().to_owned(), comments::summary)),
    );
    if let Some(text) = comment {
        out.insert("description".into(), json!(text));
    }
    out.insert("operationId".into(), json!(id));
    if method
        .method_descriptor_proto()
        .options
        .as_ref()
        .is_some_and(prost_types::MethodOptions::deprecated)
    {
        out.insert("deprecated".into(), json!(true));
    }
    let mut parameters = path::parameters(operation, place, schemas);
    parameters.extend(query::parameters(operation, schemas));
    parameters.extend(conditions(operation));
    if !parameters.is_empty() {
        out.insert("parameters".into(), Value::Array(parameters));
    }
    let request = body::request(operation, schemas);
    let has_body = request.is_some();
    if let Some(request) = request {
        out.insert("requestBody".into(), request);
    }
    let mut responses = Map::new();
    responses.insert("200".into(), body::success(operation));
    if is_conditional(operation) {
        responses.insert(
            "304".into(),
            json!({"description": "The resource still has the etag of `If-None-Match`."}),
        );
    }
    errors::add(&mut responses, has_body);
    out.insert("responses".into(), Value::Object(responses));
    Value::Object(out)
}

/// Whether `If-None-Match` means something.
fn is_conditional(operation: &Operation) -> bool {
    operation.rule.method == "GET" && !operation.method.is_server_streaming() && body::has_etag(operation)
}

/// Header parameters.
fn conditions(operation: &Operation) -> Vec<Value> {
    let header = |name: &str, text: &str| json!({"name": name, "in": "header", "description": text, "schema": {"type": "string"}, "examples": {"etag": {"value": "\"5f1c\""}}});
    let mut out = Vec::new();
    if is_conditional(operation) {
        out.push(header(
            "If-None-Match",
            "An etag in quotes; if the resource still has it, the answer is 304 without a body.",
        ));
    }
    if operation.rule.method != "GET" && operation.takes_etag() {
        out.push(header(
            "If-Match",
            "The etag in quotes that the resource must have, in place of the request's `etag`.",
        ));
    }
    out
}
