//! Kinds of instance types and preferences, and what a VM names of them.

use serde_json::Value;

/// What a VM's matchers have found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::behaviour) struct Found {
    /// The instance type, whole.
    pub(in crate::behaviour) instancetype: Option<Value>,
    /// The preference, whole.
    pub(in crate::behaviour) preference: Option<Value>,
}

/// Kinds of an instance type or a preference, as a matcher may write them: of the namespace, of the cluster.
pub(super) struct Kinds {
    /// `instancetype` or `preference`.
    pub(super) matcher: &'static str,
    pub(super) of_namespace: (&'static str, &'static str),
    pub(super) of_cluster: (&'static str, &'static str),
    pub(super) unknown: &'static str,
    pub(super) reason: &'static str,
}

pub(super) const INSTANCETYPE: Kinds = Kinds {
    matcher: "instancetype",
    of_namespace: ("VirtualMachineInstancetype", "virtualmachineinstancetypes"),
    of_cluster: (
        "VirtualMachineClusterInstancetype",
        "virtualmachineclusterinstancetypes",
    ),
    unknown: "InstancetypeMatcher",
    reason: "FailedFindInstancetype",
};
pub(super) const PREFERENCE: Kinds = Kinds {
    matcher: "preference",
    of_namespace: ("VirtualMachinePreference", "virtualmachinepreferences"),
    of_cluster: ("VirtualMachineClusterPreference", "virtualmachineclusterpreferences"),
    unknown: "PreferenceMatcher",
    reason: "FailedFindPreference",
};

/// Whether a matcher's kind is one, by its singular or plural in whatever case.
pub(super) fn is_kind(kind: &str, (singular, plural): (&str, &str)) -> bool {
    kind.eq_ignore_ascii_case(singular) || kind.eq_ignore_ascii_case(plural)
}
