//! What a request is aimed at, and what it is answered with.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures::Stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde_json::Value;

use super::{
    request::{RequestInfo, Verb},
    resource::{Origin, ResourceDef, VersionDef},
    state::ApiServer,
    status::ApiError,
    store::{Collection, Key},
};

/// A response body: whole, or a stream of watch events.
pub type Body = UnsyncBoxBody<Bytes, Disconnected>;

/// The connection broke, by a fault on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulated API server broke the connection")]
pub struct Disconnected;

/// What a request is answered with.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Body,
    pub(crate) content_type: &'static str,
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    pub(crate) fn bytes(status: u16, body: Bytes) -> Self {
        let body = Full::new(body)
            .map_err(|never: Infallible| match never {})
            .boxed_unsync();
        Self {
            status,
            body,
            content_type: "application/json",
            warnings: Vec::new(),
        }
    }

    pub(crate) fn json(status: u16, value: &Value) -> Self {
        Self::bytes(status, Bytes::from(value.to_string()))
    }

    pub(crate) fn text(text: &str) -> Self {
        Self {
            content_type: "text/plain; charset=utf-8",
            ..Self::bytes(200, Bytes::from(text.to_owned()))
        }
    }

    pub(crate) fn stream(stream: impl Stream<Item = Result<Bytes, Disconnected>> + Send + 'static) -> Self {
        let frames = futures::StreamExt::map(stream, |chunk| chunk.map(Frame::data));
        Self {
            status: 200,
            body: StreamBody::new(frames).boxed_unsync(),
            content_type: "application/json",
            warnings: Vec::new(),
        }
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert("audit-id", HeaderValue::from_static("simulated"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        for warning in self.warnings {
            if let Ok(value) = HeaderValue::from_str(&format!("299 - {}", serde_json::json!(warning))) {
                headers.append(header::WARNING, value);
            }
        }
        response
    }
}

/// What a request is aimed at.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) server: &'a ApiServer,
    pub(crate) info: &'a RequestInfo,
    pub(crate) collection: &'a Arc<Collection>,
    pub(crate) def: &'a Arc<ResourceDef>,
    pub(crate) version: &'a VersionDef,
}

impl Target<'_> {
    pub(crate) fn check_scope(&self) -> Result<(), ApiError> {
        let namespaced = self.def.namespaced();
        let has_namespace = self.info.namespace.is_some();
        let across = matches!(self.info.verb, Verb::List | Verb::Watch);
        if namespaced == has_namespace || (namespaced && across && self.info.name.is_none()) {
            return Ok(());
        }
        Err(match self.def.origin {
            Origin::BuiltIn if namespaced && self.info.name.is_none() => ApiError::method_not_allowed(),
            Origin::BuiltIn => ApiError::no_such_path(),
            _ => ApiError::no_such_page(),
        })
    }

    /// A status cannot be deleted.
    pub(crate) fn no_deletion(&self) -> ApiError {
        let mut error = ApiError::method_not_allowed();
        if self.def.origin != Origin::BuiltIn {
            let kind = self.def.qualified();
            error.message = format!("delete is not supported on resources of kind \"{kind}\"");
            error.details.group.clone_from(&self.def.group);
            error.details.kind.clone_from(&self.def.plural);
        }
        error
    }

    /// The key of the object that the path names.
    pub(crate) fn key(&self) -> Result<Key, ApiError> {
        let name = self.info.name.as_deref().ok_or_else(ApiError::method_not_allowed)?;
        Ok(Key::new(self.info.ns(), name))
    }
}
