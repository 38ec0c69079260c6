//! Watch events → [`Observed`]: synchronous indexes of everything that the planners look at.
//!
//! Every replica observes, as Watch calls and machine states need it too; only the leading one acts. An index is filled by one watch;
//! what a tenant cluster holds stands in its [`Tenant`].

pub mod cluster;
pub mod drain;
pub mod evacuation;
pub mod index;
pub mod load_balancer;
pub mod machine;

use std::{collections::HashMap, sync::Arc};

use futures::{Stream, StreamExt, pin_mut};
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Secret, Service as KubeService},
    discovery::v1::EndpointSlice,
};
use kube::{Api, Client, Resource, core::PartialObjectMeta, runtime::watcher};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use steading_infra::{
    cdi::DataVolume,
    crd::{Cluster, MachinePool, MachineTemplate, Maintenance, Project},
    kubevirt::{VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceMigration},
    labels,
};
use steading_runtime::tasks::Spawner;
use tokio::sync::broadcast;

pub use index::Index;

use crate::tenant::Tenant;

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

/// What is seen of the infra cluster and of every tenant.
#[derive(Debug)]
pub struct Observed {
    /// Projects.
    pub projects: Index<Project>,
    /// Tenant clusters.
    pub clusters: Index<Cluster>,
    /// Machine pools.
    pub pools: Index<MachinePool>,
    /// Machine templates.
    pub templates: Index<MachineTemplate>,
    /// Maintenances.
    pub maintenances: Index<Maintenance>,
    /// VirtualMachines with our label.
    pub vms: Index<VirtualMachine>,
    /// VMIs, all of them: evacuations and infra nodes concern those that are not ours too.
    pub vmis: Index<VirtualMachineInstance>,
    /// Live migrations.
    pub migrations: Index<VirtualMachineInstanceMigration>,
    /// Infra nodes.
    pub nodes: Index<Node>,
    /// Infra Services of load balancers.
    pub services: Index<KubeService>,
    /// Endpoint slices of load balancers in the infra cluster.
    pub slices: Index<EndpointSlice>,
    /// Namespaces of clusters.
    pub namespaces: Index<Namespace>,
    /// Secrets with kubeconfigs, without their content.
    pub kubeconfigs: Index<PartialObjectMeta<Secret>>,
    /// DataVolumes of volumes.
    pub volumes: Index<DataVolume>,
    tenants: RwLock<HashMap<String, Arc<Tenant>>>,
    changes: broadcast::Sender<Change>,
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            projects: Index::default(),
            clusters: Index::default(),
            pools: Index::default(),
            templates: Index::default(),
            maintenances: Index::default(),
            vms: Index::default(),
            vmis: Index::default(),
            migrations: Index::default(),
            nodes: Index::default(),
            services: Index::default(),
            slices: Index::default(),
            namespaces: Index::default(),
            kubeconfigs: Index::default(),
            volumes: Index::default(),
            tenants: RwLock::default(),
            changes: broadcast::Sender::new(CHANGES),
        }
    }
}

impl Observed {
    /// Nothing seen yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Follows changes from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Tells everybody of a change.
    pub fn notify(&self, kind: Kind, namespace: &str, name: &str) {
        // Nobody listening is fine.
        let _ = self.changes.send(Change {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        });
    }

    /// The tenant of a cluster's namespace, if its task has begun.
    pub fn tenant(&self, namespace: &str) -> Option<Arc<Tenant>> {
        self.tenants.read().get(namespace).cloned()
    }

    /// All tenants.
    pub fn tenants(&self) -> Vec<Arc<Tenant>> {
        self.tenants.read().values().cloned().collect()
    }

    /// Adds or replaces a tenant.
    pub fn insert_tenant(&self, tenant: Arc<Tenant>) {
        self.tenants.write().insert(tenant.namespace.clone(), tenant);
    }

    /// Forgets a tenant.
    pub fn remove_tenant(&self, namespace: &str) {
        self.tenants.write().remove(namespace);
    }

    /// Whether every index has been filled once.
    pub fn is_synced(&self) -> bool {
        self.projects.is_synced()
            && self.clusters.is_synced()
            && self.pools.is_synced()
            && self.templates.is_synced()
            && self.maintenances.is_synced()
            && self.vms.is_synced()
            && self.vmis.is_synced()
            && self.migrations.is_synced()
            && self.nodes.is_synced()
            && self.services.is_synced()
            && self.slices.is_synced()
            && self.namespaces.is_synced()
    }

    /// Waits until every index has been filled once.
    pub async fn synced(&self) {
        while !self.is_synced() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// The zone and region of an infra node.
    pub fn zone_of(&self, node: &str) -> (Option<String>, Option<String>) {
        let node = self.nodes.get("", node);
        let label = |key: &str| node.as_ref()?.metadata.labels.as_ref()?.get(key).cloned();
        (label(labels::ZONE), label(labels::REGION))
    }
}

/// Which index of an [`Observed`] holds a kind.
type Pick<K> = fn(&Observed) -> &Index<K>;

/// Starts one watch for each index.
pub fn spawn_watches(observed: &Arc<Observed>, client: &Client, spawner: &Spawner) {
    let ours = watcher::Config::default().labels(labels::MACHINE);
    let balancers = watcher::Config::default().labels(labels::LOAD_BALANCER);
    let all = watcher::Config::default();
    start::<Project>(observed, client, spawner, Kind::Project, all.clone(), |o| &o.projects);
    start::<Cluster>(observed, client, spawner, Kind::Cluster, all.clone(), |o| &o.clusters);
    start::<MachinePool>(observed, client, spawner, Kind::MachinePool, all.clone(), |o| &o.pools);
    start::<MachineTemplate>(observed, client, spawner, Kind::MachineTemplate, all.clone(), |o| {
        &o.templates
    });
    start::<Maintenance>(observed, client, spawner, Kind::Maintenance, all.clone(), |o| {
        &o.maintenances
    });
    start::<VirtualMachine>(observed, client, spawner, Kind::VirtualMachine, ours, |o| &o.vms);
    start::<VirtualMachineInstance>(
        observed,
        client,
        spawner,
        Kind::VirtualMachineInstance,
        all.clone(),
        |o| &o.vmis,
    );
    start::<VirtualMachineInstanceMigration>(observed, client, spawner, Kind::Migration, all.clone(), |o| {
        &o.migrations
    });
    start::<Node>(observed, client, spawner, Kind::InfraNode, all, |o| &o.nodes);
    start::<KubeService>(observed, client, spawner, Kind::InfraService, balancers.clone(), |o| {
        &o.services
    });
    start::<EndpointSlice>(observed, client, spawner, Kind::InfraSlice, balancers, |o| &o.slices);
    let clusters = watcher::Config::default().labels(labels::CLUSTER);
    start::<Namespace>(observed, client, spawner, Kind::Namespace, clusters, |o| &o.namespaces);
    let volumes = watcher::Config::default().labels(labels::VOLUME);
    start::<DataVolume>(observed, client, spawner, Kind::Volume, volumes, |o| &o.volumes);
    let named = watcher::Config::default().fields(&format!("metadata.name={}", labels::KUBECONFIG_SECRET));
    // Only what is needed to see that one changed: their content stays where it is.
    start::<PartialObjectMeta<Secret>>(observed, client, spawner, Kind::Kubeconfig, named, |o| &o.kubeconfigs);
}

fn start<K>(
    observed: &Arc<Observed>,
    client: &Client,
    spawner: &Spawner,
    kind: Kind,
    config: watcher::Config,
    pick: Pick<K>,
) where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let events = watcher(Api::<K>::all(client.clone()), config);
    follow(observed, spawner, kind, events, pick);
}

fn follow<K, S>(observed: &Arc<Observed>, spawner: &Spawner, kind: Kind, events: S, pick: Pick<K>)
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    S: Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
{
    let (observed, token) = (Arc::clone(observed), spawner.token().clone());
    spawner.spawn(&format!("watch {kind:?}"), async move {
        pin_mut!(events);
        let mut pause = index::FIRST_PAUSE;
        loop {
            let event = tokio::select! {
                () = token.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    pause = index::FIRST_PAUSE;
                    for (namespace, name) in pick(&observed).apply(event) {
                        observed.notify(kind, &namespace, &name);
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(?kind, %error, "watch of the infra cluster broke");
                    tokio::select! {
                        () = token.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(index::LAST_PAUSE);
                }
                None => return,
            }
        }
    });
}
