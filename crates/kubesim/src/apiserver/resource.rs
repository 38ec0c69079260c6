//! What the server serves: one [`ResourceDef`] for a resource, built in or from a CustomResourceDefinition.

use std::sync::Arc;

use serde_json::Value;

use super::rules::Rules;

/// Whether objects live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `metadata.namespace` is empty.
    Cluster,
    /// Every object has a namespace.
    Namespaced,
}

/// Where a resource comes from; built-in ones have strategic merge and need no CRD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A type that Kubernetes itself compiles in.
    BuiltIn,
    /// A type that a real cluster would have by somebody's CRD, known to the server from the start.
    Preset,
    /// A type made by a CustomResourceDefinition object.
    Custom,
}

/// A column of `kubectl get`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Header.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: String,
    /// JSONPath below the object, as `.status.phase`.
    pub path: String,
    /// 0 always shown, more only with `-o wide`.
    pub priority: i64,
}

/// Where `scale` finds its numbers, as dotted paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// As `.spec.replicas`.
    pub spec: String,
    /// As `.status.replicas`.
    pub status: String,
    /// As `.status.selector`.
    pub selector: String,
}

/// One version of a resource.
#[derive(Clone, Debug)]
pub struct VersionDef {
    /// As `v1alpha1`.
    pub name: String,
    /// OpenAPI v3 structural schema, where known.
    pub schema: Option<Arc<Value>>,
    /// The schema's CEL rules.
    pub rules: Option<Rules>,
    /// Has the status subresource.
    pub status: bool,
    /// Has the scale subresource.
    pub scale: Option<ScalePaths>,
    /// Extra columns.
    pub columns: Vec<Column>,
    /// Field paths that may be selected on besides name and namespace.
    pub selectable: Vec<String>,
}

/// One resource.
#[derive(Clone, Debug)]
pub struct ResourceDef {
    /// API group, empty for the core group.
    pub group: String,
    /// Served versions, preferred first; objects are stored as the `storage` one.
    pub versions: Vec<VersionDef>,
    /// Name of the version that objects are stored as.
    pub storage: String,
    /// As `pods`.
    pub plural: String,
    /// As `pod`.
    pub singular: String,
    /// As `Pod`.
    pub kind: String,
    /// As `PodList`.
    pub list_kind: String,
    /// As `po`.
    pub short_names: Vec<String>,
    /// As `all`.
    pub categories: Vec<String>,
    /// In namespaces or not.
    pub scope: Scope,
    /// Where it comes from.
    pub origin: Origin,
    /// Answered, never stored (reviews).
    pub virtual_only: bool,
}

impl ResourceDef {
    /// A built-in resource in one version, with the usual singular and list kind.
    pub fn built_in(group: &str, version: &str, plural: &str, kind: &str, scope: Scope) -> Self {
        Self {
            group: group.to_owned(),
            versions: vec![VersionDef {
                name: version.to_owned(),
                schema: None,
                rules: None,
                status: false,
                scale: None,
                columns: Vec::new(),
                selectable: Vec::new(),
            }],
            storage: version.to_owned(),
            plural: plural.to_owned(),
            singular: kind.to_ascii_lowercase(),
            kind: kind.to_owned(),
            list_kind: format!("{kind}List"),
            short_names: Vec::new(),
            categories: Vec::new(),
            scope,
            origin: Origin::BuiltIn,
            virtual_only: false,
        }
    }

    /// A resource that is known without a CustomResourceDefinition object but behaves as one that came with it, and has no schema.
    pub fn preset(group: &str, version: &str, plural: &str, kind: &str, scope: Scope) -> Self {
        Self {
            origin: Origin::Preset,
            ..Self::built_in(group, version, plural, kind, scope)
        }
    }

    /// With these short names, separated by commas.
    #[must_use]
    pub fn with_short_names(mut self, names: &str) -> Self {
        self.short_names = words(names);
        self
    }

    /// In these categories, separated by commas.
    #[must_use]
    pub fn with_categories(mut self, categories: &str) -> Self {
        self.categories = words(categories);
        self
    }

    /// With the status subresource in every version so far.
    #[must_use]
    pub fn with_status(mut self) -> Self {
        for version in &mut self.versions {
            version.status = true;
        }
        self
    }

    /// With the scale subresource at the usual paths in every version so far.
    #[must_use]
    pub fn with_scale(mut self) -> Self {
        for version in &mut self.versions {
            version.scale = Some(ScalePaths {
                spec: ".spec.replicas".to_owned(),
                status: ".status.replicas".to_owned(),
                selector: ".status.labelSelector".to_owned(),
            });
        }
        self
    }

    /// With these columns in every version so far.
    #[must_use]
    pub fn with_columns(mut self, columns: Vec<Column>) -> Self {
        for version in &mut self.versions {
            version.columns.clone_from(&columns);
        }
        self
    }

    /// Also served in another version, which differs from the first in its name alone.
    #[must_use]
    pub fn with_version(mut self, name: &str) -> Self {
        if let Some(first) = self.versions.first() {
            self.versions.push(VersionDef {
                name: name.to_owned(),
                ..first.clone()
            });
        }
        self
    }

    /// `plural` or `plural.group`, as error messages say it.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// The served version of that name.
    pub fn version(&self, name: &str) -> Option<&VersionDef> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// The stored version, if it is served (else the first served one).
    pub fn stored(&self) -> Option<&VersionDef> {
        self.version(&self.storage).or_else(|| self.versions.first())
    }

    /// `group/version`, or `version` in the core group.
    pub fn api_version(&self, version: &str) -> String {
        api_version(&self.group, version)
    }

    /// Whether objects live in namespaces.
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether writes to the main resource leave `status` alone.
    pub fn has_status(&self) -> bool {
        self.versions.iter().any(|version| version.status)
    }

    /// Whether `metadata.generation` is kept.
    pub fn has_generation(&self) -> bool {
        self.origin != Origin::BuiltIn
            || (self.has_status()
                && !matches!(
                    self.plural.as_str(),
                    "namespaces"
                        | "nodes"
                        | "persistentvolumes"
                        | "persistentvolumeclaims"
                        | "resourcequotas"
                        | "services"
                ))
    }
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(',').filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// `group/version`, or `version` in the core group.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}
