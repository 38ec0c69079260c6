//! A VMI that is being worked on, as it stands on the wire.
//!
//! virt-controller patches a VMI that runs by JSON patches that first test whole lists of the status, as it knows them. So nothing of the
//! status may be lost or written in another way: it is kept as JSON, elements of lists are changed in place, times have whole seconds, and
//! a condition always carries both of its times.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::object::Object;
use serde_json::{Value, json};

/// A VMI of which every field is kept.
pub(super) type Instance = Object<Value, Value>;

/// A VMI with what is to be changed of it.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    /// The VMI as it was seen.
    pub(super) seen: &'a Instance,
    /// Its metadata.
    pub(super) meta: ObjectMeta,
    /// Its status.
    pub(super) status: Value,
    /// The time, in whole seconds.
    pub(super) now: &'a str,
}

impl<'a> Draft<'a> {
    pub(super) fn new(seen: &'a Instance, now: &'a str) -> Self {
        Self {
            seen,
            meta: seen.metadata.clone(),
            status: seen.status.clone().unwrap_or_else(|| json!({})),
            now,
        }
    }

    /// The VMI as it is to be written, `None` if nothing was changed.
    pub(super) fn changed(self) -> Option<Instance> {
        let same = self.seen.status.as_ref() == Some(&self.status)
            && self.seen.metadata.labels == self.meta.labels
            && self.seen.metadata.annotations == self.meta.annotations;
        (!same).then(|| Instance {
            metadata: self.meta,
            status: Some(self.status),
            ..self.seen.clone()
        })
    }

    /// A text of the status, empty if it is not there.
    pub(super) fn text(&self, pointer: &str) -> &str {
        text(&self.status, pointer)
    }

    /// Enters a phase.
    pub(super) fn enter(&mut self, phase: &str) {
        if self.text("/phase") == phase {
            return;
        }
        self.status["phase"] = json!(phase);
        let moment = json!({ "phase": phase, "phaseTransitionTimestamp": self.now });
        match self.list_mut("phaseTransitionTimestamps") {
            Some(list) => list.push(moment),
            None => self.status["phaseTransitionTimestamps"] = json!([moment]),
        }
    }

    /// Takes fields of the status away.
    pub(super) fn remove(&mut self, fields: &[&str]) {
        if let Some(status) = self.status.as_object_mut() {
            for field in fields {
                status.remove(*field);
            }
        }
    }

    /// Takes a label away.
    pub(super) fn remove_label(&mut self, name: &str) {
        if let Some(labels) = &mut self.meta.labels {
            labels.remove(name);
        }
    }

    /// Takes an annotation away.
    pub(super) fn remove_annotation(&mut self, name: &str) {
        if let Some(annotations) = &mut self.meta.annotations {
            annotations.remove(name);
        }
    }

    /// A list of the status.
    pub(super) fn list_mut(&mut self, field: &str) -> Option<&mut Vec<Value>> {
        self.status.get_mut(field)?.as_array_mut()
    }

    /// Whether there is a condition of that type.
    pub(super) fn has_condition(&self, type_: &str) -> bool {
        list(&self.status, "/conditions").any(|found| found["type"] == type_)
    }

    /// Sets a condition; one that says the same already stays as it is.
    pub(super) fn set_condition(&mut self, type_: &str, status: &str, reason: &str, message: &str) {
        let says = |found: &Value| {
            text(found, "/status") == status && text(found, "/reason") == reason && text(found, "/message") == message
        };
        let mut fresh =
            json!({ "type": type_, "status": status, "lastProbeTime": null, "lastTransitionTime": self.now });
        for (field, value) in [("reason", reason), ("message", message)] {
            if !value.is_empty() {
                fresh[field] = json!(value);
            }
        }
        let Some(all) = self.list_mut("conditions") else {
            self.status["conditions"] = json!([fresh]);
            return;
        };
        match all.iter_mut().find(|found| found["type"] == type_) {
            Some(found) if says(found) => {}
            Some(found) => *found = fresh,
            None => all.push(fresh),
        }
    }

    /// Takes conditions away.
    pub(super) fn remove_conditions(&mut self, types: &[&str]) {
        if let Some(all) = self.list_mut("conditions") {
            all.retain(|found| !types.contains(&text(found, "/type")));
        }
    }
}

/// A text of a JSON value, empty if it is not there.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The elements of a list, none if it is not there.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn mk_instance(status: Value) -> Instance {
        let object =
            json!({ "metadata": { "name": "m", "labels": { "a": "b" } }, "spec": { "domain": {} }, "status": status });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_is_not_known_here_survives() {
        let status = json!({
            "phase": "Scheduled", "unheardOf": { "a": null },
            "conditions": [{ "type": "Ready", "status": "False", "lastProbeTime": null, "lastTransitionTime": NOW, "more": 1 }],
        });
        let seen = mk_instance(status.clone());
        let mut draft = Draft::new(&seen, NOW);
        draft.enter("Running");
        draft.set_condition("LiveMigratable", "True", "", "");
        let next = draft.changed().unwrap().status.unwrap();
        assert_eq!(
            (&next["unheardOf"], &next["conditions"][0]),
            (&status["unheardOf"], &status["conditions"][0])
        );
        assert_eq!(next["conditions"][1]["lastProbeTime"], Value::Null);
        assert_eq!(
            next["phaseTransitionTimestamps"],
            json!([{ "phase": "Running", "phaseTransitionTimestamp": NOW }])
        );
    }

    #[test]
    fn saying_the_same_again_changes_nothing() {
        let earlier = json!({ "type": "LiveMigratable", "status": "False", "reason": "R", "lastProbeTime": null, "lastTransitionTime": "2025-01-01T00:00:00Z" });
        let seen = mk_instance(json!({ "phase": "Running", "conditions": [earlier] }));
        let mut draft = Draft::new(&seen, NOW);
        draft.enter("Running");
        draft.set_condition("LiveMigratable", "False", "R", "");
        draft.remove_conditions(&["Paused"]);
        draft.remove(&["evacuationNodeName"]);
        draft.remove_label("other");
        assert!(draft.changed().is_none());
    }
}
