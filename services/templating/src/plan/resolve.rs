//! What a template refers to, found among what the catalogue has.

use std::collections::BTreeMap;

use serde_json::Value;
use steading_infra::crd::machine_template::MachineTemplateSpec;
use steading_model::{
    ids::Id,
    name::{ImageName, InstanceTypeName, NameError, PreferenceName, Scope},
};

use crate::{
    domain::{
        ImageSpec, ImageStatus, Resolved, Size,
        machine::{CatalogueEntry, ResolvedImage},
    },
    error::Error,
    validate::{validate, validate_resolved},
};

/// What the catalogue has of what a template may refer to, by the names of objects. What is not in it does not exist.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalogue {
    /// Images that are not being deleted.
    pub images: BTreeMap<String, (ImageSpec, ImageStatus)>,
    /// Contents of instance types, with sorted keys.
    pub instance_types: BTreeMap<String, Value>,
    /// Contents of preferences, with sorted keys.
    pub preferences: BTreeMap<String, Value>,
}

/// Names of the objects that a template refers to by itself: what must be looked up first. What a project may not see and
/// what is no name is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Images.
    pub images: Vec<String>,
    /// The instance type.
    pub instance_type: Option<String>,
    /// The preference.
    pub preference: Option<String>,
}

/// What a template of `project` names.
pub fn references(project: &Id, spec: &MachineTemplateSpec) -> References {
    let of_disks = spec.disks.iter().filter_map(|disk| disk.image.as_ref());
    let images = spec.root_disk.image.iter().chain(of_disks);
    let images = images.filter_map(|name| name.parse::<ImageName>().ok());
    let mut images: Vec<String> = images
        .filter(|name| name.scope.visible_to(project))
        .map(|name| name.object_name())
        .collect();
    images.sort();
    images.dedup();
    References {
        images,
        instance_type: spec
            .instance_type
            .as_deref()
            .and_then(|name| type_object(project, name)),
        preference: spec
            .preference
            .as_deref()
            .and_then(|name| preference_object(project, name)),
    }
}

/// What a template gets by the image of its root disk, besides what it names itself.
pub fn defaults(project: &Id, spec: &MachineTemplateSpec, images: &Catalogue) -> References {
    let root = spec.root_disk.image.as_deref();
    let root = root.and_then(|name| name.parse::<ImageName>().ok());
    let Some((image, _)) = root.and_then(|name| images.images.get(&name.object_name())) else {
        return References::default();
    };
    let kind = Some(image.default_instance_type.as_str()).filter(|_| wants_default_type(spec));
    let preference = Some(image.default_preference.as_str()).filter(|_| spec.preference.is_none());
    References {
        images: Vec::new(),
        instance_type: kind.and_then(|name| type_object(project, name)),
        preference: preference.and_then(|name| preference_object(project, name)),
    }
}

/// A template with a size of its own takes none from its image.
fn wants_default_type(spec: &MachineTemplateSpec) -> bool {
    spec.instance_type.is_none() && spec.memory.is_none()
}

fn type_object(project: &Id, name: &str) -> Option<String> {
    let name: InstanceTypeName = name.parse().ok()?;
    name.scope.visible_to(project).then(|| name.object_name())
}

fn preference_object(project: &Id, name: &str) -> Option<String> {
    let name: PreferenceName = name.parse().ok()?;
    name.scope.visible_to(project).then(|| name.object_name())
}

/// Checks a template of `project` whole, and finds what it refers to. Defaults of the image are filled in.
///
/// # Errors
/// If it breaks a rule or refers to something that does not exist.
pub fn resolve(project: &Id, spec: &MachineTemplateSpec, catalogue: &Catalogue) -> Result<Resolved, Error> {
    let invalid = |violations| Error::Invalid {
        field: "machine_template",
        violations,
    };
    validate(project, spec).map_err(invalid)?;
    let resolved = find(project, spec, catalogue)?;
    validate_resolved(spec, &resolved).map_err(invalid)?;
    Ok(resolved)
}

fn find(project: &Id, spec: &MachineTemplateSpec, catalogue: &Catalogue) -> Result<Resolved, Error> {
    let mut resolved = Resolved::default();
    let mut of_root = ImageSpec::default();
    if let Some(name) = &spec.root_disk.image {
        let (image, spec) = find_image(project, "root_disk.image", name, catalogue)?;
        resolved.images.insert(name.clone(), image);
        of_root = spec;
    }
    for (index, disk) in spec.disks.iter().enumerate() {
        if let Some(name) = disk.image.as_ref().filter(|name| !resolved.images.contains_key(*name)) {
            let (image, _) = find_image(project, &format!("disks[{index}].image"), name, catalogue)?;
            resolved.images.insert(name.clone(), image);
        }
    }
    let default = |text: String| Some(text).filter(|text| !text.is_empty());
    let kind = spec.instance_type.clone();
    let kind = kind.or_else(|| default(of_root.default_instance_type).filter(|_| wants_default_type(spec)));
    if let Some(name) = kind {
        let parsed: InstanceTypeName = parsed("instance_type", &name)?;
        let (scope, object) = (&parsed.scope, parsed.object_name());
        let found = find_entry(
            project,
            "instance_type",
            "InstanceType",
            (&name, scope),
            object,
            &catalogue.instance_types,
        )?;
        if Size::from_instancetype_spec(&found.spec).is_none() {
            return Err(missing("instance_type", "InstanceType", &name));
        }
        resolved.instance_type = Some(found);
    }
    if let Some(name) = spec.preference.clone().or_else(|| default(of_root.default_preference)) {
        let parsed: PreferenceName = parsed("preference", &name)?;
        let (scope, object) = (&parsed.scope, parsed.object_name());
        resolved.preference = Some(find_entry(
            project,
            "preference",
            "Preference",
            (&name, scope),
            object,
            &catalogue.preferences,
        )?);
    }
    Ok(resolved)
}

fn missing(path: &str, kind: &'static str, name: &str) -> Error {
    Error::Reference {
        path: format!("machine_template.{path}"),
        kind,
        name: name.to_owned(),
    }
}

fn parsed<N: std::str::FromStr<Err = NameError>>(path: &str, name: &str) -> Result<N, Error> {
    name.parse().map_err(|source| Error::Name {
        path: path.to_owned(),
        source,
    })
}

fn find_image(
    project: &Id,
    path: &str,
    name: &str,
    catalogue: &Catalogue,
) -> Result<(ResolvedImage, ImageSpec), Error> {
    let parsed: ImageName = parsed(path, name)?;
    let found = catalogue.images.get(&parsed.object_name());
    // What the project may not see does not exist for it.
    let found = found.filter(|_| parsed.scope.visible_to(project));
    let (spec, status) = found.ok_or_else(|| missing(path, "Image", name))?;
    // What can be cloned now; before the first import has ended, what it brings.
    let content = Some(status.content.clone()).filter(|content| !content.is_empty());
    let image = ResolvedImage {
        data_source: parsed.object_name(),
        content: content.unwrap_or_else(|| spec.content_id()),
        size: spec.size.clone(),
    };
    Ok((image, spec.clone()))
}

fn find_entry(
    project: &Id,
    path: &str,
    kind: &'static str,
    (name, scope): (&str, &Scope),
    object: String,
    entries: &BTreeMap<String, Value>,
) -> Result<CatalogueEntry, Error> {
    let found = entries.get(&object).filter(|_| scope.visible_to(project));
    let spec = found.cloned().ok_or_else(|| missing(path, kind, name))?;
    Ok(CatalogueEntry {
        name: name.to_owned(),
        object,
        spec,
    })
}

/// Name and content of the first image content of a revision that no longer exists. `is_there` says whether a golden disk
/// is there to stay, `wanted` which content an image's DataSource asks for: that one is or will be imported.
pub fn content_gone(
    resolved: &Resolved,
    is_there: impl Fn(&str) -> bool,
    wanted: impl Fn(&str) -> Option<String>,
) -> Option<(&str, &ResolvedImage)> {
    let gone = |image: &ResolvedImage| {
        !is_there(&image.volume()) && wanted(&image.data_source).as_deref() != Some(image.content.as_str())
    };
    let images = resolved.images.iter();
    images
        .map(|(name, image)| (name.as_str(), image))
        .find(|(_, image)| gone(image))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use steading_infra::crd::machine_template::RootDiskSpec;

    use super::*;

    fn mk_project() -> Id {
        Id::parse("acme").expect("an id")
    }

    fn mk_spec(image: &str) -> MachineTemplateSpec {
        MachineTemplateSpec {
            root_disk: RootDiskSpec {
                image: Some(image.into()),
                size: Some("20Gi".into()),
                ..RootDiskSpec::default()
            },
            ..MachineTemplateSpec::default()
        }
    }

    fn mk_catalogue() -> Catalogue {
        let image = |project: &str| ImageSpec {
            size: "2Gi".into(),
            default_instance_type: "instanceTypes/small".into(),
            default_preference: format!("{project}preferences/linux"),
            ..ImageSpec::default()
        };
        Catalogue {
            images: [
                ("ubuntu".to_owned(), (image(""), ImageStatus::default())),
                ("other--ubuntu".to_owned(), (image(""), ImageStatus::default())),
            ]
            .into(),
            instance_types: [(
                "small".to_owned(),
                json!({"cpu": {"guest": 2}, "memory": {"guest": "4Gi"}}),
            )]
            .into(),
            preferences: [("linux".to_owned(), json!({}))].into(),
        }
    }

    #[test]
    fn an_image_gives_what_the_template_leaves_open() {
        let (project, catalogue) = (mk_project(), mk_catalogue());
        let spec = mk_spec("images/ubuntu");
        let resolved = resolve(&project, &spec, &catalogue).expect("valid");
        assert_eq!(resolved.instance_type.expect("a type").object, "small");
        assert_eq!(resolved.preference.expect("a preference").object, "linux");
        let wanted = defaults(&project, &spec, &catalogue);
        assert_eq!(wanted.instance_type.as_deref(), Some("small"));
        let sized = MachineTemplateSpec {
            memory: Some("1Gi".into()),
            ..spec
        };
        assert_eq!(defaults(&project, &sized, &catalogue).instance_type, None);
    }

    #[test]
    fn what_a_project_may_not_see_does_not_exist_for_it() {
        let spec = mk_spec("projects/other/images/ubuntu");
        assert_eq!(references(&mk_project(), &spec).images, [""; 0]);
        let error = resolve(&mk_project(), &spec, &mk_catalogue()).expect_err("another project's");
        assert!(!error.is_unknown(), "{error}");
    }

    #[test]
    fn a_content_that_will_be_imported_is_not_gone() {
        let (project, catalogue) = (mk_project(), mk_catalogue());
        let resolved = resolve(&project, &mk_spec("images/ubuntu"), &catalogue).expect("valid");
        let wanted = catalogue.images["ubuntu"].0.content_id();
        assert_eq!(content_gone(&resolved, |_| false, |_| Some(wanted.clone())), None);
        assert_eq!(content_gone(&resolved, |_| true, |_| None), None);
        assert!(content_gone(&resolved, |_| false, |_| Some("another".into())).is_some());
    }
}
