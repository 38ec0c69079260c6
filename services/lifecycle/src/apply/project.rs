//! What a project owns besides its clusters: read and deleted as it is, without a type for each kind.

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Preconditions},
};
use steading_infra::{error::InfraError, labels};

use crate::{context::Context, error::Error, plan::project::is_of_project};

/// Where objects of a kind are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Cluster,
    System,
}

/// The kinds of a catalogue: group, version, kind, plural, place. Templates come first, as they name the others.
const KINDS: [(&str, &str, &str, &str, Place); 7] = [
    (
        "steading.dev",
        "v1alpha1",
        "MachineTemplate",
        "machinetemplates",
        Place::Cluster,
    ),
    (
        "steading.dev",
        "v1alpha1",
        "PlacementPolicy",
        "placementpolicies",
        Place::Cluster,
    ),
    (
        "instancetype.kubevirt.io",
        "v1beta1",
        "VirtualMachineClusterInstancetype",
        "virtualmachineclusterinstancetypes",
        Place::Cluster,
    ),
    (
        "instancetype.kubevirt.io",
        "v1beta1",
        "VirtualMachineClusterPreference",
        "virtualmachineclusterpreferences",
        Place::Cluster,
    ),
    ("apps", "v1", "ControllerRevision", "controllerrevisions", Place::System),
    ("cdi.kubevirt.io", "v1beta1", "DataSource", "datasources", Place::System),
    ("cdi.kubevirt.io", "v1beta1", "DataVolume", "datavolumes", Place::System),
];
/// Objects in one page.
const PAGE: u32 = 500;

/// An object of a project's catalogue, as it was just read.
#[derive(Debug, Clone)]
pub struct CatalogueObject {
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Whether its deletion was asked for.
    pub terminating: bool,
    uid: Option<String>,
    api: Api<DynamicObject>,
}

/// Everything that is a project's own. A kind that the infra cluster does not have holds nothing.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn catalogue(context: &Context, project: &str) -> Result<Vec<CatalogueObject>, Error> {
    let mut all = Vec::new();
    for (group, version, kind, plural, place) in KINDS {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let api: Api<DynamicObject> = match place {
            Place::Cluster => Api::all_with(context.kube.clone(), &resource),
            Place::System => Api::namespaced_with(context.kube.clone(), labels::SYSTEM_NAMESPACE, &resource),
        };
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let found = match api.list_metadata(&page).await.map_err(InfraError::from) {
                Ok(found) => found,
                Err(InfraError::NotFound(_)) => break,
                Err(error) => return Err(error.into()),
            };
            let own = found.items.iter().filter(|one| {
                let label = one.labels().get(labels::PROJECT).map(String::as_str);
                is_of_project(project, label, &one.name_any())
            });
            all.extend(own.map(|one| CatalogueObject {
                kind,
                name: one.name_any(),
                terminating: one.metadata.deletion_timestamp.is_some(),
                uid: one.uid(),
                api: api.clone(),
            }));
            match found.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(all)
}

/// Deletes an object that was just read, if it is still the same.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn delete(object: &CatalogueObject) -> Result<(), Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: object.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    match object.api.delete(&object.name, &params).await.map_err(InfraError::from) {
        Ok(_) | Err(InfraError::NotFound(_) | InfraError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
