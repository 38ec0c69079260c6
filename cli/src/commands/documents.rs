//! Files of resources: YAML or JSON documents, each with `kind`, `name` and the resource's fields.

mod check;
mod fault;
mod locate;

use std::{io::Read, path::Path};

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Map, Value};

use self::fault::Fault;
use crate::kinds::{Kind, Kinds, Scope};

/// Largest file taken: manifests are written by people.
const MAX_BYTES: u64 = 16 << 20;

/// A resource as a file states it.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its kind.
    pub kind: Kind,
    /// Its full name.
    pub name: String,
    /// The fields that the file states, without kind and name. They fit the contract.
    pub fields: Map<String, Value>,
}

/// Reads the documents of `path`; `-` is standard input.
///
/// # Errors
/// A file that cannot be read or parsed, and a document that does not fit its kind, with its number, line, field and value.
pub fn read(path: &Path, kinds: &Kinds) -> anyhow::Result<Vec<Document>> {
    let mut text = String::new();
    let source: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?),
    };
    let read = source
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    if read as u64 > MAX_BYTES {
        bail!("{} is larger than {} MiB", path.display(), MAX_BYTES >> 20);
    }
    parse(&text, kinds).with_context(|| path.display().to_string())
}

/// Parses documents.
///
/// # Errors
/// As [`read`].
pub fn parse(text: &str, kinds: &Kinds) -> anyhow::Result<Vec<Document>> {
    let values: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|e| anyhow!("{e}"))?;
    let mut documents = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        if value.is_null() {
            continue;
        }
        let number = documents.len() + 1;
        let located = |path: &str| locate::line(text, index, path);
        let document = document(value, kinds).map_err(|fault| {
            let line = located(&fault.path).map_or(String::new(), |line| format!(", line {line}"));
            anyhow!("document {number}{line}: {fault}")
        })?;
        documents.push(document);
    }
    if documents.is_empty() {
        bail!("no documents found");
    }
    Ok(documents)
}

fn document(value: Value, kinds: &Kinds) -> Result<Document, Fault> {
    let Value::Object(mut fields) = value else {
        return Err(Fault::new("", "not an object"));
    };
    let Some(Value::String(kind)) = fields.remove("kind") else {
        return Err(Fault::new("kind", "must name a resource kind"));
    };
    let kind = kinds
        .find(&kind)
        .map_err(|message| Fault::new("kind", message))?
        .clone();
    let Some(Value::String(name)) = fields.remove("name") else {
        return Err(Fault::new("name", "must be the full resource name"));
    };
    if !name.contains('/') && !kind.is_singleton() {
        let forms = kind.patterns.join(" or ");
        return Err(Fault::new(
            "name",
            format!("{name:?} must be the full resource name ({forms})"),
        ));
    }
    let name = kind
        .complete_name(Some(&name), &Scope::default())
        .map_err(|message| Fault::new("name", message))?;
    check::write_numbers_as_text(&kind.get.output(), &mut fields);
    check::check(&kind.get.output(), &fields)?;
    Ok(Document { kind, name, fields })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::contracts;

    const POOL: &str = "kind: MachinePool\nname: projects/p/clusters/c/machinePools/w\n";

    fn parsed(text: &str) -> anyhow::Result<Vec<Document>> {
        parse(text, &Kinds::from_contracts(&contracts().unwrap()))
    }

    fn refused(text: &str) -> String {
        parsed(text).unwrap_err().to_string()
    }

    #[test]
    fn a_number_is_taken_where_a_count_or_an_amount_is_text() {
        let text = format!("{POOL}rollout:\n  maxSurge: 1\n  maxUnavailable: 25%\n");
        let documents = parsed(&text).unwrap();
        assert_eq!(documents[0].fields["rollout"]["maxSurge"], "1");
        assert_eq!(documents[0].fields["rollout"]["maxUnavailable"], "25%");
        let volume = "kind: Volume\nname: projects/p/clusters/c/volumes/v\nsize: 1073741824\n";
        assert_eq!(parsed(volume).unwrap()[0].fields["size"], "1073741824");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_line_field_and_value() {
        let text = format!("{POOL}replicas: 3\n---\n\n{POOL}replicas: 3\nrollout:\n  maxSurge: [1]\n");
        let message = refused(&text);
        assert!(
            message.starts_with("document 2, line 10: rollout.maxSurge: ") && message.contains("[1]"),
            "{message}"
        );
        let message = refused(&format!("{POOL}replicas: many\n"));
        assert!(
            message.starts_with("document 1, line 3: replicas: ") && message.contains("\"many\""),
            "{message}"
        );
        let message = refused(&format!("{POOL}replica: 3\n"));
        assert!(message.starts_with("document 1, line 3: replica: "), "{message}");
        let message = refused(&format!(
            "{POOL}nodeTaints:\n- key: a\n  effect: EFFECT_NO_SCHEDULE\n- key: b\n  effect: NONE\n"
        ));
        assert!(
            message.starts_with("document 1, line 7: nodeTaints[1].effect: ") && message.contains("\"NONE\""),
            "{message}"
        );
    }

    #[test]
    fn a_document_names_a_kind_and_itself() {
        assert!(refused("kind: Nothing\nname: x/y\n").starts_with("document 1, line 1: kind: "));
        assert!(refused("kind: MachinePool\n").starts_with("document 1"));
        assert!(refused("[1, 2]\n").contains("not an object"));
        assert!(refused("---\n---\n").contains("no documents"));
    }
}
