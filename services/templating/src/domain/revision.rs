//! Revisions of a template: its content and what that referred to at the time, under a name that follows from the content.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use steading_infra::crd::machine_template::MachineTemplateSpec;

use super::{digest::hex, machine::Resolved};

/// Label of an object that keeps what a catalogue entry was: it belongs to revisions, not to the catalogue.
pub const PINNED: &str = "steading.dev/pinned";

/// Unused revisions that are kept if the template does not say.
pub const DEFAULT_HISTORY: i32 = 10;
/// Most unused revisions that a template may ask for.
pub const MAX_HISTORY: i32 = 100;
/// Hexadecimal digits of a revision's id: a template would need a million revisions for a likely collision.
const ID_LENGTH: usize = 10;

/// All that machines of a revision are made from. It is stored once and never changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// The template's content.
    pub template: MachineTemplateSpec,
    /// What the catalogue had for it when the revision was made.
    pub resolved: Resolved,
}

impl Revision {
    /// Digest of everything in it, hexadecimal.
    pub fn digest(&self) -> String {
        // Structs serialise in the order of their fields and their maps are sorted, so equal contents have equal texts.
        hex(&Sha256::digest(serde_json::to_string(self).unwrap_or_default()))
    }

    /// Reads what a ControllerRevision holds.
    ///
    /// # Errors
    /// If it was not written by this service.
    pub fn read(data: &Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(data.clone())
    }
}

/// The part of a template that makes machines differ.
pub fn content(spec: &MachineTemplateSpec) -> MachineTemplateSpec {
    MachineTemplateSpec {
        display_name: String::new(),
        description: String::new(),
        revision_history_limit: None,
        ..spec.clone()
    }
}

/// Id of the revision that a template stands for: it follows from the content, and from the template's uid, because a
/// template that is deleted and made again may find another catalogue.
pub fn revision_id(uid: &str, spec: &MachineTemplateSpec) -> String {
    let text = serde_json::to_string(&(uid, content(spec))).unwrap_or_default();
    hex(&Sha256::digest(text)).chars().take(ID_LENGTH).collect()
}

/// Name of a revision's ControllerRevision.
pub fn object_name(template: &str, id: &str) -> String {
    format!("{template}-{id}")
}

/// A stored revision, as far as keeping it is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its id.
    pub id: String,
    /// Its number.
    pub number: i64,
}

/// Revisions that can be deleted: those beyond the limit, the oldest first, never the latest and never one in use.
pub fn plan_collection(stored: &[Stored], latest: &str, used: &[String], limit: Option<i32>) -> Vec<String> {
    let keep = usize::try_from(limit.unwrap_or(DEFAULT_HISTORY).clamp(0, MAX_HISTORY)).unwrap_or_default();
    let mut unused: Vec<&Stored> = stored
        .iter()
        .filter(|r| r.id != latest && !used.contains(&r.id))
        .collect();
    unused.sort_by_key(|r| std::cmp::Reverse(r.number));
    unused.into_iter().skip(keep).map(|r| r.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_for_people_make_no_revision() {
        let spec = MachineTemplateSpec {
            memory: Some("1Gi".into()),
            ..MachineTemplateSpec::default()
        };
        let renamed = MachineTemplateSpec {
            display_name: "x".into(),
            revision_history_limit: Some(3),
            ..spec.clone()
        };
        assert_eq!(revision_id("u", &spec), revision_id("u", &renamed));
        for other in [
            MachineTemplateSpec {
                memory: Some("2Gi".into()),
                ..spec.clone()
            },
            MachineTemplateSpec {
                refresh: Some(1),
                ..spec.clone()
            },
        ] {
            assert_ne!(revision_id("u", &spec), revision_id("u", &other));
        }
        assert_eq!(revision_id("u", &spec).len(), 10);
    }

    #[test]
    fn a_template_that_was_made_again_has_other_revisions() {
        let spec = MachineTemplateSpec::default();
        assert_ne!(revision_id("a", &spec), revision_id("b", &spec));
    }

    proptest! {
        #[test]
        fn a_revision_in_use_is_never_collected(
            numbers in proptest::collection::vec(0..1000i64, 0..30),
            used in proptest::collection::vec(0..30usize, 0..10),
            limit in proptest::option::of(0..20i32),
        ) {
            let stored: Vec<Stored> = numbers.iter().enumerate().map(|(i, n)| Stored { id: format!("r{i}"), number: *n }).collect();
            let used: Vec<String> = used.iter().map(|i| format!("r{i}")).collect();
            let gone = plan_collection(&stored, "r0", &used, limit);
            prop_assert!(gone.iter().all(|id| id != "r0" && !used.contains(id)));
            let unused_left = stored.iter().filter(|r| r.id != "r0" && !used.contains(&r.id) && !gone.contains(&r.id)).count();
            prop_assert!(unused_left <= usize::try_from(limit.unwrap_or(DEFAULT_HISTORY)).expect("small"));
        }
    }
}
