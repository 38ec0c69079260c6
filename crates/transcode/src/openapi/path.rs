//! Path templates as OpenAPI paths, whose parameters are one segment each.

use ahash::{AHashMap, AHashSet};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};

use super::operation::Operation;
use super::schemas::{self, Schemas};
use crate::template::{Segment, Template, Variable};

/// What cannot stand in a path's literal; braces would begin a parameter.
const LITERAL: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'/')
    .add(b'%')
    .add(b'\\')
    .add(b'^')
    .add(b'|');

/// Where an operation is, and the names of the wildcards in order.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) path: String,
    names: Vec<String>,
}

/// The paths so far. Paths that differ only in the names of their parameters are one in OpenAPI, so the first names
/// stay.
#[derive(Debug, Default)]
pub(super) struct Paths {
    names: AHashMap<String, Vec<String>>,
}

impl Paths {
    pub(super) fn place(&mut self, operation: &Operation) -> Place {
        let template = &operation.template;
        let blank = assemble(template, std::iter::repeat(""));
        let names = self
            .names
            .entry(blank)
            .or_insert_with(|| name_wildcards(template))
            .clone();
        Place {
            path: assemble(template, names.iter().map(String::as_str)),
            names,
        }
    }
}

fn assemble<'n>(template: &Template, mut names: impl Iterator<Item = &'n str>) -> String {
    let mut path = String::new();
    for segment in &template.segments {
        path.push('/');
        match segment {
            Segment::Literal(text) => path.extend(utf8_percent_encode(text, LITERAL)),
            Segment::One | Segment::Rest => {
                path.push('{');
                path.push_str(names.next().unwrap_or_default());
                path.push('}');
            }
        }
    }
    if let Some(verb) = &template.verb {
        path.push(':');
        path.extend(utf8_percent_encode(verb, LITERAL));
    }
    path
}

/// The variable around a segment.
fn variable(template: &Template, at: usize) -> Option<&Variable> {
    template
        .variables
        .iter()
        .find(|variable| variable.start <= at && variable.end.is_none_or(|end| at < end))
}

/// Whether the whole variable is one wildcard, so that the parameter is the field.
fn is_whole(template: &Template, variable: &Variable) -> bool {
    variable.end.unwrap_or(template.segments.len()) == variable.start + 1
}

fn name_wildcards(template: &Template) -> Vec<String> {
    let mut taken = AHashSet::new();
    let wildcards = template
        .segments
        .iter()
        .enumerate()
        .filter(|(_, segment)| !matches!(segment, Segment::Literal(_)));
    let mut unique = |base: String| {
        let mut name = base.clone();
        let mut count = 1;
        while !taken.insert(name.clone()) {
            count += 1;
            name = format!("{base}_{count}");
        }
        name
    };
    wildcards
        .map(|(at, _)| {
            let field = variable(template, at).filter(|variable| is_whole(template, variable));
            let field = field
                .and_then(|variable| variable.field_path.rsplit('.').next())
                .map(camel);
            let before = at.checked_sub(1).and_then(|before| template.segments.get(before));
            let literal = match before {
                Some(Segment::Literal(text)) if !is_version(text) => Some(singular(&identifier(text))),
                _ => None,
            };
            unique(
                field
                    .or(literal)
                    .filter(|name| !name.is_empty())
                    .unwrap_or_else(|| "segment".to_owned()),
            )
        })
        .collect()
}

/// `v1`, `v1beta2`.
fn is_version(text: &str) -> bool {
    text.strip_prefix('v')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn identifier(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

/// `machine_pool` as `machinePool`.
fn camel(name: &str) -> String {
    let mut parts = name.split('_').filter(|part| !part.is_empty());
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut chars = part.chars();
        out.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        out.push_str(chars.as_str());
    }
    out
}

/// The singular of a collection's name, as well as English allows.
pub(super) fn singular(word: &str) -> String {
    let cut = |end: usize, with: &str| format!("{}{with}", word.get(..word.len() - end).unwrap_or_default());
    match word {
        _ if word.to_ascii_lowercase().ends_with("series") => word.to_owned(),
        _ if word.ends_with("ies") && word.len() > 4 => cut(3, "y"),
        _ if word.ends_with("elves") => cut(3, "f"),
        _ if ["sses", "xes", "shes", "tches", "nches", "zzes", "tuses"]
            .iter()
            .any(|end| word.ends_with(end)) =>
        {
            cut(2, "")
        }
        _ if word.ends_with("ss") || word.ends_with("us") || word.ends_with("is") => word.to_owned(),
        _ if word.ends_with('s') && word.len() > 1 => cut(1, ""),
        _ => word.to_owned(),
    }
}

/// The parameters of an operation's path.
pub(super) fn parameters(operation: &Operation, place: &Place, schemas: &Schemas<'_>) -> Vec<Value> {
    let template = &operation.template;
    let wildcards = template
        .segments
        .iter()
        .enumerate()
        .filter(|(_, segment)| !matches!(segment, Segment::Literal(_)));
    wildcards
        .zip(&place.names)
        .map(|((at, segment), name)| {
            let (schema, text) = describe(operation, place, schemas, at, segment, name);
            json!({"name": name, "in": "path", "required": true, "description": text, "schema": schema})
        })
        .collect()
}

fn describe(
    operation: &Operation,
    place: &Place,
    schemas: &Schemas<'_>,
    at: usize,
    segment: &Segment,
    name: &str,
) -> (Value, String) {
    let template = &operation.template;
    let one = || json!({"type": "string", "minLength": 1, "pattern": "^[^/]+$"});
    let Some(variable) = variable(template, at) else {
        return (one(), "Any one segment.".to_owned());
    };
    let field = operation.bound(&variable.field_path);
    if let (true, Segment::One, Some(field)) = (is_whole(template, variable), segment, field) {
        let mut schema = schemas::text(field);
        if schema["type"] == "string" {
            schema["minLength"] = json!(1);
        }
        let comment = schemas.comment_of_field(field);
        return (
            schema,
            comment.unwrap_or_else(|| format!("Field `{}`.", variable.field_path)),
        );
    }
    let pattern = show(template, variable, place);
    let text = format!(
        "Segment `{{{name}}}` of `{pattern}`, the request's `{}`.",
        variable.field_path
    );
    match segment {
        Segment::Rest => (
            json!({"type": "string"}),
            format!("{text} Any number of segments, slashes included."),
        ),
        _ => (one(), text),
    }
}

/// A variable's value with the parameters' names.
fn show(template: &Template, variable: &Variable, place: &Place) -> String {
    let mut names = place.names.iter();
    let end = variable.end.unwrap_or(template.segments.len());
    let mut parts = Vec::new();
    for (at, segment) in template.segments.iter().enumerate() {
        let part = match segment {
            Segment::Literal(text) => text.clone(),
            _ => format!("{{{}}}", names.next().map(String::as_str).unwrap_or_default()),
        };
        if (variable.start..end).contains(&at) {
            parts.push(part);
        }
    }
    parts.join("/")
}
