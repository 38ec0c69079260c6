use steading_api::{lifecycle::v1::ListMachinePoolsRequest, types::v1::ErrorReason};
use steading_kubesim::ApiServerConfig;

use crate::fixture::{PARENT, Rig, full, reason};

fn query(parent: &str) -> ListMachinePoolsRequest {
    ListMachinePoolsRequest {
        parent: parent.to_owned(),
        page_size: 2,
        ..ListMachinePoolsRequest::default()
    }
}

/// The names of all pages.
async fn pages(rig: &Rig, mut request: ListMachinePoolsRequest) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let page = rig.list(request.clone()).await.unwrap();
        names.extend(page.machine_pools.into_iter().map(|pool| pool.name));
        if page.next_page_token.is_empty() {
            return names;
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn pages_are_in_the_order_of_resource_names() {
    let rig = Rig::new().await;
    rig.namespace("a--c").await;
    rig.namespace("a1--a").await;
    for (namespace, name) in [
        ("a--c", "a"),
        ("a--b", "z"),
        ("a--b", "b"),
        ("a1--a", "m"),
        ("a--c", "y"),
    ] {
        rig.apply(namespace, name, &[]).await;
    }
    let names = pages(&rig, query("projects/-/clusters/-")).await;
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!((names.len(), &names), (5, &sorted));
    assert_eq!(pages(&rig, query("projects/a/clusters/-")).await.len(), 4);
    assert_eq!(pages(&rig, query(PARENT)).await, [full("b"), full("z")]);
}

#[tokio::test]
async fn a_list_neither_repeats_nor_skips_what_stays() {
    let rig = Rig::new().await;
    for name in ["b", "d", "f", "h"] {
        rig.apply("a--b", name, &[]).await;
    }
    let mut request = query(PARENT);
    let first = rig.list(request.clone()).await.unwrap();
    assert_eq!(first.machine_pools.len(), 2);
    rig.apply("a--b", "a", &[]).await;
    rig.remove("d").await;
    rig.apply("a--b", "g", &[]).await;
    request.page_token = first.next_page_token;
    assert_eq!(pages(&rig, request).await, [full("f"), full("g"), full("h")]);
}

#[tokio::test]
async fn a_list_longer_than_a_chunk_is_never_cut() {
    let rig = Rig::new().await;
    for number in 0..1203 {
        rig.apply("a--b", &format!("p{number:04}"), &[]).await;
    }
    let mut request = query(PARENT);
    request.page_size = 500;
    let names = pages(&rig, request).await;
    assert_eq!((names.len(), names.last()), (1203, Some(&full("p1202"))));
}

#[tokio::test]
async fn what_is_below_a_missing_parent_is_not_found() {
    let rig = Rig::new().await;
    let missing = "projects/a/clusters/nosuch";
    assert_eq!(reason(rig.list(query(missing)).await), ErrorReason::ResourceNotFound);
    let watch = rig.watch(missing, "", "").await.map(|_| ());
    assert_eq!(reason(watch), ErrorReason::ResourceNotFound);
    assert!(rig.list(query(PARENT)).await.unwrap().machine_pools.is_empty());
}

#[tokio::test]
async fn filters_know_what_output_shows_and_refuse_what_never_is() {
    let rig = Rig::new().await;
    rig.apply("a--b", "x", &[("team", "red")]).await;
    for (filter, found) in [
        ("readyReplicas=0", 1),
        ("ready_replicas=0", 1),
        ("labels.team=red", 1),
        ("labels.team=blue", 0),
    ] {
        let request = ListMachinePoolsRequest {
            filter: filter.into(),
            ..query(PARENT)
        };
        assert_eq!(rig.list(request).await.unwrap().machine_pools.len(), found, "{filter}");
    }
    for filter in ["state=BANANA", "colour=red", "ready_replicas=many"] {
        let request = ListMachinePoolsRequest {
            filter: filter.into(),
            ..query(PARENT)
        };
        assert_eq!(reason(rig.list(request).await), ErrorReason::InvalidFilter, "{filter}");
        let watch = rig.watch(PARENT, filter, "").await.map(|_| ());
        assert_eq!(reason(watch), ErrorReason::InvalidFilter, "{filter}");
    }
}

#[tokio::test]
async fn tokens_of_another_list_are_refused() {
    let rig = Rig::with(ApiServerConfig::default()).await;
    for name in ["a", "b", "c"] {
        rig.apply("a--b", name, &[]).await;
    }
    let token = rig.list(query(PARENT)).await.unwrap().next_page_token;
    let other = ListMachinePoolsRequest {
        page_token: token,
        filter: "replicas=1".into(),
        ..query(PARENT)
    };
    assert_eq!(reason(rig.list(other).await), ErrorReason::InvalidPageToken);
}
