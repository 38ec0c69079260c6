//! Conditions and status writes that happen only when something differs.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Sets a condition; its transition time moves only when the status does.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    generation: Option<i64>,
    now: Timestamp,
    new: (&str, &str, &str, &str),
) {
    let (kind, status, reason, message) = new;
    let before = conditions.iter().find(|c| c.type_ == kind);
    let since = before
        .filter(|c| c.status == status)
        .map_or(Time(now), |c| c.last_transition_time.clone());
    let condition = Condition {
        type_: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time: since,
    };
    match conditions.iter_mut().find(|c| c.type_ == kind) {
        Some(found) => *found = condition,
        None => conditions.push(condition),
    }
}

/// A truth value as conditions spell it.
pub fn truth(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}
