//! What is known about a call that is being served: who makes it, under which id, until when.
//!
//! The server puts a [`CallContext`] into the request's extensions and into a task-local, so that handlers can take
//! it and outgoing calls made on the same task carry it on without being told. Work that a handler hands to
//! another task takes the context along by hand.

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderValue;
use steading_api::error::RpcError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Action, Auth, Authorizer, Principal},
    trace::TraceHeaders,
};

tokio::task_local! {
    static CURRENT: CallContext;
}

/// The context of one call. Cheap to clone.
#[derive(Clone)]
pub struct CallContext(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    principal: Principal,
    request_id: String,
    deadline: Option<Instant>,
    drain: CancellationToken,
    authorizer: Arc<dyn Authorizer>,
    credential: Option<HeaderValue>,
    trace: TraceHeaders,
}

impl CallContext {
    /// A context for a call of `principal` that `auth` decides about; for servers and tests.
    pub fn new(principal: Principal, request_id: impl Into<String>, auth: &Auth) -> Self {
        Self(Arc::new(Inner {
            principal,
            request_id: request_id.into(),
            deadline: None,
            drain: CancellationToken::new(),
            authorizer: Arc::clone(&auth.authorizer),
            credential: None,
            trace: TraceHeaders::default(),
        }))
    }

    /// The context of a call that no server of ours has seen: it may do nothing.
    pub fn anonymous() -> Self {
        Self::new(Principal::anonymous(), "", &Auth::deny_all())
    }

    /// The context of dev mode, for tests that call a handler directly.
    pub fn dev() -> Self {
        Self::new(Principal::new("dev"), new_request_id(), &Auth::dev_mode())
    }

    /// The context that the server gave a request; [`Self::anonymous`] if there is none.
    pub fn from_request<T>(request: &tonic::Request<T>) -> Self {
        request
            .extensions()
            .get::<Self>()
            .cloned()
            .unwrap_or_else(Self::anonymous)
    }

    /// The context of the call that the present task serves.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Runs `work` as part of this call, so that its outgoing calls carry the context on.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// Who makes the call.
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// The id under which logs of all services tell of the call.
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// When the caller stops waiting; `None` if it never does.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// The time that is left; `None` if there is no deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.0.deadline.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Cancelled when the server begins to drain: streams should come to their end.
    pub fn drain(&self) -> CancellationToken {
        self.0.drain.clone()
    }

    /// Asks whether the caller may do this; handlers ask after decoding and before anything else.
    ///
    /// # Errors
    /// The refusal, ready to be sent.
    pub async fn authorize(&self, action: Action) -> Result<(), RpcError> {
        let decision = self.0.authorizer.authorize(&self.0.principal, &action).await;
        if let Err(error) = &decision {
            let (verb, kind) = (action.verb.as_str(), action.kind);
            tracing::debug!(principal = %self.principal().name, verb, kind, name = %action.name, reason = ?error.reason(), "denied");
        }
        decision
    }

    /// The same context with another deadline; `None` for work that outlives the call's answer, such as a stream.
    #[must_use]
    pub fn with_deadline(&self, deadline: Option<Instant>) -> Self {
        Self(Arc::new(Inner {
            deadline,
            ..(*self.0).clone()
        }))
    }

    pub(crate) fn with_drain(&self, drain: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            drain,
            ..(*self.0).clone()
        }))
    }

    pub(crate) fn with_incoming(&self, credential: Option<HeaderValue>, trace: TraceHeaders) -> Self {
        Self(Arc::new(Inner {
            credential,
            trace,
            ..(*self.0).clone()
        }))
    }

    pub(crate) fn credential(&self) -> Option<&HeaderValue> {
        self.0.credential.as_ref()
    }

    pub(crate) fn trace(&self) -> &TraceHeaders {
        &self.0.trace
    }
}

impl fmt::Debug for CallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallContext")
            .field("principal", &self.0.principal.name)
            .field("request_id", &self.0.request_id)
            .field("deadline", &self.0.deadline)
            .finish_non_exhaustive()
    }
}

/// A new random request id.
pub fn new_request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
