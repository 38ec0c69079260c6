//! The collection of images.

use kube::{Api, ResourceExt, api::PostParams};
use steading_api::{error::RpcError, templating::v1 as proto, types::v1::ErrorReason};
use steading_infra::{cdi::DataSource, labels};
use steading_model::{name::ImageName, violation::Violations};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    collection::{Collection, Keys, Scope, kube_error},
};

use super::{Infra, KEYS, annotation, catalogue_scope, convert::image as convert_image, new_entry, stamp};
use crate::{
    domain::image::{ImageSpec, SPEC_ANNOTATION},
    error::Error,
    observe::{
        image::{pointing_at, read_spec, read_status},
        usage::{refuse_if_used, revisions_using},
    },
    validate,
};

/// Annotation: request id of the last refresh, so that a repeated request refreshes once.
const REFRESH_REQUEST: &str = "steading.dev/refresh-request-id";

/// Images as objects of the infra cluster.
#[derive(Clone)]
pub struct Images(pub Infra);

fn parse(name: &str) -> Result<ImageName, RpcError> {
    name.parse().map_err(|e| RpcError::invalid_name("name", &e))
}

fn write_spec(object: &mut DataSource, spec: &ImageSpec) -> Result<(), RpcError> {
    let text = serde_json::to_string(spec).map_err(|_| RpcError::internal())?;
    object
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(SPEC_ANNOTATION.into(), text);
    Ok(())
}

impl Images {
    /// Asks for the content to be imported again.
    ///
    /// # Errors
    /// If the image does not exist or changed meanwhile, or the caller may not.
    pub async fn refresh(
        &self,
        context: &CallContext,
        request: &proto::RefreshImageRequest,
    ) -> Result<proto::Image, RpcError> {
        let name = request.name.as_str();
        let object_name = self.object_name(name)?;
        if !request.request_id.is_empty() && uuid::Uuid::try_parse(&request.request_id).is_err() {
            return Err(Violations::one("request_id", "must be a UUID").into());
        }
        context
            .authorize(Action::new(Verb::Custom("refresh"), Self::KIND, name))
            .await?;
        let api = self.api(name)?;
        let found = api
            .get_opt(&object_name)
            .await
            .map_err(|e| kube_error(Self::KIND, name, &e))?;
        let mut object = found.ok_or_else(|| RpcError::not_found(Self::KIND, name))?;
        let before = self
            .message(&object)
            .ok_or_else(|| RpcError::not_found(Self::KIND, name))?;
        if !request.request_id.is_empty() && annotation(&object.metadata, REFRESH_REQUEST) == request.request_id {
            return Ok(before);
        }
        if !request.etag.is_empty() && request.etag != before.etag {
            return Err(RpcError::etag_mismatch(Self::KIND, name));
        }
        if object.metadata.deletion_timestamp.is_some() {
            return Err(RpcError::new(
                ErrorReason::ResourceDeleting,
                format!("{name} is being deleted"),
            ));
        }
        let mut spec = read_spec(&object).ok_or_else(|| Error::Unreadable(name.to_owned()))?;
        spec.refresh += 1;
        write_spec(&mut object, &spec)?;
        if !request.request_id.is_empty() {
            object
                .annotations_mut()
                .insert(REFRESH_REQUEST.into(), request.request_id.clone());
        }
        if !request.validate_only {
            let replaced = api.replace(&object_name, &PostParams::default(), &object).await;
            object = replaced.map_err(|e| kube_error(Self::KIND, name, &e))?;
            tracing::info!(image = name, "refresh asked for");
        }
        self.message(&object).ok_or_else(RpcError::internal)
    }
}

impl Collection for Images {
    type Object = DataSource;
    type Message = proto::Image;

    const KIND: &'static str = "Image";
    const MESSAGE: &'static str = "steading.templating.v1.Image";
    const FIELD: &'static str = "image";
    const KEYS: Keys = KEYS;

    fn api(&self, _: &str) -> Result<Api<DataSource>, RpcError> {
        Ok(Api::namespaced(self.0.kube.clone(), labels::SYSTEM_NAMESPACE))
    }

    fn scope(&self, parent: &str) -> Result<Scope, RpcError> {
        let mut scope = catalogue_scope(parent)?;
        scope.selector = format!("{},{}", labels::IMAGE, scope.selector);
        Ok(scope)
    }

    fn object_name(&self, name: &str) -> Result<String, RpcError> {
        Ok(parse(name)?.object_name())
    }

    fn name_in(&self, parent: &str, id: &str) -> Result<String, RpcError> {
        let (scope, id) = new_entry(parent, "image_id", id)?;
        Ok(ImageName::new(scope, id).to_string())
    }

    fn identity<'a>(&self, message: &'a proto::Image) -> (&'a str, &'a str) {
        (&message.name, &message.etag)
    }

    fn message(&self, object: &DataSource) -> Option<proto::Image> {
        convert_image::image(object)
    }

    async fn object(
        &self,
        name: &str,
        message: &proto::Image,
        current: Option<&DataSource>,
    ) -> Result<DataSource, RpcError> {
        let name = parse(name)?;
        let refresh = current.and_then(read_spec).map_or(0, |spec| spec.refresh);
        let spec = convert_image::image_spec(message, refresh);
        validate::image(&name.scope, &spec).map_err(|violations| Error::Invalid {
            field: "image",
            violations,
        })?;
        // What can be cloned goes on being cloned until the reconciler has the new content.
        let content = current
            .map(|c| read_status(c).content)
            .filter(|c| !c.is_empty())
            .unwrap_or_else(|| spec.content_id());
        let mut object = DataSource::new(&name.object_name(), pointing_at(&name.object_name(), &content));
        if let Some(current) = current {
            object.metadata = current.metadata.clone();
        }
        object.metadata.namespace = Some(labels::SYSTEM_NAMESPACE.into());
        stamp(
            &mut object.metadata,
            &name.scope,
            (&message.labels, &message.annotations),
            ("", ""),
        );
        object.labels_mut().insert(labels::IMAGE.into(), name.object_name());
        write_spec(&mut object, &spec)?;
        Ok(object)
    }

    async fn before_delete(&self, current: &DataSource) -> Result<(), RpcError> {
        let Some(name) = ImageName::from_object_name(&current.name_any()) else {
            return Ok(());
        };
        let name = name.to_string();
        let users = revisions_using(&self.0.kube, |revision| {
            let spec = &revision.template;
            let of_disks = spec.disks.iter().filter_map(|d| d.image.as_ref());
            spec.root_disk.image.iter().chain(of_disks).any(|image| *image == name)
        })
        .await?;
        Ok(refuse_if_used(Self::KIND, name, users)?)
    }
}
