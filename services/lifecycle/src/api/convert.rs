//! Objects ⇄ messages.

pub mod cluster;
pub mod load_balancer;
pub mod machine;
pub mod maintenance;
pub mod pool;
pub mod project;

use std::collections::HashMap;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use prost_types::Timestamp;
use steading_api::{
    convert::timestamp,
    error::RpcError,
    types::v1::{Condition as ProtoCondition, ConditionStatus},
};
use steading_infra::labels;
use steading_model::violation::Violations;
use steading_runtime::collection::{self, Event, EventStream};
use tonic::Status;

use super::KEYS;

/// A stream of responses.
pub type ResponseStream<T> = std::pin::Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

/// The fields that all resources have.
#[derive(Debug, Clone, Default)]
pub struct Common {
    /// Uid.
    pub uid: String,
    /// Etag.
    pub etag: String,
    /// Creation.
    pub create_time: Option<Timestamp>,
    /// Last change of what is wanted.
    pub update_time: Option<Timestamp>,
    /// Begin of the deletion.
    pub delete_time: Option<Timestamp>,
    /// The user's labels.
    pub labels: HashMap<String, String>,
    /// The user's annotations.
    pub annotations: HashMap<String, String>,
}

/// Reads the fields that all resources have.
pub fn common(meta: &ObjectMeta) -> Common {
    Common {
        uid: meta.uid.clone().unwrap_or_default(),
        etag: collection::etag(meta),
        create_time: collection::time(meta.creation_timestamp.as_ref()),
        update_time: collection::update_time(meta),
        delete_time: collection::time(meta.deletion_timestamp.as_ref()),
        labels: KEYS.of_user(meta.labels.as_ref()),
        annotations: KEYS.of_user(meta.annotations.as_ref()),
    }
}

/// Labels or annotations as messages carry them.
pub type TextMap = HashMap<String, String>;

/// Writes the user's labels and annotations and our own labels.
#[allow(clippy::implicit_hasher, reason = "the maps are those of generated messages")]
pub fn write_meta(meta: &mut ObjectMeta, user: (&TextMap, &TextMap), own: &[(&str, &str)]) {
    let mut all = KEYS.merge(meta.labels.as_ref(), user.0);
    all.insert(labels::MANAGED_BY.into(), labels::MANAGED_BY_STEADING.into());
    all.extend(own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    meta.labels = Some(all);
    meta.annotations = Some(KEYS.merge(meta.annotations.as_ref(), user.1));
}

/// Conditions on the wire.
pub fn conditions(conditions: &[Condition]) -> Vec<ProtoCondition> {
    let one = |c: &Condition| ProtoCondition {
        r#type: c.type_.clone(),
        status: match c.status.as_str() {
            "True" => ConditionStatus::True,
            "False" => ConditionStatus::False,
            _ => ConditionStatus::Unknown,
        }
        .into(),
        reason: c.reason.clone(),
        message: c.message.clone(),
        last_transition_time: Some(timestamp(c.last_transition_time.0)),
        observed_generation: c.observed_generation.unwrap_or_default(),
    };
    conditions.iter().map(one).collect()
}

/// Seconds of a duration on the wire; a violation if it is negative.
pub fn seconds(found: &mut Violations, path: &str, duration: Option<&prost_types::Duration>) -> Option<i64> {
    let duration = duration?;
    if let Some(length) = steading_api::convert::length(duration) {
        return i64::try_from(length.as_secs()).ok();
    }
    found.add(path, "must be a duration that is not negative");
    None
}

/// A duration on the wire.
pub fn duration(seconds: Option<i64>) -> Option<prost_types::Duration> {
    seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 })
}

/// Violations under the field of the request.
pub fn nested(field: &str, found: Violations) -> Result<(), RpcError> {
    let mut all = Violations::new();
    all.nest(field, found);
    all.finish().map_err(RpcError::from)
}

/// Events as responses.
pub fn responses<M: Send + 'static, R: Send + 'static>(
    events: EventStream<M>,
    make: impl Fn(Event<M>) -> R + Send + 'static,
) -> ResponseStream<R> {
    Box::pin(events.map(move |event| event.map(&make).map_err(Status::from)))
}
