//! Delete.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Resource as _,
    api::{DeleteParams, Preconditions},
};
use steading_api::{error::RpcError, standard::Deletion, types::v1::ErrorReason};

use super::{
    Writable,
    change::MAX_ATTEMPTS,
    collection::kind,
    kube_error,
    read::{api_of, check_etag, contended, fetch, is_terminating, parse_name, sealed},
};
use crate::{
    CallContext,
    auth::{Action, Verb},
    clock::Clock,
};

pub(super) async fn delete<C: Writable>(
    collection: &C,
    context: &CallContext,
    clock: &Clock,
    deletion: &Deletion,
) -> Result<C::Resource, RpcError> {
    let name: C::Name = parse_name("name", &deletion.name)?;
    context
        .authorize(Action::new(Verb::Delete, kind::<C>(), &deletion.name))
        .await?;
    collection.available().await?;
    for _ in 0..MAX_ATTEMPTS {
        let current = match fetch(collection, &name).await {
            Err(error) if deletion.allow_missing && error.reason() == ErrorReason::ResourceNotFound => {
                return Ok(C::Resource::default());
            }
            found => found?,
        };
        let before = sealed(collection, &current)?.ok_or_else(|| RpcError::not_found(kind::<C>(), &name))?;
        if is_terminating(&current) {
            return Ok(before);
        }
        check_etag::<C>(&deletion.etag, &before)?;
        collection.guard(&current)?;
        if !deletion.force {
            let children = collection.children(&name, &current).await?;
            refuse_with_children::<C>(&name, children)?;
        }
        collection.before_delete(&name, &current, deletion.force).await?;
        let mut terminating = current.clone();
        terminating.meta_mut().deletion_timestamp = Some(Time(clock.now()));
        let last = sealed(collection, &terminating)?.unwrap_or(before);
        if deletion.validate_only {
            return Ok(last);
        }
        if collection.prepare_delete(&name, &current, deletion.force).await? {
            continue;
        }
        if let Some(outcome) = begin(collection, &name, &current).await? {
            tracing::info!(kind = kind::<C>(), %name, "deletion begun");
            return Ok(outcome.unwrap_or(last));
        }
    }
    Err(contended::<C>(&name))
}

/// Begins the deletion of exactly what was looked at: not of a namesake that was made since, nor of a version that others
/// now use. `None` if it is not the current version any longer; the resource if it is not gone at once.
async fn begin<C: Writable>(
    collection: &C,
    name: &C::Name,
    current: &C::Object,
) -> Result<Option<Option<C::Resource>>, RpcError> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: current.meta().uid.clone(),
            resource_version: current.meta().resource_version.clone(),
        }),
        ..DeleteParams::default()
    };
    let object_name = collection.object_name(name);
    match api_of(collection, name).delete(&object_name, &params).await {
        Ok(outcome) => {
            let left = outcome.left().filter(is_terminating);
            Ok(Some(
                left.map(|object| sealed(collection, &object)).transpose()?.flatten(),
            ))
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Some(None)),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
        Err(error) => Err(kube_error(kind::<C>(), &name.to_string(), &error)),
    }
}

fn refuse_with_children<C: Writable>(name: &C::Name, children: Vec<String>) -> Result<(), RpcError> {
    if children.is_empty() {
        return Ok(());
    }
    let text = format!("{name} is not empty; set force to delete what is in it");
    let error = RpcError::new(ErrorReason::HasChildren, text).with_resource(kind::<C>(), name.to_string());
    Err(children
        .into_iter()
        .fold(error, |error, child| error.with_precondition("CHILD", child, "exists")))
}
