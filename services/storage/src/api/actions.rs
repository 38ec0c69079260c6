//! Attach, detach, expand: one annotation of the DataVolume each, written over the version that was read. The
//! reconciler does the rest.
//!
//! These calls say how something should be, so their repetition changes nothing more: `request_id` needs no record.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use steading_api::{error::RpcError, storage::v1 as proto};
use steading_infra::{apply::FieldManager, labels};
use steading_model::{name::VolumeName, violation::Violations};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    collection::kube_error,
};

use super::volumes::{Volumes, parse_machine, parse_name, parse_size};
use crate::{
    domain::{eligibility::Attachee, volume::Volume},
    error::Error,
    observe::parse,
};

/// Attempts without an etag: CDI writes a young volume's DataVolume several times a second.
const MAX_ATTEMPTS: usize = 8;

/// What all of these calls have.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// The volume.
    pub name: String,
    /// Must be the present etag, if set.
    pub etag: String,
    /// UUID of the attempt.
    pub request_id: String,
    /// Check only.
    pub validate_only: bool,
}

/// What is wanted of the volume.
#[derive(Debug, Clone)]
pub enum Wish {
    /// On this machine.
    Attach(String),
    /// On none; only if it is wanted on this one, unless empty.
    Detach(String),
    /// At least this large.
    Expand(String),
}

impl Wish {
    fn verb(&self) -> &'static str {
        match self {
            Self::Attach(_) => "attach",
            Self::Detach(_) => "detach",
            Self::Expand(_) => "expand",
        }
    }
}

/// Notes the wish at the volume and returns the volume.
///
/// # Errors
/// If the volume does not exist or goes, changed meanwhile, or the wish cannot be granted.
pub async fn wish(
    volumes: &Volumes,
    context: &CallContext,
    call: &Call,
    wish: &Wish,
) -> Result<proto::Volume, RpcError> {
    let name = parse_name(&call.name)?;
    if !call.request_id.is_empty() && uuid::Uuid::try_parse(&call.request_id).is_err() {
        return Err(Violations::one("request_id", "must be a UUID").into());
    }
    context
        .authorize(Action::new(Verb::Custom(wish.verb()), "Volume", &call.name))
        .await?;
    for _ in 0..MAX_ATTEMPTS {
        let volume = volumes.fetch(&name).await?;
        // A repetition finds what the first call wrote: that everything is so already counts before the etag does.
        if is_so(&volume, wish)? {
            return Ok(volumes.render(&volume));
        }
        if !call.etag.is_empty() && call.etag != volume.version {
            return Err(RpcError::etag_mismatch("Volume", &name));
        }
        let change = decide(volumes, &name, &volume, wish).await?;
        if let Some(stored) = write(volumes, &name, call, &volume, change).await? {
            return Ok(volumes.render(&stored));
        }
        if !call.etag.is_empty() {
            return Err(RpcError::etag_mismatch("Volume", &name));
        }
    }
    Err(Error::KeepsChanging(name.to_string()).into())
}

/// Whether everything is as wished.
fn is_so(volume: &Volume, wish: &Wish) -> Result<bool, RpcError> {
    match wish {
        Wish::Attach(machine) => {
            let machine = parse_machine(machine)?.ok_or_else(|| Violations::one("machine", "must be set"))?;
            Ok(machine.cluster == volume.name.cluster && volume.wanted_on() == Some(machine.id.as_str()))
        }
        Wish::Detach(machine) => {
            let from = parse_machine(machine)?.map(|machine| machine.id.to_string());
            let concerned = volume.wanted_on().is_some_and(|on| from.is_none_or(|from| from == on));
            Ok(!concerned)
        }
        Wish::Expand(size) => {
            let size = parse_size(size, "size")?.ok_or_else(|| Violations::one("size", "must be set"))?;
            Ok(volume.deleted.is_none() && size == volume.size)
        }
    }
}

/// The annotations to set; null takes one away.
async fn decide(volumes: &Volumes, name: &VolumeName, volume: &Volume, wish: &Wish) -> Result<Value, RpcError> {
    if volume.deleted.is_some() {
        return Err(Error::Deleting(name.to_string()).into());
    }
    match wish {
        Wish::Attach(machine) => {
            let machine = parse_machine(machine)?.ok_or_else(|| Violations::one("machine", "must be set"))?;
            volumes.check_attach(name, Attachee::Present(volume), &machine).await?;
            Ok(json!({labels::ATTACH_TO: machine.id.as_str(), labels::ATTACH_REFUSAL: null}))
        }
        Wish::Detach(_) => Ok(json!({labels::ATTACH_TO: null})),
        Wish::Expand(size) => {
            let size = parse_size(size, "size")?.ok_or_else(|| Violations::one("size", "must be set"))?;
            volumes.check_growth(volume, size, "size").await?;
            volumes.check_quota(name, size, Some(volume.size)).await?;
            Ok(json!({labels::VOLUME_SIZE: size.to_string()}))
        }
    }
}

/// Writes over the version that was read; `None` if somebody was faster.
async fn write(
    volumes: &Volumes,
    name: &VolumeName,
    call: &Call,
    read: &Volume,
    annotations: Value,
) -> Result<Option<Volume>, RpcError> {
    let patch = json!({"metadata": {"resourceVersion": read.version, "annotations": annotations}});
    let params = PatchParams {
        field_manager: Some(FieldManager::Storage.as_str().to_owned()),
        dry_run: call.validate_only,
        ..PatchParams::default()
    };
    let stored = volumes
        .objects(&name.namespace())
        .patch(&name.object_name(), &params, &Patch::Merge(&patch))
        .await;
    match stored {
        Ok(stored) => {
            tracing::info!(%name, %annotations, "noted a wish at a volume");
            let stored = parse::volume(&stored).ok_or_else(RpcError::internal)?;
            if !call.validate_only {
                // Without waiting for the watch, which may be away.
                volumes.observed.put_volume(stored.clone());
                volumes.quotas.settle(&stored.name);
            }
            Ok(Some(stored))
        }
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
        Err(error) => Err(kube_error("Volume", &name.to_string(), &error)),
    }
}
