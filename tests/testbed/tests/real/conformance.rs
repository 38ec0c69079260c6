//! The real control plane says what was recorded of it: the expectation to which the simulator is held is true.

use steading_testbed::{
    clients,
    conformance::{on, recordings, table},
};

use crate::bed::shared;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_control_plane_says_what_was_recorded() {
    let kubeconfig = shared().state().expect("a state").kubeconfig;
    let client = clients::admin(&kubeconfig, "conformance").await.expect("a client");
    let real = on(client, None).await;
    let failures = table(&recordings(), &real, &[]).expect("readable recordings");
    assert!(failures.is_empty(), "\n{failures}");
}
