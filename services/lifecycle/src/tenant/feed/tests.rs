use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use k8s_openapi::api::core::v1::Service;
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::tenant::projection;

type Answer = http::Response<UnsyncBoxBody<Bytes, Infallible>>;

fn mk_answer(code: u16, body: &Value) -> Answer {
    http::Response::builder()
        .status(code)
        .body(Full::new(Bytes::from(body.to_string())).boxed_unsync())
        .unwrap()
}

/// A body that never says anything and never ends.
fn mk_silence() -> Answer {
    let silent =
        http_body_util::StreamBody::new(futures::stream::pending::<Result<http_body::Frame<Bytes>, Infallible>>());
    http::Response::new(silent.boxed_unsync())
}

fn mk_service(at: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("s{at}"), "namespace": "default", "uid": format!("u{at}"), "resourceVersion": "1"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
    })
}

/// A client whose answers a function gives, by the query of the request.
fn mk_client(answer: impl Fn(&HashMap<String, String>) -> Answer + Send + Sync + 'static) -> Client {
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let answer = Arc::clone(&answer);
        async move {
            let query = request.uri().query().unwrap_or_default();
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let query = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            Ok::<_, Infallible>(answer(&query))
        }
    });
    Client::new(service, "default")
}

#[derive(Default)]
struct Heard {
    healths: Mutex<Vec<KindHealth>>,
    changed: AtomicUsize,
}

/// Follows Services for a while of paused time.
async fn follow(client: Client, cache: &Cache<Service>, time: Duration) -> Heard {
    let (heard, clock) = (Heard::default(), Clock::system());
    let feed = Feed {
        kind: TenantKind::Services,
        api: Api::<Service>::all(client),
        cache,
        most: projection::MAX_SERVICES,
        project: projection::service,
        clock: &clock,
    };
    let changed = |_: &str, _: &str| {
        heard.changed.fetch_add(1, Ordering::Relaxed);
    };
    let health = |_, health| heard.healths.lock().push(health);
    let _ = tokio::time::timeout(time, feed.follow(changed, health)).await;
    heard
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_sends_a_hundred_thousand_services_is_kept_to_the_bound() {
    let client = mk_client(|query| {
        if query.contains_key("watch") {
            return mk_silence();
        }
        let from: usize = query
            .get("continue")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        let to = (from + 500).min(100_000);
        let next = if to < 100_000 { to.to_string() } else { String::new() };
        mk_answer(
            200,
            &json!({
                "apiVersion": "v1", "kind": "ServiceList", "metadata": {"resourceVersion": "1", "continue": next},
                "items": (from..to).map(mk_service).collect::<Vec<_>>(),
            }),
        )
    });
    let cache = Cache::default();
    let heard = follow(client, &cache, Duration::from_secs(30)).await;
    assert_eq!(cache.all().len(), projection::MAX_SERVICES);
    let beyond = 100_000 - projection::MAX_SERVICES;
    assert_eq!(heard.healths.lock().first(), Some(&KindHealth::Live { beyond }));
    assert_eq!(heard.changed.load(Ordering::Relaxed), projection::MAX_SERVICES);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_hangs_without_an_error_is_begun_again() {
    let watches = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&watches);
    let client = mk_client(move |query| {
        if query.contains_key("watch") {
            seen.fetch_add(1, Ordering::Relaxed);
            return mk_silence();
        }
        mk_answer(
            200,
            &json!({"apiVersion": "v1", "kind": "ServiceList", "metadata": {"resourceVersion": "1"}, "items": [mk_service(1)]}),
        )
    });
    let cache = Cache::default();
    let heard = follow(client, &cache, Duration::from_secs(600)).await;
    let count = watches.load(Ordering::Relaxed);
    assert!((4..=12).contains(&count), "{count} watches in ten minutes");
    assert!(heard.healths.lock().iter().all(KindHealth::is_live));
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_kind_costs_a_request_a_minute_and_heals() {
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&asked);
    let client = mk_client(move |query| {
        if query.contains_key("watch") {
            return mk_silence();
        }
        if seen.fetch_add(1, Ordering::Relaxed) < 20 {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "no"});
            return mk_answer(403, &status);
        }
        mk_answer(
            200,
            &json!({"apiVersion": "v1", "kind": "ServiceList", "metadata": {"resourceVersion": "1"}, "items": []}),
        )
    });
    let cache = Cache::default();
    let heard = follow(client, &cache, Duration::from_secs(1800)).await;
    let healths = heard.healths.lock();
    assert!(
        matches!(healths.first(), Some(KindHealth::Stale { why, .. }) if why.contains("403")),
        "{healths:?}"
    );
    assert_eq!(healths.last(), Some(&KindHealth::Live { beyond: 0 }));
    assert!(healths.len() <= 22, "{} attempts", healths.len());
}
