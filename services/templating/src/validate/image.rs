//! Which images are valid. The same rules hold for those that `kubectl` wrote.

use steading_model::{
    name::{InstanceTypeName, PreferenceName, Scope},
    violation::Violations,
};

use super::{
    amount::disk_size,
    source::{claim_name, claim_of, http_source, registry_source},
};
use crate::domain::ImageSpec;

/// Checks an image of a scope.
///
/// # Errors
/// Every rule that it breaks.
pub fn image(scope: &Scope, spec: &ImageSpec) -> Result<(), Violations> {
    let mut all = Violations::new();
    let sources = [spec.http.is_some(), spec.registry.is_some(), spec.pvc.is_some()];
    all.require(
        sources.into_iter().filter(|set| *set).count() == 1,
        "source",
        "must be exactly one of http, registry and pvc",
    );
    if let Some(source) = &spec.http {
        http_source(&mut all, "http", source);
        no_secret(&mut all, scope, "http.secret", source.secret.iter());
        no_secret(
            &mut all,
            scope,
            "http.secret_extra_headers",
            source.secret_extra_headers.iter(),
        );
    }
    if let Some(source) = &spec.registry {
        registry_source(&mut all, "registry", source);
        no_secret(&mut all, scope, "registry.secret", source.secret.iter());
    }
    if let Some(claim) = &spec.pvc {
        match scope {
            Scope::Project(project) => claim_of(&mut all, "pvc", project, claim),
            Scope::Shared => {
                all.require(!claim.namespace.is_empty(), "pvc.namespace", "must be set");
                claim_name(&mut all, "pvc", claim);
            }
        }
    }
    disk_size(&mut all, "size", &spec.size);
    if !spec.default_instance_type.is_empty() {
        all.take(
            "default_instance_type",
            spec.default_instance_type.parse::<InstanceTypeName>(),
        );
    }
    if !spec.default_preference.is_empty() {
        all.take("default_preference", spec.default_preference.parse::<PreferenceName>());
    }
    all.finish()
}

/// Golden disks are imported in the system namespace, so CDI would read a Secret of Steading's or the operator's there and
/// send it to an address that the project chose.
fn no_secret<'a>(all: &mut Violations, scope: &Scope, path: &str, mut names: impl Iterator<Item = &'a String>) {
    let project = scope.project().is_some();
    all.require(
        !(project && names.next().is_some()),
        path,
        "can only be set for shared images: it names a Secret of the system namespace",
    );
}

#[cfg(test)]
mod tests {
    use steading_infra::crd::machine_template::{HttpSource, PvcSource, RegistrySource};
    use steading_model::ids::Id;

    use super::*;

    fn paths(scope: &Scope, spec: &ImageSpec) -> Vec<String> {
        image(scope, spec).err().into_iter().flatten().map(|v| v.path).collect()
    }

    #[test]
    fn a_projects_image_may_not_name_secrets_of_the_system_namespace() {
        let project = Scope::Project(Id::parse("shop").expect("an id"));
        let http = ImageSpec {
            size: "1Gi".into(),
            http: Some(HttpSource {
                url: "https://collector.example.test".into(),
                secret: Some("lifecycle-token".into()),
                secret_extra_headers: vec!["lifecycle-token".into()],
                ..HttpSource::default()
            }),
            ..ImageSpec::default()
        };
        assert_eq!(paths(&project, &http), ["http.secret", "http.secret_extra_headers"]);
        assert_eq!(paths(&Scope::Shared, &http), [""; 0]);
        let registry = ImageSpec {
            size: "1Gi".into(),
            registry: Some(RegistrySource {
                url: "docker://collector.example.test/x".into(),
                secret: Some("lifecycle-token".into()),
                ..RegistrySource::default()
            }),
            ..ImageSpec::default()
        };
        assert_eq!(paths(&project, &registry), ["registry.secret"]);
    }

    #[test]
    fn a_projects_image_clones_only_the_projects_claims() {
        let spec = |namespace: &str| ImageSpec {
            size: "1Gi".into(),
            pvc: Some(PvcSource {
                namespace: namespace.into(),
                name: "data".into(),
            }),
            ..ImageSpec::default()
        };
        let project = Scope::Project(Id::parse("shop").expect("an id"));
        assert_eq!(paths(&project, &spec("shop--prod")), [""; 0]);
        assert_eq!(paths(&project, &spec("other--prod")), ["pvc.namespace"]);
        assert_eq!(paths(&Scope::Shared, &spec("golden")), [""; 0]);
    }

    #[test]
    fn sizes_of_images_are_bounded() {
        for size in ["512m", "1E", "x", ""] {
            let spec = ImageSpec {
                size: size.into(),
                http: Some(HttpSource {
                    url: "https://a".into(),
                    ..HttpSource::default()
                }),
                ..ImageSpec::default()
            };
            assert_eq!(paths(&Scope::Shared, &spec), ["size"], "{size}");
        }
    }
}
