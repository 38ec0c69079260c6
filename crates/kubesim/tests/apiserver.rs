//! The simulated API server seen through `kube::Client`, as the services see it.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, future::BoxFuture};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace, Pod, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    core::{DynamicObject, ObjectMeta},
    runtime::{WatchStreamExt, reflector, watcher},
};
use serde_json::{Value, json};
use steading_kubesim::{
    Admission, AdmissionHook, ApiError, ApiServer, ApiServerConfig, Identity, PodDeletion, SubresourceHandler,
    SubresourceRequest, Verb,
    faults::{Cut, Effect, Matcher, Rule},
};
use tokio_util::sync::CancellationToken;

fn mk_server() -> (ApiServer, Client) {
    let server = ApiServer::new(ApiServerConfig::default());
    let client = server.client();
    (server, client)
}

fn mk_config_map(name: &str, data: &[(&str, &str)]) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(
            data.iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>(),
        ),
        ..ConfigMap::default()
    }
}

fn reason(error: &kube::Error) -> (u16, String) {
    match error {
        kube::Error::Api(status) => (status.code, status.reason.clone()),
        other => (0, other.to_string()),
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("must happen within the deadline")
}

#[tokio::test]
async fn objects_live_from_create_to_delete() {
    let (_, client) = mk_server();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let made = api
        .create(&PostParams::default(), &mk_config_map("a", &[("k", "1")]))
        .await
        .unwrap();
    assert!(made.uid().is_some() && made.creation_timestamp().is_some());
    assert_eq!(
        reason(
            &api.create(&PostParams::default(), &mk_config_map("a", &[]))
                .await
                .unwrap_err()
        ),
        (409, "AlreadyExists".to_owned())
    );

    let mut stale = made.clone();
    let mut fresh = made.clone();
    fresh.data = Some([("k".to_owned(), "2".to_owned())].into());
    let updated = api.replace("a", &PostParams::default(), &fresh).await.unwrap();
    assert_ne!(updated.resource_version(), made.resource_version());
    stale.data = None;
    assert_eq!(
        reason(&api.replace("a", &PostParams::default(), &stale).await.unwrap_err()),
        (409, "Conflict".to_owned())
    );
    let again = api.replace("a", &PostParams::default(), &updated).await.unwrap();
    assert_eq!(
        again.resource_version(),
        updated.resource_version(),
        "a write that changes nothing makes no revision"
    );

    let nowhere: Api<ConfigMap> = Api::namespaced(client.clone(), "nowhere");
    assert_eq!(
        reason(
            &nowhere
                .create(&PostParams::default(), &mk_config_map("a", &[]))
                .await
                .unwrap_err()
        )
        .0,
        404
    );
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(reason(&api.get("a").await.unwrap_err()), (404, "NotFound".to_owned()));
}

#[tokio::test]
async fn finalizers_keep_an_object_until_the_last_is_gone() {
    let (_, client) = mk_server();
    let api: Api<Secret> = Api::namespaced(client, "default");
    let mut secret = Secret::default();
    secret.metadata.name = Some("s".to_owned());
    secret.metadata.finalizers = Some(vec!["example.io/a".to_owned()]);
    secret.string_data = Some([("k".to_owned(), "v".to_owned())].into());
    let made = api.create(&PostParams::default(), &secret).await.unwrap();
    assert_eq!(made.data.unwrap()["k"].0, b"v");
    let left = api.delete("s", &DeleteParams::default()).await.unwrap();
    assert!(left.left().unwrap().metadata.deletion_timestamp.is_some());
    let more = json!({"metadata": {"finalizers": ["example.io/a", "example.io/b"]}});
    assert_eq!(
        reason(
            &api.patch("s", &PatchParams::default(), &Patch::Merge(more))
                .await
                .unwrap_err()
        )
        .0,
        422
    );
    let none = json!([{"op": "test", "path": "/metadata/finalizers/0", "value": "example.io/a"}, {"op": "remove", "path": "/metadata/finalizers/0"}]);
    let patch: json_patch::Patch = serde_json::from_value(none.clone()).unwrap();
    api.patch("s", &PatchParams::default(), &Patch::Json::<()>(patch))
        .await
        .unwrap();
    assert_eq!(reason(&api.get("s").await.unwrap_err()).0, 404);
}

#[tokio::test]
async fn a_failed_json_patch_test_is_invalid_and_changes_nothing() {
    let (_, client) = mk_server();
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let made = api
        .create(&PostParams::default(), &mk_config_map("a", &[("k", "1")]))
        .await
        .unwrap();
    let patch = serde_json::from_value(
        json!([{"op": "test", "path": "/data/k", "value": "2"}, {"op": "remove", "path": "/data/k"}]),
    )
    .unwrap();
    let refused = api
        .patch("a", &PatchParams::default(), &Patch::Json::<()>(patch))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), (422, "Invalid".to_owned()));
    assert_eq!(api.get("a").await.unwrap().resource_version(), made.resource_version());
}

#[tokio::test]
async fn pages_show_one_moment() {
    let (_, client) = mk_server();
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    for index in 0..7 {
        api.create(&PostParams::default(), &mk_config_map(&format!("c{index}"), &[]))
            .await
            .unwrap();
    }
    let first = api.list(&ListParams::default().limit(3)).await.unwrap();
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (3, Some(4)));
    let token = first.metadata.continue_.clone().unwrap();
    api.delete("c4", &DeleteParams::default()).await.unwrap();
    let second = api
        .list(&ListParams::default().limit(3).continue_token(&token))
        .await
        .unwrap();
    let names: Vec<String> = second.items.iter().map(ResourceExt::name_any).collect();
    assert_eq!(
        names,
        ["c3", "c4", "c5"],
        "what was deleted meanwhile is still on its page"
    );
    assert_eq!(second.metadata.resource_version, first.metadata.resource_version);
    let last = api
        .list(
            &ListParams::default()
                .limit(3)
                .continue_token(&second.metadata.continue_.unwrap()),
        )
        .await
        .unwrap();
    assert_eq!((last.items.len(), last.metadata.continue_), (1, None));
    let other = api
        .list(&ListParams::default().limit(3).labels("a=b").continue_token(&token))
        .await
        .unwrap_err();
    assert_eq!(reason(&other).0, 400);
}

#[tokio::test]
async fn a_watch_shows_selection_changes_as_added_and_deleted() {
    let (_, client) = mk_server();
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let start = api
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();
    let mut events = api
        .watch(&WatchParams::default().labels("on=yes"), &start)
        .await
        .unwrap()
        .boxed();
    api.create(&PostParams::default(), &mk_config_map("a", &[]))
        .await
        .unwrap();
    for labels in [
        json!({"on": "yes"}),
        json!({"on": "yes", "more": "1"}),
        json!({"on": "no"}),
    ] {
        api.patch(
            "a",
            &PatchParams::default(),
            &Patch::Merge(json!({"metadata": {"labels": labels}})),
        )
        .await
        .unwrap();
    }
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(match within(events.try_next()).await.unwrap().unwrap() {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(object) => {
                assert_eq!(object.labels()["on"], "yes", "an object that leaves is shown as it was");
                "deleted"
            }
            WatchEvent::Bookmark(_) => "bookmark",
            WatchEvent::Error(_) => "error",
        });
    }
    assert_eq!(kinds, ["added", "modified", "deleted"]);
}

#[tokio::test]
async fn an_old_revision_is_expired() {
    let server = ApiServer::new(ApiServerConfig {
        history: 4,
        ..ApiServerConfig::default()
    });
    let api: Api<ConfigMap> = Api::namespaced(server.client(), "default");
    for index in 0..6 {
        api.create(&PostParams::default(), &mk_config_map(&format!("c{index}"), &[]))
            .await
            .unwrap();
    }
    let mut events = api.watch(&WatchParams::default(), "1").await.unwrap().boxed();
    match within(events.try_next()).await.unwrap().unwrap() {
        WatchEvent::Error(status) => assert_eq!((status.code, status.reason.as_str()), (410, "Expired")),
        other => panic!("expected an error, got {other:?}"),
    }
    assert_eq!(
        reason(&api.list(&ListParams::default().at("999999")).await.unwrap_err()).0,
        504
    );
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "a test's task ends with the test")]
async fn reflectors_converge_through_both_list_strategies_and_cut_watches() {
    let (server, client) = mk_server();
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    api.create(&PostParams::default(), &mk_config_map("first", &[]))
        .await
        .unwrap();
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let (reader, writer) = reflector::store();
        let stream = watcher(api.clone(), config)
            .default_backoff()
            .reflect(writer)
            .touched_objects();
        let task = tokio::task::spawn(stream.for_each(|_| async {}));
        within(reader.wait_until_ready()).await.unwrap();
        assert!(reader.state().iter().any(|object| object.name_any() == "first"));
        for cut in [Cut::Drop, Cut::Expire] {
            server.faults().cut_watches(&Matcher::any(), cut);
            let name = format!("{cut:?}-{}", server.store().revision()).to_lowercase();
            api.create(&PostParams::default(), &mk_config_map(&name, &[]))
                .await
                .unwrap();
            within(async {
                while !reader.state().iter().any(|object| object.name_any() == name) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
        task.abort();
    }
}

#[tokio::test]
async fn faults_strike_as_often_as_they_say() {
    let (server, client) = mk_server();
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    server.faults().add(Rule::times(
        2,
        Matcher::on("configmaps", &[Verb::Create]),
        Effect::TooManyRequests { retry_after: 3 },
    ));
    for _ in 0..2 {
        let refused = api
            .create(&PostParams::default(), &mk_config_map("a", &[]))
            .await
            .unwrap_err();
        assert_eq!(reason(&refused), (429, "TooManyRequests".to_owned()));
    }
    api.create(&PostParams::default(), &mk_config_map("a", &[]))
        .await
        .unwrap();
    server.faults().add(Rule::nth(
        0,
        Matcher::on("configmaps", &[Verb::Create]),
        Effect::DropAnswer,
    ));
    assert!(
        api.create(&PostParams::default(), &mk_config_map("b", &[]))
            .await
            .is_err()
    );
    api.get("b")
        .await
        .expect("an answer that is lost does not undo the write");
    server.faults().go_away();
    assert!(api.get("b").await.is_err());
    server.faults().come_back();
    api.get("b").await.unwrap();
    assert_eq!(
        server
            .counters()
            .count(|row| row.verb == Verb::Create && row.resource == "configmaps"),
        4
    );
}

#[tokio::test]
async fn a_namespace_that_goes_takes_no_new_objects() {
    let (_, client) = mk_server();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "gone"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    namespaces.delete("gone", &DeleteParams::default()).await.unwrap();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "gone");
    let refused = api
        .create(&PostParams::default(), &mk_config_map("a", &[]))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), (403, "Forbidden".to_owned()));
    let seen = namespaces.get("gone").await.unwrap();
    assert_eq!(seen.status.as_ref().unwrap().phase.as_deref(), Some("Terminating"));
    let body =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gone"}, "spec": {"finalizers": []}});
    let request = http::Request::put("/api/v1/namespaces/gone/finalize").header("content-type", "application/json");
    let _: Value = client
        .request(request.body(body.to_string().into_bytes()).unwrap())
        .await
        .unwrap();
    assert_eq!(reason(&namespaces.get("gone").await.unwrap_err()).0, 404);
}

#[tokio::test]
async fn evictions_honour_disruption_budgets() {
    let server = ApiServer::new(ApiServerConfig {
        pod_deletion: PodDeletion::Immediate,
        ..ApiServerConfig::default()
    });
    let pods: Api<Pod> = Api::namespaced(server.client(), "default");
    let budgets: Api<k8s_openapi::api::policy::v1::PodDisruptionBudget> = Api::namespaced(server.client(), "default");
    for name in ["a", "b"] {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": name, "labels": {"app": "x"}}, "spec": {"containers": [{"name": "c"}]}}),
        )
        .unwrap();
        pods.create(&PostParams::default(), &pod).await.unwrap();
        pods.patch_status(
            name,
            &PatchParams::default(),
            &Patch::Merge(json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})),
        )
        .await
        .unwrap();
    }
    let budget = serde_json::from_value(
        json!({"metadata": {"name": "x"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}}),
    )
    .unwrap();
    budgets.create(&PostParams::default(), &budget).await.unwrap();
    assert_eq!(
        reason(&pods.evict("a", &EvictParams::default()).await.unwrap_err()),
        (429, "TooManyRequests".to_owned())
    );
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}});
    budgets
        .patch_status("x", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    pods.evict("a", &EvictParams::default()).await.unwrap();
    assert_eq!(
        reason(&pods.evict("b", &EvictParams::default()).await.unwrap_err()).0,
        429
    );
    pods.get("b").await.unwrap();
}

fn mk_crd() -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "metadata": {"name": "widgets.example.org"},
        "spec": {
            "group": "example.org", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {
                "type": "object",
                "properties": {
                    "spec": {"type": "object", "required": ["size"], "properties": {
                        "size": {"type": "integer", "minimum": 1, "maximum": 9},
                        "colour": {"type": "string", "default": "red", "enum": ["red", "green"]},
                        "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
                            "type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "count": {"type": "integer", "default": 1}},
                        }},
                        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    }, "x-kubernetes-validations": [{"rule": "!has(self.parts) || self.size >= size(self.parts)", "message": "too many parts"}]},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                },
            }}}],
        },
    }))
    .unwrap()
}

async fn widgets(client: &Client) -> Api<DynamicObject> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = PatchParams::apply("test").force();
    let mut crd = mk_crd();
    crd.metadata.managed_fields = None;
    let crd = serde_json::to_value(&crd).map(|mut value| {
        value["apiVersion"] = json!("apiextensions.k8s.io/v1");
        value["kind"] = json!("CustomResourceDefinition");
        value
    });
    let made = crds
        .patch("widgets.example.org", &apply, &Patch::Apply(crd.unwrap()))
        .await
        .unwrap();
    let conditions = made.status.unwrap().conditions.unwrap();
    assert!(
        conditions
            .iter()
            .any(|condition| condition.type_ == "Established" && condition.status == "True")
    );
    let gvk = kube::core::GroupVersionKind::gvk("example.org", "v1", "Widget");
    let (resource, _) = kube::discovery::pinned_kind(client, &gvk).await.unwrap();
    assert_eq!(resource.plural, "widgets");
    Api::namespaced_with(client.clone(), "default", &resource)
}

fn mk_widget(name: &str, spec: &Value) -> DynamicObject {
    serde_json::from_value(
        json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}),
    )
    .unwrap()
}

#[tokio::test]
async fn custom_resources_are_defaulted_pruned_and_validated() {
    let (_, client) = mk_server();
    let api = widgets(&client).await;
    let made = api
        .create(
            &PostParams::default(),
            &mk_widget(
                "a",
                &json!({"size": 2, "unknown": 1, "parts": [{"name": "x"}], "free": {"any": [1]}}),
            ),
        )
        .await
        .unwrap();
    assert_eq!(
        made.data["spec"],
        json!({"size": 2, "colour": "red", "parts": [{"name": "x", "count": 1}], "free": {"any": [1]}})
    );
    assert_eq!(made.metadata.generation, Some(1));
    for (spec, field) in [
        (json!({}), "spec.size"),
        (json!({"size": 10}), "spec.size"),
        (json!({"size": "x"}), "spec.size"),
        (json!({"size": 1, "colour": "blue"}), "spec.colour"),
        (json!({"size": 5, "parts": [{"count": 1}]}), "spec.parts[0].name"),
        (json!({"size": 1, "parts": [{"name": "a"}, {"name": "b"}]}), "spec"),
    ] {
        match api
            .create(&PostParams::default(), &mk_widget("bad", &spec))
            .await
            .unwrap_err()
        {
            kube::Error::Api(status) => {
                assert_eq!(status.code, 422, "{spec}");
                let causes = status.details.clone().unwrap().causes;
                assert!(causes.iter().any(|cause| cause.field == field), "{spec}: {causes:?}");
            }
            other => panic!("{other}"),
        }
    }
    let patched = api
        .patch_status(
            "a",
            &PatchParams::default(),
            &Patch::Merge(json!({"status": {"ok": true}, "spec": {"size": 3}})),
        )
        .await
        .unwrap();
    assert_eq!(
        (
            &patched.data["status"]["ok"],
            &patched.data["spec"]["size"],
            patched.metadata.generation
        ),
        (&json!(true), &json!(2), Some(1))
    );
    let patched = api
        .patch(
            "a",
            &PatchParams::default(),
            &Patch::Merge(json!({"status": {"ok": false}, "spec": {"size": 3}})),
        )
        .await
        .unwrap();
    assert_eq!(
        (&patched.data["status"]["ok"], patched.metadata.generation),
        (&json!(true), Some(2))
    );
}

#[tokio::test]
async fn strict_validation_names_unknown_fields() {
    let (_, client) = mk_server();
    let api = widgets(&client).await;
    drop(api);
    let body = serde_json::to_vec(&mk_widget("a", &json!({"size": 2, "unknown": 1}))).unwrap();
    let request = http::Request::post("/apis/example.org/v1/namespaces/default/widgets?fieldValidation=Strict")
        .header("content-type", "application/json");
    match client.request::<Value>(request.body(body).unwrap()).await.unwrap_err() {
        kube::Error::Api(status) => assert!(
            status.code == 400 && status.message.contains("unknown field \"spec.unknown\""),
            "{status:?}"
        ),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn appliers_own_fields_conflict_and_let_go() {
    let (_, client) = mk_server();
    let api = widgets(&client).await;
    let apply = |manager: &'static str, force: bool, spec: Value| {
        let api = api.clone();
        async move {
            let params = PatchParams {
                force,
                ..PatchParams::apply(manager)
            };
            api.patch(
                "w",
                &params,
                &Patch::Apply(
                    json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}),
                ),
            )
            .await
        }
    };
    let made = apply(
        "one",
        false,
        json!({"size": 4, "parts": [{"name": "a", "count": 2}, {"name": "b"}]}),
    )
    .await
    .unwrap();
    let same = apply(
        "one",
        false,
        json!({"size": 4, "parts": [{"name": "a", "count": 2}, {"name": "b"}]}),
    )
    .await
    .unwrap();
    assert_eq!(made.resource_version(), same.resource_version());
    let two = apply("two", false, json!({"parts": [{"name": "c", "count": 7}]}))
        .await
        .unwrap();
    assert_eq!(two.data["spec"]["parts"].as_array().unwrap().len(), 3);
    let again = apply(
        "one",
        false,
        json!({"size": 4, "parts": [{"name": "a", "count": 2}, {"name": "b"}]}),
    )
    .await
    .unwrap();
    assert_eq!(
        two.resource_version(),
        again.resource_version(),
        "applying the same again makes no revision"
    );
    match apply("two", false, json!({"size": 5, "parts": [{"name": "c", "count": 7}]}))
        .await
        .unwrap_err()
    {
        kube::Error::Api(status) => {
            assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
            let causes = status.details.clone().unwrap().causes;
            assert!(
                causes
                    .iter()
                    .any(|cause| cause.field == ".spec.size" && cause.reason == "FieldManagerConflict"),
                "{causes:?}"
            );
        }
        other => panic!("{other}"),
    }
    let forced = apply("two", true, json!({"size": 5, "parts": [{"name": "c", "count": 7}]}))
        .await
        .unwrap();
    assert_eq!(forced.data["spec"]["size"], json!(5));
    let less = apply("one", false, json!({"parts": [{"name": "b"}]})).await.unwrap();
    let names: Vec<&str> = less.data["spec"]["parts"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|part| part["name"].as_str())
        .collect();
    assert_eq!(names, ["b", "c"], "what only `one` owned went, the rest stays");
    assert_eq!(less.data["spec"]["size"], json!(5), "the field that `two` took stays");
}

#[tokio::test]
async fn the_finalizer_helper_works() {
    let (_, client) = mk_server();
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let made = api
        .create(&PostParams::default(), &mk_config_map("a", &[]))
        .await
        .unwrap();
    let reconcile = |object: ConfigMap| {
        let api = api.clone();
        async move {
            kube::runtime::finalizer(&api, "example.io/test", object.into(), |_| async {
                Ok::<_, std::io::Error>(kube::runtime::controller::Action::await_change())
            })
            .await
        }
    };
    reconcile(made).await.unwrap();
    let held = api.get("a").await.unwrap();
    assert_eq!(held.finalizers(), ["example.io/test"]);
    api.delete("a", &DeleteParams::default()).await.unwrap();
    reconcile(api.get("a").await.unwrap()).await.unwrap();
    assert_eq!(reason(&api.get("a").await.unwrap_err()).0, 404);
}

struct Evacuate;

impl AdmissionHook for Evacuate {
    fn admit<'a>(&'a self, request: &'a Admission<'a>, object: &'a mut Value) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            match request.info.subresource.as_deref() {
                Some("eviction") => Err(ApiError::too_many_requests("evacuation in progress", 1)),
                None if request.old.is_none() && request.def.plural == "pods" => {
                    object["metadata"]["labels"]["hooked"] = json!("yes");
                    Ok(())
                }
                _ => Ok(()),
            }
        })
    }
}

struct Start;

impl SubresourceHandler for Start {
    fn handle(&self, request: SubresourceRequest) -> BoxFuture<'_, Result<(u16, Value), ApiError>> {
        Box::pin(async move { Ok((202, json!({"name": request.info.name, "body": request.body}))) })
    }
}

#[tokio::test]
async fn hooks_and_handlers_play_webhooks_and_subresources() {
    let (server, client) = mk_server();
    server.add_hook(Arc::new(Evacuate));
    server.add_subresource(
        "subresources.example.io",
        "virtualmachines",
        "evacuate/cancel",
        Arc::new(Start),
    );
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod: Pod =
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}})).unwrap();
    let made = pods.create(&PostParams::default(), &pod).await.unwrap();
    assert_eq!(made.labels()["hooked"], "yes");
    assert_eq!(
        reason(&pods.evict("p", &EvictParams::default()).await.unwrap_err()).0,
        429
    );
    let path = "/apis/subresources.example.io/v1/namespaces/default/virtualmachines/v/evacuate/cancel";
    let request = http::Request::put(path)
        .header("content-type", "application/json")
        .body(b"{\"a\":1}".to_vec())
        .unwrap();
    let answer: Value = client.request(request).await.unwrap();
    assert_eq!(answer, json!({"name": "v", "body": {"a": 1}}));
}

#[tokio::test]
async fn the_same_servers_are_served_over_http_below_their_paths() {
    let (infra, tenant) = (
        ApiServer::new(ApiServerConfig::default()),
        ApiServer::new(ApiServerConfig::default()),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let router = steading_kubesim::http::with_named(infra.clone(), "/tenants/", {
        let tenant = tenant.clone();
        move |namespace| (namespace == "acme--web").then(|| tenant.clone())
    });
    let serving = steading_kubesim::http::serve(listener, router, cancel.clone());
    let using = async {
        let url = format!("http://{address}/tenants/acme--web").parse().unwrap();
        let client = Client::try_from(kube::Config::new(url)).unwrap();
        let api: Api<ConfigMap> = Api::namespaced(client, "default");
        let mut events = api.watch(&WatchParams::default(), "0").await.unwrap().boxed();
        api.create(&PostParams::default(), &mk_config_map("over-http", &[]))
            .await
            .unwrap();
        assert!(matches!(
            within(events.try_next()).await.unwrap(),
            Some(WatchEvent::Added(_))
        ));
        cancel.cancel();
    };
    let (served, ()) = within(async { tokio::join!(serving, using) }).await;
    served.unwrap();
    let seen = |server: &ApiServer| server.store().collection("", "configmaps").unwrap().len();
    assert_eq!((seen(&infra), seen(&tenant)), (0, 1));
}

#[tokio::test]
async fn reviews_answer_by_the_table() {
    let (server, client) = mk_server();
    let ask = |body: Value| {
        let client = client.clone();
        let plural = if body["kind"] == "TokenReview" {
            "authentication.k8s.io/v1/tokenreviews"
        } else {
            "authorization.k8s.io/v1/subjectaccessreviews"
        };
        let request = http::Request::post(format!("/apis/{plural}")).header("content-type", "application/json");
        async move {
            client
                .request::<Value>(request.body(body.to_string().into_bytes()).unwrap())
                .await
                .unwrap()
        }
    };
    server.access().add_token(
        "good",
        Identity {
            username: "u".to_owned(),
            ..Identity::default()
        },
    );
    let review = |token: &str| json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    assert_eq!(ask(review("good")).await["status"]["user"]["username"], "u");
    assert!(ask(review("bad")).await["status"]["authenticated"].is_null());
    let access = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": "u", "resourceAttributes": {"verb": "get"}}});
    assert_eq!(ask(access.clone()).await["status"]["allowed"], true);
    server.access().decide_by(|review| review.attributes["verb"] != "get");
    assert_eq!(ask(access).await["status"]["allowed"], false);
}

#[tokio::test]
async fn new_style_events_are_the_same_objects() {
    let (_, client) = mk_server();
    let new: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(client.clone(), "default");
    let old: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(client, "default");
    let event = serde_json::from_value(json!({"metadata": {"generateName": "e-"}, "note": "hello", "reason": "R", "regarding": {"kind": "Pod", "name": "p"}})).unwrap();
    let made = new.create(&PostParams::default(), &event).await.unwrap();
    let seen = old
        .list(&ListParams::default().fields("involvedObject.name=p"))
        .await
        .unwrap();
    assert_eq!(seen.items[0].message.as_deref(), Some("hello"));
    assert_eq!(new.get(&made.name_any()).await.unwrap().note.as_deref(), Some("hello"));
}
