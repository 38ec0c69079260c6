//! What was just read from the API server.
//!
//! A plan made from an index is a proposal. What cannot be undone (deleting, detaching, taking a finalizer off) takes a [`Fresh`]
//! object, which only a read makes, and is sent with the uid and version of that read: if the object changed since, the write is
//! refused and the next pass decides again. That is what makes stale indexes harmless.

use std::fmt::Debug;

use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy},
};
use serde::de::DeserializeOwned;

/// An object as the API server had it within this pass. Cannot be made or copied otherwise.
#[derive(Debug)]
pub struct Fresh<K>(K);

impl<K> std::ops::Deref for Fresh<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.0
    }
}

/// What became of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// The API server accepted it; finalizers may hold the object still.
    Accepted,
    /// The object was gone, or another one has its name: what was read does not exist any longer.
    Gone,
    /// The object changed since it was read: read it and decide again.
    Changed,
}

impl<K> Fresh<K>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    /// Reads an object. `None` only if the API server says that *this object* does not exist.
    ///
    /// # Errors
    /// If the API server refuses, cannot be reached, or does not know the kind: then nothing is known of the object.
    pub async fn get(api: &Api<K>, name: &str) -> Result<Option<Self>, kube::Error> {
        match api.get(name).await {
            Ok(object) => Ok(Some(Self(object))),
            Err(kube::Error::Api(status)) if is_absence(&status, name) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The object, no longer known to be fresh.
    pub fn into_inner(self) -> K {
        self.0
    }

    /// Uid and version of the read, for writes that must hit just this.
    pub fn preconditions(&self) -> Preconditions {
        Preconditions {
            uid: self.0.uid(),
            resource_version: self.0.resource_version(),
        }
    }

    /// Deletes what was read, in the background, and nothing that changed since.
    ///
    /// # Errors
    /// If the API server refuses or cannot be reached: the object may be gone or not.
    pub async fn delete(self, api: &Api<K>) -> Result<Deletion, kube::Error> {
        let params = DeleteParams {
            preconditions: Some(self.preconditions()),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match api.delete(&self.0.name_any(), &params).await {
            Ok(_) => Ok(Deletion::Accepted),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Deletion::Gone),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Deletion::Changed),
            Err(error) => Err(error),
        }
    }
}

impl<K> Fresh<K>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    /// Takes a finalizer off what was read, and off nothing that changed since. One that is not on is off.
    ///
    /// # Errors
    /// If the API server refuses or cannot be reached: it may be off or not.
    pub async fn without_finalizer(
        self,
        api: &Api<K>,
        manager: &str,
        finalizer: &str,
    ) -> Result<Deletion, kube::Error> {
        let others: Vec<&String> = self.0.finalizers().iter().filter(|on| *on != finalizer).collect();
        if others.len() == self.0.finalizers().len() {
            return Ok(Deletion::Accepted);
        }
        let body = serde_json::json!({"metadata": {
            "uid": self.0.uid(), "resourceVersion": self.0.resource_version(), "finalizers": others,
        }});
        let params = PatchParams {
            field_manager: Some(manager.to_owned()),
            ..PatchParams::default()
        };
        match api.patch(&self.0.name_any(), &params, &Patch::Merge(body)).await {
            Ok(_) => Ok(Deletion::Accepted),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Deletion::Gone),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Deletion::Changed),
            Err(error) => Err(error),
        }
    }
}

/// Whether a refusal says that the named object does not exist, and not that its kind, path or namespace is unknown.
fn is_absence(status: &kube::core::Status, name: &str) -> bool {
    status.code == 404 && status.details.as_ref().is_some_and(|details| details.name == name)
}

#[cfg(test)]
mod tests {
    use kube::core::{Status, response::StatusDetails};

    use super::*;

    #[test]
    fn an_unknown_kind_is_not_an_absent_object() {
        let absent = Status::failure("no", "NotFound").with_code(404);
        assert!(
            !is_absence(&absent, "a"),
            "404 page not found: the kind is not installed"
        );
        let details = StatusDetails {
            name: "a".into(),
            group: String::new(),
            kind: "pods".into(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        };
        assert!(is_absence(&absent.clone().with_details(details), "a"));
    }
}
