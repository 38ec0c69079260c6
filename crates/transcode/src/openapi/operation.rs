//! Methods and their rules as operations.

use ahash::AHashSet;
use prost_reflect::{FieldDescriptor, Kind, MethodDescriptor};

use super::messages;
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
            Kind::Message(message) if !field.is_list() && !field.is_map() && !messages::is_well_known(&message) => {
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
    pub(super) fn takes_etag(&self) -> bool {
        messages::has_etag(&self.method.input())
            || self.body_message().is_some_and(|message| messages::has_etag(&message))
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
