//! How a service says what its resources are, and what its methods do.

use std::{fmt::Debug, future::Future, sync::Arc};

use futures::{StreamExt, stream::BoxStream};
use kube::{Api, Resource as _, api::ObjectMeta};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use steading_api::{
    error::RpcError,
    standard::{Act, Meta, Resource},
};
use steading_model::name::{ResourceName, Within};

use super::{index::Index, metadata::Keys};

/// What the resources of a collection are below.
pub type ParentOf<C> = <<C as Collection>::Name as ResourceName>::Parent;

/// A kind of resource that is one Kubernetes object each.
pub trait Collection: Clone + Send + Sync + 'static {
    /// The object.
    type Object: kube::Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// The resource on the wire.
    type Resource: Resource;
    /// Its name.
    type Name: ResourceName;

    /// Annotations of requests, and what users may not write.
    const KEYS: Keys;

    /// The objects in a namespace; `None` for all of them, and for cluster-scoped kinds.
    fn api(&self, namespace: Option<&str>) -> Api<Self::Object>;

    /// The resource that an object is, without the fields of [`Meta`] and its etag; `None` if the object is no resource of
    /// this collection.
    fn resource(&self, object: &Self::Object) -> Option<Self::Resource>;

    /// The fields that come from the object's metadata.
    fn meta(&self, object: &Self::Object) -> Meta {
        Self::KEYS.meta(object.meta())
    }

    /// Name of a resource's object.
    fn object_name(&self, name: &Self::Name) -> String {
        name.object_name()
    }

    /// Label selector that all objects of a list or watch match. Only narrows what is read: a label that only the API sets
    /// must not decide what exists, as objects are also made with kubectl.
    fn selector(&self, _within: &Within<ParentOf<Self>>) -> String {
        String::new()
    }

    /// What counts for the etag beside the fields that can be written: what custom methods ask for. An [`Index`] leaves the same in
    /// the etags of its resources.
    fn intent(&self, _object: &Self::Object) -> String {
        String::new()
    }

    /// Whether the parent that a call names is there.
    fn parent(&self, _within: &Within<ParentOf<Self>>) -> impl Future<Output = Result<Presence, kube::Error>> + Send {
        async { Ok(Presence::Present) }
    }

    /// Looks whether the infra cluster can serve this collection at all.
    fn available(&self) -> impl Future<Output = Result<(), RpcError>> + Send {
        async { Ok(()) }
    }

    /// Takes note of an object that was just written, for an index that is not to wait for its watch.
    fn learn(&self, _stored: &Self::Object) {}

    /// Objects whose resource looks different although they may not have changed, because it is joined from other kinds: a
    /// watch of the API server shows them again. Ends with an error when something may have been left out.
    fn stirred(&self, _within: &Within<ParentOf<Self>>) -> BoxStream<'static, Result<Self::Object, RpcError>> {
        futures::stream::pending().boxed()
    }

    /// The index that lists and watches are served from; without one they read the API server.
    fn index(&self) -> Option<Arc<dyn Index<Self::Resource>>> {
        None
    }
}

/// Whether an object is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It does not exist.
    Missing,
    /// It is being deleted.
    Terminating,
    /// It exists.
    Present,
}

impl Presence {
    /// What an object's metadata say.
    pub fn of(found: Option<&ObjectMeta>) -> Self {
        match found {
            None => Self::Missing,
            Some(meta) if meta.deletion_timestamp.is_some() => Self::Terminating,
            Some(_) => Self::Present,
        }
    }
}

/// A collection that clients write to.
pub trait Writable: Collection {
    /// The object that a resource asks for: checked whole, references looked up. What the resource does not say is kept
    /// from `current`. Name, namespace, request id and resource version are set by the caller.
    fn object(
        &self,
        name: &Self::Name,
        resource: &Self::Resource,
        current: Option<&Self::Object>,
    ) -> impl Future<Output = Result<Self::Object, RpcError>> + Send;

    /// Whether the object may be changed or deleted at all.
    ///
    /// # Errors
    /// If not.
    fn guard(&self, _current: &Self::Object) -> Result<(), RpcError> {
        Ok(())
    }

    /// Looks whether there is capacity for what is about to be written. Not asked again when a request is only repeated.
    fn before_write(
        &self,
        _name: &Self::Name,
        _object: &Self::Object,
        _current: Option<&Self::Object>,
    ) -> impl Future<Output = Result<(), RpcError>> + Send {
        async { Ok(()) }
    }

    /// Finishes a write whose object has been stored. `resource` also has what is never shown, such as secrets. Asked again
    /// when the request is repeated, as the first attempt may have ended in between.
    fn after_write(
        &self,
        _name: &Self::Name,
        _stored: &Self::Object,
        _resource: &Self::Resource,
    ) -> impl Future<Output = Result<(), RpcError>> + Send {
        async { Ok(()) }
    }

    /// Names of what is below the object (a few are enough). A delete without `force` is refused if there is anything.
    fn children(
        &self,
        _name: &Self::Name,
        _current: &Self::Object,
    ) -> impl Future<Output = Result<Vec<String>, RpcError>> + Send {
        async { Ok(Vec::new()) }
    }

    /// Writes what the deletion needs to be carried out, once nothing speaks against it: whether it wrote, so that the object
    /// has to be read again.
    fn prepare_delete(
        &self,
        _name: &Self::Name,
        _current: &Self::Object,
        _force: bool,
    ) -> impl Future<Output = Result<bool, RpcError>> + Send {
        async { Ok(false) }
    }

    /// Looks whether others still use the object that is about to be deleted.
    fn before_delete(
        &self,
        _name: &Self::Name,
        _current: &Self::Object,
        _force: bool,
    ) -> impl Future<Output = Result<(), RpcError>> + Send {
        async { Ok(()) }
    }
}

/// A collection that serves the custom method of request `Q` by changing a part of the object.
pub trait Acts<Q: Act<Resource = Self::Resource>>: Collection {
    /// What has to change. Asked again if the object changed meanwhile.
    fn decide(
        &self,
        request: &Q,
        name: &Self::Name,
        current: &Self::Object,
    ) -> impl Future<Output = Result<Decision, RpcError>> + Send;
}

/// What a custom method does to an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Nothing: it is as asked for.
    AlreadySo,
    /// This JSON merge patch (RFC 7386) is applied to the version that was looked at.
    Merge(Value),
}

impl Decision {
    /// Sets annotations, or takes them away (`None`).
    pub fn annotate<'a>(annotations: impl IntoIterator<Item = (&'a str, Option<String>)>) -> Self {
        let annotations: serde_json::Map<String, Value> = annotations
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.map_or(Value::Null, Value::String)))
            .collect();
        Self::Merge(serde_json::json!({"metadata": {"annotations": annotations}}))
    }
}

/// A collection that serves the custom method of request `Q` as an update of fields.
pub trait Revises<Q: Act<Resource = Self::Resource>>: Writable {
    /// The resource as asked for. Asked again if the object changed meanwhile.
    fn revise(
        &self,
        request: &Q,
        name: &Self::Name,
        before: &Self::Resource,
    ) -> impl Future<Output = Result<Self::Resource, RpcError>> + Send;
}

/// The kind of a collection's resources as clients read it.
pub(super) fn kind<C: Collection>() -> &'static str {
    <C::Resource as Resource>::KIND
}
