//! Laws of the simulated API server, on random histories.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use steading_kubesim::{ApiServer, ApiServerConfig};

/// One write: to which of a few objects, and what.
#[derive(Clone, Debug)]
enum Write {
    Apply {
        name: u8,
        manager: u8,
        fields: BTreeMap<u8, u8>,
        selected: bool,
    },
    Merge {
        name: u8,
        field: u8,
        value: Option<u8>,
    },
    Label {
        name: u8,
        selected: bool,
    },
    Delete {
        name: u8,
    },
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let name = 0..3_u8;
    let one = prop_oneof![
        4 => (name.clone(), 0..2_u8, proptest::collection::btree_map(0..4_u8, 0..3_u8, 0..3), any::<bool>())
            .prop_map(|(name, manager, fields, selected)| Write::Apply { name, manager, fields, selected }),
        2 => (name.clone(), 0..4_u8, proptest::option::of(0..3_u8)).prop_map(|(name, field, value)| Write::Merge { name, field, value }),
        1 => (name.clone(), any::<bool>()).prop_map(|(name, selected)| Write::Label { name, selected }),
        1 => name.prop_map(|name| Write::Delete { name }),
    ];
    proptest::collection::vec(one, 1..24)
}

fn mk_config(name: &str, fields: &BTreeMap<u8, u8>, selected: bool) -> Value {
    let data: BTreeMap<String, String> = fields
        .iter()
        .map(|(key, value)| (format!("k{key}"), value.to_string()))
        .collect();
    let labels = json!({"on": if selected { "yes" } else { "no" }});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data})
}

/// Carries a write out; what the server refuses (no such object) is as good as nothing.
async fn write(api: &Api<ConfigMap>, write: &Write) {
    let merge = PatchParams::default();
    let _ = match write {
        Write::Apply {
            name,
            manager,
            fields,
            selected,
        } => {
            let params = PatchParams::apply(&format!("m{manager}")).force();
            let name = format!("c{name}");
            let config = mk_config(&name, fields, *selected);
            api.patch(&name, &params, &Patch::Apply(config)).await.map(|_| ())
        }
        Write::Merge { name, field, value } => {
            let data = json!({"data": {format!("k{field}"): value.map(|value| value.to_string())}});
            api.patch(&format!("c{name}"), &merge, &Patch::Merge(data))
                .await
                .map(|_| ())
        }
        Write::Label { name, selected } => {
            let labels = json!({"metadata": {"labels": {"on": if *selected { "yes" } else { "no" }}}});
            api.patch(&format!("c{name}"), &merge, &Patch::Merge(labels))
                .await
                .map(|_| ())
        }
        Write::Delete { name } => api
            .delete(&format!("c{name}"), &DeleteParams::default())
            .await
            .map(|_| ()),
    };
}

fn in_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whoever replays a watch from any moment has what a list shows at the end, selected or not, and revisions only grow.
    #[test]
    fn a_replayed_watch_is_the_list(history in writes(), from in 0..24_usize, selector in prop::option::of(Just("on=yes"))) {
        in_runtime(async {
            let server = ApiServer::new(ApiServerConfig::default());
            let api: Api<ConfigMap> = Api::namespaced(server.client(), "default");
            let from = from.min(history.len());
            for one in &history[..from] {
                write(&api, one).await;
            }
            let params = selector.map_or_else(ListParams::default, |selector| ListParams::default().labels(selector));
            let start = api.list(&params).await.unwrap();
            let mut known: BTreeMap<String, ConfigMap> = start.items.iter().map(|item| (item.name_any(), item.clone())).collect();
            let revision = start.metadata.resource_version.unwrap();
            for one in &history[from..] {
                write(&api, one).await;
            }
            let watch = WatchParams { label_selector: selector.map(str::to_owned), ..WatchParams::default().timeout(1) };
            let mut events = api.watch(&watch, &revision).await.unwrap().boxed();
            let mut last = revision.parse::<u64>().unwrap();
            while let Some(event) = events.try_next().await.unwrap() {
                let (object, present) = match event {
                    WatchEvent::Added(object) => {
                        prop_assert!(!known.contains_key(&object.name_any()), "added twice");
                        (object, true)
                    }
                    WatchEvent::Modified(object) => {
                        prop_assert!(known.contains_key(&object.name_any()), "modified before it was added");
                        (object, true)
                    }
                    WatchEvent::Deleted(object) => (object, false),
                    WatchEvent::Bookmark(_) => continue,
                    WatchEvent::Error(status) => panic!("{status:?}"),
                };
                let revision = object.resource_version().unwrap().parse::<u64>().unwrap();
                prop_assert!(revision > last);
                last = revision;
                if present {
                    known.insert(object.name_any(), object);
                } else {
                    known.remove(&object.name_any());
                }
            }
            let end = api.list(&params).await.unwrap();
            let end: BTreeMap<String, ConfigMap> = end.items.into_iter().map(|item| (item.name_any(), item)).collect();
            prop_assert_eq!(known, end);
            Ok(())
        })?;
    }

    /// After a forced apply the object has what was declared; the same again changes nothing; declaring nothing takes one's own fields away
    /// and leaves everybody else's.
    #[test]
    fn applying_is_declarative(history in writes(), fields in proptest::collection::btree_map(0..4_u8, 0..3_u8, 0..4)) {
        in_runtime(async {
            let server = ApiServer::new(ApiServerConfig::default());
            let api: Api<ConfigMap> = Api::namespaced(server.client(), "default");
            for one in &history {
                write(&api, one).await;
            }
            let before = api.get_opt("c0").await.unwrap().and_then(|object| object.data).unwrap_or_default();
            let params = PatchParams::apply("me").force();
            let first = api.patch("c0", &params, &Patch::Apply(mk_config("c0", &fields, true))).await.unwrap();
            let data = first.data.clone().unwrap_or_default();
            for (key, value) in &fields {
                prop_assert_eq!(data.get(&format!("k{key}")), Some(&value.to_string()));
            }
            let again = api.patch("c0", &params, &Patch::Apply(mk_config("c0", &fields, true))).await.unwrap();
            prop_assert_eq!(&first.metadata.resource_version, &again.metadata.resource_version);
            let bare = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c0"}});
            let left = api.patch("c0", &params, &Patch::Apply(bare)).await.unwrap().data.unwrap_or_default();
            for (key, value) in &before {
                let declared = fields.get(&key[1..].parse().unwrap()).map(ToString::to_string);
                if declared.is_none() || declared.as_ref() == Some(value) {
                    prop_assert_eq!(left.get(key), Some(value), "a field of others stays");
                } else {
                    prop_assert_eq!(left.get(key), None, "a field taken by force goes with its taker");
                }
            }
            prop_assert!(left.keys().all(|key| before.contains_key(key)));
            Ok(())
        })?;
    }
}
