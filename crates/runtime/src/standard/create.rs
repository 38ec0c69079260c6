//! Create.

use kube::{Resource as _, api::PostParams};
use steading_api::{
    error::RpcError,
    standard::{Creation, Resource},
    types::v1::ErrorReason,
};
use steading_model::{
    name::{ParentName, ResourceName, Within},
    violation::Violations,
};

use super::{
    ParentOf, Presence, Writable,
    collection::kind,
    kube_error,
    mark::Mark,
    read::{api_of, parent_missing, sealed},
};
use crate::{
    CallContext,
    auth::{Action, Verb},
};

pub(super) async fn create<C: Writable>(
    collection: &C,
    context: &CallContext,
    creation: Creation<C::Resource>,
    id_field: &str,
    hash: String,
) -> Result<C::Resource, RpcError> {
    let parent: ParentOf<C> = creation
        .parent
        .parse()
        .map_err(|e| RpcError::invalid_name("parent", &e))?;
    let name = C::Name::in_parent(&parent, &creation.id)
        .map_err(|e| RpcError::from(Violations::one(id_field, e.to_string())))?;
    Mark::check_id(&creation.request_id)?;
    let field = <C::Resource as Resource>::FIELD;
    let resource = creation.resource.ok_or_else(|| missing(field))?;
    context
        .authorize(Action::new(Verb::Create, kind::<C>(), &creation.parent))
        .await?;
    collection.available().await?;
    let new = New {
        collection,
        mark: Mark::of_create::<C>(&creation.request_id, hash),
        parent,
        name,
        resource,
    };
    // On the heap: what looks up references is large.
    let object = match Box::pin(new.object()).await {
        Ok(object) if !creation.validate_only => object,
        // Report ALREADY_EXISTS before other violations. If there are none, the write itself reports it.
        outcome => {
            if let Some(existing) = new.existing().await? {
                return Box::pin(new.replay(&existing)).await;
            }
            let object = outcome?;
            return sealed(collection, &object)?.ok_or_else(RpcError::internal);
        }
    };
    Box::pin(new.store(object)).await
}

/// What is to be created.
struct New<'a, C: Writable> {
    collection: &'a C,
    parent: ParentOf<C>,
    name: C::Name,
    resource: C::Resource,
    mark: Option<Mark>,
}

impl<C: Writable> New<'_, C> {
    /// The object to store, checked whole.
    async fn object(&self) -> Result<C::Object, RpcError> {
        self.check_parent().await?;
        let mut object = self.collection.object(&self.name, &self.resource, None).await?;
        self.collection.before_write(&self.name, &object, None).await?;
        let meta = object.meta_mut();
        meta.name = Some(self.collection.object_name(&self.name));
        meta.namespace = self.name.namespace().or_else(|| meta.namespace.take());
        meta.resource_version = None;
        meta.uid = None;
        let marks = self.mark.iter().flat_map(Mark::annotations);
        meta.annotations.get_or_insert_default().extend(marks);
        Ok(object)
    }

    async fn check_parent(&self) -> Result<(), RpcError> {
        let (kind, parent) = (<ParentOf<C> as ParentName>::KIND, self.parent.to_string());
        let presence = self.collection.parent(&Within::One(self.parent.clone())).await;
        match presence.map_err(|e| kube_error(kind, &parent, &e))? {
            Presence::Present => Ok(()),
            Presence::Missing => Err(parent_missing::<C>(&parent)),
            Presence::Terminating => Err(self.parent_terminating()),
        }
    }

    fn parent_terminating(&self) -> RpcError {
        let (kind, parent) = (<ParentOf<C> as ParentName>::KIND, self.parent.to_string());
        RpcError::new(ErrorReason::ResourceDeleting, format!("{parent} is being deleted")).with_resource(kind, parent)
    }

    async fn existing(&self) -> Result<Option<C::Object>, RpcError> {
        let object_name = self.collection.object_name(&self.name);
        let found = api_of(self.collection, &self.name).get_opt(&object_name).await;
        found.map_err(|e| kube_error(kind::<C>(), &self.name.to_string(), &e))
    }

    async fn store(&self, object: C::Object) -> Result<C::Resource, RpcError> {
        let api = api_of(self.collection, &self.name);
        let stored = match api.create(&PostParams::default(), &object).await {
            Ok(stored) => stored,
            // Somebody was faster, possibly this very request on another replica.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let existing = self.existing().await?.ok_or_else(|| self.already_exists())?;
                return self.replay(&existing).await;
            }
            Err(error) => return Err(self.refusal(&error)),
        };
        self.collection.learn(&stored);
        tracing::info!(kind = kind::<C>(), name = %self.name, "created");
        self.collection.after_write(&self.name, &stored, &self.resource).await?;
        sealed(self.collection, &stored)?.ok_or_else(RpcError::internal)
    }

    /// What the same request made before; any other one finds that the name is taken.
    async fn replay(&self, existing: &C::Object) -> Result<C::Resource, RpcError> {
        let annotations = existing.meta().annotations.as_ref();
        let is_ours = match &self.mark {
            Some(mark) => mark.is_on::<C>(annotations, &self.name)?,
            None => false,
        };
        if !is_ours {
            return Err(self.already_exists());
        }
        self.collection
            .after_write(&self.name, existing, &self.resource)
            .await?;
        sealed(self.collection, existing)?.ok_or_else(|| self.already_exists())
    }

    fn already_exists(&self) -> RpcError {
        RpcError::already_exists(kind::<C>(), &self.name)
    }

    /// What is to be created cannot be missing; its namespace or its kind is.
    fn refusal(&self, error: &kube::Error) -> RpcError {
        let name = self.name.to_string();
        let kube::Error::Api(status) = error else {
            return kube_error(kind::<C>(), &name, error);
        };
        if status.is_not_found() && status.message.contains("namespaces ") {
            return parent_missing::<C>(&self.parent.to_string());
        }
        if status.is_not_found() {
            let text = format!("the infra cluster does not have the kind behind {}", kind::<C>());
            return RpcError::new(ErrorReason::CapabilityMissing, text).with_resource(kind::<C>(), name);
        }
        if status.code == 403 && status.message.contains("is being terminated") {
            return self.parent_terminating();
        }
        kube_error(kind::<C>(), &name, error)
    }
}

pub(super) fn missing(field: &str) -> RpcError {
    RpcError::new(ErrorReason::InvalidField, format!("{field}: must be set")).with_field(field, "must be set")
}
