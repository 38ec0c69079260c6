//! The request's way through the server: count, faults, route, answer.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures::Stream;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde_json::Value;

use super::{
    ApiServer, discovery, read,
    request::{RequestInfo, Verb},
    resource::Origin,
    status::ApiError,
    subresource, watch, write,
};
use crate::faults::Effect;

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

    fn into_response(self) -> Response<Body> {
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

fn refusal(error: &ApiError) -> Response<Body> {
    if error.code == 404 && error.reason.is_empty() {
        let mut answer = Answer::text(&error.message);
        answer.status = error.code;
        return answer.into_response();
    }
    let mut response = Answer::json(error.code, &error.body()).into_response();
    if let Some(seconds) = error.details.retry_after_seconds {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

impl ApiServer {
    /// Answers one request.
    ///
    /// # Errors
    ///
    /// [`Disconnected`] when a fault says that the connection breaks; every other outcome is a response.
    pub async fn handle<B>(&self, request: Request<B>) -> Result<Response<Body>, Disconnected>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let info = RequestInfo::parse(&parts);
        self.counters().record(&info);
        let verdict = self.faults().judge(&info);
        if verdict.delay > Duration::ZERO {
            self.time().sleep(verdict.delay).await;
        }
        let silent = matches!(verdict.effect, Some(Effect::SilentWatch)) && info.verb == Verb::Watch;
        match &verdict.effect {
            Some(Effect::DropConnection) => return Err(Disconnected),
            Some(Effect::Hang | Effect::SilentWatch) if !silent => {
                self.faults().hang(&verdict).await;
                return Err(Disconnected);
            }
            Some(Effect::DropAnswer | Effect::SilentWatch) | None => {}
            Some(effect) => return Ok(refusal(&self.refused_by(effect, &info))),
        }
        let limit = self.config().max_body;
        let body = match Limited::new(body, limit).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return Ok(refusal(&ApiError::too_large(limit))),
        };
        let answer = self.route(&info, &body, silent).await;
        if matches!(verdict.effect, Some(Effect::DropAnswer)) {
            return Err(Disconnected);
        }
        Ok(match answer {
            Ok(answer) => answer.into_response(),
            Err(error) => {
                tracing::debug!(
                    verb = info.verb.as_str(),
                    path = info.path,
                    code = error.code,
                    error = error.message,
                    "refused"
                );
                refusal(&error)
            }
        })
    }

    fn refused_by(&self, effect: &Effect, info: &RequestInfo) -> ApiError {
        let name = info.name.as_deref().unwrap_or_default();
        match effect {
            Effect::Refuse(error) => error.clone(),
            Effect::Forbid => ApiError::not_authorized(&self.user(info), info),
            Effect::Conflict => match self.store().collection(&info.group, &info.resource) {
                Some(collection) => ApiError::modified(&collection.def(), name),
                None => ApiError::new(409, "Conflict", "the object has been modified"),
            },
            Effect::TooManyRequests { retry_after } => {
                ApiError::too_many_requests("too many requests, please try again later", *retry_after)
            }
            Effect::InternalError => ApiError::internal("simulated fault"),
            Effect::Unavailable
            | Effect::Delay(_)
            | Effect::DropConnection
            | Effect::DropAnswer
            | Effect::Hang
            | Effect::SilentWatch => ApiError::unavailable("the server is currently unable to handle the request"),
        }
    }

    /// Who asks, as far as the token says.
    pub(crate) fn user(&self, info: &RequestInfo) -> String {
        let caller = info.bearer.as_deref().and_then(|token| self.access().identify(token));
        caller.map_or_else(|| "system:admin".to_owned(), |identity| identity.username)
    }

    async fn route(&self, info: &RequestInfo, body: &Bytes, silent: bool) -> Result<Answer, ApiError> {
        if info.resource.is_empty() {
            return discovery::answer(self, info);
        }
        if info.subresource.as_deref().is_some_and(|sub| sub != "status") || self.has_handler(info) {
            return subresource::answer(self, info, body).await;
        }
        let (collection, def) = self
            .store()
            .lookup(&info.group, &info.resource)
            .ok_or_else(|| self.nowhere(info))?;
        let version = def.version(&info.version).ok_or_else(|| self.nowhere(info))?;
        if info.subresource.is_some() && !version.status {
            let name = info.name.as_deref().unwrap_or_default();
            return Err(match def.origin {
                Origin::BuiltIn => ApiError::no_such_path(),
                _ => ApiError::not_found(&def, name),
            });
        }
        let target = Target {
            server: self,
            info,
            collection: &collection,
            def: &def,
            version,
        };
        if def.virtual_only {
            return subresource::review(&target, body);
        }
        target.check_scope()?;
        super::options::check(&target)?;
        match info.verb {
            Verb::Delete if info.subresource.is_some() => Err(target.no_deletion()),
            Verb::DeleteCollection if info.group.is_empty() && info.resource == "namespaces" => {
                Err(ApiError::method_not_allowed())
            }
            Verb::Get => read::get(&target),
            Verb::List => read::list(&target),
            Verb::Watch => watch::answer(&target, silent),
            Verb::Create => write::create(&target, body).await,
            Verb::Update => write::update(&target, body).await,
            Verb::Patch => write::patch(&target, body).await,
            Verb::Delete => super::delete::one(&target, body).await,
            Verb::DeleteCollection => super::delete::collection(&target, body).await,
            Verb::Other => Err(ApiError::method_not_allowed()),
        }
    }

    /// Groups that are compiled in know what they do not have; what is asked of other groups reaches nobody.
    fn nowhere(&self, info: &RequestInfo) -> ApiError {
        let definitions = self.store().definitions();
        let mut of_group = definitions.iter().filter(|def| def.group == info.group);
        if of_group.any(|def| def.origin == Origin::BuiltIn) {
            ApiError::no_such_path()
        } else {
            ApiError::no_such_page()
        }
    }
}

/// What a request is aimed at.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) server: &'a ApiServer,
    pub(crate) info: &'a RequestInfo,
    pub(crate) collection: &'a std::sync::Arc<super::store::Collection>,
    pub(crate) def: &'a std::sync::Arc<super::resource::ResourceDef>,
    pub(crate) version: &'a super::resource::VersionDef,
}

impl Target<'_> {
    fn check_scope(&self) -> Result<(), ApiError> {
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
    fn no_deletion(&self) -> ApiError {
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
    pub(crate) fn key(&self) -> Result<super::store::Key, ApiError> {
        let name = self.info.name.as_deref().ok_or_else(ApiError::method_not_allowed)?;
        Ok(super::store::Key::new(self.info.ns(), name))
    }
}
