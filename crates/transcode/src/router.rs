//! From method and path to a binding: a trie of segments.
//!
//! At each level a literal is tried before `*`, `*` before `**`; the search goes back when a branch leads nowhere, so
//! the most specific template that fits wins whatever the order of declaration. Two templates that fit the same
//! paths with the same method are refused when the second is added.

use ahash::AHashMap;
use http::Method;
use smallvec::SmallVec;

use crate::percent::{self, Slash};
use crate::template::{Segment, Template, Variable};

/// Why a request has no binding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No template fits the path.
    #[error("no route for this path")]
    NotFound,
    /// A template fits, with other methods.
    #[error("method not allowed for this path")]
    MethodNotAllowed {
        /// The methods that are, sorted.
        allow: Vec<Method>,
    },
    /// The path has a malformed escape.
    #[error("malformed percent escape in the path")]
    Malformed,
}

/// Where each segment of the request's path lies; the verb is cut off.
pub(crate) type Spans = SmallVec<[(usize, usize); 16]>;

/// HTTP methods that a rule takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Methods {
    Only(Method),
    Any,
}

impl Methods {
    fn overlaps(&self, other: &Self) -> bool {
        *self == Self::Any || *other == Self::Any || self == other
    }
}

#[derive(Debug)]
struct End {
    verb: Option<Box<str>>,
    methods: Methods,
    binding: usize,
}

#[derive(Debug, Default)]
struct Node {
    literals: AHashMap<Box<str>, usize>,
    one: Option<usize>,
    ends: Vec<End>,
    rest: Vec<End>,
}

/// All templates of a catalog.
#[derive(Debug)]
pub(crate) struct Router {
    nodes: Vec<Node>,
}

/// Longest path that is looked at, in segments; longer ones have no route. Real templates have about ten.
const MAX_SEGMENTS: usize = 256;

impl Router {
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
        }
    }

    /// Adds a template; the binding that it collides with, if there is one.
    pub(crate) fn insert(&mut self, template: &Template, methods: Methods, binding: usize) -> Result<(), usize> {
        let mut at = 0;
        let mut open_ended = false;
        for segment in &template.segments {
            match segment {
                Segment::Literal(text) => at = self.literal(at, text),
                Segment::One => at = self.one(at),
                Segment::Rest => open_ended = true,
            }
        }
        let Some(node) = self.nodes.get_mut(at) else {
            return Ok(());
        };
        let ends = if open_ended { &mut node.rest } else { &mut node.ends };
        let verb = template.verb.as_deref();
        if let Some(other) = ends
            .iter()
            .find(|end| end.verb.as_deref() == verb && end.methods.overlaps(&methods))
        {
            return Err(other.binding);
        }
        ends.push(End {
            verb: verb.map(Into::into),
            methods,
            binding,
        });
        Ok(())
    }

    fn literal(&mut self, at: usize, text: &str) -> usize {
        let next = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else { return 0 };
        let found = *node.literals.entry(text.into()).or_insert(next);
        if found == next {
            self.nodes.push(Node::default());
        }
        found
    }

    fn one(&mut self, at: usize) -> usize {
        let next = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else { return 0 };
        let found = *node.one.get_or_insert(next);
        if found == next {
            self.nodes.push(Node::default());
        }
        found
    }

    /// The binding of a request and the spans of its path's segments.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Result<(usize, Spans), RouteError> {
        if path.contains('%') {
            check_escapes(path)?;
        }
        let (spans, verb) = split(path).ok_or(RouteError::NotFound)?;
        let mut search = Search {
            router: self,
            method,
            path,
            spans: &spans,
            verb,
            allow: Vec::new(),
        };
        if let Some(binding) = search.walk(0, 0) {
            return Ok((binding, spans));
        }
        let mut allow = search.allow;
        if allow.is_empty() {
            return Err(RouteError::NotFound);
        }
        if allow.contains(&Method::GET) {
            allow.push(Method::HEAD);
        }
        allow.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        allow.dedup();
        Err(RouteError::MethodNotAllowed { allow })
    }
}

struct Search<'a> {
    router: &'a Router,
    method: &'a Method,
    path: &'a str,
    spans: &'a Spans,
    verb: Option<&'a str>,
    allow: Vec<Method>,
}

impl Search<'_> {
    fn walk(&mut self, node: usize, depth: usize) -> Option<usize> {
        let node = self.router.nodes.get(node)?;
        let Some(&(start, end)) = self.spans.get(depth) else {
            return self.pick(&node.ends).or_else(|| self.pick(&node.rest));
        };
        let raw = self.path.get(start..end)?;
        if !node.literals.is_empty() {
            let text = percent::decode(raw, Slash::Decode).ok()?;
            if let Some(next) = node.literals.get(text.as_ref())
                && let Some(found) = self.walk(*next, depth + 1)
            {
                return Some(found);
            }
        }
        if let Some(next) = node.one
            && let Some(found) = self.walk(next, depth + 1)
        {
            return Some(found);
        }
        self.pick(&node.rest)
    }

    fn pick(&mut self, ends: &[End]) -> Option<usize> {
        for end in ends.iter().filter(|end| end.verb.as_deref() == self.verb) {
            match &end.methods {
                Methods::Any => return Some(end.binding),
                Methods::Only(method) if method == self.method => return Some(end.binding),
                Methods::Only(method) => self.allow.push(method.clone()),
            }
        }
        None
    }
}

/// Splits a path; `None` if it has a segment that is empty, `.` or `..`, which is never normalised away.
fn split(path: &str) -> Option<(Spans, Option<&str>)> {
    let mut spans = Spans::new();
    if path == "/" {
        return Some((spans, None));
    }
    let mut at = 1;
    for segment in path.strip_prefix('/')?.split('/') {
        if segment.is_empty() || is_dots(segment) || spans.len() >= MAX_SEGMENTS {
            return None;
        }
        spans.push((at, at + segment.len()));
        at += segment.len() + 1;
    }
    let (start, end) = spans.last_mut()?;
    let Some(colon) = path.get(*start..*end)?.rfind(':') else {
        return Some((spans, None));
    };
    let verb = path.get(*start + colon + 1..*end);
    *end = *start + colon;
    (colon > 0).then_some((spans, verb))
}

fn is_dots(segment: &str) -> bool {
    // Nearly no segment gets past the first look, which is all that a request should pay for.
    let may_be = segment.len() <= 6 && segment.bytes().all(|b| matches!(b, b'.' | b'%' | b'2' | b'e' | b'E'));
    may_be && matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

fn check_escapes(path: &str) -> Result<(), RouteError> {
    percent::decode(path, Slash::Decode)
        .map(drop)
        .map_err(|_| RouteError::Malformed)
}

/// The text that a variable covers, decoded once.
pub(crate) fn capture<'p>(path: &'p str, spans: &Spans, variable: &Variable) -> std::borrow::Cow<'p, str> {
    let end = variable.end.unwrap_or(spans.len());
    let first = spans.get(variable.start).map(|(start, _)| *start);
    let last = end.checked_sub(1).and_then(|last| spans.get(last)).map(|(_, end)| *end);
    let raw = match (first, last) {
        (Some(first), Some(last)) if end > variable.start => path.get(first..last).unwrap_or_default(),
        _ => "",
    };
    let slash = if variable.single { Slash::Decode } else { Slash::Keep };
    // The router has checked every escape of the path.
    percent::decode(raw, slash).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(rules: &[(&str, &str)]) -> (Router, Vec<Template>) {
        let mut router = Router::new();
        let templates: Vec<Template> = rules.iter().map(|(_, text)| Template::parse(text).unwrap()).collect();
        for (index, ((method, _), template)) in rules.iter().zip(&templates).enumerate() {
            router
                .insert(template, Methods::Only(method.parse().unwrap()), index)
                .unwrap();
        }
        (router, templates)
    }

    fn get(router: &(Router, Vec<Template>), path: &str) -> Result<(usize, Vec<String>), RouteError> {
        let (index, spans) = router.0.find(&Method::GET, path)?;
        Ok((
            index,
            router.1[index]
                .variables
                .iter()
                .map(|v| capture(path, &spans, v).into_owned())
                .collect(),
        ))
    }

    #[test]
    fn the_most_specific_template_wins_and_the_search_goes_back() {
        let router = router(&[
            ("GET", "/v1/{name=**}"),
            ("GET", "/v1/{name=a/*/c}"),
            ("GET", "/v1/a/b/{id}"),
            ("GET", "/v1/a/b/d/{id}"),
            ("GET", "/v1/a/{x}:go"),
        ]);
        assert_eq!(get(&router, "/v1/a/b/c").unwrap(), (2, vec!["c".into()]));
        assert_eq!(get(&router, "/v1/a/z/c").unwrap(), (1, vec!["a/z/c".into()]));
        assert_eq!(get(&router, "/v1/a/b/d/e/f").unwrap(), (0, vec!["a/b/d/e/f".into()]));
        assert_eq!(get(&router, "/v1").unwrap(), (0, vec![String::new()]));
        assert_eq!(get(&router, "/v1/a/x:go").unwrap(), (4, vec!["x".into()]));
    }

    #[test]
    fn captures_are_decoded_by_the_rules_of_their_variable() {
        let router = router(&[("GET", "/v1/one/{id}"), ("GET", "/v1/{name=many/*}")]);
        assert_eq!(
            get(&router, "/v1/one/a%2Fb%3Ac%2525").unwrap(),
            (0, vec!["a/b:c%25".into()])
        );
        assert_eq!(
            get(&router, "/v1/many/a%2Fb%3Ac").unwrap(),
            (1, vec!["many/a%2Fb:c".into()])
        );
        assert_eq!(get(&router, "/v1/%6Dany/x").unwrap(), (1, vec!["many/x".into()]));
    }

    #[test]
    fn paths_are_never_normalised() {
        let router = router(&[("GET", "/v1/{name=**}"), ("GET", "/v1/x/{id}")]);
        for path in [
            "/v1/",
            "/v1//x",
            "/v1/x/",
            "//v1",
            "",
            "*",
            "/v1/../x",
            "/v1/.",
            "/v1/%2e%2E/x",
            "/v1/x/a:nope",
            "/v1/x/:v",
        ] {
            assert_eq!(get(&router, path), Err(RouteError::NotFound), "{path}");
        }
        assert_eq!(get(&router, "/v1/%zz"), Err(RouteError::Malformed));
        assert_eq!(get(&router, "/v1/%ff"), Err(RouteError::Malformed));
    }

    #[test]
    fn a_wrong_method_tells_the_right_ones() {
        let (router, _) = router(&[
            ("GET", "/v1/x/{id}"),
            ("PATCH", "/v1/x/{id}"),
            ("DELETE", "/v1/{id=x/*}"),
        ]);
        let allow = vec![Method::DELETE, Method::GET, Method::HEAD, Method::PATCH];
        assert_eq!(
            router.find(&Method::POST, "/v1/x/1").unwrap_err(),
            RouteError::MethodNotAllowed { allow }
        );
    }

    #[test]
    fn equal_shapes_collide() {
        let (mut router, _) = router(&[("GET", "/v1/{name=x/*}:go")]);
        let twin = Template::parse("/v1/x/{other}:go").unwrap();
        assert_eq!(router.insert(&twin, Methods::Only(Method::GET), 7), Err(0));
        assert_eq!(router.insert(&twin, Methods::Any, 7), Err(0));
        assert_eq!(router.insert(&twin, Methods::Only(Method::PUT), 7), Ok(()));
    }
}
