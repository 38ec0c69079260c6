//! How far a tenant cluster is known.

use jiff::Timestamp;

/// Whether a tenant's API server can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Never reached so far; why.
    Connecting(String),
    /// It answers.
    Reachable,
    /// It answered before and does not now; why.
    Unreachable(String),
    /// It is the API server of another Cluster, which alone may act there.
    Duplicate(String),
}

/// Kinds of a tenant that are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TenantKind {
    /// Nodes.
    Nodes,
    /// Services of type LoadBalancer, and those that wait for theirs to be gone.
    Services,
}

impl TenantKind {
    /// As people say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Services => "services",
        }
    }
}

/// Whether what is known of a kind is current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KindHealth {
    /// Its first listing is under way.
    Syncing,
    /// A listing was completed and its watch has not failed since; how many objects are beyond the bound of the cache.
    Live {
        /// Objects that are not kept.
        beyond: usize,
    },
    /// Its watch failed; what is known is as it was then.
    Stale {
        /// When it failed first.
        since: Timestamp,
        /// Why.
        why: String,
    },
}

impl KindHealth {
    /// Whether decisions may rest on it.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. })
    }
}
