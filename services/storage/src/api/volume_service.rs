//! `VolumeService`.

use kube::Client;
use steading_api::{
    error::RpcError,
    reflect,
    standard::Creation,
    storage::v1::{self as proto, volume::Source, volume_service_server::VolumeService},
};
use steading_model::{name::VolumeName, violation::Violations};
use steading_runtime::{
    CallContext,
    clock::Clock,
    standard::{Methods, ResponseStream},
};
use tonic::{Request, Response, Status};

use super::{quota::Quotas, snapshots::Snapshots, volumes::Volumes};
use crate::{error::Error, observe::Observed};

/// The service.
#[derive(Clone)]
pub struct VolumeApi {
    volumes: Methods<Volumes>,
    snapshots: Methods<Snapshots>,
}

impl VolumeApi {
    /// The service on an infra cluster, with what is seen of it.
    pub fn new(kube: Client, clock: Clock, observed: Observed) -> Self {
        let volumes = Volumes {
            kube,
            observed,
            clock: clock.clone(),
            quotas: Quotas::default(),
        };
        let snapshots = Snapshots {
            volumes: volumes.clone(),
        };
        Self {
            volumes: Methods::new(volumes, clock.clone()),
            snapshots: Methods::new(snapshots, clock),
        }
    }

    async fn clone_of(
        &self,
        context: &CallContext,
        request: proto::CloneVolumeRequest,
    ) -> Result<proto::Volume, RpcError> {
        let hash = reflect::request_hash("steading.storage.v1.CloneVolumeRequest", &request)?;
        let name: VolumeName = request.name.parse().map_err(|e| RpcError::invalid_name("name", &e))?;
        let mut volume = request.volume.unwrap_or_default();
        if volume.source.is_some() {
            return Err(Violations::one("volume.source", "must be left out: the original is the source").into());
        }
        volume.source = Some(Source::Volume(name.to_string()));
        let creation = Creation {
            parent: name.cluster.to_string(),
            id: request.volume_id,
            resource: Some(volume),
            request_id: request.request_id,
            validate_only: request.validate_only,
        };
        self.volumes.create_as(context, creation, "volume_id", hash).await
    }
}

#[tonic::async_trait]
impl VolumeService for VolumeApi {
    type WatchVolumesStream = ResponseStream<proto::WatchVolumesResponse>;
    type WatchSnapshotsStream = ResponseStream<proto::WatchSnapshotsResponse>;

    async fn get_volume(&self, request: Request<proto::GetVolumeRequest>) -> Result<Response<proto::Volume>, Status> {
        self.volumes.get(request).await
    }

    async fn list_volumes(
        &self,
        request: Request<proto::ListVolumesRequest>,
    ) -> Result<Response<proto::ListVolumesResponse>, Status> {
        // A filter by what is seen must not answer "nothing" before anything was seen.
        if request.get_ref().filter.contains("attach") && !self.volumes.collection().observed.is_synced() {
            return Err(RpcError::from(Error::NotWatched).into());
        }
        self.volumes.list(request).await
    }

    async fn create_volume(
        &self,
        request: Request<proto::CreateVolumeRequest>,
    ) -> Result<Response<proto::Volume>, Status> {
        self.volumes.create(request).await
    }

    async fn update_volume(
        &self,
        request: Request<proto::UpdateVolumeRequest>,
    ) -> Result<Response<proto::Volume>, Status> {
        self.volumes.update(request).await
    }

    async fn delete_volume(
        &self,
        request: Request<proto::DeleteVolumeRequest>,
    ) -> Result<Response<proto::Volume>, Status> {
        self.volumes.delete(request).await
    }

    async fn watch_volumes(
        &self,
        request: Request<proto::WatchVolumesRequest>,
    ) -> Result<Response<Self::WatchVolumesStream>, Status> {
        self.volumes.watch(request).await
    }

    async fn get_snapshot(
        &self,
        request: Request<proto::GetSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        self.snapshots.get(request).await
    }

    async fn list_snapshots(
        &self,
        request: Request<proto::ListSnapshotsRequest>,
    ) -> Result<Response<proto::ListSnapshotsResponse>, Status> {
        self.snapshots.list(request).await
    }

    async fn create_snapshot(
        &self,
        request: Request<proto::CreateSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        self.snapshots.create(request).await
    }

    async fn update_snapshot(
        &self,
        request: Request<proto::UpdateSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        self.snapshots.update(request).await
    }

    async fn delete_snapshot(
        &self,
        request: Request<proto::DeleteSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        self.snapshots.delete(request).await
    }

    async fn watch_snapshots(
        &self,
        request: Request<proto::WatchSnapshotsRequest>,
    ) -> Result<Response<Self::WatchSnapshotsStream>, Status> {
        self.snapshots.watch(request).await
    }

    async fn attach_volume(
        &self,
        request: Request<proto::AttachVolumeRequest>,
    ) -> Result<Response<proto::Volume>, Status> {
        self.volumes.act(request).await
    }

    async fn detach_volume(
        &self,
        request: Request<proto::DetachVolumeRequest>,
    ) -> Result<Response<proto::Volume>, Status> {
        self.volumes.act(request).await
    }

    async fn expand_volume(
        &self,
        request: Request<proto::ExpandVolumeRequest>,
    ) -> Result<Response<proto::Volume>, Status> {
        self.volumes.act(request).await
    }

    async fn clone_volume(
        &self,
        request: Request<proto::CloneVolumeRequest>,
    ) -> Result<Response<proto::Volume>, Status> {
        let context = CallContext::from_request(&request);
        let made = Box::pin(self.clone_of(&context, request.into_inner())).await?;
        Ok(Response::new(made))
    }
}
