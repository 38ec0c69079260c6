//! The standard methods (AIP-131 to 135, and Watch) for resources that are one Kubernetes object each.
//!
//! A service says how its resource and the object relate ([`Collection`]); the functions of [`read`], [`write`] and
//! [`watch`] do the rest in the same way everywhere: authorise, parse names, page, filter, masks, etags, request ids,
//! `validate_only`, and errors with reasons.
//!
//! Promises: a list is one consistent read cut into pages; an update never overwrites a change that it has not
//! seen; a repeated create with the same request id returns what the first one made.

use std::{fmt::Debug, future::Future};

use kube::{Api, Resource, api::ObjectMeta};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use steading_api::error::RpcError;

mod read;
mod watch;
mod write;

pub use crate::standard::{Keys, kube_error, time, update_time};
pub use read::{ListRequest, get, list};
pub use watch::{Event, EventStream, WatchRequest, watch};
pub use write::{CreateRequest, DeleteRequest, UpdateRequest, create, delete, update};

/// Which objects a `parent` has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Label selector that narrows the list; empty for all objects.
    pub selector: String,
}

/// A kind of resource that is one Kubernetes object each.
pub trait Collection: Clone + Send + Sync + 'static {
    /// The object.
    type Object: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// The resource on the wire.
    type Message: Message + Default + Clone + PartialEq + Send + Sync + 'static;

    /// The kind as clients read it, such as `MachinePool`.
    const KIND: &'static str;
    /// Full name of the message, such as `steading.lifecycle.v1.MachinePool`.
    const MESSAGE: &'static str;
    /// Name of the resource's field in requests, such as `machine_pool`.
    const FIELD: &'static str;
    /// Annotations and reserved prefixes.
    const KEYS: Keys;

    /// The objects below a name or parent that [`Self::scope`] or [`Self::object_name`] has accepted.
    ///
    /// # Errors
    /// If the name does not say where.
    fn api(&self, name_or_parent: &str) -> Result<Api<Self::Object>, RpcError>;

    /// Which objects belong to `parent`.
    ///
    /// # Errors
    /// If it is not a parent of this collection.
    fn scope(&self, parent: &str) -> Result<Scope, RpcError>;

    /// Name of the object of a resource.
    ///
    /// # Errors
    /// If it is not a name of this collection.
    fn object_name(&self, name: &str) -> Result<String, RpcError>;

    /// Name of the resource `id` below `parent`.
    ///
    /// # Errors
    /// If either is not valid.
    fn name_in(&self, parent: &str, id: &str) -> Result<String, RpcError>;

    /// Name and etag of a message.
    fn identity<'a>(&self, message: &'a Self::Message) -> (&'a str, &'a str);

    /// The resource that an object is; `None` if it is none of ours.
    fn message(&self, object: &Self::Object) -> Option<Self::Message>;

    /// The object that a resource wants to be: checked whole, references looked up. What the resource does not say is kept
    /// from `current`. Name, request id and resource version are set by the caller.
    fn object(
        &self,
        name: &str,
        message: &Self::Message,
        current: Option<&Self::Object>,
    ) -> impl Future<Output = Result<Self::Object, RpcError>> + Send;

    /// Whether the present object may be changed or deleted at all.
    ///
    /// # Errors
    /// If not.
    fn guard(&self, _current: &Self::Object) -> Result<(), RpcError> {
        Ok(())
    }

    /// Looks whether there is room for what is about to be written. Not asked again when an earlier request is only repeated.
    fn before_write(
        &self,
        _name: &str,
        _object: &Self::Object,
        _current: Option<&Self::Object>,
    ) -> impl Future<Output = Result<(), RpcError>> + Send {
        async { Ok(()) }
    }

    /// Looks whether others still use the object that is about to be deleted.
    fn before_delete(&self, _current: &Self::Object) -> impl Future<Output = Result<(), RpcError>> + Send {
        async { Ok(()) }
    }

    /// Finishes a write whose object has been stored.
    fn after_write(&self, _stored: &Self::Object) -> impl Future<Output = Result<(), RpcError>> + Send {
        async { Ok(()) }
    }
}

/// The etag of an object.
pub fn etag(meta: &ObjectMeta) -> String {
    meta.resource_version.clone().unwrap_or_default()
}
