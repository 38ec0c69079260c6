//! YAML as cloud-init's parser takes it: one document, known tags, keys that are no collections.
//!
//! Only events are looked at, never values: nothing is converted, and aliases that multiply cost nothing. Duplicate keys
//! and `!!binary` are valid for cloud-init and pass.

use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{Event, Parser, Tag};

use crate::fault::Fault;

/// Deepest nesting that is accepted: far more than any cloud-config has, and less than recursive readers survive.
const MAX_DEPTH: usize = 64;
/// Prefix of the tags that YAML itself defines.
const CORE: &str = "tag:yaml.org,2002:";
/// Tags that PyYAML's safe loader knows.
const TAGS: [&str; 13] = [
    "binary",
    "bool",
    "float",
    "int",
    "map",
    "merge",
    "null",
    "omap",
    "pairs",
    "seq",
    "set",
    "str",
    "timestamp",
];

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// A text, number or flag, as it is written after escapes.
    Scalar(String),
    /// A list with its direct entries.
    Sequence(Vec<Node>),
    /// A mapping with its direct entries; the last of equal keys counts. Below the second level it is empty.
    Mapping(BTreeMap<String, Node>),
    /// The repetition of an earlier node.
    Alias,
}

impl Node {
    /// Whether it is nothing: an empty or `null` plain scalar.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Scalar(text) if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar(text) => Some(text),
            Self::Sequence(_) | Self::Mapping(_) | Self::Alias => None,
        }
    }
}

/// A collection whose end was not seen yet.
struct Open {
    node: Node,
    anchor: usize,
    /// In a mapping: the key whose value comes next.
    key: Option<String>,
}

/// Reads the one document of a text; `None` if it is empty.
///
/// # Errors
/// If cloud-init's parser would refuse it.
pub(crate) fn document(text: &str) -> Result<Option<Node>, Fault> {
    printable(text)?;
    let mut open: Vec<Open> = Vec::new();
    let mut root: Option<Node> = None;
    let mut documents = 0_usize;
    let mut collections = BTreeSet::new();
    for next in Parser::new_from_str(text) {
        let (event, span) =
            next.map_err(|error| Fault::at(error.marker().line(), format!("is not YAML: {}", error.info())))?;
        let line = span.start.line();
        let node = match event {
            Event::DocumentStart(..) => {
                documents += 1;
                if documents > 1 {
                    return Err(Fault::at(line, "must be one YAML document"));
                }
                continue;
            }
            Event::Scalar(value, _, _, tag) => {
                known(tag.as_deref(), line)?;
                Node::Scalar(value.into_owned())
            }
            Event::Alias(anchor) => {
                let is_key = open.last().is_some_and(expects_key);
                if is_key && collections.contains(&anchor) {
                    return Err(Fault::at(line, "a mapping or list cannot be a key"));
                }
                Node::Alias
            }
            Event::SequenceStart(_, anchor, tag) => {
                known(tag.as_deref(), line)?;
                begin(&mut open, Node::Sequence(Vec::new()), anchor, line)?;
                continue;
            }
            Event::MappingStart(_, anchor, tag) => {
                known(tag.as_deref(), line)?;
                begin(&mut open, Node::Mapping(BTreeMap::new()), anchor, line)?;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(ended) => {
                    collections.insert(ended.anchor);
                    ended.node
                }
                None => continue,
            },
            _ => continue,
        };
        put(&mut open, &mut root, node);
    }
    Ok(root.filter(|node| !node.is_null()))
}

/// Characters that PyYAML's reader refuses before it parses.
fn printable(text: &str) -> Result<(), Fault> {
    for (index, line) in text.split('\n').enumerate() {
        if let Some(found) = line
            .chars()
            .find(|c| c.is_control() && !matches!(c, '\t' | '\r' | '\u{85}'))
        {
            return Err(Fault::at(
                index + 1,
                format!("has the control character U+{:04X}", u32::from(found)),
            ));
        }
    }
    Ok(())
}

fn known(tag: Option<&Tag>, line: usize) -> Result<(), Fault> {
    let Some(tag) = tag else { return Ok(()) };
    let whole = format!("{}{}", tag.handle(), tag.suffix());
    let good = whole == "!" || whole.strip_prefix(CORE).is_some_and(|suffix| TAGS.contains(&suffix));
    if good {
        Ok(())
    } else {
        Err(Fault::at(
            line,
            format!("has the tag {whole}, which cloud-init does not know"),
        ))
    }
}

fn expects_key(open: &Open) -> bool {
    matches!(open.node, Node::Mapping(_)) && open.key.is_none()
}

fn begin(open: &mut Vec<Open>, node: Node, anchor: usize, line: usize) -> Result<(), Fault> {
    if open.last().is_some_and(expects_key) {
        return Err(Fault::at(line, "a mapping or list cannot be a key"));
    }
    if open.len() >= MAX_DEPTH {
        return Err(Fault::at(line, format!("is nested deeper than {MAX_DEPTH} levels")));
    }
    open.push(Open {
        node,
        anchor,
        key: None,
    });
    Ok(())
}

/// Puts a node that is complete into the collection around it.
fn put(open: &mut [Open], root: &mut Option<Node>, node: Node) {
    let Some(parent) = open.last_mut() else {
        root.get_or_insert(node);
        return;
    };
    match &mut parent.node {
        Node::Sequence(entries) => entries.push(node),
        Node::Mapping(entries) => match parent.key.take() {
            None => parent.key = Some(node.text().unwrap_or_default().to_owned()),
            Some(key) => {
                entries.insert(key, node);
            }
        },
        Node::Scalar(_) | Node::Alias => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pyyaml_takes_passes() {
        for text in [
            "",
            "a: 1\na: 2\n",
            "key: !!binary aGVsbG8=\n",
            "a: &x [1]\nb: *x\n",
            "base: &b {x: 1}\nc:\n  <<: *b\n",
            "run: |\n  \techo tabs inside of a block are text\n",
            "a: 0755\r\nb: no\r\n",
        ] {
            assert!(document(text).is_ok(), "{text:?}: {:?}", document(text));
        }
    }

    #[test]
    fn what_pyyaml_refuses_is_refused_with_its_line() {
        for (text, line) in [
            ("runcmd:\n\t- echo hi\n", 2),
            ("a: 1\n---\nb: 2\n", 2),
            ("a: {{ v1.name }}\n", 1),
            ("a: 1\n{% if x %}\nb: 2\n{% endif %}\n", 2),
            ("a: !vault x\n", 1),
            ("a: *nowhere\n", 1),
            ("a: \u{7}\n", 1),
            ("a: [1\n", 1),
        ] {
            match document(text) {
                Err(Fault::Content { line: Some(found), .. }) => assert!(found >= line, "{text:?}: line {found}"),
                other => panic!("{text:?}: {other:?}"),
            }
        }
        assert!(document(&"[".repeat(100)).is_err());
    }
}
