//! Images: message ⇄ DataSource.

use kube::ResourceExt;
use steading_api::{
    convert,
    templating::v1::{
        self as proto,
        image::{Source, State},
    },
    types::v1::{Condition, ConditionStatus},
};
use steading_infra::cdi::DataSource;
use steading_model::name::ImageName;

use super::{access_mode, access_mode_from, disk, origin, volume_mode, volume_mode_from};
use crate::{
    domain::image::{ImageSpec, ImageStatus, ImportPhase},
    observe::image::{read_spec, read_status},
};

/// A DataSource as a message; `None` if it is not an image.
pub fn image(object: &DataSource) -> Option<proto::Image> {
    let meta = &object.metadata;
    let name = ImageName::from_object_name(&object.name_any())?;
    let spec = read_spec(object)?;
    let status = read_status(object);
    let wanted = spec.content_id();
    let terminating = meta.deletion_timestamp.is_some();
    let current = status.wanted == wanted;
    let phase = if current { status.phase } else { ImportPhase::Pending };
    let state = match (terminating, phase, status.content.is_empty()) {
        (true, _, _) => State::Deleting,
        (_, ImportPhase::Ready, _) => State::Ready,
        (_, ImportPhase::Failed, _) => State::Failed,
        (_, ImportPhase::Pending | ImportPhase::Importing, false) => State::Refreshing,
        (_, ImportPhase::Importing, true) => State::Importing,
        (_, ImportPhase::Pending, true) => State::Pending,
    };
    let source = spec
        .http
        .as_ref()
        .map(|s| Source::Http(disk::http(s)))
        .or_else(|| spec.registry.as_ref().map(|s| Source::Registry(disk::registry(s))))
        .or_else(|| spec.pvc.as_ref().map(|s| Source::Pvc(disk::pvc(s))));
    Some(proto::Image {
        name: name.to_string(),
        state: state.into(),
        conditions: vec![
            accepted(&status, current, meta.generation.unwrap_or_default()),
            ready(&status, phase, meta.generation.unwrap_or_default()),
        ],
        reconciling: terminating || phase != ImportPhase::Ready,
        origin: origin(meta).into(),
        access_mode: access_mode_from(&spec.access_mode).into(),
        volume_mode: volume_mode_from(&spec.volume_mode).into(),
        display_name: spec.display_name,
        description: spec.description,
        size: spec.size,
        storage_class: spec.storage_class,
        preallocation: spec.preallocation,
        os: spec.os,
        os_version: spec.os_version,
        architecture: spec.architecture,
        default_instance_type: spec.default_instance_type,
        default_preference: spec.default_preference,
        progress_percent: if phase == ImportPhase::Ready {
            100
        } else if current {
            status.progress
        } else {
            0
        },
        import_time: status.import_time.as_ref().map(|t| convert::timestamp(t.0)),
        content_id: status.content,
        wanted_content_id: wanted,
        restart_count: if current { status.restarts } else { 0 },
        failure_message: if phase == ImportPhase::Failed {
            status.failure
        } else {
            String::new()
        },
        source,
        ..proto::Image::default()
    })
}

fn accepted(status: &ImageStatus, current: bool, generation: i64) -> Condition {
    let (value, reason) = match (current, status.refusal.is_empty()) {
        (false, _) => (ConditionStatus::Unknown, "Pending"),
        (true, true) => (ConditionStatus::True, "Valid"),
        (true, false) => (ConditionStatus::False, "Invalid"),
    };
    Condition {
        r#type: "Accepted".into(),
        status: value.into(),
        reason: reason.into(),
        message: if current { status.refusal.clone() } else { String::new() },
        last_transition_time: None,
        observed_generation: generation,
    }
}

fn ready(status: &ImageStatus, phase: ImportPhase, generation: i64) -> Condition {
    let (value, reason, message) = match phase {
        ImportPhase::Ready => (ConditionStatus::True, "Imported", "the content is there".to_owned()),
        ImportPhase::Failed => (ConditionStatus::False, "ImportFailed", status.failure.clone()),
        ImportPhase::Importing => (
            ConditionStatus::False,
            "Importing",
            format!("{} percent are there", status.progress),
        ),
        ImportPhase::Pending => (ConditionStatus::False, "Pending", "the import has not begun".to_owned()),
    };
    Condition {
        r#type: "Ready".into(),
        status: value.into(),
        reason: reason.into(),
        message,
        last_transition_time: status.import_time.as_ref().map(|t| convert::timestamp(t.0)),
        observed_generation: generation,
    }
}

/// What a message wants of an image, not validated yet; the counter of refreshes is kept from before.
pub fn image_spec(message: &proto::Image, refresh: u64) -> ImageSpec {
    let mut spec = ImageSpec {
        display_name: message.display_name.clone(),
        description: message.description.clone(),
        size: message.size.clone(),
        storage_class: message.storage_class.clone(),
        access_mode: access_mode(message.access_mode()).unwrap_or_default().to_owned(),
        volume_mode: volume_mode(message.volume_mode()).unwrap_or_default().to_owned(),
        preallocation: message.preallocation,
        os: message.os.clone(),
        os_version: message.os_version.clone(),
        architecture: message.architecture.clone(),
        default_instance_type: message.default_instance_type.clone(),
        default_preference: message.default_preference.clone(),
        refresh,
        ..ImageSpec::default()
    };
    match &message.source {
        Some(Source::Http(source)) => spec.http = Some(disk::http_from(source)),
        Some(Source::Registry(source)) => spec.registry = Some(disk::registry_from(source)),
        Some(Source::Pvc(source)) => spec.pvc = Some(disk::pvc_from(source)),
        None => {}
    }
    spec
}
