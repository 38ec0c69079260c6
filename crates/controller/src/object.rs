//! The name of an object inside one kind.

use std::{fmt, sync::Arc};

use kube::{Resource, ResourceExt};

/// Namespace and name; the namespace of cluster-scoped objects is empty. Cheap to clone; ordered by namespace, then name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// The namespace, empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectRef {
    /// An object in a namespace; pass an empty namespace for cluster-scoped kinds.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The name of an object that was read.
    pub fn of<K: Resource>(object: &K) -> Self {
        Self::new(&object.namespace().unwrap_or_default(), &object.name_any())
    }
}

/// Annotation in which `kubectl apply` keeps all that it was given: as large as the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object without what is by far the largest part of most, and what indexes of whole objects have no use for: who wrote which
/// field, and what `kubectl` was given.
#[must_use]
pub fn slim<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object.annotations_mut().remove(LAST_APPLIED);
    object
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
