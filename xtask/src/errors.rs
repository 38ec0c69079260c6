//! `docs/errors.md` must explain every error reason of the contracts, and no other.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, bail};

use crate::run::root;

const PROTO: &str = "proto/steading/type/v1/error_reason.proto";
const DOCS: &str = "docs/errors.md";

/// Compares the enum with the document.
pub(crate) fn check() -> Result<()> {
    let root = root()?;
    let read = |path: &str| fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"));
    let faults = compare(&reasons_in_proto(&read(PROTO)?), &reasons_in_docs(&read(DOCS)?));
    for fault in &faults {
        println!("    {fault}");
    }
    if !faults.is_empty() {
        bail!("{DOCS} and {PROTO} disagree");
    }
    Ok(())
}

fn compare(proto: &BTreeSet<String>, docs: &BTreeSet<String>) -> Vec<String> {
    let missing = proto
        .difference(docs)
        .map(|reason| format!("{reason} is not explained in {DOCS}"));
    let stale = docs
        .difference(proto)
        .map(|reason| format!("{reason} in {DOCS} is no reason of {PROTO}"));
    missing.chain(stale).collect()
}

/// The enum's values without their prefix.
fn reasons_in_proto(text: &str) -> BTreeSet<String> {
    let values = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("ERROR_REASON_")?.split_once(" = "));
    values
        .map(|(name, _)| name.to_owned())
        .filter(|name| name != "UNSPECIFIED")
        .collect()
}

/// The headings that are a reason: `## INVALID_FIELD`, of any depth, with or without code marks.
fn reasons_in_docs(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let names = headings.map(|line| line.trim_start_matches('#').trim().trim_matches('`'));
    names
        .filter(|name| !name.is_empty() && name.bytes().all(is_reason_byte))
        .map(str::to_owned)
        .collect()
}

fn is_reason_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_both_ways() {
        let proto = reasons_in_proto(
            "enum E {\n  ERROR_REASON_UNSPECIFIED = 0;\n  // A.\n  ERROR_REASON_A_B = 1;\n  ERROR_REASON_C = 2;\n}",
        );
        let docs = reasons_in_docs("# Errors\n\n## `A_B`\n\ntext C\n\n## OLD\n");
        let faults = compare(&proto, &docs);
        assert_eq!(faults.len(), 2);
        assert!(faults.iter().any(|f| f.starts_with("C is not")) && faults.iter().any(|f| f.starts_with("OLD in")));
    }
}
