//! The server's state: its objects, clock, faults, counters, and what was registered with it.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    access::Access,
    continuations::Continuations,
    registry::{AdmissionHook, BareGroup, Registry, SubresourceHandler},
    request::RequestInfo,
    resource::ResourceDef,
    store::Store,
};
use crate::{counters::Counters, faults::Faults, time::SimTime};

/// What happens to a pod on DELETE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodDeletion {
    /// It is gone at once, as if a kubelet had been quick.
    Immediate,
    /// A pod on a node only gets its deletion timestamp; whoever plays the kubelet deletes it with grace period 0.
    Graceful,
}

/// How a server is made.
#[derive(Clone, Debug)]
pub struct ApiServerConfig {
    /// Its clock: creation times, delays.
    pub time: SimTime,
    /// For uids, generated names and faults.
    pub seed: u64,
    /// How many events a resource keeps for its watches. Someone who falls further behind gets 410 and lists anew.
    pub history: usize,
    /// Largest request body in bytes; Kubernetes' own limit is 3 MiB.
    pub max_body: usize,
    /// What deleting a pod means.
    pub pod_deletion: PodDeletion,
    /// The version that `/version` tells.
    pub git_version: String,
    /// Below which path it is served over HTTP, as `/tenants/acme--web`; empty at the root.
    pub base_path: String,
}

impl Default for ApiServerConfig {
    fn default() -> Self {
        Self {
            time: SimTime::automatic(1.0),
            seed: 0,
            history: 8192,
            max_body: 3 * 1024 * 1024,
            pod_deletion: PodDeletion::Immediate,
            git_version: "v1.36.3".to_owned(),
            base_path: String::new(),
        }
    }
}

/// The server; clones are the same one.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

struct Inner {
    config: ApiServerConfig,
    store: Store,
    faults: Faults,
    counters: Counters,
    access: Access,
    admission: Registry,
    continuations: Continuations,
    rng: Mutex<StdRng>,
    addresses: AtomicU32,
    ports: AtomicU32,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

impl ApiServer {
    /// A server around a store.
    pub(crate) fn around(config: ApiServerConfig, store: Store) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                faults: Faults::new(config.seed, config.time.clone()),
                counters: Counters::default(),
                access: Access::default(),
                admission: Registry::default(),
                continuations: Continuations::default(),
                rng: Mutex::new(StdRng::seed_from_u64(config.seed ^ 0x5eed)),
                addresses: AtomicU32::new(10),
                ports: AtomicU32::new(0),
                config,
            }),
        }
    }

    /// How it was made.
    pub fn config(&self) -> &ApiServerConfig {
        &self.inner.config
    }

    /// Its clock.
    pub fn time(&self) -> &SimTime {
        &self.inner.config.time
    }

    /// Its faults.
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// Its request counters.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// Who may do what, for the reviews.
    pub fn access(&self) -> &Access {
        &self.inner.access
    }

    /// Its objects.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Serves a resource without a CustomResourceDefinition object.
    pub fn register(&self, def: ResourceDef) {
        self.inner.store.register(def);
    }

    /// Serves a resource no longer, as if it had never been installed: its objects are lost, its watches end, and discovery does not show it.
    /// Returns what [`register`](Self::register) needs to install it again.
    pub fn uninstall(&self, group: &str, plural: &str) -> Option<ResourceDef> {
        let def = self.inner.store.collection(group, plural)?.def();
        self.inner.store.unregister(group, plural);
        Some(ResourceDef::clone(&def))
    }

    /// Asks `hook` before every write.
    pub fn add_hook(&self, hook: Arc<dyn AdmissionHook>) {
        self.inner.admission.add_hook(hook);
    }

    /// Lets `handler` answer `<group>/<resource>/<subresource>`, such as `("example.io", "machines", "evacuate/cancel")`.
    pub fn add_subresource(
        &self,
        group: &str,
        resource: &str,
        subresource: &str,
        handler: Arc<dyn SubresourceHandler>,
    ) {
        self.inner.admission.add_handler(group, resource, subresource, handler);
    }

    /// Tells of a group that has only subresources; who answers them is said by [`add_subresource`](Self::add_subresource).
    pub fn add_bare_group(&self, group: BareGroup) {
        self.inner.admission.add_bare(group);
    }

    /// Forgets the history of every resource: watches that are behind, and watches from old revisions, end with 410.
    pub fn compact(&self) {
        for collection in self.inner.store.collections() {
            collection.compact();
        }
    }

    pub(crate) fn admission(&self) -> &Registry {
        &self.inner.admission
    }

    pub(crate) fn has_handler(&self, info: &RequestInfo) -> bool {
        let sub = info.subresource.as_deref().unwrap_or_default();
        self.inner.admission.handler(&info.group, &info.resource, sub).is_some()
    }

    pub(crate) fn continuations(&self) -> &Continuations {
        &self.inner.continuations
    }

    pub(crate) fn new_uid(&self) -> String {
        let mut bytes = [0_u8; 16];
        self.inner.rng.lock().fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// Five characters for `generateName`, from the alphabet that cannot spell words.
    pub(crate) fn name_suffix(&self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut rng = self.inner.rng.lock();
        (0..5)
            .filter_map(|_| ALPHABET.get(rng.next_u32() as usize % ALPHABET.len()))
            .map(|byte| char::from(*byte))
            .collect()
    }

    /// The simulated time in whole seconds, as Kubernetes writes it.
    pub(crate) fn timestamp(&self) -> String {
        self.time().now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// As [`ApiServer::timestamp`], so many seconds from now.
    pub(crate) fn deletion_timestamp(&self, seconds: i64) -> String {
        let now = self.time().now();
        let then = now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now);
        then.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// A cluster address for a Service, from 10.96.0.0/12.
    pub(crate) fn next_cluster_ip(&self) -> String {
        let next = self.inner.addresses.fetch_add(1, Ordering::Relaxed) % (1 << 20);
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + next).to_string()
    }

    /// A node port, from Kubernetes' default range.
    pub(crate) fn next_node_port(&self) -> u32 {
        30_000 + self.inner.ports.fetch_add(1, Ordering::Relaxed) % 2_768
    }
}
