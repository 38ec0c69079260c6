//! Resource names (AIP-122): full paths, each a type of its own.
//!
//! A name that exists as a value is valid, so nothing behind the API edge checks one again. Every name knows the
//! Kubernetes object that it stands for (`object_name`, and `namespace` below a cluster), and the types that
//! are found in the infra cluster can be read back from their object's name.
//!
//! | name | object in the infra cluster |
//! |---|---|
//! | `projects/p` | cluster-scoped `p` |
//! | `projects/p/clusters/c` | cluster-scoped `p--c`, and namespace `p--c` |
//! | `projects/p/clusters/c/machinePools/x` (machines, volumes, …) | `x` in namespace `p--c` |
//! | `projects/p/machineTemplates/t` | `p--t` |
//! | `instanceTypes/i` and `projects/p/instanceTypes/i` (preferences, images, policies) | `i` and `p--i` |

mod catalogue;
mod cluster;
mod form;
mod macros;
mod resource;
mod top;

pub use catalogue::{
    CatalogueKind, ImageName, InstanceTypeName, MachineTemplateName, PlacementPolicyName, PreferenceName, Scope,
    pinned_name, unpinned_name,
};
pub use cluster::{ClusterName, LoadBalancerName, MachineName, MachinePoolName, SnapshotName, VolumeName};
pub use form::{NameError, SEPARATOR};
pub use resource::{NoParent, ParentName, ResourceName, Within};
pub use top::{InfraNodeName, MaintenanceName, ProjectName, StorageClassName};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_survive_a_round_trip() -> Result<(), NameError> {
        let text = "projects/acme/clusters/web/machinePools/workers";
        let name: MachinePoolName = text.parse()?;
        assert_eq!(name.to_string(), text);
        assert_eq!(name.namespace(), "acme--web");
        assert_eq!(name.object_name(), "workers");
        assert_eq!(name.cluster.to_string(), "projects/acme/clusters/web");
        Ok(())
    }

    #[test]
    fn wrong_collections_and_shapes_are_refused() {
        for bad in [
            "",
            "projects",
            "projects/",
            "projects/acme/",
            "/projects/acme",
            "projects/acme/cluster/web",
            "projects/acme/clusters/web/extra",
            "projects/acme/clusters/we--b",
            "projects//clusters/web",
            "projects/ACME/clusters/web",
        ] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn catalogue_names_have_two_scopes() -> Result<(), NameError> {
        let shared: InstanceTypeName = "instanceTypes/u1.medium".parse()?;
        assert_eq!(
            (shared.object_name(), shared.scope.clone()),
            ("u1.medium".to_owned(), Scope::Shared)
        );
        let own: InstanceTypeName = "projects/acme/instanceTypes/big".parse()?;
        assert_eq!(own.object_name(), "acme--big");
        assert_eq!(own.to_string(), "projects/acme/instanceTypes/big");
        assert_eq!(InstanceTypeName::from_object_name("acme--big"), Some(own));
        assert_eq!(InstanceTypeName::from_object_name("u1.medium"), Some(shared));
        assert!("images/u1.medium".parse::<InstanceTypeName>().is_err());
        Ok(())
    }

    #[test]
    fn errors_name_the_segment() {
        let error = "projects/acme/clusters/Web"
            .parse::<ClusterName>()
            .map_err(|e| e.describe());
        assert_eq!(
            error,
            Err("cluster in projects/{project}/clusters/{cluster} is not valid: \"Web\" must match [a-z]([a-z0-9-]*[a-z0-9])? without `--`".into())
        );
    }

    const ID: &str = "[a-z]([a-z0-9]|-[a-z0-9]){0,12}";

    proptest! {
        #[test]
        fn cluster_names_map_to_objects_and_back(project in ID, cluster in ID) {
            let name: ClusterName = format!("projects/{project}/clusters/{cluster}").parse()?;
            prop_assert!(name.namespace().len() <= 63);
            prop_assert_eq!(ClusterName::from_namespace(&name.namespace()), Some(name));
        }

        #[test]
        fn templates_map_to_objects_and_back(project in ID, id in ID) {
            let name: MachineTemplateName = format!("projects/{project}/machineTemplates/{id}").parse()?;
            prop_assert_eq!(MachineTemplateName::from_object_name(&name.object_name()), Some(name));
        }

        #[test]
        fn parsing_never_panics(text in "[a-z/-]{0,60}") {
            let _ = (text.parse::<MachineName>(), text.parse::<ImageName>(), text.parse::<ProjectName>());
        }

        #[test]
        fn what_parses_prints_as_it_was(text in "projects/[a-z-]{1,4}/clusters/[a-z-]{1,4}/volumes/[a-z0-9-]{1,6}") {
            if let Ok(name) = text.parse::<VolumeName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
