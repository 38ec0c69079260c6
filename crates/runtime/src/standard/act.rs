//! Custom methods that change a part of the object: one semantics of etag, request id, retry and "already so".

use kube::{
    Resource as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use steading_api::{error::RpcError, reflect, standard::Act};

use super::{
    Acts, Decision,
    change::MAX_ATTEMPTS,
    collection::kind,
    kube_error,
    mark::Mark,
    read::{api_of, check_etag, contended, fetch, is_terminating, parse_name, sealed, terminating},
};
use crate::{
    CallContext,
    auth::{Action, Verb},
};

pub(super) async fn act<C, Q>(collection: &C, context: &CallContext, request: &Q) -> Result<C::Resource, RpcError>
where
    C: Acts<Q>,
    Q: Act<Resource = C::Resource>,
{
    let name: C::Name = parse_name("name", request.name())?;
    Mark::check_id(request.request_id())?;
    let verb = if Q::VERB == "delete" {
        Verb::Delete
    } else {
        Verb::Custom(Q::VERB)
    };
    context
        .authorize(Action::new(verb, kind::<C>(), request.name()))
        .await?;
    collection.available().await?;
    let mark = Mark::of_change::<C>(request.request_id(), reflect::request_hash(Q::MESSAGE, request)?);
    let missing = || RpcError::not_found(kind::<C>(), &name);
    for _ in 0..MAX_ATTEMPTS {
        let current = fetch(collection, &name).await?;
        let before = sealed(collection, &current)?.ok_or_else(missing)?;
        if let Some(mark) = &mark
            && mark.is_on::<C>(current.meta().annotations.as_ref(), &name)?
        {
            return Ok(before);
        }
        let decision = collection.decide(request, &name, &current).await;
        if matches!(decision, Ok(Decision::AlreadySo)) {
            return Ok(before);
        }
        // Who acts on what they have not read learns that first.
        check_etag::<C>(request.etag(), &before)?;
        let mut patch = match decision? {
            Decision::AlreadySo => return Ok(before),
            Decision::Merge(patch) => patch,
        };
        if is_terminating(&current) {
            return Err(terminating::<C>(&name));
        }
        let marks = mark.iter().flat_map(Mark::annotations);
        let annotations: serde_json::Map<String, Value> = marks.map(|(key, value)| (key, value.into())).collect();
        let version = &current.meta().resource_version;
        merge(
            &mut patch,
            json!({"metadata": {"resourceVersion": version, "annotations": annotations}}),
        );
        let params = PatchParams {
            dry_run: request.validate_only(),
            ..PatchParams::default()
        };
        let object_name = collection.object_name(&name);
        let stored = api_of(collection, &name)
            .patch(&object_name, &params, &Patch::Merge(&patch))
            .await;
        match stored {
            Ok(stored) => {
                if !request.validate_only() {
                    collection.learn(&stored);
                    tracing::info!(kind = kind::<C>(), %name, verb = Q::VERB, "custom method stored");
                }
                return sealed(collection, &stored)?.ok_or_else(missing);
            }
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(error) => return Err(kube_error(kind::<C>(), &name.to_string(), &error)),
        }
    }
    Err(contended::<C>(&name))
}

/// Adds to a merge patch.
fn merge(patch: &mut Value, more: Value) {
    match (patch, more) {
        (Value::Object(patch), Value::Object(more)) => {
            for (key, value) in more {
                merge(patch.entry(key).or_insert(Value::Object(serde_json::Map::new())), value);
            }
        }
        (patch, more) => *patch = more,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_keeps_its_own_annotations_beside_the_marks() {
        let mut patch = json!({"metadata": {"annotations": {"a": "1", "b": null}}, "spec": {"c": 2}});
        merge(
            &mut patch,
            json!({"metadata": {"resourceVersion": "7", "annotations": {"d": "3"}}}),
        );
        let merged = json!({
            "metadata": {"resourceVersion": "7", "annotations": {"a": "1", "b": null, "d": "3"}},
            "spec": {"c": 2},
        });
        assert_eq!(patch, merged);
    }
}
