//! What is known about the lists and maps of built-in types: which merge, and by which keys.

/// How a list of a built-in type behaves under server-side apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListType {
    /// One value, owned as a whole.
    Atomic,
    /// Each scalar on its own.
    Set,
    /// Each element by the values of these keys.
    Map(Vec<String>),
}

/// Field name, name of the field that holds it (empty for any), keys. The first key is the strategic merge key.
const KEYED: &[(&str, &str, &[&str])] = &[
    ("containers", "spec", &["name"]),
    ("initContainers", "spec", &["name"]),
    ("ephemeralContainers", "spec", &["name"]),
    ("volumes", "spec", &["name"]),
    ("env", "", &["name"]),
    ("ports", "containers", &["containerPort", "protocol"]),
    ("ports", "initContainers", &["containerPort", "protocol"]),
    ("ports", "spec", &["port", "protocol"]),
    ("volumeMounts", "", &["mountPath"]),
    ("volumeDevices", "", &["devicePath"]),
    ("conditions", "status", &["type"]),
    ("ownerReferences", "metadata", &["uid"]),
    ("imagePullSecrets", "", &["name"]),
    ("hostAliases", "spec", &["ip"]),
    (
        "topologySpreadConstraints",
        "spec",
        &["topologyKey", "whenUnsatisfiable"],
    ),
    ("addresses", "status", &["type"]),
    ("podIPs", "status", &["ip"]),
    ("hostIPs", "status", &["ip"]),
    ("resourceClaims", "spec", &["name"]),
    ("secrets", "", &["name"]),
    ("drivers", "spec", &["name"]),
    ("webhooks", "", &["name"]),
    ("matchConditions", "webhooks", &["name"]),
];

/// Lists that a strategic patch merges by key although apply holds them to be one value.
const STRATEGIC_ONLY: &[(&str, &str, &str)] = &[
    ("taints", "spec", "key"),
    ("resizePolicy", "containers", "resourceName"),
];

fn place(path: &[String]) -> (&str, &str) {
    let field = path.last().map(String::as_str).unwrap_or_default();
    let parent = path
        .len()
        .checked_sub(2)
        .and_then(|index| path.get(index))
        .map(String::as_str)
        .unwrap_or_default();
    (field, parent)
}

/// The strategic merge key of the list at a path of field names.
pub(crate) fn strategic_key(path: &[String]) -> Option<&'static str> {
    let (field, parent) = place(path);
    let keyed = KEYED
        .iter()
        .find(|(name, holder, _)| *name == field && (holder.is_empty() || *holder == parent));
    keyed.and_then(|(_, _, keys)| keys.first().copied()).or_else(|| {
        STRATEGIC_ONLY
            .iter()
            .find(|(name, holder, _)| *name == field && *holder == parent)
            .map(|(_, _, key)| *key)
    })
}

/// Whether a strategic patch adds to a list of scalars instead of replacing it.
pub(crate) fn is_primitive_merge(path: &[String]) -> bool {
    matches!(place(path), ("finalizers", "metadata") | ("podCIDRs", "spec"))
}

/// How the list at a path of field names behaves under apply, in a built-in type.
pub(crate) fn built_in_list(path: &[String]) -> ListType {
    let (field, parent) = place(path);
    if is_primitive_merge(path) || matches!((field, parent), ("accessModes", "spec") | ("hostnames", _)) {
        return if field == "accessModes" {
            ListType::Atomic
        } else {
            ListType::Set
        };
    }
    match KEYED
        .iter()
        .find(|(name, holder, _)| *name == field && (holder.is_empty() || *holder == parent))
    {
        Some((_, _, keys)) => ListType::Map(keys.iter().map(|key| (*key).to_owned()).collect()),
        None => ListType::Atomic,
    }
}

/// Maps of built-in types that are owned as a whole.
pub(crate) fn built_in_atomic_map(path: &[String]) -> bool {
    let (field, parent) = place(path);
    matches!(
        field,
        "nodeSelector"
            | "labelSelector"
            | "namespaceSelector"
            | "podSelector"
            | "secretKeyRef"
            | "configMapKeyRef"
            | "fieldRef"
            | "resourceFieldRef"
            | "secretRef"
            | "claimRef"
            | "roleRef"
            | "dataSource"
            | "targetRef"
            | "involvedObject"
            | "nodeSelectorTerms"
    ) || (field == "selector" && parent == "spec")
}

/// Parts of built-in types that are written even where nothing is in them.
pub(crate) fn always_there(path: &[String]) -> bool {
    match place(path) {
        ("metadata" | "spec" | "status" | "template" | "strategy" | "updateStrategy" | "names", _)
        | ("loadBalancer" | "nodeInfo" | "daemonEndpoints", "status") => true,
        ("resources", parent) => parent != "spec" || path.len() == 2,
        _ => false,
    }
}
