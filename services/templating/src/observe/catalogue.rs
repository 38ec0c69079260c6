//! Looking up what templates refer to.

use kube::{Api, Client, ResourceExt};
use steading_infra::{
    cdi::DataSource,
    crd::machine_template::MachineTemplateSpec,
    kubevirt::{VirtualMachineClusterInstancetype, VirtualMachineClusterPreference},
    labels,
};
use steading_model::ids::Id;

use super::{
    entry::content,
    image::{read_spec, read_status},
    index::Observed,
};
use crate::{
    domain::Resolved,
    error::Error,
    plan::resolve::{Catalogue, References, defaults, references, resolve},
};

/// Checks a template of `project` whole and looks up what it refers to, on the API server.
///
/// # Errors
/// If it breaks a rule or refers to something that does not exist, or the API server does not answer.
pub async fn check(kube: &Client, project: &Id, spec: &MachineTemplateSpec) -> Result<Resolved, Error> {
    let mut catalogue = Catalogue::default();
    read(kube, &references(project, spec), &mut catalogue).await?;
    read(kube, &defaults(project, spec, &catalogue), &mut catalogue).await?;
    resolve(project, spec, &catalogue)
}

/// The same from what is seen.
///
/// # Errors
/// If it breaks a rule or refers to something that is not seen.
pub fn check_seen(seen: &Observed, project: &Id, spec: &MachineTemplateSpec) -> Result<Resolved, Error> {
    let mut catalogue = Catalogue::default();
    look(seen, &references(project, spec), &mut catalogue);
    look(seen, &defaults(project, spec, &catalogue), &mut catalogue);
    resolve(project, spec, &catalogue)
}

fn look(seen: &Observed, wanted: &References, catalogue: &mut Catalogue) {
    for name in &wanted.images {
        let found = seen.images.index().get(labels::SYSTEM_NAMESPACE, name);
        put_image(catalogue, name, found.as_deref());
    }
    if let Some(name) = &wanted.instance_type {
        let found = seen.instance_types.index().get("", name);
        let found = found.map(|entry| (name.clone(), entry.spec.clone()));
        catalogue.instance_types.extend(found);
    }
    if let Some(name) = &wanted.preference {
        let found = seen.preferences.index().get("", name);
        let found = found.map(|entry| (name.clone(), entry.spec.clone()));
        catalogue.preferences.extend(found);
    }
}

async fn read(kube: &Client, wanted: &References, catalogue: &mut Catalogue) -> Result<(), Error> {
    let images: Api<DataSource> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    for name in &wanted.images {
        let found = images.get_opt(name).await.map_err(Error::infra("Image", name))?;
        put_image(catalogue, name, found.as_ref());
    }
    let types: Api<VirtualMachineClusterInstancetype> = Api::all(kube.clone());
    if let Some(name) = &wanted.instance_type {
        let found = types.get_opt(name).await.map_err(Error::infra("InstanceType", name))?;
        let found = found.and_then(|object| Some((object.name_any(), content(&object.spec)?)));
        catalogue.instance_types.extend(found);
    }
    let preferences: Api<VirtualMachineClusterPreference> = Api::all(kube.clone());
    if let Some(name) = &wanted.preference {
        let found = preferences
            .get_opt(name)
            .await
            .map_err(Error::infra("Preference", name))?;
        let found = found.and_then(|object| Some((object.name_any(), content(&object.spec)?)));
        catalogue.preferences.extend(found);
    }
    Ok(())
}

fn put_image(catalogue: &mut Catalogue, name: &str, found: Option<&DataSource>) {
    let found = found.filter(|object| object.metadata.deletion_timestamp.is_none());
    let found = found.and_then(|object| Some((read_spec(object)?, read_status(object))));
    catalogue.images.extend(found.map(|found| (name.to_owned(), found)));
}
