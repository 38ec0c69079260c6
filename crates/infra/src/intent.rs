//! Intents: what somebody wants done with a machine, written on its VirtualMachine.
//!
//! An intent is one annotation, `intent.steading.dev/<action>.<owner>`. The owner is whoever may revoke it (`api`, `pool`,
//! `maintenance-<id>`, or any name that a person uses with kubectl), so that owners never overwrite each other and to revoke is to remove
//! one's own key. The value is a JSON object of [`Intent`]'s fields; plain text is taken as the reason, so that
//! `kubectl annotate vm w-1 intent.steading.dev/drain.me="disk is failing"` works.
//!
//! Nobody but the machine's own reconciler acts on a machine; see `steading_lifecycle::plan::machine`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Prefix of every intent's annotation.
pub const PREFIX: &str = "intent.steading.dev/";
/// Owner of intents that came through the API.
pub const API: &str = "api";
/// Owner of a pool's intents on its machines.
pub const POOL: &str = "pool";
/// Owner of a cluster's intents on its machines while it is being deleted.
pub const CLUSTER: &str = "cluster";
/// Owner of the intent that answers an eviction from an infra node that is not cordoned.
pub const EVICTION: &str = "eviction";
/// Prefix of the owner of a maintenance's intents; the id follows.
pub const MAINTENANCE_PREFIX: &str = "maintenance-";

/// What is wanted of a machine, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Deletion at once, without a drain.
    ForceDelete,
    /// Deletion after drain and detach.
    Delete,
    /// Drain, then a boot on another infra node under the same name.
    Relocate,
    /// Live migration to another infra node.
    Migrate,
    /// Another boot where it is.
    Restart,
    /// An empty tenant node that takes no pods.
    Drain,
    /// A replacement by its pool, which then writes a `delete` of its own.
    Replace,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 7] = [
        Self::ForceDelete,
        Self::Delete,
        Self::Relocate,
        Self::Migrate,
        Self::Restart,
        Self::Drain,
        Self::Replace,
    ];

    /// As annotations spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForceDelete => "force-delete",
            Self::Delete => "delete",
            Self::Relocate => "relocate",
            Self::Migrate => "migrate",
            Self::Restart => "restart",
            Self::Drain => "drain",
            Self::Replace => "replace",
        }
    }

    /// Whether it ends the machine.
    pub fn deletes(self) -> bool {
        matches!(self, Self::ForceDelete | Self::Delete)
    }
}

/// The part of an intent that the annotation's value holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// Why, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Who wrote it, for people: a user, a controller.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// When it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The infra node that a relocation or migration leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infra_node: Option<String>,
    /// Uid of the instance that a restart ends; filled in by the machine's reconciler before it acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Seconds after which the drain that belongs to it is forced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_after_seconds: Option<u64>,
    /// `request_id` of the call that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// One intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// What.
    pub action: Action,
    /// For whom; only the owner revokes it.
    pub owner: String,
    /// Why, since when and until when.
    pub details: Details,
}

impl Intent {
    /// An intent that begins now.
    pub fn new(action: Action, owner: &str, reason: &str, now: Timestamp) -> Self {
        let details = Details {
            reason: reason.to_owned(),
            since: Some(now),
            ..Details::default()
        };
        Self {
            action,
            owner: owner.to_owned(),
            details,
        }
    }

    /// Reads one annotation; `None` if it is not an intent.
    pub fn parse(key: &str, value: &str) -> Option<Self> {
        let (action, owner) = key.strip_prefix(PREFIX)?.split_once('.')?;
        let action = Action::ALL.into_iter().find(|one| one.as_str() == action)?;
        let plain = || Details {
            reason: value.trim().to_owned(),
            ..Details::default()
        };
        let details = serde_json::from_str(value).unwrap_or_else(|_| plain());
        let owner = owner.to_owned();
        (!owner.is_empty()).then_some(Self { action, owner, details })
    }

    /// Key of its annotation.
    pub fn key(&self) -> String {
        key(self.action, &self.owner)
    }

    /// Value of its annotation.
    pub fn value(&self) -> String {
        serde_json::to_string(&self.details).unwrap_or_default()
    }

    /// Whether it has ended by itself.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.details.until.is_some_and(|until| until <= now)
    }

    /// Id of the maintenance that it belongs to.
    pub fn maintenance(&self) -> Option<&str> {
        self.owner.strip_prefix(MAINTENANCE_PREFIX)
    }
}

/// Key of the annotation of an action and owner.
pub fn key(action: Action, owner: &str) -> String {
    format!("{PREFIX}{}.{owner}", action.as_str())
}

/// Owner of a maintenance's intents.
pub fn maintenance_owner(id: &str) -> String {
    format!("{MAINTENANCE_PREFIX}{id}")
}

/// All intents among annotations: the strongest action first, the oldest of an action first.
pub fn intents(annotations: &BTreeMap<String, String>) -> Vec<Intent> {
    let mut found: Vec<Intent> = annotations
        .iter()
        .filter_map(|(key, value)| Intent::parse(key, value))
        .collect();
    found.sort_by(|a, b| {
        let order = |one: &Intent| (one.action, one.details.since, one.owner.clone());
        order(a).cmp(&order(b))
    });
    found
}

/// Whether the deletion of the machine with these annotations is wanted.
pub fn wants_deletion(annotations: &BTreeMap<String, String>) -> bool {
    annotations
        .iter()
        .filter_map(|(key, value)| Intent::parse(key, value))
        .any(|one| one.action.deletes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_reads_back_as_it_was_written() {
        for action in Action::ALL {
            let mut intent = Intent::new(action, "maintenance-m1", "lid off", Timestamp::UNIX_EPOCH);
            intent.details.force_after_seconds = Some(60);
            assert_eq!(Intent::parse(&intent.key(), &intent.value()), Some(intent.clone()));
            assert_eq!(intent.maintenance(), Some("m1"));
        }
    }

    #[test]
    fn plain_text_is_the_reason_and_other_annotations_are_ignored() {
        let intent = Intent::parse("intent.steading.dev/drain.me", "disk is failing").unwrap();
        assert_eq!(
            (intent.action, intent.details.reason.as_str()),
            (Action::Drain, "disk is failing")
        );
        for key in [
            "intent.steading.dev/drain",
            "intent.steading.dev/explode.me",
            "steading.dev/drain.me",
            "intent.steading.dev/drain.",
        ] {
            assert_eq!(Intent::parse(key, ""), None, "{key}");
        }
    }

    #[test]
    fn the_strongest_and_then_the_oldest_intent_comes_first() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let all = [
            Intent::new(Action::Drain, "api", "", at(1)),
            Intent::new(Action::Migrate, "maintenance-b", "", at(2)),
            Intent::new(Action::Migrate, "maintenance-a", "", at(3)),
            Intent::new(Action::Delete, "pool", "", at(9)),
        ];
        let annotations = all.iter().map(|one| (one.key(), one.value())).collect();
        let order: Vec<_> = intents(&annotations).iter().map(|one| one.owner.clone()).collect();
        assert_eq!(order, ["pool", "maintenance-b", "maintenance-a", "api"]);
        assert!(wants_deletion(&annotations));
    }

    #[test]
    fn the_longest_key_is_a_valid_annotation_name() {
        let id = "m".repeat(28);
        let longest = Action::ALL.map(|action| key(action, &maintenance_owner(&id)).len() - PREFIX.len());
        assert!(longest.into_iter().all(|length| length <= 63), "{longest:?}");
    }
}
