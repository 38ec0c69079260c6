//! The controllers that play hardware, KubeVirt, CDI and guests.
//!
//! Each is an ordinary controller over `kube::Client`: it watches, decides, writes, and knows nothing of the API server behind the client.
//! So each can be switched on alone to play just the missing part on a real control plane.
//!
//! ```text
//! VM ─virt─► VMI, launcher pod ─scheduler─► node ─kubelet─► Running ─virt_handler─► VMI Running ─guests─► tenant Node Ready
//! DataVolume ─cdi─► claim, volume ─► Succeeded                Service ─load_balancers─► address
//! ```
//!
//! Invariants: every controller is level-triggered and survives a lost watch; every object's work is done by one handler at a time;
//! durations pass on the simulation's clock, with jitter from the seed.

pub mod cdi;
pub mod drive;
pub mod gc;
pub mod guests;
pub mod kubelet;
pub mod load_balancers;
pub mod nodes;
pub mod scheduler;
pub mod snapshots;
pub mod tenants;
pub mod timers;
pub mod virt;
mod virt_api;
pub mod virt_handler;
pub mod volumes;
pub mod workloads;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use kube::Client;

use steading_kubesim::time::SimTime;

/// What every behaviour is given.
#[derive(Clone)]
pub struct Context {
    /// The API server it works on.
    pub client: Client,
    /// The simulation's clock.
    pub time: SimTime,
    /// Seed of all chance.
    pub seed: u64,
    /// How long things take.
    pub pace: Pace,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("seed", &self.seed)
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// The simulated time in whole seconds, as Kubernetes writes it.
    pub fn stamp(&self) -> String {
        self.time.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// A duration ± a fifth, by seed and subject: the same every time.
    pub fn vary(&self, duration: Duration, subject: &(impl Hash + ?Sized)) -> Duration {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        subject.hash(&mut hasher);
        let per_mille = u32::try_from(hasher.finish() % 401).unwrap_or(200);
        duration.saturating_mul(800 + per_mille) / 1000
    }
}

/// How long things take, in simulated time, before jitter of ± a fifth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// A pod on a node until it runs.
    pub start_pod: Duration,
    /// A launcher pod that runs until the guest runs.
    pub start_vmi: Duration,
    /// A guest that runs until it joins its tenant cluster.
    pub boot: Duration,
    /// A claim until it is bound.
    pub bind: Duration,
    /// An import or a copy.
    pub import: Duration,
    /// A snapshot until it can be used.
    pub snapshot: Duration,
    /// A Service until it has its address.
    pub address: Duration,
    /// A migration, from its target pod running to its end.
    pub migration: Duration,
    /// A hot-plugged volume, from its attachment pod running to its readiness in the guest.
    pub hotplug: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            start_pod: ms(50),
            start_vmi: ms(100),
            boot: ms(200),
            bind: ms(30),
            import: ms(200),
            snapshot: ms(100),
            address: ms(50),
            migration: ms(200),
            hotplug: ms(80),
        }
    }
}
