//! `docs/faults.md` must name tests that exist.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, bail};

use crate::run::root;

const DOCS: &str = "docs/faults.md";

/// Looks for each test that the document names.
pub(crate) fn check() -> Result<()> {
    let root = root()?;
    let text = fs::read_to_string(root.join(DOCS)).with_context(|| format!("cannot read {DOCS}"))?;
    let tests = named(&text);
    if tests.is_empty() {
        bail!("{DOCS} names no test");
    }
    let missing: Vec<_> = tests.iter().filter(|(file, test)| !exists(&root, file, test)).collect();
    for (file, test) in &missing {
        println!("    {file} has no test {test}");
    }
    if !missing.is_empty() {
        bail!("{DOCS} names tests that do not exist");
    }
    Ok(())
}

/// File and function of each `` `path/to/file.rs::function` ``.
fn named(text: &str) -> BTreeSet<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    let tests = quoted.filter_map(|quoted| quoted.rsplit_once("::"));
    tests
        .filter(|(file, _)| Path::new(file).extension().is_some_and(|kind| kind == "rs"))
        .collect()
}

fn exists(root: &Path, file: &str, test: &str) -> bool {
    fs::read_to_string(root.join(file)).is_ok_and(|text| text.contains(&format!("fn {test}(")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_read_with_their_files() {
        let text = "| 1 | lost | `a/b.rs::one`<br>`c.rs::two` and `word` |\n| 2 | `Kind::Other` |";
        assert_eq!(named(text), BTreeSet::from([("a/b.rs", "one"), ("c.rs", "two")]));
    }
}
