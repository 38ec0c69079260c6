use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use steading_api::{
    lifecycle::v1::{ListMachinePoolsRequest, MachinePool},
    standard::Resource,
    types::v1::ErrorReason,
};
use steading_controller::{Index as Store, ObjectRef, Source, SourceConfig, metrics::ControllerMetrics};
use steading_kubesim::faults::{Effect, Matcher, Rule};
use steading_model::name::MachinePoolName;
use steading_runtime::{
    CancellationToken,
    clock::Clock,
    standard::{Collection, Indexed, Methods},
};

use crate::fixture::{PARENT, Pools, Rig, full, next, reason};

/// A rig whose pools are served from an index that follows the API server until the token is cancelled.
async fn mk_rig(log: usize) -> (Rig, Source<ConfigMap>, CancellationToken) {
    let mut rig = Rig::new().await;
    let metrics = ControllerMetrics::default();
    let source = Source::new(
        "configmaps",
        SourceConfig::default(),
        Store::with_log(log),
        metrics.source("test", "configmaps"),
    );
    let cancel = CancellationToken::new();
    let run = source.clone().run(rig.server.client(), Some, cancel.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(run);
    // It ends with its token.
    tasks.detach_all();
    let plain = Pools {
        kube: rig.server.client(),
        index: None,
    };
    let name = |object: &ObjectRef, _: &ConfigMap| MachinePoolName::from_object(&object.namespace, &object.name);
    let show = move |_: &ObjectRef, value: &ConfigMap| {
        let mut pool: MachinePool = plain.resource(value)?;
        pool.set_meta(plain.meta(value));
        Some(pool)
    };
    let pools = Pools {
        kube: rig.server.client(),
        index: Some(Arc::new(Indexed::<_, MachinePoolName, _>::new(
            source.clone(),
            name,
            show,
        ))),
    };
    rig.pools = Methods::new(pools, Clock::system());
    let listed = async {
        while !source.health().is_live() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), listed)
        .await
        .expect("a live source");
    (rig, source, cancel)
}

fn query() -> ListMachinePoolsRequest {
    ListMachinePoolsRequest {
        parent: PARENT.to_owned(),
        page_size: 2,
        ..ListMachinePoolsRequest::default()
    }
}

#[tokio::test]
async fn a_list_from_the_index_sees_every_write_that_ended_before_it() {
    let (rig, _, cancel) = mk_rig(100).await;
    for id in ["c", "a", "b"] {
        let made = rig.make(id).await;
        let page = rig
            .list(ListMachinePoolsRequest {
                page_size: 10,
                ..query()
            })
            .await
            .unwrap();
        let seen = page
            .machine_pools
            .into_iter()
            .find(|pool| pool.name == full(id))
            .expect("what was just made");
        assert_eq!(seen.etag, made.etag);
    }
    let first = rig.list(query()).await.unwrap();
    let names: Vec<_> = first.machine_pools.iter().map(|pool| pool.name.clone()).collect();
    assert_eq!(names, [full("a"), full("b")]);
    let second = ListMachinePoolsRequest {
        page_token: first.next_page_token,
        ..query()
    };
    let second = rig.list(second).await.unwrap();
    assert_eq!(
        second.machine_pools.first().map(|pool| pool.name.clone()),
        Some(full("c"))
    );
    assert_eq!(second.next_page_token, "");
    cancel.cancel();
}

#[tokio::test]
async fn an_index_that_is_behind_is_passed_over() {
    let (rig, source, cancel) = mk_rig(100).await;
    rig.make("a").await;
    cancel.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    rig.make("b").await;
    assert!(source.index().len() <= 1);
    let page = rig.list(query()).await.unwrap();
    assert_eq!(page.machine_pools.len(), 2);
}

#[tokio::test]
async fn a_list_from_the_index_costs_one_small_request() {
    let (rig, _, cancel) = mk_rig(100).await;
    rig.make("a").await;
    rig.list(query()).await.unwrap();
    let counters = rig.server.counters();
    counters.reset();
    rig.list(query()).await.unwrap();
    assert_eq!(counters.total(), 1);
    cancel.cancel();
}

#[tokio::test]
async fn a_watch_of_the_index_resumes_at_any_event() {
    let (rig, _, cancel) = mk_rig(100).await;
    rig.make("x").await;
    let mut stream = rig.watch(PARENT, "", "").await.unwrap();
    let (added, early) = next(&mut stream).await.unwrap();
    assert_eq!((added.as_str(), early.as_str()), ("ADDED x 0", ""));
    let (synced, mut token) = next(&mut stream).await.unwrap();
    assert_eq!(synced, "SYNCED");
    assert!(token.contains('.'), "{token} is of the index");
    rig.report("x", 1).await;
    let (modified, _) = next(&mut stream).await.unwrap();
    assert_eq!(modified, "MODIFIED x 1");
    rig.make("y").await;
    rig.remove("x").await;
    // What changed twice since is sent once, as it is now; what is gone is always sent.
    for brings_y in [true, false] {
        let mut resumed = rig.watch(PARENT, "", &token).await.unwrap();
        let mut events = Vec::new();
        while events.last().is_none_or(|event| event != "DELETED x 1") {
            events.push(next(&mut resumed).await.unwrap().0);
        }
        assert_eq!(events.contains(&"MODIFIED y 0".to_owned()), brings_y, "{events:?}");
        token = next(&mut stream).await.unwrap().1;
    }
    cancel.cancel();
}

#[tokio::test]
async fn a_token_that_the_log_has_lost_is_expired() {
    let (rig, _, cancel) = mk_rig(4).await;
    rig.make("x").await;
    let mut stream = rig.watch(PARENT, "", "").await.unwrap();
    let mut token = String::new();
    while token.is_empty() {
        token = next(&mut stream).await.unwrap().1;
    }
    for ready in 0..20 {
        rig.report("x", ready).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let late = rig.watch(PARENT, "", &token).await.map(|_| ());
    assert_eq!(reason(late), ErrorReason::ResumeTokenExpired);
    let foreign = rig.watch(PARENT, "", "1.1").await.map(|_| ());
    assert_eq!(reason(foreign), ErrorReason::ResumeTokenExpired);
    cancel.cancel();
}

#[tokio::test]
async fn an_api_server_that_is_away_is_no_empty_list() {
    let (rig, _, cancel) = mk_rig(100).await;
    rig.make("x").await;
    rig.server
        .faults()
        .add(Rule::always(Matcher::any(), Effect::Unavailable));
    assert_eq!(reason(rig.list(query()).await), ErrorReason::InfraUnavailable);
    cancel.cancel();
}
