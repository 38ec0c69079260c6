//! The checker on small crates.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    graph::Graph,
    roles,
    source::{Crate, read},
};

fn mk_crate(files: &[(&str, &str)]) -> Crate {
    let load = |path: &Path| {
        let found = files.iter().find(|(name, _)| Path::new("src").join(name) == path);
        let text = found.map(|(_, text)| (*text).to_owned());
        text.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    read(&PathBuf::from("src/lib.rs"), &load).unwrap()
}

/// The members of each circle.
fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let krate = mk_crate(files);
    let graph = Graph::of(&krate);
    let name = |id: &usize| krate.modules[*id].path.join("::");
    let members = |circle: super::graph::Circle| circle.members.iter().map(name).collect();
    graph.circles().into_iter().map(members).collect()
}

fn breaches(files: &[(&str, &str)]) -> Vec<String> {
    roles::breaches(&Graph::of(&mk_crate(files)))
}

#[test]
fn siblings_that_use_each_other_are_a_circle() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::f; pub fn g() { f() }"),
        ("b.rs", "pub fn f() { super::c::h() }"),
        ("c.rs", "pub fn h() { crate::a::g() } pub fn alone() {}"),
    ];
    assert_eq!(circles(&files), [["a", "b", "c"]]);
}

#[test]
fn a_parent_may_use_its_children_unless_they_use_what_it_declares() {
    let parent = ("lib.rs", "mod child; pub struct Own; pub fn f() { child::g() }");
    assert!(circles(&[parent, ("child.rs", "pub fn g() {}")]).is_empty());
    let back = ("child.rs", "use super::Own; pub fn g() { let _ = Own; }");
    assert_eq!(circles(&[parent, back]), [["", "child"]]);
}

#[test]
fn declaring_a_child_is_no_use_of_it() {
    let files = [
        ("lib.rs", "mod child; pub const LIMIT: usize = 1;"),
        ("child.rs", "pub fn g() -> usize { super::LIMIT }"),
    ];
    assert!(circles(&files).is_empty());
}

#[test]
fn a_facade_is_looked_through() {
    let files = [
        ("lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
        ("a.rs", "pub struct A;"),
        ("b.rs", "use crate::A; pub struct B(A);"),
    ];
    assert!(circles(&files).is_empty());
}

#[test]
fn paths_in_macros_attributes_functions_and_globs_count() {
    for back in [
        "pub fn g() { println!(\"{}\", crate::a::LIMIT) }",
        "pub struct G { #[serde(with = \"crate::a::f\")] field: u8 } pub fn g() {}",
        "pub fn g() { use crate::a::LIMIT; }",
        "use super::a::*; pub fn g() {}",
        "use super::a; pub fn g() { a::f() }",
        "use super::a::LIMIT as L; pub fn g() {}",
    ] {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "pub const LIMIT: usize = 1; pub fn f() { crate::b::g() }"),
            ("b.rs", back),
        ];
        assert_eq!(circles(&files), [["a", "b"]], "{back}");
    }
}

#[test]
fn tests_may_use_whatever_they_test() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "pub fn f() { crate::b::g() }"),
        (
            "b.rs",
            "pub fn g() {} #[cfg(test)] mod tests { use crate::a::f; } #[cfg(test)] use crate::a::f;",
        ),
    ];
    assert!(circles(&files).is_empty());
}

#[test]
fn names_of_other_crates_are_no_modules_of_ours() {
    let files = [
        ("lib.rs", "mod http; mod b;"),
        ("http.rs", "use http::Request; pub fn f(_: Request) { crate::b::g() }"),
        ("b.rs", "use ::http::Method; pub fn g() {}"),
    ];
    assert!(circles(&files).is_empty());
}

#[test]
fn api_and_reconcile_stay_apart() {
    let files = [
        ("lib.rs", "mod api; mod reconcile;"),
        ("api.rs", "mod pools; "),
        ("api/pools.rs", "use crate::reconcile::preview; fn f() { preview() }"),
        ("reconcile.rs", "pub fn preview() {}"),
    ];
    let found = breaches(&files);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("api::pools must not use reconcile"));
}

#[test]
fn what_decides_stays_pure() {
    for (text, why) in [
        ("use steading_api::lifecycle::v1::Machine;", "messages"),
        ("use kube::Client;", "client"),
        ("pub async fn plan() {}", "asynchronous"),
        ("pub fn plan() { tokio::time::sleep(d); }", "runtime"),
        ("use crate::Foreign as F;", "messages"),
    ] {
        let files = [
            ("lib.rs", "mod plan; pub use steading_api::lifecycle::v1::Foreign;"),
            ("plan.rs", "mod drain;"),
            ("plan/drain.rs", text),
        ];
        let found = breaches(&files);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(
            found[0].starts_with("plan::drain") && found[0].contains(why),
            "{found:?}"
        );
    }
    let pure = "use kube::ResourceExt; use steading_model::ids::MachineId; pub fn plan() {}";
    assert!(breaches(&[("lib.rs", "mod plan;"), ("plan.rs", pure)]).is_empty());
}

#[test]
fn errors_for_clients_are_made_in_one_file() {
    let making = "use steading_api::error::RpcError; pub fn f() { RpcError::new(r, m); }";
    let status = [
        ("lib.rs", "mod api;"),
        ("api.rs", "mod status;"),
        ("api/status.rs", making),
    ];
    assert!(breaches(&status).is_empty());
    let elsewhere = [
        ("lib.rs", "mod api;"),
        ("api.rs", "mod pools;"),
        ("api/pools.rs", making),
    ];
    assert_eq!(breaches(&elsewhere).len(), 1);
    let raw = "pub fn f() { tonic::Status::internal(m); }";
    assert_eq!(breaches(&[("lib.rs", "mod a;"), ("a.rs", raw)]).len(), 1);
}
