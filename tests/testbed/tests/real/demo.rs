//! The demonstration on the real control plane, undisturbed and with everything dying on the way: always the same end.

use steading_stack::Part;

use crate::bed::{Victim, assert_ok, demonstrate};

/// How often the demonstration runs in a row; more with `REAL_RUNS`.
const RUNS: u32 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn demo_ends_well_in_a_row() {
    let runs = std::env::var("REAL_RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(RUNS);
    for run in 1..=runs {
        assert_ok(&format!("run {run} of {runs}"), demonstrate(&[]).await);
        println!("run {run} of {runs}: ok");
    }
}

macro_rules! survives {
    ($($name:ident: $kills:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            assert_ok(stringify!($name), demonstrate(&$kills).await);
        }
    )*};
}

survives! {
    demo_survives_kubernetes: [
        ("cluster", Victim::Process("kube-apiserver")), ("pools", Victim::Process("etcd")),
        ("volume", Victim::Process("kube-apiserver")), ("drain", Victim::Process("kube-apiserver")), ("drain", Victim::Process("etcd")),
    ];
    demo_survives_kubevirt: [
        ("pools", Victim::Process("virt-api")), ("pools", Victim::Process("virt-controller")),
        ("volume", Victim::Process("virt-controller")),
        ("drain", Victim::Process("virt-api")), ("drain", Victim::Process("virt-controller")),
    ];
    demo_survives_steading: [
        ("templates", Victim::Part(Part::Templating)), ("pools", Victim::Part(Part::Lifecycle)), ("pools", Victim::Part(Part::Scheduling)),
        ("volume", Victim::Part(Part::Storage)), ("drain", Victim::Part(Part::Lifecycle)), ("drain", Victim::Part(Part::Storage)),
        ("drain", Victim::Part(Part::Gateway)),
    ];
}
