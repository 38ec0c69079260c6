//! The eviction subresource of pods: disruption budgets, then deletion.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    admission,
    body::decode,
    delete, dig,
    exchange::{Answer, Target},
    selector::label_selector_matches,
    status::{ApiError, Cause},
    store::Object,
};

/// POST of an Eviction.
pub(crate) async fn answer(target: &Target<'_>, body: &Bytes) -> Result<Answer, ApiError> {
    if target.info.verb != super::Verb::Create {
        return Err(ApiError::method_not_allowed());
    }
    let mut eviction = decode(body, &target.info.content_type)?;
    let key = target.key()?;
    if !matches!(dig::meta(&eviction, "name"), name if name.is_empty() || name == key.name) {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let pod = target
        .collection
        .get(&key)
        .ok_or_else(|| ApiError::not_found(target.def, &key.name))?;
    let asked = dig::items(&eviction, &["deleteOptions", "dryRun"])
        .iter()
        .any(|value| value == "All");
    let mut info = target.info.clone();
    if asked {
        info = info.with_dry_run();
    }
    let target = &Target { info: &info, ..*target };
    admission::admit(target, Some(&pod.value), &mut eviction).await?;
    let terminal = matches!(
        dig::text(&pod.value, &["status", "phase"]),
        "Succeeded" | "Failed" | "Pending"
    ) || dig::is_terminating(&pod.value);
    if !terminal {
        spend_budget(target, &pod)?;
    }
    let options = eviction.get("deleteOptions").cloned().unwrap_or_else(|| json!({}));
    delete::one(target, &Bytes::from(options.to_string())).await?;
    Ok(Answer::json(
        201,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

fn refusal(message: &str, cause: String) -> ApiError {
    ApiError::too_many_requests(message, 10).with_cause(Cause::new("DisruptionBudget", "", cause))
}

/// Takes one disruption from the budget that covers the pod, or refuses.
///
/// A budget that no disruption controller has looked at since it changed refuses, as in Kubernetes.
fn spend_budget(target: &Target<'_>, pod: &Object) -> Result<(), ApiError> {
    let Some(budgets) = target.server.store().collection("policy", "poddisruptionbudgets") else {
        return Ok(());
    };
    let labels = dig::at(&pod.value, &["metadata", "labels"]);
    let covering: Vec<_> = budgets
        .list(target.info.ns())
        .0
        .into_iter()
        .filter(|budget| {
            dig::at(&budget.value, &["spec", "selector"])
                .is_some_and(|selector| label_selector_matches(selector, labels))
        })
        .collect();
    let budget = match covering.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(ApiError::new(
                500,
                "",
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let name = dig::meta(&budget.value, "name");
    let number = |path: &[&str]| dig::at(&budget.value, path).and_then(Value::as_i64).unwrap_or(0);
    let refuse = "Cannot evict pod as it would violate the pod's disruption budget.";
    if number(&["status", "observedGeneration"]) < number(&["metadata", "generation"]) {
        return Err(refusal(
            refuse,
            format!("The disruption budget {name} is still being processed by the server."),
        ));
    }
    let allowed = number(&["status", "disruptionsAllowed"]);
    let healthy_budget = number(&["status", "currentHealthy"]) >= number(&["status", "desiredHealthy"])
        && number(&["status", "desiredHealthy"]) > 0;
    let always = dig::text(&budget.value, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
    if !is_ready(&pod.value) && (always || healthy_budget) {
        return Ok(());
    }
    if allowed <= 0 {
        let (need, have) = (
            number(&["status", "desiredHealthy"]),
            number(&["status", "currentHealthy"]),
        );
        return Err(refusal(
            refuse,
            format!("The disruption budget {name} needs {need} healthy pods and has {have} currently"),
        ));
    }
    if target.info.dry_run() {
        return Ok(());
    }
    let mut next = budget.value.clone();
    let now = target.server.timestamp();
    let status = dig::object_at(&mut next, &["status"]);
    status.insert("disruptionsAllowed".to_owned(), json!(allowed - 1));
    let disrupted = status.entry("disruptedPods").or_insert_with(|| json!({}));
    dig::object(disrupted).insert(dig::meta(&pod.value, "name").to_owned(), json!(now));
    let key = super::Key::new(target.info.ns(), name);
    budgets
        .commit(&key, Some(budget.revision), next)
        .map(|_| ())
        .map_err(|_| {
            refusal(
                refuse,
                format!("The disruption budget {name} has just changed, try again"),
            )
        })
}

/// A running pod that is not ready disrupts nothing when it goes.
fn is_ready(pod: &Value) -> bool {
    let conditions = dig::items(pod, &["status", "conditions"]);
    conditions
        .iter()
        .any(|condition| dig::text(condition, &["type"]) == "Ready" && dig::text(condition, &["status"]) == "True")
}
