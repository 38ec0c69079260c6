//! The roles of a service's modules: who may use whom, and who must stay pure.

use std::collections::BTreeSet;

use super::{
    graph::{Graph, Target},
    source::ModuleId,
};

/// Roles that decide: no messages, no client, nothing asynchronous.
const PURE: [&str; 3] = ["plan", "domain", "solve"];
/// Roles that do not use each other.
const APART: [(&str, &str); 2] = [("api", "reconcile"), ("reconcile", "api")];
/// The only maker of errors for clients.
const STATUS: [&str; 2] = ["api", "status"];

/// Every breach, one line each.
pub(crate) fn breaches(graph: &Graph<'_>) -> Vec<String> {
    let mut found = BTreeSet::new();
    for id in 0..graph.krate.modules.len() {
        let module = &graph.krate.modules[id];
        let role = module.path.first().map_or("", String::as_str);
        let mut add = |line: usize, what: String| {
            let place = module.path.join("::");
            found.insert(format!("{place} {what} ({}, line {line})", module.file.display()));
        };
        for (_, other) in APART.iter().filter(|(one, _)| *one == role) {
            for (to, how) in graph.uses(id) {
                if graph.krate.modules[to].path.first().is_some_and(|first| first == other) {
                    add(how.line, format!("must not use {other}: {}", how.path));
                }
            }
        }
        if PURE.contains(&role) {
            for (line, path) in foreign(graph, id) {
                if let Some(why) = impure(&path) {
                    add(line, format!("must stay pure, but uses {why}: {}", path.join("::")));
                }
            }
            for line in &module.asynchronous {
                add(*line, "must stay pure, but is asynchronous".to_owned());
            }
        }
        let is_status = module.path.iter().take(2).eq(STATUS.iter());
        if !is_status {
            for (line, path) in foreign(graph, id).into_iter().filter(|(_, path)| makes_error(path)) {
                add(
                    line,
                    format!(
                        "makes an error for clients, which is for api::status: {}",
                        path.join("::")
                    ),
                );
            }
        }
    }
    found.into_iter().collect()
}

/// Paths of other crates that a module mentions, re-exports followed.
fn foreign(graph: &Graph<'_>, id: ModuleId) -> Vec<(usize, Vec<String>)> {
    let module = &graph.krate.modules[id];
    let mentions = module.mentions.iter().map(|mention| (mention.line, &mention.path));
    let imports = module.imports.iter().map(|import| (import.line, &import.path));
    let all = mentions
        .chain(imports)
        .filter_map(|(line, path)| match graph.resolve(id, path)? {
            Target::Foreign(path) => Some((line, path)),
            Target::Module(_) | Target::Item(..) => None,
        });
    all.collect()
}

fn impure(path: &[String]) -> Option<&'static str> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["steading_api", "types", "ErrorReason", ..] | ["steading_api", "error", ..] => None,
        ["steading_api", ..] => Some("messages of the contracts"),
        ["tonic" | "prost" | "prost_types", ..] => Some("gRPC"),
        ["kube", "Client" | "Api" | "client" | "runtime", ..] => Some("a client of the API server"),
        ["tokio" | "futures", ..] => Some("a runtime"),
        _ => None,
    }
}

fn makes_error(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    matches!(
        path.as_slice(),
        [.., "RpcError", "new" | "not_implemented"] | ["tonic", "Status", _, ..]
    )
}
