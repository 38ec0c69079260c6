//! Watch events → [`Observed`]: synchronous indexes of everything that the planners look at.
//!
//! Every replica observes, as Watch calls and machine states need it too; only the leading one acts. An index is filled by one watch;
//! what a tenant cluster holds stands in its [`Tenant`].

pub mod changes;
pub mod cluster;
pub mod cordon;
pub mod drain;
pub mod evacuation;
pub mod list;
pub mod load_balancer;
pub mod machine;
pub mod pool;
pub mod usage;
pub mod view;

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Namespace, Node, Secret, Service as KubeService},
    discovery::v1::EndpointSlice,
};
use kube::{Client, ResourceExt, core::PartialObjectMeta};
use parking_lot::RwLock;
use steading_controller::{Index, Source, SourceConfig, Sources, metrics::ControllerMetrics};
use steading_infra::{
    cdi::DataVolume,
    crd::{Cluster, MachinePool, MachineTemplate, Maintenance, Project},
    kubevirt::{VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceMigration},
    labels,
};
use steading_runtime::tasks::Spawner;
use tokio::sync::broadcast;

pub use changes::{Change, Kind};
pub use view::View;

use changes::Changes;

use crate::tenant::Tenant;

/// What is seen of the infra cluster and of every tenant.
#[derive(Debug)]
pub struct Observed {
    /// Projects.
    pub projects: View<Project>,
    /// Tenant clusters.
    pub clusters: View<Cluster>,
    /// Machine pools.
    pub pools: View<MachinePool>,
    /// Machine templates.
    pub templates: View<MachineTemplate>,
    /// Maintenances.
    pub maintenances: View<Maintenance>,
    /// VirtualMachines with our label.
    pub vms: View<VirtualMachine>,
    /// VMIs, all of them: evacuations and infra nodes concern those that are not ours too.
    pub vmis: View<VirtualMachineInstance>,
    /// Live migrations.
    pub migrations: View<VirtualMachineInstanceMigration>,
    /// Infra nodes.
    pub nodes: View<Node>,
    /// Infra Services of load balancers.
    pub services: View<KubeService>,
    /// Endpoint slices of load balancers in the infra cluster.
    pub slices: View<EndpointSlice>,
    /// Namespaces of clusters.
    pub namespaces: View<Namespace>,
    /// Versions of Secrets with kubeconfigs. Their content stays where it is.
    pub kubeconfigs: Source<Option<String>>,
    /// DataVolumes of volumes.
    pub volumes: View<DataVolume>,
    tenants: RwLock<HashMap<String, Arc<Tenant>>>,
    changes: Changes,
}

impl Observed {
    /// Views that nothing fills yet. `config` says how kinds are watched, apart from selectors.
    pub fn new(config: &SourceConfig, metrics: &ControllerMetrics) -> Arc<Self> {
        let all = || config.clone();
        let ours = |label: &str| config.clone().labels(label);
        let named = all().fields(format!("metadata.name={}", labels::KUBECONFIG_SECRET));
        Arc::new(Self {
            projects: View::new("projects", all(), metrics),
            clusters: View::new("clusters", all(), metrics),
            pools: View::new("machinepools", all(), metrics),
            templates: View::new("machinetemplates", all(), metrics),
            maintenances: View::new("maintenances", all(), metrics),
            vms: View::new("virtualmachines", ours(labels::MACHINE), metrics),
            vmis: View::new("virtualmachineinstances", all(), metrics),
            migrations: View::new("virtualmachineinstancemigrations", all(), metrics),
            nodes: View::new("nodes", all(), metrics),
            services: View::new("services", ours(labels::LOAD_BALANCER), metrics),
            slices: View::new("endpointslices", ours(labels::LOAD_BALANCER), metrics),
            namespaces: View::new("namespaces", ours(labels::CLUSTER), metrics),
            kubeconfigs: Source::new("secrets", named, Index::new(), metrics.source("lifecycle", "secrets")),
            volumes: View::new("datavolumes", ours(labels::VOLUME), metrics),
            tenants: RwLock::default(),
            changes: Changes::default(),
        })
    }

    /// All sources, for readiness and reports.
    pub fn register(&self, sources: &Sources) {
        self.register_needed(sources);
        sources.add(&self.kubeconfigs);
        sources.add(self.volumes.source());
    }

    /// The sources without which nothing can be decided.
    fn register_needed(&self, sources: &Sources) {
        sources.add(self.projects.source());
        sources.add(self.clusters.source());
        sources.add(self.pools.source());
        sources.add(self.templates.source());
        sources.add(self.maintenances.source());
        sources.add(self.vms.source());
        sources.add(self.vmis.source());
        sources.add(self.migrations.source());
        sources.add(self.nodes.source());
        sources.add(self.services.source());
        sources.add(self.slices.source());
        sources.add(self.namespaces.source());
    }

    /// Waits until everything without which nothing can be decided has been listed once.
    pub async fn synced(&self) {
        let needed = Sources::default();
        self.register_needed(&needed);
        needed.synced().await;
    }

    /// Follows changes from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Tells everybody of a change.
    pub fn notify(&self, kind: Kind, namespace: &str, name: &str) {
        self.changes.notify(kind, namespace, name);
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

    /// The zone and region of an infra node.
    pub fn zone_of(&self, node: &str) -> (Option<String>, Option<String>) {
        let node = self.nodes.get("", node);
        let label = |key: &str| node.as_ref()?.metadata.labels.as_ref()?.get(key).cloned();
        (label(labels::ZONE), label(labels::REGION))
    }
}

/// Starts a watch for each kind.
pub fn spawn_watches(observed: &Observed, client: &Client, spawner: &Spawner) {
    observed
        .projects
        .start(&observed.changes, Kind::Project, client, spawner);
    observed
        .clusters
        .start(&observed.changes, Kind::Cluster, client, spawner);
    observed
        .pools
        .start(&observed.changes, Kind::MachinePool, client, spawner);
    observed
        .templates
        .start(&observed.changes, Kind::MachineTemplate, client, spawner);
    observed
        .maintenances
        .start(&observed.changes, Kind::Maintenance, client, spawner);
    observed
        .vms
        .start(&observed.changes, Kind::VirtualMachine, client, spawner);
    observed
        .vmis
        .start(&observed.changes, Kind::VirtualMachineInstance, client, spawner);
    observed
        .migrations
        .start(&observed.changes, Kind::Migration, client, spawner);
    observed
        .nodes
        .start(&observed.changes, Kind::InfraNode, client, spawner);
    observed
        .services
        .start(&observed.changes, Kind::InfraService, client, spawner);
    observed
        .slices
        .start(&observed.changes, Kind::InfraSlice, client, spawner);
    observed
        .namespaces
        .start(&observed.changes, Kind::Namespace, client, spawner);
    observed.volumes.start(&observed.changes, Kind::Volume, client, spawner);
    // Only what is needed to see that one changed.
    let version = |secret: PartialObjectMeta<Secret>| Some(secret.resource_version());
    let kubeconfigs = observed.kubeconfigs.clone();
    let kubeconfigs = kubeconfigs.run(client.clone(), version, spawner.token().clone());
    spawner.spawn("watch Kubeconfig", kubeconfigs);
    view::tell(
        &observed.changes,
        Kind::Kubeconfig,
        observed.kubeconfigs.index(),
        spawner,
    );
}
