//! What modules may use, inside each crate.
//!
//! **Circles.** The graph of a target has an edge from one module to another when the first mentions an item that the second declares: in a
//! `use`, in code, in a macro's arguments or in an attribute. Paths are resolved through re-exports to the module that declares the item, so
//! importing through a facade is a use of what stands behind it; a glob is a use of the module it names. Declaring a child (`mod child;`) is no use
//! of it, and methods are not followed. A circle is a strongly connected component of more than one module. So a parent may use its children
//! as long as none of them uses what the parent itself declares: vocabulary that both need stands in a module below its users.
//! Code for tests only (`#[cfg(test)]`) does not count.
//!
//! **Roles** in services: `api` and `reconcile` do not use each other; `plan`, `domain` and `solve` know no messages of the contracts, no
//! client and nothing asynchronous; only `api::status` makes errors for clients.

mod graph;
mod roles;
mod scan;
mod source;
#[cfg(test)]
mod tests;

use std::fs;

use anyhow::{Result, bail};
use cargo_metadata::{Metadata, Package, Target, TargetKind};

use self::graph::Graph;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Circles,
    Roles,
}

/// Where a check does not hold yet: it is reported there and fails nothing. A package leaves the list with its last finding.
const NOT_YET: &[(&str, Check)] = &[
    ("steading-controller", Check::Circles),
    ("steading-gateway", Check::Circles),
    ("steading-model", Check::Circles),
    ("steading-simulation", Check::Circles),
    ("steading-storage", Check::Circles),
    ("steading-transcode", Check::Circles),
    ("steading", Check::Circles),
];

/// Holds all packages to the rules.
pub(crate) fn run(metadata: &Metadata) -> Result<()> {
    let mut failures = 0;
    for package in &metadata.packages {
        failures += package_findings(package)?;
    }
    if failures > 0 {
        bail!("{failures} circles of modules or breaches of their roles");
    }
    let waiting = NOT_YET.iter().filter(|(_, check)| *check == Check::Circles).count();
    println!(
        "    no circles of modules in {} crates, {waiting} more are not held yet",
        metadata.packages.len() - waiting
    );
    Ok(())
}

/// Prints what a package does wrong. Says how much of it fails the check.
fn package_findings(package: &Package) -> Result<usize> {
    let name = package.name.as_str();
    let is_service = package
        .manifest_path
        .parent()
        .is_some_and(|at| at.parent().is_some_and(|at| at.ends_with("services")));
    let mut failures = 0;
    for target in package.targets.iter().filter(|target| is_checked(target)) {
        let krate = source::read(target.src_path.as_std_path(), &|path| fs::read_to_string(path))?;
        let graph = Graph::of(&krate);
        let circles = graph.circles().iter().map(|circle| circle.describe(&graph)).collect();
        failures += report(name, Check::Circles, circles);
        if is_service {
            failures += report(name, Check::Roles, roles::breaches(&graph));
        }
    }
    Ok(failures)
}

/// Build scripts, benchmarks and examples are single files; the rest is checked.
fn is_checked(target: &Target) -> bool {
    let kinds = [TargetKind::Lib, TargetKind::Bin, TargetKind::Test];
    target.kind.iter().any(|kind| kinds.contains(kind))
}

fn report(name: &str, check: Check, findings: Vec<String>) -> usize {
    let waits = NOT_YET.contains(&(name, check));
    if waits {
        if !findings.is_empty() {
            println!("    {name}: {} findings ({check:?}), not held yet", findings.len());
        }
        return 0;
    }
    for finding in &findings {
        println!("    {name}: {finding}");
    }
    findings.len()
}
