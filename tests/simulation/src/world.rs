//! The true state: what the API servers hold and what really runs.

#![allow(missing_docs, reason = "fields are named as the objects' own are")]

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use jiff::{SignedDuration, Timestamp};
use steading_infra::{
    crd::maintenance::{MaintenanceSpec, MaintenanceStatus},
    intent::{self, Intent},
};
use steading_lifecycle::{
    domain::machine::{MigrationState, NodeCordon},
    plan::{evacuation::MachineKey, pool::Failures},
};
use steading_storage::domain::volume::Volume;

/// Namespaces of the tenant clusters; each has one pool.
pub const CLUSTERS: [&str; 2] = ["shop--a", "shop--b"];
/// Infra nodes with their zones.
pub const NODES: [(&str, &str); 3] = [("infra-1", "z1"), ("infra-2", "z1"), ("infra-3", "z2")];
/// Machines that fit on an infra node.
pub const SLOTS: usize = 8;
/// Volumes of the first cluster.
pub const VOLUMES: [&str; 2] = ["data", "logs"];

/// A VirtualMachine.
#[derive(Debug, Clone, PartialEq)]
pub struct Vm {
    pub uid: u64,
    pub revision: u8,
    pub created: Timestamp,
    pub terminating: bool,
    pub finalizer: bool,
    pub annotations: BTreeMap<String, String>,
    pub drain_started: Option<Timestamp>,
    pub joined: Option<Timestamp>,
    /// Claims of hot-plugged disks in the spec.
    pub disks: BTreeSet<String>,
    pub fence: u64,
}

impl Vm {
    /// Its intents.
    pub fn intents(&self) -> Vec<Intent> {
        intent::intents(&self.annotations)
    }

    /// Whether an intent that ends it stands.
    pub fn is_to_be_deleted(&self) -> bool {
        intent::wants_deletion(&self.annotations)
    }
}

/// How far an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstancePhase {
    Scheduling,
    Running,
}

/// A VirtualMachineInstance.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    pub uid: u64,
    pub phase: InstancePhase,
    pub node: Option<usize>,
    pub created: Timestamp,
    pub running_since: Option<Timestamp>,
    pub terminating: bool,
    /// Claims that the guest has.
    pub plugged: BTreeSet<String>,
    pub migrating: bool,
    /// Whether its kubelet has registered; it does so once.
    pub registered: bool,
    /// The infra node that an eviction wants it to leave.
    pub marked: Option<usize>,
}

/// A live migration.
#[derive(Debug, Clone, PartialEq)]
pub struct Migration {
    pub name: String,
    pub key: MachineKey,
    pub owner: Option<String>,
    pub state: MigrationState,
    pub created: Timestamp,
}

/// An infra node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InfraNode {
    pub cordoned: bool,
    pub cordoned_by: Option<String>,
    pub silent: bool,
}

/// A tenant's Node.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantNode {
    pub ready: bool,
    pub since: Timestamp,
    pub cordon: NodeCordon,
    pub uninitialized: bool,
}

/// A tenant's pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    pub uid: u64,
    pub node: Option<String>,
    pub deletion: Option<Timestamp>,
}

/// A tenant cluster's API server.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    pub silent: bool,
    /// Pods do not end.
    pub stuck: bool,
    pub nodes: BTreeMap<String, TenantNode>,
    pub pods: Vec<Pod>,
}

impl Tenant {
    /// Pods that its budget protects: at most one may be away.
    pub const REPLICAS: usize = 3;

    /// Whether its budget allows an eviction now.
    pub fn allows_disruption(&self) -> bool {
        let healthy = self.pods.iter().filter(|pod| {
            let node = pod.node.as_ref().and_then(|node| self.nodes.get(node));
            pod.deletion.is_none() && node.is_some_and(|node| node.ready)
        });
        healthy.count() >= Self::REPLICAS
    }
}

/// A MachinePool.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    pub generation: u64,
    pub replicas: usize,
    pub revision: u8,
    pub max_surge: usize,
    pub max_unavailable: usize,
    pub paused: bool,
    pub most: Option<usize>,
    pub failures: Failures,
}

/// Guests of every third revision never boot.
pub fn boots(revision: u8) -> bool {
    revision % 3 != 2
}

/// A Maintenance.
#[derive(Debug, Clone, PartialEq)]
pub struct Maintenance {
    pub spec: MaintenanceSpec,
    pub status: MaintenanceStatus,
    pub generation: i64,
    pub deleting: bool,
    pub finalizer: bool,
}

/// Everything that a leader can see, by kind; sharing makes an old state of a kind cheap to keep.
#[derive(Debug, Clone)]
pub struct Objects {
    pub pools: Rc<Vec<Pool>>,
    pub vms: Rc<BTreeMap<MachineKey, Vm>>,
    pub instances: Rc<BTreeMap<MachineKey, Instance>>,
    pub migrations: Rc<Vec<Migration>>,
    pub nodes: Rc<Vec<InfraNode>>,
    pub maintenances: Rc<BTreeMap<String, Maintenance>>,
    pub volumes: Rc<BTreeMap<String, (u64, Volume)>>,
    pub tenants: Rc<Vec<Tenant>>,
}

/// Number of kinds in [`Objects`].
pub const KINDS: u8 = 8;

impl Objects {
    /// Takes over one kind from the truth.
    pub fn hear(&mut self, truth: &Self, kind: u8) {
        match kind % KINDS {
            0 => self.pools = Rc::clone(&truth.pools),
            1 => self.vms = Rc::clone(&truth.vms),
            2 => self.instances = Rc::clone(&truth.instances),
            3 => self.migrations = Rc::clone(&truth.migrations),
            4 => self.nodes = Rc::clone(&truth.nodes),
            5 => self.maintenances = Rc::clone(&truth.maintenances),
            6 => self.volumes = Rc::clone(&truth.volumes),
            _ => self.hear_tenants(truth),
        }
    }

    /// A tenant that does not answer is known to be silent, and its Nodes are as they were.
    fn hear_tenants(&mut self, truth: &Self) {
        let pairs = self.tenants.iter().zip(truth.tenants.iter());
        let heard = pairs.map(|(known, now)| match now.silent {
            true => Tenant {
                silent: true,
                ..known.clone()
            },
            false => now.clone(),
        });
        self.tenants = Rc::new(heard.collect());
    }

    /// Where a machine runs.
    pub fn node_of(&self, key: &MachineKey) -> Option<usize> {
        self.instances.get(key)?.node
    }
}

/// The world.
#[derive(Debug, Clone)]
pub struct World {
    pub now: Timestamp,
    pub objects: Objects,
    pub migrations_fail: bool,
    /// Whether faults have stopped and views are fresh: then budgets are exact.
    pub calm: bool,
    /// Counts what happens, so that one moment can be told from another.
    pub moment: u64,
    /// When intents on a machine were withdrawn last.
    pub withdrawn: BTreeMap<MachineKey, u64>,
    next: u64,
}

impl World {
    /// A quiet world: two clusters with pools of two machines that are not made yet.
    pub fn new() -> Self {
        let pool = Pool {
            generation: 1,
            replicas: 2,
            revision: 0,
            max_surge: 1,
            max_unavailable: 0,
            paused: false,
            most: None,
            failures: Failures::default(),
        };
        let tenant = Tenant {
            silent: false,
            stuck: false,
            nodes: BTreeMap::new(),
            pods: (1..=3)
                .map(|uid| Pod {
                    uid,
                    node: None,
                    deletion: None,
                })
                .collect(),
        };
        Self {
            now: Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1),
            objects: Objects {
                pools: Rc::new(vec![pool; CLUSTERS.len()]),
                vms: Rc::default(),
                instances: Rc::default(),
                migrations: Rc::default(),
                nodes: Rc::new(vec![InfraNode::default(); NODES.len()]),
                maintenances: Rc::default(),
                volumes: Rc::default(),
                tenants: Rc::new(vec![tenant; CLUSTERS.len()]),
            },
            migrations_fail: false,
            calm: false,
            moment: 0,
            withdrawn: BTreeMap::new(),
            next: 100,
        }
    }

    /// Notes that an intent on a machine was withdrawn.
    pub fn withdraw(&mut self, key: &MachineKey) {
        self.moment += 1;
        self.withdrawn.insert(key.clone(), self.moment);
    }

    /// A number that was never given out: uids, versions.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The VirtualMachines, to be changed.
    pub fn vms(&mut self) -> &mut BTreeMap<MachineKey, Vm> {
        Rc::make_mut(&mut self.objects.vms)
    }

    /// The instances, to be changed.
    pub fn instances(&mut self) -> &mut BTreeMap<MachineKey, Instance> {
        Rc::make_mut(&mut self.objects.instances)
    }

    /// A tenant, to be changed.
    pub fn tenant(&mut self, namespace: &str) -> &mut Tenant {
        let at = cluster_of(namespace);
        &mut Rc::make_mut(&mut self.objects.tenants)[at]
    }

    /// A tenant as it is.
    pub fn tenant_now(&self, namespace: &str) -> &Tenant {
        &self.objects.tenants[cluster_of(namespace)]
    }

    /// The infra nodes, to be changed.
    pub fn nodes(&mut self) -> &mut Vec<InfraNode> {
        Rc::make_mut(&mut self.objects.nodes)
    }

    /// The volumes, to be changed.
    pub fn volumes(&mut self) -> &mut BTreeMap<String, (u64, Volume)> {
        Rc::make_mut(&mut self.objects.volumes)
    }

    /// The maintenances, to be changed.
    pub fn maintenances(&mut self) -> &mut BTreeMap<String, Maintenance> {
        Rc::make_mut(&mut self.objects.maintenances)
    }

    /// The migrations, to be changed.
    pub fn migrations(&mut self) -> &mut Vec<Migration> {
        Rc::make_mut(&mut self.objects.migrations)
    }

    /// The pools, to be changed.
    pub fn pools(&mut self) -> &mut Vec<Pool> {
        Rc::make_mut(&mut self.objects.pools)
    }

    /// An infra node with room that takes machines, other than `not`.
    pub fn place(&self, not: Option<usize>, seed: usize) -> Option<usize> {
        let load = |at: usize| {
            self.objects
                .instances
                .values()
                .filter(|one| one.node == Some(at))
                .count()
        };
        (0..NODES.len())
            .map(|at| (at + seed) % NODES.len())
            .filter(|at| Some(*at) != not)
            .find(|at| !self.objects.nodes[*at].cordoned && !self.objects.nodes[*at].silent && load(*at) < SLOTS)
    }

    /// The machine of a number, if there is any.
    pub fn any_machine(&self, number: u8) -> Option<MachineKey> {
        let vms = &self.objects.vms;
        if vms.is_empty() {
            return None;
        }
        vms.keys().nth(usize::from(number) % vms.len()).cloned()
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// The number of a cluster.
pub fn cluster_of(namespace: &str) -> usize {
    CLUSTERS.iter().position(|one| *one == namespace).unwrap_or_default()
}

/// The number of an infra node.
pub fn node_number(name: &str) -> Option<usize> {
    NODES.iter().position(|(one, _)| *one == name)
}
