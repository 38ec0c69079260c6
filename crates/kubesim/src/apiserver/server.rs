//! The request's way through the server: count, faults, route, answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Limited};

use super::{
    discovery,
    exchange::{Answer, Body, Disconnected, Target},
    patch, read,
    request::{RequestInfo, Verb},
    resource::Origin,
    state::ApiServer,
    status::ApiError,
    subresource, watch, write,
};
use crate::faults::Effect;

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
            Verb::Patch => patch::answer(&target, body).await,
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
