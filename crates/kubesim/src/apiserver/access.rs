//! Who is who and may do what: what TokenReview and the access reviews answer. Everything is allowed unless said otherwise.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::RwLock;
use serde_json::{Value, json};

/// A user as reviews tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// As `system:serviceaccount:ns:name`.
    pub username: String,
    /// As `system:authenticated`.
    pub groups: Vec<String>,
    /// Audiences that the token is good for; empty for any.
    pub audiences: Vec<String>,
}

/// What an access review asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessReview {
    /// Whose access.
    pub user: String,
    /// `spec.resourceAttributes` or `spec.nonResourceAttributes`.
    pub attributes: Value,
}

type Decide = dyn Fn(&AccessReview) -> bool + Send + Sync;

/// Tokens and decisions of one server; clones share them.
#[derive(Clone, Default)]
pub struct Access {
    tokens: Arc<RwLock<BTreeMap<String, Identity>>>,
    decide: Arc<RwLock<Option<Arc<Decide>>>>,
}

impl Access {
    /// Makes a token good.
    pub fn add_token(&self, token: &str, identity: Identity) {
        self.tokens.write().insert(token.to_owned(), identity);
    }

    /// Makes a token good no longer.
    pub fn remove_token(&self, token: &str) {
        self.tokens.write().remove(token);
    }

    /// Who a token is.
    pub fn identify(&self, token: &str) -> Option<Identity> {
        self.tokens.read().get(token).cloned()
    }

    /// Answers access reviews by `decide` instead of yes.
    pub fn decide_by(&self, decide: impl Fn(&AccessReview) -> bool + Send + Sync + 'static) {
        *self.decide.write() = Some(Arc::new(decide));
    }

    /// Whether the access is allowed.
    pub fn allows(&self, review: &AccessReview) -> bool {
        let decide = self.decide.read().clone();
        decide.is_none_or(|decide| decide(review))
    }

    pub(crate) fn token_review(&self, spec: &Value) -> Value {
        let token = spec.get("token").and_then(Value::as_str).unwrap_or_default();
        let wanted: Vec<&str> = super::dig::items(spec, &["audiences"])
            .iter()
            .filter_map(Value::as_str)
            .collect();
        match self.identify(token) {
            Some(identity)
                if wanted.is_empty()
                    || identity.audiences.is_empty()
                    || wanted
                        .iter()
                        .any(|audience| identity.audiences.iter().any(|own| own == audience)) =>
            {
                json!({
                    "authenticated": true,
                    "user": {"username": identity.username, "groups": identity.groups},
                    "audiences": if identity.audiences.is_empty() { json!(wanted) } else { json!(identity.audiences) },
                })
            }
            _ => json!({"user": {}, "error": "invalid bearer token"}),
        }
    }

    pub(crate) fn access_review(&self, user: &str, spec: &Value) -> Value {
        let attributes = spec
            .get("resourceAttributes")
            .or_else(|| spec.get("nonResourceAttributes"))
            .cloned()
            .unwrap_or_default();
        let user = spec.get("user").and_then(Value::as_str).unwrap_or(user).to_owned();
        if self.allows(&AccessReview { user, attributes }) {
            json!({"allowed": true})
        } else {
            json!({"allowed": false, "reason": "denied by the simulation's table"})
        }
    }
}
