//! `CatalogService`.

use kube::Client;
use steading_api::templating::v1::{self as proto, catalog_service_server::CatalogService};
use steading_runtime::{
    clock::Clock,
    standard::{Methods, ResponseStream},
};
use tonic::{Request, Response, Status};

use super::{images::Images, instance_types::InstanceTypes, preferences::Preferences};

/// The service.
#[derive(Clone)]
pub struct CatalogApi {
    instance_types: Methods<InstanceTypes>,
    preferences: Methods<Preferences>,
    images: Methods<Images>,
}

impl CatalogApi {
    /// The service on an infra cluster.
    pub fn new(kube: &Client, clock: &Clock) -> Self {
        Self {
            instance_types: Methods::new(InstanceTypes { kube: kube.clone() }, clock.clone()),
            preferences: Methods::new(Preferences { kube: kube.clone() }, clock.clone()),
            images: Methods::new(Images { kube: kube.clone() }, clock.clone()),
        }
    }
}

#[tonic::async_trait]
impl CatalogService for CatalogApi {
    type WatchInstanceTypesStream = ResponseStream<proto::WatchInstanceTypesResponse>;
    type WatchPreferencesStream = ResponseStream<proto::WatchPreferencesResponse>;
    type WatchImagesStream = ResponseStream<proto::WatchImagesResponse>;

    async fn get_instance_type(
        &self,
        request: Request<proto::GetInstanceTypeRequest>,
    ) -> Result<Response<proto::InstanceType>, Status> {
        self.instance_types.get(request).await
    }

    async fn list_instance_types(
        &self,
        request: Request<proto::ListInstanceTypesRequest>,
    ) -> Result<Response<proto::ListInstanceTypesResponse>, Status> {
        self.instance_types.list(request).await
    }

    async fn create_instance_type(
        &self,
        request: Request<proto::CreateInstanceTypeRequest>,
    ) -> Result<Response<proto::InstanceType>, Status> {
        self.instance_types.create(request).await
    }

    async fn update_instance_type(
        &self,
        request: Request<proto::UpdateInstanceTypeRequest>,
    ) -> Result<Response<proto::InstanceType>, Status> {
        self.instance_types.update(request).await
    }

    async fn delete_instance_type(
        &self,
        request: Request<proto::DeleteInstanceTypeRequest>,
    ) -> Result<Response<proto::InstanceType>, Status> {
        self.instance_types.delete(request).await
    }

    async fn watch_instance_types(
        &self,
        request: Request<proto::WatchInstanceTypesRequest>,
    ) -> Result<Response<Self::WatchInstanceTypesStream>, Status> {
        self.instance_types.watch(request).await
    }

    async fn get_preference(
        &self,
        request: Request<proto::GetPreferenceRequest>,
    ) -> Result<Response<proto::Preference>, Status> {
        self.preferences.get(request).await
    }

    async fn list_preferences(
        &self,
        request: Request<proto::ListPreferencesRequest>,
    ) -> Result<Response<proto::ListPreferencesResponse>, Status> {
        self.preferences.list(request).await
    }

    async fn create_preference(
        &self,
        request: Request<proto::CreatePreferenceRequest>,
    ) -> Result<Response<proto::Preference>, Status> {
        self.preferences.create(request).await
    }

    async fn update_preference(
        &self,
        request: Request<proto::UpdatePreferenceRequest>,
    ) -> Result<Response<proto::Preference>, Status> {
        self.preferences.update(request).await
    }

    async fn delete_preference(
        &self,
        request: Request<proto::DeletePreferenceRequest>,
    ) -> Result<Response<proto::Preference>, Status> {
        self.preferences.delete(request).await
    }

    async fn watch_preferences(
        &self,
        request: Request<proto::WatchPreferencesRequest>,
    ) -> Result<Response<Self::WatchPreferencesStream>, Status> {
        self.preferences.watch(request).await
    }

    async fn get_image(&self, request: Request<proto::GetImageRequest>) -> Result<Response<proto::Image>, Status> {
        self.images.get(request).await
    }

    async fn list_images(
        &self,
        request: Request<proto::ListImagesRequest>,
    ) -> Result<Response<proto::ListImagesResponse>, Status> {
        self.images.list(request).await
    }

    async fn create_image(
        &self,
        request: Request<proto::CreateImageRequest>,
    ) -> Result<Response<proto::Image>, Status> {
        self.images.create(request).await
    }

    async fn update_image(
        &self,
        request: Request<proto::UpdateImageRequest>,
    ) -> Result<Response<proto::Image>, Status> {
        self.images.update(request).await
    }

    async fn delete_image(
        &self,
        request: Request<proto::DeleteImageRequest>,
    ) -> Result<Response<proto::Image>, Status> {
        self.images.delete(request).await
    }

    async fn watch_images(
        &self,
        request: Request<proto::WatchImagesRequest>,
    ) -> Result<Response<Self::WatchImagesStream>, Status> {
        self.images.watch(request).await
    }

    async fn refresh_image(
        &self,
        request: Request<proto::RefreshImageRequest>,
    ) -> Result<Response<proto::Image>, Status> {
        self.images.act(request).await
    }
}
