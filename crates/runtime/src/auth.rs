//! Who calls, and what they may do.
//!
//! [`Auth`] is a pair of hooks: an [`Authenticator`] that turns a call's credentials into a [`Principal`] before
//! anything is decoded, and an [`Authorizer`] that API handlers ask about the *decoded* request, through
//! [`CallContext::authorize`]. There are two ready-made pairs: [`Auth::deny_all`], the default, and
//! [`Auth::dev_mode`], which lets everybody do everything and therefore serves on loopback addresses only.

use std::{fmt, net::SocketAddr, sync::Arc};

use futures::future::BoxFuture;
use http::HeaderMap;
use steading_api::{error::RpcError, types::v1::ErrorReason};

/// Who makes a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    /// Unique name, such as `dev` or an identity provider's subject.
    pub name: String,
    /// Groups that it belongs to.
    pub groups: Vec<String>,
}

impl Principal {
    /// A principal without groups.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            groups: Vec::new(),
        }
    }

    /// Nobody in particular: calls that need no identity, such as health checks.
    pub fn anonymous() -> Self {
        Self::new("anonymous")
    }
}

/// What a caller wants to do, in the words that roles are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Read one.
    Get,
    /// Read many.
    List,
    /// Follow changes.
    Watch,
    /// Make one.
    Create,
    /// Change one.
    Update,
    /// Delete one.
    Delete,
    /// A custom method, by its name as in the URL, such as `scale`.
    Custom(&'static str),
}

impl Verb {
    /// The verb as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Custom(name) => name,
        }
    }
}

/// One thing that a caller wants to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Action {
    /// What to do.
    pub verb: Verb,
    /// Kind of the resource, such as `MachinePool`.
    pub kind: &'static str,
    /// Full name of the resource; for list, watch and create the parent's, empty for shared collections.
    pub name: String,
}

impl Action {
    /// Doing `verb` to the resource `name` of `kind`.
    pub fn new(verb: Verb, kind: &'static str, name: impl fmt::Display) -> Self {
        Self {
            verb,
            kind,
            name: name.to_string(),
        }
    }
}

/// What a call brought along to prove who makes it.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    /// The call's metadata.
    pub headers: &'a HeaderMap,
    /// Where the connection comes from.
    pub peer: Option<SocketAddr>,
}

impl<'a> Credentials<'a> {
    /// The bearer token, if there is one.
    pub fn bearer(&self) -> Option<&'a str> {
        let text = self.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }
}

/// Turns credentials into a principal.
pub trait Authenticator: Send + Sync {
    /// Who calls; an `Unauthenticated` error if the credentials do not say.
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> BoxFuture<'a, Result<Principal, RpcError>>;
}

/// Decides what a principal may do.
pub trait Authorizer: Send + Sync {
    /// Nothing if the caller may do it, else `PermissionDenied`.
    fn authorize<'a>(&'a self, caller: &'a Principal, action: &'a Action) -> BoxFuture<'a, Result<(), RpcError>>;
}

/// Where a server with this [`Auth`] may listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// On loopback addresses only.
    Loopback,
    /// Anywhere.
    Anywhere,
}

/// The authentication and authorisation of a process. Cheap to clone.
#[derive(Clone)]
pub struct Auth {
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    reach: Reach,
}

impl Auth {
    /// Hooks of one's own.
    pub fn new(authenticator: Arc<dyn Authenticator>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self {
            authenticator,
            authorizer,
            reach: Reach::Anywhere,
        }
    }

    /// Nobody may do anything. What a server has unless it is told otherwise.
    pub fn deny_all() -> Self {
        Self::new(Arc::new(DenyAll), Arc::new(DenyAll))
    }

    /// Everybody is `dev` and may do everything, on loopback addresses only.
    pub fn dev_mode() -> Self {
        Self {
            reach: Reach::Loopback,
            ..Self::new(Arc::new(DevMode), Arc::new(DevMode))
        }
    }

    /// Where a server may listen.
    pub fn reach(&self) -> Reach {
        self.reach
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self::deny_all()
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("reach", &self.reach)
            .finish_non_exhaustive()
    }
}

struct DenyAll;

impl Authenticator for DenyAll {
    fn authenticate<'a>(&'a self, _: Credentials<'a>) -> BoxFuture<'a, Result<Principal, RpcError>> {
        let error = RpcError::new(ErrorReason::Unauthenticated, "no way to authenticate is configured");
        Box::pin(async { Err(error) })
    }
}

impl Authorizer for DenyAll {
    fn authorize<'a>(&'a self, caller: &'a Principal, action: &'a Action) -> BoxFuture<'a, Result<(), RpcError>> {
        Box::pin(async { Err(permission_denied(caller, action)) })
    }
}

struct DevMode;

impl Authenticator for DevMode {
    fn authenticate<'a>(&'a self, _: Credentials<'a>) -> BoxFuture<'a, Result<Principal, RpcError>> {
        Box::pin(async { Ok(Principal::new("dev")) })
    }
}

impl Authorizer for DevMode {
    fn authorize<'a>(&'a self, _: &'a Principal, _: &'a Action) -> BoxFuture<'a, Result<(), RpcError>> {
        Box::pin(async { Ok(()) })
    }
}

/// The refusal of an action, for authorizers.
pub fn permission_denied(principal: &Principal, action: &Action) -> RpcError {
    let (verb, kind) = (action.verb.as_str(), action.kind);
    let message = format!("{} may not {verb} {kind} {}", principal.name, action.name);
    RpcError::new(ErrorReason::PermissionDenied, message)
        .with_metadata("verb", verb)
        .with_resource(kind, action.name.clone())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::CallContext;

    #[test]
    fn bearer_tokens_are_found_whatever_the_case_of_the_scheme() {
        for (text, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Basic abc", None),
            ("abc", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::AUTHORIZATION, HeaderValue::from_static(text));
            assert_eq!(
                Credentials {
                    headers: &headers,
                    peer: None
                }
                .bearer(),
                token,
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn the_default_denies_and_says_what() {
        let call = CallContext::anonymous();
        let error = call
            .authorize(Action::new(Verb::Get, "Machine", "m"))
            .await
            .expect_err("denied");
        assert_eq!(error.reason(), ErrorReason::PermissionDenied);
        let headers = HeaderMap::new();
        let auth = Auth::default();
        let who = auth.authenticator.authenticate(Credentials {
            headers: &headers,
            peer: None,
        });
        assert_eq!(who.await.map_err(|e| e.reason()), Err(ErrorReason::Unauthenticated));
    }

    #[tokio::test]
    async fn dev_mode_allows_on_loopback() {
        assert_eq!(Auth::dev_mode().reach(), Reach::Loopback);
        let call = CallContext::dev();
        assert!(
            call.authorize(Action::new(Verb::Custom("scale"), "MachinePool", "p"))
                .await
                .is_ok()
        );
        assert_eq!(call.principal().name, "dev");
    }
}
