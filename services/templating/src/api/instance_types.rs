//! The collection of instance types.

use kube::{Api, ResourceExt};
use steading_api::{error::RpcError, templating::v1 as proto};
use steading_infra::{kubevirt::VirtualMachineClusterInstancetype, labels};
use steading_model::name::InstanceTypeName;
use steading_runtime::collection::{Collection, Keys, Scope};

use super::{
    Infra, KEYS, catalogue_scope,
    convert::{self, instance_type as convert_type},
    new_entry, stamp,
};
use crate::{
    error::Error,
    observe::usage::{refuse_if_used, revisions_using},
};

/// Instance types as objects of the infra cluster.
#[derive(Clone)]
pub struct InstanceTypes(pub Infra);

fn parse(name: &str) -> Result<InstanceTypeName, RpcError> {
    name.parse().map_err(|e| RpcError::invalid_name("name", &e))
}

impl Collection for InstanceTypes {
    type Object = VirtualMachineClusterInstancetype;
    type Message = proto::InstanceType;

    const KIND: &'static str = "InstanceType";
    const MESSAGE: &'static str = "steading.templating.v1.InstanceType";
    const FIELD: &'static str = "instance_type";
    const KEYS: Keys = KEYS;

    fn api(&self, _: &str) -> Result<Api<Self::Object>, RpcError> {
        Ok(Api::all(self.0.kube.clone()))
    }

    fn scope(&self, parent: &str) -> Result<Scope, RpcError> {
        catalogue_scope(parent)
    }

    fn object_name(&self, name: &str) -> Result<String, RpcError> {
        Ok(parse(name)?.object_name())
    }

    fn name_in(&self, parent: &str, id: &str) -> Result<String, RpcError> {
        let (scope, id) = new_entry(parent, "instance_type_id", id)?;
        Ok(InstanceTypeName::new(scope, id).to_string())
    }

    fn identity<'a>(&self, message: &'a proto::InstanceType) -> (&'a str, &'a str) {
        (&message.name, &message.etag)
    }

    fn message(&self, object: &Self::Object) -> Option<proto::InstanceType> {
        let name = InstanceTypeName::from_object_name(&object.name_any())?;
        if name.scope.project().map(steading_model::ids::Id::as_str)
            != object.labels().get(labels::PROJECT).map(String::as_str)
        {
            return None;
        }
        convert_type::instance_type(object, &serde_json::to_value(&object.spec).ok()?)
    }

    async fn object(
        &self,
        name: &str,
        message: &proto::InstanceType,
        current: Option<&Self::Object>,
    ) -> Result<Self::Object, RpcError> {
        let name = parse(name)?;
        let spec = convert_type::instance_type_spec(message).map_err(|violations| Error::Invalid {
            field: "instance_type",
            violations,
        })?;
        let spec = serde_json::from_value(spec).map_err(|_| RpcError::internal())?;
        let mut object = Self::Object::new(&name.object_name(), spec);
        if let Some(current) = current {
            object.metadata = current.metadata.clone();
        }
        let texts = (message.display_name.as_str(), message.description.as_str());
        stamp(
            &mut object.metadata,
            &name.scope,
            (&message.labels, &message.annotations),
            texts,
        );
        Ok(object)
    }

    fn guard(&self, current: &Self::Object) -> Result<(), RpcError> {
        let owner = match convert::origin(&current.metadata) {
            proto::CatalogueOrigin::Steading => "the standard catalogue",
            proto::CatalogueOrigin::Cluster => "the infra cluster",
            proto::CatalogueOrigin::Project | proto::CatalogueOrigin::Shared | proto::CatalogueOrigin::Unspecified => {
                return Ok(());
            }
        };
        let name = InstanceTypeName::from_object_name(&current.name_any());
        let name = name.map_or_else(|| current.name_any(), |n| n.to_string());
        Err(Error::ReadOnly {
            kind: Self::KIND,
            name,
            owner,
        }
        .into())
    }

    async fn before_delete(&self, current: &Self::Object) -> Result<(), RpcError> {
        let Some(name) = InstanceTypeName::from_object_name(&current.name_any()) else {
            return Ok(());
        };
        let name = name.to_string();
        let users = revisions_using(&self.0.kube, |revision| {
            let resolved = revision.resolved.instance_type.as_ref().map(|entry| &entry.name);
            resolved.or(revision.template.instance_type.as_ref()) == Some(&name)
        })
        .await?;
        Ok(refuse_if_used(Self::KIND, name, users)?)
    }
}
