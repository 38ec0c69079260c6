//! `CatalogService`.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use steading_api::templating::v1::{self as proto, catalog_service_server::CatalogService};
use steading_runtime::{
    CallContext,
    clock::Clock,
    collection::{self, CreateRequest, DeleteRequest, ListRequest, UpdateRequest, WatchRequest},
};
use tonic::{Request, Response, Status};

use super::{Infra, images::Images, instance_types::InstanceTypes, preferences::Preferences};

/// The service.
#[derive(Clone)]
pub struct CatalogApi {
    /// The infra cluster.
    pub infra: Infra,
    /// Time.
    pub clock: Clock,
}

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The six standard methods of one kind. Requests differ in the names of their fields only.
macro_rules! standard_methods {
    ($collection:ident, $kind:ident, $field:ident, $id:ident, $list:ident {
        $create:ident($create_request:ident), $get:ident($get_request:ident),
        $list_method:ident($list_request:ident, $list_response:ident), $update:ident($update_request:ident),
        $delete:ident($delete_request:ident), $watch:ident($watch_request:ident, $watch_response:ident),
    }) => {
        impl CatalogApi {
            async fn $create(
                &self,
                request: Request<proto::$create_request>,
            ) -> Result<Response<proto::$kind>, Status> {
                let context = CallContext::from_request(&request);
                let r = request.into_inner();
                let create = CreateRequest {
                    parent: r.parent,
                    id: r.$id,
                    message: r.$field,
                    request_id: r.request_id,
                    validate_only: r.validate_only,
                };
                Ok(Response::new(
                    collection::create(&$collection(self.infra.clone()), &context, &create).await?,
                ))
            }

            async fn $get(&self, request: Request<proto::$get_request>) -> Result<Response<proto::$kind>, Status> {
                let context = CallContext::from_request(&request);
                let name = &request.get_ref().name;
                Ok(Response::new(
                    collection::get(&$collection(self.infra.clone()), &context, name).await?,
                ))
            }

            async fn $list_method(
                &self,
                request: Request<proto::$list_request>,
            ) -> Result<Response<proto::$list_response>, Status> {
                let context = CallContext::from_request(&request);
                let r = request.into_inner();
                let list = ListRequest {
                    parent: r.parent,
                    page_size: r.page_size,
                    page_token: r.page_token,
                    filter: r.filter,
                    order_by: r.order_by,
                };
                let ($list, next_page_token) =
                    collection::list(&$collection(self.infra.clone()), &context, &list).await?;
                Ok(Response::new(proto::$list_response {
                    $list,
                    next_page_token,
                }))
            }

            async fn $update(
                &self,
                request: Request<proto::$update_request>,
            ) -> Result<Response<proto::$kind>, Status> {
                let context = CallContext::from_request(&request);
                let r = request.into_inner();
                let update = UpdateRequest {
                    message: r.$field,
                    mask: r.update_mask,
                    request_id: r.request_id,
                    validate_only: r.validate_only,
                };
                Ok(Response::new(
                    collection::update(&$collection(self.infra.clone()), &context, &update).await?,
                ))
            }

            async fn $delete(
                &self,
                request: Request<proto::$delete_request>,
            ) -> Result<Response<proto::$kind>, Status> {
                let context = CallContext::from_request(&request);
                let r = request.into_inner();
                let delete = DeleteRequest {
                    name: r.name,
                    etag: r.etag,
                    allow_missing: r.allow_missing,
                    request_id: r.request_id,
                    validate_only: r.validate_only,
                };
                let collection = $collection(self.infra.clone());
                Ok(Response::new(
                    collection::delete(&collection, &context, &self.clock, &delete).await?,
                ))
            }

            async fn $watch(
                &self,
                request: Request<proto::$watch_request>,
            ) -> Result<Response<ResponseStream<proto::$watch_response>>, Status> {
                let context = CallContext::from_request(&request);
                let r = request.into_inner();
                let watch = WatchRequest {
                    parent: r.parent,
                    filter: r.filter,
                    resume_token: r.resume_token,
                };
                let events = collection::watch(&$collection(self.infra.clone()), &context, &watch).await?;
                Ok(Response::new(Box::pin(events.map(|event| {
                    let event = event?;
                    Ok(proto::$watch_response {
                        r#type: event.kind.into(),
                        $field: event.message,
                        resume_token: event.resume_token,
                    })
                }))))
            }
        }
    };
}

standard_methods!(InstanceTypes, InstanceType, instance_type, instance_type_id, instance_types {
    do_create_instance_type(CreateInstanceTypeRequest), do_get_instance_type(GetInstanceTypeRequest),
    do_list_instance_types(ListInstanceTypesRequest, ListInstanceTypesResponse), do_update_instance_type(UpdateInstanceTypeRequest),
    do_delete_instance_type(DeleteInstanceTypeRequest), do_watch_instance_types(WatchInstanceTypesRequest, WatchInstanceTypesResponse),
});
standard_methods!(Preferences, Preference, preference, preference_id, preferences {
    do_create_preference(CreatePreferenceRequest), do_get_preference(GetPreferenceRequest),
    do_list_preferences(ListPreferencesRequest, ListPreferencesResponse), do_update_preference(UpdatePreferenceRequest),
    do_delete_preference(DeletePreferenceRequest), do_watch_preferences(WatchPreferencesRequest, WatchPreferencesResponse),
});
standard_methods!(Images, Image, image, image_id, images {
    do_create_image(CreateImageRequest), do_get_image(GetImageRequest),
    do_list_images(ListImagesRequest, ListImagesResponse), do_update_image(UpdateImageRequest),
    do_delete_image(DeleteImageRequest), do_watch_images(WatchImagesRequest, WatchImagesResponse),
});

#[tonic::async_trait]
impl CatalogService for CatalogApi {
    type WatchInstanceTypesStream = ResponseStream<proto::WatchInstanceTypesResponse>;
    type WatchPreferencesStream = ResponseStream<proto::WatchPreferencesResponse>;
    type WatchImagesStream = ResponseStream<proto::WatchImagesResponse>;

    async fn create_instance_type(
        &self,
        request: Request<proto::CreateInstanceTypeRequest>,
    ) -> Result<Response<proto::InstanceType>, Status> {
        self.do_create_instance_type(request).await
    }

    async fn get_instance_type(
        &self,
        request: Request<proto::GetInstanceTypeRequest>,
    ) -> Result<Response<proto::InstanceType>, Status> {
        self.do_get_instance_type(request).await
    }

    async fn list_instance_types(
        &self,
        request: Request<proto::ListInstanceTypesRequest>,
    ) -> Result<Response<proto::ListInstanceTypesResponse>, Status> {
        self.do_list_instance_types(request).await
    }

    async fn update_instance_type(
        &self,
        request: Request<proto::UpdateInstanceTypeRequest>,
    ) -> Result<Response<proto::InstanceType>, Status> {
        self.do_update_instance_type(request).await
    }

    async fn delete_instance_type(
        &self,
        request: Request<proto::DeleteInstanceTypeRequest>,
    ) -> Result<Response<proto::InstanceType>, Status> {
        self.do_delete_instance_type(request).await
    }

    async fn watch_instance_types(
        &self,
        request: Request<proto::WatchInstanceTypesRequest>,
    ) -> Result<Response<Self::WatchInstanceTypesStream>, Status> {
        self.do_watch_instance_types(request).await
    }

    async fn create_preference(
        &self,
        request: Request<proto::CreatePreferenceRequest>,
    ) -> Result<Response<proto::Preference>, Status> {
        self.do_create_preference(request).await
    }

    async fn get_preference(
        &self,
        request: Request<proto::GetPreferenceRequest>,
    ) -> Result<Response<proto::Preference>, Status> {
        self.do_get_preference(request).await
    }

    async fn list_preferences(
        &self,
        request: Request<proto::ListPreferencesRequest>,
    ) -> Result<Response<proto::ListPreferencesResponse>, Status> {
        self.do_list_preferences(request).await
    }

    async fn update_preference(
        &self,
        request: Request<proto::UpdatePreferenceRequest>,
    ) -> Result<Response<proto::Preference>, Status> {
        self.do_update_preference(request).await
    }

    async fn delete_preference(
        &self,
        request: Request<proto::DeletePreferenceRequest>,
    ) -> Result<Response<proto::Preference>, Status> {
        self.do_delete_preference(request).await
    }

    async fn watch_preferences(
        &self,
        request: Request<proto::WatchPreferencesRequest>,
    ) -> Result<Response<Self::WatchPreferencesStream>, Status> {
        self.do_watch_preferences(request).await
    }

    async fn create_image(
        &self,
        request: Request<proto::CreateImageRequest>,
    ) -> Result<Response<proto::Image>, Status> {
        self.do_create_image(request).await
    }

    async fn get_image(&self, request: Request<proto::GetImageRequest>) -> Result<Response<proto::Image>, Status> {
        self.do_get_image(request).await
    }

    async fn list_images(
        &self,
        request: Request<proto::ListImagesRequest>,
    ) -> Result<Response<proto::ListImagesResponse>, Status> {
        self.do_list_images(request).await
    }

    async fn update_image(
        &self,
        request: Request<proto::UpdateImageRequest>,
    ) -> Result<Response<proto::Image>, Status> {
        self.do_update_image(request).await
    }

    async fn delete_image(
        &self,
        request: Request<proto::DeleteImageRequest>,
    ) -> Result<Response<proto::Image>, Status> {
        self.do_delete_image(request).await
    }

    async fn watch_images(
        &self,
        request: Request<proto::WatchImagesRequest>,
    ) -> Result<Response<Self::WatchImagesStream>, Status> {
        self.do_watch_images(request).await
    }

    async fn refresh_image(
        &self,
        request: Request<proto::RefreshImageRequest>,
    ) -> Result<Response<proto::Image>, Status> {
        let context = CallContext::from_request(&request);
        Ok(Response::new(
            Images(self.infra.clone()).refresh(&context, request.get_ref()).await?,
        ))
    }
}
