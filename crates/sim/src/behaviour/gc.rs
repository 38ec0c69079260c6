//! The garbage collector and the namespace controller: dependents go with their owners, contents with their namespaces. And the service
//! account controller: every namespace has an account named `default`.
//!
//! The first two look at every resource there is, so they read the simulated server's own log; on a real API server they are there already. What they
//! do, they do through the client like everybody else.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Context;
use steading_kubesim::{ApiServer, Change, Collection, Key, Object, ResourceDef, Scope};

/// Events taken from one collection's log at a time.
const BATCH: usize = 1_024;
/// Changes that come this close together are looked at together: a busy cluster changes hundreds of times a second.
const GATHER: Duration = Duration::from_millis(10);
/// Deletions under way at a time.
const MAX_RUNNING: usize = 32;
/// Pause before deletions that failed are tried again, and before a namespace with finalizers inside is looked at again.
const RETRY: Duration = Duration::from_millis(50);

/// One object of one collection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    group: String,
    plural: String,
    key: Key,
}

/// Who is there and who depends on whom.
#[derive(Debug, Default)]
struct Graph {
    /// uid by place, for all that live.
    uids: HashMap<Place, String>,
    living: HashSet<String>,
    /// Owners' uids by place.
    owners: HashMap<Place, Vec<String>>,
    /// Owner's uid → dependents.
    dependents: HashMap<String, BTreeSet<Place>>,
    /// Places whose owner may be gone.
    suspects: BTreeSet<Place>,
    terminating: BTreeSet<String>,
    /// Namespaces that may lack their service account.
    bare: BTreeSet<String>,
    /// Owners that wait for their dependents to go first.
    foreground: BTreeSet<Place>,
    /// Owners that wait for their dependents to be let go.
    orphaning: BTreeSet<Place>,
}

impl Graph {
    fn note(&mut self, place: Place, object: &Value, change: Change) {
        if let Some(uid) = self.uids.remove(&place) {
            self.living.remove(&uid);
        }
        for owner in self.owners.remove(&place).unwrap_or_default() {
            if let Some(all) = self.dependents.get_mut(&owner) {
                all.remove(&place);
                if all.is_empty() {
                    self.dependents.remove(&owner);
                }
            }
        }
        let uid = text(object, "/metadata/uid").to_owned();
        if change == Change::Deleted {
            self.suspects.extend(self.dependents.remove(&uid).unwrap_or_default());
            self.foreground.remove(&place);
            self.orphaning.remove(&place);
            if place.plural == "namespaces" {
                self.terminating.remove(&place.key.name);
            }
            return;
        }
        let owners: Vec<String> = owners(object).map(str::to_owned).collect();
        for owner in &owners {
            self.dependents.entry(owner.clone()).or_default().insert(place.clone());
            self.suspects.insert(place.clone());
        }
        if !owners.is_empty() {
            self.owners.insert(place.clone(), owners);
        }
        let going = !object["metadata"]["deletionTimestamp"].is_null();
        if place.plural == "namespaces" && place.group.is_empty() {
            let kind = if going { &mut self.terminating } else { &mut self.bare };
            kind.insert(place.key.name.clone());
        }
        for (finalizer, waiting) in [(FOREGROUND, &mut self.foreground), (ORPHAN, &mut self.orphaning)] {
            if going && finalizers(object).any(|one| one == finalizer) {
                waiting.insert(place.clone());
            } else {
                waiting.remove(&place);
            }
        }
        self.living.insert(uid.clone());
        self.uids.insert(place, uid);
    }

    /// Suspects of whose owners none lives, and those that have others beside the ones that are gone.
    fn take_orphans(&mut self, server: &ApiServer) -> (Vec<Place>, Vec<Place>) {
        let (mut orphans, mut others) = (Vec::new(), Vec::new());
        for place in std::mem::take(&mut self.suspects) {
            let Some(object) = read(server, &place) else { continue };
            if !object.value["metadata"]["deletionTimestamp"].is_null() {
                continue;
            }
            let living = owners(&object.value).filter(|uid| self.living.contains(*uid)).count();
            match owners(&object.value).count() {
                0 => {}
                _ if living == 0 => orphans.push(place),
                all if living < all => others.push(place),
                _ => {}
            }
        }
        (orphans, others)
    }

    fn dependents(&self, owner: &Value) -> Vec<&Place> {
        let all = self.dependents.get(text(owner, "/metadata/uid"));
        all.into_iter().flatten().collect()
    }
}

/// Finalizer of an owner that goes after its dependents.
const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an owner that lets its dependents go before it goes itself.
const ORPHAN: &str = "orphan";

fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn owners(object: &Value) -> impl Iterator<Item = &str> {
    let references = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    references
        .into_iter()
        .flatten()
        .filter_map(|reference| reference.get("uid")?.as_str())
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn read(server: &ApiServer, place: &Place) -> Option<Arc<Object>> {
    server.store().collection(&place.group, &place.plural)?.get(&place.key)
}

/// Runs until `cancel`.
pub async fn run(context: Context, server: ApiServer, cancel: CancellationToken) {
    let mut graph = Graph::default();
    let mut seen: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut retry: BTreeSet<Place> = BTreeSet::new();
    loop {
        for collection in server.store().collections() {
            catch_up(&mut graph, &mut seen, &collection);
        }
        graph.suspects.append(&mut retry);
        let (mut doomed, others) = graph.take_orphans(&server);
        for place in &others {
            disown(&context, &server, place, |uid| graph.living.contains(uid)).await;
        }
        orphan(&context, &graph, &server).await;
        let bare = std::mem::take(&mut graph.bare);
        graph.bare = give_accounts(&context, &server, bare).await;
        let (contents, empty) = namespaces(&graph, &server);
        doomed.extend(contents);
        doomed.extend(foreground(&context, &graph, &server).await);
        let results = stream::iter(doomed)
            .map(|place| delete(&context, &server, place))
            .buffer_unordered(MAX_RUNNING);
        retry = results.filter_map(std::future::ready).collect().await;
        for namespace in &empty {
            finalize(&context, namespace).await;
        }
        let waits = !retry.is_empty()
            || !graph.bare.is_empty()
            || !graph.terminating.is_empty()
            || !graph.foreground.is_empty()
            || !graph.orphaning.is_empty();
        tokio::select! {
            () = cancel.cancelled() => return,
            () = changed(&server, &seen) => {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = context.time.sleep(GATHER) => {}
                }
            }
            () = context.time.sleep(RETRY), if waits => {}
        }
    }
}

fn catch_up(graph: &mut Graph, seen: &mut BTreeMap<(String, String), u64>, collection: &Collection) {
    let def = collection.def();
    let place = |object: &Value| Place {
        group: def.group.clone(),
        plural: def.plural.clone(),
        key: Key::new(text(object, "/metadata/namespace"), text(object, "/metadata/name")),
    };
    let from = seen.entry((def.group.clone(), def.plural.clone())).or_insert_with(|| {
        let (objects, revision) = collection.list("");
        for object in objects {
            graph.note(place(&object.value), &object.value, Change::Added);
        }
        revision
    });
    loop {
        let Ok((events, upto)) = collection.events_after(*from, BATCH) else {
            // The log is too short: what is there now is what counts.
            let (objects, revision) = collection.list("");
            let mine = |place: &&Place| place.group == def.group && place.plural == def.plural;
            let stale: Vec<Place> = graph
                .uids
                .keys()
                .filter(mine)
                .filter(|place| collection.get(&place.key).is_none())
                .cloned()
                .collect();
            for gone in stale {
                let uid = graph.uids.get(&gone).cloned().unwrap_or_default();
                graph.note(gone, &json!({ "metadata": { "uid": uid } }), Change::Deleted);
            }
            for object in objects {
                graph.note(place(&object.value), &object.value, Change::Modified);
            }
            *from = revision;
            return;
        };
        for event in &events {
            graph.note(place(&event.object.value), &event.object.value, event.change);
        }
        *from = upto;
        if events.len() < BATCH {
            return;
        }
    }
}

/// Makes the service account of each of these namespaces; gives back those where that failed.
async fn give_accounts(context: &Context, server: &ApiServer, namespaces: BTreeSet<String>) -> BTreeSet<String> {
    const NAME: &str = "default";
    let Some(accounts) = server.store().collection("", "serviceaccounts") else {
        return BTreeSet::new();
    };
    let lacking = namespaces
        .into_iter()
        .filter(|namespace| accounts.get(&Key::new(namespace, NAME)).is_none());
    let results = stream::iter(lacking)
        .map(async |namespace| {
            let body = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": NAME } });
            let request = http::Request::post(format!("/api/v1/namespaces/{namespace}/serviceaccounts"))
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(body.to_string().into_bytes());
            match context.client.request_text(request.ok()?).await {
                Ok(_) => None,
                // Somebody made it, or the namespace is gone or going.
                Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 409) => None,
                Err(error) => {
                    tracing::debug!(namespace, %error, "no service account yet");
                    Some(namespace)
                }
            }
        })
        .buffer_unordered(MAX_RUNNING);
    results.filter_map(std::future::ready).collect().await
}

/// What is left in namespaces that go, and the namespaces in which nothing is left.
fn namespaces(graph: &Graph, server: &ApiServer) -> (Vec<Place>, Vec<String>) {
    let (mut contents, mut empty) = (Vec::new(), Vec::new());
    for namespace in &graph.terminating {
        let mut any = false;
        for collection in server.store().collections() {
            let def = collection.def();
            if def.scope == Scope::Cluster || def.virtual_only {
                continue;
            }
            for object in collection.list(namespace).0 {
                any = true;
                if object.value["metadata"]["deletionTimestamp"].is_null() {
                    let key = Key::new(namespace, text(&object.value, "/metadata/name"));
                    contents.push(Place {
                        group: def.group.clone(),
                        plural: def.plural.clone(),
                        key,
                    });
                }
            }
        }
        if !any {
            empty.push(namespace.clone());
        }
    }
    (contents, empty)
}

/// Dependents of owners that wait for them; an owner without any is let go.
async fn foreground(context: &Context, graph: &Graph, server: &ApiServer) -> Vec<Place> {
    let mut doomed = Vec::new();
    for place in &graph.foreground {
        let Some(owner) = read(server, place) else { continue };
        let left = graph.dependents(&owner.value);
        if left.is_empty() {
            release(context, server, place, FOREGROUND).await;
        }
        doomed.extend(
            left.into_iter()
                .filter(|place| {
                    read(server, place).is_some_and(|object| object.value["metadata"]["deletionTimestamp"].is_null())
                })
                .cloned(),
        );
    }
    doomed
}

/// Lets the dependents of owners go that are to leave them behind; an owner without any is let go itself.
async fn orphan(context: &Context, graph: &Graph, server: &ApiServer) {
    for place in &graph.orphaning {
        let Some(owner) = read(server, place) else { continue };
        let left = graph.dependents(&owner.value);
        if left.is_empty() {
            release(context, server, place, ORPHAN).await;
        }
        let own = text(&owner.value, "/metadata/uid");
        for dependent in left {
            disown(context, server, dependent, |uid| uid != own).await;
        }
    }
}

/// Takes a finalizer from what lies at a place.
async fn release(context: &Context, server: &ApiServer, place: &Place, finalizer: &str) {
    let Some(object) = read(server, place) else { return };
    let rest: Vec<&str> = finalizers(&object.value).filter(|one| *one != finalizer).collect();
    let revision = &object.value["metadata"]["resourceVersion"];
    let patch = json!({ "metadata": { "finalizers": rest, "resourceVersion": revision } });
    send(context, server, place, "PATCH", &patch).await;
}

/// Leaves what lies at a place only those owners whose uid is `kept`.
async fn disown(context: &Context, server: &ApiServer, place: &Place, kept: impl Fn(&str) -> bool) {
    let Some(object) = read(server, place) else { return };
    let references = object.value["metadata"]["ownerReferences"].as_array();
    let rest: Vec<&Value> = references
        .into_iter()
        .flatten()
        .filter(|reference| kept(text(reference, "/uid")))
        .collect();
    let revision = &object.value["metadata"]["resourceVersion"];
    let rest = if rest.is_empty() { Value::Null } else { json!(rest) };
    let patch = json!({ "metadata": { "ownerReferences": rest, "resourceVersion": revision } });
    send(context, server, place, "PATCH", &patch).await;
}

/// Deletes what lies at a place; gives the place back if that failed.
async fn delete(context: &Context, server: &ApiServer, place: Place) -> Option<Place> {
    let uid = text(&read(server, &place)?.value, "/metadata/uid").to_owned();
    let body = json!({ "propagationPolicy": "Background", "preconditions": { "uid": uid } });
    let done = send(context, server, &place, "DELETE", &body).await;
    (!done).then_some(place)
}

/// Whether the request came through, or is without object by now.
async fn send(context: &Context, server: &ApiServer, place: &Place, method: &str, body: &Value) -> bool {
    let Some(collection) = server.store().collection(&place.group, &place.plural) else {
        return true;
    };
    let media = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path(&collection.def(), &place.key))
        .header(http::header::CONTENT_TYPE, media)
        .body(body.to_string().into_bytes());
    let Ok(request) = request else { return true };
    match context.client.request_text(request).await {
        Ok(_) => true,
        // Gone, or another object by now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => true,
        Err(error) => {
            tracing::debug!(?place, %error, "not collected yet");
            false
        }
    }
}

fn path(def: &ResourceDef, key: &Key) -> String {
    let root = match def.group.as_str() {
        "" => format!("/api/{}", def.storage),
        group => format!("/apis/{group}/{}", def.storage),
    };
    match def.scope {
        Scope::Cluster => format!("{root}/{}/{}", def.plural, key.name),
        Scope::Namespaced => format!("{root}/namespaces/{}/{}/{}", key.namespace, def.plural, key.name),
    }
}

/// Takes the last hold off a namespace in which nothing is left; a failure is tried again with the next look.
async fn finalize(context: &Context, namespace: &str) {
    let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace }, "spec": { "finalizers": [] } });
    let request = http::Request::put(format!("/api/v1/namespaces/{namespace}/finalize"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into_bytes());
    let Ok(request) = request else { return };
    if let Err(error) = context.client.request_text(request).await {
        tracing::debug!(namespace, %error, "namespace not finalized yet");
    }
}

/// Returns once any collection has changed since it was seen, or a new one is there.
async fn changed(server: &ApiServer, seen: &BTreeMap<(String, String), u64>) {
    let collections = server.store().collections();
    if collections.len() != seen.len() {
        return;
    }
    let mut waits = stream::FuturesUnordered::new();
    for collection in &collections {
        let def = collection.def();
        let known = seen
            .get(&(def.group.clone(), def.plural.clone()))
            .copied()
            .unwrap_or_default();
        let mut head = collection.subscribe();
        waits.push(async move {
            // An error means that the server is gone; its owner will cancel.
            let _ = head.wait_for(|revision| *revision > known).await;
        });
    }
    waits.next().await;
}
