//! Slim types of KubeVirt's API (1.8), kubevirt.io/v1 and its instancetype group.
//!
//! What Steading reads is typed; what it writes back whole keeps unknown fields in `other`. Enumerations are
//! open: a value of a newer KubeVirt survives a round trip.

pub mod instancetype;
#[expect(clippy::module_inception, reason = "named after KubeVirt's own kind")]
pub mod kubevirt;
pub mod migration;
pub mod preference;
pub mod virtual_machine;
pub mod virtual_machine_instance;

pub use instancetype::{VirtualMachineClusterInstancetype, VirtualMachineInstancetype};
pub use kubevirt::KubeVirt;
pub use migration::VirtualMachineInstanceMigration;
pub use preference::{VirtualMachineClusterPreference, VirtualMachinePreference};
pub use virtual_machine::{Cpu, VirtualMachine};
pub use virtual_machine_instance::VirtualMachineInstance;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

/// Declares an enumeration whose unknown values are kept as text.
macro_rules! open_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum $name {
            $($(#[$vmeta])* $variant,)+
            /// A value that this version does not know.
            Other(String),
        }

        impl $name {
            /// The value as it stands on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(text) => text,
                }
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                match text.as_str() {
                    $($text => Self::$variant,)+
                    _ => Self::Other(text),
                }
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.as_str().to_owned()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use open_enum;

/// A condition as KubeVirt and CDI write it: fewer required fields than Kubernetes' own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about, `Ready` for example.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    #[serde(default)]
    pub status: String,
    /// Machine-readable reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it was looked at last. Null on the wire when unset, as KubeVirt writes it.
    #[serde(default)]
    pub last_probe_time: Option<Time>,
    /// When the status changed last. Null on the wire when unset, as KubeVirt writes it.
    #[serde(default)]
    pub last_transition_time: Option<Time>,
}

impl Condition {
    /// Whether the status is `True`.
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }
}

/// The condition of that type, if there is one.
pub fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of that type is `True`; a missing one is not.
pub fn condition_is_true(conditions: &[Condition], type_: &str) -> bool {
    condition(conditions, type_).is_some_and(Condition::is_true)
}
