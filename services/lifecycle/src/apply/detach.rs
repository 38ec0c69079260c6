//! Detaching a machine's volumes, through storage, which alone touches them.

use steading_api::storage::v1::{DetachVolumeRequest, ListVolumesRequest, volume::AttachmentState};
use steading_model::name::ClusterName;

use crate::{context::Context, domain::machine::ObservedMachine, error::Error};

/// Asks storage to detach what is on a machine, or wanted there; true once nothing is.
///
/// # Errors
/// If storage refuses or is away: then volumes may still be attached.
pub async fn detach_volumes(context: &Context, machine: &ObservedMachine) -> Result<bool, Error> {
    let Some(cluster) = ClusterName::from_namespace(&machine.namespace) else {
        return Ok(true);
    };
    let mut clear = true;
    for field in ["attached_machine", "machine"] {
        let filter = format!("{field}=\"{cluster}/machines/{}\"", machine.name);
        let request = ListVolumesRequest {
            parent: cluster.to_string(),
            page_size: 500,
            filter,
            ..ListVolumesRequest::default()
        };
        let answer = context
            .peers
            .volumes()
            .list_volumes(request)
            .await
            .map_err(Error::peer("storage"))?;
        for volume in answer.into_inner().volumes {
            clear = clear && volume.attachment_state() == AttachmentState::Detached;
            if volume.machine.is_empty() {
                continue;
            }
            clear = false;
            let request = DetachVolumeRequest {
                name: volume.name,
                machine: format!("{cluster}/machines/{}", machine.name),
                ..DetachVolumeRequest::default()
            };
            context
                .peers
                .volumes()
                .detach_volume(request)
                .await
                .map_err(Error::peer("storage"))?;
        }
    }
    Ok(clear)
}
