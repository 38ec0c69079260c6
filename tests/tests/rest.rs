//! A pool's life over REST: create, list, watch, scale, delete; and what bad requests get.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use serde_json::json;
use steading_tests::{
    http::Rest,
    stack::{self, POOLS, make_cluster, mk_pool, wait_pool},
    wait,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_lives_over_rest() {
    let stack = stack::start(1).await.expect("the stack starts");
    let rest = Rest::new(stack.gateway());
    make_cluster(&rest).await.expect("a cluster");

    let mut events = rest
        .events(&format!("{POOLS}:watch"))
        .await
        .expect("a stream of events");
    let created = rest
        .create(&format!("{POOLS}?machinePoolId=web"), &mk_pool(2))
        .await
        .expect("a pool");
    assert_eq!(created["name"], "projects/acme/clusters/prod/machinePools/web");
    wait_pool(&rest, "web", 2).await.expect("2 machines");

    let list = rest.get(POOLS).await.expect("a list");
    assert_eq!(list.body["machinePools"].as_array().map(Vec::len), Some(1));

    let scaled = rest
        .post(&format!("{POOLS}/web:scale"), &json!({ "replicas": 3 }))
        .await
        .expect("a reply");
    assert_eq!((scaled.status, scaled.body["replicas"].as_i64()), (200, Some(3)));
    wait_pool(&rest, "web", 3).await.expect("3 machines");

    let deleted = rest
        .send("DELETE", &format!("{POOLS}/web?force=true"), &[], None)
        .await
        .expect("a reply");
    assert_eq!(deleted.status, 200, "{}", deleted.body);
    wait::until("the pool is gone", async || {
        Ok((rest.get(&format!("{POOLS}/web")).await?.status == 404).then_some(()))
    })
    .await
    .expect("gone");
    let machines = rest
        .get("/v1/projects/acme/clusters/prod/machines")
        .await
        .expect("a list");
    assert_eq!(machines.body["machines"].as_array().map_or(0, Vec::len), 0);

    let mut seen = Vec::new();
    while !seen.iter().any(|t| t == "WATCH_EVENT_TYPE_DELETED") {
        let next = tokio::time::timeout(wait::DEADLINE, events.next())
            .await
            .expect("in time")
            .expect("no error");
        let event = next.expect("the stream goes on");
        seen.push(event["type"].as_str().unwrap_or_default().to_owned());
        assert!(event["resumeToken"].as_str().is_some_and(|t| !t.is_empty()), "{event}");
    }
    assert_eq!(
        seen.first().map(String::as_str),
        Some("WATCH_EVENT_TYPE_SYNCED"),
        "{seen:?}"
    );
    assert!(
        seen.contains(&"WATCH_EVENT_TYPE_ADDED".to_owned()) && seen.contains(&"WATCH_EVENT_TYPE_MODIFIED".to_owned())
    );
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_get_a_clear_error_and_change_nothing() {
    let stack = stack::start(2).await.expect("the stack starts");
    let rest = Rest::new(stack.gateway());
    make_cluster(&rest).await.expect("a cluster");
    rest.create(&format!("{POOLS}?machinePoolId=web"), &mk_pool(1))
        .await
        .expect("a pool");
    let before = wait_pool(&rest, "web", 1).await.expect("1 machine");

    // (what, method, path, headers, body) → (HTTP status, reason, a field path that must be named)
    let json_type = ("content-type", "application/json");
    let web = format!("{POOLS}/web");
    let wrong = [
        (
            "unknown field",
            "POST",
            format!("{POOLS}?machinePoolId=x"),
            Some(json!({ "replicaz": 1 })),
            400,
            "",
            "replicaz",
        ),
        (
            "unknown parameter",
            "GET",
            format!("{POOLS}?colour=red"),
            None,
            400,
            "",
            "colour",
        ),
        (
            "bad id",
            "POST",
            format!("{POOLS}?machinePoolId=Not--Good"),
            Some(mk_pool(1)),
            400,
            "INVALID_FIELD",
            "machine_pool_id",
        ),
        (
            "negative replicas",
            "POST",
            format!("{POOLS}?machinePoolId=x"),
            Some(mk_pool(-1)),
            400,
            "INVALID_FIELD",
            "machine_pool.replicas",
        ),
        (
            "wrong parent",
            "GET",
            "/v1/projects/nobody/clusters/none/machinePools/web".to_owned(),
            None,
            404,
            "RESOURCE_NOT_FOUND",
            "",
        ),
        (
            "parent that is not there",
            "POST",
            "/v1/projects/acme/clusters/none/machinePools?machinePoolId=x".to_owned(),
            Some(mk_pool(1)),
            404,
            "RESOURCE_NOT_FOUND",
            "",
        ),
        (
            "stale etag",
            "POST",
            format!("{web}:scale"),
            Some(json!({ "replicas": 5, "etag": "1" })),
            409,
            "ETAG_MISMATCH",
            "",
        ),
        (
            "page token of another list",
            "GET",
            format!("{POOLS}?pageToken=bm90IG91cnM"),
            None,
            400,
            "INVALID_PAGE_TOKEN",
            "page_token",
        ),
        (
            "bad filter",
            "GET",
            format!("{POOLS}?filter=state%20%3E"),
            None,
            400,
            "INVALID_FILTER",
            "filter",
        ),
        (
            "there already",
            "POST",
            format!("{POOLS}?machinePoolId=web"),
            Some(mk_pool(1)),
            409,
            "RESOURCE_ALREADY_EXISTS",
            "",
        ),
        (
            "mask of nothing",
            "PATCH",
            format!("{web}?updateMask=colour"),
            Some(json!({ "replicas": 5 })),
            400,
            "",
            "",
        ),
        ("unknown path", "GET", "/v1/nowhere".to_owned(), None, 404, "", ""),
        ("wrong method", "PUT", web.clone(), None, 405, "", ""),
    ];
    let mut differences = Vec::new();
    for (what, method, path, body, status, reason, field) in &wrong {
        let reply = rest.send(method, path, &[json_type], body.as_ref()).await.expect(what);
        let shaped = reply.body["error"]["code"].is_number() && reply.body["error"]["message"].is_string();
        let named = field.is_empty() || reply.fields().iter().any(|f| f.contains(field));
        if reply.status != *status || !shaped || !named || !(reason.is_empty() || reply.reason() == *reason) {
            differences.push(format!("{what}: {} {}", reply.status, reply.body));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");

    let late = rest
        .send("GET", POOLS, &[("x-server-timeout", "0.000001")], None)
        .await
        .expect("a reply");
    assert_eq!(
        (late.status, late.body["error"]["status"].as_str()),
        (504, Some("DEADLINE_EXCEEDED")),
        "{}",
        late.body
    );

    let after = rest.get(&web).await.expect("a reply").body;
    assert_eq!(
        (&after["replicas"], &after["uid"]),
        (&before["replicas"], &before["uid"])
    );
    let list = rest.get(POOLS).await.expect("a list");
    assert_eq!(list.body["machinePools"].as_array().map(Vec::len), Some(1));
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_create_gives_the_same_pool_and_other_content_is_refused() {
    let stack = stack::start(3).await.expect("the stack starts");
    let rest = Rest::new(stack.gateway());
    make_cluster(&rest).await.expect("a cluster");
    let path = format!("{POOLS}?machinePoolId=web&requestId=0b8f1c8e-8d0f-4a8e-9a3e-6c2f5a1d7e42");
    let first = rest.create(&path, &mk_pool(1)).await.expect("a pool");
    let again = rest.create(&path, &mk_pool(1)).await.expect("the same pool");
    assert_eq!(first["uid"], again["uid"]);
    let other = rest.post(&path, &mk_pool(2)).await.expect("a reply");
    assert_eq!(
        (other.status, other.reason()),
        (409, "REQUEST_ID_REUSED"),
        "{}",
        other.body
    );
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_update_is_no_stale_one_and_changes_nothing() {
    let stack = stack::start(6).await.expect("the stack starts");
    let rest = Rest::new(stack.gateway());
    make_cluster(&rest).await.expect("a cluster");
    rest.create(&format!("{POOLS}?machinePoolId=web"), &mk_pool(0))
        .await
        .expect("a pool");
    let pool = wait_pool(&rest, "web", 0).await.expect("at rest");
    let path = format!("{POOLS}/web?updateMask=labels&requestId=3c1f6f0e-64a5-4a0b-8c57-0d6a9a3b1e55");
    let update = async |tier: &str| {
        let body = json!({ "labels": { "tier": tier }, "etag": pool["etag"] });
        rest.send("PATCH", &path, &[("content-type", "application/json")], Some(&body))
            .await
            .expect("a reply")
    };
    let first = update("web").await;
    assert_eq!(first.status, 200, "{}", first.body);
    // The etag is that of before; a client that lost the answer knows no other.
    let again = update("web").await;
    assert_eq!(again.status, 200, "{}", again.body);
    assert_eq!(
        (&again.body["labels"]["tier"], &again.body["uid"]),
        (&json!("web"), &pool["uid"])
    );
    let other = update("db").await;
    assert_eq!(
        (other.status, other.reason()),
        (409, "REQUEST_ID_REUSED"),
        "{}",
        other.body
    );
    stack.stop().await;
}
