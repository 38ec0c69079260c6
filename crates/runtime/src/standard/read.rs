//! Get, and what all methods need to read.

use kube::{Api, api::ListParams};
use steading_api::{error::RpcError, reflect, standard::Resource, types::v1::ErrorReason};
use steading_model::{
    filter::Filter,
    name::{ParentName, ResourceName, Within},
};

use super::{Collection, ParentOf, Presence, collection::kind, kube_error};
use crate::{
    CallContext,
    auth::{Action, Verb},
};

/// Objects that one request to the API server asks for: some MiB of the largest.
const CHUNK: u32 = 500;

pub(super) async fn get<C: Collection>(
    collection: &C,
    context: &CallContext,
    name: &str,
) -> Result<C::Resource, RpcError> {
    let parsed: C::Name = parse_name("name", name)?;
    context.authorize(Action::new(Verb::Get, kind::<C>(), name)).await?;
    collection.available().await?;
    let object = fetch(collection, &parsed).await?;
    sealed(collection, &object)?.ok_or_else(|| RpcError::not_found(kind::<C>(), name))
}

pub(super) fn parse_name<N: ResourceName>(path: &str, name: &str) -> Result<N, RpcError> {
    name.parse().map_err(|e| RpcError::invalid_name(path, &e))
}

pub(super) fn api_of<C: Collection>(collection: &C, name: &C::Name) -> Api<C::Object> {
    collection.api(name.namespace().as_deref())
}

/// Reads an object from the API server.
pub(super) async fn fetch<C: Collection>(collection: &C, name: &C::Name) -> Result<C::Object, RpcError> {
    let object_name = collection.object_name(name);
    let found = api_of(collection, name).get_opt(&object_name).await;
    found
        .map_err(|e| kube_error(kind::<C>(), &name.to_string(), &e))?
        .ok_or_else(|| RpcError::not_found(kind::<C>(), name))
}

/// A resource as it is shown, but for its etag: that is only what counts for it beside the fields.
pub(super) fn unsealed<C: Collection>(collection: &C, object: &C::Object) -> Option<C::Resource> {
    let mut resource = collection.resource(object)?;
    resource.set_meta(collection.meta(object));
    resource.set_etag(collection.intent(object));
    Some(resource)
}

/// A resource as it is shown; `None` if the object is none of the collection.
pub(super) fn sealed<C: Collection>(collection: &C, object: &C::Object) -> Result<Option<C::Resource>, RpcError> {
    unsealed(collection, object).map(seal).transpose()
}

/// Puts the etag on a resource.
pub(super) fn seal<R: Resource>(mut resource: R) -> Result<R, RpcError> {
    let etag = reflect::etag(&resource, resource.etag())?;
    resource.set_etag(etag);
    Ok(resource)
}

pub(super) fn passes<R: Resource>(filter: &Filter, resource: &R) -> Result<bool, RpcError> {
    if filter.is_empty() {
        return Ok(true);
    }
    Ok(filter.matches(&reflect::Filterable(reflect::dynamic(R::MESSAGE, resource)?)))
}

/// Refuses what is below a parent that does not exist.
pub(super) async fn require_parent<C: Collection>(
    collection: &C,
    within: &Within<ParentOf<C>>,
    parent: &str,
) -> Result<(), RpcError> {
    let presence = collection.parent(within).await;
    match presence.map_err(|e| kube_error(<ParentOf<C> as ParentName>::KIND, parent, &e))? {
        Presence::Present | Presence::Terminating => Ok(()),
        Presence::Missing => Err(parent_missing::<C>(parent)),
    }
}

pub(super) fn parent_missing<C: Collection>(parent: &str) -> RpcError {
    // `projects/a/clusters/-` is missing if the project is.
    let (kind, name) = match parent.strip_suffix("/clusters/-") {
        Some(project) => ("Project", project),
        None => (<ParentOf<C> as ParentName>::KIND, parent),
    };
    RpcError::not_found(kind, name)
}

/// An error of a list or watch of a collection.
pub(super) fn listing_fault<C: Collection>(parent: &str, error: &kube::Error) -> RpcError {
    match error {
        // A list finds nothing only if its kind is not installed.
        kube::Error::Api(status) if status.is_not_found() => {
            let text = format!("the infra cluster does not have the kind behind {}", kind::<C>());
            RpcError::new(ErrorReason::CapabilityMissing, text).with_resource(kind::<C>(), parent)
        }
        _ => kube_error(kind::<C>(), parent, error),
    }
}

/// The objects of a list in chunks, all as of one version.
pub(super) struct Chunks<K> {
    api: Api<K>,
    params: ListParams,
    /// The version of the list; empty before the first chunk.
    pub(super) version: String,
    done: bool,
}

impl<K: Clone + serde::de::DeserializeOwned + std::fmt::Debug> Chunks<K> {
    pub(super) fn new(api: Api<K>, selector: &str) -> Self {
        Self {
            api,
            params: with_selector(selector),
            version: String::new(),
            done: false,
        }
    }

    /// The next chunk; `None` at the end. An error 410 means that the version is not kept any longer: begin again.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<K>>, kube::Error> {
        if self.done {
            return Ok(None);
        }
        let chunk = self.api.list(&self.params).await?;
        self.version = chunk.metadata.resource_version.unwrap_or_default();
        let next = chunk.metadata.continue_.unwrap_or_default();
        self.done = next.is_empty();
        self.params = std::mem::take(&mut self.params).continue_token(&next);
        Ok(Some(chunk.items))
    }
}

fn with_selector(selector: &str) -> ListParams {
    let params = ListParams::default().limit(CHUNK);
    if selector.is_empty() {
        params
    } else {
        params.labels(selector)
    }
}

/// Whether the version that a list or watch was to go on from is not kept any longer.
pub(super) fn is_expired(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}

/// Refuses another etag than the current one.
pub(super) fn check_etag<C: Collection>(etag: &str, current: &C::Resource) -> Result<(), RpcError> {
    if etag.is_empty() || etag == current.etag() {
        return Ok(());
    }
    Err(RpcError::etag_mismatch(kind::<C>(), current.name()))
}

/// The error of a write that lost against others again and again.
pub(super) fn contended<C: Collection>(name: &C::Name) -> RpcError {
    let text = format!("{name} keeps changing concurrently; retry");
    RpcError::new(ErrorReason::Conflict, text).with_resource(kind::<C>(), name.to_string())
}

/// The error of a write to what is being deleted.
pub(super) fn terminating<C: Collection>(name: &C::Name) -> RpcError {
    RpcError::new(ErrorReason::ResourceDeleting, format!("{name} is being deleted"))
        .with_resource(kind::<C>(), name.to_string())
}

pub(super) fn is_terminating<K: kube::Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}
