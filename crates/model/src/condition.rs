//! Conditions with the meaning that Kubernetes gives them, and the one rule that is easy to get wrong: the
//! transition time moves only when the status does.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Truth value of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// The aspect holds.
    True,
    /// The aspect does not hold.
    False,
    /// It cannot be told at present; never means false.
    Unknown,
}

impl ConditionStatus {
    /// The text that Kubernetes uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    /// Reads Kubernetes' text; anything else is unknown.
    pub fn from_text(text: &str) -> Self {
        match text {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// One observed aspect of a resource. Serialises as Kubernetes writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Aspect in CamelCase; unique within a resource.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Machine-readable cause in CamelCase.
    #[serde(default)]
    pub reason: String,
    /// Sentence for people.
    #[serde(default)]
    pub message: String,
    /// When the status last changed.
    pub last_transition_time: Timestamp,
    /// Generation of the wanted state that it speaks of; 0 if not known.
    #[serde(default)]
    pub observed_generation: i64,
}

impl Condition {
    /// A condition that became `status` at `now`.
    pub fn new(
        kind: impl Into<String>,
        status: impl Into<ConditionStatus>,
        reason: impl Into<String>,
        message: impl Into<String>,
        now: Timestamp,
    ) -> Self {
        Self {
            kind: kind.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            last_transition_time: now,
            observed_generation: 0,
        }
    }

    /// Says which generation of the wanted state the condition speaks of.
    #[must_use]
    pub fn observed_generation(mut self, generation: i64) -> Self {
        self.observed_generation = generation;
        self
    }

    /// Whether the aspect is known to hold.
    pub fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }
}

/// What [`set`] did to the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The list is as it was: nothing needs to be written.
    Same,
    /// Reason, message or generation differ.
    Details,
    /// The status is another, or the condition is new.
    Status,
}

/// The condition of that kind.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.kind == kind)
}

/// Puts a condition in its place, keeping the transition time if the status is the same.
pub fn set(conditions: &mut Vec<Condition>, mut condition: Condition) -> Change {
    let Some(present) = conditions.iter_mut().find(|c| c.kind == condition.kind) else {
        conditions.push(condition);
        return Change::Status;
    };
    if present.status != condition.status {
        *present = condition;
        return Change::Status;
    }
    condition.last_transition_time = present.last_transition_time;
    if *present == condition {
        return Change::Same;
    }
    *present = condition;
    Change::Details
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn transition_time_moves_with_the_status_only() {
        let mut list = Vec::new();
        assert_eq!(
            set(&mut list, Condition::new("Ready", false, "Booting", "", at(1))),
            Change::Status
        );
        assert_eq!(
            set(&mut list, Condition::new("Ready", false, "Booting", "", at(2))),
            Change::Same
        );
        assert_eq!(
            set(&mut list, Condition::new("Ready", false, "Joining", "", at(3))),
            Change::Details
        );
        assert_eq!(list[0].last_transition_time, at(1));
        assert_eq!(
            set(&mut list, Condition::new("Ready", true, "Joined", "", at(4))),
            Change::Status
        );
        assert_eq!((list.len(), list[0].last_transition_time), (1, at(4)));
    }

    #[test]
    fn it_is_written_as_kubernetes_writes_it() {
        let text = serde_json::to_value(Condition::new("Ready", true, "Ok", "fine", at(0))).expect("serialises");
        assert_eq!(text["type"], "Ready");
        assert_eq!(text["status"], "True");
        assert_eq!(text["lastTransitionTime"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn odd_status_texts_are_unknown() {
        for (text, status) in [
            ("True", ConditionStatus::True),
            ("False", ConditionStatus::False),
            ("", ConditionStatus::Unknown),
            ("true", ConditionStatus::Unknown),
        ] {
            assert_eq!(ConditionStatus::from_text(text), status);
        }
    }
}
