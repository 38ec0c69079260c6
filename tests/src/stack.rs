//! Stacks for tests, and the resources that most tests need.

use serde_json::{Value, json};
use steading_stack::{Infra, SimConfig, Stack, StackConfig};

use crate::{http::Rest, wait};

/// A stack of its own on a simulated infra cluster of three nodes in three zones.
///
/// # Errors
/// When it does not start.
pub async fn start(seed: u64) -> anyhow::Result<Stack> {
    let simulation = SimConfig {
        infra_nodes: 3,
        zones: 3,
        seed,
        ..SimConfig::default()
    };
    Stack::start(StackConfig {
        infra: Infra::Simulated(simulation),
        ..StackConfig::default()
    })
    .await
}

/// The collection of the machine pools that [`make_cluster`] makes room for.
pub const POOLS: &str = "/v1/projects/acme/clusters/prod/machinePools";

/// Makes a project with an image, a template and a cluster, and waits until the cluster runs.
///
/// # Errors
/// What the API says.
pub async fn make_cluster(rest: &Rest) -> anyhow::Result<()> {
    rest.create("/v1/projects?projectId=acme", &json!({})).await?;
    let image = json!({ "http": { "url": "https://images.example.test/os.qcow2" }, "size": "10Gi" });
    rest.create("/v1/projects/acme/images?imageId=os", &image).await?;
    let template = json!({
        "instanceType": "instanceTypes/standard-2",
        "rootDisk": {
            "image": "projects/acme/images/os", "size": "20Gi",
            "accessMode": "ACCESS_MODE_READ_WRITE_MANY", "volumeMode": "VOLUME_MODE_BLOCK",
        },
    });
    rest.create(
        "/v1/projects/acme/machineTemplates?machineTemplateId=general",
        &template,
    )
    .await?;
    rest.create("/v1/projects/acme/clusters?clusterId=prod", &json!({ "external": {} }))
        .await?;
    wait_state(rest, "/v1/projects/acme/clusters/prod", "STATE_RUNNING").await?;
    Ok(())
}

/// A pool as a request states it.
pub fn mk_pool(replicas: i32) -> Value {
    json!({ "replicas": replicas, "machineTemplate": "projects/acme/machineTemplates/general" })
}

/// Waits until the resource at `path` has a state.
///
/// # Errors
/// When it does not get there.
pub async fn wait_state(rest: &Rest, path: &str, state: &str) -> anyhow::Result<Value> {
    wait::until(&format!("{path} is {state}"), async || {
        let body = rest.get(path).await?.body;
        Ok((body["state"] == state).then_some(body))
    })
    .await
}

/// Waits until a pool is ready with this many machines.
///
/// # Errors
/// When it does not get there.
pub async fn wait_pool(rest: &Rest, pool: &str, replicas: i64) -> anyhow::Result<Value> {
    let path = format!("{POOLS}/{pool}");
    wait::until(&format!("{path} has {replicas} ready"), async || {
        let body = rest.get(&path).await?.body;
        let ready = body["readyReplicas"].as_i64() == Some(replicas) && body["state"] == "STATE_READY";
        Ok((ready && body["currentReplicas"].as_i64() == Some(replicas)).then_some(body))
    })
    .await
}
