//! Control planes that were handed in: who has which, and what is played on them.
//!
//! Who has which stands in the infra cluster, as a label of the kubeconfig Secret, so that it survives a restart of the player. A control
//! plane is emptied when its Cluster is gone, and before its first use by a player that did not empty it itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Config, ResourceExt,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use parking_lot::Mutex as SyncMutex;
use tokio::{sync::Mutex, task::JoinSet};

use super::{
    registry::{ControlPlane, Host, Kind, POD_NETWORK, Reached, Tenant},
    wipe,
};
use crate::behaviour::{
    Context,
    kubelet::{self, Lost},
    scheduler,
};

/// Label of a kubeconfig Secret: name of the control plane that was given.
pub(super) const CONTROL_PLANE: &str = "sim.steading.dev/control-plane";

/// What asking for a control plane has come to.
pub(super) enum Claim {
    /// This one.
    Plane(ControlPlane),
    /// The Cluster has one of somebody else's.
    NotOurs,
    /// None is free now.
    NoneFree,
}

/// The control planes that were handed in. Clones share it.
#[derive(Clone)]
pub(super) struct Pool {
    client: Client,
    planes: Arc<Vec<ControlPlane>>,
    /// Held while one is chosen, so that two Clusters do not choose the same.
    state: Arc<Mutex<State>>,
    warned: Arc<SyncMutex<BTreeSet<String>>>,
}

#[derive(Default)]
struct State {
    /// Namespace by name of the control plane.
    taken: BTreeMap<String, String>,
    /// Control planes that are known to be empty.
    clean: BTreeSet<String>,
}

impl Pool {
    pub(super) fn new(context: &Context, planes: Vec<ControlPlane>) -> Self {
        Self {
            client: context.client.clone(),
            planes: Arc::new(planes),
            state: Arc::default(),
            warned: Arc::default(),
        }
    }

    /// The control plane of a Cluster; a free one if it has none and is not `going`.
    pub(super) async fn claim(&self, namespace: &str, secret: &str, going: bool) -> kube::Result<Claim> {
        let mut state = self.state.lock().await;
        if let Some(plane) = self
            .planes
            .iter()
            .find(|plane| state.taken.get(&plane.name).is_some_and(|by| by == namespace))
        {
            return Ok(Claim::Plane(plane.clone()));
        }
        let secrets: Api<Secret> = Api::all(self.client.clone());
        for found in secrets.list(&ListParams::default().labels(CONTROL_PLANE)).await? {
            if let Some(name) = found.labels().get(CONTROL_PLANE) {
                state.taken.insert(name.clone(), found.namespace().unwrap_or_default());
            }
        }
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        if let Some(found) = secrets.get_opt(secret).await? {
            let name = found.labels().get(CONTROL_PLANE);
            let plane = self.planes.iter().find(|plane| Some(&plane.name) == name);
            return Ok(plane.map_or(Claim::NotOurs, |plane| Claim::Plane(plane.clone())));
        }
        if going {
            return Ok(Claim::NotOurs);
        }
        let Some(plane) = self.planes.iter().find(|plane| !state.taken.contains_key(&plane.name)) else {
            if self.warned.lock().insert(namespace.to_owned()) {
                tracing::warn!(
                    cluster = namespace,
                    given = self.planes.len(),
                    "no tenant control plane is free, the cluster waits"
                );
            }
            return Ok(Claim::NoneFree);
        };
        if !state.clean.contains(&plane.name) {
            wipe::wipe(&dial(plane).await?).await?;
        }
        tracing::info!(
            cluster = namespace,
            control_plane = plane.name,
            "tenant control plane given"
        );
        state.clean.remove(&plane.name);
        state.taken.insert(plane.name.clone(), namespace.to_owned());
        Ok(Claim::Plane(plane.clone()))
    }

    /// Empties the control plane of a Cluster that is gone; then it is free.
    pub(super) async fn release(&self, namespace: &str) -> kube::Result<()> {
        self.warned.lock().remove(namespace);
        let plane = {
            let state = self.state.lock().await;
            let name = state
                .taken
                .iter()
                .find(|(_, by)| *by == namespace)
                .map(|(name, _)| name.clone());
            self.planes
                .iter()
                .find(|plane| Some(&plane.name) == name.as_ref())
                .cloned()
        };
        let Some(plane) = plane else { return Ok(()) };
        wipe::wipe(&dial(&plane).await?).await?;
        tracing::info!(
            cluster = namespace,
            control_plane = plane.name,
            "tenant control plane emptied"
        );
        let mut state = self.state.lock().await;
        state.taken.remove(&plane.name);
        state.clean.insert(plane.name);
        Ok(())
    }
}

/// Lets a scheduler and kubelets play on a Cluster's control plane, if they do not yet.
pub(super) async fn ensure(host: &Host, namespace: &str, plane: &ControlPlane) -> kube::Result<()> {
    if host.tenants.has(namespace) {
        return Ok(());
    }
    let client = dial(plane).await?;
    let play = || Context {
        client: client.clone(),
        ..host.context.clone()
    };
    let cancel = || host.cancel.clone();
    let mut players = JoinSet::new();
    players.spawn(scheduler::run(play(), cancel()));
    players.spawn(kubelet::run(play(), POD_NETWORK, Lost::Left, cancel()));
    let tenant = Tenant {
        server: server_of(&parse(plane)?).unwrap_or_default(),
        reached: Reached {
            client,
            kind: Kind::Real,
        },
        memory: None,
        _players: players,
    };
    host.tenants.insert(namespace, tenant);
    Ok(())
}

/// The address in a kubeconfig.
pub(super) fn server_of(kubeconfig: &Kubeconfig) -> Option<String> {
    kubeconfig.clusters.first()?.cluster.as_ref()?.server.clone()
}

fn parse(plane: &ControlPlane) -> kube::Result<Kubeconfig> {
    Ok(Kubeconfig::from_yaml(&plane.kubeconfig)?)
}

async fn dial(plane: &ControlPlane) -> kube::Result<Client> {
    let config = Config::from_custom_kubeconfig(parse(plane)?, &KubeConfigOptions::default()).await?;
    Client::try_from(config)
}
