//! The collection of instance types.

use kube::{Api, Client, ResourceExt};
use steading_api::{error::RpcError, templating::v1 as proto};
use steading_infra::kubevirt::VirtualMachineClusterInstancetype;
use steading_model::name::{InstanceTypeName, Scope, Within};
use steading_runtime::standard::{Collection, Keys, Writable};

use super::{
    convert::instance_type,
    metadata::{KEYS, Said, in_scope, is_labelled, refuse_provided, stamp},
};
use crate::{
    error::Error,
    observe::usage::{refuse_if_used, revisions_using},
};

/// Instance types as objects of the infra cluster.
#[derive(Clone)]
pub struct InstanceTypes {
    /// The infra cluster.
    pub kube: Client,
}

impl Collection for InstanceTypes {
    type Object = VirtualMachineClusterInstancetype;
    type Resource = proto::InstanceType;
    type Name = InstanceTypeName;

    const KEYS: Keys = KEYS;

    fn api(&self, _: Option<&str>) -> Api<Self::Object> {
        Api::all(self.kube.clone())
    }

    fn resource(&self, object: &Self::Object) -> Option<proto::InstanceType> {
        let name = InstanceTypeName::from_object_name(&object.name_any())?;
        if !is_labelled(&object.metadata, &name.scope) {
            return None;
        }
        instance_type::instance_type(object, &serde_json::to_value(&object.spec).ok()?)
    }

    fn selector(&self, within: &Within<Scope>) -> String {
        in_scope(within)
    }
}

impl Writable for InstanceTypes {
    async fn object(
        &self,
        name: &InstanceTypeName,
        resource: &proto::InstanceType,
        current: Option<&Self::Object>,
    ) -> Result<Self::Object, RpcError> {
        let spec = instance_type::instance_type_spec(resource).map_err(|violations| Error::Invalid {
            field: "instance_type",
            violations,
        })?;
        let spec = serde_json::from_value(spec).map_err(|_| RpcError::internal())?;
        let mut object = Self::Object::new(&name.object_name(), spec);
        if let Some(current) = current {
            object.metadata = current.metadata.clone();
        }
        let said = Said {
            labels: &resource.labels,
            annotations: &resource.annotations,
            display_name: &resource.display_name,
            description: &resource.description,
        };
        stamp(&mut object.metadata, &name.scope, &said);
        Ok(object)
    }

    fn guard(&self, current: &Self::Object) -> Result<(), RpcError> {
        let name = InstanceTypeName::from_object_name(&current.name_any());
        let name = name.map_or_else(|| current.name_any(), |name| name.to_string());
        Ok(refuse_provided(InstanceTypeName::KIND, name, &current.metadata)?)
    }

    async fn before_delete(&self, name: &InstanceTypeName, _: &Self::Object, _: bool) -> Result<(), RpcError> {
        let name = name.to_string();
        let users = revisions_using(&self.kube, |revision| {
            let resolved = revision.resolved.instance_type.as_ref().map(|entry| &entry.name);
            resolved.or(revision.template.instance_type.as_ref()) == Some(&name)
        })
        .await?;
        Ok(refuse_if_used(InstanceTypeName::KIND, name, users)?)
    }
}
