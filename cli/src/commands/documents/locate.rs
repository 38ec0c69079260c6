//! Where in a document a field is.

use std::{collections::HashMap, fmt};

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use serde_saphyr::Spanned;

/// The value at a path such as `nodeTaints[0].key` or `labels["a.b"]`.
pub(super) fn value_at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    steps(path).into_iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    })
}

/// The line of a path in the document with that index, counted from 1; of the nearest part of it that there is.
pub(super) fn line(text: &str, document: usize, path: &str) -> Option<u64> {
    let documents: Vec<Spanned<Node>> = serde_saphyr::from_multiple(text).ok()?;
    let mut node = documents.get(document)?;
    for step in steps(path) {
        let next = match (&node.value, step) {
            (Node::Map(members), Step::Key(key)) => members.get(&key),
            (Node::List(items), Step::Index(index)) => items.get(index),
            _ => None,
        };
        let Some(next) = next else { break };
        node = next;
    }
    Some(node.referenced.line())
}

enum Step {
    Key(String),
    Index(usize),
}

fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let quoted = inner.starts_with('"');
            let end = if quoted {
                inner.find("\"]").map(|at| at + 1)
            } else {
                inner.find(']')
            };
            let Some((inside, after)) = end.and_then(|end| Some((inner.get(..end)?, inner.get(end + 1..)?))) else {
                break;
            };
            steps.push(match inside.parse() {
                Ok(index) if !quoted => Step::Index(index),
                _ => Step::Key(serde_json::from_str(inside).unwrap_or_else(|_| inside.to_owned())),
            });
            rest = after;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (key, after) = rest.split_at(end);
            if !key.is_empty() {
                steps.push(Step::Key(key.to_owned()));
            }
            rest = after;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
    }
    steps
}

/// A document with the places of its parts.
enum Node {
    Map(HashMap<String, Spanned<Node>>),
    List(Vec<Spanned<Node>>),
    Scalar,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> de::Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = HashMap::new();
        while let Some((key, value)) = map.next_entry::<String, Spanned<Node>>()? {
            members.insert(key, value);
        }
        Ok(Node::Map(members))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }
}
