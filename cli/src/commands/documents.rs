//! Files of resources: YAML or JSON documents, each with `kind`, `name` and the resource's fields.

use std::{io::Read, path::Path};

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Map, Value};

use crate::kinds::{Kind, Kinds};

/// Largest file taken: manifests are written by people.
const MAX_BYTES: u64 = 16 << 20;

/// A resource as a file states it.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its kind.
    pub kind: Kind,
    /// Its full name.
    pub name: String,
    /// The fields that the file states, without kind and name.
    pub fields: Map<String, Value>,
}

/// Reads the documents of `path`; `-` is standard input.
///
/// # Errors
/// A file that cannot be read or parsed, and a document without a kind or a fitting name, with its number.
pub fn read(path: &Path, kinds: &Kinds) -> anyhow::Result<Vec<Document>> {
    let mut text = String::new();
    let source: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?),
    };
    source
        .take(MAX_BYTES)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text, kinds).with_context(|| path.display().to_string())
}

/// Parses documents.
///
/// # Errors
/// As [`read`].
pub fn parse(text: &str, kinds: &Kinds) -> anyhow::Result<Vec<Document>> {
    let values: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|e| anyhow!("{e}"))?;
    let mut documents = Vec::new();
    for (index, value) in values.into_iter().filter(|v| !v.is_null()).enumerate() {
        documents.push(document(value, kinds).with_context(|| format!("document {}", index + 1))?);
    }
    if documents.is_empty() {
        bail!("no documents found");
    }
    Ok(documents)
}

fn document(value: Value, kinds: &Kinds) -> anyhow::Result<Document> {
    let Value::Object(mut fields) = value else {
        bail!("not an object")
    };
    let Some(Value::String(kind)) = fields.remove("kind") else {
        bail!("kind: must name a resource kind")
    };
    let kind = kinds.find(&kind).map_err(|message| anyhow!("kind: {message}"))?.clone();
    let Some(Value::String(name)) = fields.remove("name") else {
        bail!("name: must be the full resource name")
    };
    if !name.contains('/') && !kind.is_singleton() {
        bail!(
            "name: {name:?} must be the full resource name ({})",
            kind.patterns.join(" or ")
        );
    }
    let name = kind
        .complete_name(Some(&name), &crate::kinds::Scope::default())
        .map_err(|message| anyhow!("name: {message}"))?;
    Ok(Document { kind, name, fields })
}
