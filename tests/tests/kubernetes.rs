//! Kubernetes clients are equal citizens: a pool applied as an object, and a node drained as `kubectl drain` does it.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::json;
use steading_stack::Stack;
use steading_tests::{
    http::Rest,
    stack::{self, POOLS, make_cluster, mk_pool, wait_pool},
    wait,
};

const NAMESPACE: &str = "acme--prod";

/// A client that reaches the infra cluster as `kubectl` does: over HTTP, by the kubeconfig that was written.
async fn infra(stack: &Stack) -> Client {
    let kubeconfig = Kubeconfig::read_from(stack.kubeconfig()).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("usable");
    Client::try_from(config).expect("a client")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_applied_as_an_object_appears_in_the_api_and_a_wrong_one_says_why_not() {
    let stack = stack::start(4).await.expect("the stack starts");
    let rest = Rest::new(stack.gateway());
    make_cluster(&rest).await.expect("a cluster");
    let client = infra(&stack).await;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("steading.dev", "v1alpha1", "MachinePool"));
    let pools: Api<DynamicObject> = Api::namespaced_with(client, NAMESPACE, &resource);
    for (name, template) in [("good", "general"), ("wrong", "none")] {
        let object = json!({
            "apiVersion": "steading.dev/v1alpha1", "kind": "MachinePool", "metadata": { "name": name },
            "spec": { "replicas": 1, "machineTemplate": template },
        });
        pools
            .patch(name, &PatchParams::apply("kubectl"), &Patch::Apply(object))
            .await
            .expect("applied");
    }
    wait_pool(&rest, "good", 1).await.expect("a machine");
    wait::until("the wrong pool is refused", async || {
        let pool = rest.get(&format!("{POOLS}/wrong")).await?.body;
        let accepted = pool["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|c| c["type"] == "Accepted")
            .cloned();
        Ok(accepted.filter(|c| {
            c["status"] == "CONDITION_STATUS_FALSE" && c["message"].as_str().is_some_and(|m| m.contains("none"))
        }))
    })
    .await
    .expect("Accepted=False with the template's name");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_drained_by_evictions_ends_with_its_machines_moved() {
    let stack = stack::start(5).await.expect("the stack starts");
    let rest = Rest::new(stack.gateway());
    make_cluster(&rest).await.expect("a cluster");
    rest.create(&format!("{POOLS}?machinePoolId=web"), &mk_pool(3))
        .await
        .expect("a pool");
    wait_pool(&rest, "web", 3).await.expect("3 machines");
    let client = infra(&stack).await;
    let node = Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await
        .expect("nodes")
        .items[0]
        .name_any();

    // What `kubectl drain` does: cordon, then evict every pod until the node has none.
    let cordon = json!({ "spec": { "unschedulable": true } });
    Api::<Node>::all(client.clone())
        .patch(&node, &PatchParams::default(), &Patch::Merge(cordon))
        .await
        .expect("cordoned");
    let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
    wait::until("no launcher pod is left on the node", async || {
        let pods = Api::<Pod>::all(client.clone()).list(&on_node).await?.items;
        let launchers: Vec<_> = pods
            .into_iter()
            .filter(|p| p.name_any().starts_with("virt-launcher") && !is_finished(p))
            .collect();
        for pod in &launchers {
            let namespaced: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
            let eviction = EvictParams {
                delete_options: Some(DeleteParams::default()),
                ..EvictParams::default()
            };
            // Refused with 429 until the machine has moved; the client tries such requests again by itself.
            if let Err(kube::Error::Api(status)) = namespaced.evict(&pod.name_any(), &eviction).await {
                assert!(matches!(status.code, 429 | 404), "{status:?}");
            }
        }
        Ok(launchers.is_empty().then_some(()))
    })
    .await
    .expect("drained");

    wait_pool(&rest, "web", 3).await.expect("3 machines again");
    let machines = rest
        .get("/v1/projects/acme/clusters/prod/machines")
        .await
        .expect("a list")
        .body;
    for machine in machines["machines"].as_array().expect("machines") {
        assert_ne!(machine["infraNode"], format!("infraNodes/{node}"), "{machine}");
    }
    let maintenances = rest.get("/v1/maintenances").await.expect("a list").body;
    assert_eq!(
        maintenances["maintenances"].as_array().map(Vec::len),
        Some(1),
        "the drain is visible: {maintenances}"
    );
    stack.stop().await;
}

fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed"))
}
