//! `StorageClassService`.

use kube::Client;
use steading_api::storage::v1::{self as proto, storage_class_service_server::StorageClassService};
use steading_runtime::{
    clock::Clock,
    standard::{Methods, ResponseStream},
};
use tonic::{Request, Response, Status};

use super::classes::Classes;

/// The service.
#[derive(Clone)]
pub struct StorageClassApi {
    classes: Methods<Classes>,
}

impl StorageClassApi {
    /// The service on an infra cluster.
    pub fn new(kube: Client, clock: Clock) -> Self {
        Self {
            classes: Methods::new(Classes::new(kube), clock),
        }
    }
}

#[tonic::async_trait]
impl StorageClassService for StorageClassApi {
    type WatchStorageClassesStream = ResponseStream<proto::WatchStorageClassesResponse>;

    async fn get_storage_class(
        &self,
        request: Request<proto::GetStorageClassRequest>,
    ) -> Result<Response<proto::StorageClass>, Status> {
        self.classes.get(request).await
    }

    async fn list_storage_classes(
        &self,
        request: Request<proto::ListStorageClassesRequest>,
    ) -> Result<Response<proto::ListStorageClassesResponse>, Status> {
        self.classes.list(request).await
    }

    async fn create_storage_class(
        &self,
        request: Request<proto::CreateStorageClassRequest>,
    ) -> Result<Response<proto::StorageClass>, Status> {
        self.classes.create(request).await
    }

    async fn update_storage_class(
        &self,
        request: Request<proto::UpdateStorageClassRequest>,
    ) -> Result<Response<proto::StorageClass>, Status> {
        self.classes.update(request).await
    }

    async fn delete_storage_class(
        &self,
        request: Request<proto::DeleteStorageClassRequest>,
    ) -> Result<Response<proto::StorageClass>, Status> {
        self.classes.delete(request).await
    }

    async fn watch_storage_classes(
        &self,
        request: Request<proto::WatchStorageClassesRequest>,
    ) -> Result<Response<Self::WatchStorageClassesStream>, Status> {
        self.classes.watch(request).await
    }
}
