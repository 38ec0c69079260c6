//! The control planes that there are, and what is played on them.

use std::{collections::BTreeMap, sync::Arc};

use kube::Client;
use parking_lot::Mutex;
use steading_kubesim::ApiServer;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::behaviour::Context;

/// Tenants' pod addresses are in 10.200/16: apart from those of the infra cluster.
pub(super) const POD_NETWORK: u8 = 200;

/// A tenant control plane that somebody else has started.
#[derive(Clone, PartialEq, Eq)]
pub struct ControlPlane {
    /// Name, of the characters that a label's value may have.
    pub name: String,
    /// An administrator's kubeconfig with inline certificates.
    pub kubeconfig: String,
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlPlane")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What joins a tenant's control plane has to know of it.
#[derive(Clone)]
pub struct Reached {
    /// An administrator's client.
    pub client: Client,
    /// What stands behind it.
    pub kind: Kind,
}

/// What stands behind a tenant's control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An API server in memory: it authenticates nobody, and nobody misses a Node's signs of life.
    Simulated,
    /// A real one, which does both.
    Real,
}

/// The tenants' control planes, by namespace in the infra cluster. Clones share them.
#[derive(Clone, Default)]
pub struct Tenants(Arc<Mutex<BTreeMap<String, Tenant>>>);

pub(super) struct Tenant {
    /// Address, as kubeconfigs name it.
    pub(super) server: String,
    pub(super) reached: Reached,
    /// The API server, if it is in memory.
    pub(super) memory: Option<ApiServer>,
    /// Ends what is played there when it is dropped.
    pub(super) _players: JoinSet<()>,
}

impl Tenants {
    /// A tenant's API server, if it is in memory.
    pub fn get(&self, namespace: &str) -> Option<ApiServer> {
        self.0.lock().get(namespace)?.memory.clone()
    }

    /// The namespaces that have a control plane.
    pub fn namespaces(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }

    /// The control plane at an address.
    pub fn reach(&self, server: &str) -> Option<Reached> {
        let tenants = self.0.lock();
        let found = tenants.values().find(|tenant| tenant.server == server);
        found.map(|tenant| tenant.reached.clone())
    }

    pub(super) fn has(&self, namespace: &str) -> bool {
        self.0.lock().contains_key(namespace)
    }

    pub(super) fn insert(&self, namespace: &str, tenant: Tenant) {
        self.0.lock().insert(namespace.to_owned(), tenant);
    }

    pub(super) fn remove(&self, namespace: &str) {
        self.0.lock().remove(namespace);
    }
}

/// Below which path the tenants' API servers are served.
pub const BELOW: &str = "/tenants/";

/// Below which path a tenant's API server in memory is served.
pub fn path_of(namespace: &str) -> String {
    format!("{BELOW}{namespace}")
}

/// What playing a tenant's control plane needs.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) context: Context,
    pub(super) tenants: Tenants,
    pub(super) cancel: CancellationToken,
}
