//! Both ends of a live migration.
//!
//! ```text
//! (virt-controller) target pod handed over ─► target listens ─► source sends ─► guest runs at the target, VMI belongs to its node
//!                                                                   └─► failed, aborted or target lost: the guest stays
//! ```
//! virt-controller reads the steps from `status.migrationState`: `targetNodeAddress` (TargetReady), `startTimestamp` (Running), `completed`
//! (Succeeded) or `failed` (Failed). Whose pod is not needed any more ends by itself.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    draft::{Draft, Instance, text},
    guest::report_interfaces,
    steps::{FAIL_MIGRATION, Steps, is_ending},
};

/// How long a target pod that should be there may stay unseen: its watch may be a little behind.
const UNSEEN: Duration = Duration::from_secs(1);
/// Label of a VMI: the node at which virt-controller has made a target pod.
const TARGET_NODE: &str = "kubevirt.io/migrationTargetNodeName";
/// Label of a VMI: the node that it belongs to.
const NODE: &str = steading_infra::labels::KUBEVIRT_NODE_NAME;
/// Conditions that ask for a migration, and so are over with it.
const ASKING: &[&str] = &["MigrationRequired", "HotVCPUChange", "HotMemoryChange", "VolumesChange"];

/// The name of the target pod of a migration that is under way.
pub(super) fn target_of(instance: &Instance) -> Option<&str> {
    let state = instance.status.as_ref()?.get("migrationState")?;
    is_under_way(state).then(|| text(state, "/targetPod"))
}

/// Where a migration that is under way goes.
pub(super) fn target_node_of(instance: &Instance) -> Option<&str> {
    let state = instance.status.as_ref()?.get("migrationState")?;
    is_under_way(state).then(|| text(state, "/targetNode"))
}

/// Pods of a migration that is over and that have nothing to do any more.
pub(super) fn leftovers<'a>(instance: &'a Instance, launchers: &'a [Pod]) -> impl Iterator<Item = &'a Pod> {
    let state = instance.status.as_ref().and_then(|status| status.get("migrationState"));
    let name = state.filter(|state| !is_under_way(state)).map(|state| {
        let end = if is_true(state, "failed") {
            "/targetPod"
        } else {
            "/sourcePod"
        };
        text(state, end)
    });
    launchers
        .iter()
        .filter(move |pod| name == Some(pod.name_any().as_str()) && !is_ending(pod))
}

fn is_true(state: &Value, field: &str) -> bool {
    state[field] == true
}

fn is_under_way(state: &Value) -> bool {
    let over = is_true(state, "completed") || is_true(state, "failed") || state["endTimestamp"].is_string();
    !over && !text(state, "/migrationUid").is_empty() && !text(state, "/targetPod").is_empty()
}

/// Brings a migration one step on. Its parts take a quarter, a quarter and a half of its time.
pub(super) fn migrate(draft: &mut Draft<'_>, target: Option<&Pod>, takes: Duration, steps: Steps<'_>) {
    let Some(state) = draft.status.get("migrationState").filter(|state| is_under_way(state)) else {
        return;
    };
    let uid = text(state, "/migrationUid").to_owned();
    let listens = !text(state, "/targetNodeAddress").is_empty();
    let started = state["startTimestamp"].is_string();
    let aborted = is_true(state, "abortRequested");
    let lost =
        target.is_some_and(is_ending) || (target.is_none() && listens && steps(&format!("migrate {uid} lost"), UNSEEN));
    let Some(target) = target.filter(|_| !lost) else {
        // Before the target listens, it is virt-controller that notices.
        if lost && listens {
            fail(draft, "Live migration failed: the target pod is gone");
        }
        return;
    };
    if !listens {
        let handed_over = draft
            .meta
            .labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key(TARGET_NODE));
        if handed_over && steps(&format!("migrate {uid} prepare"), takes / 4) {
            listen(draft, target);
        }
    } else if !started {
        if steps(&format!("migrate {uid} start"), takes / 4) {
            let now = json!(draft.now);
            draft.status["migrationState"]["startTimestamp"] = now;
            draft.status["migrationState"]["mode"] = json!("PreCopy");
        }
    } else if aborted {
        draft.status["migrationState"]["abortStatus"] = json!("Succeeded");
        fail(draft, "Live migration aborted");
    } else if steps(&format!("migrate {uid} copy"), takes / 2) {
        if draft
            .meta
            .annotations
            .as_ref()
            .is_some_and(|all| all.contains_key(FAIL_MIGRATION))
        {
            fail(draft, "Live migration failed: connection to the target was lost");
        } else {
            complete(draft, target);
        }
    }
}

fn listen(draft: &mut Draft<'_>, target: &Pod) {
    let status = target.status.as_ref();
    let host = status.and_then(|status| status.host_ip.clone());
    let pod = status.and_then(|status| status.pod_ip.clone());
    let address = host.or(pod).unwrap_or_else(|| "127.0.0.1".to_owned());
    let state = &mut draft.status["migrationState"];
    state["targetNodeAddress"] = json!(address);
    // One for the guest's memory, one for the control connection; which numbers they have does not matter.
    state["targetDirectMigrationNodePorts"] = json!({ "33333": 49152, "33334": 49153 });
}

fn fail(draft: &mut Draft<'_>, reason: &str) {
    let now = json!(draft.now);
    let state = &mut draft.status["migrationState"];
    if !state["startTimestamp"].is_string() {
        state["startTimestamp"] = now.clone();
    }
    state["failed"] = json!(true);
    state["failureReason"] = json!(reason);
    state["endTimestamp"] = now;
    draft.remove_label(TARGET_NODE);
}

/// The guest runs at the target, and the VMI belongs to the target's node from now on.
fn complete(draft: &mut Draft<'_>, target: &Pod) {
    let now = json!(draft.now);
    let state = &mut draft.status["migrationState"];
    state["targetNodeDomainDetected"] = json!(true);
    state["targetNodeDomainReadyTimestamp"] = now.clone();
    state["endTimestamp"] = now;
    state["completed"] = json!(true);
    let node = text(state, "/targetNode").to_owned();
    draft.status["nodeName"] = json!(node);
    draft.status["migrationTransport"] = json!("Unix");
    // virt-controller tells the launcher's version of the new pod.
    draft.remove(&["evacuationNodeName", "launcherContainerImageVersion", "migratedVolumes"]);
    draft.remove_conditions(ASKING);
    take_over_resources(draft);
    draft.meta.labels.get_or_insert_default().insert(NODE.to_owned(), node);
    draft.remove_label(TARGET_NODE);
    draft.remove_label("kubevirt.io/outdatedLauncherImage");
    draft.remove_annotation("kubevirt.io/eviction-source");
    draft.remove_annotation("kubevirt.io/create-migration-target");
    report_interfaces(draft, target);
}

/// CPUs and memory that were changed on the way are there now.
fn take_over_resources(draft: &mut Draft<'_>) {
    let domain = &draft.seen.spec["domain"];
    if let Some(topology) = draft
        .status
        .get_mut("currentCPUTopology")
        .and_then(Value::as_object_mut)
    {
        for part in ["sockets", "cores", "threads"] {
            if let Some(count) = domain["cpu"].get(part) {
                topology.insert(part.to_owned(), count.clone());
            }
        }
    }
    if let (Some(memory), Some(guest)) = (
        draft.status.get_mut("memory").and_then(Value::as_object_mut),
        domain.pointer("/memory/guest"),
    ) {
        for field in ["guestRequested", "guestCurrent"] {
            memory.insert(field.to_owned(), guest.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn mk_instance(state: &Value) -> Instance {
        let mut all = json!({
            "migrationUid": "u", "sourceNode": "a", "targetNode": "b", "sourcePod": "source", "targetPod": "target",
            "migrationConfiguration": { "allowPostCopy": false },
        });
        all.as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
        let object = json!({
            "metadata": { "name": "m", "uid": "vmi", "labels": { TARGET_NODE: "b", NODE: "a" } }, "spec": { "domain": { "devices": {} } },
            "status": { "phase": "Running", "nodeName": "a", "evacuationNodeName": "a", "migrationState": all },
        });
        serde_json::from_value(object).unwrap()
    }

    fn mk_pod(name: &str) -> Pod {
        let object = json!({ "metadata": { "name": name }, "status": { "phase": "Running", "podIP": "10.0.0.2", "hostIP": "172.18.0.2" } });
        serde_json::from_value(object).unwrap()
    }

    fn step(seen: &Instance) -> Instance {
        let mut draft = Draft::new(seen, NOW);
        migrate(&mut draft, Some(&mk_pod("target")), Duration::ZERO, &mut |_, _| true);
        draft.changed().unwrap()
    }

    fn state(instance: &Instance) -> &Value {
        &instance.status.as_ref().unwrap()["migrationState"]
    }

    #[test]
    fn a_migration_goes_from_handed_over_to_completed() {
        let listens = step(&mk_instance(&json!({})));
        assert_eq!(state(&listens)["targetNodeAddress"], "172.18.0.2");
        let sends = step(&listens);
        assert_eq!(state(&sends)["startTimestamp"], NOW);
        let there = step(&sends);
        assert_eq!(
            (&state(&there)["completed"], &state(&there)["endTimestamp"]),
            (&json!(true), &json!(NOW))
        );
        let status = there.status.as_ref().unwrap();
        assert_eq!(
            (&status["nodeName"], status.get("evacuationNodeName")),
            (&json!("b"), None)
        );
        assert_eq!(
            there.metadata.labels.as_ref().unwrap(),
            &[(NODE.to_owned(), "b".to_owned())].into()
        );
        assert_eq!(
            state(&there)["migrationConfiguration"]["allowPostCopy"],
            false,
            "what is not ours stays"
        );
        let pods = [mk_pod("source"), mk_pod("target")];
        assert_eq!(
            leftovers(&there, &pods).map(ResourceExt::name_any).collect::<Vec<_>>(),
            ["source"]
        );
        assert_eq!(leftovers(&sends, &pods).count(), 0);
    }

    #[test]
    fn a_migration_that_is_called_off_fails_and_the_guest_stays() {
        let sends = mk_instance(&json!({ "targetNodeAddress": "x", "startTimestamp": NOW, "abortRequested": true }));
        let stays = step(&sends);
        assert_eq!(
            (&state(&stays)["abortStatus"], &state(&stays)["failed"]),
            (&json!("Succeeded"), &json!(true))
        );
        assert_eq!(stays.status.as_ref().unwrap()["nodeName"], "a");
        let pods = [mk_pod("source"), mk_pod("target")];
        assert_eq!(
            leftovers(&stays, &pods).map(ResourceExt::name_any).collect::<Vec<_>>(),
            ["target"]
        );
    }

    #[test]
    fn without_its_target_pod_a_migration_that_listens_fails() {
        for (listens, fails) in [(false, false), (true, true)] {
            let address = if listens { "x" } else { "" };
            let seen = mk_instance(&json!({ "targetNodeAddress": address }));
            let mut draft = Draft::new(&seen, NOW);
            migrate(&mut draft, None, Duration::ZERO, &mut |_, _| true);
            assert_eq!(
                draft.changed().is_some_and(|next| is_true(state(&next), "failed")),
                fails
            );
        }
    }

    #[test]
    fn a_mark_on_the_guest_makes_its_migrations_fail() {
        let mut sends = mk_instance(&json!({ "targetNodeAddress": "x", "startTimestamp": NOW }));
        sends.metadata.annotations = Some([(FAIL_MIGRATION.to_owned(), String::new())].into());
        assert_eq!(state(&step(&sends))["failed"], true);
    }
}
