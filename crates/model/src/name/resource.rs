//! What all resource names can do, what resources are below, and which of them a list or watch reads.

use std::{fmt, hash::Hash, str::FromStr};

use super::form::NameError;
use crate::ids::{Id, IdError};

/// Stands for any id where a list reads across parents (AIP-159).
pub(super) const WILDCARD: &str = "-";

/// What all resource names can do; for code that is generic over kinds.
pub trait ResourceName: fmt::Display + FromStr<Err = NameError> + Clone + Eq + Hash + Send + Sync + 'static {
    /// The kind as clients read it in `ResourceInfo`, such as `MachinePool`.
    const KIND: &'static str;
    /// The pattern, such as `projects/{project}`.
    const PATTERN: &'static str;
    /// What the resource is below.
    type Parent: ParentName;

    /// The name of a new resource.
    ///
    /// # Errors
    /// If new resources of this kind may not have the id.
    fn in_parent(parent: &Self::Parent, id: &str) -> Result<Self, IdError>;

    /// What it is below.
    fn parent(&self) -> Self::Parent;

    /// Name of the Kubernetes object.
    fn object_name(&self) -> String;

    /// Namespace of the Kubernetes object; `None` if it is cluster-scoped.
    fn namespace(&self) -> Option<String>;
}

/// What resources are below.
pub trait ParentName: fmt::Display + FromStr<Err = NameError> + Clone + Eq + Send + Sync + 'static {
    /// The kind as clients read it; empty where there is no parent.
    const KIND: &'static str;

    /// The project, if it is one or belongs to one.
    fn project(&self) -> Option<&Id>;

    /// Namespace of what is below it; `None` if that is cluster-scoped.
    fn namespace(&self) -> Option<String>;

    /// Reads the `parent` of a list or watch, which may have `-` for any id.
    ///
    /// # Errors
    /// If it is no such parent.
    fn parse_within(text: &str) -> Result<Within<Self>, NameError>;
}

/// What a list or watch reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Within<P> {
    /// What is below every parent.
    Everywhere,
    /// What is below every parent of one project.
    Project(Id),
    /// What is below one parent.
    One(P),
}

impl<P: ParentName> Within<P> {
    /// Whether it reads a resource of this name.
    pub fn contains<N: ResourceName<Parent = P>>(&self, name: &N) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Project(project) => name.parent().project() == Some(project),
            Self::One(parent) => name.parent() == *parent,
        }
    }

    /// The only namespace that it reads; `None` for all, or if the objects are cluster-scoped.
    pub fn namespace(&self) -> Option<String> {
        match self {
            Self::Everywhere | Self::Project(_) => None,
            Self::One(parent) => parent.namespace(),
        }
    }

    /// The only project that it reads.
    pub fn project(&self) -> Option<&Id> {
        match self {
            Self::Everywhere => None,
            Self::Project(project) => Some(project),
            Self::One(parent) => parent.project(),
        }
    }
}

/// The parent of what has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NoParent;

impl fmt::Display for NoParent {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

impl FromStr for NoParent {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Ok(Self);
        }
        Err(NameError::Pattern {
            text: text.to_owned(),
            pattern: "\"\"",
        })
    }
}

impl ParentName for NoParent {
    const KIND: &'static str = "";

    fn project(&self) -> Option<&Id> {
        None
    }

    fn namespace(&self) -> Option<String> {
        None
    }

    fn parse_within(text: &str) -> Result<Within<Self>, NameError> {
        text.parse().map(Within::One)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{ClusterName, ImageName, MachinePoolName};

    #[test]
    fn wildcards_say_what_a_list_reads() -> Result<(), NameError> {
        let pool: MachinePoolName = "projects/a/clusters/b/machinePools/c".parse()?;
        for (parent, contains) in [
            ("projects/-/clusters/-", true),
            ("projects/a/clusters/-", true),
            ("projects/a/clusters/b", true),
            ("projects/b/clusters/-", false),
            ("projects/a/clusters/c", false),
        ] {
            assert_eq!(ClusterName::parse_within(parent)?.contains(&pool), contains, "{parent}");
        }
        for wrong in ["projects/-/clusters/b", "projects/-", "", "projects/a/clusters/-/x"] {
            assert!(ClusterName::parse_within(wrong).is_err(), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn a_name_knows_its_parent() -> Result<(), NameError> {
        let image: ImageName = "projects/a/images/b".parse()?;
        assert_eq!(ResourceName::parent(&image).to_string(), "projects/a");
        assert_eq!(
            ImageName::in_parent(&"".parse()?, "b").map(|n| n.to_string()),
            Ok("images/b".to_owned())
        );
        let pool: MachinePoolName = "projects/a/clusters/b/machinePools/c".parse()?;
        assert_eq!(ResourceName::namespace(&pool).as_deref(), Some("a--b"));
        assert_eq!(
            MachinePoolName::in_parent(&pool.parent(), "d").map(|n| n.id.to_string()),
            Ok("d".to_owned())
        );
        assert!(MachinePoolName::in_parent(&pool.parent(), "D").is_err());
        Ok(())
    }
}
