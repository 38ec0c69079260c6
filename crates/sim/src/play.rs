//! Who plays what: one list for the simulation and for real control planes.
//!
//! [`play`] starts behaviours over `kube::Client`s. The simulation plays all of them on its own API server; beside a real control plane, with
//! KubeVirt's own virt-api and virt-controller, only what is missing there is played ([`Part::MISSING`]). The clients then need a TLS provider
//! that was installed for the process, and `virt-handler` has to act as KubeVirt's service account of that name: virt-api refuses updates of
//! VMIs from everybody else.

use std::{collections::BTreeSet, sync::Arc};

use kube::Client;
use steading_kubesim::{ApiServer, time::SimTime};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use crate::behaviour::tenants::{ControlPlane, Source};
use crate::behaviour::{
    Context, Pace, cdi, gc,
    guests::{self, Guests},
    kubelet::{self, Lost},
    load_balancers,
    nodes::{self, Power, Shape},
    scheduler, snapshots,
    tenants::{self, Tenants},
    virt, virt_handler, volumes,
};

/// Pod addresses of the infra cluster are in 10.244/16.
const POD_NETWORK: u8 = 244;

/// What can be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The bare metal's Node objects. Only on a simulated API server.
    Nodes,
    /// Kubelets of the bare metal.
    Kubelets,
    /// kube-scheduler.
    Scheduler,
    /// The garbage collector and the namespace controller. Only on a simulated API server.
    GarbageCollector,
    /// The volume controller.
    Volumes,
    /// virt-controller, and virt-api's webhooks and subresources. Only on a simulated API server.
    Virt,
    /// virt-handler on every node, with the guests' launchers.
    VirtHandler,
    /// CDI, with a storage driver's sidecars.
    Cdi,
    /// The snapshot controller.
    Snapshots,
    /// The load balancer's controller.
    LoadBalancers,
    /// Whoever runs the tenants' control planes.
    Tenants,
    /// The guests' insides: they boot and join their tenant cluster.
    Guests,
}

impl Part {
    /// Everything.
    pub const ALL: [Self; 12] = [
        Self::Nodes,
        Self::Kubelets,
        Self::Scheduler,
        Self::GarbageCollector,
        Self::Volumes,
        Self::Virt,
        Self::VirtHandler,
        Self::Cdi,
        Self::Snapshots,
        Self::LoadBalancers,
        Self::Tenants,
        Self::Guests,
    ];
    /// What is missing beside a real control plane with KubeVirt's central parts.
    pub const MISSING: [Self; 6] = [
        Self::VirtHandler,
        Self::Cdi,
        Self::Snapshots,
        Self::LoadBalancers,
        Self::Tenants,
        Self::Guests,
    ];

    /// Under which name its client is asked for.
    pub const fn agent(self) -> &'static str {
        match self {
            Self::Nodes | Self::Kubelets => KUBELET,
            Self::Scheduler => "kube-scheduler",
            Self::GarbageCollector | Self::Volumes => "kube-controller-manager",
            Self::Virt => "virt-controller",
            Self::VirtHandler => "virt-handler",
            Self::Cdi => "cdi",
            Self::Snapshots => "snapshot-controller",
            Self::LoadBalancers => "load-balancer",
            Self::Tenants => "tenants",
            Self::Guests => "guests",
        }
    }
}

/// The kubelets' name; [`Part::VirtHandler`] asks for its client too, to read pods and Nodes and to end launchers.
const KUBELET: &str = "kubelet";

/// The simulated API server and its bare metal.
#[derive(Clone)]
pub struct Simulated {
    /// The API server.
    pub server: ApiServer,
    /// The bare metal.
    pub shape: Shape,
    /// Its power.
    pub power: Power,
}

/// What is played, and where.
pub struct PlayConfig {
    /// Who plays.
    pub parts: BTreeSet<Part>,
    /// A client of the infra cluster by the name of its user: [`Part::agent`], `kubelet`.
    pub clients: Arc<dyn Fn(&str) -> Client + Send + Sync>,
    /// The clock; real time for a real control plane.
    pub time: SimTime,
    /// Seed of all chance.
    pub seed: u64,
    /// How long things take.
    pub pace: Pace,
    /// Where tenants' control planes come from.
    pub tenants: Source,
    /// The simulated API server, for the parts that play only there.
    pub simulated: Option<Simulated>,
}

impl PlayConfig {
    /// What is missing beside a real control plane, in real time.
    pub fn beside(clients: Arc<dyn Fn(&str) -> Client + Send + Sync>, control_planes: Vec<ControlPlane>) -> Self {
        Self {
            parts: Part::MISSING.into(),
            clients,
            time: SimTime::automatic(1.0),
            seed: 1,
            pace: Pace::default(),
            tenants: Source::Given(control_planes),
            simulated: None,
        }
    }
}

/// What is being played. Dropping it ends everything.
pub struct Play {
    guests: Guests,
    tenants: Tenants,
    tasks: JoinSet<()>,
}

impl Play {
    /// The guests.
    pub fn guests(&self) -> &Guests {
        &self.guests
    }

    /// The tenants' control planes.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// Returns when the first has ended: after the cancellation, or because it died. That ends everybody.
    pub async fn first_ended(mut self) {
        self.tasks.join_next().await;
    }

    /// Ends everybody at once.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Lets everybody of the configuration play until `cancel`. Parts that need a simulated API server are left out without one.
pub fn play(config: &PlayConfig, cancel: &CancellationToken) -> Play {
    let mut play = Play {
        guests: Guests::default(),
        tenants: Tenants::default(),
        tasks: JoinSet::new(),
    };
    for part in &config.parts {
        start(*part, config, cancel, &mut play);
    }
    play
}

fn start(part: Part, config: &PlayConfig, cancel: &CancellationToken, play: &mut Play) {
    let context = Context {
        client: (config.clients)(part.agent()),
        time: config.time.clone(),
        seed: config.seed,
        pace: config.pace.clone(),
    };
    let cancel = cancel.clone();
    let tasks = &mut play.tasks;
    match (part, &config.simulated) {
        (Part::Nodes, Some(simulated)) => {
            tasks.spawn(nodes::run(context, simulated.shape, simulated.power.clone(), cancel));
        }
        (Part::GarbageCollector, Some(simulated)) => {
            tasks.spawn(gc::run(context, simulated.server.clone(), cancel));
        }
        (Part::Virt, Some(simulated)) => {
            let api = Context {
                client: (config.clients)("virt-api"),
                ..context.clone()
            };
            virt::install(&simulated.server, &api);
            tasks.spawn(virt::run(context, cancel));
        }
        (Part::Nodes | Part::GarbageCollector | Part::Virt, None) => {
            tracing::warn!(?part, "not played: there is no simulated API server");
        }
        (Part::Kubelets, _) => {
            tasks.spawn(kubelet::run(context, POD_NETWORK, Lost::Collected, cancel));
        }
        (Part::Scheduler, _) => {
            tasks.spawn(scheduler::run(context, cancel));
        }
        (Part::Volumes, _) => {
            tasks.spawn(volumes::run(context, cancel));
        }
        (Part::VirtHandler, _) => {
            tasks.spawn(virt_handler::run(context, (config.clients)(KUBELET), cancel));
        }
        (Part::Cdi, _) => {
            tasks.spawn(cdi::run(context, cancel));
        }
        (Part::Snapshots, _) => {
            tasks.spawn(snapshots::run(context, cancel));
        }
        (Part::LoadBalancers, _) => {
            tasks.spawn(load_balancers::run(context, cancel));
        }
        (Part::Tenants, _) => {
            tasks.spawn(tenants::run(
                context,
                play.tenants.clone(),
                config.tenants.clone(),
                cancel,
            ));
        }
        (Part::Guests, _) => {
            tasks.spawn(guests::run(context, play.guests.clone(), play.tenants.clone(), cancel));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_needs_no_simulated_server() {
        let only_there = [Part::Nodes, Part::GarbageCollector, Part::Virt];
        assert!(
            Part::MISSING
                .iter()
                .all(|part| !only_there.contains(part) && Part::ALL.contains(part))
        );
        assert_eq!(BTreeSet::from(Part::ALL).len(), Part::ALL.len());
    }
}
