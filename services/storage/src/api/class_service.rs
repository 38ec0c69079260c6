//! `StorageClassService`.

use futures::StreamExt;
use kube::Client;
use steading_api::storage::v1::{self as proto, storage_class_service_server::StorageClassService};
use steading_runtime::{
    CallContext,
    clock::Clock,
    collection::{self, CreateRequest, DeleteRequest, ListRequest, UpdateRequest, WatchRequest},
};
use tonic::{Request, Response, Status};

use super::{
    ResponseStream,
    classes::{Classes, Withdrawal},
};

/// The service.
#[derive(Clone)]
pub struct StorageClassApi {
    classes: Classes,
    clock: Clock,
}

impl StorageClassApi {
    /// The service on an infra cluster.
    pub fn new(kube: Client, clock: Clock) -> Self {
        Self {
            classes: Classes::new(kube),
            clock,
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
        let context = CallContext::from_request(&request);
        Ok(Response::new(
            collection::get(&self.classes, &context, &request.get_ref().name).await?,
        ))
    }

    async fn list_storage_classes(
        &self,
        request: Request<proto::ListStorageClassesRequest>,
    ) -> Result<Response<proto::ListStorageClassesResponse>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let list = ListRequest {
            parent: r.parent,
            page_size: r.page_size,
            page_token: r.page_token,
            filter: r.filter,
            order_by: r.order_by,
        };
        let (storage_classes, next_page_token) = collection::list(&self.classes, &context, &list).await?;
        Ok(Response::new(proto::ListStorageClassesResponse {
            storage_classes,
            next_page_token,
        }))
    }

    async fn create_storage_class(
        &self,
        request: Request<proto::CreateStorageClassRequest>,
    ) -> Result<Response<proto::StorageClass>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let create = CreateRequest {
            parent: r.parent,
            id: r.storage_class_id,
            message: r.storage_class,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            collection::create(&self.classes, &context, &create).await?,
        ))
    }

    async fn update_storage_class(
        &self,
        request: Request<proto::UpdateStorageClassRequest>,
    ) -> Result<Response<proto::StorageClass>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let update = UpdateRequest {
            message: r.storage_class,
            mask: r.update_mask,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            collection::update(&self.classes, &context, &update).await?,
        ))
    }

    async fn delete_storage_class(
        &self,
        request: Request<proto::DeleteStorageClassRequest>,
    ) -> Result<Response<proto::StorageClass>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let withdrawal = if r.force {
            Withdrawal::Forced
        } else {
            Withdrawal::Unused
        };
        let classes = Classes {
            withdrawal,
            ..self.classes.clone()
        };
        let delete = DeleteRequest {
            name: r.name,
            etag: r.etag,
            allow_missing: r.allow_missing,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            collection::delete(&classes, &context, &self.clock, &delete).await?,
        ))
    }

    async fn watch_storage_classes(
        &self,
        request: Request<proto::WatchStorageClassesRequest>,
    ) -> Result<Response<Self::WatchStorageClassesStream>, Status> {
        let context = CallContext::from_request(&request);
        let r = request.into_inner();
        let watch = WatchRequest {
            parent: r.parent,
            filter: r.filter,
            resume_token: r.resume_token,
        };
        let events = collection::watch(&self.classes, &context, &watch).await?;
        Ok(Response::new(Box::pin(events.map(|event| {
            let event = event?;
            Ok(proto::WatchStorageClassesResponse {
                r#type: event.kind.into(),
                storage_class: event.message,
                resume_token: event.resume_token,
            })
        }))))
    }
}
