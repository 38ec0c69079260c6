//! Conditions as KubeVirt writes them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use steading_infra::kubevirt::Condition;

use crate::behaviour::Context;

/// Sets a condition; its transition time moves only when its status does.
pub(super) fn set(
    context: &Context,
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
) {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let fresh = Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: text(reason),
        message: text(message),
        last_probe_time: None,
        last_transition_time: Some(now(context)),
    };
    match conditions.iter_mut().find(|found| found.type_ == type_) {
        Some(found) if found.status == status => {
            found.reason = fresh.reason;
            found.message = fresh.message;
        }
        Some(found) => *found = fresh,
        None => conditions.push(fresh),
    }
}

/// Says that the VMI has to leave its node.
pub(super) fn mark(context: &Context, conditions: &mut Vec<Condition>) {
    let reason = "EvictionRequested";
    set(
        context,
        conditions,
        reason,
        "True",
        reason,
        "VMI is marked for eviction",
    );
}

/// Takes a condition away.
pub(super) fn clear(conditions: &mut Vec<Condition>, type_: &str) {
    conditions.retain(|found| found.type_ != type_);
}

/// The simulated time in whole seconds.
pub(super) fn now(context: &Context) -> Time {
    let now = context.time.now();
    Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
}
