//! What a request leaves on its object, so that the same request again is known as such.

use std::collections::BTreeMap;

use steading_api::{error::RpcError, types::v1::ErrorReason};

use super::{Collection, collection::kind};

/// The request id and the digest of what was asked for. The request itself is hashed, not what it was resolved to: that may
/// be another thing at the second attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    id_key: String,
    hash_key: String,
    id: String,
    hash: String,
}

impl Mark {
    /// The mark of a create; `None` without a request id.
    pub(super) fn of_create<C: Collection>(id: &str, hash: String) -> Option<Self> {
        Self::new(C::KEYS.request_id.to_owned(), C::KEYS.request_hash.to_owned(), id, hash)
    }

    /// The mark of the last change. It stands beside that of the create, which may still be repeated.
    pub(super) fn of_change<C: Collection>(id: &str, hash: String) -> Option<Self> {
        let key = |key: &str| format!("{key}.update");
        Self::new(key(C::KEYS.request_id), key(C::KEYS.request_hash), id, hash)
    }

    fn new(id_key: String, hash_key: String, id: &str, hash: String) -> Option<Self> {
        (!id.is_empty()).then(|| Self {
            id_key,
            hash_key,
            id: id.to_owned(),
            hash,
        })
    }

    /// Whether the object has the outcome of this request already.
    ///
    /// # Errors
    /// If it has that of a request with the same id that asked for something else.
    pub(super) fn is_on<C: Collection>(
        &self,
        annotations: Option<&BTreeMap<String, String>>,
        name: &C::Name,
    ) -> Result<bool, RpcError> {
        let value = |key: &str| annotations.and_then(|map| map.get(key));
        if value(&self.id_key) != Some(&self.id) {
            return Ok(false);
        }
        if value(&self.hash_key) == Some(&self.hash) {
            return Ok(true);
        }
        let text = format!("request id {} was used before with other content", self.id);
        Err(RpcError::new(ErrorReason::RequestIdReused, text).with_resource(kind::<C>(), name.to_string()))
    }

    /// The annotations to set.
    pub(super) fn annotations(&self) -> [(String, String); 2] {
        [
            (self.id_key.clone(), self.id.clone()),
            (self.hash_key.clone(), self.hash.clone()),
        ]
    }

    /// Refuses request ids that are no UUIDs.
    pub(super) fn check_id(id: &str) -> Result<(), RpcError> {
        if id.is_empty() || uuid::Uuid::try_parse(id).is_ok() {
            return Ok(());
        }
        Err(RpcError::new(ErrorReason::InvalidField, "request_id: must be a UUID")
            .with_field("request_id", "must be a UUID"))
    }
}
