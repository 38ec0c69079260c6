//! `VolumeService`.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use steading_api::{
    error::RpcError,
    storage::v1::{self as proto, volume::Source, volume_service_server::VolumeService},
    types::v1::ErrorReason,
};
use steading_model::violation::Violations;
use steading_runtime::{
    CallContext,
    clock::Clock,
    collection::{self, CreateRequest, DeleteRequest, ListRequest, UpdateRequest, WatchRequest},
};
use tonic::{Request, Response, Status};

use super::{
    ResponseStream,
    actions::{self, Call, Wish},
    list,
    quota::Quotas,
    snapshots::Snapshots,
    volumes::{Removal, Volumes, parse_cluster, parse_name},
    watch,
};
use crate::{error::Error, observe::Observed};

/// The service.
#[derive(Clone)]
pub struct VolumeApi {
    volumes: Volumes,
    snapshots: Snapshots,
    clock: Clock,
}

impl VolumeApi {
    /// The service on an infra cluster, with what is seen of it.
    pub fn new(kube: Client, clock: Clock, observed: Observed) -> Self {
        let volumes = Volumes {
            kube,
            observed,
            clock: clock.clone(),
            quotas: Quotas::default(),
            removal: Removal::Detached,
        };
        Self {
            snapshots: Snapshots {
                volumes: volumes.clone(),
            },
            volumes,
            clock,
        }
    }

    async fn clone_volume_of(
        &self,
        context: &CallContext,
        r: proto::CloneVolumeRequest,
    ) -> Result<proto::Volume, RpcError> {
        let name = parse_name(&r.name)?;
        let mut message = r.volume.unwrap_or_default();
        if message.source.is_some() {
            return Err(Violations::one("volume.source", "must be left out: the original is the source").into());
        }
        message.source = Some(Source::Volume(name.to_string()));
        let create = CreateRequest {
            parent: name.cluster.to_string(),
            id: r.volume_id,
            message: Some(message),
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        match collection::create(&self.volumes, context, &create).await {
            Err(error) => Err(without_cluster(&self.volumes.kube, error, &create.parent).await),
            made => made,
        }
    }
}

/// What a create lacks is the cluster's namespace, if that is not there, and else something of the infra cluster.
async fn without_cluster(kube: &Client, error: RpcError, parent: &str) -> RpcError {
    if !matches!(
        error.reason(),
        ErrorReason::ResourceNotFound | ErrorReason::CapabilityMissing
    ) {
        return error;
    }
    let Ok(cluster) = parse_cluster(parent) else {
        return error;
    };
    let namespaces: Api<Namespace> = Api::all(kube.clone());
    match namespaces.get_metadata_opt(&cluster.namespace()).await {
        Ok(None) => Error::ReferenceNotFound {
            kind: "Cluster",
            name: parent.to_owned(),
        }
        .into(),
        Ok(Some(_)) | Err(_) => error,
    }
}

#[tonic::async_trait]
impl VolumeService for VolumeApi {
    type WatchVolumesStream = ResponseStream<proto::WatchVolumesResponse>;
    type WatchSnapshotsStream = ResponseStream<proto::WatchSnapshotsResponse>;

    async fn get_volume(&self, request: Request<proto::GetVolumeRequest>) -> Result<Response<proto::Volume>, Status> {
        let context = CallContext::from_request(&request);
        Ok(Response::new(
            collection::get(&self.volumes, &context, &request.get_ref().name).await?,
        ))
    }

    async fn list_volumes(
        &self,
        request: Request<proto::ListVolumesRequest>,
    ) -> Result<Response<proto::ListVolumesResponse>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let asked = ListRequest {
            parent: r.parent,
            page_size: r.page_size,
            page_token: r.page_token,
            filter: r.filter,
            order_by: r.order_by,
        };
        if asked.filter.contains("attach") && !self.volumes.observed.is_synced() {
            // A filter by what is seen must not answer "nothing" before anything was seen.
            return Err(RpcError::from(Error::NotWatched).into());
        }
        let (volumes, next_page_token) = list::list(&self.volumes, &context, &asked).await?;
        Ok(Response::new(proto::ListVolumesResponse {
            volumes,
            next_page_token,
        }))
    }

    async fn create_volume(
        &self,
        request: Request<proto::CreateVolumeRequest>,
    ) -> Result<Response<proto::Volume>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let create = CreateRequest {
            parent: r.parent,
            id: r.volume_id,
            message: r.volume,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        match collection::create(&self.volumes, &context, &create).await {
            Err(error) => Err(without_cluster(&self.volumes.kube, error, &create.parent).await.into()),
            Ok(made) => Ok(Response::new(made)),
        }
    }

    async fn update_volume(
        &self,
        request: Request<proto::UpdateVolumeRequest>,
    ) -> Result<Response<proto::Volume>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let update = UpdateRequest {
            message: r.volume,
            mask: r.update_mask,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            collection::update(&self.volumes, &context, &update).await?,
        ))
    }

    async fn delete_volume(
        &self,
        request: Request<proto::DeleteVolumeRequest>,
    ) -> Result<Response<proto::Volume>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let removal = if r.force {
            Removal::DetachFirst
        } else {
            Removal::Detached
        };
        let volumes = Volumes {
            removal,
            ..self.volumes.clone()
        };
        let delete = DeleteRequest {
            name: r.name,
            etag: r.etag,
            allow_missing: r.allow_missing,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            collection::delete(&volumes, &context, &self.clock, &delete).await?,
        ))
    }

    async fn watch_volumes(
        &self,
        request: Request<proto::WatchVolumesRequest>,
    ) -> Result<Response<Self::WatchVolumesStream>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let watch = WatchRequest {
            parent: r.parent,
            filter: r.filter,
            resume_token: r.resume_token,
        };
        let events = watch::watch(&self.volumes, &context, &watch).await?;
        Ok(Response::new(Box::pin(events.map(|event| {
            let event = event?;
            Ok(proto::WatchVolumesResponse {
                r#type: event.kind.into(),
                volume: event.message,
                resume_token: event.resume_token,
            })
        }))))
    }

    async fn get_snapshot(
        &self,
        request: Request<proto::GetSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        let context = CallContext::from_request(&request);
        self.snapshots.check_capability().await?;
        Ok(Response::new(
            collection::get(&self.snapshots, &context, &request.get_ref().name).await?,
        ))
    }

    async fn list_snapshots(
        &self,
        request: Request<proto::ListSnapshotsRequest>,
    ) -> Result<Response<proto::ListSnapshotsResponse>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let list = ListRequest {
            parent: r.parent,
            page_size: r.page_size,
            page_token: r.page_token,
            filter: r.filter,
            order_by: r.order_by,
        };
        self.snapshots.check_capability().await?;
        let (snapshots, next_page_token) = collection::list(&self.snapshots, &context, &list).await?;
        Ok(Response::new(proto::ListSnapshotsResponse {
            snapshots,
            next_page_token,
        }))
    }

    async fn create_snapshot(
        &self,
        request: Request<proto::CreateSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let create = CreateRequest {
            parent: r.parent,
            id: r.snapshot_id,
            message: r.snapshot,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        self.snapshots.check_capability().await?;
        match collection::create(&self.snapshots, &context, &create).await {
            Err(error) => Err(without_cluster(&self.volumes.kube, error, &create.parent).await.into()),
            Ok(made) => Ok(Response::new(made)),
        }
    }

    async fn update_snapshot(
        &self,
        request: Request<proto::UpdateSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let update = UpdateRequest {
            message: r.snapshot,
            mask: r.update_mask,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        self.snapshots.check_capability().await?;
        Ok(Response::new(
            collection::update(&self.snapshots, &context, &update).await?,
        ))
    }

    async fn delete_snapshot(
        &self,
        request: Request<proto::DeleteSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let delete = DeleteRequest {
            name: r.name,
            etag: r.etag,
            allow_missing: r.allow_missing,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        self.snapshots.check_capability().await?;
        Ok(Response::new(
            collection::delete(&self.snapshots, &context, &self.clock, &delete).await?,
        ))
    }

    async fn watch_snapshots(
        &self,
        request: Request<proto::WatchSnapshotsRequest>,
    ) -> Result<Response<Self::WatchSnapshotsStream>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let watch = WatchRequest {
            parent: r.parent,
            filter: r.filter,
            resume_token: r.resume_token,
        };
        self.snapshots.check_capability().await?;
        let events = collection::watch(&self.snapshots, &context, &watch).await?;
        Ok(Response::new(Box::pin(events.map(|event| {
            let event = event?;
            Ok(proto::WatchSnapshotsResponse {
                r#type: event.kind.into(),
                snapshot: event.message,
                resume_token: event.resume_token,
            })
        }))))
    }

    async fn attach_volume(
        &self,
        request: Request<proto::AttachVolumeRequest>,
    ) -> Result<Response<proto::Volume>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let call = Call {
            name: r.name,
            etag: r.etag,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            actions::wish(&self.volumes, &context, &call, &Wish::Attach(r.machine)).await?,
        ))
    }

    async fn detach_volume(
        &self,
        request: Request<proto::DetachVolumeRequest>,
    ) -> Result<Response<proto::Volume>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let call = Call {
            name: r.name,
            etag: r.etag,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            actions::wish(&self.volumes, &context, &call, &Wish::Detach(r.machine)).await?,
        ))
    }

    async fn expand_volume(
        &self,
        request: Request<proto::ExpandVolumeRequest>,
    ) -> Result<Response<proto::Volume>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let call = Call {
            name: r.name,
            etag: r.etag,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            actions::wish(&self.volumes, &context, &call, &Wish::Expand(r.size)).await?,
        ))
    }

    async fn clone_volume(
        &self,
        request: Request<proto::CloneVolumeRequest>,
    ) -> Result<Response<proto::Volume>, Status> {
        let context = CallContext::from_request(&request);
        Ok(Response::new(
            Box::pin(self.clone_volume_of(&context, request.into_inner())).await?,
        ))
    }
}
