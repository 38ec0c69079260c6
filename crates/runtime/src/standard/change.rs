//! Update, and custom methods that change fields.

use std::future::Future;

use kube::{Resource as _, api::PostParams};
use steading_api::{
    error::RpcError,
    reflect,
    standard::{Act, Change, Resource},
};
use steading_model::name::ResourceName;

use super::{
    Revises, Writable,
    collection::kind,
    create::missing,
    kube_error,
    mark::Mark,
    read::{api_of, check_etag, contended, fetch, is_terminating, parse_name, sealed, terminating},
};
use crate::{
    CallContext,
    auth::{Action, Verb},
};

/// Attempts of one write: status writes come several times a second while an object settles, and each lost race is
/// somebody else's progress.
pub(super) const MAX_ATTEMPTS: usize = 8;

pub(super) async fn update<C: Writable>(
    collection: &C,
    context: &CallContext,
    change: Change<C::Resource>,
    hash: String,
) -> Result<C::Resource, RpcError> {
    let (message, field) = (<C::Resource as Resource>::MESSAGE, <C::Resource as Resource>::FIELD);
    let wanted = change.resource.ok_or_else(|| missing(field))?;
    let name: C::Name = parse_name(&format!("{field}.name"), wanted.name())?;
    Mark::check_id(&change.request_id)?;
    context
        .authorize(Action::new(Verb::Update, kind::<C>(), wanted.name()))
        .await?;
    collection.available().await?;
    let write = Write {
        collection,
        name: &name,
        etag: wanted.etag(),
        mark: Mark::of_change::<C>(&change.request_id, hash),
        validate_only: change.validate_only,
    };
    let revise = |before: C::Resource| {
        let after = reflect::update(message, field, &before, &wanted, change.mask.as_ref());
        async move { after }
    };
    Box::pin(write.run(revise)).await
}

pub(super) async fn revise<C, Q>(collection: &C, context: &CallContext, request: &Q) -> Result<C::Resource, RpcError>
where
    C: Revises<Q>,
    Q: Act<Resource = C::Resource>,
{
    let name: C::Name = parse_name("name", request.name())?;
    Mark::check_id(request.request_id())?;
    context
        .authorize(Action::new(Verb::Custom(Q::VERB), kind::<C>(), request.name()))
        .await?;
    collection.available().await?;
    let hash = reflect::request_hash(Q::MESSAGE, request)?;
    let write = Write {
        collection,
        name: &name,
        etag: request.etag(),
        mark: Mark::of_change::<C>(request.request_id(), hash),
        validate_only: request.validate_only(),
    };
    let name = &name;
    let revise = |before: C::Resource| async move { collection.revise(request, name, &before).await };
    Box::pin(write.run(revise)).await
}

/// One write over what was read.
struct Write<'a, C: Writable> {
    collection: &'a C,
    name: &'a C::Name,
    etag: &'a str,
    mark: Option<Mark>,
    validate_only: bool,
}

impl<C: Writable> Write<'_, C> {
    async fn run<F, Fut>(&self, revise: F) -> Result<C::Resource, RpcError>
    where
        F: Fn(C::Resource) -> Fut,
        Fut: Future<Output = Result<C::Resource, RpcError>>,
    {
        for _ in 0..MAX_ATTEMPTS {
            let current = fetch(self.collection, self.name).await?;
            let before = sealed(self.collection, &current)?;
            let before = before.ok_or_else(|| RpcError::not_found(kind::<C>(), self.name))?;
            if let Some(mark) = &self.mark
                && mark.is_on::<C>(current.meta().annotations.as_ref(), self.name)?
            {
                // The first attempt may have ended before it was finished.
                if let Ok(after) = revise(before.clone()).await {
                    self.collection.after_write(self.name, &current, &after).await?;
                }
                return Ok(before);
            }
            let after = revise(before.clone()).await?;
            if after == before {
                return Ok(before);
            }
            check_etag::<C>(self.etag, &before)?;
            if is_terminating(&current) {
                return Err(terminating::<C>(self.name));
            }
            self.collection.guard(&current)?;
            if let Some(stored) = self.store(&current, &after).await? {
                return Ok(stored);
            }
        }
        Err(contended::<C>(self.name))
    }

    /// Replaces exactly the version that was read; `None` if it is not the current one any longer.
    async fn store(&self, current: &C::Object, after: &C::Resource) -> Result<Option<C::Resource>, RpcError> {
        let mut object = self.collection.object(self.name, after, Some(current)).await?;
        self.collection.before_write(self.name, &object, Some(current)).await?;
        let object_name = self.collection.object_name(self.name);
        let meta = object.meta_mut();
        meta.name = Some(object_name.clone());
        meta.namespace = self.name.namespace().or_else(|| meta.namespace.take());
        meta.resource_version.clone_from(&current.meta().resource_version);
        let marks = self.mark.iter().flat_map(Mark::annotations);
        meta.annotations.get_or_insert_default().extend(marks);
        if self.validate_only {
            return sealed(self.collection, &object)?
                .ok_or_else(RpcError::internal)
                .map(Some);
        }
        let api = api_of(self.collection, self.name);
        let stored = match api.replace(&object_name, &PostParams::default(), &object).await {
            Ok(stored) => stored,
            Err(kube::Error::Api(status)) if status.is_conflict() => return Ok(None),
            Err(error) => return Err(kube_error(kind::<C>(), &self.name.to_string(), &error)),
        };
        self.collection.learn(&stored);
        tracing::info!(kind = kind::<C>(), name = %self.name, "updated");
        self.collection.after_write(self.name, &stored, after).await?;
        sealed(self.collection, &stored)?
            .ok_or_else(RpcError::internal)
            .map(Some)
    }
}
