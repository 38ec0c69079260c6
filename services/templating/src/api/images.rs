//! The collection of images.

use kube::{Api, Client, ResourceExt};
use steading_api::{error::RpcError, templating::v1 as proto};
use steading_infra::{cdi::DataSource, labels};
use steading_model::name::{ImageName, Scope, Within};
use steading_runtime::standard::{Acts, Collection, Decision, Keys, Writable};

use super::{
    convert::image as convert_image,
    metadata::{KEYS, Said, in_scope, stamp},
};
use crate::{
    domain::image::{ImageSpec, SPEC_ANNOTATION},
    error::Error,
    observe::{
        image::{pointing_at, read_spec, read_status},
        usage::{refuse_if_used, revisions_using},
    },
    validate,
};

/// Images as objects of the infra cluster.
#[derive(Clone)]
pub struct Images {
    /// The infra cluster.
    pub kube: Client,
}

fn written(spec: &ImageSpec) -> Result<String, RpcError> {
    serde_json::to_string(spec).map_err(|_| RpcError::internal())
}

impl Collection for Images {
    type Object = DataSource;
    type Resource = proto::Image;
    type Name = ImageName;

    const KEYS: Keys = KEYS;

    fn api(&self, _: Option<&str>) -> Api<DataSource> {
        Api::namespaced(self.kube.clone(), labels::SYSTEM_NAMESPACE)
    }

    fn resource(&self, object: &DataSource) -> Option<proto::Image> {
        convert_image::image(object)
    }

    fn selector(&self, within: &Within<Scope>) -> String {
        format!("{},{}", labels::IMAGE, in_scope(within))
    }

    fn intent(&self, object: &DataSource) -> String {
        let refreshes = read_spec(object).map_or(0, |spec| spec.refresh);
        refreshes.to_string()
    }
}

impl Writable for Images {
    async fn object(
        &self,
        name: &ImageName,
        resource: &proto::Image,
        current: Option<&DataSource>,
    ) -> Result<DataSource, RpcError> {
        let refresh = current.and_then(read_spec).map_or(0, |spec| spec.refresh);
        let spec = convert_image::image_spec(resource, refresh);
        validate::image(&name.scope, &spec).map_err(|violations| Error::Invalid {
            field: "image",
            violations,
        })?;
        // What can be cloned stays so until the reconciler has the new content.
        let content = current
            .map(|current| read_status(current).content)
            .filter(|content| !content.is_empty())
            .unwrap_or_else(|| spec.content_id());
        let object_name = name.object_name();
        let mut object = DataSource::new(&object_name, pointing_at(&object_name, &content));
        if let Some(current) = current {
            object.metadata = current.metadata.clone();
        }
        object.metadata.namespace = Some(labels::SYSTEM_NAMESPACE.into());
        let said = Said {
            labels: &resource.labels,
            annotations: &resource.annotations,
            display_name: "",
            description: "",
        };
        stamp(&mut object.metadata, &name.scope, &said);
        object.labels_mut().insert(labels::IMAGE.into(), object_name);
        object.annotations_mut().insert(SPEC_ANNOTATION.into(), written(&spec)?);
        Ok(object)
    }

    async fn before_delete(&self, name: &ImageName, _: &DataSource, _: bool) -> Result<(), RpcError> {
        let name = name.to_string();
        let users = revisions_using(&self.kube, |revision| {
            let spec = &revision.template;
            let of_disks = spec.disks.iter().filter_map(|disk| disk.image.as_ref());
            spec.root_disk.image.iter().chain(of_disks).any(|image| *image == name)
        })
        .await?;
        Ok(refuse_if_used(ImageName::KIND, name, users)?)
    }
}

impl Acts<proto::RefreshImageRequest> for Images {
    async fn decide(
        &self,
        _: &proto::RefreshImageRequest,
        name: &ImageName,
        current: &DataSource,
    ) -> Result<Decision, RpcError> {
        let mut spec = read_spec(current).ok_or_else(|| Error::Unreadable(name.to_string()))?;
        spec.refresh += 1;
        Ok(Decision::annotate([(SPEC_ANNOTATION, Some(written(&spec)?))]))
    }
}
