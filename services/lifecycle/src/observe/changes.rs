//! What changed, told to everybody who listens.

use tokio::sync::broadcast;

/// Changes that a slow reader may be behind before it has to look at everything again.
const CHANGES: usize = 16_384;

/// Kinds of objects that are observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A project.
    Project,
    /// A tenant cluster.
    Cluster,
    /// A machine pool.
    MachinePool,
    /// A machine template.
    MachineTemplate,
    /// A maintenance.
    Maintenance,
    /// A VirtualMachine.
    VirtualMachine,
    /// A VirtualMachineInstance.
    VirtualMachineInstance,
    /// A live migration.
    Migration,
    /// A node of the infra cluster.
    InfraNode,
    /// A Service of a load balancer in the infra cluster.
    InfraService,
    /// An endpoint slice of a load balancer in the infra cluster.
    InfraSlice,
    /// A node of a tenant cluster; the namespace is the cluster's.
    TenantNode,
    /// A Service of a tenant cluster; the namespace is the cluster's, the name `<namespace>/<name>`.
    TenantService,
    /// The namespace of a cluster.
    Namespace,
    /// A Secret with a kubeconfig, of the usual name; the namespace is the cluster's.
    Kubeconfig,
    /// The DataVolume of a volume.
    Volume,
    /// A tenant API server became reachable or unreachable; the namespace is the cluster's.
    Tenant,
}

/// Something changed; what, is to be looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    /// Kind of the object.
    pub kind: Kind,
    /// Its namespace; empty for cluster-scoped ones.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Tells of changes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Changes(broadcast::Sender<Change>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::Sender::new(CHANGES))
    }
}

impl Changes {
    /// Follows changes from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.0.subscribe()
    }

    /// Tells everybody of a change.
    pub fn notify(&self, kind: Kind, namespace: &str, name: &str) {
        // Nobody listening is fine.
        let _ = self.0.send(Change {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        });
    }
}
