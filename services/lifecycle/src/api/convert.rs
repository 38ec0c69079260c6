//! Objects ⇄ messages.

pub mod cluster;
pub mod load_balancer;
pub mod machine;
pub mod maintenance;
pub mod pool;
pub mod project;

use steading_model::violation::Violations;

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
