//! What every reconciliation has at hand.

use std::sync::Arc;

use kube::{Api, Client};
use parking_lot::Mutex;
use steading_runtime::clock::Clock;

use crate::{
    apply::event::Events, memory::Memory, observe::Observed, peers::Peers, plan::load_balancer::allowances::Allowances,
};

/// What every reconciliation has at hand. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The infra cluster.
    pub kube: Client,
    /// Time.
    pub clock: Clock,
    /// The other services.
    pub peers: Peers,
    /// What the operator allows tenants' load balancers.
    pub allowances: Arc<Allowances>,
    /// What is seen.
    pub observed: Arc<Observed>,
    /// Events on objects.
    pub events: Events,
    /// What may be forgotten; it begins empty with each term of leadership.
    pub memory: Arc<Mutex<Memory>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

impl Context {
    /// A typed handle on a namespace.
    pub fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.kube.clone(), namespace)
    }

    /// A typed handle on a cluster-scoped kind.
    pub fn all<K: kube::Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.kube.clone())
    }
}
