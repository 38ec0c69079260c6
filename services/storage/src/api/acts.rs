//! Attach, detach, expand: one annotation of the DataVolume each. The reconciler does the rest.

use steading_api::{error::RpcError, storage::v1 as proto};
use steading_infra::{cdi::DataVolume, labels};
use steading_model::{
    name::{MachineName, VolumeName},
    quantity::Quantity,
    violation::Violations,
};
use steading_runtime::standard::{Acts, Decision};

use super::{
    fields::{parse_machine, parse_size},
    volumes::Volumes,
};
use crate::{
    domain::{eligibility::Attachee, volume::Volume},
    observe::parse,
};

fn parsed(name: &VolumeName, current: &DataVolume) -> Result<Volume, RpcError> {
    parse::volume(current).ok_or_else(|| RpcError::not_found(VolumeName::KIND, name))
}

fn required_machine(text: &str) -> Result<MachineName, RpcError> {
    parse_machine(text)?.ok_or_else(|| Violations::one("machine", "must be set").into())
}

fn required_size(text: &str) -> Result<Quantity, RpcError> {
    parse_size(text, "size")?.ok_or_else(|| Violations::one("size", "must be set").into())
}

impl Acts<proto::AttachVolumeRequest> for Volumes {
    async fn decide(
        &self,
        request: &proto::AttachVolumeRequest,
        name: &VolumeName,
        current: &DataVolume,
    ) -> Result<Decision, RpcError> {
        let machine = required_machine(&request.machine)?;
        let volume = parsed(name, current)?;
        if machine.cluster == name.cluster && volume.wanted_on() == Some(machine.id.as_str()) {
            return Ok(Decision::AlreadySo);
        }
        if volume.deleted.is_none() {
            self.check_attach(name, Attachee::Present(&volume), &machine).await?;
        }
        Ok(Decision::annotate([
            (labels::ATTACH_TO, Some(machine.id.to_string())),
            (labels::ATTACH_REFUSAL, None),
        ]))
    }
}

impl Acts<proto::DetachVolumeRequest> for Volumes {
    async fn decide(
        &self,
        request: &proto::DetachVolumeRequest,
        name: &VolumeName,
        current: &DataVolume,
    ) -> Result<Decision, RpcError> {
        let from = parse_machine(&request.machine)?;
        let volume = parsed(name, current)?;
        let is_asked = |on: &str| from.as_ref().is_none_or(|from| from.id.as_str() == on);
        if volume.wanted_on().is_some_and(is_asked) {
            return Ok(Decision::annotate([(labels::ATTACH_TO, None)]));
        }
        Ok(Decision::AlreadySo)
    }
}

impl Acts<proto::ExpandVolumeRequest> for Volumes {
    async fn decide(
        &self,
        request: &proto::ExpandVolumeRequest,
        name: &VolumeName,
        current: &DataVolume,
    ) -> Result<Decision, RpcError> {
        let size = required_size(&request.size)?;
        let volume = parsed(name, current)?;
        if volume.deleted.is_none() {
            if size == volume.size {
                return Ok(Decision::AlreadySo);
            }
            self.check_growth(&volume, size, "size").await?;
            self.check_quota(name, size, Some(volume.size)).await?;
        }
        Ok(Decision::annotate([(labels::VOLUME_SIZE, Some(size.to_string()))]))
    }
}
