//! An in-memory Kubernetes API server.
//!
//! ```text
//! request ─► server (count, faults, route) ─► read │ watch │ write, patch, apply │ delete │ subresource ─► store
//!                                                          └► admission hooks, schema, managed fields
//! ```
//!
//! It has no controllers: owner references, namespaces that go, workloads and hardware are played by ordinary controllers over the client.
//! Built-in types are known by a table; CustomResourceDefinitions are served the moment they are written.

mod access;
mod admission;
mod apply;
mod body;
mod builtin_schema;
mod builtins;
mod cause;
mod continuations;
mod convert;
mod crd;
mod delete;
mod dig;
mod discovery;
mod duplicates;
mod eviction;
mod exchange;
mod fieldset;
mod groups;
mod kinds;
mod lists;
mod managed;
mod names;
mod openapi;
mod options;
mod output;
mod patch;
mod pods;
mod prepare;
mod protobuf;
mod read;
mod registry;
mod request;
mod resource;
mod rules;
mod scheduling;
mod schema;
mod selector;
mod server;
mod state;
mod status;
mod store;
mod strategic;
mod subresource;
mod table;
mod terminating;
mod types;
mod validate;
mod watch;
mod write;

use kube::client::Body as KubeBody;
use serde_json::{Value, json};
use tower::service_fn;

pub use self::{
    access::{Access, AccessReview, Identity},
    exchange::{Body, Disconnected},
    registry::{Admission, AdmissionHook, BareGroup, SubresourceHandler, SubresourceRequest},
    request::{Query, RequestInfo, Verb},
    resource::{Column, Origin, ResourceDef, ScalePaths, Scope, VersionDef},
    rules::Rules,
    selector::Selection,
    state::{ApiServer, ApiServerConfig, PodDeletion},
    status::{ApiError, Cause, ErrorDetails},
    store::{Change, Collection, Event, Key, Object, Store},
};

impl ApiServer {
    /// A server with its built-in types and the four namespaces that every cluster has.
    pub fn new(config: ApiServerConfig) -> Self {
        let store = Store::new(config.history);
        for def in builtins::resources() {
            store.register(def);
        }
        for (alias, of) in builtins::aliases() {
            store.alias(alias, of);
        }
        let server = Self::around(config, store);
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            server.seed_object(
                "",
                "namespaces",
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
            );
        }
        server
    }

    /// A client in this process, without a socket. Must be called inside a tokio runtime.
    pub fn client(&self) -> kube::Client {
        self.client_named("in-process")
    }

    /// As [`ApiServer::client`], counted under this user agent where the requests do not carry one.
    pub fn client_named(&self, user_agent: &str) -> kube::Client {
        let server = self.clone();
        let agent =
            http::HeaderValue::from_str(user_agent).unwrap_or_else(|_| http::HeaderValue::from_static("in-process"));
        let service = service_fn(move |mut request: http::Request<KubeBody>| {
            let server = server.clone();
            request
                .headers_mut()
                .entry(http::header::USER_AGENT)
                .or_insert_with(|| agent.clone());
            async move { server.handle(request).await }
        });
        kube::Client::new(service, "default")
    }

    /// Puts an object into the store past all checks; one that is there stays.
    pub(crate) fn seed_object(&self, group: &str, plural: &str, mut object: Value) {
        let Some(collection) = self.store().collection(group, plural) else {
            return;
        };
        let def = collection.def();
        prepare::stamp_new(self, &def, &mut object);
        prepare::defaults(&def, &mut object);
        prepare::allocate(self, &def, None, &mut object);
        let key = Key::new(dig::meta(&object, "namespace"), dig::meta(&object, "name"));
        let _ = collection.commit(&key, None, object);
    }
}
