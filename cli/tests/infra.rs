//! What comes before the services start, and what the whole demonstration asks of an infra cluster and leaves in it.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use steading::demo::{census::Before, clean_up, flow, preflight, report::Report};
use steading_infra::{apply::FieldManager, install::InstallOutcome, labels, rights};
use steading_sim::{Sim, SimConfig};
use steading_stack::{Stack, StackConfig, prepare::prepare};

const POOLS: &str = "machinepools.steading.dev";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_are_installed_once_and_upgraded_when_they_differ() {
    let sim = Sim::start(SimConfig::default()).await.unwrap();
    let client = sim.client();
    let first = prepare(&client, "the test", &|_| {}).await.expect("prepared");
    assert!(first.kinds.iter().all(|k| k.outcome == InstallOutcome::Installed));
    assert!(first.missing_rights.is_empty());

    let again = prepare(&client, "the test", &|_| {}).await.expect("prepared");
    assert_eq!(
        again.kinds_that_were(InstallOutcome::Unchanged).len(),
        first.kinds.len()
    );

    // As an older Steading would have left it: a field that is no more.
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let older = json!([{
        "op": "add",
        "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/formerly",
        "value": { "type": "string" },
    }]);
    let older: json_patch::Patch = serde_json::from_value(older).unwrap();
    let params = PatchParams {
        field_manager: Some(FieldManager::Lifecycle.as_str().to_owned()),
        ..PatchParams::default()
    };
    definitions
        .patch(POOLS, &params, &Patch::Json::<()>(older))
        .await
        .unwrap();
    let upgraded = prepare(&client, "the test", &|_| {}).await.expect("prepared");
    assert_eq!(upgraded.kinds_that_were(InstallOutcome::Upgraded), [POOLS]);
    let now = serde_json::to_value(definitions.get(POOLS).await.unwrap()).unwrap();
    let schema = now.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties");
    assert_eq!(schema.unwrap().get("formerly"), None);
    sim.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_installed_without_the_rights_that_are_essential() {
    let sim = Sim::start(SimConfig::default()).await.unwrap();
    let client = sim.client();
    sim.api().access().decide_by(|review| {
        let asked = |key: &str| review.attributes.get(key).and_then(|v| v.as_str()).unwrap_or_default();
        asked("resource") != "virtualmachines" || asked("verb") != "create"
    });
    let refused = prepare(&client, "the test", &|_| {})
        .await
        .expect_err("refused")
        .to_string();
    assert!(
        refused.contains("create virtualmachines.kubevirt.io (for steading-lifecycle)"),
        "{refused}"
    );
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    assert!(definitions.get_opt(POOLS).await.unwrap().is_none());

    // What can be done without is told and keeps nobody from starting.
    sim.api().access().decide_by(|review| {
        let resource = review.attributes.get("resource").and_then(|v| v.as_str());
        resource != Some("volumesnapshots")
    });
    let prepared = prepare(&client, "the test", &|_| {}).await.expect("prepared");
    let warnings = prepared.shortcomings().join("\n");
    assert!(
        warnings.contains("volumesnapshots.snapshot.storage.k8s.io: snapshots of volumes will not work"),
        "{warnings}"
    );
    sim.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demonstration_asks_for_listed_rights_only_and_leaves_nothing() {
    let stack = Stack::start(StackConfig::default()).await.expect("the stack starts");
    let server = stack.gateway_url();
    let infra = stack.infra_client("test").await.unwrap();
    let report = Report::silent(|_| {});
    preflight::check(&server, &report).await.expect("it may begin");
    let mut summary = flow::run(&server, &report, flow::Pace::Fast)
        .await
        .expect("the flow reaches its end");
    let twice = preflight::check(&server, &report)
        .await
        .expect_err("it is there already");
    assert!(twice.to_string().contains("--clean-up"), "{twice}");
    summary.add(
        clean_up::run(&server, &infra, &report, Before::Something)
            .await
            .expect("cleaned up"),
    );
    assert!(summary.ok, "{:?}", summary.checks);
    preflight::check(&server, &report).await.expect("it may begin again");

    let unlisted: BTreeSet<String> = stack
        .sim()
        .unwrap()
        .requests()
        .snapshot()
        .into_iter()
        .filter_map(|(key, _)| {
            let service = rights::ALL
                .iter()
                .find(|(name, _)| key.user_agent.split('/').next() == Some(name))?;
            let resource = match key.subresource.as_str() {
                "" => key.resource.clone(),
                subresource => format!("{}/{subresource}", key.resource),
            };
            let verb = key.verb.as_str();
            // Which namespace is not counted; scopes are held to a real API server by the test bed.
            let listed = key.resource.is_empty()
                || rights::covers(service.1, verb, &key.group, &resource, labels::SYSTEM_NAMESPACE);
            (!listed).then(|| format!("{}: {verb} {resource} of {:?}", service.0, key.group))
        })
        .collect();
    assert!(unlisted.is_empty(), "{unlisted:#?}");
    stack.stop().await;
}
