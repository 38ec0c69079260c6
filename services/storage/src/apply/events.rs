//! Events on volumes: what people should see who look at a DataVolume with `kubectl`.

use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use steading_infra::{cdi::DataVolume, labels};

use crate::domain::volume::Volume;

/// Something worth an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The machine refused the volume.
    AttachRefused {
        /// The machine.
        machine: String,
        /// What was said.
        message: String,
    },
    /// The infra cluster refused to let the volume grow.
    ExpansionRefused(String),
    /// The volume was taken off a machine that it belongs on, and is put back.
    Reattached(String),
    /// The volume was on a machine that it does not belong on.
    DriftDetached(String),
}

/// Writes events. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Events {
    recorder: Recorder,
}

impl Events {
    /// Writes events to an infra cluster.
    pub(crate) fn new(client: Client) -> Self {
        let reporter = Reporter {
            controller: labels::STORAGE_MANAGER.to_owned(),
            instance: None,
        };
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Writes an event on a volume. A failure costs the event and nothing else.
    pub(crate) async fn publish(&self, volume: &Volume, notice: Notice) {
        let (type_, reason, action, note) = match notice {
            Notice::AttachRefused { machine, message } => (
                EventType::Warning,
                "AttachRefused",
                "Attach",
                format!("machine {machine} refused the volume: {message}"),
            ),
            Notice::ExpansionRefused(message) => (
                EventType::Warning,
                "ExpansionRefused",
                "Expand",
                format!("the infra cluster refused to let the volume grow: {message}"),
            ),
            Notice::Reattached(machine) => (
                EventType::Normal,
                "DriftHealed",
                "Attach",
                format!("put the volume back on machine {machine}, from whose spec it had been removed"),
            ),
            Notice::DriftDetached(machine) => (
                EventType::Normal,
                "DriftHealed",
                "Detach",
                format!("took the volume off machine {machine}, where nobody wants it"),
            ),
        };
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        let about = k8s_openapi::api::core::v1::ObjectReference {
            api_version: Some(DataVolume::api_version(&()).into_owned()),
            kind: Some(DataVolume::kind(&()).into_owned()),
            name: Some(volume.id().to_owned()),
            namespace: Some(volume.name.namespace()),
            uid: Some(volume.uid.clone()),
            ..k8s_openapi::api::core::v1::ObjectReference::default()
        };
        if let Err(error) = self.recorder.publish(&event, &about).await {
            tracing::warn!(volume = %volume.name, reason, %error, "an event cannot be written");
        }
    }
}
