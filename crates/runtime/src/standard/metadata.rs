//! What all objects have in common, as resources show it: labels, annotations, times and conditions.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::ObjectMeta;
use prost_types::Timestamp;
use steading_api::{
    convert::timestamp,
    standard::Meta,
    types::v1::{self as proto, ConditionStatus},
};

/// Names of the annotations under which a write notes its request, and what users may not write.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    /// Annotation with the `request_id`.
    pub request_id: &'static str,
    /// Annotation with a digest of the request's content.
    pub request_hash: &'static str,
    /// Prefixes of labels and annotations that do not belong to users.
    pub reserved: &'static [&'static str],
}

impl Keys {
    /// The user's part of labels or annotations.
    pub fn of_user(&self, map: Option<&BTreeMap<String, String>>) -> HashMap<String, String> {
        let pairs = map.into_iter().flatten();
        pairs
            .filter(|(key, _)| !self.is_reserved(key))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }

    /// `map` with the user's part replaced by `user`.
    pub fn merge(
        &self,
        map: Option<&BTreeMap<String, String>>,
        user: &HashMap<String, String>,
    ) -> BTreeMap<String, String> {
        let own = map.into_iter().flatten().filter(|(key, _)| self.is_reserved(key));
        let user = user.iter().filter(|(key, _)| !self.is_reserved(key));
        own.chain(user).map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// The fields that resources take from an object's metadata.
    pub fn meta(&self, meta: &ObjectMeta) -> Meta {
        Meta {
            uid: meta.uid.clone().unwrap_or_default(),
            create_time: time(meta.creation_timestamp.as_ref()),
            update_time: update_time(meta),
            delete_time: time(meta.deletion_timestamp.as_ref()),
            labels: self.of_user(meta.labels.as_ref()),
            annotations: self.of_user(meta.annotations.as_ref()),
        }
    }

    /// Whether a key does not belong to users.
    pub fn is_reserved(&self, key: &str) -> bool {
        self.reserved.iter().any(|prefix| key.starts_with(prefix))
    }
}

/// A time of Kubernetes on the wire.
pub fn time(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|t| timestamp(t.0))
}

/// When somebody last wrote the wanted side of an object.
pub fn update_time(meta: &ObjectMeta) -> Option<Timestamp> {
    let writes = meta
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.subresource.is_none());
    let latest = writes.filter_map(|entry| entry.time.as_ref()).max_by_key(|t| t.0);
    time(latest.or(meta.creation_timestamp.as_ref()))
}

/// A condition of an object on the wire. A status that Kubernetes does not have is unknown.
pub fn condition(condition: &Condition) -> proto::Condition {
    let status = match condition.status.as_str() {
        "True" => ConditionStatus::True,
        "False" => ConditionStatus::False,
        _ => ConditionStatus::Unknown,
    };
    proto::Condition {
        r#type: condition.type_.clone(),
        status: status.into(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        last_transition_time: Some(timestamp(condition.last_transition_time.0)),
        observed_generation: condition.observed_generation.unwrap_or_default(),
    }
}
