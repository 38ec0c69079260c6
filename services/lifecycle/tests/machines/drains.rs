//! What a drain reads.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use steading_kubesim::{ApiServer, ApiServerConfig};
use steading_lifecycle::{
    domain::drain::Progress,
    observe::drain::{Pass, observe_drain},
    plan::drain::DrainPolicy,
};

use super::*;

/// More than an API server sends in one page.
const PODS: usize = 501;

#[tokio::test]
async fn a_drain_sees_the_pods_behind_the_first_page() {
    let server = ApiServer::new(ApiServerConfig::default());
    let client = server.client();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    for number in 0..PODS {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": format!("p-{number}")},
            "spec": {"nodeName": "w-1", "containers": [{"name": "c", "image": "example.com/c"}]},
        }))
        .expect("a pod");
        pods.create(&PostParams::default(), &pod).await.expect("created");
    }
    let pass = Pass {
        policy: &DrainPolicy::default(),
        started: Timestamp::default(),
        before: &Progress::default(),
    };
    let seen = observe_drain(&client, "w-1", pass).await.expect("a whole list");
    assert_eq!(seen.pods.len(), PODS);
}
