//! What is registered from outside: admission webhooks, subresources and the groups that have only these.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use super::{request::RequestInfo, resource::ResourceDef, status::ApiError};

/// A write that a hook is asked about.
#[derive(Debug)]
pub struct Admission<'a> {
    /// The request; its `subresource` is set for `eviction`, `binding`, `status` and the like.
    pub info: &'a RequestInfo,
    /// What is written.
    pub def: &'a ResourceDef,
    /// The object before (for an eviction: the pod); none at creation.
    pub old: Option<&'a Value>,
    /// Whether nothing will be kept.
    pub dry_run: bool,
    /// What the client is told beside the answer.
    pub warnings: &'a Mutex<Vec<String>>,
}

/// Plays an admission webhook: may change the object or refuse the write.
pub trait AdmissionHook: Send + Sync {
    /// Reviews one write. `object` is the object as it would be stored; at a deletion the object that goes; at an eviction the Eviction.
    fn admit<'a>(&'a self, request: &'a Admission<'a>, object: &'a mut Value) -> BoxFuture<'a, Result<(), ApiError>>;
}

/// A request to a subresource that a [`SubresourceHandler`] answers.
#[derive(Clone, Debug)]
pub struct SubresourceRequest {
    /// The request.
    pub info: RequestInfo,
    /// Its body, null without one.
    pub body: Value,
}

/// Plays an aggregated API server's subresource, such as `start` of a virtual machine.
pub trait SubresourceHandler: Send + Sync {
    /// Answers one request with a status and a body (null for none).
    fn handle(&self, request: SubresourceRequest) -> BoxFuture<'_, Result<(u16, Value), ApiError>>;
}

/// A group that has subresources but no resources of its own, such as one that an aggregated API server brings.
#[derive(Clone, Debug)]
pub struct BareGroup {
    /// Its name.
    pub name: &'static str,
    /// Its versions, preferred first.
    pub versions: &'static [&'static str],
    /// What discovery tells of it, as `virtualmachines/start`.
    pub subresources: &'static [&'static str],
}

type HandlerKey = (String, String, String);

/// The hooks and handlers of one server.
#[derive(Default)]
pub(crate) struct Registry {
    hooks: RwLock<Vec<Arc<dyn AdmissionHook>>>,
    handlers: RwLock<BTreeMap<HandlerKey, Arc<dyn SubresourceHandler>>>,
    bare: RwLock<BTreeMap<&'static str, BareGroup>>,
}

impl Registry {
    /// All hooks, in the order in which they were added.
    pub(crate) fn hooks(&self) -> Vec<Arc<dyn AdmissionHook>> {
        self.hooks.read().clone()
    }

    pub(crate) fn add_hook(&self, hook: Arc<dyn AdmissionHook>) {
        self.hooks.write().push(hook);
    }

    pub(crate) fn add_handler(&self, group: &str, resource: &str, sub: &str, handler: Arc<dyn SubresourceHandler>) {
        self.handlers
            .write()
            .insert((group.to_owned(), resource.to_owned(), sub.to_owned()), handler);
    }

    pub(crate) fn add_bare(&self, group: BareGroup) {
        self.bare.write().insert(group.name, group);
    }

    /// The groups that have only subresources.
    pub(crate) fn bare(&self) -> Vec<BareGroup> {
        self.bare.read().values().cloned().collect()
    }

    pub(crate) fn handler(&self, group: &str, resource: &str, sub: &str) -> Option<Arc<dyn SubresourceHandler>> {
        self.handlers
            .read()
            .get(&(group.to_owned(), resource.to_owned(), sub.to_owned()))
            .cloned()
    }
}

impl Registry {
    /// The subresources of a resource that have handlers.
    pub(crate) fn subresources_of(&self, group: &str, resource: &str) -> Vec<String> {
        self.handlers
            .read()
            .keys()
            .filter(|key| key.0 == group && key.1 == resource)
            .map(|key| key.2.clone())
            .collect()
    }
}
