//! Kubernetes Events on the objects that people look at: what was decided, and what stands in the way.

use kube::{
    Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use steading_infra::labels;

/// How loud an Event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Something was done.
    Normal,
    /// Somebody should look.
    Warning,
}

/// Writes Events. Repetitions within some minutes become one Event with a count.
#[derive(Clone)]
pub struct Events(Recorder);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Events of this service.
    pub fn new(kube: kube::Client) -> Self {
        let reporter = Reporter {
            controller: labels::LIFECYCLE_MANAGER.to_owned(),
            instance: None,
        };
        Self(Recorder::new(kube, reporter))
    }

    /// Writes one. Nothing depends on it, so that a failure is only logged.
    pub async fn publish<K>(&self, about: &K, tone: Tone, action: &str, reason: &str, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_: match tone {
                Tone::Normal => EventType::Normal,
                Tone::Warning => EventType::Warning,
            },
            reason: reason.to_owned(),
            // The API server refuses notes of a kilobyte and more.
            note: Some(note.chars().take(1000).collect()),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, &about.object_ref(&())).await {
            tracing::debug!(reason, %error, "event not written");
        }
    }
}
