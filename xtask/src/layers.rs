//! Which crate may depend on which.
//!
//! Dependencies point inwards: a service never depends on another service, the gateway knows no domain, and what must
//! not do IO depends on nothing that can.

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::{modules, run::root};

/// What one crate of ours may depend on.
struct Rule {
    name: &'static str,
    /// Crates of ours.
    ours: &'static [&'static str],
    /// Crates of ours for tests only.
    dev: &'static [&'static str],
    /// Crates of others that it must not use: they do IO.
    never: &'static [&'static str],
}

const IO: &[&str] = &["tokio", "tonic", "hyper", "axum", "kube", "tower"];
const SERVICE: &[&str] = &[
    "steading-api",
    "steading-cloudinit",
    "steading-controller",
    "steading-infra",
    "steading-model",
    "steading-runtime",
];

const fn rule(name: &'static str, ours: &'static [&'static str]) -> Rule {
    Rule {
        name,
        ours,
        dev: &[],
        never: &[],
    }
}

const fn service(name: &'static str) -> Rule {
    Rule {
        name,
        ours: SERVICE,
        dev: &["steading-sim", "steading-kubesim"],
        never: &[],
    }
}

const RULES: &[Rule] = &[
    Rule {
        never: IO,
        ..rule("steading-model", &[])
    },
    Rule {
        never: IO,
        dev: &["steading-transcode-peers"],
        ..rule("steading-transcode", &[])
    },
    // What the codec is measured beside; its benchmark alone may use it.
    rule("steading-transcode-peers", &[]),
    Rule {
        never: IO,
        ..rule("steading-cloudinit", &[])
    },
    rule("steading-api", &["steading-model"]),
    // Usable by any controller: knows nothing of Steading.
    Rule {
        dev: &["steading-kubesim", "steading-sim"],
        ..rule("steading-controller", &[])
    },
    rule("steading-infra", &["steading-model"]),
    Rule {
        dev: &["steading-kubesim"],
        ..rule(
            "steading-runtime",
            &["steading-model", "steading-api", "steading-controller"],
        )
    },
    // An API server for anybody's controllers: it knows nothing of KubeVirt and of Steading.
    rule("steading-kubesim", &[]),
    rule(
        "steading-sim",
        &[
            "steading-cloudinit",
            "steading-kubesim",
            "steading-infra",
            "steading-model",
        ],
    ),
    service("steading-templating"),
    service("steading-scheduling"),
    service("steading-storage"),
    service("steading-lifecycle"),
    // The contracts only for the descriptors that it serves by default.
    rule(
        "steading-gateway",
        &["steading-transcode", "steading-runtime", "steading-api"],
    ),
    rule(
        "steading-stack",
        &[
            "steading-api",
            "steading-gateway",
            "steading-infra",
            "steading-kubesim",
            "steading-lifecycle",
            "steading-runtime",
            "steading-scheduling",
            "steading-sim",
            "steading-storage",
            "steading-templating",
        ],
    ),
    rule(
        "steading",
        &[
            "steading-api",
            "steading-infra",
            "steading-model",
            "steading-runtime",
            "steading-sim",
            "steading-stack",
            "steading-transcode",
        ],
    ),
    rule(
        "steading-tests",
        &[
            "steading",
            "steading-api",
            "steading-infra",
            "steading-kubesim",
            "steading-sim",
            "steading-stack",
        ],
    ),
    // Runs the deciders of the services, and nothing that does IO.
    rule(
        "steading-simulation",
        &[
            "steading-infra",
            "steading-lifecycle",
            "steading-model",
            "steading-storage",
        ],
    ),
    // Drives the product as its users do, and plays on real control planes what the simulation plays on its own.
    Rule {
        dev: &["steading", "steading-stack", "steading-tests"],
        ..rule(
            "steading-testbed",
            &["steading-infra", "steading-model", "steading-sim"],
        )
    },
    rule("xtask", &[]),
];

/// One dependency as written in a manifest.
struct Edge {
    from: String,
    to: String,
    dev: bool,
}

/// Checks the workspace.
pub(crate) fn run() -> Result<()> {
    let manifest = root()?.join("Cargo.toml");
    let metadata = MetadataCommand::new()
        .manifest_path(manifest)
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    let names: Vec<String> = metadata
        .packages
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    let mut edges = Vec::new();
    for package in &metadata.packages {
        for dependency in &package.dependencies {
            let dev = dependency.kind == DependencyKind::Development;
            edges.push(Edge {
                from: package.name.to_string(),
                to: dependency.name.clone(),
                dev,
            });
        }
    }
    let violations = check(&names, &edges);
    for violation in &violations {
        println!("    {violation}");
    }
    if !violations.is_empty() {
        bail!("{} dependencies point the wrong way", violations.len());
    }
    println!("    {} crates keep to their layers", names.len());
    modules::run(&metadata)
}

/// Every breach of the rules.
fn check(names: &[String], edges: &[Edge]) -> Vec<String> {
    let of = |name: &str| RULES.iter().find(|rule| rule.name == name);
    let mut violations: Vec<String> = names
        .iter()
        .filter(|name| of(name).is_none())
        .map(|name| format!("{name} has no rule; say in xtask/src/layers.rs what it may depend on"))
        .collect();
    for Edge { from, to, dev } in edges {
        let Some(rule) = of(from) else { continue };
        let ours = names.contains(to);
        let allowed = rule.ours.contains(&to.as_str()) || (*dev && rule.dev.contains(&to.as_str()));
        if ours && !allowed {
            violations.push(format!("{from} must not depend on {to}"));
        }
        if !dev && rule.never.contains(&to.as_str()) {
            violations.push(format!("{from} must not do IO, but depends on {to}"));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_violations(edges: &[(&str, &str, bool)]) -> Vec<String> {
        let names: Vec<String> = RULES.iter().map(|rule| rule.name.to_owned()).collect();
        let edges: Vec<Edge> = edges
            .iter()
            .map(|(from, to, dev)| Edge {
                from: (*from).into(),
                to: (*to).into(),
                dev: *dev,
            })
            .collect();
        check(&names, &edges)
    }

    #[test]
    fn allowed_edges_pass() {
        let edges = [
            ("steading-storage", "steading-infra", false),
            ("steading-storage", "steading-sim", true),
            ("steading-storage", "steading-kubesim", true),
            ("steading-storage", "tokio", false),
            ("steading-transcode", "tokio", true),
        ];
        assert_eq!(mk_violations(&edges), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_breach_is_told() {
        for (edge, message) in [
            (
                ("steading-storage", "steading-lifecycle", false),
                "steading-storage must not depend on steading-lifecycle",
            ),
            (
                ("steading-storage", "steading-sim", false),
                "steading-storage must not depend on steading-sim",
            ),
            (
                ("steading-gateway", "steading-model", false),
                "steading-gateway must not depend on steading-model",
            ),
            (
                ("steading-model", "tokio", false),
                "steading-model must not do IO, but depends on tokio",
            ),
            (
                ("steading-kubesim", "steading-infra", true),
                "steading-kubesim must not depend on steading-infra",
            ),
            (
                ("xtask", "steading-model", true),
                "xtask must not depend on steading-model",
            ),
        ] {
            assert_eq!(mk_violations(&[edge]), [message]);
        }
    }

    #[test]
    fn a_new_crate_needs_a_rule() {
        assert_eq!(check(&["steading-new".to_owned()], &[]).len(), 1);
    }
}
