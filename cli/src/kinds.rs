//! The resource kinds, read from the contracts: which methods serve a kind and what its names look like.

pub mod texts;

use prost_reflect::{DescriptorPool, DynamicMessage, Kind as FieldKind, MessageDescriptor, MethodDescriptor, Value};

/// Short forms that people type; everything else is the singular or the collection, in any case.
const SHORT_FORMS: &[(&str, &str)] = &[
    ("it", "InstanceType"),
    ("pref", "Preference"),
    ("img", "Image"),
    ("mt", "MachineTemplate"),
    ("template", "MachineTemplate"),
    ("pp", "PlacementPolicy"),
    ("policy", "PlacementPolicy"),
    ("node", "InfraNode"),
    ("in", "InfraNode"),
    ("infra", "InfraCluster"),
    ("sc", "StorageClass"),
    ("vol", "Volume"),
    ("snap", "Snapshot"),
    ("proj", "Project"),
    ("cl", "Cluster"),
    ("mp", "MachinePool"),
    ("pool", "MachinePool"),
    ("m", "Machine"),
    ("mnt", "Maintenance"),
    ("lb", "LoadBalancer"),
];

/// One resource kind and the methods that serve it.
#[derive(Debug, Clone)]
pub struct Kind {
    /// CamelCase singular, the message's name: `MachinePool`.
    pub name: String,
    /// Last literal of the resource names: `machinePools`; of a singleton the name's own last segment: `infraCluster`.
    pub collection: String,
    /// Patterns of resource names, such as `projects/*/clusters/*/machinePools/*`, the shortest first.
    pub patterns: Vec<String>,
    /// Reads one.
    pub get: MethodDescriptor,
    /// Reads a page.
    pub list: Option<MethodDescriptor>,
    /// Creates one.
    pub create: Option<MethodDescriptor>,
    /// Updates one.
    pub update: Option<MethodDescriptor>,
    /// Deletes one.
    pub delete: Option<MethodDescriptor>,
    /// Streams changes.
    pub watch: Option<MethodDescriptor>,
}

impl Kind {
    /// The field of `request` that carries the resource, by its proto name.
    pub fn resource_field(&self, request: &MessageDescriptor) -> Option<String> {
        field_of_type(request, &self.get.output())
    }

    /// Whether there is one of the kind below each parent, with a name that needs no id (AIP-156).
    pub fn is_singleton(&self) -> bool {
        self.patterns.iter().all(|p| is_singleton(p))
    }

    /// Completes what a person typed to a resource name: a full name stays, an id takes its parents from `scope`, and a
    /// singleton needs no more than its parents.
    ///
    /// # Errors
    /// What is missing.
    pub fn complete_name(&self, typed: Option<&str>, scope: &Scope) -> Result<String, String> {
        match typed {
            Some(full) if self.patterns.iter().any(|p| matches_pattern(p, full)) => Ok(full.to_owned()),
            Some(wrong) if wrong.contains('/') || self.is_singleton() => Err(format!(
                "{wrong:?} is not the name of a {}: {}",
                self.name,
                self.forms()
            )),
            Some(id) => self
                .in_scope(scope)
                .map(|parent| join(&parent, &format!("{}/{id}", self.collection))),
            None if self.is_singleton() => self.in_scope(scope).map(|parent| join(&parent, &self.collection)),
            None => Err(format!("the name of one of the {} is missing", self.collection)),
        }
    }

    /// The parent in whose collection to list: what was typed, or what `scope` says.
    ///
    /// # Errors
    /// What is missing.
    pub fn complete_parent(&self, typed: Option<&str>, scope: &Scope) -> Result<String, String> {
        match typed {
            Some(typed) if self.patterns.iter().any(|p| matches_pattern(parent_of(p), typed)) => Ok(typed.to_owned()),
            Some(typed) => Err(format!(
                "{typed:?} cannot be the parent of {}: {}",
                self.collection,
                self.forms()
            )),
            None => self.in_scope(scope),
        }
    }

    /// Fills the longest pattern that `scope` suffices for.
    fn in_scope(&self, scope: &Scope) -> Result<String, String> {
        let mut missing = None;
        for pattern in self.patterns.iter().rev() {
            match scope.fill(parent_of(pattern)) {
                Ok(parent) => return Ok(parent),
                Err(what) => missing = Some(what),
            }
        }
        let what = missing.unwrap_or("--project");
        Err(format!(
            "{} belong to a parent: pass {what}, or give the full name ({})",
            self.collection,
            self.forms()
        ))
    }

    fn forms(&self) -> String {
        self.patterns.join(" or ")
    }
}

/// Parents given by flags or environment.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Project id.
    pub project: Option<String>,
    /// Cluster id.
    pub cluster: Option<String>,
}

impl Scope {
    fn fill(&self, pattern: &str) -> Result<String, &'static str> {
        let mut filled = Vec::new();
        let mut previous = "";
        for segment in pattern.split('/') {
            filled.push(match (segment, previous) {
                ("*", "projects") => self.project.as_deref().ok_or("--project")?,
                ("*", "clusters") => self.cluster.as_deref().ok_or("--cluster")?,
                ("*", _) => return Err("the full name"),
                _ => segment,
            });
            previous = segment;
        }
        Ok(filled.join("/"))
    }
}

/// All kinds of the contracts.
#[derive(Debug, Clone)]
pub struct Kinds {
    kinds: Vec<Kind>,
}

impl Kinds {
    /// Reads them from the descriptors: a kind is what has a `Get<Kind>` method that returns it.
    pub fn from_contracts(pool: &DescriptorPool) -> Self {
        let mut kinds = Vec::new();
        for service in pool.services() {
            for get in service.methods() {
                let resource = get.output();
                let name = resource.name().to_owned();
                let patterns = name_patterns(&get);
                let Some(collection) = patterns.first().and_then(|p| collection_of(p)) else {
                    continue;
                };
                if get.name() != format!("Get{name}") {
                    continue;
                }
                let find = |prefix: &str, accepts: &dyn Fn(&MethodDescriptor) -> bool| {
                    service.methods().find(|m| m.name().starts_with(prefix) && accepts(m))
                };
                let carries = |m: &MethodDescriptor| field_of_type(&m.output(), &resource).is_some();
                let returns = |m: &MethodDescriptor| m.name().ends_with(&name) && m.output() == resource;
                kinds.push(Kind {
                    list: find("List", &carries),
                    watch: find("Watch", &carries),
                    create: find("Create", &returns),
                    update: find("Update", &returns),
                    delete: find("Delete", &|m| m.name() == format!("Delete{name}")),
                    name,
                    collection,
                    patterns,
                    get,
                });
            }
        }
        kinds.sort_by(|a, b| a.name.cmp(&b.name));
        Self { kinds }
    }

    /// All kinds, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.iter()
    }

    /// The kind that a person means: singular, collection or short form, in any case.
    ///
    /// # Errors
    /// A sentence that names the kinds there are.
    pub fn find(&self, typed: &str) -> Result<&Kind, String> {
        let wanted = SHORT_FORMS
            .iter()
            .find(|(s, _)| s.eq_ignore_ascii_case(typed))
            .map_or(typed, |(_, kind)| kind);
        self.kinds
            .iter()
            .find(|k| {
                let plural_of_short = wanted
                    .strip_suffix('s')
                    .and_then(|w| SHORT_FORMS.iter().find(|(s, _)| s.eq_ignore_ascii_case(w)));
                k.name.eq_ignore_ascii_case(wanted)
                    || k.collection.eq_ignore_ascii_case(wanted)
                    || plural_of_short.is_some_and(|(_, kind)| k.name == *kind)
            })
            .ok_or_else(|| {
                let known: Vec<_> = self.kinds.iter().map(|k| k.collection.as_str()).collect();
                format!("there is no kind {typed:?}; the kinds are {}", known.join(", "))
            })
    }

    /// The kind of a full resource name.
    pub fn of_name(&self, name: &str) -> Option<&Kind> {
        self.kinds
            .iter()
            .find(|k| k.patterns.iter().any(|p| matches_pattern(p, name)))
    }
}

/// The parent of a resource name or pattern; empty for a top-level collection. The name of a singleton is its parent's and one
/// segment more, so that it has an odd number of them.
pub fn parent_of(name: &str) -> &str {
    if !name.matches('/').count().is_multiple_of(2) {
        return parent_of_member(name);
    }
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn parent_of_member(name: &str) -> &str {
    let mut cut = name.rmatch_indices('/').map(|(i, _)| i);
    cut.next();
    cut.next().map_or("", |i| name.get(..i).unwrap_or_default())
}

/// The id of a resource name.
pub fn id_of(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn join(parent: &str, rest: &str) -> String {
    if parent.is_empty() {
        rest.to_owned()
    } else {
        format!("{parent}/{rest}")
    }
}

fn collection_of(pattern: &str) -> Option<String> {
    let last_literal = pattern.rsplit('/').nth(usize::from(!is_singleton(pattern)));
    last_literal.map(ToOwned::to_owned)
}

/// A name that ends in a literal has no id of its own.
fn is_singleton(pattern: &str) -> bool {
    !pattern.ends_with('*')
}

fn matches_pattern(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.split('/'), name.split('/'));
    loop {
        match (pattern.next(), name.next()) {
            (None, None) => return true,
            (Some("*"), Some(segment)) if !segment.is_empty() => {}
            (Some(literal), Some(segment)) if literal == segment => {}
            _ => return false,
        }
    }
}

fn field_of_type(message: &MessageDescriptor, resource: &MessageDescriptor) -> Option<String> {
    message
        .fields()
        .find(|f| matches!(f.kind(), FieldKind::Message(m) if m == *resource))
        .map(|f| f.name().to_owned())
}

/// The patterns of the variable `name` in the HTTP rules of a Get method.
fn name_patterns(method: &MethodDescriptor) -> Vec<String> {
    let mut patterns: Vec<String> = http_paths(method)
        .iter()
        .filter_map(|path| path.split_once("{name=")?.1.split_once('}').map(|(p, _)| p.to_owned()))
        .collect();
    patterns.sort_by_key(|p| p.matches('/').count());
    patterns
}

fn http_paths(method: &MethodDescriptor) -> Vec<String> {
    let options = method.options();
    let Some(extension) = method.parent_pool().get_extension_by_name("google.api.http") else {
        return Vec::new();
    };
    let rule = options.get_extension(&extension);
    let mut paths = Vec::new();
    if let Value::Message(rule) = rule.as_ref() {
        paths.extend(get_path(rule));
        if let Some(more) = rule.get_field_by_name("additional_bindings")
            && let Value::List(rules) = more.as_ref()
        {
            paths.extend(rules.iter().filter_map(|r| r.as_message().and_then(get_path)));
        }
    }
    paths
}

fn get_path(rule: &DynamicMessage) -> Option<String> {
    rule.get_field_by_name("get")
        .and_then(|v| v.as_str().map(ToOwned::to_owned))
        .filter(|p| !p.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_the_name_without_its_last_two_segments() {
        assert_eq!(parent_of("projects/p/clusters/c"), "projects/p");
        assert_eq!(parent_of("projects/p"), "");
    }

    #[test]
    fn a_singleton_is_named_by_its_parent_alone() {
        assert_eq!(parent_of("infraCluster"), "");
        assert_eq!(parent_of("projects/p/settings"), "projects/p");
        assert_eq!(collection_of("projects/*/settings").as_deref(), Some("settings"));
        let kinds = Kinds::from_contracts(&crate::client::contracts().unwrap());
        let infra = kinds.find("infra").unwrap();
        let scope = Scope::default();
        assert!(infra.is_singleton() && infra.list.is_none());
        assert_eq!(infra.complete_name(None, &scope).as_deref(), Ok("infraCluster"));
        assert!(infra.complete_name(Some("other"), &scope).is_err());
        assert_eq!(
            kinds.of_name("infraCluster").map(|k| k.name.as_str()),
            Some("InfraCluster")
        );
        assert!(kinds.find("nodes").unwrap().complete_name(None, &scope).is_err());
    }

    #[test]
    fn scope_fills_what_it_can_and_names_what_is_missing() {
        let scope = Scope {
            project: Some("demo".into()),
            cluster: None,
        };
        assert_eq!(scope.fill("projects/*"), Ok("projects/demo".into()));
        assert_eq!(scope.fill("projects/*/clusters/*"), Err("--cluster"));
    }

    #[test]
    fn patterns_match_whole_segments_only() {
        assert!(matches_pattern("projects/*/clusters/*", "projects/a/clusters/b"));
        assert!(!matches_pattern("projects/*/clusters/*", "projects/a/clusters/b/c"));
        assert!(!matches_pattern("projects/*", "projects/"));
    }
}
