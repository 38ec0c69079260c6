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

/// Holds all packages to the rules.
pub(crate) fn run(metadata: &Metadata) -> Result<()> {
    let mut failures = 0;
    for package in &metadata.packages {
        failures += package_findings(package)?;
    }
    if failures > 0 {
        bail!("{failures} circles of modules or breaches of their roles");
    }
    println!(
        "    {} crates have no circles of modules, and keep to the roles of theirs",
        metadata.packages.len()
    );
    Ok(())
}

/// Prints what a package does wrong. Says how much.
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
        let mut findings: Vec<String> = graph.circles().iter().map(|circle| circle.describe(&graph)).collect();
        if is_service {
            findings.extend(roles::breaches(&graph));
        }
        for finding in &findings {
            println!("    {name}: {finding}");
        }
        failures += findings.len();
    }
    Ok(failures)
}

/// Build scripts, benchmarks and examples are single files; the rest is checked.
fn is_checked(target: &Target) -> bool {
    let kinds = [TargetKind::Lib, TargetKind::Bin, TargetKind::Test];
    target.kind.iter().any(|kind| kinds.contains(kind))
}
