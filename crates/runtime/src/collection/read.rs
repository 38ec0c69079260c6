//! Get and List.

use kube::{Api, api::ListParams};
use steading_api::{error::RpcError, reflect, types::v1::ErrorReason};
use steading_model::{filter::Filter, page::PageRequest};

use super::{Collection, kube_error};
use crate::{
    CallContext,
    auth::{Action, Verb},
};

/// Objects that one request to the API server asks for.
const CHUNK: u32 = 500;

/// What a list call asks for.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// The parent; empty for shared collections.
    pub parent: String,
    /// Most entries of a page.
    pub page_size: i32,
    /// Token of the page before.
    pub page_token: String,
    /// Filter.
    pub filter: String,
    /// Order; `name` or empty.
    pub order_by: String,
}

/// Returns one resource.
///
/// # Errors
/// If it does not exist, or the name is wrong, or the caller may not.
pub async fn get<C: Collection>(collection: &C, context: &CallContext, name: &str) -> Result<C::Message, RpcError> {
    let object_name = collection.object_name(name)?;
    context.authorize(Action::new(Verb::Get, C::KIND, name)).await?;
    let object = fetch(collection, name, &object_name).await?;
    collection
        .message(&object)
        .ok_or_else(|| RpcError::not_found(C::KIND, name))
}

pub(super) async fn fetch<C: Collection>(collection: &C, name: &str, object_name: &str) -> Result<C::Object, RpcError> {
    let found = collection
        .api(name)?
        .get_opt(object_name)
        .await
        .map_err(|e| kube_error(C::KIND, name, &e))?;
    found.ok_or_else(|| RpcError::not_found(C::KIND, name))
}

/// Returns one page in order of the names, and the token of the next.
///
/// # Errors
/// If a parameter is wrong or the caller may not.
pub async fn list<C: Collection>(
    collection: &C,
    context: &CallContext,
    request: &ListRequest,
) -> Result<(Vec<C::Message>, String), RpcError> {
    let scope = collection.scope(&request.parent)?;
    if !matches!(request.order_by.as_str(), "" | "name") {
        return Err(
            RpcError::new(ErrorReason::InvalidField, "order_by: only name is possible")
                .with_field("order_by", "only name is possible"),
        );
    }
    let filter = parse_filter::<C>(&request.filter)?;
    let binding = [C::MESSAGE, &request.parent, &request.filter, &request.order_by];
    let page = PageRequest::parse(request.page_size, &request.page_token, &binding)?;
    context
        .authorize(Action::new(Verb::List, C::KIND, &request.parent))
        .await?;

    let api = collection.api(&request.parent)?;
    let (objects, _) = list_all(&api, &scope.selector)
        .await
        .map_err(|e| kube_error(C::KIND, &request.parent, &e))?;
    let mut messages = Vec::new();
    for object in &objects {
        if let Some(message) = collection.message(object)
            && passes::<C>(&filter, &message)?
        {
            messages.push(message);
        }
    }
    messages.sort_by(|a, b| collection.identity(a).0.cmp(collection.identity(b).0));
    Ok(page.cut(messages, |message| collection.identity(message).0.to_owned()))
}

pub(super) fn parse_filter<C: Collection>(text: &str) -> Result<Filter, RpcError> {
    reflect::filter(C::MESSAGE, text)
}

pub(super) fn passes<C: Collection>(filter: &Filter, message: &C::Message) -> Result<bool, RpcError> {
    if filter.is_empty() {
        return Ok(true);
    }
    Ok(filter.matches(&reflect::Filterable(reflect::dynamic(C::MESSAGE, message)?)))
}

/// All objects that the selector matches, as of one resource version.
pub(super) async fn list_all<K>(api: &Api<K>, selector: &str) -> Result<(Vec<K>, String), kube::Error>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let mut params = ListParams::default().limit(CHUNK);
    if !selector.is_empty() {
        params = params.labels(selector);
    }
    let mut all = Vec::new();
    loop {
        let chunk = api.list(&params).await?;
        let version = chunk.metadata.resource_version.clone().unwrap_or_default();
        let next = chunk.metadata.continue_.clone().unwrap_or_default();
        all.extend(chunk.items);
        if next.is_empty() {
            return Ok((all, version));
        }
        params = params.continue_token(&next);
    }
}
