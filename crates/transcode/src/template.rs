//! The path templates of `google.api.http`:
//!
//! ```text
//! Template = "/" [ Segments [ ":" Literal ] ]
//! Segments = Segment { "/" Segment }
//! Segment  = "*" | "**" | Literal | "{" FieldPath [ "=" Segments ] "}"
//! ```
//!
//! The root alone is not in the grammar of `google.api.http`; other gateways take it, so contracts have it.

use crate::percent::{self, Slash};

/// Why a template cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Does not begin with a slash.
    #[error("template must begin with a slash")]
    NoSlash,
    /// A segment between two slashes is empty.
    #[error("template has an empty segment")]
    EmptySegment,
    /// `**` is followed by another segment.
    #[error("`**` must be the last segment")]
    WildcardNotLast,
    /// A variable inside a variable.
    #[error("variables cannot be nested")]
    Nested,
    /// A brace without its partner, or text around one.
    #[error("unbalanced or misplaced brace")]
    Brace,
    /// Not a field path.
    #[error("`{0}` is not a field path")]
    FieldPath(String),
    /// One field is bound twice.
    #[error("field `{0}` is bound twice")]
    BoundTwice(String),
    /// A literal with a malformed escape or a character that no path has.
    #[error("literal `{0}` cannot occur in a path")]
    Literal(String),
}

/// One segment of a flattened template.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    /// Exactly this text.
    Literal(String),
    /// Any one segment.
    One,
    /// Any number of segments, none included.
    Rest,
}

/// A variable and the segments that it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) field_path: String,
    pub(crate) start: usize,
    /// One past the last segment; `None` when it ends in `**`.
    pub(crate) end: Option<usize>,
    /// Covers one segment by its pattern, so that an escaped slash is data.
    pub(crate) single: bool,
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) segments: Vec<Segment>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) verb: Option<String>,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let path = text.strip_prefix('/').ok_or(TemplateError::NoSlash)?;
        let (path, verb) = split_verb(path);
        let mut template = Self {
            segments: Vec::new(),
            variables: Vec::new(),
            verb: None,
        };
        if let Some(verb) = verb {
            template.verb = Some(literal(verb)?);
        }
        if path.is_empty() && template.verb.is_none() {
            return Ok(template);
        }
        for part in split_segments(path)? {
            match part.strip_prefix('{') {
                Some(inner) => template.variable(inner.strip_suffix('}').ok_or(TemplateError::Brace)?)?,
                None => template.segments.push(segment(part)?),
            }
        }
        let rest = template.segments.iter().position(|segment| *segment == Segment::Rest);
        if rest.is_some_and(|at| at + 1 != template.segments.len()) {
            return Err(TemplateError::WildcardNotLast);
        }
        Ok(template)
    }

    fn variable(&mut self, inner: &str) -> Result<(), TemplateError> {
        let (field_path, pattern) = inner.split_once('=').unwrap_or((inner, "*"));
        let name = |part: &str| {
            let mut bytes = part.bytes();
            bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
                && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        if !field_path.split('.').all(name) {
            return Err(TemplateError::FieldPath(field_path.to_owned()));
        }
        if self.variables.iter().any(|variable| variable.field_path == field_path) {
            return Err(TemplateError::BoundTwice(field_path.to_owned()));
        }
        let start = self.segments.len();
        for part in pattern.split('/') {
            self.segments.push(segment(part)?);
        }
        let open_ended = self.segments.last() == Some(&Segment::Rest);
        let single = self.segments.len() == start + 1 && !open_ended;
        let end = (!open_ended).then_some(self.segments.len());
        self.variables.push(Variable {
            field_path: field_path.to_owned(),
            start,
            end,
            single,
        });
        Ok(())
    }
}

/// The verb follows the last colon that is neither in a variable nor before a slash.
fn split_verb(path: &str) -> (&str, Option<&str>) {
    let tail = path.rfind(['}', '/']).map_or(0, |at| at + 1);
    match path.get(tail..).and_then(|text| text.rfind(':')) {
        Some(colon) => {
            let at = tail + colon;
            (path.get(..at).unwrap_or_default(), path.get(at + 1..))
        }
        None => (path, None),
    }
}

/// Splits at slashes outside of braces.
fn split_segments(path: &str) -> Result<Vec<&str>, TemplateError> {
    let (mut parts, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, c) in path.char_indices() {
        match c {
            '{' if inside => return Err(TemplateError::Nested),
            '{' if at != start => return Err(TemplateError::Brace),
            '{' => inside = true,
            '}' if !inside => return Err(TemplateError::Brace),
            '}' => inside = false,
            '/' if !inside => {
                parts.push(path.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(TemplateError::Brace);
    }
    parts.push(path.get(start..).unwrap_or_default());
    Ok(parts)
}

fn segment(part: &str) -> Result<Segment, TemplateError> {
    match part {
        "" => Err(TemplateError::EmptySegment),
        "*" => Ok(Segment::One),
        "**" => Ok(Segment::Rest),
        _ if part.contains(['{', '}']) => Err(TemplateError::Brace),
        _ => literal(part).map(Segment::Literal),
    }
}

fn literal(text: &str) -> Result<String, TemplateError> {
    let bad = || TemplateError::Literal(text.to_owned());
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.~%!$&'()+,;=@:".contains(&b);
    if text.is_empty() || matches!(text, "." | "..") || !text.bytes().all(allowed) {
        return Err(bad());
    }
    percent::decode(text, Slash::Decode)
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(field_path: &str, start: usize, end: Option<usize>, single: bool) -> Variable {
        Variable {
            field_path: field_path.into(),
            start,
            end,
            single,
        }
    }

    #[test]
    fn templates_flatten_to_segments_and_spans() {
        let template = Template::parse("/v1/{pool.name=projects/*/pools/*}/parts/{id}:scale").unwrap();
        assert_eq!(template.verb.as_deref(), Some("scale"));
        assert_eq!(template.segments.len(), 7);
        assert_eq!(
            template.variables,
            [
                variable("pool.name", 1, Some(5), false),
                variable("id", 6, Some(7), true)
            ]
        );
        let template = Template::parse("/v1/{name=files/**}:read").unwrap();
        assert_eq!(template.variables, [variable("name", 1, None, false)]);
        assert_eq!(Template::parse("/v1/things:import").unwrap().segments.len(), 2);
    }

    #[test]
    fn templates_that_cannot_be_served_are_refused() {
        for text in [
            "",
            "v1",
            "/:verb",
            "/v1/",
            "/v1//x",
            "/v1/**/x",
            "/v1/{a=**}/x",
            "/v1/{a",
            "/v1/a}",
            "/v1/x{a}",
            "/v1/{a}x",
            "/v1/{a={b}}",
            "/v1/{}",
            "/v1/{a.}",
            "/v1/{1a}",
            "/v1/{a}/{a}",
            "/v1/{a=}",
            "/v1/a b",
            "/v1/%zz",
            "/v1/..",
            "/v1/x:",
            "/v1/***",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
