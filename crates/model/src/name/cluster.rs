//! Names of tenant clusters and of all that lives in a tenant cluster's namespace.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{Id, ObjectId, ServiceId},
    name::{
        NameError, ProjectName, SEPARATOR,
        form::split_object_name,
        macros::{resource_name, text_conversions},
        resource::{ParentName, WILDCARD, Within},
    },
};

/// A tenant cluster of a project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName {
    /// The project that owns the cluster.
    pub project: Id,
    /// The cluster's id.
    pub cluster: Id,
}

text_conversions!(ClusterName, "Cluster", "projects/{project}/clusters/{cluster}");
resource_name!(
    ClusterName,
    Id,
    ProjectName,
    Self::project_name,
    |parent, id| Self::new(parent.project.clone(), id),
    |_| None
);

impl ClusterName {
    /// The cluster `cluster` of `project`.
    pub fn new(project: Id, cluster: Id) -> Self {
        Self { project, cluster }
    }

    /// The project's name.
    pub fn project_name(&self) -> ProjectName {
        ProjectName::new(self.project.clone())
    }

    /// Namespace of everything that belongs to the cluster.
    pub fn namespace(&self) -> String {
        format!("{}{SEPARATOR}{}", self.project, self.cluster)
    }

    /// Name of the (cluster-scoped) Cluster object; the same as the namespace's.
    pub fn object_name(&self) -> String {
        self.namespace()
    }

    /// The cluster that owns a namespace; `None` if the namespace is none of ours.
    pub fn from_namespace(namespace: &str) -> Option<Self> {
        let (project, cluster) = split_object_name(namespace)?;
        Some(Self::new(project, Id::parse(cluster).ok()?))
    }

    /// The cluster that an object stands for; `None` if its name is none of ours.
    pub fn from_object_name(name: &str) -> Option<Self> {
        Self::from_namespace(name)
    }

    fn parse_segments(text: &str, segments: &[&str]) -> Result<Self, NameError> {
        let ["projects", project, "clusters", cluster] = segments else {
            return Err(Self::pattern_error(text));
        };
        let project = Id::parse(*project).map_err(Self::segment_error("project"))?;
        Ok(Self::new(
            project,
            Id::parse(*cluster).map_err(Self::segment_error("cluster"))?,
        ))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "projects/{}/clusters/{}", self.project, self.cluster)
    }
}

macro_rules! cluster_child {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $collection:literal, $id:ty, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name {
            /// The tenant cluster that it belongs to.
            pub cluster: ClusterName,
            /// Its own id.
            pub id: $id,
        }

        text_conversions!($name, $kind, $pattern);
        resource_name!(
            $name,
            $id,
            ClusterName,
            |name| name.cluster.clone(),
            |cluster, id| Self::new(cluster.clone(), id),
            |name| Some(Self::namespace(name))
        );

        impl $name {
            /// The name of `id` below `cluster`.
            pub fn new(cluster: ClusterName, id: $id) -> Self {
                Self { cluster, id }
            }

            /// Namespace of the Kubernetes object.
            pub fn namespace(&self) -> String {
                self.cluster.namespace()
            }

            /// Name of the Kubernetes object within the namespace.
            pub fn object_name(&self) -> String {
                self.id.to_string()
            }

            /// The name that an object stands for; `None` if namespace or name is none of ours.
            pub fn from_object(namespace: &str, name: &str) -> Option<Self> {
                Some(Self::new(ClusterName::from_namespace(namespace)?, <$id>::parse(name).ok()?))
            }

            fn parse_segments(text: &str, segments: &[&str]) -> Result<Self, NameError> {
                let ["projects", project, "clusters", cluster, $collection, id] = segments else {
                    return Err(Self::pattern_error(text));
                };
                let project = Id::parse(*project).map_err(Self::segment_error("project"))?;
                let cluster = Id::parse(*cluster).map_err(Self::segment_error("cluster"))?;
                let id = <$id>::parse(*id).map_err(Self::segment_error("id"))?;
                Ok(Self::new(ClusterName::new(project, cluster), id))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{}/", $collection, "/{}"), self.cluster, self.id)
            }
        }
    };
}

cluster_child! {
    /// A pool of like machines.
    MachinePoolName, "MachinePool", "machinePools", Id,
    "projects/{project}/clusters/{cluster}/machinePools/{id}"
}
cluster_child! {
    /// A machine: the VirtualMachine, its hostname and the tenant Node share the id.
    MachineName, "Machine", "machines", ObjectId,
    "projects/{project}/clusters/{cluster}/machines/{id}"
}
cluster_child! {
    /// A volume: a DataVolume and its claim.
    VolumeName, "Volume", "volumes", ObjectId,
    "projects/{project}/clusters/{cluster}/volumes/{id}"
}
cluster_child! {
    /// A snapshot of a volume.
    SnapshotName, "Snapshot", "snapshots", ObjectId,
    "projects/{project}/clusters/{cluster}/snapshots/{id}"
}
cluster_child! {
    /// A load balancer: the infra Service of a tenant Service.
    LoadBalancerName, "LoadBalancer", "loadBalancers", ServiceId,
    "projects/{project}/clusters/{cluster}/loadBalancers/{id}"
}

impl ParentName for ClusterName {
    const KIND: &'static str = Self::KIND;

    fn project(&self) -> Option<&Id> {
        Some(&self.project)
    }

    fn namespace(&self) -> Option<String> {
        Some(Self::namespace(self))
    }

    fn parse_within(text: &str) -> Result<Within<Self>, NameError> {
        match text.split('/').collect::<Vec<_>>().as_slice() {
            ["projects", WILDCARD, "clusters", WILDCARD] => Ok(Within::Everywhere),
            ["projects", project, "clusters", WILDCARD] => {
                let project: ProjectName = format!("projects/{project}").parse()?;
                Ok(Within::Project(project.project))
            }
            _ => text.parse().map(Within::One),
        }
    }
}
