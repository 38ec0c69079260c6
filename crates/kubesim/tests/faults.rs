//! Faults on demand, seen through `kube::Client`.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::{pin::pin, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::{ConfigMap, Node, Secret},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams, WatchEvent, WatchParams},
    core::ObjectMeta,
};
use steading_kubesim::{
    ApiServer, ApiServerConfig, Verb,
    faults::{Cut, Effect, Matcher, Rule},
};
use tokio::time::timeout;

/// Longer than anything waits in these tests, shorter than forever: the runtime's clock is paused and jumps.
const FOREVER: Duration = Duration::from_hours(6);

fn mk_server() -> (ApiServer, Client) {
    let server = ApiServer::new(ApiServerConfig::default());
    let client = server.client();
    (server, client)
}

fn mk_config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

async fn mk_watch(
    api: &Api<ConfigMap>,
    params: WatchParams,
) -> impl Stream<Item = kube::Result<WatchEvent<ConfigMap>>> + use<> {
    let from = api
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version;
    api.watch(&params, &from.unwrap()).await.unwrap().boxed()
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_says_nothing_and_does_not_end_until_it_is_cut() {
    let (server, client) = mk_server();
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let mut watch = mk_watch(&api, WatchParams::default().timeout(290)).await;
    api.create(&PostParams::default(), &mk_config_map("seen"))
        .await
        .unwrap();
    assert!(matches!(watch.try_next().await.unwrap(), Some(WatchEvent::Added(seen)) if seen.name_any() == "seen"));

    assert_eq!(
        server
            .faults()
            .cut_watches(&Matcher::on("configmaps", &[]), Cut::Silence),
        1
    );
    api.create(&PostParams::default(), &mk_config_map("unseen"))
        .await
        .unwrap();
    assert!(
        timeout(FOREVER, watch.next()).await.is_err(),
        "no event, no bookmark, no end"
    );
    assert_eq!(server.faults().open_watches(&Matcher::any()), 1);

    server.faults().cut_watches(&Matcher::any(), Cut::Drop);
    watch.try_next().await.expect_err("the connection breaks");
}

#[tokio::test(start_paused = true)]
async fn a_watch_can_be_silent_from_the_start() {
    let (server, client) = mk_server();
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let rule = Rule::times(1, Matcher::on("configmaps", &[Verb::Watch]), Effect::SilentWatch);
    server.faults().add(rule);
    let mut silent = mk_watch(&api, WatchParams::default()).await;
    let mut other = mk_watch(&api, WatchParams::default()).await;
    api.create(&PostParams::default(), &mk_config_map("a")).await.unwrap();
    assert!(matches!(other.try_next().await.unwrap(), Some(WatchEvent::Added(_))));
    assert!(timeout(FOREVER, silent.next()).await.is_err());
    server.faults().come_back();
    silent.try_next().await.expect_err("the connection breaks");
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_every_minute_and_shortly_before_the_end_and_are_as_new_as_the_server() {
    let (server, client) = mk_server();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let secrets: Api<Secret> = Api::namespaced(client, "default");
    let begin = tokio::time::Instant::now();
    let mut watch = mk_watch(&api, WatchParams::default().timeout(150)).await;
    // A write to another resource moves the revision that a bookmark tells.
    let secret: Secret = serde_json::from_value(serde_json::json!({ "metadata": { "name": "s" } })).unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let mut seen = Vec::new();
    while let Some(event) = watch.try_next().await.unwrap() {
        let WatchEvent::Bookmark(bookmark) = event else {
            panic!("{event:?}")
        };
        assert_eq!(
            bookmark.metadata.resource_version,
            server.store().revision().to_string()
        );
        seen.push(begin.elapsed().as_secs());
    }
    assert_eq!(seen, [60, 120, 148]);
    assert_eq!(begin.elapsed().as_secs(), 150, "then the watch ends");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_did_not_ask_for_bookmarks_gets_none() {
    let (_server, client) = mk_server();
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let mut watch = mk_watch(&api, WatchParams::default().timeout(150).disable_bookmarks()).await;
    assert!(watch.try_next().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_for_a_minute_end_after_that_minute() {
    let (server, client) = mk_server();
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let minute = Duration::from_secs(60);
    let overload = Effect::TooManyRequests { retry_after: 1 };
    server.faults().add(Rule::lasting(minute, Matcher::any(), overload));
    for _ in 0..3 {
        let error = api.list(&ListParams::default()).await.unwrap_err();
        assert_eq!(code(&error), 429);
        tokio::time::sleep(Duration::from_millis(19_999)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    api.list(&ListParams::default()).await.unwrap();
    assert_eq!(server.faults().struck(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_uninstalled_is_not_found_not_discovered_and_ends_its_watches() {
    let (server, client) = mk_server();
    let kind = kube::core::GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", "VolumeSnapshot");
    let (resource, _) = kube::discovery::pinned_kind(&client, &kind).await.unwrap();
    let api: Api<kube::core::DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
    let mut watch = pin!(api.watch(&WatchParams::default(), "0").await.unwrap());

    let def = server.uninstall("snapshot.storage.k8s.io", "volumesnapshots").unwrap();
    assert!(watch.try_next().await.unwrap().is_none(), "the watch ends");
    assert_eq!(code(&api.list(&ListParams::default()).await.unwrap_err()), 404);
    assert!(kube::discovery::pinned_kind(&client, &kind).await.is_err());

    server.register(def);
    api.list(&ListParams::default()).await.unwrap();
    kube::discovery::pinned_kind(&client, &kind).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_kind_is_refused_in_the_words_of_rbac_and_denied_in_reviews() {
    let (server, client) = mk_server();
    let nodes: Api<Node> = Api::all(client.clone());
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let review = |verb: &str| SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                resource: Some("nodes".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let allowed = async |verb: &str| {
        let answer = reviews.create(&PostParams::default(), &review(verb)).await.unwrap();
        answer.status.unwrap().allowed
    };
    assert!(allowed("list").await);
    let rule = Rule::always(Matcher::on("nodes", &[Verb::List, Verb::Watch]), Effect::Forbid);
    let rule = server.faults().add(rule);
    let kube::Error::Api(status) = nodes.list(&ListParams::default()).await.unwrap_err() else {
        panic!("an answer of the API server");
    };
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    let words =
        r#"nodes is forbidden: User "system:admin" cannot list resource "nodes" in API group "" at the cluster scope"#;
    assert_eq!(status.message, words);
    assert!(!allowed("list").await);
    assert!(allowed("get").await);
    server.faults().remove(rule);
    nodes.list(&ListParams::default()).await.unwrap();
    assert!(allowed("list").await);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stopped_answering_hangs_until_it_comes_back() {
    let (server, client) = mk_server();
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let mut watch = mk_watch(&api, WatchParams::default().timeout(290)).await;
    server.faults().stop_answering();
    assert!(timeout(FOREVER, api.list(&ListParams::default())).await.is_err());
    assert!(timeout(FOREVER, watch.next()).await.is_err());

    let list = ListParams::default();
    let mut hanging = pin!(api.list(&list));
    assert!(timeout(FOREVER, &mut hanging).await.is_err());
    server.faults().come_back();
    hanging.await.expect_err("its connection breaks");
    watch.try_next().await.expect_err("its connection breaks");
    api.list(&ListParams::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_write_takes_place_though_its_answer_is_lost() {
    let (server, client) = mk_server();
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let lost = Rule::times(1, Matcher::on("configmaps", &[Verb::Create]), Effect::DropAnswer);
    server.faults().add(lost);
    let error = api
        .create(&PostParams::default(), &mk_config_map("a"))
        .await
        .unwrap_err();
    assert_eq!(code(&error), 0, "{error}");
    api.get("a").await.expect("it was written");
    let error = api
        .create(&PostParams::default(), &mk_config_map("a"))
        .await
        .unwrap_err();
    assert_eq!(code(&error), 409);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_watch_breaks_and_an_expired_one_says_so() {
    let (server, client) = mk_server();
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let mut dropped = mk_watch(&api, WatchParams::default()).await;
    server.faults().cut_watches(&Matcher::on("configmaps", &[]), Cut::Drop);
    dropped.try_next().await.expect_err("the connection breaks");
    drop(dropped);
    let mut expired = mk_watch(&api, WatchParams::default()).await;
    server
        .faults()
        .cut_watches(&Matcher::on("configmaps", &[]), Cut::Expire);
    let Some(WatchEvent::Error(status)) = expired.try_next().await.unwrap() else {
        panic!("an error event");
    };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
}
