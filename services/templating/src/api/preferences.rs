//! The collection of preferences.

use kube::{Api, Client, ResourceExt};
use steading_api::{error::RpcError, templating::v1 as proto};
use steading_infra::kubevirt::VirtualMachineClusterPreference;
use steading_model::name::{PreferenceName, Scope, Within};
use steading_runtime::standard::{Collection, Keys, Writable};

use super::{
    convert::preference,
    metadata::{KEYS, Said, in_scope, is_labelled, refuse_provided, stamp},
};
use crate::{
    error::Error,
    observe::usage::{refuse_if_used, revisions_using},
};

/// Preferences as objects of the infra cluster.
#[derive(Clone)]
pub struct Preferences {
    /// The infra cluster.
    pub kube: Client,
}

impl Collection for Preferences {
    type Object = VirtualMachineClusterPreference;
    type Resource = proto::Preference;
    type Name = PreferenceName;

    const KEYS: Keys = KEYS;

    fn api(&self, _: Option<&str>) -> Api<Self::Object> {
        Api::all(self.kube.clone())
    }

    fn resource(&self, object: &Self::Object) -> Option<proto::Preference> {
        let name = PreferenceName::from_object_name(&object.name_any())?;
        if !is_labelled(&object.metadata, &name.scope) {
            return None;
        }
        preference::preference(object, &serde_json::to_value(&object.spec).ok()?)
    }

    fn selector(&self, within: &Within<Scope>) -> String {
        in_scope(within)
    }
}

impl Writable for Preferences {
    async fn object(
        &self,
        name: &PreferenceName,
        resource: &proto::Preference,
        current: Option<&Self::Object>,
    ) -> Result<Self::Object, RpcError> {
        let spec = preference::preference_spec(resource).map_err(|violations| Error::Invalid {
            field: "preference",
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
        let name = PreferenceName::from_object_name(&current.name_any());
        let name = name.map_or_else(|| current.name_any(), |name| name.to_string());
        Ok(refuse_provided(PreferenceName::KIND, name, &current.metadata)?)
    }

    async fn before_delete(&self, name: &PreferenceName, _: &Self::Object, _: bool) -> Result<(), RpcError> {
        let name = name.to_string();
        let users = revisions_using(&self.kube, |revision| {
            let resolved = revision.resolved.preference.as_ref().map(|entry| &entry.name);
            resolved.or(revision.template.preference.as_ref()) == Some(&name)
        })
        .await?;
        Ok(refuse_if_used(PreferenceName::KIND, name, users)?)
    }
}
