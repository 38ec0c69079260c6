//! The four watches that feed the index. Every replica runs them: calls need to know what is seen, too.

use std::{collections::BTreeSet, fmt::Debug, future::Future};

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use steading_infra::{
    cdi::DataVolume,
    kubevirt::{VirtualMachine, VirtualMachineInstance},
    labels,
};
use steading_runtime::CancellationToken;

use crate::observe::{Index, Kind, SharedIndex, parse};

/// Puts an object into the index, or takes it out.
type Put<K> = fn(&mut Index, &str, &str, Option<&K>);

/// DataVolumes with our label.
pub(crate) fn volumes(client: Client, index: SharedIndex, cancel: CancellationToken) -> impl Future<Output = ()> {
    follow::<DataVolume>(
        client,
        index,
        cancel,
        Kind::Volumes,
        labels::VOLUME,
        |index, namespace, name, object| match object.and_then(parse::volume) {
            Some(volume) => index.apply_volume(volume),
            None => index.remove_volume(namespace, name),
        },
    )
}

/// The claims of volumes.
pub(crate) fn claims(client: Client, index: SharedIndex, cancel: CancellationToken) -> impl Future<Output = ()> {
    follow::<PersistentVolumeClaim>(
        client,
        index,
        cancel,
        Kind::Claims,
        labels::VOLUME,
        |index, namespace, name, object| {
            index.set_claim(namespace, name, object.and_then(parse::claim).as_ref());
        },
    )
}

/// Machines.
pub(crate) fn machines(client: Client, index: SharedIndex, cancel: CancellationToken) -> impl Future<Output = ()> {
    follow::<VirtualMachine>(
        client,
        index,
        cancel,
        Kind::Machines,
        labels::MACHINE,
        |index, namespace, name, object| {
            index.set_machine(namespace, name, object.map(parse::machine));
        },
    )
}

/// Running instances of machines.
pub(crate) fn instances(client: Client, index: SharedIndex, cancel: CancellationToken) -> impl Future<Output = ()> {
    follow::<VirtualMachineInstance>(
        client,
        index,
        cancel,
        Kind::Instances,
        labels::MACHINE,
        |index, namespace, name, object| {
            index.set_instance(namespace, name, object.map(parse::instance));
        },
    )
}

async fn follow<K>(client: Client, index: SharedIndex, cancel: CancellationToken, kind: Kind, label: &str, put: Put<K>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let api: Api<K> = Api::all(client);
    let events = watcher(api, watcher::Config::default().labels(label))
        .default_backoff()
        .take_until(cancel.cancelled_owned());
    pin_mut!(events);
    let mut known: BTreeSet<(String, String)> = BTreeSet::new();
    let mut listed: BTreeSet<(String, String)> = BTreeSet::new();
    let mut broken = false;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(?kind, %error, "a watch broke and is begun anew");
                broken = true;
                index.update(|index| index.mark_broken(kind, true));
                continue;
            }
        };
        match event {
            watcher::Event::Init => listed.clear(),
            watcher::Event::InitApply(object) => {
                let key = key(&object);
                index.update(|index| put(index, &key.0, &key.1, Some(&object)));
                known.insert(key.clone());
                listed.insert(key);
            }
            watcher::Event::InitDone => {
                let gone: Vec<_> = known.difference(&listed).cloned().collect();
                index.update(|index| {
                    for (namespace, name) in &gone {
                        put(index, namespace, name, None);
                    }
                    index.mark_seen(kind);
                });
                known = std::mem::take(&mut listed);
                broken = false;
            }
            watcher::Event::Apply(object) => {
                let key = key(&object);
                let healed = std::mem::take(&mut broken);
                index.update(|index| {
                    put(index, &key.0, &key.1, Some(&object));
                    if healed {
                        index.mark_broken(kind, false);
                    }
                });
                known.insert(key);
            }
            watcher::Event::Delete(object) => {
                let key = key(&object);
                index.update(|index| put(index, &key.0, &key.1, None));
                known.remove(&key);
            }
        }
    }
}

fn key<K: Resource>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}
