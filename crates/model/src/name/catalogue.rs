//! Names of the catalogue: kinds that are shared by everybody or a project's own, and machine templates.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{CatalogueId, Id},
    name::{
        NameError, ProjectName, SEPARATOR,
        form::split_object_name,
        macros::{resource_name, text_conversions},
        resource::{ParentName, Within},
    },
};

/// Whose a catalogue entry is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Made by the operator for everybody.
    Shared,
    /// A project's own.
    Project(Id),
}

impl Scope {
    /// The scope of a `parent` field: empty is shared, else a project's name.
    ///
    /// # Errors
    /// If `parent` is neither empty nor a project's name.
    pub fn parse_parent(parent: &str) -> Result<Self, NameError> {
        if parent.is_empty() {
            Ok(Self::Shared)
        } else {
            Ok(Self::Project(parent.parse::<ProjectName>()?.project))
        }
    }

    /// The project, if it is a project's own.
    pub fn project(&self) -> Option<&Id> {
        match self {
            Self::Shared => None,
            Self::Project(project) => Some(project),
        }
    }

    /// The `parent` that lists this scope: empty or a project's name.
    pub fn parent(&self) -> String {
        match self {
            Self::Shared => String::new(),
            Self::Project(project) => format!("projects/{project}"),
        }
    }

    /// Whether a project may use an entry of this scope: shared ones and its own.
    pub fn visible_to(&self, project: &Id) -> bool {
        self.project().is_none_or(|own| own == project)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parent())
    }
}

impl std::str::FromStr for Scope {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse_parent(text)
    }
}

/// The kinds that can be shared or a project's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CatalogueKind {
    /// Sizes of machines.
    InstanceType,
    /// Defaults for guests.
    Preference,
    /// Boot disks.
    Image,
    /// Where machines may be placed.
    PlacementPolicy,
}

macro_rules! catalogue_name {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $kind_text:literal, $collection:literal, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name {
            /// Whose it is.
            pub scope: Scope,
            /// Its own id.
            pub id: CatalogueId,
        }

        text_conversions!($name, $kind_text, $pattern);
        // A new entry has a stricter id than those that others made.
        resource_name!($name, Id, Scope, |name| name.scope.clone(), |scope, id| Self::new(scope.clone(), id), |_| None);

        impl $name {
            /// The kind as a value.
            pub const CATALOGUE_KIND: CatalogueKind = CatalogueKind::$kind;

            /// The name of `id` in `scope`.
            pub fn new(scope: Scope, id: impl Into<CatalogueId>) -> Self {
                Self { scope, id: id.into() }
            }

            /// Name of the Kubernetes object: the id, below a project `<project>--<id>`.
            pub fn object_name(&self) -> String {
                match &self.scope {
                    Scope::Shared => self.id.to_string(),
                    Scope::Project(project) => format!("{project}{SEPARATOR}{}", self.id),
                }
            }

            /// The name that an object stands for; `None` if its name is none of ours.
            pub fn from_object_name(name: &str) -> Option<Self> {
                match split_object_name(name) {
                    Some((project, id)) => Some(Self::new(Scope::Project(project), CatalogueId::parse(id).ok()?)),
                    None => Some(Self::new(Scope::Shared, CatalogueId::parse(name).ok()?)),
                }
            }

            fn parse_segments(text: &str, segments: &[&str]) -> Result<Self, NameError> {
                let (scope, id) = match segments {
                    [$collection, id] => (Scope::Shared, id),
                    ["projects", project, $collection, id] => {
                        (Scope::Project(Id::parse(*project).map_err(Self::segment_error("project"))?), id)
                    }
                    _ => return Err(Self::pattern_error(text)),
                };
                Ok(Self::new(scope, CatalogueId::parse(*id).map_err(Self::segment_error("id"))?))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if let Scope::Project(project) = &self.scope {
                    write!(f, "projects/{project}/")?;
                }
                write!(f, concat!($collection, "/{}"), self.id)
            }
        }
    };
}

catalogue_name! {
    /// An instance type: the size of a machine.
    InstanceTypeName, InstanceType, "InstanceType", "instanceTypes", "[projects/{project}/]instanceTypes/{id}"
}
catalogue_name! {
    /// A preference: defaults for a guest.
    PreferenceName, Preference, "Preference", "preferences", "[projects/{project}/]preferences/{id}"
}
catalogue_name! {
    /// An image: what a boot disk is cloned from.
    ImageName, Image, "Image", "images", "[projects/{project}/]images/{id}"
}
catalogue_name! {
    /// A placement policy: where machines may be.
    PlacementPolicyName, PlacementPolicy, "PlacementPolicy", "placementPolicies", "[projects/{project}/]placementPolicies/{id}"
}

/// How the name of a pinned object begins.
const PINNED: &str = "pinned";

/// Name of the object that keeps what a catalogue object was at some time. It is the name of no catalogue entry: an id has
/// no `--`, and this has two of them.
pub fn pinned_name(object: &str, digest: &str) -> String {
    format!("{PINNED}{SEPARATOR}{object}{SEPARATOR}{digest}")
}

/// Name of the catalogue object that a pinned one was made from; other names are their own.
pub fn unpinned_name(object: &str) -> &str {
    object
        .strip_prefix(PINNED)
        .and_then(|rest| rest.strip_prefix(SEPARATOR))
        .and_then(|rest| rest.rsplit_once(SEPARATOR))
        .map_or(object, |(name, _)| name)
}

/// A machine template of a project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineTemplateName {
    /// The project that owns the template.
    pub project: Id,
    /// The template's id.
    pub template: Id,
}

text_conversions!(
    MachineTemplateName,
    "MachineTemplate",
    "projects/{project}/machineTemplates/{template}"
);
resource_name!(
    MachineTemplateName,
    Id,
    ProjectName,
    Self::project_name,
    |parent, id| Self::new(parent.project.clone(), id),
    |_| None
);

impl MachineTemplateName {
    /// The template `template` of `project`.
    pub fn new(project: Id, template: Id) -> Self {
        Self { project, template }
    }

    /// The project's name.
    pub fn project_name(&self) -> ProjectName {
        ProjectName::new(self.project.clone())
    }

    /// Name of the (cluster-scoped) MachineTemplate object.
    pub fn object_name(&self) -> String {
        format!("{}{SEPARATOR}{}", self.project, self.template)
    }

    /// The template that an object stands for; `None` if its name is none of ours.
    pub fn from_object_name(name: &str) -> Option<Self> {
        let (project, template) = split_object_name(name)?;
        Some(Self::new(project, Id::parse(template).ok()?))
    }

    fn parse_segments(text: &str, segments: &[&str]) -> Result<Self, NameError> {
        let ["projects", project, "machineTemplates", template] = segments else {
            return Err(Self::pattern_error(text));
        };
        let project = Id::parse(*project).map_err(Self::segment_error("project"))?;
        Ok(Self::new(
            project,
            Id::parse(*template).map_err(Self::segment_error("template"))?,
        ))
    }
}

impl fmt::Display for MachineTemplateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "projects/{}/machineTemplates/{}", self.project, self.template)
    }
}

impl ParentName for Scope {
    const KIND: &'static str = ProjectName::KIND;

    fn project(&self) -> Option<&Id> {
        Self::project(self)
    }

    fn namespace(&self) -> Option<String> {
        None
    }

    fn parse_within(text: &str) -> Result<Within<Self>, NameError> {
        text.parse().map(Within::One)
    }
}
