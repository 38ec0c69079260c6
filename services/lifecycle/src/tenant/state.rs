//! What is known of one tenant cluster.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::api::core::v1::{Node, Service};
use kube::Client;
use parking_lot::RwLock;

use super::cache::Cache;
use crate::domain::{
    kubeconfig::Endpoint,
    tenant::{KindHealth, Reach, TenantKind},
};

/// What is known of one tenant cluster.
pub struct Tenant {
    /// The cluster's namespace in the infra cluster.
    pub namespace: String,
    /// Its nodes, as last seen.
    pub nodes: Cache<Node>,
    /// Its Services, as last seen.
    pub services: Cache<Service>,
    state: RwLock<State>,
}

#[derive(Clone)]
struct State {
    reach: Reach,
    client: Option<Client>,
    endpoint: Endpoint,
    /// Uid of its `kube-system`, which tells API servers apart.
    uid: Option<String>,
    kinds: BTreeMap<TenantKind, KindHealth>,
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenant")
            .field("namespace", &self.namespace)
            .field("reach", &self.reach())
            .finish_non_exhaustive()
    }
}

impl Tenant {
    /// A tenant that nothing is known of.
    pub fn new(namespace: &str) -> Self {
        let state = State {
            reach: Reach::Connecting("no kubeconfig read yet".into()),
            client: None,
            endpoint: Endpoint::default(),
            uid: None,
            kinds: BTreeMap::from([
                (TenantKind::Nodes, KindHealth::Syncing),
                (TenantKind::Services, KindHealth::Syncing),
            ]),
        };
        Self {
            namespace: namespace.to_owned(),
            nodes: Cache::default(),
            services: Cache::default(),
            state: RwLock::new(state),
        }
    }

    /// Whether its API server can be reached.
    pub fn reach(&self) -> Reach {
        self.state.read().reach.clone()
    }

    /// Whether its nodes are known as they are now.
    pub fn is_reachable(&self) -> bool {
        self.is_live(TenantKind::Nodes)
    }

    /// Whether a kind is known as it is now.
    pub fn is_live(&self, kind: TenantKind) -> bool {
        let state = self.state.read();
        state.reach == Reach::Reachable && state.kinds.get(&kind).is_some_and(KindHealth::is_live)
    }

    /// The kinds with their health.
    pub fn kinds(&self) -> BTreeMap<TenantKind, KindHealth> {
        self.state.read().kinds.clone()
    }

    /// A client, while there is a kubeconfig that may be used.
    pub fn client(&self) -> Option<Client> {
        self.state.read().client.clone()
    }

    /// Where the API server is.
    pub fn endpoint(&self) -> Endpoint {
        self.state.read().endpoint.clone()
    }

    /// Uid of its `kube-system`, once it was read.
    pub fn uid(&self) -> Option<String> {
        self.state.read().uid.clone()
    }

    pub(super) fn set_connected(&self, client: Client, endpoint: Endpoint, uid: Option<String>) {
        let mut state = self.state.write();
        state.client = Some(client);
        state.endpoint = endpoint;
        state.uid = uid;
    }

    /// Gives up a client whose kubeconfig is gone or may not be used.
    pub(super) fn drop_client(&self) {
        self.state.write().client = None;
    }

    /// Notes the health of a kind; true if that changed anything that others see.
    pub(super) fn set_kind(&self, kind: TenantKind, health: KindHealth) -> bool {
        let mut state = self.state.write();
        let health = match (health, state.kinds.get(&kind)) {
            (KindHealth::Stale { why, .. }, Some(KindHealth::Stale { since, .. })) => {
                KindHealth::Stale { since: *since, why }
            }
            (health, _) => health,
        };
        state.kinds.insert(kind, health.clone()).as_ref() != Some(&health)
    }

    /// Notes a success or a failure; true if that changed anything that others see.
    pub(super) fn set_reach(&self, result: Result<(), Unreached>) -> bool {
        let mut state = self.state.write();
        let next = match (result, &state.reach) {
            (Ok(()), _) => Reach::Reachable,
            (Err(Unreached::Duplicate(why)), _) => Reach::Duplicate(why),
            (Err(Unreached::Failed(why)), Reach::Connecting(_)) => Reach::Connecting(why),
            (Err(Unreached::Failed(why)), Reach::Reachable | Reach::Unreachable(_) | Reach::Duplicate(_)) => {
                Reach::Unreachable(why)
            }
        };
        let changed = next != state.reach;
        state.reach = next;
        changed
    }
}

/// Why a tenant is not reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreached {
    /// It cannot be reached; why.
    Failed(String),
    /// It is another Cluster's.
    Duplicate(String),
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn failed(why: &str) -> Result<(), Unreached> {
        Err(Unreached::Failed(why.into()))
    }

    #[test]
    fn a_tenant_that_was_reached_becomes_unreachable_not_connecting() {
        let tenant = Tenant::new("a--b");
        assert!(tenant.set_reach(failed("no secret")));
        assert_eq!(tenant.reach(), Reach::Connecting("no secret".into()));
        assert!(tenant.set_reach(Ok(())));
        assert!(tenant.set_reach(failed("broke")));
        assert_eq!(tenant.reach(), Reach::Unreachable("broke".into()));
    }

    #[test]
    fn one_kind_that_is_stale_leaves_the_others_current() {
        let tenant = Tenant::new("a--b");
        tenant.set_reach(Ok(()));
        tenant.set_kind(TenantKind::Nodes, KindHealth::Live { beyond: 0 });
        let since = Timestamp::from_second(1).unwrap();
        let stale = |since| KindHealth::Stale {
            since,
            why: "forbidden".into(),
        };
        assert!(tenant.set_kind(TenantKind::Services, stale(since)));
        assert!(tenant.is_live(TenantKind::Nodes) && !tenant.is_live(TenantKind::Services));
        let later = Timestamp::from_second(9).unwrap();
        assert!(
            !tenant.set_kind(TenantKind::Services, stale(later)),
            "stale since it failed first"
        );
    }
}
