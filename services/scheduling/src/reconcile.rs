//! The reconciler of placement policies: keeps the policy `default` in place and says of each whether it can be used,
//! also of those that were applied with `kubectl`.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{
    Api, Client, ResourceExt,
    api::PostParams,
    runtime::{WatchStreamExt, watcher},
};
use steading_infra::{
    apply::{FieldManager, apply_status},
    crd::placement_policy::{PlacementPolicy, PlacementPolicyStatus},
    labels,
};
use steading_model::name::PlacementPolicyName;
use steading_runtime::{CancellationToken, clock::Clock};

use crate::domain::{
    policy::{Reach, validate},
    resolve::{DEFAULT_POLICY, default_policy},
};

/// Pause before the default policy is installed after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until cancelled.
///
/// # Errors
/// Never: what fails is tried again.
pub async fn run(kube: Client, clock: Clock, cancel: CancellationToken) -> Result<(), std::convert::Infallible> {
    let api: Api<PlacementPolicy> = Api::all(kube);
    tokio::select! {
        () = cancel.cancelled() => {}
        () = follow(api, clock) => {}
    }
    Ok(())
}

async fn follow(api: Api<PlacementPolicy>, clock: Clock) {
    ensure_default(&api).await;
    let mut events = Box::pin(watcher(api.clone(), watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(policy) | watcher::Event::InitApply(policy)) => {
                judge(&api, &policy, &clock).await;
            }
            Ok(watcher::Event::Delete(policy)) if policy.name_any() == DEFAULT_POLICY => ensure_default(&api).await,
            Ok(watcher::Event::Delete(_) | watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(error) => tracing::warn!(%error, "watch of placement policies broke"),
        }
    }
}

async fn ensure_default(api: &Api<PlacementPolicy>) {
    let mut policy = PlacementPolicy::new(DEFAULT_POLICY, default_policy());
    policy.metadata.labels = Some([(labels::MANAGED_BY.to_owned(), labels::MANAGED_BY_STEADING.to_owned())].into());
    let params = PostParams {
        field_manager: Some(FieldManager::Scheduling.as_str().into()),
        ..PostParams::default()
    };
    loop {
        match api.create(&params, &policy).await {
            Ok(_) => {
                tracing::info!(policy = DEFAULT_POLICY, "installed");
                return;
            }
            // An operator may have changed it; that is what it is there for.
            Err(kube::Error::Api(status)) if status.is_already_exists() => return,
            Err(error) => {
                tracing::warn!(%error, "cannot install the default placement policy yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn judge(api: &Api<PlacementPolicy>, policy: &PlacementPolicy, clock: &Clock) {
    let Some(status) = plan_status(policy, clock.now()) else {
        return;
    };
    if let Err(error) = apply_status(api, FieldManager::Scheduling, &policy.name_any(), &status).await {
        tracing::warn!(%error, policy = policy.name_any(), "cannot write the status");
    }
}

/// The status that a policy should have; `None` if it has it.
fn plan_status(policy: &PlacementPolicy, now: jiff::Timestamp) -> Option<PlacementPolicyStatus> {
    let generation = policy.metadata.generation.unwrap_or_default();
    // What is named like nobody's policy is nobody's: it must not reach anywhere.
    let name = PlacementPolicyName::from_object_name(&policy.name_any());
    let reach = name.map_or(Reach::OwnNamespace, |name| Reach::of(&name.scope));
    let (status, reason, message) = match validate(&policy.spec, reach) {
        Ok(()) => ("True", "Valid", "the policy can be used".to_owned()),
        Err(violations) => ("False", "Invalid", violations.to_string()),
    };
    let old = policy.status.clone().unwrap_or_default();
    let before = old.conditions.iter().find(|c| c.type_ == "Accepted");
    let same = |c: &&Condition| c.status == status && c.message == message && c.observed_generation == Some(generation);
    if before.as_ref().is_some_and(same) {
        return None;
    }
    let since = before
        .filter(|c| c.status == status)
        .map_or(Time(now), |c| c.last_transition_time.clone());
    Some(PlacementPolicyStatus {
        observed_generation: generation,
        conditions: vec![Condition {
            type_: "Accepted".into(),
            status: status.into(),
            reason: reason.into(),
            message,
            last_transition_time: since,
            observed_generation: Some(generation),
        }],
    })
}

#[cfg(test)]
mod tests {
    use steading_infra::crd::placement_policy::PlacementPolicySpec;

    use super::*;

    #[test]
    fn a_status_is_written_once_and_names_the_faults() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let mut policy = PlacementPolicy::new(
            "x",
            PlacementPolicySpec {
                node_selector: [("bad key".to_owned(), String::new())].into(),
                ..PlacementPolicySpec::default()
            },
        );
        let status = plan_status(&policy, now).expect("a status");
        assert_eq!(status.conditions[0].status, "False");
        assert!(status.conditions[0].message.contains("bad key"));
        policy.status = Some(status);
        assert_eq!(plan_status(&policy, now), None);
        policy.spec = default_policy();
        assert_eq!(
            plan_status(&policy, now).expect("a status").conditions[0].status,
            "True"
        );
    }
}
